"""Assignments and drains outlive the server that made them, and a move that it began is finished by whoever comes next:
itself on its SQLite file, or another server on the same etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ovnk_client import Client, ClientError

from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile.columns import mirrored
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.serving import ServerProcess

pytestmark = pytest.mark.asyncio
MOVES, STAYS = "192.0.2.100", "192.0.2.101"


def _node(number: int) -> dict[str, Any]:
    meta = {"name": f"n{number}", "labels": {"k8s.ovn.org/egress-assignable": ""}}
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": addresses}}


OBJECTS: tuple[dict[str, Any], ...] = (
    *map(_node, (1, 2, 3)),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"nodeName": "n3"}},
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressIP",
        "metadata": {"name": "out"},
        "spec": {"egressIPs": [MOVES, STAYS], "namespaceSelector": {}},
    },
)


@pytest.fixture(params=["sqlite", "etcd"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{folder}/objects.db"
        return
    with EtcdServer(folder) as etcd:
        yield f"etcd:{etcd.endpoint}"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def _held(northbound: NativeNorthbound) -> set[tuple[str, str]]:
    """(address, gateway router) of every translation to an egress IP."""
    nats = {uuid: str(row["external_ip"]) for uuid, row in northbound.rows("NAT").items()}
    routers = northbound.rows("Logical_Router").values()
    found = {(nats[str(uuid)], str(row["name"])) for row in routers for uuid in row["nat"] if str(uuid) in nats}
    return {each for each in found if each[0] in (MOVES, STAYS)}


async def _until(northbound: NativeNorthbound, wanted: set[tuple[str, str]]) -> None:
    async with asyncio.timeout(60):
        while _held(northbound) != wanted:
            await asyncio.sleep(0.01)


async def _state(client: Client) -> tuple[dict[str, str], list[str]]:
    """Where addresses are, and which nodes are drained."""
    where = {each.address: each.node async for one in client.egress_assignments() for each in one.assignments}
    return where, [each.name async for each in client.egress_nodes() if each.is_drained]


async def test_a_move_that_was_withdrawn_and_not_yet_assigned_is_finished(folder: Path, store: str) -> None:
    """The first server is killed right after the commit that withdraws the address. On etcd the other one is there by
    then; a file has room for one."""
    options = {"etcd-term-s": "5"} if store.startswith("etcd") else {}
    dies = {"OVNK_FAILPOINTS": "writer.after_transact=kill@1"}
    with OvsdbServer(folder, "nb") as server:
        parts: dict[str, Any] = {"northbound": server.address, "store": store, "options": options}
        northbound = NativeNorthbound(server.address)
        await northbound.connect(mirrored())
        placed = {(MOVES, "GR_n1"), (STAYS, "GR_n2")}
        maker = ServerProcess(folder, "maker", **parts)
        maker.start()
        await maker.ready()
        async with maker.client() as client:
            await client.apply_and_wait(OBJECTS)
            await _until(northbound, placed)
        maker.daemon.stop()
        first = ServerProcess(folder, "first", **parts, environment=dies)
        second = ServerProcess(folder, "second", **parts)
        try:
            first.start()
            await first.ready()
            if store.startswith("etcd"):
                second.start()
                await second.ready()
            async with Client(first.socket, patience_s=5) as client:
                await client.wait((await client.status()).accepted_revision, "programmed")
                assert await _state(client) == ({MOVES: "n1", STAYS: "n2"}, [])
                with contextlib.suppress(ClientError):
                    await client.drain("n1", wait=True)
            await first.died()
            if store.startswith("sqlite"):
                assert _held(northbound) == {(STAYS, "GR_n2")}
                second.start()
                await second.ready()
            await _until(northbound, {(MOVES, "GR_n3"), (STAYS, "GR_n2")})
            async with second.client() as client:
                assert await _state(client) == ({MOVES: "n3", STAYS: "n2"}, ["n1"])
        finally:
            await northbound.close()
            for each in (maker, first, second):
                each.daemon.stop()


async def test_the_next_server_changes_nothing(folder: Path, store: str) -> None:
    """Assignments and drains are as they were, though an allocation from scratch would give another answer."""
    options = {"etcd-term-s": "5"} if store.startswith("etcd") else {}
    with OvsdbServer(folder, "nb") as server:
        parts: dict[str, Any] = {"northbound": server.address, "store": store, "options": options}
        northbound = NativeNorthbound(server.address)
        await northbound.connect(mirrored())
        first, second = (ServerProcess(folder, name, **parts) for name in ("first", "second"))
        held = {(MOVES, "GR_n3"), (STAYS, "GR_n1")}
        try:
            first.start()
            await first.ready()
            async with first.client() as client:
                await client.apply_and_wait(OBJECTS)
                await client.drain("n1", wait=True)
                await client.undrain("n1")
                await client.drain("n2", wait=True)
                before = await _state(client)
                assert before == ({MOVES: "n3", STAYS: "n1"}, ["n2"])
            await _until(northbound, held)
            first.daemon.stop()
            second.start()
            await second.ready()
            async with second.client() as client:
                assert await _state(client) == before
                await client.wait((await client.status()).accepted_revision, "programmed")
            assert _held(northbound) == held
        finally:
            await northbound.close()
            for each in (first, second):
                each.daemon.stop()
