"""15.1.3: the limitation that is lifted. Traffic policies Local, beside Cluster, of Services of type LoadBalancer and
NodePort and of external IPs: which endpoints answer, what clients are told, and whom the endpoint sees.
"""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import LOAD_BALANCERS
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.questions import cluster_of

NETWORK = {
    "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
    "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
}
CLIENT, CLIENT6 = "203.0.113.9", "2001:db8:ffff::9"
NODES = {"n1": "192.0.2.11", "n2": "192.0.2.12", "n3": "192.0.2.13"}
PODS = {
    "web-1": ("n1", "10.128.0.10", "fd01::10"),
    "web-2": ("n2", "10.128.2.10", "fd01:0:0:1::10"),
    "client-1": ("n1", "10.128.0.20", "fd01::20"),
    "client-3": ("n3", "10.128.4.20", "fd01:0:0:2::20"),
}
WEB_1, WEB_2 = "10.128.0.10:8080", "10.128.2.10:8080"
VIP, BALANCED, EXTERNAL = "172.30.5.5", "198.51.100.10", "198.51.100.20"
HTTP = {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}
LISTENING = [{"name": "http", "port": 8080}]


def node(name: str) -> m.Raw:
    last = NODES[name].rpartition(".")[2]
    addresses = [{"type": "InternalIP", "address": text} for text in (NODES[name], f"2001:db8::{last}")]
    return m.node(name, address=None, status={"addresses": addresses})


def pod(name: str) -> m.Raw:
    place, *addresses = PODS[name]
    status = {"phase": "Running", "podIPs": [{"ip": each} for each in addresses]}
    spec = {"nodeName": place, "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}
    return m.pod(name, "shop", metadata={"labels": {"app": name.partition("-")[0]}}, spec=spec, status=status)


def service(**spec: Any) -> m.Raw:
    """Reached at a cluster IP, a load balancer's address, node port 30080 and an external IP."""
    made = {"clusterIP": VIP, "type": "LoadBalancer", "externalIPs": [EXTERNAL], "ports": [HTTP]} | spec
    return m.service(made, status={"loadBalancer": {"ingress": [{"ip": BALANCED}]}})


def endpoint(name: str, *, family: int = 4, **conditions: bool) -> m.Raw:
    place, *addresses = PODS[name]
    return {"addresses": [addresses[family == 6]], "nodeName": place, "conditions": conditions}


def endpoints(*found: m.Raw) -> m.Raw:
    return m.endpoint_slice(list(found), LISTENING)


BOTH = endpoints(endpoint("web-1"), endpoint("web-2"))


def cluster(*more: m.Raw) -> Cluster:
    base = (m.network(NETWORK), m.namespace("shop"), *map(node, NODES), *map(pod, PODS))
    found = cluster_of([*base, *more])
    assert not found.refused and not found.problems, "nothing is refused: Local is supported"
    return found


def ask(found: Cluster, source: str, target: str) -> Answer:
    """All engines, which must agree."""
    tracer = Tracer(Scene(found), lambda: FlowTable(found.engine))
    return tracer.ask(parse_question(source, target), "all")


def chosen(answer: Answer) -> dict[tuple[str, str], str]:
    """Verdicts by gateway and endpoint."""
    assert answer.load_balancer is not None
    return {(each.entry, each.target): each.verdict for each in answer.load_balancer.backends}


def ingress_from(*blocks: str) -> m.Raw:
    """The web pods let in nobody but these addresses."""
    rule = {"from": [{"ipBlock": {"cidr": each}} for each in blocks]}
    return m.policy({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]})


# ------------------------------------------------------------------------------------------- from outside

DOORS = [f"{BALANCED}:80", f"{EXTERNAL}:80"]


@pytest.mark.parametrize("door", DOORS)
def test_cluster_any_gateway_sends_to_any_endpoint(door: str) -> None:
    answer = ask(cluster(service(externalTrafficPolicy="Cluster"), BOTH), CLIENT, door)
    assert chosen(answer) == {(by, target): "allow" for by in NODES for target in (WEB_1, WEB_2)}
    assert (answer.verdict, answer.path) == ("allow", "external")


