"""15.9 and 15.10, egress IPs: whose packets leave by which node, as whom, and which do not. Where addresses are put is
asked in the tests of their allocation.
"""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.analysis.lint import lint
from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.nb.desired import ADDRESS_SETS, MEMBER, NATS, ROUTER_POLICIES
from ovnk_core.nb.row import ColumnId
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.place import Settings
from ovnk_core.trace.egress import STAGE
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine, Tracer
from tests.kit import manifest as m
from tests.kit.questions import cluster_of, load

OUTSIDE = "203.0.113.9"
ASSIGNABLE = {"k8s.ovn.org/egress-assignable": ""}


def node(name: str, *, assignable: bool = True) -> m.Raw:
    """A node of 15.9.1.4, on the host network 192.168.126.0/18."""
    address = f"192.168.126.20{name[-1]}"
    labels: dict[str, Any] = {"metadata": {"labels": ASSIGNABLE if assignable else {}}}
    notes: dict[str, Any] = {"node-primary-ifaddr": {"ipv4": f"{address}/18"}}
    made = m.node(name, notes, address)
    return {**made, "metadata": {**made["metadata"], **labels["metadata"]}}


def pod(name: str, where: str, namespace: str, **labels: str) -> m.Raw:
    return m.pod(name, namespace, metadata={"labels": labels}, spec={"nodeName": where, "containers": []})


def egress_ip(name: str, addresses: list[str], created: str = "", **spec: Any) -> m.Raw:
    meta = {"name": name} | ({"creationTimestamp": created} if created else {})
    spec = {"egressIPs": addresses, "namespaceSelector": {}, **spec}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": meta, "spec": spec}


def namespace(name: str, **labels: str) -> m.Raw:
    return m.namespace(name, metadata={"labels": labels})


