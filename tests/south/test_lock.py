"""OVSDB locks on a real server: what becomes of one when its holder dies, is robbed, or everybody reconnects."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ovnk_core.errors import Rejected, UnknownOutcome, Unreachable
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.port import Northbound
from tests.kit.ovn import OvsdbServer
from tests.south.rows import MIRRORED, address_set, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
NAME = "ovnk_test"
HOLDER = """
import json, socket, sys, time
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall(json.dumps({"id": 1, "method": "lock", "params": [sys.argv[2]]}).encode())
print(link.recv(4096).decode(), flush=True)
time.sleep(60)
"""


@pytest_asyncio.fixture
async def pair(own_server: OvsdbServer) -> AsyncIterator[tuple[NativeNorthbound, NativeNorthbound]]:
    clients = NativeNorthbound(own_server.address), NativeNorthbound(own_server.address)
    for client in clients:
        await client.connect(MIRRORED)
    yield clients
    for client in clients:
        await client.close()


async def held(nb: Northbound, *, is_held: bool = True) -> None:
    """Return when ``nb`` holds the lock, or no longer does."""
    async with asyncio.timeout(10):
        while True:
            try:
                if await nb.lock(NAME) == is_held:
                    return
            except Unreachable:
                pass
            await asyncio.sleep(0.005)


async def test_killed_holder_leaves_the_lock_to_the_next(
    pair: tuple[NativeNorthbound, NativeNorthbound], own_server: OvsdbServer
) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, own_server.socket, NAME, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert b'"locked":true' in await holder.stdout.readline()
    first, second = pair
    assert not await first.lock(NAME)
    assert not await second.lock(NAME)
    with pytest.raises(Rejected, match="not owner"):
        await first.transact([address_set("early")])
    holder.kill()
    await holder.wait()
    await held(first)
    await first.transact([address_set("s")])
    assert not await second.lock(NAME)
    assert set(first.rows("Address_Set")) == {uid("s")}


async def test_robbed_holder_knows_and_gets_it_back(
    pair: tuple[NativeNorthbound, NativeNorthbound], own_server: OvsdbServer
) -> None:
    nb, _ = pair
    assert await nb.lock(NAME)
    with own_server.wire() as thief:
        assert thief.call("steal", NAME) == {"locked": True}
        with pytest.raises(Rejected, match="not owner"):
            await nb.transact([address_set("never")])
        await held(nb, is_held=False)
    await held(nb)
    await nb.transact([address_set("s")])
    assert set(nb.rows("Address_Set")) == {uid("s")}


async def test_after_a_reconnect_there_is_one_holder_again(
    pair: tuple[NativeNorthbound, NativeNorthbound], own_server: OvsdbServer
) -> None:
    assert await pair[0].lock(NAME)
    assert not await pair[1].lock(NAME)
    own_server.restart()
    assert sorted([await outcome(nb) for nb in pair]) == ["not owner", "written"]
    assert sorted([await nb.lock(NAME) for nb in pair]) == [False, True]


async def outcome(nb: Northbound) -> str:
    async with asyncio.timeout(10):
        while True:
            try:
                await nb.transact([address_set("s")])
                return "written"
            except Rejected as error:
                return error.error
            except (Unreachable, UnknownOutcome):
                continue