@pytest.mark.parametrize("door", DOORS)
def test_local_a_gateway_sends_to_its_own_endpoints_and_rejects_without_one(door: str) -> None:
    answer = ask(cluster(service(externalTrafficPolicy="Local"), BOTH), CLIENT, door)
    assert chosen(answer) == {("n1", WEB_1): "allow", ("n2", WEB_2): "allow", ("n3", ""): "reject"}
    assert answer.verdict == "mixed", "the gateway of n3 rejects"
    assert "no endpoint on node n3 (externalTrafficPolicy Local): the connection is rejected" in answer.reason


def test_one_endpoint_is_not_the_chosen_one_where_gateways_reject() -> None:
    answer = ask(
        cluster(service(externalTrafficPolicy="Local"), endpoints(endpoint("web-1"))), CLIENT, f"{EXTERNAL}:80"
    )
    assert chosen(answer) == {("n1", WEB_1): "allow", ("n2", ""): "reject", ("n3", ""): "reject"}
    assert answer.load_balancer is not None and answer.load_balancer.chosen == ""
    rejecting = next(each for each in answer.load_balancer.backends if each.entry == "n2")
    assert "no endpoint on node n2" in rejecting.reason and (rejecting.pod, rejecting.node) == (None, "")
    assert answer.reason.count("no endpoint on node n2") == 1


def test_the_reason_does_not_grow_with_the_endpoints() -> None:
    ports = [{"name": f"p{number}", "port": 8000 + number} for number in range(40)]
    served = (
        service(type="ClusterIP", externalIPs=[], ports=[{"port": 80}]),
        m.endpoint_slice([endpoint("web-1")], ports),
    )
    told = ask(cluster(*served), "shop/client-3", f"{VIP}:80")
    assert len(chosen(told)) == 40 and len(told.reason) < 1_000
    one_port = m.policy({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 8001}]}]})
    told = ask(cluster(*served, one_port), "shop/client-3", f"{VIP}:80")
    assert told.verdict == "mixed" and len(told.reason) < 1_500
    assert "10.128.0.10:8001: allow" in told.reason and "and 34 more: drop" in told.reason


def test_an_address_or_a_port_that_nobody_serves_is_told() -> None:
    found = cluster(service(), BOTH)
    nobody = ask(found, "shop/client-3", "172.30.99.99:80")
    assert nobody.reason.startswith("no Service has the address 172.30.99.99; ")
    closed = ask(found, "shop/client-3", f"{VIP}:81")
    assert closed.reason.startswith("Service shop/web serves only port 80/TCP; ")
    assert (nobody.verdict, nobody.load_balancer) == (closed.verdict, closed.load_balancer)
    assert closed.steps[0].object is not None and closed.steps[0].object.name == "web"


@pytest.mark.parametrize(
    ("policy", "node_asked", "expected"),
    [
        ("Cluster", "n1", [WEB_1, WEB_2]),
        ("Cluster", "n3", [WEB_1, WEB_2]),
        ("Local", "n1", [WEB_1]),
        ("Local", "n2", [WEB_2]),
        ("Local", "n3", []),
    ],
)
def test_node_ports(policy: str, node_asked: str, expected: list[str]) -> None:
    found = cluster(service(type="NodePort", externalTrafficPolicy=policy), BOTH)
    answer = ask(found, CLIENT, f"{NODES[node_asked]}:30080")
    assert [target for _, target in chosen(answer)] == expected
    assert {by for by, _ in chosen(answer)} <= {node_asked}
    assert answer.verdict == ("allow" if expected else "reject")


@pytest.mark.parametrize(
    ("policy", "let_in", "verdict"),
    [
        ("Cluster", "100.64.0.0/16", "allow"),
        ("Cluster", f"{CLIENT}/32", "drop"),
        ("Local", "100.64.0.0/16", "drop"),
        ("Local", f"{CLIENT}/32", "allow"),
    ],
)
@pytest.mark.parametrize("door", [f"{NODES['n1']}:30080", *DOORS])
def test_cluster_shows_the_gateway_to_the_endpoint_and_local_the_client(
    policy: str, let_in: str, verdict: str, door: str
) -> None:
    """NetworkPolicy judges the address that the pod sees."""
    found = cluster(service(externalTrafficPolicy=policy), BOTH, ingress_from(let_in))
    told = chosen(ask(found, CLIENT, door))
    assert {each for (_, target), each in told.items() if target} == {verdict}


