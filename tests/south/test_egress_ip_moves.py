"""A move takes two commits, of which the first is confirmed before the second is made: on a real ovsdb-server, with and
without a store, and through a restart in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import Unreachable
from ovnk_core.keeper import Keeper
from ovnk_core.keeper.proposal import Put
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.row import EGRESS_IP_KEY
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.port import Receipt
from ovnk_core.store.memory import MemoryLog
from tests.kit.ovn import OvsdbServer

pytestmark = pytest.mark.asyncio
ADDRESS = "192.0.2.100"
LOST = NodeHealth(is_reachable=False)


def node(name: str, number: int) -> dict[str, Any]:
    meta = {"name": name, "labels": {"k8s.ovn.org/egress-assignable": ""}}
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": addresses}}


OBJECTS: list[dict[str, Any]] = [
    node("n1", 1),
    node("n2", 2),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"nodeName": "n2", "containers": [{"name": "c"}]},
    },
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressIP",
        "metadata": {"name": "out"},
        "spec": {"egressIPs": [ADDRESS], "namespaceSelector": {}},
    },
]


class Watched(NativeNorthbound):
    """Notes after every commit where the database shows the address; ``fails`` makes the next commits fail."""

    def __init__(self, address: str, server: OvsdbServer) -> None:
        super().__init__(address)
        self._server, self.commits, self.fails = server, list[str](), False

    async def transact(self, operations: tuple[Operation, ...], **options: Any) -> Receipt:
        if self.fails:
            raise Unreachable("the test says so")
        receipt = await super().transact(operations, **options)
        self.commits.append(shown(self._server))
        return receipt


def shown(server: OvsdbServer) -> str:
    """Every gateway router that translates to the address, and what is on record: ``GR_n1/n1``, ``/leaving n1``."""
    with server.wire() as wire:
        nats = {str(row["_uuid"][1]): row for row in wire.select("NAT") if row["external_ip"] == ADDRESS}
        found: list[str] = []
        for router in wire.select("Logical_Router"):
            held = router["nat"]
            uuids = [each[1] for each in held[1]] if held[0] == "set" else [held[1]]
            found += [str(router["name"]) for uuid in uuids if uuid in nats]
        (row,) = wire.select("NB_Global")
    keys = dict(row["external_ids"][1])
    decision = json.loads(keys.get(f"{EGRESS_IP_KEY}/out", "{}"))
    where = [each["node"] for each in decision.get("assignments", ())]
    leaving = [f"leaving {each['node']}" for each in decision.get("leaving", ())]
    return f"{','.join(sorted(found))}/{','.join(where + leaving)}"


@asynccontextmanager
async def plane(server: OvsdbServer) -> AsyncIterator[tuple[ControlPlane, Watched]]:
    northbound = Watched(server.address, server)
    async with ControlPlane(northbound) as running:
        await running.apply(OBJECTS)
        await running.wait(timeout_s=10)
        yield running, northbound


def moves(commits: list[str]) -> list[str]:
    """Commits that changed anything, in order."""
    return [now for before, now in zip(["", *commits], commits, strict=False) if now != before]


async def test_both_commits_happen_and_none_has_two_owners(server: OvsdbServer) -> None:
    async with plane(server) as (running, northbound):
        assert shown(server) == "GR_n1/n1"
        northbound.commits.clear()
        with anyio.fail_after(1):
            await running.report_health({"n1": LOST})
            await running.wait(timeout_s=1)
            await running.wait(timeout_s=1)
        assert northbound.commits == ["/leaving n1", "GR_n2/n2"]
        northbound.commits.clear()
        await running.report_health({"n1": NodeHealth()})
        await running.wait(timeout_s=5)
        assert shown(server) == "GR_n2/n2"


async def test_nothing_is_assigned_while_the_withdrawal_cannot_be_written(server: OvsdbServer) -> None:
    async with plane(server) as (running, northbound):
        northbound.commits.clear()
        northbound.fails = True
        await running.report_health({"n1": LOST})
        with pytest.raises((Unreachable, TimeoutError)):
            await running.wait(timeout_s=0.3)
        decided = running.cluster.decisions.egress_ips["out"]
        assert [each.node for each in decided.leaving] == ["n1"] and not decided.assignments
        northbound.fails = False
        with anyio.fail_after(10):
            while "GR_n2/n2" not in northbound.commits:
                await anyio.sleep(0.01)
        assert moves(northbound.commits) == ["/leaving n1", "GR_n2/n2"]


async def test_a_restart_in_between_finishes_the_move(server: OvsdbServer) -> None:
    """Without a store: what the northbound remembers is enough."""
    async with plane(server) as (running, northbound):

        async def stop(leaving: object) -> None:
            northbound.fails = True

        running.programmer._withdrawn = stop  # type: ignore[assignment]  # dies right after the first commit
        await running.report_health({"n1": LOST})
        await running.wait(timeout_s=5)
        assert shown(server) == "/leaving n1"
    async with plane(server) as (running, northbound):
        with anyio.fail_after(5):
            while shown(server) != "GR_n2/n2":
                await anyio.sleep(0.01)


async def test_a_server_with_a_store_moves_in_two_commits(server: OvsdbServer) -> None:
    log = MemoryLog()
    northbound = Watched(server.address, server)
    async with Keeper(northbound, log) as keeper:
        accepted = await keeper.commit(keeper.request(puts=[Put(manifest=each) for each in OBJECTS]))
        await keeper.wait(accepted.revision, "programmed", 10)
        with anyio.fail_after(10):
            while shown(server) != "GR_n1/n1":
                await anyio.sleep(0.01)
        northbound.commits.clear()
        await keeper.report_health({"n1": LOST})
        with anyio.fail_after(10):
            while "GR_n2/n2" not in northbound.commits:
                await anyio.sleep(0.01)
        assert moves(northbound.commits)[:2] == ["/leaving n1", "GR_n2/n2"]
