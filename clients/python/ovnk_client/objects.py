"""Objects: reading, changing and watching them.

Wherever an object goes in, a manifest (a dict) and a message will both do. Objects come out as messages;
``ovnk_wire.to_manifest`` makes a manifest of one. A kind is named as kubectl takes it: ``po``, ``pods``, ``Pod``,
``networks.operator.openshift.io``.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from google.protobuf.message import Message
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.object_service_pb2 import (
    APPLY_MODE_APPLY,
    APPLY_MODE_CREATE_ONLY,
    APPLY_MODE_REPLACE_ONLY,
    ApplyItem,
    ApplyMode,
    ApplyRequest,
    ApplyResponse,
    DeleteItem,
    DeleteRequest,
    DeleteResponse,
    GetRequest,
    ListRequest,
    ListResponse,
    WatchRequest,
)
from ovnk_api.v1.object_service_pb2_grpc import ObjectServiceStub

from ovnk_client.connection import Connection
from ovnk_client.shape import Given, as_objects, kind_named_by, reference
from ovnk_client.sync import SyncSession
from ovnk_client.watch import Watch

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.object_service_pb2_grpc import ObjectServiceAsyncStub

Mode = Literal["apply", "create", "replace"]
_MODES: dict[Mode, ApplyMode.ValueType] = {
    "apply": APPLY_MODE_APPLY,
    "create": APPLY_MODE_CREATE_ONLY,
    "replace": APPLY_MODE_REPLACE_ONLY,
}


class ObjectCalls(Connection):
    """What a client asks of ObjectService and SyncService. Every call raises a ClientError when it fails."""

    @property
    def _objects(self) -> ObjectServiceAsyncStub:
        return ObjectServiceStub(self.channel)

    async def get(self, kind: str, name: str, *, namespace: str = "") -> Object:
        """One object with its status. Raises NotFound."""
        asked = GetRequest(reference=reference(kind, name, namespace))
        return (await self.ask(self._objects.Get, asked)).object

    async def list(
        self, kind: str, *, namespace: str = "", labels: str = "", fields: str = "", page_size: int = 0
    ) -> AsyncIterator[ListResponse]:
        """Pages that all show one revision, in the order of namespace and name. ``labels`` and ``fields`` are selectors
        as kubectl writes them. Raises Expired when the revision is not kept any more half-way."""
        request = ListRequest(
            kind=kind_named_by(kind).name,
            namespace=namespace,
            label_selector=labels,
            field_selector=fields,
            page_size=page_size,
        )
        while True:
            page = await self.ask(self._objects.List, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def objects(
        self, kind: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[Object]:
        """The objects of all pages."""
        async for page in self.list(kind, namespace=namespace, labels=labels, fields=fields):
            for each in page.objects:
                yield each

    async def apply(
        self,
        objects: Given | Iterable[Given],
        *,
        mode: Mode = "apply",
        validate_only: bool = False,
        request_id: str = "",
    ) -> ApplyResponse:
        """Create or change objects, all or none; durable when this returns.

        An ``ApplyItem`` is taken as it is, ``mode`` is for everything else. A
        ``metadata.resourceVersion`` of this server is a precondition.
        The call is repeated under one ``request_id`` (at most 128 printable ASCII characters; made up when none is
        given) until it is answered. Raises Refused, Exists, NotFound, Conflict.
        """
        request = ApplyRequest(
            items=_items(objects, mode),
            validate_only=validate_only,
            request_id=_request_id(request_id, validate_only),
        )
        return await self.ask(self._objects.Apply, request)

    async def delete(
        self,
        references: ObjectReference | DeleteItem | Iterable[ObjectReference | DeleteItem],
        *,
        validate_only: bool = False,
        request_id: str = "",
        allow_missing: bool = False,
    ) -> DeleteResponse:
        """Delete objects, all or none; a namespace takes everything in it along. ``reference`` makes what names an
        object. Raises NotFound unless ``allow_missing``, Conflict."""
        many = [references] if isinstance(references, ObjectReference | DeleteItem) else references
        request = DeleteRequest(
            items=[DeleteItem(reference=each) if isinstance(each, ObjectReference) else each for each in many],
            validate_only=validate_only,
            request_id=_request_id(request_id, validate_only),
            allow_missing=allow_missing,
        )
        return await self.ask(self._objects.Delete, request)

    def watch(
        self,
        kinds: str | Sequence[str] = (),
        *,
        namespace: str = "",
        labels: str = "",
        resume_revision: int | None = None,
        sends_initial: bool | None = None,
    ) -> Watch:
        """Changes as they come: ``async with client.watch("pods") as events: async for event in events: ...``.

        Without ``resume_revision`` all objects come first, as ``added``, then ``synced`` (``sends_initial=False``:
        from now on only). See ``Watch`` for what happens when the connection is lost.
        """
        words = [kinds] if isinstance(kinds, str) else kinds
        request = WatchRequest(
            kinds=[kind_named_by(word).name for word in words],
            namespace=namespace,
            label_selector=labels,
            resume_revision=resume_revision,
            send_initial=sends_initial,
        )
        return Watch(self, request)

    def sync(self, source: str, *, allow_prune: bool = False) -> SyncSession:
        """A session in which ``source`` states its full truth and then its changes. See ``SyncSession``."""
        return SyncSession(self, source, allow_prune=allow_prune)


def _items(objects: Given | Iterable[Given], mode: Mode) -> list[ApplyItem]:
    many = [objects] if isinstance(objects, Mapping | Message) else list(objects)
    given = [each.object if isinstance(each, ApplyItem) else each for each in many]
    found = [ApplyItem(object=each, mode=_MODES[mode]) for each in as_objects(given)]
    return [each if isinstance(each, ApplyItem) else item for each, item in zip(many, found, strict=True)]


def _request_id(given: str, validate_only: bool) -> str:
    """One for every change, so that it can be asked again; none for what changes nothing."""
    return given or ("" if validate_only else str(uuid.uuid4()))
