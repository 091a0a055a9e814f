"""Watches through a real channel: snapshot, changes, bookmarks, resume, and what a slow one is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from ovnk_api.v1 import dns_service_pb2
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_server.access import Caller
from ovnk_server.hearing import Hearing

from ovnk_core.keeper import watching
from tests.kit import manifest as m
from tests.kit.served import AllowAll, Api, Rules, Stand, apply, delete_request, failure, named, take

pytestmark = pytest.mark.asyncio


def told(event: pb.WatchResponse) -> tuple[str, str]:
    """(what, whom)."""
    kind = event.WhichOneof("event")
    item = getattr(getattr(event, kind), "object", None)
    if item is None:
        return kind, ""
    meta = getattr(item, item.WhichOneof("object")).metadata
    return kind, f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def labelled(name: str, namespace: str = "shop", **labels: str) -> dict[str, Any]:
    return m.pod(name, namespace, metadata={"labels": labels})


async def test_snapshot_then_synced_then_changes_in_order(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace(), labelled("a"), labelled("b"))
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Pod"]))
    initial = await take(stream, 3)
    assert [told(each) for each in initial] == [("added", "shop/a"), ("added", "shop/b"), ("synced", "")]
    assert initial[2].synced.objects == 2
    assert [each.resume_revision for each in initial] == [0, 0, initial[2].revision]
    await apply(api, labelled("a", x="1"), labelled("c"))
    await api.objects.Delete(delete_request(named("Pod", "b", "shop")))
    changes = await take(stream, 3)
    assert [told(each) for each in changes] == [("modified", "shop/a"), ("added", "shop/c"), ("deleted", "shop/b")]
    assert changes[0].revision == changes[1].revision < changes[2].revision
    # A break between two changes of one revision repeats the first of them.
    assert changes[0].resume_revision == initial[2].revision
    assert changes[1].resume_revision == changes[1].revision
    assert changes[1].added.object.pod.metadata.resource_version == f"r{changes[1].revision}"


async def test_a_change_of_labels_moves_objects_into_and_out_of_sight(api: Api) -> None:
    await apply(api, m.namespace(), labelled("a", app="web"))
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Pod"], label_selector="app=web"))
    assert [told(each)[0] for each in await take(stream, 2)] == ["added", "synced"]
    await apply(api, labelled("a", app="db"))
    await apply(api, labelled("b", app="db"))
    await apply(api, labelled("b", app="web"))
    found = await take(stream, 2)
    assert [told(each) for each in found] == [("deleted", "shop/a"), ("added", "shop/b")]
    assert dict(found[0].deleted.object.pod.metadata.labels) == {"app": "web"}


async def test_resuming_misses_and_repeats_nothing(stand: Stand, api: Api) -> None:
    first = await apply(api, m.namespace(), labelled("a"))
    await apply(api, labelled("b"), labelled("c"))
    await apply(api, labelled("a", x="1"))
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Pod"], resume_revision=first.revision))
    found = await take(stream, 3)
    assert [told(each) for each in found] == [("added", "shop/b"), ("added", "shop/c"), ("modified", "shop/a")]
    # In the middle of a revision: what may not have been seen comes again.
    again = api.objects.Watch(pb.WatchRequest(kinds=["Pod"], resume_revision=found[0].resume_revision))
    assert [told(each)[1] for each in await take(again, 3)] == ["shop/b", "shop/c", "shop/a"]
    after = api.objects.Watch(pb.WatchRequest(kinds=["Pod"], resume_revision=found[1].resume_revision))
    assert told((await take(after, 1))[0]) == ("modified", "shop/a")


async def test_without_the_beginning(api: Api) -> None:
    await apply(api, m.namespace(), labelled("a"))
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Pod"], send_initial=False))
    await stream.initial_metadata()
    await apply(api, labelled("b"))
    assert told((await take(stream, 1))[0]) == ("added", "shop/b")


async def test_bookmarks_come_when_nothing_else_does(stand: Stand, api: Api) -> None:
    """Changes of other kinds count as nothing, but move the bookmark."""
    await apply(api, m.namespace(), labelled("a"))
    request = pb.WatchRequest(kinds=["EgressFirewall"], bookmark_interval=Duration(nanos=1))
    stream = api.objects.Watch(request)
    synced = (await take(stream, 1))[0]

    async def disturb() -> None:
        for number in range(200):
            await apply(api, labelled("a", n=str(number)))
            await asyncio.sleep(0.02)

    disturbing = asyncio.create_task(disturb())
    bookmark = (await asyncio.wait_for(take(stream, 1), 8))[0]
    disturbing.cancel()
    assert told(bookmark)[0] == "bookmark"
    assert bookmark.resume_revision == bookmark.revision > synced.revision


async def test_a_revision_outside_the_history(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CATCH_UP_S", 0.05)
    for number in range(5):
        await apply(api, m.namespace(f"n{number}"))
    stand.keeper.history.forget(3)
    old = await failure(api.objects.Watch(pb.WatchRequest(resume_revision=2)))
    assert (old.code, old.reason) == (StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    # Of a store that was put back, or another one altogether.
    new = await failure(api.objects.Watch(pb.WatchRequest(resume_revision=99)))
    assert (new.code, new.reason) == (StatusCode.OUT_OF_RANGE, "REVISION_IN_FUTURE")


async def test_resuming_from_a_revision_that_is_on_its_way(stand: Stand, api: Api) -> None:
    """Another server may have shown it already."""
    now = stand.keeper.revision
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Namespace"], resume_revision=now + 1))
    await asyncio.sleep(0.05)
    await apply(api, m.namespace("one"))
    await apply(api, m.namespace("two"))
    assert told((await take(stream, 1))[0]) == ("added", "two")


async def test_who_falls_behind_is_told_so(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_LAG", 50)
    await apply(api, m.namespace())
    watch = stand.keeper.watch(watching.Filter(kinds=("Namespace",)))
    async with watch as happenings:
        assert [(await anext(happenings)).type for _ in range(2)] == ["added", "synced"]
        for number in range(60):
            await apply(api, m.namespace("shop", metadata={"labels": {"n": str(number)}}))
        assert (await anext(happenings)).type == "resync"
        with pytest.raises(StopAsyncIteration):
            await anext(happenings)


async def test_resuming_far_back_is_not_being_late(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_LAG", 5)
    first = await apply(api, m.namespace())
    for number in range(20):
        await apply(api, m.namespace("shop", metadata={"labels": {"n": str(number)}}))
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Namespace"], resume_revision=first.revision))
    assert [told(each)[0] for each in await take(stream, 20)] == ["modified"] * 20


async def test_one_large_change_makes_nobody_late(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_LAG", 5)
    await apply(api, m.namespace())
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Pod"]))
    await take(stream, 1)
    await apply(api, *(m.pod(f"p{number:04}") for number in range(1_200)))
    found = await take(stream, 1_200)
    assert [told(each)[0] for each in found] == ["added"] * 1_200
    assert len({each.revision for each in found}) == 1
    assert {each.resume_revision for each in found[:-1]} == {found[0].resume_revision}
    assert found[-1].resume_revision == found[-1].revision


async def test_a_slow_reader_holds_up_nobody(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    slow = api.objects.Watch(pb.WatchRequest())
    await slow.read()
    fast = api.objects.Watch(pb.WatchRequest(kinds=["Namespace"]))
    await take(fast, 2)
    text = "x" * 200_000
    for number in range(40):
        await apply(api, m.namespace("shop", metadata={"annotations": {"big": text, "n": str(number)}}))
        assert told((await asyncio.wait_for(take(fast, 1), 5))[0]) == ("modified", "shop")
    slow.cancel()


async def test_watches_share_their_messages(stand: Stand, api: Api) -> None:
    """A fan-out converts once: what two watches are sent is one message."""
    await apply(api, m.namespace(), m.pod())
    objects = stand.services[0][1]._objects  # type: ignore[attr-defined]
    hearing = Hearing(Caller(identity="ann", policy=AllowAll()))
    async with stand.keeper.watch(watching.Filter()) as one, stand.keeper.watch(watching.Filter()) as two:
        for _ in range(2):
            first, second = [objects.response(await anext(each), hearing) for each in (one, two)]
            assert first is second


async def test_watch_shows_what_the_caller_may_read(stand: Stand, api: Api) -> None:
    ann = await stand.caller("ann", Rules(("watch", "Pod NetworkPolicy", "a")))
    stream = ann.objects.Watch(pb.WatchRequest())
    assert told((await take(stream, 1))[0]) == ("synced", "")
    await apply(api, m.namespace("a"), m.namespace("b"), m.pod("one", "a"), m.pod("two", "b"), m.policy(namespace="a"))
    assert [told(each)[1] for each in await take(stream, 2)] == ["a/one", "a/p"]
    denied = await failure(ann.objects.Watch(pb.WatchRequest(kinds=["Pod"], namespace="b")))
    assert denied.code is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"kinds": ["Pod", "pods"]}, "kinds[1]"),
        ({"resume_revision": 1, "send_initial": True}, "send_initial"),
        ({"resume_revision": -1}, "resume_revision"),
        ({"label_selector": "=x"}, "label_selector"),
    ],
)
async def test_a_watch_that_cannot_be_asked(api: Api, asked: dict[str, Any], field: str) -> None:
    failed = await failure(api.objects.Watch(pb.WatchRequest(**asked)))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]


async def test_a_refused_status_moves_with_the_cluster(api: Api) -> None:
    """The message of an object is made anew when its derived status changes, though the object did not."""
    rules = [{"type": "Allow", "to": {"dnsName": "www.example.com"}}]
    meta = {"name": "default", "namespace": "shop"}
    wanted = {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": rules}}
    await apply(api, m.namespace(), wanted)
    get = pb.GetRequest(reference=named("EgressFirewall", "default", "shop"))

    async def pending() -> str:
        found = (await api.objects.Get(get)).object.egress_firewall.status.conditions
        return {each.type: each.status for each in found}["DNSPending"]

    assert await pending() == "True"
    answer = dns_service_pb2.DnsAnswer(name="www.example.com", addresses=["198.51.100.7"], ttl=Duration(seconds=60))
    await api.dns.PushAnswers(dns_service_pb2.PushAnswersRequest(answers=[answer]))
    assert await pending() == "False"


async def test_nothing_is_missed_where_a_right_is_taken_and_given_back(stand: Stand, api: Api) -> None:
    """What was passed over while it was not allowed is not made up for by going on."""
    await apply(api, m.namespace())
    everything, less = Rules(("get list watch", "Pod", "shop")), Rules(("get list watch", "NetworkPolicy", "shop"))
    ann = await stand.caller("ann", everything)
    asked = pb.WatchRequest(kinds=["Pod"], send_initial=False, bookmark_interval=Duration(seconds=1))
    stream = ann.objects.Watch(asked)
    await stream.initial_metadata()
    ann.ruled(less)
    hidden = await apply(api, m.pod("one"))
    (bookmark,) = await asyncio.wait_for(take(stream, 1), 8)
    assert told(bookmark)[0] == "bookmark" and bookmark.revision == hidden.revision
    ann.ruled(everything)
    found = await asyncio.wait_for(failure(stream), 8)
    assert (found.code, found.reason) == (StatusCode.PERMISSION_DENIED, "POLICY_CHANGED")
    assert [each.pod.metadata.name for each in (await ann.objects.List(pb.ListRequest(kind="Pod"))).objects] == ["one"]


async def test_whom_no_rule_names_lists_and_watches_nothing(stand: Stand, api: Api) -> None:
    nobody = await stand.caller("nobody", Rules())
    for call in (nobody.objects.List(pb.ListRequest(kind="Pod")), nobody.objects.Watch(pb.WatchRequest())):
        assert (await failure(call)).code is StatusCode.PERMISSION_DENIED
