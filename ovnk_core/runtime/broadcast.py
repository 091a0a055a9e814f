"""Who hears of changes: bounded queues, and an honest word when one could not keep up.

A subscriber receives every committed change in revision order. When its queue is full it loses what is queued and
gets one ``Resync`` instead; the subscription then starts over with a snapshot. Slow readers never hold up others.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ovnk_core.model.object import Declared
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value


class Event(Value, frozen=True, kw_only=True):
    """``put`` with the object, ``delete`` without, ``synced`` once after a snapshot, ``resync`` after a loss."""

    revision: int
    type: Literal["put", "delete", "synced", "resync"]
    ref: ObjectRef | None = None
    object: Declared | None = None


class Broadcast:
    """All subscriptions of one control plane."""

    def __init__(self) -> None:
        self._queues: dict[MemoryObjectSendStream[Event], _Subscription] = {}

    def send(self, events: Iterable[Event]) -> None:
        """Queue events everywhere; never waits."""
        batch = tuple(events)
        for send, subscription in tuple(self._queues.items()):
            for event in batch:
                if subscription.is_behind:
                    break
                try:
                    send.send_nowait(event)
                except anyio.WouldBlock:
                    subscription.is_behind = True
                except anyio.BrokenResourceError:
                    del self._queues[send]
                    break

    async def subscribe(self, snapshot: Callable[[], tuple[int, list[Event]]], size: int) -> AsyncIterator[Event]:
        """A snapshot, ``synced``, then changes; after a loss ``resync`` and all over again."""
        while True:
            send, receive = anyio.create_memory_object_stream[Event](size)
            subscription = self._queues[send] = _Subscription()
            try:
                revision, events = snapshot()
                for event in events:
                    yield event
                yield Event(revision=revision, type="synced")
                async for event in self._until_behind(receive, subscription):
                    yield event
            finally:
                self._queues.pop(send, None)
                send.close()
                receive.close()
            yield Event(revision=revision, type="resync")

    @staticmethod
    async def _until_behind(
        receive: MemoryObjectReceiveStream[Event], subscription: _Subscription
    ) -> AsyncIterator[Event]:
        while not subscription.is_behind:
            yield await receive.receive()


class _Subscription:
    def __init__(self) -> None:
        self.is_behind = False


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

    async def wait(self, target: int, timeout_s: float | None = None) -> None:
        """Until ``target`` is reached. Raises the recorded failure, or TimeoutError."""
        with anyio.fail_after(math.inf if timeout_s is None else timeout_s):
            while self.reached < target:
                if self.failure is not None:
                    raise self.failure
                await self._moved.wait()
