"""The one way into the log: proposals in, revisions out, in order.

Proposals that wait together are planned one after the other, each on the state the one before it leaves, and appended
in one go, so a durable store costs one flush for all of them. The order of effects is fixed: log, then history, then
engine; what was accepted is in the log before anybody hears of it. A proposal that came too late is planned again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol
from uuid import uuid4

import anyio

from ovnk_core.cluster import Cluster
from ovnk_core.errors import Contended, ObjectError, OvnkError, Superseded
from ovnk_core.failpoint import failpoint
from ovnk_core.ingest.outcome import Item, Refused
from ovnk_core.keeper.inventory import Inventory
from ovnk_core.model.tables import OBJECT_TABLES
from ovnk_core.store.entry import Change, Entry, Space, Stored, StoreKey
from ovnk_core.store.history import History
from ovnk_core.store.port import Log, Term
from ovnk_core.terms.name import ObjectRef

MAX_BATCH, GATHER_S = 128, 0.001
ATTEMPTS = 20
CATCH_UP_S, FENCED_CATCH_UP_S = 5.0, 0.5
Parsed = dict[StoreKey, Item | Refused]
Take = Callable[[Sequence[Entry], Parsed], Awaitable[None]]
"""Takes entries into history and engine; those already taken are passed over."""


class Plan(Protocol):
    """What a proposal wants changed, and what to tell whoever made it."""

    @property
    def changes(self) -> tuple[Change, ...]: ...

    @property
    def items(self) -> Parsed: ...

    def answer(self, revision: int) -> Any: ...


class Proposal(Protocol):
    """Something to be committed. ``plan`` is pure and may be called again."""

    @property
    def author(self) -> str: ...

    @property
    def touches_network(self) -> bool: ...

    def plan(self, view: Any) -> Plan: ...


class Overlay:
    """History with the changes of proposals that are planned but not committed yet."""

    def __init__(self, history: History, cluster: Cluster, inventory: Inventory) -> None:
        self._history, self._cluster, self._inventory = history, cluster, inventory
        self._over: dict[StoreKey, Stored | None] = {}
        self.revision = history.revision

    def get(self, key: StoreKey) -> Stored | None:
        return self._over[key] if key in self._over else self._history.get(key)

    def namespaced(self, namespace: str) -> Iterable[StoreKey]:
        spaces: tuple[Space, ...] = ("object", "refused")
        for space in spaces:
            for kind in OBJECT_TABLES:
                first, last = StoreKey(space, kind, namespace, ""), StoreKey(space, kind, namespace + "\0", "")
                keys = {key for key, _ in self._history.items(first, last)}
                keys |= {key for key in self._over if first <= key < last}
                yield from (key for key in sorted(keys) if self.get(key) is not None)

    def inadmissible(self, items: Sequence[Item]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
        return self._cluster.inadmissible(items)

    def of_source(self, source: str) -> frozenset[ObjectRef]:
        return self._inventory.of_source(source)

    def requests(self) -> Iterable[tuple[StoreKey, Stored]]:
        """What is remembered of requests."""
        return self._history.items(StoreKey("request", "", "", ""), StoreKey("request", "\x7f", "", ""))

    def put(self, entry: Entry) -> None:
        """Plan on as if ``entry`` were committed."""
        for change in entry.changes:
            before = self.get(change.key)
            created = before.created if before else entry.revision
            self._over[change.key] = (
                None if change.value is None else Stored(value=change.value, created=created, modified=entry.revision)
            )
        self.revision = entry.revision


class Ticket:
    """One proposal on its way."""

    def __init__(self, proposal: Proposal, term: Term | None) -> None:
        self.proposal, self.term = proposal, term
        self.done = anyio.Event()
        self.answer: Any = None
        self.failure: BaseException | None = None
        self.attempts = 0

    def end(self, answer: Any = None, failure: BaseException | None = None) -> None:
        self.answer, self.failure = answer, failure
        self.done.set()


class Committer:
    """``lock`` is held while a state is planned on and while it changes."""

    def __init__(
        self, log: Log, history: History, lock: anyio.Lock, *, view: Callable[[], Overlay], take: Take
    ) -> None:
        self._log, self._history, self._lock, self._view, self._take = log, history, lock, view, take
        self._queue: deque[Ticket] = deque()
        self._wake = anyio.Event()
        self._room = anyio.Semaphore(1_024, fast_acquire=True)
        self.moved = anyio.Event()
        """Set, and replaced, whenever history moves."""

    async def commit(self, proposal: Proposal, term: Term | None = None) -> Any:
        """The proposal's answer, once it is in the log and in force. ``term``: only while that turn lasts.

        Raises what its plan raises, Superseded when the turn is over, or a StoreError. When cancelled, the proposal may
        be committed all the same.
        """
        async with self._room:
            ticket = Ticket(proposal, term)
            self._queue.append(ticket)
            self._wake.set()
            await ticket.done.wait()
        if ticket.failure is not None:
            raise ticket.failure
        return ticket.answer

    async def run(self) -> None:
        """Commit until cancelled."""
        is_crowded = False
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._queue:
                if is_crowded:
                    # Several are asking: what arrives within a moment shares one append, one sweep and one transaction.
                    await anyio.sleep(GATHER_S)
                batch = self._batch()
                try:
                    with anyio.CancelScope(shield=True):
                        await self._commit(batch)
                except OvnkError as error:
                    for ticket in batch:
                        ticket.end(failure=error)
                is_crowded = len(batch) > 1 or bool(self._queue)

    def _batch(self) -> list[Ticket]:
        """Those that wait, in order; what must be planned alone, or is fenced, comes alone."""
        batch = [self._queue.popleft()]
        if not _is_alone(batch[0]):
            while self._queue and len(batch) < MAX_BATCH and not _is_alone(self._queue[0]):
                batch.append(self._queue.popleft())
        return batch

    async def _commit(self, batch: list[Ticket]) -> None:
        async with self._lock:
            planned, entries, parsed = self._plan(batch)
            revision = self._history.revision
        if entries:
            failpoint("keeper.before_append")
            try:
                await self._log.append(entries, term=batch[0].term)
            except Superseded:
                await self._again(planned, revision)
                return
            failpoint("keeper.after_append")
            await self._take(entries, parsed)
        for ticket, plan, at in planned:
            ticket.end(plan.answer(at))

    def _plan(self, batch: list[Ticket]) -> tuple[list[tuple[Ticket, Plan, int]], list[Entry], Parsed]:
        view, parsed = self._view(), Parsed()
        planned: list[tuple[Ticket, Plan, int]] = []
        entries: list[Entry] = []
        for ticket in batch:
            try:
                plan = ticket.proposal.plan(view)
            except OvnkError as error:
                ticket.end(failure=error)
                continue
            if plan.changes:
                entry = Entry(
                    revision=view.revision + 1,
                    changes=plan.changes,
                    at_s=int(time.time()),
                    author=ticket.proposal.author,
                    id=uuid4().hex,
                )
                view.put(entry)
                entries.append(entry)
                parsed |= plan.items
            planned.append((ticket, plan, view.revision))
        return planned, entries, parsed

    async def _again(self, planned: list[tuple[Ticket, Plan, int]], revision: int) -> None:
        """Somebody was faster: wait until we know what they did, then plan anew. Ends with Superseded or Contended."""
        # Nobody need have been faster than a fenced proposal: its turn may be over, and others wait behind it.
        is_fenced = planned[0][0].term is not None
        with anyio.move_on_after(FENCED_CATCH_UP_S if is_fenced else CATCH_UP_S):
            while self._history.revision == revision:
                await self.moved.wait()
        for ticket, _, _ in reversed(planned):
            ticket.attempts += 1
            if self._history.revision == revision and ticket.term is not None:
                ticket.end(failure=Superseded("our turn as the writer is over"))
            elif ticket.attempts > ATTEMPTS:
                ticket.end(failure=Contended("other writers were faster every time; try again"))
            else:
                self._queue.appendleft(ticket)

    def advanced(self) -> None:
        """History moved: wake whoever waits for it."""
        self.moved.set()
        self.moved = anyio.Event()


def _is_alone(ticket: Ticket) -> bool:
    return ticket.term is not None or ticket.proposal.touches_network
