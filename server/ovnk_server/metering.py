"""The log and the northbound with counters around them: same ports, same behaviour, and somebody hears how it went.

This keeps the core free of metrics: what it asks of a database or a store is counted where it leaves the process.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count

from ovnk_core.errors import OvnkError
from ovnk_core.nb.operation import BumpConfig, Operation, RequireTurn, TakeTurn
from ovnk_core.nb.schema import DatabaseSchema, Row
from ovnk_core.northbound.port import Changes, Northbound, Receipt
from ovnk_core.store.entry import Entry, Stored, StoreKey
from ovnk_core.store.port import Contents, Log, Term
from ovnk_core.terms.struct import Value


class Transacted(Value, frozen=True, kw_only=True):
    """One transaction: ``operations`` by verb, without those that only guard it. ``outcome`` is ``committed`` or the
    error's class; ``failure`` its text."""

    txn: int
    operations: dict[str, int]
    seconds: float
    outcome: str
    failure: str = ""


class Appended(Value, frozen=True, kw_only=True):
    """One append to the log: how many entries and changes."""

    entries: int
    changes: int
    seconds: float
    outcome: str


class MeteredNorthbound:
    """A northbound; ``heard`` is told of every transaction that carries operations. One without asks whether the
    server answers, which every server does, also those that never write."""

    def __init__(self, inner: Northbound, heard: Callable[[Transacted], None]) -> None:
        self._inner, self._heard = inner, heard
        self._numbers = count(1)

    @property
    def address(self) -> str:
        return self._inner.address

    @property
    def heard_s(self) -> float:
        return self._inner.heard_s

    @property
    def schema(self) -> DatabaseSchema:
        return self._inner.schema

    async def connect(self, tables: Mapping[str, Sequence[str]], *, timeout_s: float = 10.0) -> None:
        await self._inner.connect(tables, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._inner.close()

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._inner.rows(table)

    def changes(self) -> AsyncIterator[Changes]:
        return self._inner.changes()

    async def lock(self, name: str) -> bool:
        return await self._inner.lock(name)

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        if not operations:
            return await self._inner.transact(operations, timeout_s=timeout_s)
        verbs = Counter(_verb(each) for each in operations if not isinstance(each, RequireTurn))
        begun, outcome, failure = time.perf_counter(), "cancelled", ""
        try:
            receipt = await self._inner.transact(operations, timeout_s=timeout_s)
            outcome = "committed"
            return receipt
        except OvnkError as error:
            outcome, failure = type(error).__name__, str(error)[:500]
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._heard(
                Transacted(
                    txn=next(self._numbers), operations=dict(verbs), seconds=seconds, outcome=outcome, failure=failure
                )
            )


def _verb(operation: Operation) -> str:
    if isinstance(operation, BumpConfig):
        return "bump"
    return "turn" if isinstance(operation, TakeTurn) else type(operation).__name__.lower()


class MeteredLog:
    """A log; ``heard`` is told of every append."""

    def __init__(self, inner: Log, heard: Callable[[Appended], None]) -> None:
        self._inner, self._heard = inner, heard

    @property
    def address(self) -> str:
        return self._inner.address

    @property
    def is_shared(self) -> bool:
        return self._inner.is_shared

    async def open(self) -> Contents:
        return await self._inner.open()

    async def append(self, entries: Sequence[Entry], *, term: Term | None = None) -> None:
        begun, outcome = time.perf_counter(), "cancelled"
        try:
            await self._inner.append(entries, term=term)
            outcome = "appended"
        except OvnkError as error:
            outcome = type(error).__name__
            raise
        finally:
            changes = sum(len(entry.changes) for entry in entries)
            seconds = time.perf_counter() - begun
            self._heard(Appended(entries=len(entries), changes=changes, seconds=seconds, outcome=outcome))

    def follow(self, after: int) -> AsyncIterator[Entry]:
        return self._inner.follow(after)

    async def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        await self._inner.compact(revision, items)

    async def base(self) -> int:
        return await self._inner.base()

    async def campaign(self, holder: str) -> Term:
        return await self._inner.campaign(holder)

    async def lost(self, term: Term) -> None:
        await self._inner.lost(term)

    async def resign(self, term: Term) -> None:
        await self._inner.resign(term)

    async def writer(self) -> str:
        return await self._inner.writer()

    async def integrity(self) -> list[str]:
        return await self._inner.integrity()

    async def close(self) -> None:
        await self._inner.close()
