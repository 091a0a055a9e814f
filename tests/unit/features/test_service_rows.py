"""Load balancers as they are written: names, options, groups, and who gets rows of its own."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ACLS, GLOBAL_KEYS, LOAD_BALANCERS, MEMBER, ROUTER_POLICIES, TEMPLATE_VARS
from ovnk_core.nb.row import ACCEPTED_KEY, SERVICE_KEY, ColumnId, RowId
from ovnk_core.nb.tables import LoadBalancer
from ovnk_core.topology.place import Settings
from tests.kit import manifest as m
from tests.kit.questions import cluster_of

NODES = {f"n{i}": {"node-subnets": {"default": [f"10.128.{i}.0/24"]}, "node-chassis-id": f"c{i}"} for i in (1, 2, 3)}
NETWORK = m.network({"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 24}]})
CLUSTER = [NETWORK, *(m.node(name, notes, address=f"192.0.2.{name[1:]}") for name, notes in NODES.items())]
POD_1, POD_2 = {"addresses": ["10.128.1.9"], "nodeName": "n1"}, {"addresses": ["10.128.2.9"], "nodeName": "n2"}
HOST_2 = {"addresses": ["192.0.2.2"], "nodeName": "n2"}
BOTH = "10.128.1.9:8080,10.128.2.9:8080"
NODE_PORT = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
Raw = dict[str, Any]


def built(spec: Raw, *backends: Raw, nodes: list[Raw] = CLUSTER, settings: Settings | None = None) -> Cluster:
    """Three nodes and the Service shop/web with cluster IP 172.30.0.20, whose endpoints listen on 8080."""
    spec = {"clusterIP": "172.30.0.20", "ports": [{"name": "http", "port": 80}], **spec}
    port = {"name": "http", "port": 8080, "protocol": "TCP"}
    objects = [*nodes, m.service(spec), m.endpoint_slice(list(backends), [port])]
    return cluster_of(objects, settings=settings, check=True)


def balancers(cluster: Cluster) -> dict[str, LoadBalancer]:
    """By scope, the end of the name."""
    rows = cluster.engine.rows(LOAD_BALANCERS)
    for row_id, row in rows.items():
        protocol, _, scope = row_id.role.partition("/")
        assert row.name == f"Service_shop/web_{protocol}_{scope}"
    return {row_id.role.partition("/")[2]: row for row_id, row in rows.items()}


def vips(cluster: Cluster) -> dict[str, dict[str, str]]:
    return {scope: dict(row.vips) for scope, row in balancers(cluster).items()}


def attached(cluster: Cluster, scope: str) -> list[str]:
    """Roles or nodes of whatever holds a load balancer."""
    return sorted(
        f"{column.row.owner.name}/{column.row.role}"
        for column, elements in cluster.engine.sets(MEMBER).items()
        for element in elements
        if isinstance(element, RowId) and element.table == "Load_Balancer" and element.role.endswith(f"/{scope}")
    )


def test_a_cluster_ip_is_one_row_for_everybody() -> None:
    cluster = built({}, POD_1, POD_2)
    assert vips(cluster) == {"cluster": {"172.30.0.20:80": BOTH}}
    assert attached(cluster, "cluster") == ["default/clusterLBGroup"]
    row = balancers(cluster)["cluster"]
    assert (row.protocol, row.selection_fields) == ("tcp", ())
    assert dict(row.options) == {
        "reject": "true",
        "event": "false",
        "skip_snat": "false",
        "neighbor_responder": "none",
        "hairpin_snat_ip": "169.254.169.5 fd69::5",
    }
    ids = dict(row.external_ids)
    assert (ids["k8s.ovn.org/kind"], ids["k8s.ovn.org/owner"]) == ("Service", "shop/web")


def test_external_addresses_go_with_the_cluster_ip() -> None:
    ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    spec = {"clusterIP": "172.30.0.20", "type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
    spec |= {"ports": [{"name": "http", "port": 80}], "externalIPs": ["203.0.113.6"]}
    cluster = cluster_of([*CLUSTER, m.service(spec, status=ingress)])
    assert vips(cluster) == {"cluster": {"172.30.0.20:80": "", "203.0.113.6:80": "", "203.0.113.7:80": ""}}


def test_node_ports_are_a_row_of_variables() -> None:
    cluster = built(NODE_PORT, POD_1, POD_2)
    scope = "node_switch+router_template_IPv4"
    assert vips(cluster)[scope] == {"^NODEIP_IPv4_0:30080": BOTH}
    assert attached(cluster, scope) == ["default/clusterRouterLBGroup", "default/clusterSwitchLBGroup"]
    options = dict(balancers(cluster)[scope].options)
    assert (options["template"], options["address-family"]) == ("true", "ipv4")
    variables = {row.chassis: dict(row.variables) for row in cluster.engine.rows(TEMPLATE_VARS).values()}
    assert variables == {f"c{i}": {"NODEIP_IPv4_0": f"192.0.2.{i}"} for i in (1, 2, 3)}


def test_there_is_a_vip_for_every_address_of_any_node() -> None:
    second = m.node("n4", {"host-cidrs": ["192.0.2.4/24", "198.51.100.4/24"]}, address="192.0.2.4")
    cluster = built(NODE_PORT, POD_1, nodes=[*CLUSTER, second])
    found = vips(cluster)["node_switch+router_template_IPv4"]
    assert sorted(found) == ["^NODEIP_IPv4_0:30080", "^NODEIP_IPv4_1:30080"]


def test_without_template_variables_every_node_has_its_row() -> None:
    cluster = built(NODE_PORT, POD_1, settings=Settings(has_template_variables=False))
    assert not cluster.engine.rows(TEMPLATE_VARS)
    assert vips(cluster) == {
        "cluster": {"172.30.0.20:80": "10.128.1.9:8080"},
        **{f"node_router+switch_n{i}": {f"192.0.2.{i}:30080": "10.128.1.9:8080"} for i in (1, 2, 3)},
    }
    assert attached(cluster, "node_router+switch_n2") == ["n2/gateway", "n2/switch"]


def test_external_policy_local() -> None:
    """The node with an endpoint keeps the client's address; the others reject, all by one row; pods reach all."""
    cluster = built({**NODE_PORT, "externalIPs": ["203.0.113.6"], "externalTrafficPolicy": "Local"}, POD_1)
    found, rows = vips(cluster), balancers(cluster)
    assert found["cluster"] == {"172.30.0.20:80": "10.128.1.9:8080"}
    assert found["node_local_router_n1"] == {
        "192.0.2.1:30080": "10.128.1.9:8080",
        "203.0.113.6:80": "10.128.1.9:8080",
    }
    assert attached(cluster, "node_local_router_n1") == ["n1/gateway"]
    assert found["node_router_others"] == {"203.0.113.6:80": ""}
    assert found["node_router_template_IPv4_others"] == {"^NODEIP_IPv4_0:30080": ""}
    for scope in ("node_router_others", "node_router_template_IPv4_others"):
        assert attached(cluster, scope) == ["n2/gateway", "n3/gateway"]
    assert found["node_switch_merged"] == {"203.0.113.6:80": "10.128.1.9:8080"}
    assert found["node_switch_template_IPv4"] == {"^NODEIP_IPv4_0:30080": "10.128.1.9:8080"}
    assert attached(cluster, "node_switch_merged") == ["default/clusterSwitchLBGroup"]
    keeping = {scope for scope, row in rows.items() if dict(row.options)["skip_snat"] == "true"}
    assert keeping == {"node_local_router_n1"}