BASE = (
    m.network({"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}),
    node("node1"),
    node("node2", assignable=False),
    node("node3"),
    namespace("namespace1", env="prod"),
    namespace("namespace2", env="prod"),
    namespace("other"),
    pod("pod1", "node1", "namespace1", app="web"),
    pod("pod2", "node2", "namespace1"),
    pod("pod3", "node2", "namespace2", app="web"),
    pod("pod4", "node3", "other", app="web"),
)
PROD = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}


def ask(cluster: Cluster, source: str, target: str = OUTSIDE, port: int = 443) -> Answer:
    """All engines, which must agree."""
    tracer = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    return tracer.ask(parse_question(source, target, "tcp", port), "all")


def seen(cluster: Cluster, source: str) -> set[tuple[str, str]]:
    """(node, source address) that an outside server may see a pod's connections come from."""
    egress = ask(cluster, source).egress
    assert egress is not None
    return {(each.node, each.source_ip) for each in egress.candidates}


def test_the_diagram_of_15_9_1_4() -> None:
    """pod1, pod2 and pod3 leave from node 1 and node 3 as one of the two addresses; pod4 is not selected."""
    addresses = ["192.168.126.10", "192.168.126.102"]
    cluster = cluster_of([*BASE, egress_ip("egressips-prod", addresses, **PROD)])
    for name in ("namespace1/pod1", "namespace1/pod2", "namespace2/pod3"):
        answer = ask(cluster, name)
        assert answer.egress is not None and answer.egress.egressip == "egressips-prod"
        assert answer.egress.only is None
        assert {each.node for each in answer.egress.candidates} == {"node1", "node3"}
        assert [each.source_ip for each in answer.egress.candidates] == addresses
    assert seen(cluster, "other/pod4") == {("node3", "192.168.126.203")}
    assert ask(cluster, "other/pod4").egress is not None and not _told(ask(cluster, "other/pod4"))


def _told(answer: Answer) -> list[str]:
    return [step.text for step in answer.steps if step.stage == STAGE]


def test_pod_selector_narrows() -> None:
    """15.9.2: pods with app=web in namespaces with env=prod."""
    chosen = {"podSelector": {"matchLabels": {"app": "web"}}}
    cluster = cluster_of([*BASE, egress_ip("egress-group1", ["192.168.126.11"], **PROD, **chosen)])
    own = {"namespace1/pod2": ("node2", "192.168.126.202"), "other/pod4": ("node3", "192.168.126.203")}
    for name in ("namespace1/pod1", "namespace2/pod3"):
        assert {address for _, address in seen(cluster, name)} == {"192.168.126.11"}
    for name, usual in own.items():
        assert seen(cluster, name) == {usual}


def test_not_in_selects_namespaces_without_the_label() -> None:
    """15.9.2: any pods that do not have the environment label set to development. Also in a namespace that nobody
    declares, and in one without any label."""
    expression = {"key": "environment", "operator": "NotIn", "values": ["development"]}
    selector = {"namespaceSelector": {"matchExpressions": [expression]}}
    around = [namespace("dev", environment="development"), m.namespace("bare")]
    pods = [pod("a", "node2", "dev"), pod("b", "node2", "bare"), pod("c", "node2", "nobody-declares-it")]
    cluster = cluster_of([*BASE, *around, *pods, egress_ip("egress-group2", ["192.168.127.30"], **selector)])
    for name in ("bare/b", "nobody-declares-it/c", "namespace1/pod1", "other/pod4"):
        assert {address for _, address in seen(cluster, name)} == {"192.168.127.30"}, name
    assert seen(cluster, "dev/a") == {("node2", "192.168.126.202")}


def test_an_empty_selector_matches_every_namespace() -> None:
    cluster = cluster_of([*BASE, pod("c", "node2", "nobody"), egress_ip("all", ["192.168.127.10"])])
    for name in ("nobody/c", "other/pod4", "namespace1/pod1"):
        assert {address for _, address in seen(cluster, name)} == {"192.168.127.10"}


def test_of_several_objects_the_oldest_counts_and_the_next_is_promoted() -> None:
    """15.9.1.3 gives no guarantee; here it is creationTimestamp, then name."""
    old = egress_ip("young-by-name", ["192.168.126.40"], "2024-01-01T00:00:00Z", **PROD)
    young = egress_ip("a-name", ["192.168.126.41"], "2024-02-01T00:00:00Z", **PROD)
    undated = egress_ip("a", ["192.168.126.42"], **PROD)
    cluster = cluster_of([*BASE, undated, young, old])
    for gone, address in (("young-by-name", "40"), ("a-name", "41"), ("a", "42")):
        assert {found for _, found in seen(cluster, "namespace1/pod2")} == {f"192.168.126.{address}"}
        cluster.apply(delete=[ObjectRef("EgressIP", "", gone)])
        cluster.engine.verify()
    assert seen(cluster, "namespace1/pod2") == {("node2", "192.168.126.202")}
    rows = cluster.engine.rows
    assert not [row for table in (ROUTER_POLICIES, NATS) for row in rows(table) if row.owner.kind == "EgressIP"]
    assert not [key for key in cluster.engine.sets(MEMBER) if key.row.role.startswith("egress-ip")]


def test_an_older_object_that_no_node_holds_does_not_shadow_a_good_one() -> None:
    """Its pods would leave as their nodes; while its address only moves, they do not change hands."""
    old = egress_ip("old", ["10.9.9.9"], "2024-01-01T00:00:00Z", **PROD)
    young = egress_ip("young", ["192.168.126.41"], "2024-02-01T00:00:00Z", **PROD)
    cluster = cluster_of([*BASE, old, young])
    assert {found for _, found in seen(cluster, "namespace1/pod2")} == {"192.168.126.41"}
    good = egress_ip("old", ["192.168.126.40"], "2024-01-01T00:00:00Z", **PROD)
    cluster.apply(load([good]).items)
    ((holder, address),) = seen(cluster, "namespace1/pod2")
    assert address == "192.168.126.40"
    cluster.report({holder: NodeHealth(is_reachable=False)})
    ((_, address),) = seen(cluster, "namespace1/pod2")
    assert address == "192.168.126.202", "as its node, until the address is elsewhere"
    cluster.withdrawn(cluster.leaving)
    ((_, address),) = seen(cluster, "namespace1/pod2")
    assert address == "192.168.126.40"
    cluster.engine.verify()


def test_what_is_reached_without_it() -> None:
    """Pods, nodes and their router pods, groups; the steps say so (15.9.1)."""
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10"], **PROD)])
    other = next(iter(Scene(cluster).endpoints[m_key("other", "pod4")].addresses))
    for target, path in ((str(other), "overlay"), ("192.168.126.202", "host"), ("192.168.126.203", "host")):
        answer = ask(cluster, "namespace1/pod2", target)
        assert (answer.verdict, answer.path, answer.egress) == ("allow", path, None)
        assert [text for text in _told(answer) if "EgressIP prod is not used for" in text and "15.9.1" in text]


@pytest.mark.parametrize(("name", "own"), [("pod1", "node1"), ("pod2", "node2")])
def test_other_nodes_see_the_pods_own_node(name: str, own: str) -> None:
    """15.9.1, also where that node holds an egress IP of the pod, as node1 and node3 do."""
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10", "192.168.126.102"], **PROD)])
    answer = ask(cluster, f"namespace1/{name}", "192.168.126.203")
    text = f"leaves through the gateway of {own} as 192.168.126.20{own[-1]}"
    assert (answer.verdict, answer.path, answer.egress) == ("allow", "host", None)
    assert text in [step.text for step in answer.steps], answer.steps
    flowed = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine)).ask(
        parse_question(f"namespace1/{name}", "192.168.126.203", "tcp", 443), "flows"
    )
    assert flowed.steps[-1].text == f"source becomes 192.168.126.20{own[-1]}"


