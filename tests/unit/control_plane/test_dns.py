"""DNS names through the front door: recorded answers, a feed, a resolver that fails; over the embedded northbound."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import NotFound, SchemaError
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import Decisions, DnsAnswer, DnsChange, DnsDecision
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.nb.desired import MEMBER
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.runtime.resolver import ResolverSettings
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import ObjectRef
from tests.kit.dns_server import NXDOMAIN, SERVFAIL, SILENT, DnsServer, a

pytestmark = pytest.mark.asyncio
WWW, DB = "www.example.com", "db.example.com"


def firewall(*names: str) -> list[dict[str, Any]]:
    egress = [{"type": "Allow", "to": {"dnsName": name}} for name in names]
    metadata = {"name": "default", "namespace": "a"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": metadata, "spec": {"egress": egress}},
    ]


def answered(*texts: str, at_s: float = 1000.0) -> DnsDecision:
    found = tuple(sorted(parse_address(text) for text in texts))
    history = (DnsChange(at_s=at_s, cause="answer", addresses=found),)
    return DnsDecision(live=found, sticky=found, answer=found, history=history)


def members(cluster: Cluster, name: str) -> list[str]:
    """What the live set of a name holds."""
    return sorted(
        str(address)
        for column, elements in cluster.engine.sets(MEMBER).items()
        if column.row.owner == ObjectRef("DnsName", "", name) and column.row.role == "live/v4"
        for address in elements
    )


async def test_rows_do_not_depend_on_what_came_first() -> None:
    objects, dns = parse_objects(firewall(WWW, DB)).items, {WWW: answered("192.0.2.1"), DB: answered("192.0.2.2")}
    first, last, recorded = Cluster(check=True), Cluster(check=True), Cluster(decisions=Decisions(dns=dns))
    first.decide_dns(dns)
    first.apply(objects)
    last.apply(objects)
    last.decide_dns({DB: answered("192.0.2.9")})
    last.decide_dns(dict(reversed(dns.items())))
    recorded.apply(objects)
    rows = [dict(each.engine.sets(MEMBER)) for each in (first, last, recorded, last.copy())]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert members(last, WWW) == ["192.0.2.1"]
    last.engine.verify()
    assert last.dns_names == {WWW, DB}
    assert list(last.decisions.dns) == [DB, WWW]
    assert not last.decide_dns(dns).delta, "an equal decision changes nothing"
    last.decide_dns({WWW: None, DB: None, "never.example.com": None})
    assert (members(last, WWW), last.decisions.dns) == ([], {})


async def test_a_restart_finds_what_was_answered() -> None:
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply(firewall(WWW))
        with pytest.raises(NotFound, match=r"www\.example\.com was never answered"):
            plane.dns(WWW)
        push = DnsAnswer(name=WWW, addresses=(parse_address("192.0.2.1"),), ttl_s=60)
        await plane.wait(await plane.push_dns(push))
        before = plane.decisions
        assert list(before.dns) == [WWW]
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        assert plane.decisions.dns == before.dns
        await plane.apply(firewall(WWW))
        await plane.wait()
        assert sum(plane.last_flush.operations.values()) == 0
        assert members(plane.cluster, WWW) == ["192.0.2.1"]
    async with ControlPlane(MemoryNorthbound(database=database), writes=False) as plane:
        assert plane.dns(WWW) == before.dns[WWW]


async def test_recorded_decisions_give_way_to_the_northbound() -> None:
    database = MemoryDatabase()
    saved = Decisions(dns={WWW: answered("192.0.2.8"), DB: answered("192.0.2.9")})
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply(firewall(WWW))
        await plane.push_dns(DnsAnswer(name=WWW, addresses=(parse_address("192.0.2.1"),), ttl_s=60))
    async with ControlPlane(MemoryNorthbound(database=database), decisions=saved) as plane:
        await plane.apply(firewall(WWW, DB))
        assert [str(each) for each in plane.dns(WWW).live] == ["192.0.2.1"]
        assert [str(each) for each in plane.dns(DB).live] == ["192.0.2.9"]


async def test_an_unchanged_answer_writes_nothing() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(firewall(WWW))
        push = DnsAnswer(name=WWW, addresses=(parse_address("192.0.2.1"),), ttl_s=60)
        revision = await plane.push_dns(push)
        await plane.wait(revision)
        flush = plane.last_flush
        assert await plane.push_dns(push) == revision
        assert await plane.push_dns(DnsAnswer(name=WWW, outcome="servfail")) == revision
        await plane.wait()
        assert plane.last_flush is flush
        await plane.wait(await plane.push_dns(DnsAnswer(name=WWW, outcome="nxdomain")))
        assert plane.last_flush.operations["update"] == 1, "a denial is recorded"
        assert members(plane.cluster, WWW) == ["192.0.2.1"]


async def test_wants_follow_the_objects_and_a_watch_is_not_disturbed() -> None:
    async with DnsServer() as server:
        server.says(WWW, "A", a(WWW, "192.0.2.1"))
        server.says(DB, "A", SERVFAIL)
        asking = ResolverSettings(servers=(server.address,))
        async with ControlPlane(MemoryNorthbound(), resolver=asking) as plane:
            await plane.apply(firewall(WWW))
            assert list(plane.dns_status()) == [WWW]
            await plane.apply(firewall(DB, WWW))
            await plane.resolve_dns(10.0)
            assert members(plane.cluster, WWW) == ["192.0.2.1"]
            status = plane.dns_status()
            assert (status[DB].failures, status[WWW].failures) == (1, 0)
            assert "SERVFAIL; nothing is known of it yet" in status[DB].warnings[0]
            await plane.delete([ObjectRef("EgressFirewall", "a", "default")])
            assert plane.dns_status() == {}


async def test_a_process_that_ends_soon_asks_each_name_once() -> None:
    names = [f"n{index}.example.com" for index in range(100)]
    async with DnsServer() as server:
        for name in names:
            server.says(name, "A", a(name, "192.0.2.1", ttl=0))
        asking = ResolverSettings(servers=(server.address,), keeps_asking=False)
        async with ControlPlane(MemoryNorthbound(), resolver=asking) as plane:
            await plane.apply(firewall(*names))
            await plane.wait()
            assert server.asked == []
            await plane.resolve_dns(20.0)
            await plane.wait()
            assert sorted(name for name, _, _ in server.asked) == sorted(names)
            status = plane.dns_status()
            assert all(not each.warnings and each.due_s == float("inf") for each in status.values())
            assert len(plane.decisions.dns) == len(names)


async def test_runs_over_one_database_honour_a_second_denial() -> None:
    database = MemoryDatabase()
    async with DnsServer() as server:
        server.says(WWW, "A", a(WWW, "192.0.2.1"), NXDOMAIN)
        asking = ResolverSettings(servers=(server.address,), keeps_asking=False)
        found = []
        for _ in range(3):
            async with ControlPlane(MemoryNorthbound(database=database), resolver=asking) as plane:
                await plane.apply(firewall(WWW))
                await plane.resolve_dns(20.0)
                await plane.wait()
                found.append(members(plane.cluster, WWW))
        assert found == [["192.0.2.1"], ["192.0.2.1"], []]


async def test_a_name_with_more_addresses_than_history_has_room_for_stays_on_record() -> None:
    database = MemoryDatabase()
    many = tuple(parse_address(f"203.113.{100 + index // 100}.{100 + index % 100}") for index in range(1024))
    for _ in range(3):
        async with ControlPlane(MemoryNorthbound(database=database)) as plane:
            await plane.apply(firewall(WWW))
            if WWW not in plane.decisions.dns:
                await plane.push_dns(DnsAnswer(name=WWW, addresses=many))
            await plane.wait()
            assert plane.dns(WWW).live == many
            writes = sum(plane.last_flush.operations.values())
    assert writes == 0


async def test_a_name_is_asked_for_as_people_write_it() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        one = (parse_address("192.0.2.1"),)
        await plane.push_dns(DnsAnswer(name="www.xn--bcher-kva.example", addresses=one))
        for name in ("WWW.Bücher.example.", "www.bücher.example", "www.xn--bcher-kva.example"):
            assert plane.dns(name).live == one
        with pytest.raises(NotFound, match="never answered"):
            plane.dns("OTHER.example")
        with pytest.raises(SchemaError):
            plane.dns("a b")


async def test_the_end_does_not_wait_for_a_silent_server() -> None:
    async with DnsServer() as server:
        server.says(WWW, "A", SILENT)
        asking = ResolverSettings(servers=(server.address,), timeout_s=600.0)
        with anyio.fail_after(10):
            async with ControlPlane(MemoryNorthbound(), resolver=asking) as plane:
                receipt = await plane.apply(firewall(WWW))
                await plane.wait(receipt.revision)
                while not server.asked:
                    await anyio.sleep(0.001)


async def test_no_server_is_a_status_not_a_crash() -> None:
    asking = ResolverSettings(resolv_conf="does/not/exist")
    async with ControlPlane(MemoryNorthbound(), resolver=asking) as plane:
        await plane.apply(firewall(WWW))
        await plane.resolve_dns(10.0)
        assert plane.dns_status()[WWW].failure == "no DNS server is configured"


async def test_a_pushed_name_is_read_like_a_declared_one() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        one = (parse_address("192.0.2.1"),)
        await plane.push_dns(DnsAnswer(name="WWW.Bücher.example.", addresses=one))
        await plane.push_dns(DnsAnswer(name="*.example.com", addresses=one))
        assert list(plane.decisions.dns) == ["*.example.com", "www.xn--bcher-kva.example"]
        for name in ("", "a b", 'x" || ip4', "a.*.example.com", "192.0.2.1", "x" * 64):
            with pytest.raises(SchemaError):
                await plane.push_dns(DnsAnswer(name=name, addresses=one))
        saved = json.dumps(decisions_manifest(plane.decisions)).encode()
        assert read_decisions(saved, source="saved.json") == plane.decisions
