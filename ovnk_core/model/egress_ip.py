"""EgressIP: source addresses for what pods send to outside the cluster (15.9).

Which node holds which address is no part of the object: it depends on what happened before, so it is a recorded
decision (``EgressIPDecision``). Source: manual 15.9.2, 15.9.3.
"""

from __future__ import annotations

from typing import Literal, get_args

from ovnk_core.errors import Mention
from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address
from ovnk_core.terms.label import EVERYTHING, LabelSelector
from ovnk_core.terms.struct import Value

ASSIGNABLE_LABEL = "k8s.ovn.org/egress-assignable"
"""The key alone counts (15.9.3)."""

UnassignedReason = Literal["NoNode", "Conflict", "Capacity", "Subnet", "Platform", "Moving"]
"""``NoNode``: no node is labelled, Ready, reachable and not being drained. ``Conflict``: the address is a node's, or
another object's. ``Capacity``: every node that could hold it holds another address of the object. ``Subnet``: it lies
in no eligible node's primary subnet. ``Platform``: 15.9.1.1. ``Moving``: withdrawn, and not yet placed anew."""
REASONS: tuple[UnassignedReason, ...] = get_args(UnassignedReason)
OF_NODE = " of node "
"""What stands before the name of a node at the end of a message, and nowhere else in one."""


class EgressIP(Declared, frozen=True, kw_only=True):
    """``addresses`` as written, canonical, without duplicates. ``namespaces`` is required by the API; an empty selector
    matches every namespace."""

    addresses: tuple[Address, ...] = ()
    namespaces: LabelSelector = EVERYTHING
    pods: LabelSelector = EVERYTHING


class EgressAssignment(Value, frozen=True, kw_only=True, gc=False):
    """``address`` is on ``node``."""

    address: Address
    node: str


class UnassignedAddress(Value, frozen=True, kw_only=True, gc=False):
    """Why ``address`` is on no node; ``message`` is one plain sentence without the address."""

    address: Address
    reason: UnassignedReason
    message: str

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """The node that ``message`` names, if it names one."""
        _, found, name = self.message.rpartition(OF_NODE)
        return (Mention("Node", "", name),) if found else ()


class EgressIPDecision(Value, frozen=True, kw_only=True):
    """Where the addresses of one EgressIP are: each stands in exactly one of ``assignments`` and ``unassigned``, in the
    object's order. ``leaving``: what was withdrawn from a node, but may still be in a northbound, in order of address:
    nobody may place such an address before the withdrawal is Programmed. It may be one that the object names no more,
    and the object may be gone: its decision then lasts as long as ``leaving`` does."""

    assignments: tuple[EgressAssignment, ...] = ()
    unassigned: tuple[UnassignedAddress, ...] = ()
    leaving: tuple[EgressAssignment, ...] = ()

    @property
    def is_placed(self) -> bool:
        """Whether an address is on a node, or on its way from one to the next: only then are the object's pods served
        by it, and not by the next one that selects them."""
        return bool(self.assignments or self.leaving)


class NodeHealth(Value, frozen=True, kw_only=True, gc=False):
    """What was reported of a node beside its Ready condition, as a recorded decision: absent means that nothing was.
    ``is_drained``: it is to be rebooted, and gets no egress IP until it is taken back."""

    is_reachable: bool = True
    is_drained: bool = False
