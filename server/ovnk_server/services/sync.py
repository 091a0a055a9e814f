"""Sources of truth: a stream of statements, taken in as they come, and pruned once the source said it is complete.

Statements that arrive while a commit is on its way become the next one, so a fast source is as fast as the store. A
source belongs to one stream: whoever begins anew for it ends the one before, and waits for what that one is writing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from ovnk_api.v1 import meta_pb2, sync_service_pb2_grpc
from ovnk_api.v1 import sync_service_pb2 as pb
from ovnk_wire import WireError, kind_named, kind_of, manifest_path

from ovnk_core.errors import SchemaError
from ovnk_core.ingest.metadata import is_label_name, is_subdomain
from ovnk_core.ingest.text import show
from ovnk_core.keeper.document import Fault, Manifest
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Put
from ovnk_core.keeper.source import Judged, Prune, Pruned, Rejected, Unreadable
from ovnk_core.terms.name import ObjectRef
from ovnk_server import access
from ovnk_server.convert import field_violations, read_object, read_reference, reference, subject_of, unknown_fault
from ovnk_server.faults import StreamEnded

MAX_BATCH = 100
_SOURCE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.:/]{0,251}[A-Za-z0-9])?")


class SyncService(sync_service_pb2_grpc.SyncServiceServicer):
    """See ``sync_service.proto``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._live: dict[str, Session] = {}

    async def Sync(
        self, request_iterator: AsyncIterator[pb.SyncRequest], context: Any
    ) -> AsyncIterator[pb.SyncResponse]:
        arrivals = Arrivals(request_iterator)
        try:
            first = await arrivals.first()
            if first is None:
                return
            session = await self._begin(first)
            yield pb.SyncResponse(sequence=first.sequence, revision=self._keeper.revision)
            while batch := await arrivals.batch(session.is_over):
                yield await session.take(batch)
        finally:
            arrivals.close()

    async def _begin(self, first: pb.SyncRequest) -> Session:
        """Raises SchemaError, or PermissionDenied where no rule lets the caller state anything as this source, where
        the source holds what the caller may not state, or is being stated by somebody else. Otherwise whoever is first
        to state a source has it."""
        who = access.caller()
        if first.WhichOneof("statement") != "begin":
            raise SchemaError("the first statement must begin", path="begin")
        source = first.begin.source
        if not _SOURCE.fullmatch(source):
            fix = "at most 253 letters, digits and -_.:/ that begin and end with a letter or digit"
            raise SchemaError("not a name for a source", path="begin.source", value=show(source), fix=fix)
        stated = {(ref.kind, ref.namespace) for ref in self._keeper.inventory.of_source(source)}
        before = self._live.get(source)
        if (
            not who.policy.names(who.identity, source)
            or not all(who.may("sync", *place, source) for place in stated)
            or (before is not None and before.who.identity != who.identity)
        ):
            # The same words whatever the source holds, and whosever it is.
            raise access.PermissionDenied(f"{who.identity or 'nobody'} may not state the source {source!r}")
        session = self._live[source] = Session(self._keeper, who, first)
        if before is not None:
            await before.end()
        return session


