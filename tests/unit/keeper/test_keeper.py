"""The keeper without a server in front: requests, batches, sources, restarts, and two keepers on one log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ovnk_core.errors import Exists, GuardError, IdReused, NotFound, NotWriter, Refusal, StoreCorrupt, Superseded
from ovnk_core.keeper.document import decision_key, decode, object_key
from ovnk_core.keeper.housekeeping import Expire
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import REQUEST_TTL_S, Drop, Put
from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.keeper.source import Prune
from ovnk_core.keeper.watching import Filter
from ovnk_core.model.decision import DnsAnswer
from ovnk_core.nb.operation import turn_of
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.store.entry import Change, Entry
from ovnk_core.store.memory import MemoryLog, MemoryLogDatabase
from ovnk_core.terms.name import NamespacedName, ObjectRef
from tests.kit import manifest as m
from tests.kit.random_cluster import RandomCluster
from tests.kit.served import assert_from_scratch, until

pytestmark = pytest.mark.asyncio
SHOP, WEB = ObjectRef("Namespace", "", "shop"), ObjectRef("Pod", "shop", "web")


class World:
    """A store and a northbound that keepers come and go on."""

    def __init__(self) -> None:
        self.log, self.northbound = MemoryLogDatabase(), MemoryDatabase()

    @asynccontextmanager
    async def keeper(self, holder: str = "one", **settings: Any) -> AsyncIterator[Keeper]:
        chosen = KeeperSettings(holder=holder, **settings)
        async with Keeper(MemoryNorthbound(database=self.northbound), MemoryLog(self.log), settings=chosen) as keeper:
            yield keeper

    async def settle(self, *keepers: Keeper) -> None:
        """Until every keeper has everything, and the writer has written it."""
        await until(lambda: all(each.revision == self.log.revision for each in keepers))
        writer = next(each for each in keepers if each.term is not None)
        await writer.wait(writer.revision, "programmed", 10)
        # What had to leave its node is placed anew by a commit of its own.
        await until(lambda: not writer.plane.cluster.leaving)
        await writer.plane.wait(timeout_s=10)
        await until(lambda: all(each.revision == self.log.revision for each in keepers))

    def rows(self) -> dict[str, Any]:
        """What is in the database, without what counts transactions."""
        tables = {table: dict(rows) for table, rows in self.northbound.tables.items()}
        tables.pop(GLOBAL_TABLE)
        return tables


async def put(keeper: Keeper, *manifests: Any, **more: Any) -> Any:
    return await keeper.commit(keeper.request([Put(manifest=each) for each in manifests], **more))


# ------------------------------------------------------------------------------------------- requests


async def test_a_request_happens_as_a_whole_or_not_at_all() -> None:
    async with World().keeper() as keeper:
        await until(lambda: keeper.term is not None)
        before = keeper.revision
        with pytest.raises(Refusal):
            await put(keeper, m.namespace(), m.policy({"podSelector": {}, "policyTypes": ["Sideways"]}))
        with pytest.raises(NotFound):
            await keeper.commit(keeper.request([Put(manifest=m.namespace())], [Drop(ref=WEB)]))
        with pytest.raises(Exists):
            await put(keeper, m.namespace())
            await keeper.commit(keeper.request([Put(manifest=m.namespace(), mode="create")]))
        assert keeper.revision == before + 1
        assert keeper.inventory.count() == 1


async def test_equal_documents_are_no_change_whoever_sends_them() -> None:
    async with World().keeper() as keeper:
        first = await put(keeper, m.namespace(), author="ann")
        sent = m.namespace(metadata={"resourceVersion": "88", "managedFields": [{}], "generation": 3})
        again = await put(keeper, sent, author="bob")
        assert [each.outcome for each in again.results] == ["unchanged"]
        assert again.results[0].revision == first.revision


async def test_a_new_uid_is_a_new_object() -> None:
    async with World().keeper() as keeper:
        await put(keeper, m.namespace(metadata={"uid": "one", "creationTimestamp": "2020-01-01T00:00:00Z"}))
        await put(keeper, m.namespace())
        kept = keeper.history.get(object_key(SHOP))
        assert kept is not None
        assert decode(kept.value).manifest["metadata"]["uid"] == "one"
        await put(keeper, m.namespace(metadata={"uid": "two"}))
        kept = keeper.history.get(object_key(SHOP))
        assert kept is not None
        metadata = decode(kept.value).manifest["metadata"]
        assert (metadata["uid"], metadata["creationTimestamp"] > "2020-01-02") == ("two", True)


async def test_waiting_requests_are_one_append_and_each_sees_those_before_it() -> None:
    world = World()
    async with world.keeper() as keeper:
        await until(lambda: keeper.term is not None)
        appends = 0
        append = keeper._log.append

        async def counted(*args: Any, **kwargs: Any) -> None:
            nonlocal appends
            appends += 1
            await append(*args, **kwargs)

        keeper._log.append = counted  # type: ignore[method-assign]
        create = [Put(manifest=m.namespace(), mode="create")]
        found = await asyncio.gather(
            *(keeper.commit(keeper.request(create)) for _ in range(100)), return_exceptions=True
        )
        assert sum(not isinstance(each, Exception) for each in found) == 1
        assert all(isinstance(each, Exists) for each in found if isinstance(each, Exception))
        numbers = await asyncio.gather(*(put(keeper, m.namespace(f"n{number}")) for number in range(100)))
        assert len({each.revision for each in numbers}) == 100
        assert appends < 20


async def test_an_id_is_remembered_for_a_day_and_over_a_restart() -> None:
    world = World()
    async with world.keeper() as keeper:
        first = await put(keeper, m.namespace(), author="ann", id="x")
        await keeper.commit(keeper.request(drops=[Drop(ref=SHOP)]))
    async with world.keeper() as keeper:
        assert await put(keeper, m.namespace(), author="ann", id="x") == first
        assert keeper.inventory.count() == 0
        with pytest.raises(IdReused):
            await put(keeper, m.namespace("lab"), author="ann", id="x")
        await until(lambda: keeper.term is not None)
        await keeper._committer.commit(Expire(now_s=int(time.time()) + REQUEST_TTL_S + 10), keeper.term)
        again = await put(keeper, m.namespace(), author="ann", id="x")
        assert again.results[0].outcome == "created"


async def test_trying_out_changes_nothing() -> None:
    async with World().keeper() as keeper:
        await put(keeper, m.node(), m.namespace())
        await until(lambda: keeper.term is not None)
        await keeper.wait(keeper.revision, "programmed", 10)
        revision, rows = keeper.revision, keeper.plane.rows()
        done, before, after = await keeper.try_out(keeper.request([Put(manifest=m.pod(spec={"nodeName": "node-1"}))]))
        assert [each.outcome for each in done.results] == ["created"]
        assert before.cluster.get(WEB) is None
        assert after.get(WEB) is not None
        gone, _, without = await keeper.try_out(keeper.request(drops=[Drop(ref=SHOP)]))
        assert [each.outcome for each in gone.results] == ["deleted"]
        assert without.get(SHOP) is None
        assert (keeper.revision, keeper.plane.rows()) == (revision, rows)
        assert_from_scratch(keeper)


async def test_a_snapshot_is_shared_until_something_changes() -> None:
    async with World().keeper() as keeper:
        await put(keeper, m.namespace())
        one, two = await asyncio.gather(keeper.snapshot(), keeper.snapshot())
        assert one is two
        await put(keeper, m.namespace("lab"))
        three = await keeper.snapshot()
        assert three is not one
        assert (one.cluster.count(), three.cluster.count()) == (1, 2)
        assert three.revision == keeper.revision


# ------------------------------------------------------------------------------------------- sources


async def test_a_source_that_puts_a_refused_object_right_still_owns_it() -> None:
    """What it does not state the next time goes, also if it was refused once."""
    async with World().keeper() as keeper:
        bad = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]})
        judged = await keeper.commit(keeper.statement("kube", [Put(manifest=m.namespace()), Put(manifest=bad)]))
        assert [each.ref.name for each in judged.refused] == ["p"]
        await keeper.commit(keeper.statement("kube", [Put(manifest=m.policy())]))
        policy = ObjectRef("NetworkPolicy", "shop", "p")
        assert keeper.inventory.of_source("kube") == {SHOP, policy}
        pruned = await keeper.commit(Prune(source="kube", stated=frozenset({SHOP}), allow=True))
        assert (pruned.is_done, pruned.objects) == (True, 1)
        assert keeper.inventory.of_source("kube") == {SHOP}
        assert keeper.plane.cluster.get(policy) is None


async def test_an_object_that_cannot_be_accepted_here_fails_closed_and_is_kept() -> None:
    """Sound by itself, but nobody could answer for its wildcard."""
    world = World()
    wild = {"type": "Allow", "to": {"dnsName": "*.example.com"}}
    firewall = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": [wild]},
    }
    ref = ObjectRef("EgressFirewall", "shop", "default")
    async with world.keeper() as keeper:
        judged = await keeper.commit(keeper.statement("kube", [Put(manifest=m.namespace()), Put(manifest=firewall)]))
        assert [each.ref for each in judged.refused] == [ref]
        assert keeper.plane.cluster.get(ref).blocked  # type: ignore[union-attr]
    async with world.keeper() as keeper:
        assert keeper.plane.cluster.get(ref).blocked  # type: ignore[union-attr]
        assert keeper.inventory.of_source("kube") == {SHOP, ref}


async def test_accepted_and_refused_in_one_batch_is_accepted_first() -> None:
    """A follower may take both in at once; it must not find the refused one first."""
    world = World()
    bad = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]})
    async with world.keeper() as keeper:
        await keeper.commit(keeper.statement("kube", [Put(manifest=m.namespace())]))
        await asyncio.gather(
            keeper.commit(keeper.statement("kube", [Put(manifest=m.policy())])),
            keeper.commit(keeper.statement("kube", [Put(manifest=bad)])),
        )
        policy = keeper.plane.cluster.get(ObjectRef("NetworkPolicy", "shop", "p"))
        assert policy is not None
        assert not policy.blocked  # type: ignore[attr-defined]
        assert_from_scratch(keeper)


# ------------------------------------------------------------------------------------------- several keepers


async def test_any_server_accepts_and_one_decides() -> None:
    world = World()
    async with world.keeper("one") as one, world.keeper("two") as two:
        await until(lambda: one.term is not None)
        assert two.term is None
        assert ((await one.writer()).turn.holder, (await two.writer()).turn.holder) == ("one", "one")
        await put(two, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1"}))
        await world.settle(one, two)
        key = decision_key("Pod", NamespacedName("shop", "web"))
        decided = [each for each in world.log.entries if any(change.key == key for change in each.changes)]
        assert len(decided) == 1
        assert one.plane.rows() == two.plane.rows()
        assert_from_scratch(one)
        assert_from_scratch(two)
        with pytest.raises(NotWriter) as caught:
            await two.push_dns([DnsAnswer(name="www.example.com")])
        assert caught.value.holder == "one"


async def test_a_follower_tells_what_the_writer_has_programmed() -> None:
    world = World()
    async with world.keeper("one") as one, world.keeper("two") as two:
        await until(lambda: one.term is not None)
        done = await put(two, m.namespace())
        await two.wait(done.revision, "programmed", 10)
        pending = await two.pending()
        assert pending.operations == ()
        await until(lambda: not two.stages._applied or two.stages._applied[0][0] > done.revision)


async def test_the_turn_moves_and_nothing_is_decided_twice() -> None:
    """Walks of random edits through two servers while turns end at random; in the end both have the rows of a server
    that never did anything else, and the database has exactly those."""
    world = World()
    made = RandomCluster(11, has_oddities=False)
    async with world.keeper("one") as one, world.keeper("two") as two:
        keepers = (one, two)
        await until(lambda: one.term is not None)
        await put(one, *made.manifests())
        for number in range(30):
            edit = made.mutate()
            keeper = keepers[number % 2]
            drops = [Drop(ref=ref, may_be_absent=True) for ref in edit.delete]
            try:
                await keeper.commit(keeper.request([Put(manifest=each) for each in edit.put], drops))
            except Refusal:
                continue
            if number % 10 == 4 and world.log.turn is not None:
                world.log.expire(world.log.turn)
        await until(lambda: any(each.term is not None for each in keepers), 20)
        await world.settle(*keepers)
        assert one.plane.rows() == two.plane.rows()
        for keeper in keepers:
            assert_from_scratch(keeper)
            assert keeper.failure is None
        assert (await one.pending()).operations == ()
        turns = [change for each in world.log.entries for change in each.changes if change.key.space == "meta"]
        assert len(turns) >= 3
        assert turn_of(world.northbound.tables[GLOBAL_TABLE]) == (await one.writer()).turn.epoch


async def test_a_restart_finds_what_was_there() -> None:
    world = World()
    made = RandomCluster(3, has_oddities=False)
    async with world.keeper() as keeper:
        await put(keeper, *made.manifests())
        await until(lambda: keeper.term is not None)
        await world.settle(keeper)
        rows, before = keeper.plane.rows(), world.rows()
    async with world.keeper() as keeper:
        await until(lambda: keeper.term is not None)
        await world.settle(keeper)
        assert keeper.plane.rows() == rows
        assert world.rows() == before
        assert_from_scratch(keeper)


async def marked(keeper: Keeper) -> None:
    await until(lambda: keeper.stages.mark is not None and keeper.stages.mark[0] == keeper.revision)


async def blocked(keeper: Keeper) -> None:
    with pytest.raises(GuardError, match="take_over"):
        await keeper.wait(keeper.revision, "programmed", 10)


async def test_an_empty_store_undoes_nothing_however_often_it_starts() -> None:
    world = World()
    async with world.keeper() as keeper:
        await until(lambda: keeper.term is not None)
        for number in range(3):
            await put(keeper, m.node(f"n{number}", address=f"192.0.2.{number + 1}"))
        await world.settle(keeper)
    before, database = world.rows(), world.northbound.tables[GLOBAL_TABLE]
    turn = turn_of(database)
    world.log = MemoryLogDatabase()
    for _ in range(3):
        async with world.keeper(allow_prune=True) as keeper:
            await until(lambda: keeper.term is not None)
            for number in range(4):
                await put(keeper, m.namespace(f"other{number}"))
            await blocked(keeper)
            assert keeper.stages.standing().programmed < keeper.revision
            assert (world.rows(), turn_of(database)) == (before, turn)
    async with world.keeper(take_over=True, allow_prune=True) as keeper:
        await until(lambda: keeper.term is not None)
        await world.settle(keeper)
        assert world.rows() != before
        assert_from_scratch(keeper)


async def test_an_older_copy_of_the_store_stays_away_when_it_has_grown_past_the_mark() -> None:
    world = World()
    async with world.keeper() as keeper:
        await until(lambda: keeper.term is not None)
        await put(keeper, m.node("early"))
        await world.settle(keeper)
        copy = MemoryLogDatabase()
        copy.entries = list(world.log.entries)
        for number in range(3):
            await put(keeper, m.node(f"n{number}", address=f"192.0.2.{number + 10}"))
        await world.settle(keeper)
        await marked(keeper)
    before, world.log = world.rows(), copy
    for _ in range(3):
        async with world.keeper() as keeper:
            await until(lambda: keeper.term is not None)
            for number in range(4):
                await put(keeper, m.namespace(f"other{number}-{keeper.revision}"))
            await blocked(keeper)
            assert world.rows() == before


async def test_two_stores_do_not_fight_over_a_northbound() -> None:
    one, two = World(), World()
    two.northbound = one.northbound
    async with one.keeper("one") as first, two.keeper("two") as second:
        await until(lambda: first.term is not None and second.term is not None)
        await until(lambda: turn_of(one.northbound.tables[GLOBAL_TABLE]) is not None)
        owner, other = (first, second)
        if turn_of(one.northbound.tables[GLOBAL_TABLE]) != (await first.writer()).turn.epoch:
            owner, other = second, first
        for keeper in (first, second):
            await put(keeper, m.node(f"of-{keeper.settings.holder}"))
        await owner.wait(owner.revision, "programmed", 10)
        before = one.rows()
        await put(other, m.namespace("late"))
        await blocked(other)
        assert one.rows() == before
        assert_from_scratch(owner)


async def test_a_gap_in_the_log_makes_the_server_fail_and_say_so() -> None:
    world = World()
    async with world.keeper("one") as one, world.keeper("two") as two:
        await until(lambda: one.term is not None)
        await put(one, m.namespace())
        world.log.entries.append(
            Entry(revision=world.log.revision + 1, changes=(Change(key=object_key(WEB), value=b"nonsense"),))
        )
        world.log.bell.ring()
        await until(lambda: two.failure is not None)
        with pytest.raises(Exception, match="failed"):
            await put(two, m.namespace("lab"))
        assert isinstance(two.failure, StoreCorrupt | Exception)


async def test_history_is_compacted_and_the_store_with_it() -> None:
    world = World()
    async with world.keeper(history_changes=10) as keeper:
        await until(lambda: keeper.term is not None)
        for number in range(40):
            await put(keeper, m.namespace("shop", metadata={"labels": {"n": str(number)}}))
        await keeper.keep_house()
        assert keeper.history.edits <= 11
        assert world.log.base.revision == keeper.history.compacted > 0
        async with keeper.watch(Filter(), after=keeper.history.compacted) as events:
            assert (await anext(events)).revision > keeper.history.compacted
    async with world.keeper() as keeper:
        assert keeper.inventory.count() == 1


async def test_a_turn_that_is_over_records_nothing_more() -> None:
    world = World()
    async with world.keeper() as keeper:
        await until(lambda: keeper.term is not None)
        term = keeper.term
        assert term is not None
        world.log.expire(term)
        with pytest.raises(Superseded):
            await keeper._committer.commit(Expire(now_s=int(time.time()) + 2 * REQUEST_TTL_S), term)
            await put(keeper, m.namespace(), author="ann", id="x")
            await keeper._committer.commit(Expire(now_s=int(time.time()) + 2 * REQUEST_TTL_S), term)
