"""What only a real server can do to a client: be absent, be another one, stop, die, come back, answer late."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from ovsdbapp.backend.ovs_idl import connection as ovsdbapp_connection

from ovnk_core.errors import Rejected, SchemaMismatch, UnknownOutcome, Unreachable
from ovnk_core.keeper.link import ask_northbound
from ovnk_core.nb.operation import BumpConfig
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.native.session import Liveness
from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound
from ovnk_core.northbound.port import Northbound
from tests.kit.ovn import OvsdbServer, short_directory
from tests.south.rows import MIRRORED, acl, acls, address_set, group, refs, texts, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
Make = Callable[[str], Northbound]


@pytest.fixture(params=["native", "ovsdbapp"])
def make(request: pytest.FixtureRequest) -> Make:
    return NativeNorthbound if request.param == "native" else OvsdbappNorthbound


@pytest_asyncio.fixture
async def nb(make: Make, own_server: OvsdbServer) -> AsyncIterator[Northbound]:
    northbound = make(own_server.address)
    await northbound.connect(MIRRORED)
    yield northbound
    await northbound.close()


async def current(nb: Northbound) -> None:
    """Return when the mirror is current again after an interruption, for at most 20 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                await nb.transact([], timeout_s=5)
            except (Unreachable, UnknownOutcome):
                await asyncio.sleep(0.05)
            else:
                return


async def test_memory_schema_is_a_part_of_the_real_one(server: OvsdbServer) -> None:
    nb = NativeNorthbound(server.address)
    await nb.connect({})
    ours = parse_schema(SCHEMA)
    for name, table in ours.tables.items():
        real = nb.schema.tables[name]
        assert (table.indexes, table.is_root, table.max_rows) == (real.indexes, real.is_root, real.max_rows), name
        for column in table.columns.values():
            assert real.columns[column.name] == column, name
    await nb.close()


async def test_nothing_there_is_unreachable_at_once(make: Make) -> None:
    with short_directory() as directory:
        nb = make(f"unix:{directory}/nobody.sock")
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"nobody\.sock"):
            await nb.connect(MIRRORED, timeout_s=10)
        assert time.monotonic() - started < 2
        with pytest.raises(Unreachable):
            await nb.transact([address_set("s")])
        await nb.close()


async def test_stale_socket_file_is_unreachable_at_once(make: Make) -> None:
    with short_directory() as directory:
        server = OvsdbServer(directory)
        server.start()
        server.kill()
        assert Path(server.socket).exists()
        nb = make(server.address)
        with pytest.raises(Unreachable):
            await nb.connect(MIRRORED)
        await nb.close()


async def test_server_that_does_not_answer_is_unreachable_in_time(make: Make, own_server: OvsdbServer) -> None:
    own_server.suspend()
    nb = make(own_server.address)
    started = time.monotonic()
    with pytest.raises(Unreachable):
        await nb.connect(MIRRORED, timeout_s=0.3)
    assert time.monotonic() - started < 3
    await nb.close()
    own_server.resume()


async def test_silence_is_dated_from_what_was_heard_last(nb: Northbound, own_server: OvsdbServer) -> None:
    """A change that was committed counts, not only when somebody asked how the link is."""
    assert (await ask_northbound(nb)).is_connected
    await asyncio.sleep(0.2)
    begun_s = time.time()
    await nb.transact([address_set("s")])
    heard_s = time.time()
    own_server.suspend()
    await asyncio.sleep(0.2)
    link = await ask_northbound(nb)
    own_server.resume()
    assert not link.is_connected and link.stale_since_s is not None
    assert begun_s - 0.005 <= link.stale_since_s <= heard_s + 0.05


async def test_southbound_server_is_a_schema_mismatch(make: Make) -> None:
    with short_directory() as directory, OvsdbServer(directory, "sb") as server:
        nb = make(server.address)
        with pytest.raises(SchemaMismatch, match="OVN_Northbound"):
            await nb.connect(MIRRORED)
        await nb.close()


async def test_native_refuses_a_remote_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="unix:PATH"):
        await NativeNorthbound("http://x").connect(MIRRORED)


async def test_garbage_instead_of_a_server_is_unreachable() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    with short_directory() as directory:
        listener = await asyncio.start_unix_server(garbage, f"{directory}/g.sock")
        nb = NativeNorthbound(f"unix:{directory}/g.sock")
        with pytest.raises(Unreachable, match="does not start with a brace"):
            await nb.connect(MIRRORED)
        await nb.close()
        listener.close()
        await listener.wait_closed()


