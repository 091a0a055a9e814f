"""A watch that outlives its connection: no change is missed, none comes twice, none out of order.

After a lost connection it resumes behind the last revision that was seen as a whole; of one seen in part, what was seen
already is left out. What cannot be resumed (the revision is not kept any more, the watch was too slow, or the
connection was lost before the first ``synced``) starts over: ``resync``, which means forget what you know, then every
object as ``added`` and ``synced`` again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import grpc
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.object_service_pb2 import WatchRequest, WatchResponse
from ovnk_api.v1.object_service_pb2_grpc import ObjectServiceStub
from ovnk_wire import WireError, reference_of

from ovnk_client.connection import Backoff, Connection, is_passing
from ovnk_client.errors import ClientError, Expired, Unavailable, error_of

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.object_service_pb2_grpc import ObjectServiceAsyncStub

EventType = Literal["added", "modified", "deleted", "synced", "bookmark", "resync"]
_Name = tuple[str, str, str]


class WatchEvent(NamedTuple):
    """One event. ``object`` of ``added``, ``modified`` and ``deleted`` (as it was last); ``resume_revision`` is where
    another watch may go on after this event without losing any (0: nowhere yet)."""

    type: EventType
    revision: int
    resume_revision: int = 0
    object: Object | None = None


class Watch:
    """Use as an async context manager, then iterate; it ends only by an error or by leaving the block.

    The first attempt to reach the server is as patient as the connection, every later one waits for as long as it
    takes. Raises a ClientError that waiting cannot mend: Denied, Refused, Unimplemented.
    """

    def __init__(self, connection: Connection, request: WatchRequest) -> None:
        self._connection, self._request = connection, request
        self._call: grpc.aio.UnaryStreamCall[WatchRequest, WatchResponse] | None = None
        self._events: AsyncGenerator[WatchEvent] | None = None
        self._position = request.resume_revision if request.HasField("resume_revision") else 0
        self._seen: set[_Name] = set()
        """Names that changed in the revision that was seen in part."""
        self._partial = 0

    async def __aenter__(self) -> Self:
        self._events = self._run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        events, self._events = self._events, None
        if self._call is not None:
            self._call.cancel()
        if events is not None:
            await events.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        if self._events is None:
            raise RuntimeError("use the watch in an async with block")
        return await anext(self._events)

    @property
    def resume_revision(self) -> int:
        """The last revision that was seen as a whole; 0: none yet."""
        return self._position

    async def _run(self) -> AsyncGenerator[WatchEvent]:
        backoff, is_first = Backoff(), True
        now = asyncio.get_running_loop().time
        gives_up_s = now() + (self._connection.patience_s or self._connection.deadline_s)
        while True:
            begun_at, starts_over, wanted_s = self._position, False, None
            try:
                async with aclosing(self._attempt()) as events:
                    async for event in events:
                        is_first = False
                        yield event
            except Expired:
                starts_over = True
            except ClientError as error:
                if not is_passing(error) or (is_first and now() >= gives_up_s):
                    raise await self._connection.explained(error) from error
                wanted_s = error.retry_after_s
            # A list is no progress: one that has to start over again and again must not come back at once.
            if 0 < begun_at < self._position:
                backoff = Backoff()
            await asyncio.sleep(backoff.pause_s(wanted_s))
            if starts_over or (self._position == 0 and not is_first):
                self._position, self._partial = 0, 0
                self._seen.clear()
                # Whatever was asked for at first: only a whole list makes up for what was missed.
                self._request.ClearField("resume_revision")
                self._request.send_initial = True
                is_first = False
                yield WatchEvent(type="resync", revision=0)

    async def _attempt(self) -> AsyncGenerator[WatchEvent]:
        """One connection's worth of events. Raises a ClientError; Expired where the server wants us to start over."""
        if self._position:
            self._request.ClearField("send_initial")
            self._request.resume_revision = self._position
        stub: ObjectServiceAsyncStub = ObjectServiceStub(self._connection.channel)
        self._call = call = stub.Watch(self._request)
        try:
            async for response in call:
                if response.HasField("resync_required"):
                    raise Expired(response.resync_required.reason or "the watch was too slow")
                event = self._event(response)
                if event is not None:
                    yield event
            raise Unavailable(f"{self._connection.address}: the server ended the watch")
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, self._connection.address) from failure
        finally:
            call.cancel()

    def _event(self, response: WatchResponse) -> WatchEvent | None:
        """None for what was seen before, and for kinds that are newer than this client."""
        field = response.WhichOneof("event")
        revision, resume = response.revision, response.resume_revision
        if field is None:
            return None
        changed: Object | None = None
        is_news = True
        if field in ("added", "modified", "deleted"):
            changed = getattr(response, field).object
            is_news = self._is_news(changed, revision, resume)
        if resume > self._position:
            self._position = resume
        if resume >= self._partial:
            self._seen.clear()
        if not is_news:
            return None
        return WatchEvent(type=_TYPES[field], revision=revision, resume_revision=resume, object=changed)

    def _is_news(self, changed: Object, revision: int, resume: int) -> bool:
        try:
            ref = reference_of(changed)
        except WireError:
            return False
        name = (ref.kind, ref.namespace, ref.name)
        if resume == 0:  # part of the list: an interrupted one starts over
            return True
        if revision == self._partial and name in self._seen:
            return False
        if revision != self._partial:
            self._partial = revision
            self._seen.clear()
        self._seen.add(name)
        return True


_TYPES: dict[str, EventType] = {
    "added": "added",
    "modified": "modified",
    "deleted": "deleted",
    "bookmark": "bookmark",
    "synced": "synced",
}
