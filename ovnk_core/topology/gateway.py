"""A node's gateway: its router to the outside, the external switch, routes, translation, and the way to the node.

Shared gateway mode: what leaves a pod's node goes cluster router -> (route by source) -> GR_<node> -> ext_<node>.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.cluster import MASQUERADE, ClusterNetwork
from ovnk_core.model.tables import CLUSTER
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    MAC_BINDINGS,
    MEMBER,
    NATS,
    ROUTER_POLICIES,
    ROUTER_PORTS,
    ROUTERS,
    STATIC_ROUTES,
    SWITCH_PORTS,
    SWITCHES,
    object_ids,
)
from ovnk_core.nb.match import PortRef, conj, equals, text
from ovnk_core.nb.row import ColumnId, RowId, pairs_of
from ovnk_core.nb.tables import (
    LogicalRouter,
    LogicalRouterPort,
    LogicalSwitch,
    LogicalSwitchPort,
    Nat,
    RouterPolicy,
    StaticMacBinding,
    StaticRoute,
)
from ovnk_core.terms.address import Address, mac_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.cluster import COPP_ROW, router_facing_port
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, NodePlace

NODE_POLICY_PRIORITY = 1004
MASQUERADE_HOST, MASQUERADE_NEXT_HOP = 2, 4
"""Offsets in the masquerade range: the host's side, and a next hop that exists only in OVN."""
PHYSICAL_NETWORK = "physnet"
Column = tuple[RowId, str]


