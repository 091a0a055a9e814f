"""The native driver on a real cluster of three: it follows the leader, loses nothing and repeats nothing.

Elections take one to three seconds by OVS' default timer; that is what most of the time here is spent on.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ovnk_core.errors import Rejected, SchemaMismatch, TurnLost, UnknownOutcome, Unreachable
from ovnk_core.nb.operation import BumpConfig, Operation, RequireTurn, TakeTurn, turn_of
from ovnk_core.northbound.native import Liveness, NativeNorthbound
from ovnk_core.northbound.native.cluster import Cluster
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.raft import RaftCluster, RaftMember
from tests.south.rows import MIRRORED, address_set, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
FIRST_WRITE_S = 3.0
"""How soon after the leader's death a write must succeed. A split vote costs OVS another election: one of two deaths
may take longer."""


@pytest.fixture
def cluster() -> Iterator[RaftCluster]:
    with short_directory() as directory, RaftCluster(directory) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def nb(cluster: RaftCluster) -> AsyncIterator[NativeNorthbound]:
    northbound = NativeNorthbound(cluster.remotes)
    await northbound.connect(MIRRORED)
    yield northbound
    await northbound.close()


class Load:
    """Writes one row after the other until told to stop; what became of an unknown outcome is read back."""

    def __init__(self, nb: NativeNorthbound) -> None:
        self.written: list[tuple[str, float]] = []
        self._nb, self._is_over = nb, False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._is_over:
            name = f"w{len(self.written)}"
            while not await self._is_written(name):
                pass
            self.written.append((name, time.monotonic()))

    async def _is_written(self, name: str) -> bool:
        try:
            await self._nb.transact([address_set(name)], timeout_s=10)
        except UnknownOutcome:
            await current(self._nb)
            return uid(name) in self._nb.rows("Address_Set")
        except Rejected as error:
            # The first attempt was on its way from one member to another when it was read back.
            assert error.error == "duplicate uuid"
            await current(self._nb)
            assert uid(name) in self._nb.rows("Address_Set")
        return True

    async def more(self, count: int = 20) -> float:
        """Return when ``count`` more rows are written: the seconds until the first of them."""
        start, begun = len(self.written), time.monotonic()
        async with asyncio.timeout(20):
            while len(self.written) < start + count:
                await asyncio.sleep(0.005)
                if self._task.done():
                    await self._task
        return self.written[start][1] - begun

    async def stop(self) -> set[str]:
        """The uuids written."""
        self._is_over = True
        await self._task
        return {uid(name) for name, _ in self.written}


async def insist(nb: NativeNorthbound, *operations: Operation) -> None:
    """Transact until the outcome is known."""
    async with asyncio.timeout(20):
        while True:
            try:
                await nb.transact(operations, timeout_s=10)
                return
            except UnknownOutcome:
                continue


async def current(nb: NativeNorthbound) -> None:
    """Return when the mirror is current."""
    await insist(nb)


def remote(nb: NativeNorthbound) -> str:
    assert nb._connection is not None
    return nb._connection.remote


async def served_by(nb: NativeNorthbound, member: RaftMember) -> None:
    """Return when the driver talks to ``member``."""
    async with asyncio.timeout(10):
        while nb._connection is None or nb._connection.remote != member.address:
            await asyncio.sleep(0.005)
    await current(nb)


async def exactly_once(observer: NativeNorthbound, stream: AsyncIterator[object], expected: set[str]) -> None:
    """The observer's mirror holds just ``expected``, and its changes told of each row once, as new."""
    await current(observer)
    assert set(observer.rows("Address_Set")) == expected
    await observer.close()
    told: list[str] = []
    async for changes in stream:
        assert isinstance(changes, dict)
        for uuid, before in changes.get("Address_Set", {}).items():
            assert before is None
            told.append(uuid)
    assert len(told) == len(set(told))
    assert set(told) == expected


def on_disk(member: RaftMember) -> set[str]:
    with member.wire() as wire:
        return {row["_uuid"][1] for row in wire.select("Address_Set", columns=["_uuid"])}


