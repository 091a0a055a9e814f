"""``SqliteLog``: the log in one file; what a single server uses.

An append has returned only when the file system says that it is on disk (write-ahead log, ``synchronous=FULL``), so
it outlives kill -9 and power loss. One process owns the file: a second one is told so at once. SQLite blocks, so
every call runs in one thread that does nothing else, in the order of asking. A caller who is cancelled does not wait:
what is under way goes on, what still queues is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ovnk_core.errors import StoreUnavailable, Superseded
from ovnk_core.store.entry import Entry, Stored, StoreKey
from ovnk_core.store.port import Contents, Term
from ovnk_core.store.sequence import Bell
from ovnk_core.store.sqlite_file import SqliteFile

READ_AHEAD = 64
"""Entries a follower reads at once."""
T = TypeVar("T")


class SqliteLog:
    """The log in the file ``path``, which is made when it is missing; ``max_bytes`` caps it (0: the disk does)."""

    def __init__(self, path: str | Path, *, max_bytes: int = 0) -> None:
        self.path = Path(path)
        self._file = SqliteFile(self.path, max_bytes)
        self._thread: ThreadPoolExecutor | None = None
        self._turn: Term | None = None
        self._bell = Bell()

    @property
    def address(self) -> str:
        return f"sqlite:{self.path}"

    def _run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._thread is None:
            raise StoreUnavailable(f"{self.address}: the log is not open")
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _check_open(self) -> None:
        if self._thread is None:
            raise StoreUnavailable(f"{self.address}: the log is not open")

    @property
    def is_shared(self) -> bool:
        return False

    async def open(self) -> Contents:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ovnk-sqlite")
        try:
            return await self._run(self._file.open)
        except BaseException:
            await self.close()
            raise

    async def append(self, entries: Sequence[Entry], *, term: Term | None = None) -> None:
        self._check_open()
        if term is not None and term != self._turn:
            raise Superseded(f"{self.address}: the turn {term.epoch} of {term.holder} is over")
        if entries:
            await self._run(partial(self._append, tuple(entries), asyncio.get_running_loop()))

    def _append(self, entries: Sequence[Entry], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread. Followers are told from here: whoever asked may be cancelled by now."""
        self._file.append(entries)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._bell.ring)

    async def follow(self, after: int) -> AsyncIterator[Entry]:
        # Entries are read back rather than kept in memory: one mechanism for every lag, at a thread hop per batch.
        while True:
            self._check_open()
            if self._file.revision <= after:
                await self._bell.wait(self._bell.rings)
                continue
            for entry in await self._run(partial(self._file.after, after, READ_AHEAD)):
                yield entry
                after = entry.revision

    async def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        self._check_open()
        await self._run(lambda: self._file.compact(revision, items))

    async def base(self) -> int:
        await asyncio.sleep(0)
        self._check_open()
        return self._file.base

    async def campaign(self, holder: str) -> Term:
        self._check_open()
        epoch = await self._run(self._file.next_epoch)
        self._turn = Term(epoch=epoch, holder=holder)
        return self._turn

    async def lost(self, term: Term) -> None:
        while self._turn == term:
            await self._bell.wait(self._bell.rings)

    async def resign(self, term: Term) -> None:
        if self._turn == term:
            self._turn = None
            self._bell.ring()
        await asyncio.sleep(0)

    async def writer(self) -> str:
        self._check_open()
        await asyncio.sleep(0)
        return self._turn.holder if self._turn else ""

    async def integrity(self) -> list[str]:
        self._check_open()
        return await self._run(self._file.integrity)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        self._bell.ring()
        if thread is not None:
            closing = asyncio.get_running_loop().run_in_executor(thread, self._file.close)
            thread.shutdown(wait=False)
            await asyncio.shield(closing)