async def test_several_remotes_the_living_one_wins(server: OvsdbServer) -> None:
    nb = NativeNorthbound(f"unix:{server.directory}/nobody.sock,{server.address},tcp:127.0.0.1:1")
    await nb.connect(MIRRORED)
    await nb.transact([address_set("s")])
    assert uid("s") in nb.rows("Address_Set")
    await nb.close()


async def test_restart_resumes_and_shows_what_happened_meanwhile(nb: Northbound, own_server: OvsdbServer) -> None:
    await nb.transact([address_set("kept"), address_set("changed", "10.0.0.1"), address_set("gone")])
    stream = nb.changes()
    rows = nb.rows("Address_Set")
    old = dict(rows)
    own_server.kill()
    own_server.start()
    with own_server.wire() as wire:
        wire.transact(
            {"op": "delete", "table": "Address_Set", "where": [["name", "==", "gone"]]},
            {
                "op": "update",
                "table": "Address_Set",
                "where": [["name", "==", "changed"]],
                "row": {"addresses": "10.0.0.2"},
            },
            {"op": "insert", "table": "Address_Set", "uuid": uid("new"), "row": {"name": "new"}},
        )
    seen: dict[str, object] = {}
    async with asyncio.timeout(20):
        while set(seen) != {uid("gone"), uid("changed"), uid("new")}:
            for table, before in (await anext(stream)).items():
                assert table == "Address_Set"
                for uuid, row in before.items():
                    seen.setdefault(uuid, row)
    assert seen == {uid("gone"): old[uid("gone")], uid("changed"): old[uid("changed")], uid("new"): None}
    assert {str(row["name"]) for row in rows.values()} == {"kept", "changed", "new"}
    assert rows[uid("changed")]["addresses"] == texts("10.0.0.2")
    await nb.transact([address_set("after")])
    assert uid("after") in rows


async def test_transaction_while_the_server_is_away_is_unreachable(nb: Northbound, own_server: OvsdbServer) -> None:
    own_server.kill()
    await asyncio.sleep(0.05)
    with pytest.raises(Unreachable):
        await nb.transact([address_set("s")], timeout_s=0.3)
    own_server.start()
    await current(nb)
    await nb.transact([address_set("s")], timeout_s=10)


async def test_transaction_waits_for_the_reconnect(nb: Northbound, own_server: OvsdbServer) -> None:
    own_server.kill()
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(nb.transact([address_set("s")], timeout_s=20))
    await asyncio.sleep(0.05)
    own_server.start()
    await waiting
    assert uid("s") in nb.rows("Address_Set")


async def test_timed_out_transaction_is_unknown_and_resolved_by_reading_back(
    nb: Northbound, own_server: OvsdbServer
) -> None:
    own_server.suspend()
    with pytest.raises(UnknownOutcome):
        await nb.transact([address_set("s")], timeout_s=0.3)
    assert uid("s") not in nb.rows("Address_Set")
    own_server.resume()
    await current(nb)
    assert uid("s") in nb.rows("Address_Set")
    with pytest.raises(Rejected, match="duplicate uuid"):
        await nb.transact([address_set("s")])


async def test_lost_reply_is_unknown(nb: Northbound, own_server: OvsdbServer) -> None:
    own_server.suspend()
    waiting = asyncio.create_task(nb.transact([address_set("s")], timeout_s=20))
    await asyncio.sleep(0.2)
    own_server.kill()
    with pytest.raises(UnknownOutcome):
        await waiting
    own_server.start()
    await current(nb)
    assert uid("s") not in nb.rows("Address_Set")


async def test_cancelled_transaction_is_whole_or_absent(nb: Northbound) -> None:
    waiting = asyncio.create_task(nb.transact([acl("a"), group("g", refs("a"))]))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await nb.transact([])
    assert len(nb.rows("ACL")) == len(nb.rows("Port_Group"))
    await nb.transact([address_set("after")])


async def test_lock_is_taken_again_after_a_restart(nb: Northbound, own_server: OvsdbServer) -> None:
    assert await nb.lock("ovnk_test")
    own_server.restart()
    async with asyncio.timeout(20):
        while True:
            try:
                await nb.transact([address_set("s")], timeout_s=5)
                break
            except (Unreachable, UnknownOutcome, Rejected):
                await asyncio.sleep(0.05)
    assert await nb.lock("ovnk_test")


