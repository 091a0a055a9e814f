"""What the etcd backend promises beyond the contract: races, lost replies, kills, damage, limits, TLS."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import Any

import pytest

from ovnk_core.errors import (
    QuotaError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnknown,
    Superseded,
)
from ovnk_core.store import etcd as etcd_module
from ovnk_core.store.address import EtcdTls
from ovnk_core.store.entry import Base
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.etcd_link import delete
from ovnk_core.store.etcd_link import put as put_key
from ovnk_core.store.replay import replay
from tests.kit.certificates import Authority
from tests.kit.etcd import EtcdServer, free_ports
from tests.kit.ovn import short_directory
from tests.kit.store import changed, entries, entry, put, taken
from tests.south.etcd_store import Open, Wire, found, keys

pytestmark = pytest.mark.asyncio

# ---------------------------------------------------------------------- races and lost replies


async def test_two_writers_race_and_nothing_is_lost_or_doubled(opened: Open) -> None:
    goal, acknowledged = 200, dict[str, int]()

    async def write(name: str) -> None:
        log, revision, done = await opened(), 0, 0
        stream = log.follow(0)
        while done < goal:
            try:
                await log.append([entry(revision + 1, id=f"{name}-{done}")])
            except Superseded:
                pass
            else:
                acknowledged[f"{name}-{done}"] = revision + 1
                done += 1
            revision = (await anext(stream)).revision
            if done % 7 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(write("a"), write("b"))
    log = await opened()
    everything = await taken(log.follow(0), 2 * goal)
    assert {each.id: each.revision for each in everything} == acknowledged
    assert len(acknowledged) == 2 * goal


async def test_an_append_whose_reply_was_lost_is_found(opened: Open) -> None:
    log = await opened()
    wire = Wire(log)
    await log.append([entry(1)])
    wire.lose(at=1, is_sent=True)
    await log.append([entry(2)])
    assert wire.calls == 1
    await log.append([entry(3)])
    assert await found(log) == replay(Base(), entries(1, 3))


@pytest.mark.parametrize("before", [0, 1])
async def test_an_append_that_was_lost_on_the_way_is_fenced_before_it_is_sent_again(opened: Open, before: int) -> None:
    log = await opened()
    wire = Wire(log)
    if before:
        await log.append([entry(1)])
    wire.lose(at=1, is_sent=False)
    await log.append([entry(before + 1)])
    assert not (await wire.deliver()).is_done
    assert await found(log) == replay(Base(), entries(1, before + 1))
    await log.append([entry(before + 2)])


async def test_a_lost_append_that_somebody_else_overtook_is_superseded(opened: Open) -> None:
    log, other = await opened(), await opened()
    wire = Wire(log)
    wire.lose(at=1, is_sent=False)
    actual = log._reader.head

    async def head() -> Any:
        if not await other.base() and not (await actual()).revision:
            await other.append([entry(1, id="theirs")])
        return await actual()

    log._reader.head = head
    with pytest.raises(Superseded, match="revision 1 is taken"):
        await log.append([entry(1, id="ours")])
    assert (await taken(log.follow(0), 1))[0].id == "theirs"


async def test_a_fence_of_another_server_does_not_stop_us(opened: Open) -> None:
    log, other = await opened(), await opened()
    await log.append([entry(1)])
    wire = Wire(other)
    wire.lose(at=1, is_sent=False)
    other._reader.head = log._reader.head
    await other.append([entry(2)])
    await log.append([entry(3)])
    assert (await found(log)).revision == 3


async def test_parts_of_an_append_that_never_came_about_are_collected(opened: Open) -> None:
    log, other = await opened(), await opened()
    noise = random.Random(7)
    await other.append([entry(1)])
    big = entry(1, put("big", noise.randbytes(2_500_000)), id="big")

    async def commit(*_: object) -> None:
        raise StoreUnavailable("cut")

    actual, log._commit = log._commit, commit
    log._head = type(log._head)()
    log._reader.head, head = (lambda: asyncio.sleep(0, log._head)), log._reader.head
    with pytest.raises(StoreUnavailable):
        await log.append([big])
    log._commit, log._reader.head = actual, head
    assert len(await keys(log, "log-parts/")) == 3
    with pytest.raises(Superseded):
        await log.append([big])
    kept = entry(2, put("kept", noise.randbytes(1_500_000)))
    await log.append([kept])
    await log.compact(1, changed(Base(), [entry(1)]))
    assert len(await keys(log, "log-parts/")) == 2
    assert await found(log) == replay(Base(), [entry(1), kept])
    await log.compact(2, changed(replay(Base(), [entry(1)]), [kept]))
    assert await keys(log, "log-parts/") == await keys(log, "log/") == []
    assert await found(log) == replay(Base(), [entry(1), kept])


# ---------------------------------------------------------------------- etcd away, hanging, full, damaged


async def test_kill_and_restart_of_etcd_during_appends(own_etcd: EtcdServer, opened: Open) -> None:
    log = await opened(own_etcd.endpoint, timeout_s=3.0)
    goal, chance, acknowledged = 150, random.Random(5), list[int]()
    follower = asyncio.create_task(taken((await opened(own_etcd.endpoint)).follow(0), goal))

    async def write() -> None:
        while len(acknowledged) < goal:
            revision = len(acknowledged) + 1
            try:
                await log.append([entry(revision)])
            except (StoreUnavailable, StoreUnknown):
                continue
            except Superseded:  # after StoreUnknown: it was ours that landed
                assert revision > 1
            acknowledged.append(revision)
            await asyncio.sleep(0.005)

    writing = asyncio.create_task(write())
    for _ in range(3):
        await asyncio.sleep(chance.uniform(0.05, 0.25))
        own_etcd.kill()
        await asyncio.sleep(0.05)
        await asyncio.to_thread(own_etcd.start)
    await asyncio.wait_for(writing, 30)
    assert await asyncio.wait_for(follower, 15) == entries(1, goal)


async def test_a_hanging_etcd_ends_in_unknown_and_is_found_out_later(own_etcd: EtcdServer, opened: Open) -> None:
    log = await opened(own_etcd.endpoint, timeout_s=1.0)
    await log.append([entry(1)])
    stream = log.follow(1)
    waiting = asyncio.create_task(taken(stream, 1))
    own_etcd.suspend()
    begun_s = time.monotonic()
    with pytest.raises(StoreUnknown):
        await log.append([entry(2)])
    # Sending it and looking for it take as long as one request may, not as long as each.
    assert time.monotonic() - begun_s < 1.8
    own_etcd.resume()
    for _ in range(20):
        try:
            await log.append([entry(2)])
        except (StoreUnavailable, StoreUnknown):
            continue
        except Superseded:
            pass
        break
    assert await asyncio.wait_for(waiting, 10) == [entry(2)]
    assert await found(log) == replay(Base(), entries(1, 2))


async def test_closing_ends_what_is_under_way(own_etcd: EtcdServer, opened: Open) -> None:
    log = await opened(own_etcd.endpoint)
    own_etcd.suspend()
    appending = asyncio.create_task(log.append([entry(1)]))
    following = asyncio.create_task(taken(log.follow(0), 1))
    await asyncio.sleep(0.1)
    await log.close()
    async with asyncio.timeout(2.0):
        with pytest.raises(StoreUnknown):
            await appending
        with pytest.raises(StoreUnavailable):
            await following


async def test_connections_that_break_leave_no_task_behind(own_etcd: EtcdServer, opened: Open) -> None:
    """What is left of a watch would be told by the collector, long after and in no test's words."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context)))
    log = await opened(own_etcd.endpoint, timeout_s=1.0)
    await log.campaign("us")
    for revision in (1, 2):
        await log.append([entry(revision)])
        own_etcd.kill()
        with pytest.raises(StoreError):
            await log.writer()
        gc.collect()
        await asyncio.to_thread(own_etcd.start)
        stream = log.follow(revision - 1)
        assert await taken(stream, 1) == [entry(revision)]
        await stream.aclose()  # type: ignore[attr-defined]
    await log.close()
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_an_etcd_that_is_away_is_unavailable(own_etcd: EtcdServer, opened: Open) -> None:
    log = await opened(own_etcd.endpoint, timeout_s=0.5)
    own_etcd.kill()
    for _ in range(2):
        with pytest.raises(StoreError) as error:
            await log.append([entry(1)])
        assert type(error.value) in (StoreUnavailable, StoreUnknown)
    assert type(error.value) is StoreUnavailable
    with pytest.raises(StoreUnavailable, match="no member can be reached"):
        await opened(own_etcd.endpoint, timeout_s=0.5)


