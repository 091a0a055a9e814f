"""Much at once: a whole egress firewall in one transaction, and a load that leaves the loop alive."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

import pytest

from ovnk_core.nb.operation import Delete, Insert, Mutate
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound
from ovnk_core.northbound.port import Northbound
from tests.kit.ovn import OvsdbServer
from tests.south.rows import MIRRORED, acls, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]


@pytest.mark.parametrize("make", [NativeNorthbound, OvsdbappNorthbound])
async def test_eight_thousand_acls_at_once(make: Callable[[str], Northbound], own_server: OvsdbServer) -> None:
    nb = make(own_server.address)
    await nb.connect(MIRRORED)
    operations = acls(8000)
    receipt = await nb.transact(operations, timeout_s=60)
    assert receipt.operations == 8001
    assert len(nb.rows("ACL")) == 8000
    last = operations[7999]
    assert isinstance(last, Insert)
    assert {name: nb.rows("ACL")[last.uuid][name] for name in last.columns} == last.columns
    one = frozenset([uid("acl7")])
    await nb.transact([Mutate(table="Port_Group", uuid=uid("pg"), column="acls", delete=one)])
    assert len(nb.rows("ACL")) == 7999
    await nb.transact([Delete(table="Port_Group", uuid=uid("pg"))], timeout_s=60)
    assert not nb.rows("ACL")
    await nb.close()


async def longest_stall(until: asyncio.Event) -> float:
    """The most CPU the loop used before it came back to a task that asks for every turn, in seconds. Not the time that
    went by: others use this machine, too."""
    worst, last = 0.0, time.thread_time()
    while not until.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        worst, last = max(worst, now - last), now
    return worst


async def test_native_load_of_twenty_thousand_acls_does_not_hold_up_the_loop(own_server: OvsdbServer) -> None:
    writer = NativeNorthbound(own_server.address)
    await writer.connect({})
    await writer.transact(acls(20000), timeout_s=60)
    await writer.close()
    reader, done = NativeNorthbound(own_server.address), asyncio.Event()
    probe = asyncio.create_task(longest_stall(done))
    await reader.connect(MIRRORED, timeout_s=30)
    done.set()
    assert len(reader.rows("ACL")) == 20000
    assert gc.isenabled()
    assert await probe < 0.1
    await reader.close()
