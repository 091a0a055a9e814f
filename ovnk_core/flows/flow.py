"""What a logical flow is here, and the stages we claim, in the order packets meet them.

Names and priorities are northd's (OVN 23.03, ovn-northd(8) "Logical Flow Table Structure"). A flow carries a *set* of
datapaths: one ACL on a hundred switches is one flow. Which datapaths is kept apart (``FLOW_DATAPATH``), by the row
the set depends on, so that a pod joining a port group does not touch flows.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.engine.table import SetTable, Table
from ovnk_core.nb.match import Match
from ovnk_core.nb.row import RowId
from ovnk_core.terms.address import Address
from ovnk_core.terms.struct import Key, Value

LS_IN_PRE_ACL, LS_IN_ACL_HINT, LS_IN_ACL = "ls_in_pre_acl", "ls_in_acl_hint", "ls_in_acl"
LS_IN_ACL_AFTER_LB = "ls_in_acl_after_lb"
LS_IN_PRE_LB, LS_IN_PRE_STATEFUL = "ls_in_pre_lb", "ls_in_pre_stateful"
LS_IN_LB = "ls_in_lb"
LS_IN_PRE_HAIRPIN, LS_IN_NAT_HAIRPIN, LS_IN_HAIRPIN = "ls_in_pre_hairpin", "ls_in_nat_hairpin", "ls_in_hairpin"
LR_IN_DEFRAG, LR_IN_DNAT = "lr_in_defrag", "lr_in_dnat"
LR_IN_IP_ROUTING, LR_IN_POLICY, LR_IN_POLICY_ECMP = "lr_in_ip_routing", "lr_in_policy", "lr_in_policy_ecmp"
LR_OUT_SNAT = "lr_out_snat"
LS_OUT_PRE_ACL, LS_OUT_ACL_HINT, LS_OUT_ACL = "ls_out_pre_acl", "ls_out_acl_hint", "ls_out_acl"

SWITCH_INGRESS = (
    LS_IN_PRE_ACL,
    LS_IN_PRE_LB,
    LS_IN_PRE_STATEFUL,
    LS_IN_ACL_HINT,
    LS_IN_ACL,
    LS_IN_LB,
    LS_IN_PRE_HAIRPIN,
    LS_IN_NAT_HAIRPIN,
    LS_IN_HAIRPIN,
    LS_IN_ACL_AFTER_LB,
)
ROUTER_INGRESS = (LR_IN_DEFRAG, LR_IN_DNAT, LR_IN_IP_ROUTING, LR_IN_POLICY, LR_IN_POLICY_ECMP)
ROUTER_EGRESS = (LR_OUT_SNAT,)
SWITCH_EGRESS = (LS_OUT_PRE_ACL, LS_OUT_ACL_HINT, LS_OUT_ACL)
STAGES: tuple[str, ...] = (*SWITCH_INGRESS, *ROUTER_INGRESS, *ROUTER_EGRESS, *SWITCH_EGRESS)


class Actions(Key, frozen=True, cache_hash=True):
    """What a flow does, as far as a verdict depends on it. Fields that do not apply are left at their defaults.

    ``bits``: register bits set to 1 (``reg0[7]``) or cleared. ``drops``: the packet ends here.
    ``outport``/``next_hop``: route; a None next hop with an outport is the packet's own destination. ``source``:
    translate the source address.

    ``backends``: send the connection to one of these. ``is_reject``: answer that nobody listens. With ``force_snat`` a
    router hides the client behind its own address as it sends the packet out, with ``skip_snat`` it never does; both
    also hold for the packets that follow.

    ``group``: a router policy with several next hops, of which each connection draws one (1 to ``choices``).
    """

    bits: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    drops: bool = False
    outport: str = ""
    next_hop: Address | None = None
    source: Address | None = None
    backends: tuple[tuple[Address, int], ...] = ()
    is_reject: bool = False
    force_snat: bool = False
    skip_snat: bool = False
    group: int = 0
    choices: int = 0

    def __str__(self) -> str:
        parts = [f"{bit} = 1" for bit in self.bits] + [f"{bit} = 0" for bit in self.clear]
        parts += ["force_snat"] if self.force_snat else ["skip_snat"] if self.skip_snat else []
        if self.backends:
            parts.append(f"ct_lb({', '.join(f'{address} port {port}' for address, port in self.backends)})")
        if self.choices:
            parts.append(f"one of {self.choices} next hops")
        if self.outport:
            parts.append(f'outport = "{self.outport}"')
            parts.append(f"next hop {self.next_hop}" if self.next_hop else "next hop is the destination")
        if self.source:
            parts.append(f"ct_snat({self.source})")
        return "; ".join([*parts, "reject" if self.is_reject else "drop" if self.drops else "next"])


NEXT, DROP = Actions(), Actions(drops=True)


Side = Literal["Logical_Switch", "Logical_Router"]


class Attached(Key, frozen=True, order=True, cache_hash=True):
    """A load balancer, or a group of them, on switches or on routers: the same rows make different flows there."""

    row: RowId
    to: Side


Where = RowId | Attached


class FlowId(Key, frozen=True, order=True, cache_hash=True):
    """The row that made a flow, its stage, and which of that row's flows it is."""

    source: RowId
    stage: str
    variant: str = ""


class LogicalFlow(Value, frozen=True, kw_only=True):
    """``where``: what shares its datapaths (``FLOW_DATAPATH``) with this flow."""

    stage: str
    priority: int
    match: Match
    actions: Actions
    source: RowId
    where: Where


FLOW = Table[FlowId, LogicalFlow]("flow")
FLOW_DATAPATH = SetTable[Where, RowId]("flow.datapath")
"""Row, or what it is attached to -> switches or routers (as rows) that its flows are on."""
