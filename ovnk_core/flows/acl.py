"""ACL stages: pre_acl, acl_hint, acl and acl_after_lb, as northd writes them.

A switch with at least one ACL of ours is stateful (its own-node ACLs are allow-related): ip packets are tracked, hint
bits classify them, and each ACL becomes two flows: one for packets that would start or change a connection's fate
(commit), one for those that may pass as they are. A switch without ACLs lets everything through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable
from ovnk_core.flows import flow as f
from ovnk_core.flows.flow import DROP, FLOW, NEXT, Actions, FlowId, LogicalFlow
from ovnk_core.flows.places import PORT_HOME
from ovnk_core.nb.desired import ACLS, MEMBER, SWITCH_PORTS, SWITCHES
from ovnk_core.nb.match import Match, PortRef, Test, conj, equals
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import ColumnId, Element, RowId
from ovnk_core.nb.tables import Acl, LogicalSwitch, LogicalSwitchPort

ACL_PRIORITY_OFFSET = 1000
"""northd adds this to every ACL's priority."""
COMMITS, PASSES, MAY_DROP, MUST_BLOCK = "reg0[7]", "reg0[8]", "reg0[9]", "reg0[10]"
TRACKED, COMMIT, WAS_REPLY = "reg0[0]", "reg0[1]", "reg0[17]"

_HINTS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (7, "ct.new && !ct.est", (COMMITS, MAY_DROP)),
    (6, "!ct.new && ct.est && !ct.rpl && ct_mark.blocked == 1", (COMMITS, MAY_DROP)),
    (5, "!ct.trk", (PASSES, MAY_DROP)),
    (4, "!ct.new && ct.est && !ct.rpl && ct_mark.blocked == 0", (PASSES, MUST_BLOCK)),
    (3, "!ct.est", (MAY_DROP,)),
    (2, "ct.est && ct_mark.blocked == 1", (MAY_DROP,)),
    (1, "ct.est && ct_mark.blocked == 0", (MUST_BLOCK,)),
    (0, "1", ()),
)
_RELATED = "!ct.est && ct.rel && !ct.new && !ct.inv && ct_mark.blocked == 0"
_REPLY = "ct.est && !ct.rel && !ct.new && !ct.inv && ct.rpl && ct_mark.blocked == 0"
_INVALID = "ct.inv || (ct.est && ct.rpl && ct_mark.blocked == 1)"
_NEIGHBOUR = "nd || nd_ra || nd_rs || mldv1 || mldv2"
_PRE_NEIGHBOUR = "nd || nd_rs || nd_ra || mldv1 || mldv2 || (udp && udp.src == 546 && udp.dst == 547)"
_MONITOR = {"in": "eth.dst == $svc_monitor_mac", "out": "eth.src == $svc_monitor_mac"}

_SIDES = {
    "in": (f.LS_IN_PRE_ACL, f.LS_IN_ACL_HINT, f.LS_IN_ACL),
    "out": (f.LS_OUT_PRE_ACL, f.LS_OUT_ACL_HINT, f.LS_OUT_ACL),
}

Static = tuple[str, int, str, Actions]

HAS_ACLS = SetTable[RowId, RowId]("flow.has_acls")
"""Switch -> ACLs on it directly; not empty means stateful. Every node switch carries its own-node ACLs."""


def _stateful(side: str) -> Iterator[Static]:
    pre, hint, acl = _SIDES[side]
    yield pre, 110, _MONITOR[side], NEXT
    yield pre, 110, "eth.mcast", NEXT
    yield pre, 110, _PRE_NEIGHBOUR, NEXT
    yield pre, 100, "ip", Actions(bits=(TRACKED,))
    yield pre, 0, "1", NEXT
    for priority, match, bits in _HINTS:
        yield hint, priority, match, Actions(bits=bits)
    replies = Actions(bits=(WAS_REPLY,), clear=(MAY_DROP, MUST_BLOCK)) if side == "in" else NEXT
    yield acl, 65532, _RELATED, Actions(bits=(WAS_REPLY,)) if side == "in" else NEXT
    yield acl, 65532, _REPLY, replies
    yield acl, 65532, _INVALID, DROP
    yield acl, 65532, _NEIGHBOUR, NEXT
    yield acl, 34000, _MONITOR[side], NEXT
    yield acl, 1, "ip && !ct.est", Actions(bits=(COMMIT,))
    yield acl, 1, "ip && ct.est && ct_mark.blocked == 1", Actions(bits=(COMMIT,))
    yield acl, 0, "1", NEXT
    if side == "in":
        yield f.LS_IN_ACL_AFTER_LB, 65532, _NEIGHBOUR, NEXT
        yield f.LS_IN_ACL_AFTER_LB, 65532, f"{WAS_REPLY} == 1", NEXT
        yield f.LS_IN_ACL_AFTER_LB, 0, "1", NEXT


