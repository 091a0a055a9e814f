"""A source states its full truth, then its changes, over one stream.

    async with client.sync("cluster-1") as session:
        for manifest in everything:
            await session.put(manifest)
        outcome = await session.complete()      # what was stated before and not now is gone, within limits
        await session.remove(reference("pod", "web", "shop"))
        await session.settled()                 # everything so far is durable

A session is not resumed: whoever loses it begins a new one and states everything again, because only the source knows
what changed meanwhile.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
from ovnk_api.v1.meta_pb2 import FieldViolation, ObjectReference
from ovnk_api.v1.sync_service_pb2 import (
    ObjectRefusal,
    SyncBegin,
    SyncComplete,
    SyncPrune,
    SyncPut,
    SyncRemove,
    SyncRequest,
    SyncResponse,
    SyncUnreadable,
)
from ovnk_api.v1.sync_service_pb2_grpc import SyncServiceStub
from ovnk_wire.kinds import kind_of_manifest

from ovnk_client.connection import Connection
from ovnk_client.errors import ClientError, Refused, Unavailable, error_of
from ovnk_client.shape import Given, as_object

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.sync_service_pb2_grpc import SyncServiceAsyncStub

_Call = grpc.aio.StreamStreamCall[SyncRequest, SyncResponse]


class SyncSession:
    """Use as an async context manager. Every method raises the ClientError that ended the stream, once one did.

    ``refusals`` are the objects that are refused at present, by (kind, namespace, name): they still exist, and their
    last accepted version stays in force. ``revision`` is that of the last change that was taken in.
    """

    def __init__(self, connection: Connection, source: str, *, allow_prune: bool = False) -> None:
        self._connection = connection
        self._begin = SyncBegin(source=source, allow_prune=allow_prune)
        self._call: _Call | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sequence = self._acknowledged = 0
        self._moved = asyncio.Event()
        self._failure: ClientError | None = None
        self._prune: SyncPrune | None = None
        self.refusals: dict[tuple[str, str, str], ObjectRefusal] = {}
        self.revision = 0

    async def __aenter__(self) -> Self:
        stub: SyncServiceAsyncStub = SyncServiceStub(self._connection.channel)
        self._call = stub.Sync()
        self._reader = asyncio.create_task(self._read(self._call))
        await self._state(SyncRequest(begin=self._begin))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._call is not None and self._reader is not None
        try:
            if kind is None and self._failure is None:
                await self.settled()
        finally:
            self._call.cancel()
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def put(self, given: Given) -> int:
        """The source holds this object; its sequence number. One that no message can hold is stated as unreadable, so
        that it is not taken to be gone: that needs its kind and name, without which Refused is raised."""
        try:
            return await self._state(SyncRequest(put=SyncPut(object=as_object(given))))
        except Refused as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT or not isinstance(given, dict):
                raise
            return await self._state(SyncRequest(unreadable=_unreadable(given, error)))

    async def remove(self, reference: ObjectReference) -> int:
        """The source does not hold this object any more; its sequence number."""
        return await self._state(SyncRequest(remove=SyncRemove(reference=reference)))

    async def complete(self) -> SyncPrune:
        """Everything is stated: what became of the objects that were not. Waits until all of it is durable."""
        await self._wait(await self._state(SyncRequest(complete=SyncComplete())))
        return self._prune or SyncPrune(is_done=True)

    async def settled(self, sequence: int | None = None) -> int:
        """Wait until everything up to a statement (all so far) is durable; the revision that holds it."""
        await self._wait(self._sequence if sequence is None else sequence)
        return self.revision

    async def _state(self, request: SyncRequest) -> int:
        assert self._call is not None, "use the session in an async with block"
        if self._failure is not None:
            raise self._failure
        self._sequence += 1
        request.sequence = sequence = self._sequence
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._wait(sequence)  # the reader hears why
        return sequence

    async def _wait(self, sequence: int) -> None:
        while self._acknowledged < sequence:
            if self._failure is not None:
                raise self._failure
            self._moved.clear()
            await self._moved.wait()

    async def _read(self, call: _Call) -> None:
        try:
            async for response in call:
                self._take(response)
                self._moved.set()
            self._failure = Unavailable(f"{self._connection.address}: the server ended the session")
        except grpc.aio.AioRpcError as failure:
            self._failure = error_of(failure, self._connection.address)
        finally:
            self._moved.set()

    def _take(self, response: SyncResponse) -> None:
        self._acknowledged = max(self._acknowledged, response.sequence)
        self.revision = max(self.revision, response.revision)
        for refusal in response.refusals:
            ref = refusal.reference
            self.refusals[ref.kind, ref.namespace, ref.name] = refusal
        if response.HasField("prune"):
            self._prune = response.prune


def _unreadable(manifest: dict[str, object], error: Refused) -> SyncUnreadable:
    group, _, _ = str(manifest.get("apiVersion", "")).rpartition("/")
    kind, metadata = kind_of_manifest(group, str(manifest.get("kind", ""))), manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if kind is None or not isinstance(name, str) or not isinstance(metadata, dict):
        raise error
    namespace = str(metadata.get("namespace") or "default") if kind.is_namespaced else ""
    return SyncUnreadable(
        reference=ObjectReference(kind=kind.name, namespace=namespace, name=name),
        violations=[
            FieldViolation(manifest_path=each.manifest_path, reason=each.description) for each in error.violations
        ],
    )
