"""A Linux node's way into the hybrid overlay: its port, and routes, policies and MAC that lead there.

A policy is what takes packets to the gateway of their own node. It sees only packets that have a route, hence the
static routes, one for each node and all of one prefix: which of them is taken does not matter, a policy overrules it.
Source: OVN-Kubernetes' hybrid overlay in shared gateway mode (docs/sources.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.tables import CLUSTER
from ovnk_core.nb import naming
from ovnk_core.nb.desired import MAC_BINDINGS, MEMBER, ROUTER_POLICIES, STATIC_ROUTES, SWITCH_PORTS, object_ids
from ovnk_core.nb.match import Match, PortRef, conj, equals, text
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.nb.tables import LogicalSwitchPort, RouterPolicy, StaticMacBinding, StaticRoute
from ovnk_core.terms.address import Address, Cidr, mac_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, NodePlace

PRIORITY = 1002


@rule(driver=NODE_PLACE, out=(SWITCH_PORTS, MAC_BINDINGS, MEMBER))
def hybrid_port(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node with a gateway to the hybrid overlay -> its port, and the gateway's MAC for the cluster router."""
    gateway = place.hybrid_gateway
    if gateway is None:
        return
    port = naming.node_port_row(place.name, "hybrid")
    yield SWITCH_PORTS.row(port, LogicalSwitchPort(name=naming.hybrid_port(place.name), addresses=(mac_of(gateway),)))
    yield MEMBER.member(ColumnId(naming.node_switch_row(place.name), "ports"), port)
    row = RowId("Static_MAC_Binding", naming.node_owner(place.name), str(gateway))
    router_port = naming.router_to_switch(place.name)
    yield MAC_BINDINGS.row(row, StaticMacBinding(logical_port=router_port, ip=str(gateway), mac=mac_of(gateway)))


@rule(driver=NODE_PLACE, reads=(CLUSTER_NETWORK,), out=(ROUTER_POLICIES, STATIC_ROUTES, MEMBER))
def hybrid_routes(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node with a gateway to the hybrid overlay -> routes and policies that lead the hybrid range there."""
    network, gateway = read(CLUSTER_NETWORK, CLUSTER), place.hybrid_gateway
    if network is None or network.hybrid is None or gateway is None:
        return
    for block in network.hybrid.cidrs:
        yield from _route(place, naming.CLUSTER_ROUTER_ROW, "hybrid", block, gateway)
        if place.has_gateway:
            cluster_router = network.join_router(4)
            yield from _route(place, naming.gateway_router_row(place.name), "hybrid-gr", block, cluster_router)
        for role, name, source in _sources(place):
            row = RowId("Logical_Router_Policy", naming.node_owner(place.name), f"{role}/{block}")
            yield ROUTER_POLICIES.row(
                row,
                RouterPolicy(
                    priority=PRIORITY,
                    match=text(conj(source, equals("ip4.dst", block))),
                    action="reroute",
                    nexthops=(str(gateway),),
                    external_ids=object_ids("HybridNodeRoute", place.name, name=name),
                ),
            )
            yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), row)


def _sources(place: NodePlace) -> Iterable[tuple[str, str, Match]]:
    """(role, name, match) of what comes from a node: from its switch, and from its gateway router."""
    name = f"hybrid-subnet-{place.name}"
    yield "hybrid", name, equals("inport", PortRef(naming.router_to_switch(place.name)))
    for interface in place.join if place.has_gateway else ():
        if interface.family == 4:
            yield "hybrid-gr", f"{name}-gr", equals("ip4.src", interface.address.host)


def _route(place: NodePlace, router: RowId, role: str, block: Cidr, hop: Address) -> Iterable[Output]:
    row = RowId("Logical_Router_Static_Route", naming.node_owner(place.name), f"{role}/{block}")
    yield STATIC_ROUTES.row(row, StaticRoute(ip_prefix=str(block), nexthop=str(hop)))
    yield MEMBER.member(ColumnId(router, "static_routes"), row)


RULES = (hybrid_port, hybrid_routes)
