"""Reading a log out of etcd.

A log is read at one revision of etcd, so what another server appends or compacts meanwhile is not seen half. Only where
etcd itself compacts that revision away in between is everything read again.

A compaction that was cut short leaves a base in which some items are already newer than its revision. Which, needs no
answer: entries hold whole values and are still there, so replaying them up to where the compaction meant to go gives
the state there, whether an item was written or not. That is the base we return; the changes that made it are
remembered, since the next compaction must write them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from ovnk_core.errors import StoreCorrupt, StoreUnavailable
from ovnk_core.store.codec import unpack_entries, unpack_stored
from ovnk_core.store.entry import Base, Entry, Stored, StoreKey
from ovnk_core.store.etcd_layout import Layout, parts_of, revision_of
from ovnk_core.store.etcd_link import EtcdLink, Outdated, Record
from ovnk_core.store.port import Contents
from ovnk_core.store.replay import replay
from ovnk_core.store.sequence import check_dense
from ovnk_core.terms.struct import Value

PAGE_KEYS = 200
AHEAD_KEYS = 32
"""Appends a follower reads at once."""
ATTEMPTS = 3
THREAD_BYTES = 65_536
"""Packed values from here on are unpacked in a worker thread: this much takes about a millisecond."""
T = TypeVar("T")


class Head(Value, frozen=True, kw_only=True):
    """The end of the log: its revision, and etcd's revision of the key that says so (0: there is none)."""

    revision: int = 0
    modified: int = 0


class Pending(Value, frozen=True, kw_only=True):
    """Of a compaction that was cut short: where to, and the items that changed on the way there. Whoever compacts next
    writes them too, unless the base got there meanwhile."""

    target: int = 0
    items: dict[StoreKey, Stored | None] = {}


class Loaded(Value, frozen=True, kw_only=True):
    """Everything there is."""

    contents: Contents
    head: Head
    pending: Pending


class EtcdReader:
    """Reads through ``link``; ``address`` is for messages."""

    def __init__(self, link: EtcdLink, layout: Layout, address: str) -> None:
        self._link, self._layout, self._address = link, layout, address

    async def load(self) -> Loaded:
        """All there is. Raises StoreUnavailable or StoreCorrupt."""
        for _ in range(ATTEMPTS):
            try:
                return await self._load()
            except Outdated:
                continue
        raise StoreUnavailable(f"{self._address}: etcd compacts its history faster than it can be read")

    async def head(self) -> Head:
        """The present end of the log."""
        record = await self._link.get(self._layout.head)
        return self.head_of(record)

    def head_of(self, record: Record) -> Head:
        """What the key ``head`` says. Raises StoreCorrupt."""
        return Head(revision=revision_of(record.value, f"{self._address}: head"), modified=record.modified)

    async def base(self) -> int:
        """The present revision of the base."""
        return self._mark(await self._link.get(self._layout.compacted))

    def _mark(self, record: Record) -> int:
        return revision_of(record.value, f"{self._address}: {record.key.decode(errors='replace')}")

    async def _load(self) -> Loaded:
        layout = self._layout
        page = await self._link.page(layout.head, b"", limit=1)
        at = page.revision
        head = self.head_of(page.records[0]) if page.records else Head()
        compacted, compacting = [self._mark(await self._at(key, at)) for key in (layout.compacted, layout.compacting)]
        if not head.revision:
            if compacted or (await self._link.page(layout.log(0), layout.log_end, limit=1, revision=at)).records:
                raise StoreCorrupt(f"{self._address}: the head is gone, but not what it stood for")
            # Nothing was ever acknowledged; an import that was cut short may lie about, and the first append or the
            # next import sweeps it away.
            return Loaded(contents=Contents(base=Base()), head=head, pending=Pending())
        items = {
            layout.store_key(record.key): await self._unpacked(record, at, unpack_stored)
            for record in await self._all(layout.base, layout.base_end, at)
        }
        entries: list[Entry] = []
        for record in await self._all(layout.log(compacted + 1), layout.log_end, at):
            entries += await self._unpacked(record, at, unpack_entries)
        entries = [entry for entry in entries if entry.revision > compacted]
        last = check_dense(entries, compacted, self._address)
        if last != head.revision or compacting > last:
            raise StoreCorrupt(
                f"{self._address}: the log ends at revision {last}, yet its head is {head.revision} and it was to be"
                f" compacted at {max(compacted, compacting)}"
            )
        base, pending = _settled(Base(revision=compacted, items=items), entries, compacting)
        contents = Contents(base=base, entries=tuple(entries[base.revision - compacted :]))
        return Loaded(contents=contents, head=head, pending=pending)

    async def _at(self, key: bytes, revision: int) -> Record:
        records = (await self._link.page(key, b"", limit=1, revision=revision)).records
        return records[0] if records else Record()

    async def _all(self, first: bytes, end: bytes, revision: int) -> list[Record]:
        records: list[Record] = []
        has_more = True
        while has_more:
            page = await self._link.page(first, end, limit=PAGE_KEYS, revision=revision)
            records += page.records
            has_more = page.has_more
            if has_more:
                first = page.records[-1].key + b"\x00"
        return records

    async def after(self, revision: int) -> tuple[tuple[Entry, ...], Head]:
        """Entries that follow ``revision``, as many as one reading brings, and the head as of the last of them.

        Raises StoreCorrupt when the next one is compacted away.
        """
        layout = self._layout
        while True:
            page = await self._link.page(layout.log(revision + 1), layout.log_end, limit=AHEAD_KEYS)
            try:
                read = [await self._unpacked(record, page.revision, unpack_entries) for record in page.records]
            except Outdated:
                continue
            break
        entries = tuple(entry for append in read for entry in append if entry.revision > revision)
        if not entries:
            if await self.base() > revision:
                raise StoreCorrupt(f"{self._address}: revision {revision + 1} is compacted away")
            return (), Head()
        last = check_dense(entries, revision, self._address)
        return entries, Head(revision=last, modified=page.records[-1].modified)

    async def _unpacked(self, record: Record, revision: int, unpack: Callable[[bytes, str], T]) -> T:
        where = f"{self._address}: {record.key.decode(errors='replace')}"
        parts = parts_of(record.value, where)
        data = record.value[1:]
        if parts is not None:
            pieces = await self._all(*self._layout.part_range(parts.place), revision)
            data = b"".join(piece.value for piece in pieces)
            if len(data) != parts.size:
                raise StoreCorrupt(f"{where}: {len(data)} of {parts.size} bytes are there")
        if len(data) < THREAD_BYTES:
            return unpack(data, where)
        return await anyio.to_thread.run_sync(unpack, data, where)


def _settled(base: Base, entries: list[Entry], target: int) -> tuple[Base, Pending]:
    """The base moved on to ``target`` where a compaction to there was begun."""
    if target <= base.revision:
        return base, Pending()
    replayed = entries[: target - base.revision]
    moved = replay(base, replayed)
    changed = {change.key: moved.items.get(change.key) for entry in replayed for change in entry.changes}
    return moved, Pending(target=target, items=changed)
