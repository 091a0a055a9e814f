"""``EtcdLog``: the log in an etcd cluster; what several servers share.

An append is one transaction: the key that holds its entries, and the head, under the condition that the head is the
one we know and, with a term, that the writer's key is that of our turn. etcd limits a request to 1.5 MB, so a larger
append is put in parts first and made visible by the same small transaction; the parts carry its revision in their
names, and those of an append that never came about go with the first compaction past it. Nothing depends on the
number of changes.

A transaction whose reply is lost is never sent again on the off chance. The log is read until it tells: our very
bytes are there, or somebody else's; or nobody's yet, and then the head is rewritten as it is, after which the lost
transaction can no longer take effect (its condition names the old one), and sending another is safe.

``follow`` reads ranges of the log; a watch of the head only says when, and is replaced every few seconds, so one that
hangs costs no more than that.

Source: etcd's API (transactions, leases, linearizable reads), its limits ``--max-request-bytes`` and ``--max-txn-ops``.
etcd keeps a history of its own, which it drops only when told to: run it with ``--auto-compaction-retention``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio.to_thread

from ovnk_core.errors import QuotaError, StoreUnavailable, StoreUnknown, Superseded
from ovnk_core.failpoint import failpoint
from ovnk_core.store.address import DEFAULT_PREFIX, EtcdTls
from ovnk_core.store.codec import pack_entries
from ovnk_core.store.entry import Entry, Stored, StoreKey
from ovnk_core.store.etcd_compact import EtcdCompaction, sweep_operations
from ovnk_core.store.etcd_layout import Layout, cut, mark
from ovnk_core.store.etcd_link import EtcdLink, created_is, delete, get, modified_is, put
from ovnk_core.store.etcd_read import EtcdReader, Head, Pending
from ovnk_core.store.etcd_term import EtcdTurns
from ovnk_core.store.port import Contents, Term
from ovnk_core.store.sequence import Bell, check_append

MAX_APPEND_BYTES = 64 << 20
"""Of one append, packed."""
THREAD_BYTES = 262_144
"""Values from here on are packed in a worker thread."""
WATCH_S = 5.0
PAUSE_S = 0.2


class EtcdLog:
    """The log below ``prefix`` in the cluster of ``endpoints`` (``HOST:PORT``).

    ``timeout_s``: how long a request is tried before StoreUnavailable; of an append, all of it together: its parts, and
    looking for one whose reply was lost before StoreUnknown. ``term_s``: the length of a writer's lease.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        prefix: str = DEFAULT_PREFIX,
        *,
        tls: EtcdTls | None = None,
        timeout_s: float = 5.0,
        term_s: int = 10,
    ) -> None:
        self._link, self._layout = EtcdLink(endpoints, tls, timeout_s), Layout(prefix)
        self._reader = EtcdReader(self._link, self._layout, self.address)
        self._appended, self._written = Bell(), Bell()
        self._turns = EtcdTurns(self._link, self._layout, term_s=term_s, bell=self._written)
        self._head = Head()
        self._pending = Pending()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def address(self) -> str:
        prefix = self._layout.prefix
        return self._link.address + (prefix if prefix != DEFAULT_PREFIX else "")

    # ------------------------------------------------------------------ lifecycle

    @property
    def is_shared(self) -> bool:
        return True

    async def open(self) -> Contents:
        await self._link.open()
        try:
            loaded = await self._reader.load()
        except BaseException:
            await self._link.close()
            raise
        self._head, self._pending = loaded.head, loaded.pending
        for key, bell in ((self._layout.head, self._appended), (self._layout.writer, self._written)):
            self._tasks.append(asyncio.create_task(self._listen(key, bell), name="ovnk etcd watch"))
        return loaded.contents

    async def _listen(self, key: bytes, bell: Bell) -> None:
        while True:
            async with contextlib.aclosing(self._link.watch(key, WATCH_S)) as changes:
                async for _ in changes:
                    bell.ring()
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._turns.close()
        await self._link.close()
        self._appended.ring()
        self._written.ring()

    # ------------------------------------------------------------------ appending

    async def append(self, entries: Sequence[Entry], *, term: Term | None = None) -> None:
        if entries:
            with self._link.in_time():
                await self._append(entries, term)

    async def _append(self, entries: Sequence[Entry], term: Term | None) -> None:
        if entries[0].revision != self._head.revision + 1:
            self._head = await self._reader.head()
        check_append(entries, self._head.revision, self.address)
        data = await self._packed(entries)
        place = self._layout.append_parts(entries[-1].revision, entries[0].id)
        value, parts = cut(data, place)
        for index, part in enumerate(parts):
            await self._link.transact([], [put(self._layout.part(place, index), part)], is_repeatable=True)
        failpoint("store.etcd.before_commit")
        await self._commit(entries, value, term)
        failpoint("store.etcd.after_commit")

    async def _packed(self, entries: Sequence[Entry]) -> bytes:
        size = sum(len(change.value or b"") for entry in entries for change in entry.changes)
        data = pack_entries(entries) if size < THREAD_BYTES else await anyio.to_thread.run_sync(pack_entries, entries)
        if len(data) > MAX_APPEND_BYTES:
            raise QuotaError(f"{self.address}: an append of {len(data)} bytes (packed); at most {MAX_APPEND_BYTES}")
        return data

    async def _commit(self, entries: Sequence[Entry], value: bytes, term: Term | None) -> None:
        """Send until it is certain what became of it; again only when it certainly did nothing."""
        layout, last = self._layout, entries[-1].revision
        turn = [created_is(layout.writer, term.epoch)] if term else []
        look = [get(layout.head), get(layout.writer)]
        while True:
            check_append(entries, self._head.revision, self.address)
            head = self._head
            then = [put(layout.log(last), value), *self._head_operations(last)]
            conditions = [modified_is(layout.head, head.modified), *turn]
            try:
                outcome = await self._link.transact(conditions, then, look, is_repeatable=False)
            except StoreUnknown as error:
                if await self._has_landed(entries[0].revision, value, error):
                    return
                if self._link.is_late:
                    raise StoreUnavailable(str(error)) from error
                continue
            if outcome.is_done:
                self._learn(Head(revision=last, modified=outcome.revision))
                return
            found, writer = outcome.found
            self._head = self._reader.head_of(found)
            if term and writer.created != term.epoch:
                raise Superseded(f"{self.address}: the turn {term.epoch} of {term.holder} is over")

    def _head_operations(self, revision: int) -> list[Any]:
        """Set the head; what is there before the first entry can only be the rest of an import."""
        layout = self._layout
        sweep = [] if self._head.revision else [*sweep_operations(layout), delete(layout.compacting)]
        return [put(layout.head, mark(revision)), *sweep]

    def _learn(self, head: Head) -> None:
        """Keep the newer of what we knew and what we see."""
        if head.modified > self._head.modified:
            self._head = head

    async def _has_landed(self, first: int, value: bytes, lost: StoreUnknown) -> bool:
        """Whether the append ``value`` from revision ``first`` on took effect; if not, it never will.

        Raises Superseded when somebody else took the revision, StoreUnknown when it cannot be found out in time.
        """
        layout = self._layout
        while not self._link.is_late and not self._link.is_closed:
            try:
                head = await self._reader.head()
                if head.revision < first:
                    if await self._is_fenced(head):
                        return False
                    continue
                page = await self._link.page(layout.log(first), layout.log_end, limit=1)
            except (StoreUnavailable, StoreUnknown):
                await asyncio.sleep(PAUSE_S)
                continue
            self._learn(head)
            if not page.records or await self._reader.base() >= first:
                break  # compacted away before we could look
            if page.records[0].value != value:
                raise Superseded(f"{self.address}: revision {first} is taken; the log is at {head.revision}")
            return True
        raise lost

    async def _is_fenced(self, head: Head) -> bool:
        """Rewrite ``head`` as it is: whatever was sent on condition of the old one can take effect no more."""
        condition = modified_is(self._layout.head, head.modified)
        self._head = head
        outcome = await self._link.transact([condition], self._head_operations(head.revision), is_repeatable=False)
        if outcome.is_done:
            self._head = Head(revision=head.revision, modified=outcome.revision)
        return outcome.is_done

    # ------------------------------------------------------------------ reading and compacting

    async def follow(self, after: int) -> AsyncIterator[Entry]:
        while True:
            seen = self._appended.rings
            try:
                entries, head = await self._reader.after(after)
            except StoreUnavailable:
                if self._link.is_closed:
                    raise
                await asyncio.sleep(PAUSE_S)
                continue
            self._learn(head)
            for entry in entries:
                yield entry
                after = entry.revision
            if not entries:
                await self._appended.wait(seen, WATCH_S)

    async def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        if revision > self._head.revision:
            self._head = await self._reader.head()
            if revision > self._head.revision > 0:
                raise ValueError(f"cannot compact at {revision}: the log is at {self._head.revision}")
        await EtcdCompaction(self._link, self._layout, self.address, revision).run(items, self._pending)
        if not self._head.revision:
            self._head = await self._reader.head()

    async def base(self) -> int:
        return await self._reader.base()

    async def integrity(self) -> list[str]:
        return await self._link.alarms()

    # ------------------------------------------------------------------ turns

    async def campaign(self, holder: str) -> Term:
        return await self._turns.campaign(holder)

    async def lost(self, term: Term) -> None:
        await self._turns.lost(term)

    async def resign(self, term: Term) -> None:
        await self._turns.resign(term)

    async def writer(self) -> str:
        return (await self._link.get(self._layout.writer)).value.decode()
