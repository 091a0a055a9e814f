"""Load-balancer stages of switches and gateway routers, as northd writes them.

A switch sends every ip packet of its own ports through tracking (pre_lb, pre_stateful), picks a backend for new
connections (lb) and turns around a packet whose backend is its sender (the hairpin stages). A gateway router tracks
packets to vips (defrag) and picks in dnat, where it also decides about the source.

Vips of ours always have a port, none remembers its clients (``affinity_timeout``), gateway routers of ours always ask
for ``lb_force_snat_ip``, and switches with load balancers always have ACLs: what northd does otherwise is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable
from ovnk_core.flows import flow as f
from ovnk_core.flows.flow import FLOW, NEXT, Actions, Attached, FlowId, LogicalFlow, Side
from ovnk_core.flows.places import BALANCING_GROUP, GROUP_SIDE, PORT_HOME, side_of
from ovnk_core.nb.desired import LOAD_BALANCERS, MEMBER, ROUTERS, SWITCH_PORTS, SWITCHES
from ovnk_core.nb.match import Is, Match, Not, PortRef, Term, Test, VariableRef, conj, equals
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import ColumnId, Element, RowId
from ovnk_core.nb.tables import LoadBalancer, LogicalRouter, LogicalSwitch, LogicalSwitchPort
from ovnk_core.terms.address import Address, Family, parse_address
from ovnk_core.terms.struct import Key

BALANCED = "reg0[2]"
BALANCES, SKIPS_SNAT = "balances", "skips snat"
Fixed = tuple[str, int, str, Actions]
MadeFlow = tuple[str, int, Match, Actions]

TRAIT = SetTable[RowId, str]("flow.balancer_trait")
"""Switch, router or load-balancer group -> what its load balancers ask of the datapath, each once."""
IN_GROUP = SetTable[RowId, RowId]("flow.balancer_in_group")
"""Load balancer -> the groups that hold it."""
ON_SIDE = SetTable[RowId, Side]("flow.balancer_on_side")
"""Load balancer -> whether some switch, or some router, holds it itself."""


class Vip(Key, frozen=True):
    """One entry of ``vips``. ``term`` is the address as a match compares it."""

    term: Term
    family: Family
    port: int
    backends: tuple[tuple[Address, int], ...]


_SWITCH: tuple[Fixed, ...] = (
    (f.LS_IN_PRE_LB, 110, "eth.dst == $svc_monitor_mac", NEXT),
    (f.LS_IN_PRE_LB, 110, "eth.mcast", NEXT),
    (f.LS_IN_PRE_LB, 110, "nd || nd_rs || nd_ra || mldv1 || mldv2", NEXT),
    (f.LS_IN_PRE_LB, 110, "reg0[16] == 1", NEXT),
    (f.LS_IN_PRE_LB, 0, "1", NEXT),
    (f.LS_IN_PRE_STATEFUL, 110, f"{BALANCED} == 1", NEXT),
    (f.LS_IN_PRE_STATEFUL, 100, "reg0[0] == 1", NEXT),
    *((stage, 0, "1", NEXT) for stage in (f.LS_IN_PRE_STATEFUL, f.LS_IN_LB)),
    *((stage, 0, "1", NEXT) for stage in (f.LS_IN_PRE_HAIRPIN, f.LS_IN_NAT_HAIRPIN, f.LS_IN_HAIRPIN)),
)
_BALANCING_SWITCH: tuple[Fixed, ...] = (
    (f.LS_IN_PRE_LB, 100, "ip", Actions(bits=(BALANCED,))),
    (f.LS_IN_PRE_HAIRPIN, 100, "ip && ct.trk", NEXT),
    (f.LS_IN_NAT_HAIRPIN, 100, "ip && ct.est && ct.trk && reg0[6] == 1", NEXT),
    (f.LS_IN_NAT_HAIRPIN, 100, "ip && ct.new && ct.trk && reg0[6] == 1", NEXT),
    (f.LS_IN_NAT_HAIRPIN, 90, "ip && reg0[12] == 1", NEXT),
    (f.LS_IN_HAIRPIN, 1, "(reg0[6] == 1 || reg0[12] == 1)", NEXT),
)
_ROUTER: tuple[Fixed, ...] = tuple((stage, 0, "1", NEXT) for stage in (f.LR_IN_DEFRAG, f.LR_IN_DNAT))
_FOLLOWING = "ct.est && !ct.rel && !ct.new && ct_mark.natted"
_RELATED = "ct.rel && !ct.est && !ct.new"
_BALANCING_ROUTER: tuple[Fixed, ...] = (
    (f.LR_IN_DNAT, 70, f"{_FOLLOWING} && ct_mark.force_snat == 1", Actions(force_snat=True)),
    (f.LR_IN_DNAT, 70, f"{_FOLLOWING} && ct_mark.skip_snat == 1", Actions(skip_snat=True)),
    (f.LR_IN_DNAT, 70, f"{_RELATED} && ct_mark.force_snat == 1", Actions(force_snat=True)),
    (f.LR_IN_DNAT, 70, f"{_RELATED} && ct_mark.skip_snat == 1", Actions(skip_snat=True)),
    (f.LR_IN_DNAT, 50, _FOLLOWING, NEXT),
    (f.LR_IN_DNAT, 50, _RELATED, NEXT),
)
_SKIPPING_ROUTER: tuple[Fixed, ...] = ((f.LR_OUT_SNAT, 120, "flags.skip_snat_for_lb == 1 && ip", NEXT),)


@rule(driver=MEMBER, reads=(LOAD_BALANCERS,), out=(TRAIT, IN_GROUP, ON_SIDE))
def holders(read: Reader, key: tuple[ColumnId, Element], row: None) -> Iterable[Output]:
    """A load balancer in a load_balancer column -> who holds it, and what the holder's datapaths must do about it."""
    column, element = key
    if column.column != "load_balancer" or not isinstance(element, RowId):
        return
    if column.row.table == "Load_Balancer_Group":
        yield IN_GROUP.member(element, column.row)
    else:
        yield ON_SIDE.member(element, side_of(column.row))
    balancer = read(LOAD_BALANCERS, element)
    if balancer is not None:
        yield TRAIT.member(column.row, BALANCES)
        if _skips_snat(balancer):
            yield TRAIT.member(column.row, SKIPS_SNAT)


