"""Who hears of changes: bounded queues, and an honest word when one could not keep up.

A subscriber receives every committed change in revision order. When its queue is full it loses what is queued and
gets one ``resync`` instead, then a snapshot again. Slow readers never hold up others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Self

import anyio

from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.model.object import Declared
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.annotations import Told


class Event(Value, frozen=True, kw_only=True):
    """``put`` with the object, or with what it is told (``router``: and what its network plug-in is to do, if it is an
    egress router pod); ``delete`` without; ``synced`` once after a snapshot, ``resync`` after a loss."""

    revision: int
    type: Literal["put", "delete", "synced", "resync"]
    ref: ObjectRef | None = None
    object: Declared | None = None
    told: Told | None = None
    router: RouterPlan | None = None


Snapshot = Callable[[], tuple[int, list[Event]]]


class Watch:
    """An asynchronous iterator of events; cancelling a wait loses nothing. Ends with ``aclose`` or with its plane."""

    def __init__(self, snapshot: Snapshot, kinds: frozenset[str], size: int, forget: Callable[[Watch], None]) -> None:
        self._snapshot, self._kinds, self._size, self._forget = snapshot, kinds, size, forget
        self._is_behind = self._is_closed = False
        self._moved = anyio.Event()
        self._events: deque[Event] = deque()
        self._start()

    def _start(self) -> None:
        revision, events = self._snapshot()
        self._head = deque((*events, Event(revision=revision, type="synced")))

    def send(self, events: Iterable[Event]) -> None:
        """Queue what this watcher asked for; never waits."""
        for event in events:
            if event.ref is None or event.ref.kind not in self._kinds or self._is_behind:
                continue
            if len(self._events) >= self._size:
                self._is_behind = True
                self._events.clear()
            else:
                self._events.append(event)
        self._wake()

    def end(self) -> None:
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._head and not self._events:
            if self._is_closed:
                raise StopAsyncIteration
            if self._is_behind:
                self._is_behind = False
                self._start()
                return Event(revision=self._head[-1].revision, type="resync")
            await self._moved.wait()
        return self._head.popleft() if self._head else self._events.popleft()

    async def aclose(self) -> None:
        """Stop listening."""
        self.end()
        self._head.clear()
        self._events.clear()
        self._forget(self)


class Broadcast:
    """All watchers of one control plane."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    def send(self, events: Iterable[Event]) -> None:
        batch = tuple(events)
        for watch in self._watches:
            watch.send(batch)

    def watch(self, snapshot: Snapshot, kinds: frozenset[str], size: int) -> Watch:
        """A snapshot, ``synced``, then changes; after a loss ``resync`` and all over again."""
        watch = Watch(snapshot, kinds, size, self._forget)
        self._watches.append(watch)
        return watch

    def _forget(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def close(self) -> None:
        for watch in self._watches:
            watch.end()


class Progress:
    """How far a number has come (a revision in the northbound, an acknowledgement), and who waits for it."""

    def __init__(self) -> None:
        self.reached = -1
        self.failure: Exception | None = None
        self._moved = anyio.Event()

    def advance(self, reached: int) -> None:
        self.reached, self.failure = max(self.reached, reached), None
        self._wake()

    def fail(self, failure: Exception) -> None:
        """Waiters raise it, until the next advance."""
        self.failure = failure
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    async def changed(self) -> None:
        """Until the next advance or failure."""
        await self._moved.wait()

    async def wait(self, target: int, timeout_s: float | None = None) -> None:
        """Until ``target`` is reached. Raises the recorded failure, or TimeoutError."""
        with anyio.fail_after(math.inf if timeout_s is None else timeout_s):
            while self.reached < target:
                if self.failure is not None:
                    raise self.failure
                await self._moved.wait()