def test_external_policy_local_without_any_endpoint_is_rejected_by_group_rows() -> None:
    cluster = built({**NODE_PORT, "externalTrafficPolicy": "Local"})
    assert vips(cluster)["node_router_template_IPv4"] == {"^NODEIP_IPv4_0:30080": ""}
    assert attached(cluster, "node_router_template_IPv4") == ["default/clusterRouterLBGroup"]


def test_internal_policy_local() -> None:
    """Node switches ask their own endpoints for the cluster IP; gateways ask all of them."""
    cluster = built({"internalTrafficPolicy": "Local"}, POD_1)
    assert vips(cluster) == {
        "node_router_merged": {"172.30.0.20:80": "10.128.1.9:8080"},
        "node_switch_n1": {"172.30.0.20:80": "10.128.1.9:8080"},
        "node_switch_others": {"172.30.0.20:80": ""},
    }
    assert attached(cluster, "node_switch_n1") == ["n1/switch"]
    assert attached(cluster, "node_switch_others") == ["n2/switch", "n3/switch"]


def test_a_node_reaches_itself_by_a_masquerade_address() -> None:
    """An endpoint on the host network: only the gateway of that host differs."""
    cluster = built({}, POD_1, HOST_2)
    everywhere = "10.128.1.9:8080,192.0.2.2:8080"
    assert vips(cluster) == {
        "node_switch_merged": {"172.30.0.20:80": everywhere},
        "node_router_n2": {"172.30.0.20:80": "10.128.1.9:8080,169.254.169.2:8080"},
        "node_router_others": {"172.30.0.20:80": everywhere},
    }
    assert attached(cluster, "node_router_others") == ["n1/gateway", "n3/gateway"]