def _skips_snat(balancer: LoadBalancer) -> bool:
    return dict(balancer.options).get("skip_snat") == "true"


def _traits_of(read: Reader, datapath: RowId) -> frozenset[str]:
    holding = (datapath, *sorted(read(BALANCING_GROUP, datapath)))
    return frozenset(trait for holder in holding for trait in read(TRAIT, holder))


@rule(driver=SWITCHES, reads=(TRAIT, BALANCING_GROUP), out=(FLOW,))
def switch_flows(read: Reader, key: RowId, switch: LogicalSwitch) -> Iterable[Output]:
    """A switch -> the fixed flows of its stages, with or without load balancers."""
    yield from _fixed(key, (*_SWITCH, *(_BALANCING_SWITCH if BALANCES in _traits_of(read, key) else ())))


@rule(driver=ROUTERS, reads=(TRAIT, BALANCING_GROUP), out=(FLOW,))
def router_flows(read: Reader, key: RowId, router: LogicalRouter) -> Iterable[Output]:
    """A router -> the fixed flows of its stages, with or without load balancers."""
    found = _traits_of(read, key)
    more = (*(_BALANCING_ROUTER if BALANCES in found else ()), *(_SKIPPING_ROUTER if SKIPS_SNAT in found else ()))
    yield from _fixed(key, (*_ROUTER, *more))


def _fixed(key: RowId, flows: Iterable[Fixed]) -> Iterator[Output]:
    for stage, priority, match, actions in flows:
        flow = LogicalFlow(stage=stage, priority=priority, match=parse(match), actions=actions, source=key, where=key)
        yield FLOW.row(FlowId(key, stage, f"{priority} {match}"), flow)


