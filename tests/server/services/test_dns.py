"""DnsService through a real channel: answers of a feed, what is known of names, and who may know it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from ovnk_api.v1 import dns_service_pb2 as pb

from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.northbound.memory import MemoryDatabase
from ovnk_core.store.memory import MemoryLogDatabase
from ovnk_core.topology.place import Settings
from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply, assert_from_scratch, failure, served, until

pytestmark = pytest.mark.asyncio
FEED = KeeperSettings(cluster=Settings(has_dns_feed=True))


def firewall(*names: str, namespace: str = "shop") -> dict[str, Any]:
    rules = [{"type": "Allow", "to": {"dnsName": name}} for name in names]
    meta = {"name": "default", "namespace": namespace}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": rules}}


def answer(name: str, *addresses: str, **more: Any) -> pb.DnsAnswer:
    return pb.DnsAnswer(name=name, addresses=addresses, ttl=Duration(seconds=300), **more)


async def push(api: Api, *answers: pb.DnsAnswer) -> pb.PushAnswersResponse:
    return await api.dns.PushAnswers(pb.PushAnswersRequest(answers=answers))


async def name(api: Api, name: str, **more: Any) -> pb.DnsName:
    return (await api.dns.GetName(pb.GetNameRequest(name=name, **more))).name


async def test_pushed_answers_are_durable_and_in_force() -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    async with served(log=log, northbound=northbound, settings=FEED) as stand:
        api = await stand.caller()
        await apply(api, m.namespace(), firewall("www.example.com", "*.example.org"))
        done = await push(
            api,
            answer("WWW.example.com.", "198.51.100.7", "198.51.100.8"),
            answer("*.example.org", "203.0.113.5"),
            answer("nobody.example", "203.0.113.6"),
        )
        assert (done.accepted, list(done.ignored_names)) == (2, ["nobody.example"])
        assert done.revision == stand.keeper.revision
        found = await name(api, "www.example.com")
        assert found.is_on_record
        assert list(found.addresses) == ["198.51.100.7", "198.51.100.8"]
        assert [each.cause for each in found.history] == [pb.DNS_CAUSE_PUSHED]
        assert found.status.is_answered
        assert_from_scratch(stand.keeper)
    async with served(log=log, northbound=northbound, settings=FEED) as stand:
        api = await stand.caller()
        assert list((await name(api, "*.example.org")).addresses) == ["203.0.113.5"]


async def test_the_history_of_a_name(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace(), firewall("www.example.com"))
    await push(api, answer("www.example.com", "198.51.100.7"))
    now_s = (await name(api, "www.example.com")).history[0].at.seconds
    before = await name(api, "www.example.com", at=Timestamp(seconds=now_s - 1))
    assert (before.is_on_record, list(before.addresses)) == (False, [])
    then = await name(api, "www.example.com", at=Timestamp(seconds=now_s))
    assert (then.is_on_record, list(then.addresses)) == (True, ["198.51.100.7"])
    await push(api, answer("www.example.com", "198.51.100.9"))
    moved = await name(api, "www.example.com")
    assert list(moved.deny_addresses) == ["198.51.100.7", "198.51.100.9"]
    assert [each.address for each in moved.leaving] == ["198.51.100.7"]


async def test_names_that_were_never_answered(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace(), firewall("www.example.com"))
    assert not (await name(api, "www.example.com")).is_on_record
    absent = api.dns.GetName(pb.GetNameRequest(name="absent.example"))
    assert (await failure(absent)).code is StatusCode.NOT_FOUND


async def test_names_page_by_page(stand: Stand, api: Api) -> None:
    wanted = sorted(f"h{number}.example.com" for number in range(25))
    await apply(api, m.namespace(), firewall(*wanted))
    found, token = [], ""
    for _ in range(3):
        page = await api.dns.ListNames(pb.ListNamesRequest(page_size=10, page_token=token))
        found += [each.name for each in page.names]
        token = page.next_page_token
        assert page.total_size == 25
    assert (found, token) == (wanted, "")


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (answer("no name!", "198.51.100.7"), "answers[1].name"),
        (answer("a.example", "198.51.100.777"), "answers[1].addresses[0]"),
        (answer("a.example", outcome=77), "answers[1].outcome"),
        (answer("a.example", family=77), "answers[1].family"),
        (pb.DnsAnswer(name="a.example", ttl=Duration(seconds=-1)), "answers[1].ttl"),
        (answer("a.example", *["198.51.100.7"] * 2_000), "answers[1].addresses"),
    ],
)
async def test_answers_that_cannot_be_read(api: Api, bad: pb.DnsAnswer, field: str) -> None:
    failed = await failure(push(api, answer("a.example", "198.51.100.7"), bad))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]


async def test_a_push_goes_to_the_server_that_writes() -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    one, two = (KeeperSettings(holder=name) for name in ("one", "two"))
    async with (
        served(log=log, northbound=northbound, settings=one) as first,
        served(log=log, northbound=northbound, settings=two) as second,
    ):
        writer, other = await first.caller(), await second.caller()
        await until(lambda: first.keeper.term is not None)
        await apply(other, m.namespace(), firewall("www.example.com"))
        failed = await failure(push(other, answer("www.example.com", "198.51.100.7")))
        assert (failed.code, failed.reason) == (StatusCode.FAILED_PRECONDITION, "NOT_WRITER")
        assert failed.facts["writer"] == "one"
        done = await push(writer, answer("www.example.com", "198.51.100.7"))
        await until(lambda: second.keeper.revision >= done.revision)
        assert list((await name(other, "www.example.com")).addresses) == ["198.51.100.7"]
        assert [each.is_answered for each in (await other.dns.ListNames(pb.ListNamesRequest())).names] == [True]


async def test_names_are_known_to_those_who_may_read_their_firewall(stand: Stand, api: Api) -> None:
    hers, theirs = firewall("a.example", namespace="a"), firewall("b.example", namespace="b")
    await apply(api, m.namespace("a"), m.namespace("b"), hers, theirs)
    await push(api, answer("a.example", "198.51.100.7"), answer("b.example", "198.51.100.8"))
    ann = await stand.caller("ann", Rules(("get", "EgressFirewall", "a")))
    page = await ann.dns.ListNames(pb.ListNamesRequest())
    assert ([each.name for each in page.names], page.total_size) == (["a.example"], 1)
    assert (await name(ann, "a.example")).is_on_record
    known = await failure(name(ann, "b.example"))
    unknown = await failure(name(ann, "c.example"))
    assert known.code is unknown.code is StatusCode.PERMISSION_DENIED
    assert known.text.replace("b.example", "") == unknown.text.replace("c.example", "")
    assert (await failure(push(ann, answer("a.example", "198.51.100.9")))).code is StatusCode.PERMISSION_DENIED