def test_one_more_node_costs_few_members() -> None:
    """What is translated on a pod's own node is told by prefixes of all addresses but nodes': for 192.168.126.201 to
    .203 as many as an IPv4 address has bits, less one for the pair .202 and .203, and two with .204 next to them."""
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10", "192.168.126.102"], **PROD)])
    (row,) = (row for row in cluster.engine.rows(ADDRESS_SETS) if row.role.startswith("not-node-ips"))
    column = ColumnId(row, "addresses")
    assert len(cluster.engine.members(MEMBER, column)) == 31
    applied = cluster.apply(load([node("node4", assignable=False)]).items)
    came, went = applied.delta.sets(MEMBER)[column]
    assert (set(came), set(went)) == ({"192.168.126.205", "192.168.126.206/31"}, {"192.168.126.204/30"})


def m_key(namespace: str, name: str) -> Any:
    return ObjectRef("Pod", namespace, name).key


def test_a_route_on_the_own_node_does_not_use_it() -> None:
    """15.9.1, note: the router pod is on the network of the pod's own node, or answers a Service."""
    service = m.service({"type": "LoadBalancer", "ports": [{"port": 443}]}, "router", "namespace1")
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10"], **PROD), service])
    router = next(iter(Scene(cluster).endpoints[m_key("namespace1", "pod2")].addresses))
    made = m.endpoint_slice(
        [{"addresses": [str(router)], "nodeName": "node2"}], [{"port": 443, "protocol": "TCP"}], service="router"
    )
    made["metadata"]["namespace"] = "namespace1"
    cluster.apply(load([made]).items)
    routed = ask(cluster, "namespace2/pod3", "198.51.100.7")
    assert (routed.verdict, routed.egress) == ("allow", None)
    assert any("router pods" in text for text in _told(routed))
    assert any("router pods" in text for text in _told(ask(cluster, "namespace2/pod3", "192.168.126.202")))


def test_lint_tells_of_objects_that_serve_nobody() -> None:
    nobody = egress_ip("nobody", ["192.168.126.60"], namespaceSelector={"matchLabels": {"env": "none"}})
    old = egress_ip("old", ["192.168.126.40"], "2024-01-01T00:00:00Z", **PROD)
    young = egress_ip("young", ["192.168.126.41"], "2024-02-01T00:00:00Z", **PROD)
    told = [text for text in lint(cluster_of([*BASE, nobody, young, old])) if text.startswith("EgressIP")]
    pods = "namespace1/pod1, namespace1/pod2, namespace2/pod3"
    assert told == [
        "EgressIP nobody: selects no pod",
        f"EgressIP young: EgressIP old selects {pods}, too, and counts: it is older",
    ]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (("", "192.168.126.40"), ("", "192.168.126.41"), "it is first by name"),
        (
            ("2024-01-01T00:00:00Z", "192.168.126.40"),
            ("", "192.168.126.41"),
            "this one does not say when it was created",
        ),
        (("", "192.168.126.40"), ("2024-01-01T00:00:00Z", "10.9.9.9"), "no address of this one is on a node"),
    ],
)
def test_lint_says_what_decides_which_object_counts(first: tuple[str, str], second: tuple[str, str], why: str) -> None:
    pair = [egress_ip(name, [each[1]], each[0], **PROD) for name, each in (("a", first), ("b", second))]
    told = lint(cluster_of([*BASE, *pair]))
    (text,) = [each for each in told if each.startswith("EgressIP b: EgressIP a selects")]
    assert text.endswith(f"too, and counts: {why}")


def test_lint_tells_of_addresses_that_no_node_can_hold() -> None:
    """Of a platform, a node's own address, a subnet, too few nodes, another object's."""
    few = egress_ip("few", ["192.168.126.40", "192.168.126.41", "192.168.126.42"], "2024-01-01T00:00:00Z", **PROD)
    others = {"off": "10.9.9.9", "own": "192.168.126.202", "twice": "192.168.126.40"}
    made = [few, *(egress_ip(name, [address], **PROD) for name, address in others.items())]
    told = [text for text in lint(cluster_of([*BASE, *made])) if "is on no node" in text]
    assert told == [
        "EgressIP few: 192.168.126.42 is on no node (Capacity): every node that could hold it holds another address of"
        " this EgressIP",
        "EgressIP off: 10.9.9.9 is on no node (Subnet): lies in the primary subnet of no node that could hold it",
        "EgressIP own: 192.168.126.202 is on no node (Conflict): is an address of node node2",
        "EgressIP twice: 192.168.126.40 is on no node (Conflict): is held by EgressIP few",
    ]
    told = [text for text in lint(cluster_of([*BASE, made[0]], settings=Settings(platform="AWS"))) if "no node" in text]
    assert len(told) == 3 and all("(Platform): egress IPs are not supported on platform AWS" in text for text in told)


