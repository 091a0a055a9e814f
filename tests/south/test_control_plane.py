"""The control plane over a real server that hangs, dies and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.ingest.load import load, parse_objects
from ovnk_core.northbound.native import NativeNorthbound
from tests.kit.ovn import OvsdbServer, short_directory

pytestmark = pytest.mark.asyncio
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "late", "namespace": "shop"},
    "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 1}]}]},
}


@pytest.fixture
def server() -> Iterator[OvsdbServer]:
    with short_directory() as directory, OvsdbServer(directory) as running:
        yield running


@asynccontextmanager
async def shop(server: OvsdbServer, **options: Any) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(NativeNorthbound(server.address), **options) as plane:
        await plane.replace(load(["examples/shop"]))
        await plane.wait(timeout_s=10)
        yield plane


def names(server: OvsdbServer, table: str) -> list[str]:
    with server.wire() as wire:
        return sorted(str(row["name"]) for row in wire.select(table))


async def test_a_hanging_server_makes_the_outcome_unknown_and_no_twins(server: OvsdbServer) -> None:
    async with shop(server, timeout_s=0.5) as plane:
        before = names(server, "ACL")
        server.suspend()
        receipt = await plane.apply([POLICY])
        await anyio.sleep(1.2)
        server.resume()
        await plane.wait(receipt.revision, timeout_s=20)
        assert names(server, "ACL") == sorted([*before, "NP:shop:late:Ingress:0"])
        assert not plane.pending().operations


async def test_a_killed_server_is_followed_when_it_returns(server: OvsdbServer) -> None:
    async with shop(server) as plane:
        server.kill()
        receipt = await plane.apply([POLICY])
        assert receipt.is_accepted
        assert (await plane.trace("shop/cart", "shop/db:1")).verdict == "allow"
        server.start()
        await plane.wait(receipt.revision, timeout_s=20)
        assert "NP:shop:late:Ingress:0" in names(server, "ACL")
        assert not plane.pending().operations


async def test_tampering_is_put_back(server: OvsdbServer) -> None:
    async with shop(server) as plane:
        before = names(server, "Address_Set")
        with server.wire() as wire:
            wire.transact({"op": "delete", "table": "Address_Set", "where": []})
            wire.transact(
                {"op": "mutate", "table": "Port_Group", "where": [], "mutations": [["ports", "delete", ["set", []]]]}
            )
        with anyio.fail_after(10):
            while names(server, "Address_Set") != before:
                await anyio.sleep(0.02)
        assert not plane.pending().operations


async def test_two_planes_on_two_servers(server: OvsdbServer) -> None:
    with short_directory() as directory, OvsdbServer(directory) as other:
        async with shop(server) as one, ControlPlane(NativeNorthbound(other.address)) as two:
            await two.apply([POLICY])
            await two.wait(timeout_s=10)
            assert "NP:shop:late:Ingress:0" not in names(server, "ACL")
            assert names(other, "ACL").count("NP:shop:late:Ingress:0") == 1
            assert len(one.list("Pod")) == 7
            assert parse_objects([POLICY]).items
