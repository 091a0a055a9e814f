"""``MemoryLog``: the log without a disk; the default of the library, and what two servers of one test share.

Several of them may share one ``MemoryLogDatabase``, as several servers share an etcd: a restart is a new log on the old
database. Turns of the writer are real: one holder at a time, others wait, and ``expire`` ends a turn as a lost lease
would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from ovnk_core.errors import StoreCorrupt, StoreUnavailable, Superseded
from ovnk_core.store.entry import Base, Entry, Stored, StoreKey
from ovnk_core.store.port import Contents, Term
from ovnk_core.store.sequence import Bell, check_append


class MemoryLogDatabase:
    """What the logs of one process share."""

    def __init__(self) -> None:
        self.base = Base()
        self.entries: list[Entry] = []
        self.turn: Term | None = None
        self.epoch = 0
        self.bell = Bell()
        """Rings at every append, every end of a turn and every close."""

    @property
    def revision(self) -> int:
        return self.base.revision + len(self.entries)

    def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        """See ``Log.compact``. O(items in the base)."""
        if revision > self.revision and self.revision:
            raise ValueError(f"cannot compact at {revision}: the log is at {self.revision}")
        if revision <= self.base.revision:
            return
        merged: dict[StoreKey, Stored | None] = {**self.base.items, **items}
        del self.entries[: revision - self.base.revision]
        self.base = Base(revision=revision, items={key: item for key, item in merged.items() if item is not None})

    def expire(self, term: Term) -> None:
        """End ``term`` if it is still the present one."""
        if self.turn == term:
            self.turn = None
            self.bell.ring()


class MemoryLog:
    """A server's view of ``database``, or of a fresh one."""

    def __init__(self, database: MemoryLogDatabase | None = None) -> None:
        self.database = database or MemoryLogDatabase()
        self._is_open = False

    @property
    def address(self) -> str:
        return "memory"

    @property
    def is_shared(self) -> bool:
        return True

    async def open(self) -> Contents:
        self._is_open = True
        await asyncio.sleep(0)
        return Contents(base=self.database.base, entries=tuple(self.database.entries))

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("memory: the log is not open")

    async def append(self, entries: Sequence[Entry], *, term: Term | None = None) -> None:
        await asyncio.sleep(0)
        self._check_open()
        if term is not None and term != self.database.turn:
            raise Superseded(f"memory: the turn {term.epoch} of {term.holder} is over")
        if entries:
            check_append(entries, self.database.revision, self.address)
            self.database.entries.extend(entries)
            self.database.bell.ring()

    async def follow(self, after: int) -> AsyncIterator[Entry]:
        while True:
            await asyncio.sleep(0)
            self._check_open()
            database = self.database
            if after < database.base.revision:
                raise StoreCorrupt(f"memory: revision {after + 1} is compacted; the oldest is {database.base.revision}")
            if after < database.revision:
                yield database.entries[after - database.base.revision]
                after += 1
            else:
                await database.bell.wait(database.bell.rings)

    async def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        await asyncio.sleep(0)
        self._check_open()
        self.database.compact(revision, items)

    async def base(self) -> int:
        await asyncio.sleep(0)
        self._check_open()
        return self.database.base.revision

    async def campaign(self, holder: str) -> Term:
        database = self.database
        self._check_open()
        while database.turn is not None:
            await database.bell.wait(database.bell.rings)
            self._check_open()
        database.epoch += 1
        database.turn = Term(epoch=database.epoch, holder=holder)
        return database.turn

    async def lost(self, term: Term) -> None:
        while self.database.turn == term:
            await self.database.bell.wait(self.database.bell.rings)

    async def resign(self, term: Term) -> None:
        self.database.expire(term)
        await asyncio.sleep(0)

    async def writer(self) -> str:
        await asyncio.sleep(0)
        self._check_open()
        return self.database.turn.holder if self.database.turn else ""

    async def integrity(self) -> list[str]:
        await asyncio.sleep(0)
        return []

    async def close(self) -> None:
        self._is_open = False
        self.database.bell.ring()
        await asyncio.sleep(0)
