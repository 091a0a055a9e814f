"""Entries that no user asks for: turns, decisions, and the end of old request ids."""

from __future__ import annotations

import msgspec

from ovnk_core.ingest.outcome import Item, Refused
from ovnk_core.keeper.committer import Overlay
from ovnk_core.keeper.proposal import REQUEST_TTL_S, Remembered
from ovnk_core.store.entry import Change, StoreKey
from ovnk_core.terms.struct import Value

TURN_KEY = StoreKey("meta", "", "", "turn")
MAX_EXPIRED = 1_000
"""Request ids that one entry forgets."""


class Done(Value, frozen=True, kw_only=True):
    """A plan whose answer is the revision."""

    changes: tuple[Change, ...]
    items: dict[StoreKey, Item | Refused] = {}

    def answer(self, revision: int) -> int:
        return revision


class Turn(Value, frozen=True, kw_only=True):
    """A turn as the log has it. Its number fences the northbound: it rises with every turn in the log, whatever the
    store counts, so that a store may be exported and imported elsewhere."""

    holder: str
    number: int


class TurnBegins(Value, frozen=True, kw_only=True):
    """The first entry of a turn; its answer is the turn's number. ``above``: a number it must exceed."""

    holder: str
    above: int = 0
    author: str = ""
    touches_network: bool = False

    def plan(self, view: Overlay) -> TurnPlan:
        stored = view.get(TURN_KEY)
        last = msgspec.json.decode(stored.value, type=Turn).number if stored else 0
        turn = Turn(holder=self.holder, number=max(last, self.above) + 1)
        return TurnPlan(number=turn.number, changes=(Change(key=TURN_KEY, value=msgspec.json.encode(turn)),))


class TurnPlan(Value, frozen=True, kw_only=True):
    """A plan whose answer is the number of a turn."""

    number: int
    changes: tuple[Change, ...]
    items: dict[StoreKey, Item | Refused] = {}

    def answer(self, revision: int) -> int:
        return self.number


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
