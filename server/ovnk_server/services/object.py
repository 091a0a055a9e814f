"""Objects: get, list, apply, delete, watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_api.v1 import object_service_pb2_grpc
from ovnk_api.v1.object_pb2 import Object
from ovnk_wire import kind_named, to_manifest

from ovnk_core.errors import NotFound, SchemaError
from ovnk_core.keeper.document import object_key
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Accepted, Request, Result
from ovnk_core.keeper.watching import FieldTest, Filter, Page
from ovnk_core.terms.name import ObjectRef
from ovnk_server import access
from ovnk_server.convert import (
    check_items,
    page_size,
    read_drops,
    read_kind,
    read_object,
    read_reference,
    request_id,
    results,
    seconds,
    subject_of,
)
from ovnk_server.convert_northbound import change_plan
from ovnk_server.convert_object import Objects
from ovnk_server.convert_router import router_warnings
from ovnk_server.hearing import Hearing
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
        who = access.caller()
        who.require("get", ref.kind, ref.namespace)
        stored = self._keeper.history.get(object_key(ref))
        if stored is None:
            raise NotFound(f"{ref} does not exist")
        found = self._objects.message(ref, stored, Hearing(who))
        return pb.GetResponse(object=found, revision=self._keeper.revision)

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        who = access.caller()
        kind = read_kind(request.kind)
        if request.namespace:
            who.require("list", kind, request.namespace)
        known = kind_named(kind)
        assert known is not None
        fields, shown = read_field_selector(request.field_selector, known)
        wanted = Filter(
            kinds=(kind,),
            namespace=request.namespace or None,
            selector=read_label_selector(request.label_selector),
            fields=fields,
            shown=shown,
        )
        left = most = page_size(request.page_size)
        visible, hearing = who.visible("list"), Hearing(who)
        found: list[Any] = []
        page = Page(revision=0, objects=(), token=request.page_token)
        for _ in range(MAX_SLICES):
            page = self._keeper.page(wanted, limit=min(left, SLICE), token=page.token, visible=visible)
            made = (self._objects.message(ref, stored, hearing) for ref, stored in page.objects)
            found += [each for each in made if not shown or _holds(shown, each)]
            left = most - len(found)
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
        hearing = Hearing(who)
        async with keeper.watch(wanted, after=after, visible=visible, bookmark_s=bookmark_s) as happenings:
            # A client that asked for no beginning has to know from when on it misses nothing.
            await context.send_initial_metadata(())
            async for happening in happenings:
                yield self._objects.response(happening, hearing)

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
        asked = self._keeper.request(puts, author=who.identity, id=request_id(request))
        if request.validate_only:
            return pb.ApplyResponse(**await self._tried(asked, refs))
        return pb.ApplyResponse(**await self._done(asked, refs))

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        who = access.caller()
        drops = read_drops(request.items, may_be_absent=request.allow_missing)
        refs = [drop.ref for drop in drops]
        for ref in refs:
            who.require_delete(ref)
        check_items(refs)
        asked = self._keeper.request(drops=drops, author=who.identity, id=request_id(request))
        if request.validate_only:
            return pb.DeleteResponse(**await self._tried(asked, refs))
        return pb.DeleteResponse(**await self._done(asked, refs))

    async def _done(self, asked: Request, refs: list[ObjectRef]) -> dict[str, Any]:
        """Carry out a request -> the fields of its answer."""
        done: Accepted = await self._keeper.commit(asked)
        who, cluster = access.caller(), self._keeper.plane.cluster
        hearing, problems = Hearing(who), cluster.problems
        waits = [f"{ref}: {hearing.text(each)}" for ref in refs for each in problems.get(ref, ())]
        told, _ = hearing.results(done.results, refs)
        warnings = [*done.warnings, *waits, *router_warnings(who, cluster, refs)]
        return {"revision": done.revision, "results": results(told, refs, warnings)}

    async def _tried(self, asked: Request, refs: list[ObjectRef]) -> dict[str, Any]:
        """The fields of an answer to a request that is not to be carried out."""
        done: Accepted
        done, before, after = await self._keeper.try_out(asked)
        who, schema = access.caller(), self._keeper.schema
        sees, (told, is_redacted) = who.visible("northbound"), Hearing(who).results(done.results, refs)
        plan = await anyio.to_thread.run_sync(lambda: change_plan(told, before, after, schema, sees=sees))
        plan.is_redacted |= is_redacted
        warnings = [*done.warnings, *router_warnings(who, after, refs)]
        found = [_unversioned(result) for result in told]
        return {"revision": done.revision, "results": results(found, refs, warnings), "plan": plan}


def _holds(tests: tuple[FieldTest, ...], item: Object) -> bool:
    manifest = to_manifest(item)
    return all(test.holds(manifest) for test in tests)


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
