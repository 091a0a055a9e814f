"""A watch misses no change and repeats none, whatever becomes of its connection."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.object_service_pb2 import WatchResponse
from ovnk_client import Denied, WatchEvent
from ovnk_client.client import Client
from ovnk_client.connection import Backoff
from ovnk_wire import from_manifest

from tests.clients.scripted import Handler, Script, abort, scripted

CODE = grpc.StatusCode
actual = Backoff.pause_s


def pod(name: str) -> Object:
    return from_manifest({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}})[0]


def added(name: str, revision: int, resume: int = 0) -> WatchResponse:
    found = WatchResponse(revision=revision, resume_revision=resume)
    found.added.object.CopyFrom(pod(name))
    return found


def modified(name: str, revision: int, resume: int) -> WatchResponse:
    found = WatchResponse(revision=revision, resume_revision=resume)
    found.modified.object.CopyFrom(pod(name))
    return found


def synced(revision: int, objects: int = 0) -> WatchResponse:
    found = WatchResponse(revision=revision, resume_revision=revision)
    found.synced.objects = objects
    return found


def bookmark(revision: int) -> WatchResponse:
    found = WatchResponse(revision=revision, resume_revision=revision)
    found.bookmark.SetInParent()
    return found


def sends(*responses: WatchResponse, then: CODE | None = CODE.UNAVAILABLE) -> Handler:
    """These events, then a failure (None: the stream just ends)."""

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[WatchResponse]:
        for each in responses:
            yield each
        if then is not None:
            await abort(context, then, "lost")

    return handle


async def take(client: Client, count: int, **asked: Any) -> list[WatchEvent]:
    found: list[WatchEvent] = []
    async with client.watch("pods", **asked) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError


def told(events: Sequence[WatchEvent]) -> list[str]:
    return [event.type + (f" {event.object.pod.metadata.name}" if event.object else "") for event in events]


@pytest.mark.asyncio
async def test_the_list_comes_first_and_then_changes() -> None:
    script = Script(Watch=sends(added("a", 3), added("b", 4), synced(4, 2), modified("a", 5, 5)))
    async with scripted(script) as client:
        events = await take(client, 4)
    assert told(events) == ["added a", "added b", "synced", "modified a"]
    assert [event.resume_revision for event in events] == [0, 0, 4, 5]
    assert not script.requests["Watch"][0].HasField("resume_revision")


@pytest.mark.parametrize("ending", [CODE.UNAVAILABLE, CODE.CANCELLED, None], ids=str)
@pytest.mark.asyncio
async def test_a_lost_watch_resumes_behind_the_last_whole_revision(ending: CODE | None) -> None:
    script = Script(
        Watch=[
            sends(synced(4), modified("a", 5, 5), bookmark(6), then=ending),
            sends(modified("b", 7, 7), then=ending),
            sends(modified("c", 8, 8)),
        ]
    )
    async with scripted(script) as client:
        events = await take(client, 5)
    assert told(events) == ["synced", "modified a", "bookmark", "modified b", "modified c"]
    assert [each.resume_revision for each in script.requests["Watch"]] == [0, 6, 7]
    assert not any(each.HasField("send_initial") for each in script.requests["Watch"][1:])


@pytest.mark.asyncio
async def test_a_revision_that_was_seen_in_part_is_not_repeated() -> None:
    whole = [modified("a", 5, 4), modified("b", 5, 4), modified("c", 5, 5)]
    script = Script(
        Watch=[sends(synced(4), *whole[:1]), sends(*whole[:2]), sends(*whole, modified("a", 6, 6))],
    )
    async with scripted(script) as client:
        events = await take(client, 5)
    assert told(events) == ["synced", "modified a", "modified b", "modified c", "modified a"]
    assert [each.resume_revision for each in script.requests["Watch"]] == [0, 4, 4]


@pytest.mark.asyncio
async def test_a_list_that_was_interrupted_starts_over() -> None:
    script = Script(Watch=[sends(added("a", 1), added("b", 2)), sends(added("a", 1), added("b", 2), synced(2, 2))])
    async with scripted(script) as client:
        events = await take(client, 6)
    assert told(events) == ["added a", "added b", "resync", "added a", "added b", "synced"]
    assert [each.HasField("resume_revision") for each in script.requests["Watch"]] == [False, False]


@pytest.mark.parametrize("is_compacted", [True, False], ids=["compacted", "too slow"])
@pytest.mark.asyncio
async def test_what_cannot_be_resumed_is_listed_anew(is_compacted: bool) -> None:
    slow = WatchResponse(revision=9)
    slow.resync_required.reason = "too slow"
    ending = sends(then=CODE.OUT_OF_RANGE) if is_compacted else sends(slow)
    script = Script(Watch=[sends(synced(4)), ending, sends(added("a", 8), synced(9, 1), modified("a", 10, 10))])
    async with scripted(script) as client:
        events = await take(client, 5)
    assert told(events) == ["synced", "resync", "added a", "synced", "modified a"]
    _, second, third = script.requests["Watch"]
    assert second.resume_revision == 4
    assert third.send_initial and not third.HasField("resume_revision")


@pytest.mark.asyncio
async def test_a_revision_of_the_callers_that_is_gone_is_listed_anew() -> None:
    script = Script(Watch=[sends(then=CODE.OUT_OF_RANGE), sends(synced(9))])
    async with scripted(script) as client:
        assert told(await take(client, 2, resume_revision=3)) == ["resync", "synced"]
    assert script.requests["Watch"][0].resume_revision == 3


@pytest.mark.asyncio
async def test_who_has_to_start_over_again_and_again_asks_more_and_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is too much for this client is not asked of the server without a break."""
    pauses: list[float] = []
    monkeypatch.setattr(Backoff, "pause_s", lambda self, wanted_s=None: pauses.append(self._next_s) or actual(self))
    slow = WatchResponse(revision=9)
    slow.resync_required.reason = "too slow"
    script = Script(Watch=sends(added("a", 4), synced(4, 1), slow))
    async with scripted(script) as client:
        events = await take(client, 9)
    assert told(events) == ["added a", "synced", "resync"] * 3
    assert pauses == sorted(set(pauses)) and len(pauses) == 3