def _stateless(side: str) -> Iterator[Static]:
    pre, hint, acl = _SIDES[side]
    yield pre, 110, _MONITOR[side], NEXT
    yield pre, 0, "1", NEXT
    yield hint, 65535, "1", NEXT
    yield acl, 65535, "1", NEXT
    yield acl, 65532, _NEIGHBOUR, NEXT
    if side == "in":
        yield f.LS_IN_ACL_AFTER_LB, 65532, _NEIGHBOUR, NEXT
        yield f.LS_IN_ACL_AFTER_LB, 0, "1", NEXT


STATEFUL: tuple[tuple[str, int, Match, Actions], ...] = tuple(
    (stage, priority, parse(match), actions)
    for side in ("in", "out")
    for stage, priority, match, actions in _stateful(side)
)
STATELESS: tuple[tuple[str, int, Match, Actions], ...] = tuple(
    (stage, priority, parse(match), actions)
    for side in ("in", "out")
    for stage, priority, match, actions in _stateless(side)
)


@rule(driver=MEMBER, out=(HAS_ACLS,))
def has_acls(read: Reader, key: tuple[ColumnId, Element], row: None) -> Iterable[Output]:
    """An ACL in a switch's acls column makes the switch stateful."""
    column, acl = key
    if column.row.table == "Logical_Switch" and column.column == "acls" and isinstance(acl, RowId):
        yield HAS_ACLS.member(column.row, acl)


@rule(driver=SWITCHES, reads=(HAS_ACLS,), out=(FLOW,))
def switch_flows(read: Reader, key: RowId, switch: LogicalSwitch) -> Iterable[Output]:
    """A switch -> the fixed flows of its ACL stages."""
    for position, (stage, priority, match, actions) in enumerate(STATEFUL if read(HAS_ACLS, key) else STATELESS):
        flow = LogicalFlow(stage=stage, priority=priority, match=match, actions=actions, source=key, where=key)
        yield FLOW.row(FlowId(key, stage, str(position)), flow)


@rule(driver=SWITCH_PORTS, reads=(PORT_HOME, HAS_ACLS), out=(FLOW,))
def untracked_ports(read: Reader, key: RowId, port: LogicalSwitchPort) -> Iterable[Output]:
    """A router or localnet port of a stateful switch: ip packets through it are not tracked there."""
    home = read(PORT_HOME, key)
    if port.type not in ("router", "localnet") or home is None or not read(HAS_ACLS, home):
        return
    for stage, field in ((f.LS_IN_PRE_ACL, "inport"), (f.LS_OUT_PRE_ACL, "outport")):
        match = conj(parse("ip"), equals(field, PortRef(port.name)))
        yield FLOW.row(
            FlowId(key, stage),
            LogicalFlow(stage=stage, priority=110, match=match, actions=NEXT, source=key, where=key),
        )


@rule(driver=ACLS, out=(FLOW,))
def acl_flows(read: Reader, key: RowId, acl: Acl) -> Iterable[Output]:
    """An ACL -> its two flows. Tiers do not exist in OVN 23.03; priorities alone keep our bands apart."""
    if acl.direction == "to-lport":
        stage = f.LS_OUT_ACL
    else:
        stage = f.LS_IN_ACL_AFTER_LB if dict(acl.options).get("apply-after-lb") == "true" else f.LS_IN_ACL
    if acl.action in ("drop", "reject"):
        variants = ((MAY_DROP, DROP), (MUST_BLOCK, DROP))
    else:
        variants = ((COMMITS, Actions(bits=(COMMIT,))), (PASSES, NEXT))
    body = parse(acl.match)
    for bit, actions in variants:
        match = conj(Test(bit, (1,)), body)
        yield FLOW.row(
            FlowId(key, stage, bit),
            LogicalFlow(
                stage=stage,
                priority=acl.priority + ACL_PRIORITY_OFFSET,
                match=match,
                actions=actions,
                source=key,
                where=key,
            ),
        )


RULES = (has_acls, switch_flows, untracked_ports, acl_flows)
