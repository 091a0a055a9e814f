"""The front door over the embedded northbound: atomic requests, watching, waiting, repairing, planning."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import GuardError, NotFound
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.operation import Mutate, Update
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.runtime.broadcast import Event
from ovnk_core.terms.label import requirement, selector
from ovnk_core.terms.name import ObjectRef

pytestmark = pytest.mark.asyncio


def node(name: str, address: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def pod(name: str, where: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "a", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": where, "containers": []}}


def deny(name: str = "deny", port: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"podSelector": {}}
    if port is not None:
        spec["ingress"] = [{"ports": [{"port": port}]}]
    metadata = {"name": name, "namespace": "a"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


CLUSTER = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2"), pod("x", "n1", app="x"), pod("y", "n2", app="y")]


async def test_a_request_is_all_or_nothing() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        before = plane.revision
        receipt = await plane.apply([*CLUSTER, deny(port=0)])
        assert not receipt.is_accepted
        assert receipt.revision == plane.revision == before
        assert [str(each.ref) for each in receipt.results if not each.is_accepted] == ["NetworkPolicy a/deny"]
        assert plane.list("Pod") == ()
        receipt = await plane.apply(CLUSTER)
        assert receipt.is_accepted
        assert receipt.revision > before
        await plane.wait(receipt.revision)
        assert plane.last_flush.operations["insert"] == plane.last_flush.rows_owned


async def test_get_list_and_delete() -> None:
    async with ControlPlane(MemoryNorthbound(), allow_prune=True) as plane:
        await plane.apply(CLUSTER)
        assert plane.get("Pod", "a", "x").name == "x"
        assert [item.name for item in plane.list("Pod", "a")] == ["x", "y"]
        chosen = selector([requirement("app", "In", ["y"])])
        assert [item.name for item in plane.list("Pod", selector=chosen)] == ["y"]
        await plane.delete([ObjectRef("Pod", "a", "x")])
        with pytest.raises(NotFound):
            plane.get("Pod", "a", "x")
        with pytest.raises(NotFound):
            await plane.delete([ObjectRef("Pod", "a", "y"), ObjectRef("Pod", "a", "x")])
        assert [item.name for item in plane.list("Pod")] == ["y"]
        with pytest.raises(NotFound, match="no kind"):
            plane.list("Unicorn")


async def test_both_answers_follow_every_change() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER)
        assert (await plane.trace("a/x", "a/y:80")).verdict == "allow"
        await plane.apply([deny()])
        assert (await plane.trace("a/x", "a/y:80")).verdict == "drop"
        await plane.apply([deny(port=80)])
        for engine in ("intent", "flows", "both"):
            assert (await plane.trace("a/x", "a/y:80", engine=engine)).verdict == "allow"  # type: ignore[arg-type]
        assert plane.rows()
        assert plane.flows()


async def test_watch_sends_a_snapshot_then_changes_in_order() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER[:1])
        watching = plane.watch(["Node", "Pod"])
        first = [await anext(watching), await anext(watching)]
        assert [(event.type, event.ref and event.ref.name) for event in first] == [("put", "n1"), ("synced", None)]
        await plane.apply(CLUSTER[1:])
        await plane.apply([deny()])
        await plane.apply([pod("x", "n1", app="z")])
        events = [await anext(watching) for _ in range(4)]
        assert [event.ref.name for event in events if event.ref] == ["n2", "x", "y", "x"]
        assert [event.revision for event in events] == sorted(event.revision for event in events)


async def test_a_slow_watcher_is_told_and_starts_over() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        watching = plane.watch(["Pod"], buffer=2)
        assert (await anext(watching)).type == "synced"
        await plane.apply([*CLUSTER, *(pod(f"p{i}", "n1") for i in range(10))])
        seen: list[Event] = [await anext(watching)]
        while seen[-1].type != "synced":
            seen.append(await anext(watching))
        kinds = [event.type for event in seen]
        assert "resync" in kinds
        after = [event for event in seen[kinds.index("resync") :] if event.type == "put"]
        assert len(after) == 12


async def test_two_planes_in_one_process_do_not_know_each_other() -> None:
    async with ControlPlane(MemoryNorthbound()) as one, ControlPlane(MemoryNorthbound()) as two:
        await one.apply(CLUSTER)
        assert two.list("Node") == ()
        await two.apply([deny()])
        assert one.list("NetworkPolicy") == ()


async def test_somebody_elses_change_of_our_rows_is_put_back() -> None:
    database = MemoryDatabase()
    intruder = MemoryNorthbound(database=database)
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply([*CLUSTER, deny()])
        await plane.wait()
        await intruder.connect({"ACL": ["action", "external_ids"], "Port_Group": ["ports"]})
        acl = next(uuid for uuid, row in intruder.rows("ACL").items() if row["action"] == "drop")
        group = next(uuid for uuid, row in intruder.rows("Port_Group").items() if row["ports"])
        ports = intruder.rows("Port_Group")[group]["ports"]
        assert isinstance(ports, frozenset)
        await intruder.transact(
            [
                Update(table="ACL", uuid=acl, columns={"action": "allow"}),
                Mutate(table="Port_Group", uuid=group, column="ports", delete=ports),
            ]
        )
        with anyio.fail_after(5):
            while intruder.rows("ACL")[acl]["action"] != "drop" or intruder.rows("Port_Group")[group]["ports"] != ports:
                await anyio.sleep(0)
        await intruder.close()


async def test_a_restart_finds_nothing_to_do_and_keeps_decisions() -> None:
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply([*CLUSTER, deny(port=80)])
        await plane.wait()
        decided = plane.decisions
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        receipt = await plane.replace(parse_objects([node("a0", "192.0.2.9"), *CLUSTER, deny(port=80)]))
        await plane.wait(receipt.revision)
        assert {name: plane.decisions.nodes[name] for name in decided.nodes} == decided.nodes
        assert plane.decisions.pods == decided.pods
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.replace(parse_objects([node("a0", "192.0.2.9"), *CLUSTER, deny(port=80)]))
        await plane.wait()
        assert sum(plane.last_flush.operations.values()) == 0


async def test_plan_tells_and_changes_nothing() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER)
        await plane.wait()
        before = plane.revision
        receipt, difference = plane.plan([deny()])
        assert receipt.is_accepted
        assert difference.count()["insert"] > 4
        assert plane.revision == before
        assert plane.list("NetworkPolicy") == ()
        receipt, difference = plane.plan([deny(port=0)])
        assert not receipt.is_accepted
        assert not difference.operations


async def test_the_guard_is_told_to_whoever_waits() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER)
        await plane.wait()
        await plane.delete([ObjectRef("Node", "", "n1"), ObjectRef("Node", "", "n2")])
        with pytest.raises(GuardError, match="--allow-prune"):
            await plane.wait()


async def test_an_apply_that_is_cancelled_changes_nothing() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER)
        before = plane.revision
        many = [pod(f"p{i}", "n1", app="many") for i in range(400)]
        with anyio.move_on_after(0) as scope:
            await plane.apply(many)
        assert scope.cancelled_caught
        assert plane.revision == before
        assert len(plane.list("Pod")) == 2
        assert (await plane.apply(many)).is_accepted
        assert len(plane.list("Pod")) == 402


async def test_a_long_load_yields_to_the_loop() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await anyio.sleep(0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            nodes = [node(f"n{i}", f"192.0.2.{i + 1}") for i in range(8)]
            await plane.replace(parse_objects([*nodes, *(pod(f"p{i}", f"n{i % 8}") for i in range(3200))]))
            tasks.cancel_scope.cancel()
        assert ticks > 3


NETWORK = {
    "apiVersion": "config.openshift.io/v1",
    "kind": "Network",
    "metadata": {"name": "cluster"},
    "spec": {
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
        "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
    },
}
OPERATOR = {
    "apiVersion": "operator.openshift.io/v1",
    "kind": "Network",
    "metadata": {"name": "cluster"},
    "spec": {"defaultNetwork": {"type": "OVNKubernetes", "ovnKubernetesConfig": {"mtu": 1000}}},
}


async def test_a_request_whose_networks_contradict_each_other_changes_nothing() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        receipt = await plane.apply([NETWORK, OPERATOR, *CLUSTER])
        assert not receipt.is_accepted
        assert [str(each.ref) for each in receipt.results if each.errors] == ["NetworkOperator cluster"]
        assert plane.list("Pod") == plane.list("Network") == ()
        assert not plane.errors


async def test_what_waits_for_an_address_says_so() -> None:
    small = {"clusterNetwork": [{"cidr": "10.128.0.0/22", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}
    async with ControlPlane(MemoryNorthbound()) as plane:
        receipt = await plane.apply([NETWORK | {"spec": small}, *CLUSTER, node("n3", "192.0.2.3")])
        assert receipt.is_accepted
        waiting = {str(each.ref): each for each in receipt.results if each.is_waiting}
        assert set(waiting) == {"Node n3"}
        assert waiting["Node n3"].errors[0].source == "object#/5"


async def test_an_exception_of_the_caller_arrives_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ControlPlane(MemoryNorthbound()) as plane:
            await plane.apply(CLUSTER)
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with ControlPlane(MemoryNorthbound()):
            with anyio.fail_after(0):
                await anyio.sleep(1)


async def test_leaving_the_block_lets_accepted_work_arrive() -> None:
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply(CLUSTER)
    async with ControlPlane(MemoryNorthbound(database=database), writes=False) as plane:
        await plane.apply(CLUSTER)
        assert not plane.pending().operations


async def test_a_cancelled_wait_loses_no_event_and_the_end_is_told() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        watching = plane.watch(["Node"], buffer=5)
        assert (await anext(watching)).type == "synced"
        with anyio.move_on_after(0.01):
            await anext(watching)
        await plane.apply([*CLUSTER, *(pod(f"p{i}", "n1") for i in range(50))])
        assert [(await anext(watching)).type for _ in range(2)] == ["put", "put"]
        with pytest.raises(NotFound, match="Unicorn"):
            plane.watch(["Unicorn"])
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_purge_is_for_planes_that_do_not_write() -> None:
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.apply(CLUSTER)
        await plane.wait()
        with pytest.raises(GuardError, match="writes=False"):
            await plane.purge()
    async with ControlPlane(MemoryNorthbound(database=database), writes=False) as plane:
        assert (await plane.purge())["delete"] > 20
        assert (await plane.purge())["delete"] == 0


async def test_plan_and_delete_know_what_exists() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        with pytest.raises(NotFound):
            plane.plan(delete=[ObjectRef("Pod", "a", "nobody")])
        unbuilt = {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressService",
            "metadata": {"name": "default", "namespace": "a"},
        }
        await plane.apply([*CLUSTER, unbuilt])
        assert (await plane.trace("a/x", "8.8.8.8:53")).incomplete == ("EgressService a/default",)
        await plane.delete([ObjectRef("EgressService", "a", "default")])
        assert (await plane.trace("a/x", "8.8.8.8:53")).incomplete == ()


async def test_a_failure_is_forgotten_when_something_new_is_asked_for() -> None:
    async with ControlPlane(MemoryNorthbound()) as plane:
        await plane.apply(CLUSTER)
        await plane.wait()
        await plane.delete([ObjectRef("Node", "", "n1"), ObjectRef("Node", "", "n2")])
        with pytest.raises(GuardError):
            await plane.wait()
        await plane.apply(CLUSTER)
        await plane.wait()
        assert not plane.pending().operations


async def test_two_writers_of_one_truth_do_not_stop_each_other() -> None:
    database = MemoryDatabase()
    async with (
        ControlPlane(MemoryNorthbound(database=database)) as one,
        ControlPlane(MemoryNorthbound(database=database)) as two,
    ):
        await one.apply(CLUSTER)
        await two.apply(CLUSTER)
        await one.wait(timeout_s=10)
        await two.wait(timeout_s=10)
        assert not one.pending().operations
        assert not two.pending().operations


async def test_what_objects_are_told_is_watched() -> None:
    async with ControlPlane(MemoryNorthbound(), allow_prune=True) as plane:
        await plane.apply(CLUSTER)
        assert sorted(map(str, plane.told("Pod"))) == ["a/x", "a/y"]
        watch = plane.watch_told(["Pod"], buffer=1)
        assert [(event.type, str(event.ref)) for event in [await anext(watch) for _ in range(3)]] == [
            ("put", "Pod a/x"),
            ("put", "Pod a/y"),
            ("synced", "None"),
        ]
        await plane.apply([pod("x", "n2", app="x")])
        moved = await anext(watch)
        assert moved.told is not None
        assert "10.128.2." in str(moved.told.annotations)
        await plane.apply([pod("z", "n1"), pod("w", "n1")])
        # Two changes do not fit into a buffer of one.
        kinds = [(await anext(watch)).type for _ in range(6)]
        assert kinds == ["resync", "put", "put", "put", "put", "synced"]
        with pytest.raises(NotFound, match="known: Node, Pod"):
            plane.watch_told(["Namespace"])
        await watch.aclose()