@pytest.mark.parametrize("kind", ["firewall", "policy"])
def test_what_is_denied_does_not_leave(kind: str) -> None:
    """A NetworkPolicy, then the egress firewall, which sees the pod's own address, come before the egress IP."""
    deny = {"egress": [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]}
    made: dict[str, m.Raw] = {
        "firewall": {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressFirewall",
            "metadata": {"name": "default", "namespace": "namespace1"},
            "spec": deny,
        },
        "policy": m.policy({"podSelector": {}, "policyTypes": ["Egress"]}, namespace="namespace1"),
    }
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10"], **PROD), made[kind]])
    answer = ask(cluster, "namespace1/pod2")
    assert (answer.verdict, answer.legs) == ("drop", ()) and not _told(answer)
    assert answer.egress is not None and (answer.egress.egressip, answer.egress.candidates) == (None, ())
    assert {found for _, found in seen(cluster, "namespace2/pod3")} == {"192.168.126.10"}


@pytest.mark.parametrize("engine", ["intent", "fast", "flows"])
@pytest.mark.parametrize(
    ("direction", "namespace", "legs"),
    [("Egress", "namespace1", []), ("Ingress", "other", [("node2", "node3", "geneve")])],
)
def test_legs_end_where_a_packet_is_dropped(
    engine: Engine, direction: str, namespace: str, legs: list[tuple[str, str, str]]
) -> None:
    """What its sender's side denies never leaves the sender's node; what the receiver's side denies comes that far."""
    closed = m.policy({"podSelector": {}, "policyTypes": [direction]}, namespace=namespace)
    cluster = cluster_of([*BASE, closed])
    tracer = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    answer = tracer.ask(parse_question("namespace1/pod2", "other/pod4", "tcp", 80), engine)
    assert answer.verdict == "drop"
    assert [(leg.source, leg.target, leg.transport) for leg in answer.legs] == legs


def test_completed_and_host_network_pods_have_no_rows() -> None:
    pods = [
        m.pod("done", "namespace1", spec={"nodeName": "node2", "containers": []}, status={"phase": "Succeeded"}),
        m.pod("host", "namespace1", spec={"nodeName": "node2", "containers": [], "hostNetwork": True}),
        m.pod("waiting", "namespace1", spec={"containers": []}),
    ]
    cluster = cluster_of([*BASE, *pods, egress_ip("prod", ["192.168.126.10"], **PROD)])
    roles = [row.role for row in cluster.engine.rows(ROUTER_POLICIES) if row.owner.kind == "EgressIP"]
    assert sorted({role.split("/")[2] for role in roles}) == ["pod1", "pod2", "pod3"]


def test_a_recreated_pod_leaves_as_before_with_its_new_address() -> None:
    """A StatefulSet's pod keeps its name; its old address may be somebody else's by then."""
    cluster = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10"], **PROD)])
    cluster.apply(delete=[ObjectRef("Pod", "namespace1", "pod2")])
    cluster.apply(load([pod("stranger", "node2", "other"), pod("pod2", "node2", "namespace1")]).items)
    cluster.engine.verify()
    assert {found for _, found in seen(cluster, "namespace1/pod2")} == {"192.168.126.10"}
    assert seen(cluster, "other/stranger") == {("node2", "192.168.126.202")}


def test_every_pair_of_cluster_networks_is_left_alone() -> None:
    """With two ranges pods of the one reach pods of the other as themselves."""
    entries = [{"cidr": "10.128.0.0/24", "hostPrefix": 25}, {"cidr": "10.200.0.0/16", "hostPrefix": 25}]
    network = m.network({"clusterNetwork": entries, "serviceNetwork": ["172.30.0.0/16"]})
    cluster = cluster_of([network, *BASE[1:], egress_ip("all", ["192.168.126.10"])])
    scene = Scene(cluster)
    ranges = {str(address)[:6] for each in scene.endpoints.values() for address in each.addresses}
    assert ranges == {"10.128", "10.200"}
    for source in scene.endpoints:
        for target, endpoint in scene.endpoints.items():
            if source != target:
                assert ask(cluster, str(source), str(endpoint.addresses[0])).egress is None
