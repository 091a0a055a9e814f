"""Entries that no user asks for: turns, decisions, and the end of old request ids."""

from __future__ import annotations

import msgspec

from ovnk_core.ingest.outcome import Item, Refused
from ovnk_core.keeper.committer import Overlay
from ovnk_core.keeper.proposal import REQUEST_TTL_S, Remembered
from ovnk_core.store.entry import Change, StoreKey
from ovnk_core.terms.struct import Value

TURN_KEY = StoreKey("meta", "", "", "turn")
SEAL_BITS, MAX_RECENT = 32, 64
MAX_EXPIRED = 1_000
"""Request ids that one entry forgets."""


class Done(Value, frozen=True, kw_only=True):
    """A plan whose answer is the revision."""

    changes: tuple[Change, ...]
    items: dict[StoreKey, Item | Refused] = {}

    def answer(self, revision: int) -> int:
        return revision


class Turn(Value, frozen=True, kw_only=True):
    """A turn as the log has it. ``number`` rises with every turn in the log, whatever the store counts; ``seal`` is
    drawn for it, so that two stores that count alike never have the same turn. ``recent``: epochs of the turns before
    it in this log, the newest last. Whoever wrote a northbound in a turn that is not among them had another log."""

    holder: str
    number: int
    seal: int = 0
    recent: tuple[int, ...] = ()

    @property
    def epoch(self) -> int:
        """What fences the northbound: the number, then the seal."""
        return self.number << SEAL_BITS | self.seal


class TurnBegins(Value, frozen=True, kw_only=True):
    """The first entry of a turn; its answer is the turn. ``above``: a number it must exceed."""

    holder: str
    seal: int
    above: int = 0
    author: str = ""
    touches_network: bool = False

    def plan(self, view: Overlay) -> TurnPlan:
        stored = view.get(TURN_KEY)
        last = msgspec.json.decode(stored.value, type=Turn) if stored else None
        number = max(last.number if last else 0, self.above) + 1
        recent = (*last.recent, last.epoch)[-MAX_RECENT:] if last else ()
        turn = Turn(holder=self.holder, number=number, seal=self.seal, recent=recent)
        return TurnPlan(turn=turn, changes=(Change(key=TURN_KEY, value=msgspec.json.encode(turn)),))


class TurnPlan(Value, frozen=True, kw_only=True):
    """A plan whose answer is a turn."""

    turn: Turn
    changes: tuple[Change, ...]
    items: dict[StoreKey, Item | Refused] = {}

    def answer(self, revision: int) -> Turn:
        return self.turn


class WriteDecisions(Value, frozen=True, kw_only=True):
    """Decisions as they are now; what is kept already is no change."""

    values: dict[StoreKey, bytes | None]
    author: str = ""
    touches_network: bool = False

    def plan(self, view: Overlay) -> Done:
        changes: list[Change] = []
        for key, value in self.values.items():
            stored = view.get(key)
            if (stored.value if stored else None) != value:
                changes.append(Change(key=key, value=value))
        return Done(changes=tuple(changes))


class Expire(Value, frozen=True, kw_only=True):
    """Forget request ids that are older than a day, the oldest thousand of them."""

    now_s: int
    author: str = ""
    touches_network: bool = False

    def plan(self, view: Overlay) -> Done:
        old: list[StoreKey] = []
        for key, stored in view.requests():
            if msgspec.json.decode(stored.value, type=Remembered).at_s < self.now_s - REQUEST_TTL_S:
                old.append(key)
                if len(old) == MAX_EXPIRED:
                    break
        return Done(changes=tuple(Change(key=key, value=None) for key in old))
