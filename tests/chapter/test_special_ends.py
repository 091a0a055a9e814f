"""Ends that are neither a pod nor an ordinary address: hosts, shared addresses, multicast, and what nobody has.

Every answer is asked of both engines, which must agree; the oracle asks the same addresses of OVN's own trace.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnk_core.analysis.lint import lint
from ovnk_core.errors import LimitError
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.parse import KNOWN_UNBUILT
from ovnk_core.nb.desired import ACLS, ROUTER_POLICIES
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.question import Answer, QuestionError, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from ovnk_core.trace.way import UNBUILT_EFFECT
from tests.kit.questions import cluster_of

OVN = "k8s.ovn.org/"
SHARED = "203.0.113.9"
NO_EGRESS = {"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}


def network(*entries: tuple[str, int], services: tuple[str, ...] = ("172.30.0.0/16",)) -> dict[str, Any]:
    found = [{"cidr": text, "hostPrefix": bits} for text, bits in entries]
    spec = {"clusterNetwork": found, "serviceNetwork": list(services)}
    return {"apiVersion": "config.openshift.io/v1", "kind": "Network", "metadata": {"name": "cluster"}, "spec": spec}


DUAL = network(("10.128.0.0/14", 23), ("fd01::/48", 64), services=("172.30.0.0/16", "fd02::/112"))


def node(name: str, *addresses: str, external: str = "", **notes: Any) -> dict[str, Any]:
    status = [{"type": "InternalIP", "address": address} for address in addresses]
    status += [{"type": "ExternalIP", "address": external}] if external else []
    annotations = {f"{OVN}{key.replace('_', '-')}": json.dumps(value) for key, value in notes.items()}
    meta = {"name": name, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": status}}


def pod(name: str, where: str, *, host: bool = False) -> dict[str, Any]:
    meta = {"name": name, "namespace": "a"}
    spec = {"nodeName": where, "hostNetwork": host, "containers": []}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "np", "namespace": "a"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def tracer(*objects: dict[str, Any], unbuilt: tuple[ObjectRef, ...] = ()) -> Tracer:
    cluster = cluster_of(objects)
    return Tracer(Scene(cluster, unbuilt), lambda: FlowTable(cluster.engine))


def ask(asked: Tracer, source: str, target: str, protocol: str = "tcp") -> Answer:
    return asked.ask(parse_question(source, target, protocol, None if protocol == "icmp" else 80))


TWO = (DUAL, node("n1", "192.0.2.11", "2001:db8::11"), node("n2", "192.0.2.12", "2001:db8::12"))
PODS = (pod("p1", "n1"), pod("p2", "n2"), pod("h2", "n2", host=True))
# From, to, verdict, path, and a word of the reason.
TABLE = (
    ("a/p1", "224.0.0.251", "drop", "multicast", "multicast-enabled"),
    ("a/p1", "ff02::fb", "allow", "multicast", "stays on the switch of n1"),
    ("a/p1", "255.255.255.255", "drop", "multicast", "broadcast is not built"),
    ("a/p1", "127.0.0.1", "drop", "external", "loopback"),
    ("a/p1", "0.0.0.0", "drop", "external", "unspecified"),
    ("a/p1", "fe80::1", "drop", "external", "link-local"),
    ("a/p1", "169.254.169.254", "allow", "external", "gateway of n1"),
    ("a/p1", "169.254.169.2", "allow", "external", "gateway of n1"),
    ("a/p1", "fd69::2", "allow", "external", "gateway of n1"),
    ("a/p1", "240.0.0.1", "allow", "external", "gateway of n1"),
    ("a/p1", "100.64.77.7", "drop", "external", "nothing in the cluster"),
    ("127.0.0.1", "a/p1", "drop", "external", "loopback"),
    ("0.0.0.0", "a/p1", "drop", "external", "unspecified"),
    ("224.0.0.1", "a/p1", "drop", "external", "multicast"),
    ("255.255.255.255", "a/p1", "drop", "external", "broadcast"),
    ("192.0.2.255", "a/p1", "drop", "external", "broadcast address of 192.0.2.0/24"),
    ("10.128.0.77", "a/p1", "allow", "external", "come from 192.0.2.11"),
    ("192.0.2.11", "10.128.0.77", "drop", "external", "nothing in the cluster"),
    ("a/h2", "100.64.77.7", "drop", "external", "nothing in the cluster"),
    ("a/h2", "224.0.0.1", "allow", "host", "traffic of a host"),
    ("203.0.113.1", "192.0.2.11", "allow", "host", "traffic to hosts does not pass OVN"),
    ("203.0.113.1", "a/h2", "allow", "host", "traffic to hosts does not pass OVN"),
)


@pytest.mark.parametrize(("source", "target", "verdict", "path", "word"), TABLE)
def test_special_ends(source: str, target: str, verdict: str, path: str, word: str) -> None:
    found = ask(tracer(*TWO, *PODS), source, target)
    assert (found.verdict, found.path) == (verdict, path), found.reason
    assert word in found.reason


def test_egress_policies_come_before_the_router() -> None:
    found = ask(tracer(*TWO, *PODS, policy(NO_EGRESS)), "a/p1", "255.255.255.255")
    assert "isolated for egress" in found.reason


def test_translated_sources_meet_policies_as_the_gateway() -> None:
    """A gateway translates a cluster address that comes from outside, so no ipBlock of pods lets it in."""
    block = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.128.0.0/14"}}]}]}
    assert ask(tracer(*TWO, *PODS, policy(block)), "10.128.0.77", "a/p1").verdict == "drop"
    gateway = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.11/32"}}]}]}
    assert ask(tracer(*TWO, *PODS, policy(gateway)), "10.128.0.77", "a/p1").verdict == "allow"


def test_from_outside_to_outside_says_what_is_missing() -> None:
    with pytest.raises(QuestionError, match="the cluster is not on the way"):
        ask(tracer(*TWO, *PODS), "203.0.113.1", "8.8.8.8")


def test_a_reply_needs_a_way_too() -> None:
    gateless = node("n1", "192.0.2.11", l3_gateway_config={"default": {"mode": ""}})
    question = parse_question("a/p1", "8.8.8.8", "tcp", 80)
    asked = tracer(gateless, pod("p1", "n1"))
    assert asked.ask(type(question)(**{**_fields(question), "state": "reply"})).verdict == "drop"


def _fields(question: Any) -> dict[str, Any]:
    return {name: getattr(question, name) for name in question.__struct_fields__}


# ---------------------------------------------------------------------------------------------- shared addresses


def test_a_pod_reaches_its_own_node_at_a_shared_address() -> None:
    nodes = [node(f"n{at}", f"192.0.2.1{at}", external=SHARED) for at in (1, 2)] + [node("n3", "192.0.2.13")]
    asked = tracer(*nodes, *(pod(f"p{at}", f"n{at}") for at in (1, 2, 3)), policy(NO_EGRESS))
    for name in ("a/p1", "a/p2"):
        found = ask(asked, name, SHARED)
        assert (found.verdict, found.path, found.legs[0].transport) == ("allow", "host", "local")
    assert (ask(asked, "a/p3", SHARED).verdict, ask(asked, "a/p3", SHARED).path) == ("drop", "external")
    assert ask(asked, SHARED, "a/p1").verdict == "drop"


def test_nodes_with_one_uplink_address() -> None:
    asked = tracer(node("n1", "192.0.2.11"), node("n2", "192.0.2.11"), pod("p1", "n1"), pod("p2", "n2"))
    for name in ("a/p1", "a/p2"):
        assert ask(asked, name, "192.0.2.11").path == "host"
        assert "their own address" in ask(asked, "192.0.2.11", name).reason


# ---------------------------------------------------------------------------------------------- not the node's own

STOLEN = ("10.128.2.3", "10.128.2.2", "172.30.0.9", "100.64.0.9")


def test_a_node_cannot_claim_a_pods_address() -> None:
    """An address of host-cidrs exempts it from policies: another node's pod must not get in that way."""
    claims = node("n1", "192.0.2.11", host_cidrs=["192.0.2.11/24", "198.51.100.11/24", *(f"{a}/23" for a in STOLEN)])
    objects = (claims, node("n2", "192.0.2.12"), pod("p1", "n1"), pod("p2", "n2"), policy(NO_EGRESS))
    cluster = cluster_of(objects)
    asked = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    assert ask(asked, "a/p1", "a/p2").verdict == ask(asked, "a/p1", "10.128.2.3").verdict == "drop"
    assert ask(asked, "a/p1", "198.51.100.11").verdict == "allow"
    acls = [row.match for key, row in cluster.engine.rows(ACLS).items() if key.owner == ObjectRef("Node", "", "n1")]
    policies = [row.match for row in cluster.engine.rows(ROUTER_POLICIES).values()]
    remarks = [text for text in lint(cluster) if "not taken for the node's own" in text]
    assert acls
    assert len(remarks) == len(STOLEN)
    for address in STOLEN:
        assert not any(address in match for match in (*acls, *policies))
        assert any(text.startswith(f"node n1: address {address} ") for text in remarks), address


