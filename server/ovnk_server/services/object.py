"""Objects: get, list, apply, delete, watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_api.v1 import object_service_pb2_grpc
from ovnk_wire import KINDS

from ovnk_core.errors import NotFound, SchemaError
from ovnk_core.keeper.document import object_key
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Accepted, Request, Result
from ovnk_core.keeper.watching import Filter, Page
from ovnk_core.terms.name import ObjectRef
from ovnk_server import access
from ovnk_server.convert import (
    check_items,
    page_size,
    read_drops,
    read_kind,
    read_object,
    read_reference,
    results,
    seconds,
    subject_of,
)
from ovnk_server.convert_northbound import change_plan
from ovnk_server.convert_object import Objects
from ovnk_server.selector import read_field_selector, read_label_selector

SLICE = 100
"""Objects of a page that are read and converted before the loop gets a turn."""
MAX_SLICES = 50
"""Slices after which a page of rare objects ends, however short it is."""
BOOKMARK_S, SHORTEST_BOOKMARK_S, LONGEST_BOOKMARK_S = 10.0, 1.0, 60.0


class ObjectService(object_service_pb2_grpc.ObjectServiceServicer):
    """See ``object_service.proto``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._objects = Objects(keeper)

    # ------------------------------------------------------------------ reading

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        ref = read_reference(request.reference, "reference")
        access.caller().require("get", ref.kind, ref.namespace)
        stored = self._keeper.history.get(object_key(ref))
        if stored is None:
            raise NotFound(f"{ref} does not exist")
        return pb.GetResponse(object=self._objects.message(ref, stored), revision=self._keeper.revision)

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        who = access.caller()
        kind = read_kind(request.kind)
        if request.namespace:
            who.require("list", kind, request.namespace)
        wanted = Filter(
            kinds=(kind,),
            namespace=request.namespace or None,
            selector=read_label_selector(request.label_selector),
            fields=read_field_selector(request.field_selector),
        )
        left, visible = page_size(request.page_size), who.visible("list")
        found: list[Any] = []
        page = Page(revision=0, objects=(), token=request.page_token)
        for _ in range(MAX_SLICES):
            page = self._keeper.page(wanted, limit=min(left, SLICE), token=page.token, visible=visible)
            found += [self._objects.message(ref, stored) for ref, stored in page.objects]
            left -= len(page.objects)
            if not page.token or not left:
                break
            await anyio.sleep(0)
        return pb.ListResponse(objects=found, next_page_token=page.token, revision=page.revision)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        who, keeper = access.caller(), self._keeper
        kinds = tuple(read_kind(kind, f"kinds[{index}]") for index, kind in enumerate(request.kinds))
        if request.namespace:
            for kind in kinds:
                who.require("watch", kind, request.namespace)
        wanted = Filter(
            kinds=kinds, namespace=request.namespace or None, selector=read_label_selector(request.label_selector)
        )
        after, visible, bookmark_s = _start(request, keeper.revision), who.visible("watch"), _bookmark(request)
        async with keeper.watch(wanted, after=after, visible=visible, bookmark_s=bookmark_s) as happenings:
            # A client that asked for no beginning has to know from when on it misses nothing.
            await context.send_initial_metadata(())
            async for happening in happenings:
                yield self._objects.response(happening)

    # ------------------------------------------------------------------ changing

    async def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:
        who = access.caller()
        refs = [subject_of(item.object, f"items[{index}].object") for index, item in enumerate(request.items)]
        for ref in refs:
            who.require("apply", ref.kind, ref.namespace)
        check_items(refs)
        puts = [
            read_object(item.object, index, etag=item.etag, mode=item.mode) for index, item in enumerate(request.items)
        ]
        id = "" if request.validate_only else request.request_id
        asked = self._keeper.request(puts, author=who.identity, id=id)
        if request.validate_only:
            return pb.ApplyResponse(**await self._tried(asked, refs))
        done: Accepted = await self._keeper.commit(asked)
        return pb.ApplyResponse(revision=done.revision, results=results(done.results, refs, done.warnings))

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        who = access.caller()
        drops = read_drops(request.items, may_be_absent=request.allow_missing)
        refs = [drop.ref for drop in drops]
        for ref in refs:
            who.require("delete", ref.kind, ref.namespace)
            if ref.kind == "Namespace":
                # By kind and not by what is there, so that nobody learns what is there.
                for kind in KINDS:
                    if kind.is_namespaced:
                        who.require("delete", kind.name, ref.name)
        check_items(refs)
        id = "" if request.validate_only else request.request_id
        asked = self._keeper.request(drops=drops, author=who.identity, id=id)
        if request.validate_only:
            return pb.DeleteResponse(**await self._tried(asked, refs))
        done: Accepted = await self._keeper.commit(asked)
        return pb.DeleteResponse(revision=done.revision, results=results(done.results, refs, done.warnings))

    async def _tried(self, asked: Request, refs: list[ObjectRef]) -> dict[str, Any]:
        """The fields of an answer to a request that is not to be carried out."""
        done: Accepted
        done, before, after = await self._keeper.try_out(asked)
        sees, schema = access.caller().visible("northbound"), self._keeper.schema
        plan = await anyio.to_thread.run_sync(lambda: change_plan(done.results, before, after, schema, sees=sees))
        found = [_unversioned(result) for result in done.results]
        return {"revision": done.revision, "results": results(found, refs, done.warnings), "plan": plan}


def _unversioned(result: Result) -> Result:
    return Result(ref=result.ref, outcome=result.outcome, revision=0)


def _start(request: pb.WatchRequest, newest: int) -> int | None:
    """The revision to begin after; None for a snapshot. Raises SchemaError."""
    if not request.HasField("resume_revision"):
        return newest if request.HasField("send_initial") and not request.send_initial else None
    if request.send_initial:
        raise SchemaError("excludes resume_revision", path="send_initial", value="true")
    if request.resume_revision < 0:
        raise SchemaError("must not be negative", path="resume_revision", value=str(request.resume_revision))
    return request.resume_revision


def _bookmark(request: pb.WatchRequest) -> float:
    asked = seconds(request, "bookmark_interval")
    return BOOKMARK_S if asked is None else min(max(asked, SHORTEST_BOOKMARK_S), LONGEST_BOOKMARK_S)