@pytest.mark.asyncio
async def test_a_policy_that_forbids_it_ends_the_watch() -> None:
    script = Script(Watch=[sends(synced(4)), sends(then=CODE.PERMISSION_DENIED)])
    async with scripted(script) as client:
        with pytest.raises(Denied):
            await take(client, 2)


@pytest.mark.asyncio
async def test_kinds_that_are_newer_than_the_client_are_passed_over() -> None:
    unknown = WatchResponse(revision=5, resume_revision=5)
    unknown.added.object.SetInParent()
    script = Script(Watch=sends(synced(4), unknown, WatchResponse(revision=6), modified("a", 7, 7)))
    async with scripted(script) as client:
        assert told(await take(client, 2)) == ["synced", "modified a"]


# ------------------------------------------------------------------------------- every way to be cut off


class Edit(NamedTuple):
    revision: int
    name: str


def history(dice: random.Random) -> list[Edit]:
    """Revisions from 2 on, each with one to four names."""
    return [
        Edit(revision, name) for revision in range(2, 12) for name in sorted(dice.sample("abcdef", dice.randint(1, 4)))
    ]


def faithful(edits: list[Edit], dice: random.Random) -> Handler:
    """A server that keeps its promise about resume_revision, and breaks off after a few events."""

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[WatchResponse]:
        left = dice.randint(1, 6)
        after = request.resume_revision
        if not request.HasField("resume_revision"):
            after, left = 1, left - 1
            yield synced(1)
        pending = [edit for edit in edits if edit.revision > after]
        for edit, following in zip(pending, [*pending[1:], None], strict=True):
            if not left:
                await abort(context, CODE.UNAVAILABLE, "lost")
            left -= 1
            if following is None or following.revision != edit.revision:
                after = edit.revision
            yield modified(edit.name, edit.revision, after)
        await abort(context, CODE.UNAVAILABLE, "lost")

    return handle


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.asyncio
async def test_every_change_comes_once_and_in_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovnk_client.connection.FIRST_PAUSE_S", 0.001)
    dice = random.Random(seed)
    edits = history(dice)
    async with scripted(Script(Watch=faithful(edits, dice))) as client:
        events = (await take(client, len(edits) + 1))[1:]
    assert [Edit(event.revision, event.object.pod.metadata.name) for event in events if event.object] == edits


@pytest.mark.asyncio
async def test_other_rights_are_a_new_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not told while it was not allowed comes with a new list only."""
    monkeypatch.setattr("ovnk_client.connection.FIRST_PAUSE_S", 0.001)
    asked: list[tuple[bool, int]] = []

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[WatchResponse]:
        asked.append((request.send_initial, request.resume_revision))
        yield synced(3 + len(asked))
        if len(asked) == 1:
            await abort(context, CODE.PERMISSION_DENIED, "other rights", ErrorInfo(reason="POLICY_CHANGED"))

    async with scripted(Script(Watch=handle)) as client:
        assert [each.type for each in await take(client, 3)] == ["synced", "resync", "synced"]
    assert asked == [(False, 0), (True, 0)]