def test_the_gateway_shows_itself_by_its_own_join_address() -> None:
    found = cluster(service(), BOTH)
    joins = {each.name: str(each.join[0].address) for each in Scene(found).places.values()}
    for name in NODES:
        one = cluster(service(), BOTH, ingress_from(f"{joins[name]}/32"))
        told = chosen(ask(one, CLIENT, f"{BALANCED}:80"))
        assert {by for (by, _), verdict in told.items() if verdict == "allow"} == {name}


# ------------------------------------------------------------------------------------------- from inside


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize("door", [*DOORS, f"{NODES['n3']}:30080"])
def test_inside_the_cluster_what_is_external_reaches_every_endpoint(policy: str, door: str) -> None:
    answer = ask(cluster(service(externalTrafficPolicy=policy), BOTH), "shop/client-3", door)
    assert (answer.verdict, chosen(answer)) == ("allow", {("", WEB_1): "allow", ("", WEB_2): "allow"})


@pytest.mark.parametrize(
    ("policy", "client", "expected"),
    [
        ("Cluster", "client-1", [WEB_1, WEB_2]),
        ("Cluster", "client-3", [WEB_1, WEB_2]),
        ("Local", "client-1", [WEB_1]),
        ("Local", "client-3", []),
    ],
)
def test_the_internal_policy_local_never_leaves_the_node(policy: str, client: str, expected: list[str]) -> None:
    found = cluster(service(internalTrafficPolicy=policy), BOTH)
    answer = ask(found, f"shop/{client}", "svc:shop/web:80")
    assert [target for _, target in chosen(answer)] == expected
    assert answer.verdict == ("allow" if expected else "reject"), "reject, though other nodes have endpoints"
    assert [target for _, target in chosen(ask(found, f"shop/{client}", f"{BALANCED}:80"))] == [WEB_1, WEB_2]


@pytest.mark.parametrize("source", ["shop/client-1", CLIENT])
@pytest.mark.parametrize("door", [*DOORS, f"{NODES['n1']}:30080"])
def test_without_any_endpoint_it_is_rejected(source: str, door: str) -> None:
    answer = ask(cluster(service()), source, door)
    assert (answer.verdict, chosen(answer)) == ("reject", {})
    assert answer.load_balancer is not None and answer.load_balancer.chosen == ""


def test_a_pod_reaches_itself_whatever_policies_say() -> None:
    closed = m.policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    alone = ask(cluster(service(), endpoints(endpoint("web-1")), closed), "shop/web-1", "svc:shop/web:80")
    assert (alone.verdict, chosen(alone)) == ("allow", {("", WEB_1): "allow"})
    beside = ask(cluster(service(), BOTH, closed), "shop/web-1", "svc:shop/web:80")
    assert (beside.verdict, chosen(beside)) == ("mixed", {("", WEB_1): "allow", ("", WEB_2): "drop"})
    other = ask(cluster(service(), endpoints(endpoint("web-1")), closed), "shop/client-1", "svc:shop/web:80")
    assert other.verdict == "drop"


def test_policies_of_the_source_see_the_endpoint_and_not_the_cluster_ip() -> None:
    def egress(block: str) -> m.Raw:
        spec = {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]}
        return m.policy({**spec, "egress": [{"to": [{"ipBlock": {"cidr": block}}]}]})

    by_vip = cluster(service(), BOTH, egress("172.30.0.0/16"))
    assert ask(by_vip, "shop/client-1", "svc:shop/web:80").verdict == "drop"
    by_endpoint = cluster(service(), BOTH, egress("10.128.2.10/32"))
    answer = ask(by_endpoint, "shop/client-1", "svc:shop/web:80")
    assert (answer.verdict, chosen(answer)) == ("mixed", {("", WEB_1): "drop", ("", WEB_2): "allow"})


# ------------------------------------------------------------------------------------------- endpoints

LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.parametrize(
    ("one", "two", "publishes", "expected"),
    [
        ({}, {}, False, [WEB_1, WEB_2]),
        ({}, {"ready": False}, False, [WEB_1]),
        ({}, LEAVING, False, [WEB_1]),
        (LEAVING, LEAVING, False, [WEB_1, WEB_2]),
        (LEAVING, GONE, False, [WEB_1]),
        (GONE, GONE, False, []),
        ({"ready": False}, {"ready": False}, False, []),
        ({"ready": False}, GONE, True, [WEB_1, WEB_2]),
    ],
)
def test_ready_ones_else_those_that_serve_while_they_leave(
    one: dict[str, bool], two: dict[str, bool], publishes: bool, expected: list[str]
) -> None:
    found = endpoints(endpoint("web-1", **one), endpoint("web-2", **two))
    answer = ask(cluster(service(publishNotReadyAddresses=publishes), found), "shop/client-1", "svc:shop/web:80")
    assert [target for _, target in chosen(answer)] == expected
    assert answer.verdict == ("allow" if expected else "reject")


def test_local_looks_at_the_nodes_own_endpoints_before_it_falls_back() -> None:
    """What is ready elsewhere does not take the last chance from what still serves here."""
    found = endpoints(endpoint("web-1", **LEAVING), endpoint("web-2"))
    local = cluster(service(externalTrafficPolicy="Local", internalTrafficPolicy="Local"), found)
    assert chosen(ask(local, CLIENT, f"{NODES['n1']}:30080")) == {("n1", WEB_1): "allow"}
    assert chosen(ask(local, "shop/client-1", "svc:shop/web:80")) == {("", WEB_1): "allow"}
    assert chosen(ask(cluster(service(), found), "shop/client-1", "svc:shop/web:80")) == {("", WEB_2): "allow"}


def test_named_ports_lead_to_the_ports_of_their_name() -> None:
    metrics = {"name": "metrics", "port": 9100, "targetPort": "metrics"}
    listening = [*LISTENING, {"name": "metrics", "port": 9200}]
    found = cluster(service(ports=[HTTP, metrics]), m.endpoint_slice([endpoint("web-1")], listening))
    for asked, target in (
        ("http", WEB_1),
        ("80", WEB_1),
        ("metrics", "10.128.0.10:9200"),
        ("9100", "10.128.0.10:9200"),
    ):
        assert chosen(ask(found, "shop/client-1", f"svc:shop/web:{asked}")) == {("", target): "allow"}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_both_families(policy: str) -> None:
    both = {"ipFamilyPolicy": "RequireDualStack", "clusterIPs": [VIP, "fd02::55"], "externalTrafficPolicy": policy}
    six = m.endpoint_slice([endpoint("web-2", family=6)], LISTENING, name="web-6", family="IPv6")
    found = cluster(service(**both), endpoints(endpoint("web-1")), six)
    target = f"[{PODS['web-2'][2]}]:8080"
    assert chosen(ask(found, "shop/client-1", "svc:shop/web:80")) == {("", WEB_1): "allow"}, "IPv4 first"
    answer = ask(found, "shop/client-1", "[fd02::55]:80")
    assert (chosen(answer), answer.load_balancer and answer.load_balancer.vip) == (
        {("", target): "allow"},
        "[fd02::55]:80",
    )
    entered = ask(found, CLIENT6, "[2001:db8::12]:30080")
    assert chosen(entered) == {("n2", target): "allow"}
    let_in = "fd98::/64" if policy == "Cluster" else f"{CLIENT6}/128"
    closed = cluster(service(**both), six, ingress_from(let_in))
    assert ask(closed, CLIENT6, "[2001:db8::12]:30080").verdict == "allow"


def test_session_affinity_is_accepted_and_changes_no_verdict() -> None:
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    for policy in ("Cluster", "Local"):
        plain, bound = (cluster(service(externalTrafficPolicy=policy, **more), BOTH) for more in ({}, sticky))
        for source, door in ((CLIENT, f"{BALANCED}:80"), ("shop/client-1", "svc:shop/web:80")):
            assert ask(plain, source, door) == ask(bound, source, door)
        for each, fields in ((plain, ()), (bound, ("ip_dst", "ip_src"))):
            assert {row.selection_fields for row in each.engine.rows(LOAD_BALANCERS).values()} == {fields}
