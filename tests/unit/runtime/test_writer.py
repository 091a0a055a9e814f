"""The writer: what it sends for a delta, and what it takes for somebody else's hand."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.desired import MEMBER
from ovnk_core.nb.operation import Insert, Mutate, Update
from ovnk_core.nb.row import OWNER_KEY
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.runtime.writer import Writer

OWNER = frozenset({OWNER_KEY})
pytestmark = pytest.mark.asyncio


def node(name: str, address: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def pod(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "a", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1", "containers": []}}


def policy(subject: str) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "a"}
    spec = {"podSelector": {"matchLabels": {"app": subject}}, "ingress": [{"from": [{"podSelector": {}}]}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


class Follower:
    """A cluster, its northbound and its writer; ``put`` applies, ``flush`` sends and hands over what came back."""

    def __init__(self) -> None:
        self.cluster, self.northbound = Cluster(), MemoryNorthbound()

    async def start(self) -> None:
        await self.northbound.connect(mirrored())
        self.writer = Writer(self.cluster, self.northbound, adopt=False, allow_prune=False)
        self.put(node("n1", "192.0.2.1"), *(pod(f"p{number}", app="web") for number in range(20)), policy("web"))
        await self.writer.flush()
        self.changes = self.northbound.changes()

    def put(self, *manifests: dict[str, Any]) -> None:
        self.writer.note(self.cluster.apply(parse_objects(manifests).items).delta)

    async def flush(self) -> dict[str, int]:
        return (await self.writer.flush()).operations

    async def is_drift(self) -> bool:
        return self.writer.drifted(await anext(self.changes))

    def subjects(self) -> tuple[str, frozenset[Any]]:
        """Uuid and ports of the policy's port group, as the northbound has them."""
        columns = [column for column in self.cluster.engine.sets(MEMBER) if column.row.role == "subjects"]
        uuid = next(column.row.uuid for column in columns if column.column == "ports")
        ports = self.northbound.rows("Port_Group")[uuid]["ports"]
        assert isinstance(ports, frozenset)
        return uuid, ports


async def started() -> Follower:
    made = Follower()
    await made.start()
    return made


async def test_a_member_more_is_one_element_sent() -> None:
    follower = await started()
    follower.put(pod("p3", app="other"))
    operations = follower.writer._collect()
    assert {
        (type(each).__name__, len(each.insert), len(each.delete)) for each in operations if isinstance(each, Mutate)
    } == {("Mutate", 0, 1)}
    assert await follower.flush() == {"insert": 0, "update": 1, "mutate": 2, "delete": 0}
    assert not follower.writer.difference().operations
    assert await follower.flush() == {"insert": 0, "update": 0, "mutate": 0, "delete": 0}


async def test_several_deltas_are_sent_as_their_sum() -> None:
    follower = await started()
    follower.put(pod("p3", app="other"))
    follower.put(pod("p4", app="other"))
    follower.put(pod("p3", app="web"))
    assert await follower.flush() == {"insert": 0, "update": 1, "mutate": 2, "delete": 0}
    assert not follower.writer.difference().operations


async def test_our_own_commit_is_no_drift() -> None:
    follower = await started()
    follower.put(pod("p3", app="other"))
    await follower.flush()
    assert not await follower.is_drift()


async def test_a_commit_that_further_applies_have_overtaken_is_no_drift() -> None:
    """A busy cluster would else compare everything after every commit."""
    follower = await started()
    follower.put(pod("p3", app="other"))
    await follower.flush()
    follower.put(pod("p4", app="other"), policy("other"))
    assert not await follower.is_drift()
    await follower.flush()
    assert not await follower.is_drift()
    assert not follower.writer.difference().operations


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_foreign_hand_is_drift(is_busy: bool) -> None:
    """Also while an apply waits, in the very column that it will change."""
    follower = await started()
    uuid, ports = follower.subjects()
    if is_busy:
        follower.put(pod("p3", app="other"))
    lost = frozenset(sorted(ports)[:1])
    assert lost != frozenset({_port_of(follower, "p3")})
    await follower.northbound.transact([Mutate(table="Port_Group", uuid=uuid, column="ports", delete=lost)])
    assert await follower.is_drift()
    follower.writer.doubt()
    await follower.flush()
    assert not follower.writer.difference().operations


async def test_a_foreign_value_is_drift_and_a_foreign_row_is_not() -> None:
    follower = await started()
    uuid, _ = follower.subjects()
    await follower.northbound.transact([Update(table="Port_Group", uuid=uuid, columns={"name": "stolen"})])
    assert await follower.is_drift()
    theirs = Insert(table="Address_Set", uuid="11111111-2222-4333-8444-555555555555", columns={"name": "theirs"})
    await follower.northbound.transact([theirs])
    assert not await follower.is_drift()


async def test_our_row_without_its_owner_key_is_drift() -> None:
    follower = await started()
    uuid, _ = follower.subjects()
    await follower.northbound.transact([Mutate(table="Port_Group", uuid=uuid, column="external_ids", drop=OWNER)])
    assert await follower.is_drift()


def _port_of(follower: Follower, name: str) -> str:
    rows = follower.northbound.rows("Logical_Switch_Port")
    return next(uuid for uuid, row in rows.items() if row["name"] == f"a_{name}")