async def test_silent_server_is_noticed_and_left(own_server: OvsdbServer) -> None:
    nb = NativeNorthbound(own_server.address, liveness=Liveness(idle_s=0.2, dead_s=0.2))
    await nb.connect(MIRRORED)
    await asyncio.sleep(0.7)
    await nb.transact([address_set("alive")])
    own_server.suspend()
    waiting = asyncio.create_task(nb.transact([address_set("s")], timeout_s=60))
    started = time.monotonic()
    with pytest.raises(UnknownOutcome, match="no answer for"):
        await waiting
    assert time.monotonic() - started < 30
    own_server.resume()
    await current(nb)
    await nb.transact([address_set("again")])
    await nb.close()


async def test_long_transaction_is_not_taken_for_a_silent_server(own_server: OvsdbServer) -> None:
    nb = NativeNorthbound(own_server.address, liveness=Liveness(idle_s=0.05, dead_s=0.05))
    await nb.connect({})
    await nb.transact(acls(8000), timeout_s=60)
    await nb.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 30])
async def test_close_while_the_connection_is_being_lost(own_server: OvsdbServer, turns: int) -> None:
    nb = NativeNorthbound(own_server.address)
    await nb.connect(MIRRORED)
    own_server.kill()
    for _ in range(turns):
        await asyncio.sleep(0)
    await asyncio.wait_for(nb.close(), 2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_held_up_loop_is_not_taken_for_a_silent_server(server: OvsdbServer) -> None:
    nb = NativeNorthbound(server.address, liveness=Liveness(idle_s=0.1, dead_s=0.1))
    await nb.connect(MIRRORED)
    connection, stream = nb._connection, nb.changes()
    for _ in range(4):
        await asyncio.sleep(0.12)
        time.sleep(0.3)  # the point: our own loop stands still
    with server.wire() as wire:
        wire.transact({"op": "insert", "table": "Address_Set", "uuid": uid("s"), "row": {"name": "s"}})
    assert await asyncio.wait_for(anext(stream), 5) == {"Address_Set": {uid("s"): None}}
    assert connection is not None
    assert nb._connection is connection
    await nb.close()


async def test_canceled_monitor_is_loaded_again(own_server: OvsdbServer) -> None:
    nb = NativeNorthbound(own_server.address)
    await nb.connect(MIRRORED)
    await nb.transact([address_set("s")])
    connection = nb._connection
    assert connection is not None
    await connection._notify("monitor_canceled", None)  # type: ignore[arg-type]
    await current(nb)
    assert nb._connection is not connection
    await nb.transact([address_set("t")])
    assert set(nb.rows("Address_Set")) == {uid("s"), uid("t")}
    await nb.close()


async def test_two_ovsdbapp_clients_of_two_servers_do_not_mix(server: OvsdbServer, own_server: OvsdbServer) -> None:
    one, two = OvsdbappNorthbound(server.address), OvsdbappNorthbound(own_server.address)
    await one.connect(MIRRORED)
    await two.connect(MIRRORED)
    await one.transact([address_set("one")])
    await two.transact([address_set("two")])
    assert (set(one.rows("Address_Set")), set(two.rows("Address_Set"))) == ({uid("one")}, {uid("two")})
    await one.close()
    await two.close()


async def test_ovsdbapp_connection_somebody_else_holds(server: OvsdbServer) -> None:
    idl = ovsdbapp_connection.OvsdbIdl.from_server(server.address, "OVN_Northbound")
    theirs = ovsdbapp_connection.Connection(idl, 10)
    theirs.start()
    nb = OvsdbappNorthbound(connection=theirs)
    await nb.connect({"Address_Set": ("name",), "NB_Global": ("nb_cfg",)})
    await nb.transact([address_set("s"), BumpConfig()])
    assert nb.rows("Address_Set") == {uid("s"): {"name": "s"}}
    await nb.close()
    assert theirs.is_running
    assert "run" not in vars(idl)
    assert await asyncio.to_thread(theirs.stop, 10)
    with pytest.raises(ValueError, match="either"):
        OvsdbappNorthbound()


async def test_ovsdbapp_keeps_python_ovs_out_of_the_other_drivers() -> None:
    code = (
        "import sys, ovnk_core.northbound.memory, ovnk_core.northbound.native; "
        "bad = [name for name in sys.modules if name.split('.')[0] in ('ovs', 'ovsdbapp')]; "
        "sys.exit(' '.join(bad) or 0)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
