"""Router stages: ip_routing, policy, policy_ecmp and snat, as northd writes them.

A policy with several next hops is a group: one flow has each connection draw a number, one flow for each number sends
it on. northd counts groups out; here a group's number is its row's uuid.

Priority of a route is three times its prefix length, plus 2 when connected, 1 when static, 0 when by source.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.flows.flow import (
    DROP,
    FLOW,
    LR_IN_IP_ROUTING,
    LR_IN_POLICY,
    LR_IN_POLICY_ECMP,
    LR_OUT_SNAT,
    NEXT,
    Actions,
    FlowId,
    LogicalFlow,
)
from ovnk_core.flows.places import PORT_HOME
from ovnk_core.nb.desired import ADDRESS_SETS, MEMBER, NATS, ROUTER_POLICIES, ROUTER_PORTS, ROUTERS, STATIC_ROUTES
from ovnk_core.nb.match import AddressSetRef, Is, Match, Not, PortRef, Test, conj, disj, equals
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import ColumnId, Element, RowId
from ovnk_core.nb.tables import AddressSet, LogicalRouter, LogicalRouterPort, Nat, RouterPolicy, StaticRoute
from ovnk_core.terms.address import Address, Cidr, cidr, parse_address, parse_cidr, parse_interface

LINK_LOCAL = cidr("fe80::/64")
CONNECTED, STATIC, BY_SOURCE = 2, 1, 0
MAIN_TABLE = Test("reg7", (0,))
FORCE_SNAT = "flags.force_snat_for_lb"
POLICY_GROUP, POLICY_CHOICE = "reg8[0..15]", "reg8[16..31]"

ROUTER_PORT = SetTable[RowId, RowId]("flow.router_port")
"""Router -> its ports."""
ROW_ROUTER = SetTable[RowId, RowId]("flow.row_router")
"""Route, policy or NAT row -> the router that holds it."""
SET_NAME = Table[str, str]("flow.set_name")
"""Uuid of an address set -> its name."""


@rule(driver=MEMBER, out=(ROUTER_PORT, ROW_ROUTER))
def router_members(read: Reader, key: tuple[ColumnId, Element], row: None) -> Iterable[Output]:
    """Members of a router's columns, both ways round."""
    column, element = key
    if column.row.table != "Logical_Router" or not isinstance(element, RowId):
        return
    if column.column == "ports":
        yield ROUTER_PORT.member(column.row, element)
    elif column.column in ("static_routes", "policies", "nat"):
        yield ROW_ROUTER.member(element, column.row)


@rule(driver=ROUTERS, out=(FLOW,))
def router_flows(read: Reader, key: RowId, router: LogicalRouter) -> Iterable[Output]:
    """A router -> the fixed flows of its stages."""
    fixed: tuple[tuple[str, int, str, Actions], ...] = (
        (LR_IN_IP_ROUTING, 10550, "nd_rs || nd_ra", DROP),
        (LR_IN_IP_ROUTING, 0, "1", DROP),
        (LR_IN_POLICY, 0, "1", NEXT),
        (LR_IN_POLICY_ECMP, 150, f"{POLICY_GROUP} == 0", NEXT),
        (LR_IN_POLICY_ECMP, 0, "1", DROP),
        (LR_OUT_SNAT, 120, "nd_ns", NEXT),
        (LR_OUT_SNAT, 0, "1", NEXT),
    )
    if dict(router.options).get("mcast_relay") == "true":
        # To groups somebody joined there are flows above this one, made of what chassis learned: no row says so.
        fixed = (*fixed, (LR_IN_IP_ROUTING, 10450, "ip4.mcast || ip6.mcast", DROP))
    for stage, priority, match, actions in fixed:
        flow = LogicalFlow(stage=stage, priority=priority, match=parse(match), actions=actions, source=key, where=key)
        yield FLOW.row(FlowId(key, stage, str(priority)), flow)


@rule(driver=ROUTER_PORTS, reads=(PORT_HOME, ROUTERS), out=(FLOW,))
def port_flows(read: Reader, key: RowId, port: LogicalRouterPort) -> Iterable[Output]:
    """A router port -> its connected routes, and forced translation on gateway routers that ask for it."""
    home = read(PORT_HOME, key)
    router = read(ROUTERS, home) if home is not None else None
    for text in port.networks:
        interface = parse_interface(text)
        subnet = interface.subnet
        match = equals(f"ip{subnet.family}.dst", subnet)
        actions = Actions(outport=port.name)
        yield _flow(key, LR_IN_IP_ROUTING, str(subnet), _priority(subnet, CONNECTED), match, actions)
        if router is not None and dict(router.options).get("lb_force_snat_ip") == "router_ip":
            forced = conj(Test(FORCE_SNAT, (1,)), Is(f"ip{subnet.family}"), equals("outport", PortRef(port.name)))
            yield _flow(key, LR_OUT_SNAT, f"force/{subnet}", 110, forced, Actions(source=interface.address))
    local = conj(equals("inport", PortRef(port.name)), equals("ip6.dst", LINK_LOCAL))
    priority = _priority(LINK_LOCAL, CONNECTED)
    yield _flow(key, LR_IN_IP_ROUTING, "link-local", priority, local, Actions(outport=port.name))


