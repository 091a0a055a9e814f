"""SyncService through a real channel: the full truth of a source, then its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import meta_pb2, object_pb2
from ovnk_api.v1 import object_service_pb2 as objects_pb
from ovnk_api.v1 import sync_service_pb2 as pb

from ovnk_core.model.tables import EGRESS_FIREWALL, NAMESPACE, NETWORK_POLICY
from ovnk_core.northbound.memory import MemoryDatabase
from ovnk_core.store.memory import MemoryLogDatabase
from tests.kit import manifest as m
from tests.kit.random_cluster import RandomCluster
from tests.kit.served import (
    Api,
    Failed,
    Rules,
    Stand,
    apply,
    assert_from_scratch,
    failure,
    message,
    named,
    served,
    until,
)

pytestmark = pytest.mark.asyncio
BAD_POLICY = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]}, name="bad")


class Source:
    """One stream."""

    def __init__(self, api: Api, name: str = "kube", *, allow_prune: bool = False) -> None:
        self.stream = api.sync.Sync()
        self._sequence = 0
        self._begin = pb.SyncBegin(source=name, allow_prune=allow_prune)

    async def say(self, **statement: Any) -> int:
        self._sequence += 1
        await self.stream.write(pb.SyncRequest(sequence=self._sequence, **statement))
        return self._sequence

    async def begin(self) -> Source:
        await self.say(begin=self._begin)
        assert (await self.stream.read()).sequence == 1
        return self

    async def hear(self, sequence: int) -> list[pb.SyncResponse]:
        """Answers until the one that takes ``sequence`` in."""
        found = [await self.stream.read()]
        while found[-1].sequence < sequence:
            found.append(await self.stream.read())
        return found

    async def put(self, *manifests: Any) -> list[pb.ObjectRefusal]:
        """State objects -> those that are refused."""
        for each in manifests:
            last = await self.say(put=pb.SyncPut(object=message(each)))
        return [refusal for answer in await self.hear(last) for refusal in answer.refusals]

    async def remove(self, kind: str, name: str, namespace: str = "") -> None:
        await self.hear(await self.say(remove=pb.SyncRemove(reference=named(kind, name, namespace))))

    async def unreadable(self, kind: str, name: str, namespace: str = "") -> list[pb.ObjectRefusal]:
        violation = meta_pb2.FieldViolation(manifest_path="spec.colour", value='"red"', reason="unknown field")
        said = pb.SyncUnreadable(reference=named(kind, name, namespace), violations=[violation])
        return [each for answer in await self.hear(await self.say(unreadable=said)) for each in answer.refusals]

    async def complete(self) -> pb.SyncPrune:
        answers = await self.hear(await self.say(complete=pb.SyncComplete()))
        assert answers[-1].HasField("prune")
        return answers[-1].prune


async def sync(api: Api, *manifests: Any, name: str = "kube", allow_prune: bool = False) -> pb.SyncPrune:
    """The whole truth in one stream."""
    source = await Source(api, name, allow_prune=allow_prune).begin()
    if manifests:
        await source.put(*manifests)
    pruned = await source.complete()
    await source.stream.done_writing()
    return pruned


async def all_names(api: Api, kind: str) -> list[str]:
    page = await api.objects.List(objects_pb.ListRequest(kind=kind))
    bodies = [getattr(each, each.WhichOneof("object")).metadata for each in page.objects]
    return [f"{meta.namespace}/{meta.name}@{meta.source}" for meta in bodies]


def namespaces(count: int) -> list[Any]:
    return [m.namespace(f"n{number:02}") for number in range(count)]


# ------------------------------------------------------------------------------------------- the full truth


async def test_the_truth_of_a_source_and_then_its_changes(stand: Stand, api: Api) -> None:
    source = await Source(api).begin()
    assert await source.put(*namespaces(10)) == []
    assert await source.complete() == pb.SyncPrune(is_done=True)
    assert (await all_names(api, "Namespace"))[0] == "/n00@kube"
    await source.put(m.namespace("n00", metadata={"labels": {"a": "b"}}))
    await source.remove("Namespace", "n09")
    assert len(await all_names(api, "Namespace")) == 9
    await source.remove("Namespace", "n09")  # Twice is no mistake.


async def test_what_is_not_stated_any_more_goes(api: Api) -> None:
    await sync(api, *namespaces(10))
    pruned = await sync(api, *namespaces(8))
    assert (pruned.is_done, pruned.objects) == (True, 2)
    assert len(await all_names(api, "Namespace")) == 8


async def test_a_refused_service_is_served_as_it_was_accepted(stand: Stand, api: Api) -> None:
    slices = [m.endpoint_slice([{"addresses": ["10.128.0.5"]}], [{"port": 8080}])]
    source = await Source(api).begin()
    assert await source.put(m.namespace(), m.service(), *slices) == []
    await source.complete()
    before = stand.keeper.plane.cluster.decisions.services
    (refusal,) = await source.put(m.service({"ports": [{"port": 0}]}))
    assert [each.manifest_path for each in refusal.violations] == ["spec.ports[0].port"]
    assert stand.keeper.plane.cluster.decisions.services == before and "shop/web" in before
    await source.remove("EndpointSlice", "web-1", "shop")
    await source.remove("Service", "web", "shop")
    assert stand.keeper.plane.cluster.decisions.services == {}
    assert_from_scratch(stand.keeper)


async def test_nothing_goes_before_complete(api: Api) -> None:
    await sync(api, *namespaces(10))
    source = await Source(api).begin()
    await source.put(*namespaces(1))
    await source.stream.done_writing()
    await source.stream.read()
    assert len(await all_names(api, "Namespace")) == 10


@pytest.mark.parametrize("left", [0, 7])
async def test_a_mass_deletion_needs_consent(api: Api, left: int) -> None:
    await sync(api, *namespaces(10))
    pruned = await sync(api, *namespaces(left))
    assert (pruned.is_done, pruned.objects) == (False, 10 - left)
    assert "allow_prune" in pruned.message
    assert len(await all_names(api, "Namespace")) == 10
    assert (await sync(api, *namespaces(left), allow_prune=True)).is_done
    assert len(await all_names(api, "Namespace")) == left


async def test_after_a_guarded_prune_changes_go_on(api: Api) -> None:
    await sync(api, *namespaces(10))
    source = await Source(api).begin()
    assert not (await source.complete()).is_done
    await source.put(m.namespace("later"))
    assert len(await all_names(api, "Namespace")) == 11


async def test_two_sources_do_not_touch_each_others_objects(api: Api) -> None:
    await sync(api, m.namespace("a"), name="one")
    two = await Source(api, "two").begin()
    (refusal,) = await two.put(m.namespace("a", metadata={"labels": {"mine": "yes"}}))
    assert "belongs to the source 'one'" in refusal.violations[0].reason
    (again,) = await two.unreadable("Namespace", "a")
    assert "belongs to the source 'one'" in again.violations[0].reason
    await two.remove("Namespace", "a")
    assert (await two.complete()).is_done
    assert await all_names(api, "Namespace") == ["/a@one"]


async def test_an_object_applied_by_hand_is_adopted(api: Api) -> None:
    await apply(api, *namespaces(10))
    await sync(api, *namespaces(10))
    assert (await all_names(api, "Namespace"))[3] == "/n03@kube"
    await apply(api, m.namespace("n03", metadata={"labels": {"by": "hand"}}))
    assert (await all_names(api, "Namespace"))[3] == "/n03@kube"
    assert (await sync(api, *(each for each in namespaces(10) if each["metadata"]["name"] != "n03"))).objects == 1


async def test_of_several_statements_about_one_object_the_last_counts(api: Api) -> None:
    """Sent at once, so that they are taken in together."""
    source = await Source(api).begin()
    for number in range(60):
        await source.say(put=pb.SyncPut(object=message(m.namespace("a", metadata={"labels": {"n": str(number)}}))))
    await source.say(remove=pb.SyncRemove(reference=named("Namespace", "a")))
    last = await source.say(put=pb.SyncPut(object=message(m.namespace("a", metadata={"labels": {"n": "end"}}))))
    answers = await source.hear(last)
    assert [each.sequence for each in answers] == sorted({each.sequence for each in answers})
    found = await api.objects.Get(objects_pb.GetRequest(reference=named("Namespace", "a")))
    assert dict(found.object.namespace.metadata.labels) == {"n": "end"}


# ------------------------------------------------------------------------------------------- refused is not absent


async def test_a_refused_object_holds_up_nobody_and_fails_closed(stand: Stand, api: Api) -> None:
    source = await Source(api).begin()
    (refusal,) = await source.put(m.namespace(), BAD_POLICY, m.pod())
    assert (refusal.reference.kind, refusal.reference.name) == ("NetworkPolicy", "bad")
    assert refusal.violations[0].field == "put.object.network_policy.spec.policy_types[0]"
    assert refusal.violations[0].manifest_path == "spec.policyTypes[0]"
    assert (await source.complete()).is_done
    (stand_in,) = stand.keeper.plane.cluster.engine.rows(NETWORK_POLICY).values()
    assert stand_in.blocked
    assert await all_names(api, "NetworkPolicy") == []
    # Put right, it is a policy like any other.
    await source.put(m.policy(name="bad"))
    assert not stand.keeper.plane.cluster.refused


async def test_a_refused_edit_leaves_the_accepted_version_in_force(stand: Stand, api: Api) -> None:
    source = await Source(api).begin()
    good = m.policy({"podSelector": {}, "policyTypes": ["Ingress"]}, name="bad")
    await source.put(m.namespace(), good)
    await source.put(BAD_POLICY)
    cluster = stand.keeper.plane.cluster
    (policy,) = cluster.engine.rows(NETWORK_POLICY).values()
    assert not policy.blocked
    assert cluster.refused
    # Stated as it was: no change of the object, but nothing is refused any more.
    await source.put(good)
    assert not cluster.refused
    assert (await source.complete()).objects == 0


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_unreadable_objects_fail_closed_also_after_a_restart(is_restarted: bool) -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    async with served(log=log, northbound=northbound) as stand:
        source = await Source(await stand.caller()).begin()
        await source.put(m.namespace(), m.policy(name="kept"))
        (refusal,) = await source.unreadable("NetworkPolicy", "p", "shop")
        assert refusal.violations[0].manifest_path == "spec.colour"
        await source.unreadable("NetworkPolicy", "kept", "shop")
        await source.unreadable("EgressFirewall", "default", "shop")
        await source.unreadable("Namespace", "lab")
        assert (await source.complete()).objects == 0
        if not is_restarted:
            _check_closed(stand)
            return
    async with served(log=log, northbound=northbound) as stand:
        _check_closed(stand)
        source = await Source(await stand.caller()).begin()
        await source.put(m.namespace(), m.namespace("lab"), m.policy(name="kept"), m.policy())
        assert (await source.complete()).objects == 1  # The firewall is not stated any more.
        assert not stand.keeper.plane.cluster.refused


def _check_closed(stand: Stand) -> None:
    cluster = stand.keeper.plane.cluster
    policies = {key.name: policy for key, policy in cluster.engine.rows(NETWORK_POLICY).items()}
    closed = policies["p"]
    assert (closed.is_ingress, closed.is_egress, closed.ingress, closed.egress) == (True, True, (), ())
    assert closed.blocked
    assert closed.subject.matches({"any": "pod"})
    assert not policies["kept"].blocked
    (firewall,) = cluster.engine.rows(EGRESS_FIREWALL).values()
    assert firewall.blocked
    assert {key.name: space.is_blocked for key, space in cluster.engine.rows(NAMESPACE).items()} == {
        "shop": False,
        "lab": True,
    }
    assert {str(error.reason) for error in cluster.errors} == {"unknown field"}


async def test_a_name_that_tells_nothing_keeps_everything(api: Api) -> None:
    """A refused object without a proper name could be about any: nothing is taken to be absent."""
    await sync(api, *namespaces(10))
    source = await Source(api, allow_prune=True).begin()
    await source.put(*namespaces(9))
    (refusal,) = await source.unreadable("Namespace", 'n09"; drop')
    assert refusal.violations[0].reason
    pruned = await source.complete()
    assert (pruned.is_done, pruned.objects) == (False, 1)
    assert len(await all_names(api, "Namespace")) == 10


async def test_an_object_of_a_newer_kind_is_passed_over(api: Api) -> None:
    source = await Source(api).begin()
    newer = object_pb2.Object.FromString(b"\xfa\x01\x00")
    (answer,) = await source.hear(await source.say(put=pb.SyncPut(object=newer)))
    assert answer.refusals[0].violations[0].reason
    await source.put(m.namespace())
    assert (await source.complete()).is_done


async def test_rows_of_a_synchronised_cluster_equal_those_from_scratch(stand: Stand, api: Api) -> None:
    made = RandomCluster(7, has_oddities=False)
    source = await Source(api).begin()
    await source.put(*made.manifests())
    for _ in range(10):
        edit = made.mutate()
        if edit.put:
            await source.put(*edit.put)
        for ref in edit.delete:
            await source.remove(ref.kind, ref.name, ref.namespace)
    await until(lambda: stand.keeper.term is not None)
    assert stand.keeper.inventory.count() > 20
    assert_from_scratch(stand.keeper)


# ------------------------------------------------------------------------------------------- streams


async def test_a_later_stream_ends_the_earlier(api: Api) -> None:
    first = await Source(api).begin()
    await first.put(m.namespace())
    second = await Source(api).begin()
    failed = await failure(first.stream)
    assert (failed.code, failed.reason) == (StatusCode.ABORTED, "STREAM_ENDED")
    await second.put(m.namespace())
    assert (await second.complete()).is_done


async def _refused(api: Api, statements: Iterable[pb.SyncRequest]) -> Failed:
    stream = api.sync.Sync()
    for each in statements:
        await stream.write(each)
    return await failure(stream)


BEGIN = pb.SyncRequest(sequence=1, begin=pb.SyncBegin(source="kube"))


@pytest.mark.parametrize(
    ("statements", "field"),
    [
        ([pb.SyncRequest(sequence=1, complete=pb.SyncComplete())], "begin"),
        ([pb.SyncRequest(sequence=1, begin=pb.SyncBegin(source=""))], "begin.source"),
        ([pb.SyncRequest(sequence=1, begin=pb.SyncBegin(source="a#/b"))], "begin.source"),
        ([BEGIN, pb.SyncRequest(sequence=2, begin=pb.SyncBegin(source="kube"))], "begin"),
        ([BEGIN, pb.SyncRequest(sequence=1, complete=pb.SyncComplete())], "sequence"),
        ([BEGIN, pb.SyncRequest(sequence=2)], "statement"),
        ([BEGIN, pb.SyncRequest(sequence=2, remove=pb.SyncRemove())], "remove.reference.kind"),
        (
            [BEGIN, *(pb.SyncRequest(sequence=number, complete=pb.SyncComplete()) for number in (2, 3))],
            "complete",
        ),
    ],
)
async def test_a_stream_that_makes_no_sense_ends(api: Api, statements: list[pb.SyncRequest], field: str) -> None:
    failed = await _refused(api, statements)
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]


async def test_whoever_speaks_for_a_source_must_be_allowed_all_of_it(stand: Stand, api: Api) -> None:
    await sync(api, m.namespace("a"), m.pod("x", "a"), m.pod("y", "b"))
    ann = await stand.caller("ann", Rules(("sync", "*", "a")))
    denied = await _refused(ann, [BEGIN])
    assert denied.code is StatusCode.PERMISSION_DENIED
    assert len(await all_names(api, "Pod")) == 2
    own = await Source(ann, "anns").begin()
    await own.put(m.pod("z", "a"))
    await own.say(put=pb.SyncPut(object=message(m.pod("z", "b"))))
    assert (await failure(own.stream)).code is StatusCode.PERMISSION_DENIED
    assert len(await all_names(api, "Pod")) == 3


async def test_a_live_source_is_not_taken_by_another_identity(stand: Stand, api: Api) -> None:
    source = await Source(api, "empty").begin()
    ann = await stand.caller("ann", Rules(("sync", "*", "a")))
    empty = pb.SyncRequest(sequence=1, begin=pb.SyncBegin(source="empty"))
    assert (await _refused(ann, [empty])).code is StatusCode.PERMISSION_DENIED
    await source.put(m.namespace())


async def test_ten_thousand_objects_in_few_commits(stand: Stand, api: Api) -> None:
    """Statements that wait together become one entry of the log."""
    source = await Source(api).begin()
    await source.put(m.namespace())
    before = stand.keeper.revision

    async def state() -> int:
        for number in range(2_000):
            last = await source.say(put=pb.SyncPut(object=message(m.pod(f"p{number:05}"))))
        return last

    stating = asyncio.create_task(state())
    await source.hear(2_002)
    assert await stating == 2_002
    assert stand.keeper.inventory.count(lambda kind, _: kind == "Pod") == 2_000
    assert stand.keeper.revision - before < 500