class Arrivals:
    """The statements of one stream, read ahead by at most one batch."""

    def __init__(self, requests: AsyncIterator[pb.SyncRequest]) -> None:
        self._queue: asyncio.Queue[pb.SyncRequest | None] = asyncio.Queue(MAX_BATCH)
        self._reading = asyncio.create_task(self._read(requests))

    async def _read(self, requests: AsyncIterator[pb.SyncRequest]) -> None:
        try:
            async for request in requests:
                await self._queue.put(request)
        finally:
            await self._queue.put(None)

    def close(self) -> None:
        self._reading.cancel()

    async def first(self) -> pb.SyncRequest | None:
        """None: there is none."""
        return await self._next(await self._queue.get())

    async def _next(self, request: pb.SyncRequest | None) -> pb.SyncRequest | None:
        if request is None:
            await self._reading  # Raises what ended the stream, if anything did.
        return request

    async def batch(self, is_over: asyncio.Event) -> list[pb.SyncRequest]:
        """What has arrived, at least one unless the stream ended; nothing comes after a Complete. Raises StreamEnded
        when ``is_over`` is set first."""
        found: list[pb.SyncRequest] = []
        request = await self._next(await self._get(is_over))
        while request is not None:
            found.append(request)
            if request.HasField("complete") or len(found) == MAX_BATCH or self._queue.empty():
                break
            request = self._queue.get_nowait()
            if request is None:
                # Seen again when the next batch is asked for.
                self._queue.put_nowait(None)
        return found

    async def _get(self, is_over: asyncio.Event) -> pb.SyncRequest | None:
        getting, ending = asyncio.create_task(self._queue.get()), asyncio.create_task(is_over.wait())
        try:
            await asyncio.wait((getting, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not getting.done():
                getting.cancel()
        if is_over.is_set():
            raise StreamEnded("another stream of this source began")
        return getting.result()


class Session:
    """One stream of one source, from Begin on."""

    def __init__(self, keeper: Keeper, who: access.Caller, first: pb.SyncRequest) -> None:
        self._keeper, self.who = keeper, who
        self._source, self._allows_prune = first.begin.source, first.begin.allow_prune
        self._sequence = first.sequence
        self._stated: set[ObjectRef] | None = set()
        """What was stated so far; None once the source is complete."""
        self._has_unidentified = False
        self._committing = asyncio.Lock()
        self.is_over = asyncio.Event()

    async def end(self) -> None:
        """Write nothing any more; returns when nothing is being written."""
        self.is_over.set()
        async with self._committing:
            pass

    async def take(self, batch: list[pb.SyncRequest]) -> pb.SyncResponse:
        """Statements, of which only the last may be Complete, become durable -> the answer to them."""
        said = _Said(self.who, self._source)
        for request in batch:
            if request.sequence <= self._sequence:
                raise SchemaError("must grow with every statement", path="sequence", value=str(request.sequence))
            self._sequence = request.sequence
            said.add(request)
        async with self._committing:
            if self.is_over.is_set():
                raise StreamEnded("another stream of this source began")
            judged = await self._state(said)
            pruned = await self._prune() if said.is_complete else None
        return pb.SyncResponse(
            sequence=self._sequence,
            revision=max(judged.revision, pruned.revision if pruned else 0),
            refusals=[*said.nameless, *map(_refusal, judged.refused)],
            prune=None if pruned is None else _pruned(pruned),
        )

    async def _state(self, said: _Said) -> Judged:
        judged: Judged = await self._keeper.commit(
            self._keeper.statement(
                self._source,
                list(said.puts.values()),
                gone=list(said.gone),
                unreadable=list(said.unreadable.values()),
                author=self.who.identity,
            )
        )
        if self._stated is not None:
            self._stated -= said.gone.keys()
            self._stated |= said.puts.keys() | said.unreadable.keys() | {each.ref for each in judged.refused}
            self._has_unidentified |= any(each.may_be_anything for each in judged.refused) or said.has_unidentified
        return judged

    async def _prune(self) -> Pruned:
        if self._stated is None:
            raise SchemaError("a source is complete once", path="complete", fix="begin a new stream")
        stated, self._stated = self._stated, None
        pruned: Pruned = await self._keeper.commit(
            Prune(
                source=self._source,
                stated=frozenset(stated),
                allow=self._allows_prune,
                has_unidentified=self._has_unidentified,
                may_drop=lambda ref: self.who.require("sync", ref.kind, ref.namespace, self._source),
                author=self.who.identity,
            )
        )
        return pruned


class _Said:
    """What some statements amount to: of several about one object the last counts."""

    def __init__(self, who: access.Caller, source: str) -> None:
        self._who, self._source = who, source
        self.puts: dict[ObjectRef, Put] = {}
        self.gone: dict[ObjectRef, None] = {}
        self.unreadable: dict[ObjectRef, Unreadable] = {}
        self.nameless: list[pb.ObjectRefusal] = []
        self.has_unidentified = self.is_complete = False

    def add(self, request: pb.SyncRequest) -> None:
        """Raises SchemaError for what is no statement, and PermissionDenied."""
        fault = unknown_fault(request)
        if fault is not None and not fault.path.startswith("put.object"):
            raise fault
        match request.WhichOneof("statement"):
            case "put":
                self._put(request.put.object, fault)
            case "remove":
                self.gone[self._about(read_reference(request.remove.reference, "remove.reference"))] = None
            case "unreadable":
                ref = read_reference(request.unreadable.reference, "unreadable.reference")
                self._unreadable(self._about(ref), request.unreadable.violations)
            case "complete":
                self.is_complete = True
            case "begin":
                raise SchemaError("only the first statement may begin", path="begin")
            case _:
                raise SchemaError("states nothing that is known here", path="statement")

    def _about(self, ref: ObjectRef) -> ObjectRef:
        self._who.require("sync", ref.kind, ref.namespace, self._source)
        for said in (self.puts, self.gone, self.unreadable):
            said.pop(ref, None)
        return ref

    def _put(self, item: Any, fault: SchemaError | None) -> None:
        """``fault``: something in it is not known here, without which it would be another object."""
        try:
            kind = kind_of(item)
        except WireError as error:
            # A kind that is newer than this server: nothing of it was ever taken in, so nothing can be mistaken for it.
            self.nameless.append(_nameless(error.reason))
            return
        ref = self._about(subject_of(item, "put.object"))
        if fault is None:
            try:
                self.puts[ref] = read_object(item)
                return
            except SchemaError as error:
                fault, path = error, error.path
        else:
            path = manifest_path(kind, fault.path.removeprefix("put.object.").partition(".")[2])
        violation = meta_pb2.FieldViolation(manifest_path=path, value=fault.value, reason=fault.reason, fix=fault.fix)
        self._unreadable(ref, [violation])

    def _unreadable(self, ref: ObjectRef, violations: Any) -> None:
        is_named = is_subdomain(ref.name) and (not ref.namespace or is_label_name(ref.namespace))
        if not is_named:
            self.has_unidentified = True
            self.nameless.append(_nameless(f"{show(ref.name)} is no name that an object can have"))
            return
        faults = tuple(
            Fault(reason=each.reason, path=each.manifest_path, value=each.value, fix=each.fix) for each in violations
        )
        cannot = Fault(reason="cannot be told in this API")
        self.unreadable[ref] = Unreadable(ref=ref, manifest=_stub(ref), faults=faults or (cannot,))


def _stub(ref: ObjectRef) -> Manifest:
    kind = kind_named(ref.kind)
    assert kind is not None
    metadata = {"name": ref.name, "namespace": ref.namespace} if ref.namespace else {"name": ref.name}
    return {"apiVersion": kind.api_version, "kind": kind.kubernetes_kind, "metadata": metadata}


def _nameless(reason: str) -> pb.ObjectRefusal:
    return pb.ObjectRefusal(violations=[meta_pb2.FieldViolation(field="put.object", reason=reason)])


def _refusal(rejected: Rejected) -> pb.ObjectRefusal:
    field = "unreadable" if rejected.index is None else "put.object"
    return pb.ObjectRefusal(
        reference=reference(rejected.ref), violations=field_violations(rejected.ref.kind, rejected.errors, field)
    )


def _pruned(pruned: Pruned) -> pb.SyncPrune:
    return pb.SyncPrune(is_done=pruned.is_done, objects=pruned.objects, message=pruned.message)