async def test_another_member_is_asked(etcd: tuple[str, str]) -> None:
    dead = f"localhost:{free_ports(1)[0]}"
    log = EtcdLog([dead, etcd[0].replace("127.0.0.1", "localhost")], etcd[1])
    await log.open()
    await log.append([entry(1)])
    await log.close()
    assert log.address.startswith(f"etcd:{dead},localhost:")


async def test_a_full_etcd_refuses_and_is_read_on() -> None:
    options = ("--quota-backend-bytes=3000000",)
    with short_directory() as directory, EtcdServer(directory, options=options) as server:
        log = EtcdLog([server.endpoint])
        await log.open()
        noise, revision = random.Random(1), 0
        with pytest.raises(StoreFull, match="space exceeded"):
            while revision < 20:
                await log.append([entry(revision + 1, put("p", noise.randbytes(400_000)))])
                revision += 1
        assert [each.revision for each in await taken(log.follow(0), revision)] == list(range(1, revision + 1))
        assert "NOSPACE" in (await log.integrity())[0]
        await log.close()


async def test_an_append_beyond_the_limit_is_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await opened()
    monkeypatch.setattr(etcd_module, "MAX_APPEND_BYTES", 100_000)
    with pytest.raises(QuotaError, match="at most 100000"):
        await log.append([entry(1, put("p", random.Random(1).randbytes(200_000)))])
    assert await found(log) == Base()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("log/0000000000000002", None, "revision 2 is missing"),
        ("log/0000000000000004", None, "ends at revision 3, yet its head is 4"),
        ("log/0000000000000002", b"\x01garbage", "log/0000000000000002: cannot be read"),
        ("log/0000000000000002", b"\x07", "unknown form"),
        ("log/0000000000000002", b"\x02\xc1", "cannot be read"),
        ("log-parts/0000000000000003/id-3/000001", None, "of .* bytes are there"),
        ("head", None, "the head is gone"),
        ("head", b"7", "head: cannot be read"),
        ("head", b'{"revision":4,"format":2}', "format 2"),
        ("compacting", b'{"revision":9,"format":1}', "compacted at 9"),
        ("base/nowhere/Pod/shop/x", b"\x01", "not the key of an item"),
        ("base/object/Pod/shop/x", b"\x01x", "base/object/Pod/shop/x: cannot be read"),
    ],
)
async def test_damage_is_named(opened: Open, key: str, value: bytes | None, says: str) -> None:
    log = await opened()
    for each in [entry(1), entry(2), entry(3, put("big", random.Random(1).randbytes(1_500_000))), entry(4)]:
        await log.append([each])
    name = f"{log._layout.prefix}/{key}".encode()
    await log._link.transact([], [delete(name) if value is None else put_key(name, value)], is_repeatable=True)
    with pytest.raises(StoreCorrupt, match=says):
        await found(log)


async def test_tls_shows_and_wants_a_certificate() -> None:
    with short_directory() as directory:
        authority, stranger = Authority(directory), Authority(directory, "stranger")
        ours, theirs = authority.issue("us"), stranger.issue("them")
        server_tls = (authority.file, authority.issue("server"))
        right = EtcdTls(ca=authority.file, cert=ours.certificate, key=ours.key)
        wrong = [
            EtcdTls(ca=stranger.file, cert=ours.certificate, key=ours.key),
            EtcdTls(ca=authority.file),
            EtcdTls(ca=authority.file, cert=theirs.certificate, key=theirs.key),
            EtcdTls(ca=str(directory / "nowhere.pem")),
            None,
        ]
        with EtcdServer(directory, tls=server_tls) as server:
            log = EtcdLog([server.endpoint], tls=right)
            await log.open()
            await log.append([entry(1)])
            await log.close()
            for tls in wrong:
                log = EtcdLog([server.endpoint], tls=tls, timeout_s=0.5)
                with pytest.raises(StoreUnavailable):
                    await log.open()
