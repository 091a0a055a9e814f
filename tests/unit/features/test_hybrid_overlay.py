"""The hybrid overlay's rows, decisions, paths and outputs, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.tables import NODE_DECISION, POD_DECISION, cluster_key
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    DESIRED,
    MAC_BINDINGS,
    MEMBER,
    ROUTER_POLICIES,
    STATIC_ROUTES,
    SWITCH_PORTS,
    SWITCHES,
)
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.reconcile.columns import owner_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.annotations import NODE_TOLD, POD_TOLD
from ovnk_core.trace.question import Answer, QuestionError, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.hybrid import LINUX, WINDOWS, WINDOWS_POD, hybrid, installed, landscape, pod, put, reasons, windows_node

WEB = NamespacedName("shop", "web")


def rows(cluster: Cluster, table: Any, role: str = "hybrid", node: str = LINUX) -> list[Any]:
    return [
        row
        for key, row in cluster.engine.rows(table).items()
        if key.owner == naming.node_owner(node) and key.role.partition("/")[0] == role
    ]


# ------------------------------------------------------------------------------- rows


def test_a_linux_nodes_port_has_a_mac_and_nothing_else() -> None:
    cluster = installed(*landscape())
    (port,) = rows(cluster, SWITCH_PORTS)
    assert (port.name, port.addresses, port.port_security, port.type) == (
        "int-node-1",
        ("0a:58:0a:80:00:03",),
        (),
        "",
    )
    members = cluster.engine.members(MEMBER, ColumnId(naming.node_switch_row(LINUX), "ports"))
    assert naming.node_port_row(LINUX, "hybrid") in members
    # No policy of a pod and no rule of the node's own traffic is about the port: it is in no group.
    groups = [
        key
        for key, found in cluster.engine.sets(MEMBER).items()
        if key.row.table == "Port_Group" and naming.node_port_row(LINUX, "hybrid") in found
    ]
    assert groups == []


def test_the_gateways_address_is_kept_from_pods() -> None:
    cluster = installed(*landscape())
    assert dict(cluster.engine.rows(SWITCHES)[naming.node_switch_row(LINUX)].other_config) == {
        "subnet": "10.128.0.0/23",
        "exclude_ips": "10.128.0.2..10.128.0.3",
    }
    assert str(cluster.engine.rows(ENDPOINT)[WEB].addresses[0]) == "10.128.0.4"
    put(cluster, pod("late", LINUX, "10.128.0.3"))
    assert "its address is held by the hybrid overlay's gateway" in reasons(cluster)
    assert "10.128.0.3" not in "".join(str(row.addresses) for row in cluster.engine.rows(SWITCH_PORTS).values())


def test_policies_and_routes_lead_to_the_gateway_of_the_packets_node() -> None:
    cluster = installed(*landscape())
    (inside,), (from_gateway,) = rows(cluster, ROUTER_POLICIES), rows(cluster, ROUTER_POLICIES, "hybrid-gr")
    assert inside.match == 'inport == "rtos-node-1" && ip4.dst == 10.132.0.0/14'
    assert from_gateway.match == "ip4.src == 100.64.0.2 && ip4.dst == 10.132.0.0/14"
    assert {(row.priority, row.action, row.nexthops) for row in (inside, from_gateway)} == {
        (1002, "reroute", ("10.128.0.3",))
    }
    assert [dict(row.external_ids)["name"] for row in (inside, from_gateway)] == [
        "hybrid-subnet-node-1",
        "hybrid-subnet-node-1-gr",
    ]
    (route,), (back,) = rows(cluster, STATIC_ROUTES), rows(cluster, STATIC_ROUTES, "hybrid-gr")
    assert (route.ip_prefix, route.nexthop, route.policy) == ("10.132.0.0/14", "10.128.0.3", None)
    assert (back.ip_prefix, back.nexthop) == ("10.132.0.0/14", "100.64.0.1")
    router = cluster.engine.members(MEMBER, ColumnId(naming.CLUSTER_ROUTER_ROW, "static_routes"))
    gateway = cluster.engine.members(MEMBER, ColumnId(naming.gateway_router_row(LINUX), "static_routes"))
    row = "Logical_Router_Static_Route", naming.node_owner(LINUX)
    assert RowId(*row, "hybrid/10.132.0.0/14") in router
    assert RowId(*row, "hybrid-gr/10.132.0.0/14") in gateway


def test_the_cluster_router_knows_the_gateways_mac_and_the_row_is_known_as_ours() -> None:
    cluster = installed(*landscape())
    row_id = RowId("Static_MAC_Binding", naming.node_owner(LINUX), "10.128.0.3")
    row = cluster.engine.rows(MAC_BINDINGS)[row_id]
    assert (row.logical_port, row.ip, row.mac) == ("rtos-node-1", "10.128.0.3", "0a:58:0a:80:00:03")
    assert owner_of("Static_MAC_Binding", row_id.uuid, {"logical_port": row.logical_port, "ip": row.ip}) == row_id


def test_several_ranges_have_rows_each() -> None:
    more = [{"cidr": "10.132.0.0/24", "hostPrefix": 25}, {"cidr": "10.140.0.0/16", "hostPrefix": 24}]
    nodes = [windows_node(f"win-{number}", f"192.0.2.{number + 20}") for number in range(3)]
    cluster = installed(hybrid(None, *more), m.node(LINUX), *nodes)
    assert {row.ip_prefix for row in rows(cluster, STATIC_ROUTES)} == {"10.132.0.0/24", "10.140.0.0/16"}
    given = cluster.engine.rows(NODE_DECISION)
    assert [str(given[cluster_key(f"win-{number}")].subnets[0]) for number in range(3)] == [
        "10.132.0.0/25",
        "10.132.0.128/25",
        "10.140.0.0/24",
    ]


def test_a_node_without_a_gateway_has_the_rows_of_its_switch_only() -> None:
    cluster = installed(hybrid(), m.node(LINUX, {"l3-gateway-config": {"default": {"mode": ""}}}))
    assert len(rows(cluster, ROUTER_POLICIES)) == len(rows(cluster, STATIC_ROUTES)) == 1
    assert rows(cluster, ROUTER_POLICIES, "hybrid-gr") == rows(cluster, STATIC_ROUTES, "hybrid-gr") == []


def test_without_hybrid_networking_there_is_nothing_of_it() -> None:
    cluster = installed(*landscape()[1:4], pod("web", LINUX))
    assert "10.128.0.3" in str(cluster.engine.rows(ENDPOINT)[WEB].addresses[0])
    roles = [key.role for table in DESIRED.values() for key in cluster.engine.rows(table)]
    assert not [role for role in roles if role.startswith("hybrid")]
    assert all(told.vxlan_port is None for told in cluster.engine.rows(NODE_TOLD).values())


# ------------------------------------------------------------------------------- Windows nodes


def test_a_windows_node_has_no_row_of_its_own() -> None:
    cluster = installed(*landscape())
    owned = [key for table in DESIRED.values() for key in cluster.engine.rows(table) if key.owner.name == WINDOWS]
    assert owned == []
    assert cluster.engine.rows(NODE_DECISION)[cluster_key(WINDOWS)].node_id == 0


def test_pods_on_a_windows_node_are_no_endpoints_and_wait_for_nothing() -> None:
    cluster = installed(*landscape(), pod("quiet", WINDOWS))
    assert {key.name for key in cluster.engine.rows(ENDPOINT)} == {"web", "db"}
    assert {key.name for key in cluster.engine.rows(POD_DECISION)} == {"web", "db"}
    assert not cluster.errors


def test_its_subnet_is_the_annotated_one_or_is_refused() -> None:
    cluster = installed(hybrid(), windows_node(hybrid_overlay_node_subnet="10.132.8.0/23"))
    assert str(cluster.engine.rows(NODE_DECISION)[cluster_key(WINDOWS)].subnets[0]) == "10.132.8.0/23"
    put(cluster, windows_node("win-2", "192.0.2.10", hybrid_overlay_node_subnet="10.132.8.0/23"))
    assert 'hybrid-overlay-node-subnet"]: is already held by node win-1' in reasons(cluster)
    put(cluster, windows_node("win-2", "192.0.2.10", hybrid_overlay_node_subnet="10.132.16.0/24"))
    assert "must be a /23, the hostPrefix of its hybridClusterNetwork entry" in reasons(cluster)
    put(cluster, windows_node("win-2", "192.0.2.10", hybrid_overlay_node_subnet="10.200.0.0/23"))
    assert str(cluster.engine.rows(NODE_DECISION)[cluster_key("win-2")].subnets[0]) == "10.132.0.0/23"
    loaded = parse_objects([windows_node(hybrid_overlay_node_subnet="x")])
    assert "hybrid-overlay-node-subnet" in str(loaded.refused[0].errors[0])


def test_the_range_may_be_too_small() -> None:
    cluster = Cluster(check=True)
    small = hybrid(None, {"cidr": "10.132.0.0/24", "hostPrefix": 25})
    put(cluster, small, *(windows_node(f"win-{number}", f"192.0.2.{number + 20}") for number in range(3)))
    assert "no IPv4 subnet is left in hybridClusterNetwork" in reasons(cluster)


def test_a_node_that_changes_sides_gives_back_what_it_had() -> None:
    cluster = installed(*landscape())
    linux = m.node(LINUX)
    linux["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    put(cluster, linux)
    assert str(cluster.engine.rows(NODE_DECISION)[cluster_key(LINUX)].subnets[0]) == "10.132.2.0/23"
    assert WEB not in cluster.engine.rows(ENDPOINT)
    put(cluster, m.node("node-3", address="192.0.2.3"))
    assert str(cluster.engine.rows(NODE_DECISION)[cluster_key("node-3")].subnets[0]) == "10.128.0.0/23"
    put(cluster, m.node(LINUX))
    assert str(cluster.engine.rows(NODE_DECISION)[cluster_key(LINUX)].subnets[0]) == "10.128.4.0/23"
    assert str(cluster.engine.rows(ENDPOINT)[WEB].addresses[0]) == "10.128.4.4"
    cluster.engine.verify()


# ------------------------------------------------------------------------------- paths


def ask(cluster: Cluster, source: str, target: str, **more: Any) -> Answer:
    tracer = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    return tracer.ask(parse_question(source, target, **({"protocol": "tcp", "port": 80} | more)), "all")


@pytest.mark.parametrize(
    ("source", "target", "legs"),
    [
        ("shop/web", "shop/iis", ("node-1", "win-1")),
        ("shop/web", WINDOWS_POD, ("node-1", "win-1")),
        ("shop/db", "10.132.1.7", ("node-2", "win-1")),
        ("shop/iis", "shop/web", ("win-1", "node-1")),
        (WINDOWS_POD, "shop/db", ("win-1", "node-2")),
    ],
)
def test_between_linux_and_windows_pods_the_path_is_vxlan(source: str, target: str, legs: tuple[str, str]) -> None:
    answer = ask(installed(*landscape()), source, target)
    assert (answer.verdict, answer.path) == ("allow", "vxlan")
    assert [(leg.source, leg.target, leg.transport) for leg in answer.legs] == [(*legs, "vxlan")]


def test_a_client_on_a_windows_node_gets_no_answer_from_an_egress_router() -> None:
    """The router pod has no route to the hybrid range: what it answers leaves by its second interface."""
    notes = {"k8s.v1.cni.cncf.io/networks": "router"}
    router = m.pod("router", metadata={"annotations": notes}, spec={"nodeName": LINUX, "containers": []})
    cluster = installed(*landscape(), m.network_attachment(), router)
    assert ask(cluster, "shop/db", "shop/router").egress_router is not None
    answer = ask(cluster, "shop/iis", "shop/router")
    assert answer.verdict == "drop" and "the answer does not come back" in answer.reason, answer.reason


def test_between_windows_nodes_and_from_hosts_ovn_is_not_on_the_way() -> None:
    cluster = installed(*landscape(), windows_node("win-2", "192.0.2.10"), pod("sql", "win-2", "10.132.2.5"))
    answer = ask(cluster, "shop/iis", "shop/sql")
    assert (answer.verdict, answer.path, answer.legs[0].transport) == ("allow", "vxlan", "vxlan")
    assert ask(cluster, "192.0.2.1", "shop/sql").path == "vxlan"


@pytest.mark.parametrize("target", ["172.30.1.1", "203.0.113.9"])
def test_a_windows_pod_that_asks_a_service_is_not_answered_for(target: str) -> None:
    """The Windows node balances, and how is not known here."""
    spec = {"clusterIP": "172.30.1.1", "externalIPs": ["203.0.113.9"], "ports": [{"port": 80}]}
    cluster = installed(*landscape(), m.service(spec))
    with pytest.raises(QuestionError, match="whose packets to others do not pass OVN"):
        ask(cluster, "shop/iis", target)


def test_an_address_no_windows_node_has_goes_nowhere() -> None:
    answer = ask(installed(*landscape()), "shop/web", "10.135.0.1")
    assert (answer.verdict, "nothing in the cluster has the address" in answer.reason) == ("drop", True)


def test_a_windows_pod_that_states_no_address_cannot_be_asked_for() -> None:
    with pytest.raises(QuestionError, match="its status names no address"):
        ask(installed(*landscape(), pod("quiet", WINDOWS)), "shop/web", "shop/quiet")


def block(direction: str, cidr: str) -> dict[str, Any]:
    word, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    rule = {peers: [{"ipBlock": {"cidr": cidr}}]}
    return m.policy({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": [direction], word: [rule]})


@pytest.mark.parametrize(
    ("direction", "source", "target"), [("Ingress", "shop/iis", "shop/web"), ("Egress", "shop/web", "shop/iis")]
)
def test_a_policy_of_the_linux_side_speaks_of_windows_pods_by_address(direction: str, source: str, target: str) -> None:
    cluster = installed(*landscape(), block(direction, "10.132.0.0/24"))
    assert ask(cluster, source, target).verdict == "allow"
    put(cluster, block(direction, "10.132.1.0/24"))
    assert ask(cluster, source, target).verdict == "drop"
    # By label nobody on a Windows node is meant.
    selected = block(direction, "10.132.1.0/24")
    rule = {("from" if direction == "Ingress" else "to"): [{"podSelector": {"matchLabels": {"app": "iis"}}}]}
    selected["spec"][direction.lower()] = [rule]
    put(cluster, selected)
    assert ask(cluster, source, target).verdict == "drop"


# ------------------------------------------------------------------------------- outputs


def notes(cluster: Cluster) -> dict[str, dict[str, str]]:
    found = {**cluster.engine.rows(NODE_TOLD), **cluster.engine.rows(POD_TOLD)}
    return {str(key): dict(told.annotations) for key, told in found.items()}


def test_what_nodes_and_pods_are_told() -> None:
    told = notes(installed(*landscape()))
    prefix = "k8s.ovn.org/"
    assert told["node-1"] == {
        f"{prefix}node-subnets": '{"default":["10.128.0.0/23"]}',
        f"{prefix}node-id": "2",
        f"{prefix}node-gateway-router-lrp-ifaddr": '{"ipv4":"100.64.0.2/16"}',
        f"{prefix}node-mgmt-port-mac-address": "0a:58:0a:80:00:02",
        f"{prefix}hybrid-overlay-distributed-router-gateway-mac": "0a:58:0a:80:00:03",
        f"{prefix}hybrid-overlay-distributed-router-gateway-ip": "10.128.0.3",
    }
    assert told[WINDOWS] == {f"{prefix}hybrid-overlay-node-subnet": "10.132.0.0/23"}
    assert json.loads(told["shop/web"][f"{prefix}pod-networks"]) == {
        "default": {
            "ip_addresses": ["10.128.0.4/23"],
            "mac_address": "0a:58:0a:80:00:04",
            "gateway_ips": ["10.128.0.1"],
            "routes": [
                {"dest": dest, "nextHop": "10.128.0.1"}
                for dest in ("10.128.0.0/14", "172.30.0.0/16", "169.254.169.5/32", "100.64.0.0/16")
            ],
            "ip_address": "10.128.0.4/23",
            "gateway_ip": "10.128.0.1",
            "role": "primary",
        }
    }
    assert "shop/iis" not in told


def test_dual_stack_pods_are_told_of_both_families() -> None:
    ranges = {
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
        "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
    }
    told = notes(installed(m.network(ranges), hybrid(), m.node(LINUX), m.namespace(), pod("web", LINUX)))
    default = json.loads(told["shop/web"]["k8s.ovn.org/pod-networks"])["default"]
    assert default["ip_addresses"] == ["10.128.0.4/23", "fd01::3/64"]
    assert default["gateway_ips"] == ["10.128.0.1", "fd01::1"]
    assert {"dest": "fd69::5/128", "nextHop": "fd01::1"} in default["routes"]
    assert "ip_address" not in default


def test_what_is_written_back_changes_nothing() -> None:
    """An adapter that annotates what it is told gives the same cluster once more."""
    first = installed(*landscape())
    told, objects = notes(first), landscape()
    for each in objects:
        name = str(NamespacedName(each["metadata"].get("namespace", ""), each["metadata"]["name"]))
        if each["kind"] in ("Node", "Pod") and name in told:
            each["metadata"].setdefault("annotations", {}).update(told[name])
    second = installed(*objects)
    assert notes(second) == told
    assert second.engine.rows(NODE_DECISION) == first.engine.rows(NODE_DECISION)
    assert second.engine.rows(POD_DECISION) == first.engine.rows(POD_DECISION)
    put(first, *objects)
    assert notes(first) == told


def test_a_change_of_labels_tells_nobody_anything() -> None:
    cluster = installed(*landscape())
    loaded = parse_objects([pod("web", LINUX, app="other", tier="new")])
    delta = cluster.apply(loaded.items).delta
    assert not delta.rows(POD_TOLD)
    assert not delta.rows(NODE_TOLD)
