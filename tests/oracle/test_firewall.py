"""Egress firewalls against ovn-trace: large lists, connection states, and what a firewall must never touch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.intent import answer
from ovnk_core.trace.question import ConnectionState, Question
from ovnk_core.trace.scene import Scene
from tests.kit.oracle import Laboratory, where_it_should_end
from tests.kit.questions import Questioner, cluster_of, scaled
from tests.kit.random_policy import Manifest
from tests.kit.shapes import firewall, shaped_firewall

pytestmark = pytest.mark.ovn
FLOWS = 180
POD, SIBLING, STRANGER = NamespacedName("a", "x"), NamespacedName("a", "y"), NamespacedName("b", "z")


def node(name: str, last: int, *families: int) -> Manifest:
    texts = {4: f"192.0.2.{last}", 6: f"2001:db8:0:1::{last}"}
    status = {"addresses": [{"type": "InternalIP", "address": texts[family]} for family in families]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def pod(key: NamespacedName, where: str) -> Manifest:
    metadata = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": where, "containers": []}}


def network(*families: int) -> Manifest:
    entries = {4: {"cidr": "10.128.0.0/14", "hostPrefix": 23}, 6: {"cidr": "fd01::/48", "hostPrefix": 64}}
    services = {4: "172.30.0.0/16", 6: "fd02::/112"}
    spec = {
        "clusterNetwork": [entries[family] for family in families],
        "serviceNetwork": [services[family] for family in families],
    }
    return {"apiVersion": "config.openshift.io/v1", "kind": "Network", "metadata": {"name": "cluster"}, "spec": spec}


def small_cluster(*extra: Manifest, families: Sequence[int] = (4,)) -> list[Manifest]:
    nodes = [node("n1", 1, *families), node("n2", 2, *families)]
    return [network(*families), *nodes, pod(POD, "n1"), pod(SIBLING, "n2"), pod(STRANGER, "n1"), *extra]


class Asker:
    """One cluster in the laboratory, and our three engines beside ovn-trace."""

    def __init__(self, laboratory: Laboratory, cluster: Cluster, states: Sequence[str] = ("new",)) -> None:
        laboratory.show(cluster, states=states)
        self.laboratory, self.scene = laboratory, Scene(cluster)
        self.flows, self.fast = FlowTracer(self.scene, FlowTable(cluster.engine)), FastTracer(self.scene)

    def ask(self, question: Question) -> str:
        """The verdict all four agree on."""
        trace = self.laboratory.ask(self.scene, question)
        theirs = "allow" if where_it_should_end(self.scene, question) in trace.outputs else "drop"
        ours = [answer(self.scene, question), self.fast.answer(question), self.flows.answer(question)]
        assert {each.verdict for each in ours} == {theirs}, (question, [each.reason for each in ours], trace.text)
        assert theirs == "allow" or not trace.left_by, (question, trace.text)
        return theirs

    def verdict(
        self, target: str, protocol: Protocol = "tcp", port: int | None = 443, state: ConnectionState = "new"
    ) -> str:
        address = parse_address(target)
        return self.ask(Question(source=POD, target=address, protocol=protocol, port=port, state=state))


@pytest.mark.parametrize(
    ("shape", "count", "family"),
    [("realistic", 8_000, 4), ("nested", 2_000, 4), ("half", 1_000, 4), ("realistic6", 2_000, 6)],
)
def test_large_lists(laboratory: Laboratory, shape: str, count: int, family: int) -> None:
    made = small_cluster(shaped_firewall(shape, count, seed=3), families=(family,))
    cluster = cluster_of(made)
    asker = Asker(laboratory, cluster)
    questioner = Questioner(cluster, random.Random(4))
    questioner.policies.clear()
    verdicts = [
        asker.ask(question)
        for question in questioner.leaving(scaled(FLOWS))
        if questioner.can_ask(question) and asker.scene.ends(question).target.kind != "nobody"
    ]
    assert len(verdicts) > 100
    assert set(verdicts) == {"allow", "drop"}


def test_states_of_connections(laboratory: Laboratory) -> None:
    """Replies to inbound connections pass; an outgoing one that was allowed once is cut by the edit that denies it."""
    entries = [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]
    asker = Asker(laboratory, cluster_of(small_cluster(firewall(entries))), ("new", "established", "reply"))
    assert asker.verdict("203.0.113.9") == "drop"
    assert asker.verdict("203.0.113.9", state="established") == "drop"
    assert asker.verdict("203.0.113.9", state="reply") == "allow"


def test_own_node_dns(laboratory: Laboratory) -> None:
    entries = [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]
    asker = Asker(laboratory, cluster_of(small_cluster(firewall(entries))))
    for protocol in ("tcp", "udp"):
        assert asker.verdict("192.0.2.1", protocol, 53) == "allow"
        assert asker.verdict("192.0.2.2", protocol, 53) == "drop"
    assert asker.verdict("192.0.2.1", "sctp", 53) == "drop"
    assert asker.verdict("192.0.2.1", "tcp", 80) == "drop"
    assert asker.verdict("192.0.2.1", "icmp", None) == "drop"


@pytest.mark.parametrize("word", ["Allow", "Deny"])
@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)], ids=["v4", "v6", "dual"])
def test_nothing_of_the_cluster_is_touched(laboratory: Laboratory, word: str, families: tuple[int, ...]) -> None:
    """Neither the widest Deny nor the widest Allow matches pods, multicast or broadcast: what happens to them is what
    happens without a firewall, flow by flow of ovn-trace."""
    entries = [{"type": word, "to": {"cidrSelector": everything}} for everything in ("0.0.0.0/0", "::/0")]
    plain = small_cluster(families=families)
    groups = {4: ("224.0.0.251", "239.1.2.3", "255.255.255.255"), 6: ("ff02::fb", "ff05::1:3")}
    outputs: list[list[object]] = []
    for manifests in (plain, [*plain, firewall(entries)]):
        cluster = cluster_of(manifests)
        asker = Asker(laboratory, cluster)
        targets = [parse_address(text) for family in families for text in groups[family]]
        ends = [*targets, *(address for key in (SIBLING, STRANGER) for address in asker.scene.endpoints[key].addresses)]
        questions = [
            Question(source=POD, target=end, protocol=protocol, port=port)
            for end in ends
            for protocol, port in (("udp", 5353), ("tcp", 443))
        ]
        outputs.append([sorted(laboratory.ask(asker.scene, question).outputs) for question in questions])
    assert outputs[0] == outputs[1]
    assert any(outputs[0])


def test_deny_everything_keeps_neighbour_discovery(laboratory: Laboratory) -> None:
    """A pod's advertisement to its router leaves the switch as if there were no firewall."""
    entries = [{"type": "Deny", "to": {"cidrSelector": "::/0"}}]
    last = []
    for extra in ((), (firewall(entries),)):
        cluster = cluster_of(small_cluster(*extra, families=(6,)))
        asker = Asker(laboratory, cluster)
        place, endpoint = asker.scene.places["n1"], asker.scene.endpoints[POD]
        packet = (
            f'inport == "a_x" && eth.src == {endpoint.mac} && eth.dst == {place.router_mac} && ip.ttl == 255 && '
            f"ip6.src == {endpoint.addresses[0]} && ip6.dst == fe80::1 && icmp6.type == 136 && icmp6.code == 0"
            f" && nd.target == {endpoint.addresses[0]} && nd.tll == {endpoint.mac}"
        )
        last.append(laboratory.traces["new"].trace("n1", packet).last)
    assert [stage.name for stage in last] == ["lr_in_ip_input", "lr_in_ip_input"], last


def test_a_service_address_nobody_has_is_filtered(laboratory: Laboratory) -> None:
    entries = [{"type": "Deny", "to": {"cidrSelector": "172.30.0.0/16"}}, {"type": "Deny", "to": {"nodeSelector": {}}}]
    asker = Asker(laboratory, cluster_of(small_cluster(firewall(entries))))
    assert asker.verdict("172.30.0.10") == "drop"
    assert asker.verdict("192.0.2.2") == "drop"
    assert asker.verdict("203.0.113.9") == "allow"