async def test_killed_leader_under_load(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    observer = NativeNorthbound(cluster.remotes)
    await observer.connect(MIRRORED)
    stream, load, gaps = observer.changes(), Load(nb), list[float]()
    for _ in range(2):
        await load.more()
        (await asyncio.to_thread(cluster.leader)).daemon.kill()
        gaps.append(await load.more())
        await asyncio.to_thread(cluster.revive)
    assert min(gaps) < FIRST_WRITE_S, gaps
    expected = await load.stop()
    await exactly_once(observer, stream, expected)
    for member in cluster.members:
        assert await asyncio.to_thread(on_disk, member) == expected


async def test_leader_that_steps_down_is_left_at_once(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    observer = NativeNorthbound(cluster.remotes)
    await observer.connect(MIRRORED)
    stream, load = observer.changes(), Load(nb)
    for _ in range(4):
        await load.more()
        leader = await asyncio.to_thread(cluster.move_leadership)
        assert await load.more() < FIRST_WRITE_S
        await served_by(nb, leader)
        await served_by(observer, leader)
    await exactly_once(observer, stream, await load.stop())


@pytest.mark.parametrize(
    "scenario", ["transfer-leadership-after-sending-append-request", "crash-after-sending-append-request"]
)
async def test_commit_in_flight_while_the_leader_goes_happens_once(
    cluster: RaftCluster, nb: NativeNorthbound, scenario: str
) -> None:
    await nb.transact([TakeTurn(epoch=1, previous=None)])
    leader = await asyncio.to_thread(cluster.leader)
    await asyncio.to_thread(leader.command, "cluster/failure-test", scenario)
    try:
        await nb.transact([TakeTurn(epoch=2, previous=1), address_set("s"), BumpConfig()], timeout_s=10)
        is_known = True
    except UnknownOutcome:
        is_known = False
    await current(nb)
    (row,) = nb.rows("NB_Global").values()
    seen = (turn_of(nb.rows("NB_Global")), uid("s") in nb.rows("Address_Set"), row["nb_cfg"])
    assert seen in ([(2, True, 1)] if is_known else [(2, True, 1), (1, False, 0)])
    await nb.transact([RequireTurn(epoch=2 if seen[1] else 1), address_set("t")])


async def test_turn_survives_its_leader(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    old = NativeNorthbound(cluster.remotes)
    await old.connect(MIRRORED)
    await old.transact([TakeTurn(epoch=1, previous=None)])
    await nb.transact([])
    await nb.transact([TakeTurn(epoch=2, previous=1)])
    await asyncio.to_thread(cluster.move_leadership)
    with pytest.raises(TurnLost):
        await insist(old, RequireTurn(epoch=1))
    await insist(nb, RequireTurn(epoch=2))
    await old.close()


async def test_single_remote_may_be_a_follower(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    follower = (await asyncio.to_thread(cluster.followers))[0]
    reader = NativeNorthbound(follower.address)
    await reader.connect(MIRRORED)
    await nb.transact([address_set("s")])
    async with asyncio.timeout(5):
        while uid("s") not in reader.rows("Address_Set"):
            await asyncio.sleep(0.005)
    await reader.transact([address_set("t")])
    assert {uid("s"), uid("t")} == set(reader.rows("Address_Set"))
    assert remote(reader) == follower.address
    await reader.close()


async def test_without_a_quorum_nothing_is_written_and_nothing_hangs(
    cluster: RaftCluster, nb: NativeNorthbound
) -> None:
    await nb.transact([address_set("before")])
    for member in await asyncio.to_thread(cluster.followers):
        member.daemon.kill()
    started = time.monotonic()
    with pytest.raises(UnknownOutcome):
        await nb.transact([address_set("doubt")], timeout_s=8)
    with pytest.raises(Unreachable, match=r"not the leader|cut off"):
        await nb.transact([address_set("never")], timeout_s=1.5)
    newcomer = NativeNorthbound(cluster.remotes)
    with pytest.raises(Unreachable, match=r"not the leader|cut off"):
        await newcomer.connect(MIRRORED, timeout_s=5)
    assert time.monotonic() - started < 12
    assert uid("before") in nb.rows("Address_Set")
    await asyncio.to_thread(cluster.revive)
    await nb.transact([address_set("after")], timeout_s=10)
    names = {row["name"] for row in nb.rows("Address_Set").values()}
    assert {"before", "after"} <= names <= {"before", "doubt", "after"}


async def test_frozen_leader_is_left_and_is_no_leader_when_it_wakes(cluster: RaftCluster) -> None:
    nb = NativeNorthbound(cluster.remotes, liveness=Liveness(idle_s=0.3, dead_s=0.3))
    await nb.connect(MIRRORED)
    await nb.transact([address_set("s")])
    leader = await asyncio.to_thread(cluster.leader)
    leader.daemon.suspend()
    with pytest.raises(UnknownOutcome):
        await nb.transact([address_set("t")], timeout_s=10)
    await current(nb)
    assert remote(nb) != leader.address
    leader.daemon.resume()
    await nb.transact([address_set("u")])
    assert remote(nb) != leader.address
    await nb.close()


async def test_lock_moves_with_the_leader_and_has_one_holder(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    other = NativeNorthbound(cluster.remotes)
    await other.connect(MIRRORED)
    assert await nb.lock("ovnk_test")
    assert not await other.lock("ovnk_test")
    for number in range(3):
        leader = await asyncio.to_thread(cluster.move_leadership)
        await served_by_or_refused(nb, leader)
        await served_by_or_refused(other, leader)
        assert sorted([await nb.lock("ovnk_test"), await other.lock("ovnk_test")]) == [False, True]
        holder, loser = (nb, other) if await nb.lock("ovnk_test") else (other, nb)
        await holder.transact([address_set(f"s{number}")])
        with pytest.raises(Rejected, match="not owner"):
            await loser.transact([address_set("never")])
    await other.close()


async def served_by_or_refused(nb: NativeNorthbound, member: RaftMember) -> None:
    try:
        await served_by(nb, member)
    except Rejected as error:
        assert error.error == "not owner"


async def test_member_restored_from_an_older_copy_shows_nothing_old(cluster: RaftCluster, nb: NativeNorthbound) -> None:
    member = (await asyncio.to_thread(cluster.followers))[0]
    reader = NativeNorthbound(member.address)
    await reader.connect(MIRRORED)
    old = member.directory / "old.db"
    await nb.transact([address_set("s")])
    shutil.copy(member.file, old)
    await nb.transact([address_set("t")])
    async with asyncio.timeout(5):
        while uid("t") not in reader.rows("Address_Set"):
            await asyncio.sleep(0.005)
    for each in cluster.members:
        each.daemon.kill()
    shutil.copy(old, member.file)
    stream = reader.changes()
    await asyncio.to_thread(member.start)
    with pytest.raises(Unreachable, match=r"behind|cut off"):
        await reader.transact([], timeout_s=2.5)
    assert set(reader.rows("Address_Set")) == {uid("s"), uid("t")}
    await asyncio.to_thread(cluster.revive)
    await current(reader)
    await reader.close()
    assert [changes async for changes in stream] == []


async def test_what_makes_a_member_unfit() -> None:
    cluster, single = Cluster("unix:a,unix:b", "OVN_Northbound"), Cluster("unix:a", "OVN_Northbound")
    fit = {"name": "OVN_Northbound", "leader": True, "connected": True, "cid": ["uuid", "c1"], "index": 7}
    assert cluster.judge(fit) == ""
    assert "not the leader" in cluster.judge({**fit, "leader": False})
    assert single.judge({**fit, "leader": False}) == ""
    assert "cut off" in single.judge({**fit, "connected": False})
    assert "behind" in cluster.judge({**fit, "index": 6})
    assert cluster.judge({**fit, "index": 8}) == ""
    assert "behind" in cluster.judge(fit)
    # A cluster made anew, and a standalone server, begin from nothing.
    assert cluster.judge({**fit, "cid": ["uuid", "c2"], "index": 1}) == ""
    assert cluster.judge({**fit, "cid": ["set", []], "index": ["set", []]}) == ""


async def test_a_server_without_the_database_does_not_hide_that_another_is_down() -> None:
    with short_directory() as directory, OvsdbServer(directory, "sb") as server:
        with pytest.raises(SchemaMismatch, match="does not serve"):
            await NativeNorthbound(server.address).connect(MIRRORED)
        with pytest.raises(Unreachable, match=r"nobody\.sock.*does not serve|does not serve.*nobody\.sock"):
            await NativeNorthbound(f"{server.address},unix:{directory}/nobody.sock").connect(MIRRORED)
    with pytest.raises(ValueError, match="no remote"):
        NativeNorthbound(" , ")