def test_a_node_without_gateway_has_no_router_rows() -> None:
    bare = m.node(
        "n4", {"node-subnets": {"default": ["10.128.4.0/24"]}, "l3-gateway-config": {"default": {"mode": ""}}}
    )
    spec = {**NODE_PORT, "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}
    here = {"addresses": ["10.128.4.9"], "nodeName": "n4"}
    cluster = built(spec, here, nodes=[NETWORK, *CLUSTER[2:], bare])
    assert attached(cluster, "node_switch_n4") == ["n4/switch"]
    assert not [scope for scope in vips(cluster) if "router_n4" in scope]
    assert attached(cluster, "node_router_template_IPv4") == ["default/clusterRouterLBGroup"]


@pytest.mark.parametrize("timeout_s", [None, 600, 86_400])
def test_affinity_is_a_hash_of_the_client(timeout_s: int | None) -> None:
    """Of any timeout, and wherever the vip stands: OVN 23.03 loses the first connection that it is to remember."""
    config = {"clientIP": {"timeoutSeconds": timeout_s}} if timeout_s else {}
    spec = {
        **NODE_PORT,
        "externalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": config,
    }
    bound, free = (balancers(built(each, POD_1)) for each in (spec, {**spec, "sessionAffinity": "None"}))
    assert bound.keys() == free.keys()
    assert {row.selection_fields for row in bound.values()} == {("ip_dst", "ip_src")}
    assert {row.selection_fields for row in free.values()} == {()}
    assert not any("affinity_timeout" in dict(row.options) for row in bound.values())


def test_one_row_per_protocol_and_brackets_around_ipv6() -> None:
    network = m.network(
        {
            "clusterNetwork": [
                {"cidr": "10.128.0.0/14", "hostPrefix": 24},
                {"cidr": "fd01::/48", "hostPrefix": 64},
            ],
            "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
        }
    )
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("tcp", "udp", "sctp")]
    spec = {"clusterIPs": ["172.30.0.20", "fd02::20"], "clusterIP": "172.30.0.20", "ipFamilyPolicy": "RequireDualStack"}
    six = m.endpoint_slice(
        [{"addresses": ["fd01::9"]}], [{"name": "udp", "port": 5353, "protocol": "UDP"}], family="IPv6"
    )
    cluster = cluster_of([network, m.node("n1"), m.service({**spec, "ports": ports}), six])
    assert {row.protocol: dict(row.vips) for row in cluster.engine.rows(LOAD_BALANCERS).values()} == {
        "tcp": {"172.30.0.20:53": "", "[fd02::20]:53": ""},
        "udp": {"172.30.0.20:53": "", "[fd02::20]:53": "[fd01::9]:5353"},
        "sctp": {"172.30.0.20:53": "", "[fd02::20]:53": ""},
    }


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName", "externalName": "db.example.com"}])
def test_who_is_not_balanced_has_no_rows_and_its_record_elsewhere(spec: Raw) -> None:
    ports = {} if spec.get("type") else {"ports": [{"port": 80}]}
    cluster = cluster_of([*CLUSTER, m.service({**spec, **ports})])
    assert not cluster.engine.rows(LOAD_BALANCERS)
    assert f"{ACCEPTED_KEY}/Service/shop/web" in cluster.engine.rows(GLOBAL_KEYS)
    cluster.apply(m.accepted(m.service({"ports": [{"port": 80}]})).items)
    assert len(cluster.engine.rows(LOAD_BALANCERS)) == 1
    assert f"{ACCEPTED_KEY}/Service/shop/web" not in cluster.engine.rows(GLOBAL_KEYS)