def test_an_uplink_inside_the_cluster_network_is_no_gateway() -> None:
    asked = tracer(node("n1", "10.128.0.5"), node("n2", "192.0.2.12"), pod("p1", "n1"), pod("p2", "n2"))
    assert "no gateway to enter by" in ask(asked, "8.8.8.8", "a/p1").reason
    assert ask(asked, "a/p1", "a/p2").verdict == ask(asked, "a/p2", "8.8.8.8").verdict == "allow"


# ---------------------------------------------------------------------------------------------- unequal prefixes


def test_host_prefixes_of_one_family_are_equal() -> None:
    loaded = parse_objects([network(("10.128.0.0/16", 24), ("10.200.0.0/16", 25))])
    error = loaded.refused[0].errors[0]
    assert isinstance(error, LimitError)
    assert error.path == "spec.clusterNetwork[1].hostPrefix"
    for word in ("10.128.0.0/16", "10.200.0.0/16", "hostPrefix must be equal within a family"):
        assert word in error.reason
    assert not parse_objects([network(("10.128.0.0/16", 24), ("10.200.0.0/16", 24))]).refused
    assert not parse_objects([DUAL]).refused


@pytest.mark.parametrize("subnet", ["10.128.4.0/24", "10.128.4.0/22"])
def test_annotated_node_subnets_have_the_host_prefix(subnet: str) -> None:
    cluster = cluster_of([node("n1", "192.0.2.11", node_subnets={"default": [subnet]}), pod("p1", "n1")])
    assert [error.name for error in cluster.errors if error.kind == "Node"] == ["n1"]
    assert "must be a /23" in cluster.errors[0].reason
    assert not Scene(cluster).endpoints


# ---------------------------------------------------------------------------------------------- not built yet


def test_every_unbuilt_kind_is_classified() -> None:
    assert {kind for _, kind in KNOWN_UNBUILT} == UNBUILT_EFFECT.keys()


@pytest.mark.parametrize("kind", sorted(UNBUILT_EFFECT))
def test_what_an_unbuilt_object_leaves_open(kind: str) -> None:
    asked = tracer(*TWO, *PODS, unbuilt=(ObjectRef(kind, "a", "x"),))
    touched = {
        word
        for word, target in (("inside", "a/p2"), ("leaving", "8.8.8.8"), ("service", "172.30.0.10"))
        if ask(asked, "a/p1", target).incomplete
    }
    wanted = {
        "everywhere": {"inside", "leaving", "service"},
        "leaving": {"leaving", "service"},
        "never": set(),
    }
    assert touched == wanted[UNBUILT_EFFECT[kind]]