@rule(
    driver=NODE_PLACE,
    out=(ROUTERS, ROUTER_PORTS, SWITCHES, SWITCH_PORTS, MEMBER),
)
def gateway_router(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node with a gateway -> ``GR_<node>``, its port on ``join``, and ``ext_<node>`` with the localnet port."""
    if not place.has_gateway:
        return
    node, router = place.name, naming.gateway_router_row(place.name)
    physical = [str(interface.address) for interface in place.external]
    yield ROUTERS.row(
        router,
        LogicalRouter(
            name=naming.gateway_router(node),
            options=pairs_of(_gateway_options(place)),
            copp=COPP_ROW.uuid,
            external_ids=pairs_of({"physical_ip": physical[0], "physical_ips": ",".join(physical)}),
        ),
    )
    for group in ("clusterLBGroup", "clusterRouterLBGroup"):
        yield MEMBER.member(ColumnId(router, "load_balancer_group"), naming.lb_group_row(group))
    yield from _join_ports(place, router)
    yield from _external_ports(place, router)


def _gateway_options(place: NodePlace) -> dict[str, str]:
    return {
        "chassis": place.chassis,
        "lb_force_snat_ip": "router_ip",
        "snat-ct-zone": "0",
        "always_learn_from_arp_request": "false",
        "dynamic_neigh_routers": "true",
        "mac_binding_age_threshold": "300",
    }


def _join_ports(place: NodePlace, router: RowId) -> Iterable[Output]:
    port, peer = naming.router_port_row(place.name, "rtoj"), naming.node_port_row(place.name, "jtor")
    options = {} if place.gateway_mtu_bytes is None else {"gateway_mtu": str(place.gateway_mtu_bytes)}
    name = naming.router_to_join(place.name)
    networks = tuple(map(str, place.join))
    yield ROUTER_PORTS.row(
        port, LogicalRouterPort(name=name, mac=place.join_mac, networks=networks, options=pairs_of(options))
    )
    yield MEMBER.member(ColumnId(router, "ports"), port)
    yield SWITCH_PORTS.row(peer, router_facing_port(naming.join_to_router(place.name), name))
    yield MEMBER.member(ColumnId(naming.JOIN_SWITCH_ROW, "ports"), peer)


def _external_ports(place: NodePlace, router: RowId) -> Iterable[Output]:
    node, switch = place.name, naming.external_switch_row(place.name)
    port, peer = naming.router_port_row(node, "rtoe"), naming.node_port_row(node, "etor")
    name = naming.router_to_external(node)
    yield ROUTER_PORTS.row(
        port,
        LogicalRouterPort(
            name=name,
            mac=place.external_mac,
            networks=tuple(map(str, place.external)),
            external_ids=pairs_of({"gateway-physical-ip": "yes"}),
        ),
    )
    yield MEMBER.member(ColumnId(router, "ports"), port)
    yield SWITCHES.row(switch, LogicalSwitch(name=naming.external_switch(node)))
    facing = {"nat-addresses": "router", "exclude-lb-vips-from-garp": "true"}
    yield SWITCH_PORTS.row(peer, router_facing_port(naming.external_to_router(node), name, **facing))
    yield MEMBER.member(ColumnId(switch, "ports"), peer)
    localnet = naming.node_port_row(node, "localnet")
    yield SWITCH_PORTS.row(
        localnet,
        LogicalSwitchPort(
            name=place.localnet,
            type="localnet",
            addresses=("unknown",),
            options=pairs_of({"network_name": PHYSICAL_NETWORK}),
            tag_request=place.vlan or None,
        ),
    )
    yield MEMBER.member(ColumnId(switch, "ports"), localnet)


@rule(driver=NODE_PLACE, reads=(CLUSTER_NETWORK,), out=(STATIC_ROUTES, MAC_BINDINGS, MEMBER))
def gateway_routes(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """Routes into the cluster and out of it on the gateway router, and to this gateway on the cluster router.

    The join host route beats the route by source on the cluster router; without it replies to traffic that a
    gateway translated to its join address would leave through the wrong gateway.
    """
    network = read(CLUSTER_NETWORK, CLUSTER)
    if not place.has_gateway or network is None:
        return
    gateway = naming.gateway_router_row(place.name)
    for role, route in _routes_of_gateway(place, network):
        yield from _route(place, gateway, role, route)
    for interface in place.join:
        family = interface.family
        to_gateway = StaticRoute(ip_prefix=str(interface.address.host), nexthop=str(interface.address))
        yield from _route(place, naming.CLUSTER_ROUTER_ROW, f"join/{family}", to_gateway)
        for subnet in place.subnets:
            if subnet.family == family:
                by_source = StaticRoute(ip_prefix=str(subnet), nexthop=str(interface.address), policy="src-ip")
                yield from _route(place, naming.CLUSTER_ROUTER_ROW, f"source/{subnet}", by_source)
    external, join = naming.router_to_external(place.name), naming.router_to_join(place.name)
    cluster_router = mac_of(network.join_router(network.families[0]))
    for interface in place.external:
        for offset in (MASQUERADE_HOST, MASQUERADE_NEXT_HOP):
            address = MASQUERADE[interface.family].at(offset)
            yield _mac_binding(place, external, address, mac_of(address))
    # A gateway that must ask for the cluster router loses the first connection that it balances (OVN 23.03).
    for interface in place.join:
        yield _mac_binding(place, join, network.join_router(interface.family), cluster_router)


def _routes_of_gateway(place: NodePlace, network: ClusterNetwork) -> Iterable[tuple[str, StaticRoute]]:
    external = naming.router_to_external(place.name)
    for cidr in network.cidrs:
        yield f"cluster/{cidr}", StaticRoute(ip_prefix=str(cidr), nexthop=str(network.join_router(cidr.family)))
    for interface in place.external:
        masquerade = MASQUERADE[interface.family]
        hop = str(masquerade.at(MASQUERADE_NEXT_HOP))
        yield (
            f"masquerade/{masquerade}",
            StaticRoute(ip_prefix=str(masquerade), nexthop=hop, output_port=external),
        )
    for hop_address in place.next_hops:
        prefix = "0.0.0.0/0" if hop_address.family == 4 else "::/0"
        yield (
            f"default/{hop_address}",
            StaticRoute(ip_prefix=prefix, nexthop=str(hop_address), output_port=external),
        )


def _route(place: NodePlace, router: RowId, role: str, route: StaticRoute) -> Iterable[Output]:
    row = RowId("Logical_Router_Static_Route", naming.node_owner(place.name), role)
    yield STATIC_ROUTES.row(row, route)
    yield MEMBER.member(ColumnId(router, "static_routes"), row)


def _mac_binding(place: NodePlace, port: str, address: Address, mac: str) -> Output:
    row = RowId("Static_MAC_Binding", naming.node_owner(place.name), str(address))
    return MAC_BINDINGS.row(row, StaticMacBinding(logical_port=port, ip=str(address), mac=mac))


@rule(driver=NODE_PLACE, reads=(CLUSTER_NETWORK,), out=(NATS, MEMBER))
def gateway_nat(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """Pods leave with their node's address; so does the gateway's join address (ICMP errors need a valid source)."""
    network = read(CLUSTER_NETWORK, CLUSTER)
    if not place.has_gateway or network is None:
        return
    for external in place.external:
        inside = [(f"cluster/{cidr}", str(cidr)) for cidr in network.cidrs if cidr.family == external.family]
        inside += [(f"join/{j.family}", str(j.address)) for j in place.join if j.family == external.family]
        for role, logical in inside:
            row = RowId("NAT", naming.node_owner(place.name), role)
            yield NATS.row(
                row,
                Nat(
                    type="snat",
                    external_ip=str(external.address),
                    logical_ip=logical,
                    options=pairs_of({"stateless": "false"}),
                ),
            )
            yield MEMBER.member(ColumnId(naming.gateway_router_row(place.name), "nat"), row)


@rule(driver=NODE_PLACE, out=(ROUTER_POLICIES, MEMBER))
def node_policies(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """Pods reach their own node through its management port: priority 1004, one policy per host address."""
    management = {address.family: address for address in place.management}
    for host in place.hosts:
        if host.family not in management:
            continue
        row = RowId("Logical_Router_Policy", naming.node_owner(place.name), f"host/{host}")
        from_node = equals("inport", PortRef(naming.router_to_switch(place.name)))
        yield ROUTER_POLICIES.row(
            row,
            RouterPolicy(
                priority=NODE_POLICY_PRIORITY,
                match=text(conj(from_node, equals(f"ip{host.family}.dst", host.host))),
                action="reroute",
                nexthops=(str(management[host.family]),),
                external_ids=object_ids("NodeIP", place.name, ip=str(host)),
            ),
        )
        yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), row)
