"""What is told of egress IPs when a decision about one is recorded: where an address came to, or why it is nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovnk_core.keeper.document import read_decision
from ovnk_core.keeper.events import Severity
from ovnk_core.model.egress_ip import EgressIPDecision
from ovnk_core.store.entry import Stored, StoreKey
from ovnk_core.store.history import Edit

_NOWHERE = EgressIPDecision()


class Move(NamedTuple):
    """One event. ``reason`` is Assigned, or the one why the address is on no node."""

    reason: str
    message: str
    severity: Severity


def moves_of(edit: Edit) -> Iterator[Move]:
    """Events of one recorded decision; none of another kind, or of one that only repeats what was told before."""
    if (edit.key.space, edit.key.kind) != ("decision", "EgressIP"):
        return
    before, after = _read(edit.key, edit.before), _read(edit.key, edit.after)
    for each in after.assignments:
        if each not in before.assignments:
            yield Move("Assigned", f"{each.address} is on {each.node}", "Normal")
    for one in after.unassigned:
        if one not in before.unassigned:
            severity: Severity = "Normal" if one.reason == "Moving" else "Warning"
            yield Move(one.reason, f"{one.address}: {one.message}", severity)


def _read(key: StoreKey, stored: Stored | None) -> EgressIPDecision:
    decision = read_decision(key, stored.value) if stored else _NOWHERE
    assert isinstance(decision, EgressIPDecision)
    return decision
