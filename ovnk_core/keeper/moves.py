"""What is told of egress IPs when a decision about one, or about a node that may hold some, is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovnk_core.errors import Mention
from ovnk_core.keeper.document import read_decision
from ovnk_core.keeper.events import Severity
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.store.history import Edit

_NOWHERE, _HEALTHY = EgressIPDecision(), NodeHealth()


class Move(NamedTuple):
    """One event. ``reason`` is Assigned, or the one why the address is on no node; of a node what became of it.
    ``mentions``: the node that ``message`` names beside what the event is about."""

    reason: str
    message: str
    severity: Severity
    mentions: tuple[Mention, ...] = ()


def moves_of(edit: Edit) -> Iterator[Move]:
    """Events of one recorded decision; none of another kind, or of one that only repeats what was told before."""
    if edit.key.space != "decision" or edit.key.kind not in ("EgressIP", "NodeHealth"):
        return
    before, after = (read_decision(edit.key, each.value) if each else None for each in (edit.before, edit.after))
    if edit.key.kind == "NodeHealth":
        yield from _of_node(before or _HEALTHY, after or _HEALTHY)
    else:
        yield from _of_egress_ip(before or _NOWHERE, after or _NOWHERE)


def _of_egress_ip(before: object, after: object) -> Iterator[Move]:
    assert isinstance(before, EgressIPDecision) and isinstance(after, EgressIPDecision)
    left = {each.address: Mention("Node", "", each.node) for each in (*before.leaving, *before.assignments)}
    for each in after.assignments:
        if each not in before.assignments:
            at, was = Mention("Node", "", each.node), left.get(each.address)
            moved = f", moved from {was.text}" if was not in (None, at) else ""
            yield Move("Assigned", f"{each.address} is on {at.text}{moved}", "Normal", (at, *([was] if moved else ())))
    for one in after.unassigned:
        if one in before.unassigned:
            continue
        was = left.get(one.address)
        if one.reason == "Moving" and was is not None:
            # Where to is decided when no northbound holds it there any more.
            yield Move("Moving", f"{one.address} leaves {was.text}", "Normal", (was,))
        else:
            severity: Severity = "Normal" if one.reason == "Moving" else "Warning"
            yield Move(one.reason, f"{one.address}: {one.message}", severity, one.mentions)


def _of_node(before: object, after: object) -> Iterator[Move]:
    assert isinstance(before, NodeHealth) and isinstance(after, NodeHealth)
    if after.is_drained != before.is_drained:
        holds = "no egress IP until it is uncordoned" if after.is_drained else "egress IPs again"
        yield Move("Drained" if after.is_drained else "Uncordoned", f"may hold {holds}", "Normal")
    if after.is_reachable and not before.is_reachable:
        yield Move("Reachable", "is well, and answers again", "Normal")
    elif before.is_reachable and not after.is_reachable:
        yield Move("Unreachable", "is not well, or does not answer, so it may hold no egress IP", "Warning")
