"""Streams of mirror changes, shared by every driver.

A hub publishes one item per update; each stream keeps its own queue. A reader that falls behind costs bounded memory:
past ``MAX_PENDING`` items the newest ones merge, which keeps for every row the oldest ``before``; nothing is lost but
the intermediate states.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Self

from ovnk_core.nb.schema import Row
from ovnk_core.northbound.port import Changes

MAX_PENDING = 256


class ChangeStream:
    """Asynchronous iterator of ``Changes``; ends when its hub closes. For one reader at a time."""

    def __init__(self) -> None:
        self._pending: deque[Changes] = deque()
        self._is_closed = False
        self._wakeup = asyncio.Event()

    def put(self, changes: Changes) -> None:
        if len(self._pending) >= MAX_PENDING:
            merge(self._pending[-1], changes)
        else:
            # Every stream merges into items of its own; the published one is shared.
            self._pending.append({table: dict(rows) for table, rows in changes.items()})
        self._wakeup.set()

    def end(self) -> None:
        self._is_closed = True
        self._wakeup.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Changes:
        while not self._pending:
            if self._is_closed:
                raise StopAsyncIteration
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._pending.popleft()

    async def aclose(self) -> None:
        self.end()
        self._pending.clear()


class ChangeHub:
    """The streams of one driver; a stream nobody holds any more disappears by itself."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[ChangeStream] = weakref.WeakSet()

    @property
    def has_readers(self) -> bool:
        return bool(self._streams)

    def subscribe(self) -> ChangeStream:
        stream = ChangeStream()
        self._streams.add(stream)
        return stream

    def publish(self, changes: Changes) -> None:
        if changes:
            for stream in list(self._streams):
                stream.put(changes)

    def close(self) -> None:
        for stream in list(self._streams):
            stream.end()
        self._streams = weakref.WeakSet()


def merge(older: Changes, newer: Changes) -> None:
    """Fold ``newer`` into ``older`` in place: the first ``before`` of a row stands."""
    for table, rows in newer.items():
        kept: dict[str, Row | None] = older.setdefault(table, {})
        for uuid, before in rows.items():
            kept.setdefault(uuid, before)


def replace(mirror: dict[str, dict[str, Row]], staged: dict[str, dict[str, Row | None]], *, is_reset: bool) -> Changes:
    """Put staged rows (None: gone) into a mirror -> what changed. ``is_reset``: rows not staged are gone as well.

    Rows are replaced, never edited, so a caller may keep one it read before.
    """
    changes: Changes = {}
    for table, rows in mirror.items():
        wanted = staged.get(table, {})
        before: dict[str, Row | None] = {}
        for uuid, row in wanted.items():
            old = rows.get(uuid)
            if old == row:
                continue
            before[uuid] = old
            if row is None:
                del rows[uuid]
            else:
                rows[uuid] = row
        if is_reset:
            for uuid in [uuid for uuid in rows if uuid not in wanted]:
                before[uuid] = rows.pop(uuid)
        if before:
            changes[table] = before
    return changes
