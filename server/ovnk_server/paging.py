"""Pages of lists that are derived from a snapshot: rows, flows.

The lists last asked for are kept, so that pages of one show one revision while the cluster goes on changing. A token
holds the revision and how many entries the reader got, which tells nothing of those that lie between; where in the list
that is, is remembered here, or counted again. When the list is gone the reader has to start over.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import anyio.to_thread
import msgspec

from ovnk_core.errors import Compacted, SchemaError
from ovnk_core.ingest.text import show
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.snapshot import Snapshot
from ovnk_core.terms.struct import Value

T = TypeVar("T")
M = TypeVar("M")
MAX_LISTS, MAX_PLACES = 4, 1_024


class Token(Value, frozen=True, kw_only=True):
    """Where the next page of a list begins. ``asked``: the question, which may not change between pages."""

    revision: int
    given: int
    asked: str


class Kept(NamedTuple, Generic[T]):
    """A list, what its messages are made of besides, and where readers are: what they asked, how many they got."""

    entries: tuple[T, ...]
    facts: Any
    places: dict[tuple[str, int], int]


class Listed(NamedTuple, Generic[M]):
    """One page as messages."""

    found: list[M]
    token: str
    revision: int


class Listings(Generic[T, M]):
    """One kind of list. ``derive`` makes it of a snapshot, ``convert`` makes a message of an entry; both run in worker
    threads."""

    def __init__(
        self,
        keeper: Keeper,
        derive: Callable[[Snapshot], tuple[T, ...]],
        convert: Callable[[T, Any], M],
        *,
        facts: Callable[[Snapshot], Any],
    ) -> None:
        self._keeper, self._derive, self._convert, self._facts = keeper, derive, convert, facts
        self._kept: OrderedDict[int, Kept[T]] = OrderedDict()

    async def page(self, wanted: Callable[[T], bool], *, limit: int, token: str, asked: str) -> Listed[M]:
        """The next entries that are ``wanted``, which follows from ``asked`` alone: who asks, and for what. Raises
        SchemaError for a token that is not ours, or Compacted."""
        start = read_token(token, asked) if token else None
        revision, kept = await self._list(start)
        given = start.given if start else 0

        def convert() -> tuple[list[M], int]:
            place = kept.places.get((asked, given))
            passed, found = 0 if place is None else given, list[M]()
            for offset in range(place or 0, len(kept.entries)):
                entry = kept.entries[offset]
                if not wanted(entry):
                    continue
                if len(found) == limit:
                    return found, offset
                if passed < given:
                    passed += 1
                else:
                    found.append(self._convert(entry, kept.facts))
            return found, len(kept.entries)

        found, end = await anyio.to_thread.run_sync(convert)
        if end == len(kept.entries):
            return Listed(found, "", revision)
        if len(kept.places) >= MAX_PLACES:
            kept.places.clear()
        kept.places[asked, given + len(found)] = end
        return Listed(found, write_token(Token(revision=revision, given=given + len(found), asked=asked)), revision)

    async def _list(self, start: Token | None) -> tuple[int, Kept[T]]:
        if start is not None:
            found = self._kept.get(start.revision)
            if found is None:
                raise Compacted(start.revision, self._keeper.revision)
            self._kept.move_to_end(start.revision)
            return start.revision, found
        snapshot = await self._keeper.snapshot()
        if snapshot.revision not in self._kept:
            made = await anyio.to_thread.run_sync(lambda: Kept(self._derive(snapshot), self._facts(snapshot), {}))
            self._kept[snapshot.revision] = made
        self._kept.move_to_end(snapshot.revision)
        while len(self._kept) > MAX_LISTS:
            self._kept.popitem(last=False)
        return snapshot.revision, self._kept[snapshot.revision]


def write_token(token: Token) -> str:
    return urlsafe_b64encode(msgspec.json.encode(token)).decode()


def read_token(text: str, asked: str) -> Token:
    """Raises SchemaError for one that is not ours, or of another question."""
    try:
        token = msgspec.json.decode(urlsafe_b64decode(text.encode()), type=Token)
    except ValueError:
        token = None
    if token is None or token.asked != asked or token.given < 0:
        fix = "take the token of the page before, and ask the same question"
        raise SchemaError("not a token of this list", path="page_token", value=show(text), fix=fix)
    return token