@rule(driver=SWITCH_PORTS, reads=(PORT_HOME,), out=(FLOW,))
def unbalanced_ports(read: Reader, key: RowId, port: LogicalSwitchPort) -> Iterable[Output]:
    """A router or localnet port of a switch: what comes through it was balanced where it came from, or will be."""
    home = read(PORT_HOME, key)
    if port.type in ("router", "localnet") and home is not None:
        match = conj(Is("ip"), equals("inport", PortRef(port.name)))
        yield FLOW.row(
            FlowId(key, f.LS_IN_PRE_LB),
            LogicalFlow(stage=f.LS_IN_PRE_LB, priority=110, match=match, actions=NEXT, source=key, where=key),
        )


# ------------------------------------------------------------------------------------------- one load balancer


@rule(driver=LOAD_BALANCERS, reads=(IN_GROUP, ON_SIDE, GROUP_SIDE), out=(FLOW,))
def balancer_flows(read: Reader, key: RowId, balancer: LoadBalancer) -> Iterable[Output]:
    """A load balancer -> its flows on the switches and routers of each group, and on those that hold it themselves.

    One set of flows per group rather than one for all datapaths: which datapaths a group is on is kept once, not for
    each of thousands of load balancers.
    """
    places = [
        Attached(group, side) for group in sorted(read(IN_GROUP, key)) for side in sorted(read(GROUP_SIDE, group))
    ]
    places += [Attached(key, side) for side in sorted(read(ON_SIDE, key))]
    for where in places:
        for vip in _vips(balancer):
            for stage, priority, match, actions in _made(balancer, vip, where.to):
                flow = LogicalFlow(
                    stage=stage, priority=priority, match=match, actions=actions, source=key, where=where
                )
                variant = f"{where.row.role} {vip.term} {vip.port} {priority} {actions.backends}"
                yield FLOW.row(FlowId(key, stage, variant), flow)


def _made(balancer: LoadBalancer, vip: Vip, side: Side) -> Iterator[MadeFlow]:
    if side == "Logical_Switch":
        return _on_switch(vip, balancer.protocol)
    return _on_router(vip, balancer.protocol, keeps_source=_skips_snat(balancer))


def _vips(balancer: LoadBalancer) -> Iterator[Vip]:
    options = dict(balancer.options)
    for text, backends in balancer.vips:
        host, _, port = text.rpartition(":")
        found = tuple(_target(each) for each in backends.split(",") if each)
        if host.startswith("^"):
            family: Family = 6 if options.get("address-family") == "ipv6" else 4
            yield Vip(VariableRef(host[1:]), family, int(port), found)
        else:
            address, number = _target(text)
            yield Vip(address.host, address.family, number, found)


def _target(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    return parse_address(host.strip("[]")), int(port)


_NEW = Is("ct.new")


def _on_switch(vip: Vip, protocol: str) -> Iterator[MadeFlow]:
    family, port = vip.family, equals(f"{protocol}.dst", vip.port)
    target = equals(f"ip{family}.dst", vip.term)
    yield f.LS_IN_PRE_STATEFUL, 120, conj(Test(BALANCED, (1,)), target, port), NEXT
    actions = Actions(backends=vip.backends) if vip.backends else Actions(drops=True, is_reject=True)
    yield f.LS_IN_LB, 120, conj(_NEW, target, port), actions


def _on_router(vip: Vip, protocol: str, *, keeps_source: bool) -> Iterator[MadeFlow]:
    family = vip.family
    target = equals(f"ip{family}.dst", vip.term)
    yield f.LR_IN_DEFRAG, 100, conj(Is("ip"), target), NEXT
    first = conj(_NEW, Not(Is("ct.rel")), Is(f"ip{family}"), target)
    match = conj(first, Is(protocol), equals(f"{protocol}.dst", vip.port))
    force, skip = not keeps_source, keeps_source
    found = Actions(backends=vip.backends, force_snat=force, skip_snat=skip)
    actions = found if vip.backends else Actions(drops=True, is_reject=True, force_snat=force, skip_snat=skip)
    yield f.LR_IN_DNAT, 120, match, actions


RULES = (holders, switch_flows, router_flows, unbalanced_ports, balancer_flows)