def test_the_record_is_on_exactly_one_row() -> None:
    rows = balancers(built({**NODE_PORT, "externalTrafficPolicy": "Local"}, POD_1, HOST_2))
    assert len(rows) > 3
    for key in (ACCEPTED_KEY, SERVICE_KEY):
        assert sum(key in dict(row.external_ids) for row in rows.values()) == 1


def test_nodes_that_claim_one_chassis_write_it_once() -> None:
    """Two rows for one chassis would have the database refuse everything else along with them."""
    twin = m.node("n0", {"node-subnets": {"default": ["10.128.9.0/24"]}, "node-chassis-id": "c1"}, address="192.0.2.9")
    cluster = built(NODE_PORT, nodes=[*CLUSTER, twin])
    rows = {row.chassis: dict(row.variables) for row in cluster.engine.rows(TEMPLATE_VARS).values()}
    assert sorted(rows) == ["c1", "c2", "c3"]
    assert len(cluster.engine.rows(TEMPLATE_VARS)) == 3
    assert rows["c1"] == {"NODEIP_IPv4_0": "192.0.2.9"}
    cluster.apply(delete=[item.ref for item in m.accepted(twin).items])
    assert {row.chassis for row in cluster.engine.rows(TEMPLATE_VARS).values()} == {"c1", "c2", "c3"}


def test_one_endpoint_changes_one_service() -> None:
    others = [m.service({"ports": [{"port": 80}]}, name=f"s{i}") for i in range(5)]
    cluster = built(NODE_PORT, POD_1)
    cluster.apply([item for other in others for item in m.accepted(other).items])
    before = dict(cluster.engine.rows(LOAD_BALANCERS))
    port = {"name": "http", "port": 8080, "protocol": "TCP"}
    delta = cluster.apply(m.accepted(m.endpoint_slice([POD_1, POD_2], [port])).items).delta
    changed = delta.rows(LOAD_BALANCERS)
    assert {row_id.owner.name for row_id in changed} == {"web"}
    assert all(before[row_id].external_ids == new.external_ids for row_id, (_, new) in changed.items())


def test_a_node_joins_and_cluster_wide_services_do_not_notice() -> None:
    cluster = built(NODE_PORT, POD_1)
    delta = cluster.apply(m.accepted(m.node("n4", address="192.0.2.4")).items).delta
    assert not delta.rows(LOAD_BALANCERS)
    assert len(delta.rows(TEMPLATE_VARS)) == 1


# ------------------------------------------------------------------------------------------- hairpin


def test_a_hairpin_is_let_in_everywhere_and_routed_nowhere() -> None:
    cluster = cluster_of(CLUSTER)
    owner = naming.CLUSTER_OWNER
    acl = cluster.engine.rows(ACLS)[RowId("ACL", owner, "hairpin")]
    assert (acl.direction, acl.priority, acl.action) == ("to-lport", 1001, "allow-related")
    assert acl.match == "ip4.src == 169.254.169.5"
    group = cluster.engine.members(MEMBER, ColumnId(naming.CLUSTER_PORT_GROUP_ROW, "acls"))
    assert RowId("ACL", owner, "hairpin") in group
    policy = cluster.engine.rows(ROUTER_POLICIES)[RowId("Logical_Router_Policy", owner, "hairpin")]
    assert (policy.match, policy.action) == (acl.match, "drop")
    others = [row.priority for row in cluster.engine.rows(ROUTER_POLICIES).values() if row is not policy]
    assert policy.priority > max(others)