@rule(driver=STATIC_ROUTES, reads=(ROW_ROUTER, ROUTER_PORT, ROUTER_PORTS), out=(FLOW,))
def route_flows(read: Reader, key: RowId, route: StaticRoute) -> Iterable[Output]:
    """A static route -> one flow, out of the port whose network holds the next hop (or the one it names)."""
    prefix, _ = parse_cidr(route.ip_prefix)
    hop = parse_address(route.nexthop)
    outport = route.output_port or _reaching(read, key, hop)
    if not outport:
        return
    if route.policy == "src-ip":
        match, kind = equals(f"ip{prefix.family}.src", prefix), BY_SOURCE
    else:
        match, kind = conj(MAIN_TABLE, equals(f"ip{prefix.family}.dst", prefix)), STATIC
    actions = Actions(outport=outport, next_hop=hop)
    yield _flow(key, LR_IN_IP_ROUTING, "", _priority(prefix, kind), match, actions)


@rule(driver=ROUTER_POLICIES, reads=(ROW_ROUTER, ROUTER_PORT, ROUTER_PORTS), out=(FLOW,))
def policy_flows(read: Reader, key: RowId, policy: RouterPolicy) -> Iterable[Output]:
    """A router policy -> one flow; with several next hops one more for each."""
    if policy.action == "reroute":
        hops = [parse_address(each) for each in sorted(policy.nexthops)]
        found = [Actions(outport=_reaching(read, key, hop), next_hop=hop) for hop in hops]
        if not all(each.outport for each in found):
            return
        actions, group = found[0], UUID(key.uuid).int
        if len(found) > 1:
            actions = Actions(group=group, choices=len(found))
            for number, each in enumerate(found, 1):
                match = conj(Test(POLICY_GROUP, (group,)), Test(POLICY_CHOICE, (number,)))
                yield _flow(key, LR_IN_POLICY_ECMP, str(number), 100, match, each)
    else:
        actions = NEXT if policy.action == "allow" else DROP
    yield _flow(key, LR_IN_POLICY, "", policy.priority, parse(policy.match), actions)


@rule(driver=ADDRESS_SETS, out=(SET_NAME,))
def set_names(read: Reader, key: RowId, row: AddressSet) -> Iterable[Output]:
    """An address set -> its name, for rows that refer to it by uuid."""
    yield SET_NAME.row(key.uuid, row.name)


@rule(driver=NATS, reads=(SET_NAME,), out=(FLOW,))
def nat_flows(read: Reader, key: RowId, nat: Nat) -> Iterable[Output]:
    """A source translation -> one flow; the longer logical prefix wins, of those that are for the destination."""
    if nat.type != "snat":
        return
    text = nat.logical_ip
    logical = parse_cidr(text)[0] if "/" in text else parse_address(text).host
    first = disj(Not(Is("ct.trk")), Not(Is("ct.rpl")))
    allowed = read(SET_NAME, nat.allowed_ext_ips) if nat.allowed_ext_ips is not None else None
    to = (equals(f"ip{logical.family}.dst", AddressSetRef(allowed)),) if allowed is not None else ()
    match = conj(Is("ip"), equals(f"ip{logical.family}.src", logical), *to, first)
    yield _flow(key, LR_OUT_SNAT, "", logical.prefix + 1, match, Actions(source=parse_address(nat.external_ip)))


def _reaching(read: Reader, row: RowId, hop: Address) -> str:
    """Name of the router port whose network holds the next hop."""
    for router in read(ROW_ROUTER, row):
        for port_id in sorted(read(ROUTER_PORT, router)):
            port = read(ROUTER_PORTS, port_id)
            if port is not None and any(parse_interface(text).subnet.contains(hop) for text in port.networks):
                return port.name
    return ""


def _priority(prefix: Cidr, kind: int) -> int:
    return prefix.prefix * 3 + kind


def _flow(key: RowId, stage: str, variant: str, priority: int, match: Match, actions: Actions) -> Output:
    return FLOW.row(
        FlowId(key, stage, variant),
        LogicalFlow(stage=stage, priority=priority, match=match, actions=actions, source=key, where=key),
    )


RULES = (router_members, router_flows, port_flows, route_flows, policy_flows, set_names, nat_flows)
