"""One real ovsdb-server for the whole folder, emptied between tests, and the three drivers behind one fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound
from ovnk_core.northbound.port import Northbound
from tests.kit.ovn import OvsdbServer, short_directory
from tests.south.rows import MIRRORED

DRIVERS = ("memory", "native", "ovsdbapp")
Connect = Callable[[], Awaitable[Northbound]]


@pytest.fixture(scope="session")
def shared_server() -> Iterator[OvsdbServer]:
    with short_directory() as directory, OvsdbServer(directory) as server:
        yield server


@pytest.fixture
def server(shared_server: OvsdbServer) -> OvsdbServer:
    """The shared server with no row but NB_Global's; for tests that do not hurt it."""
    with shared_server.wire() as wire:
        wire.transact(
            *({"op": "delete", "table": table, "where": []} for table in MIRRORED if table != "NB_Global"),
            {
                "op": "update",
                "table": "NB_Global",
                "where": [],
                "row": {"nb_cfg": 0, "external_ids": ["map", []], "options": ["map", []]},
            },
        )
    return shared_server


@pytest.fixture
def own_server() -> Iterator[OvsdbServer]:
    """A server that the test may kill or stop."""
    with short_directory() as directory, OvsdbServer(directory) as server:
        yield server


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def connect(driver: str, server: OvsdbServer) -> AsyncIterator[Connect]:
    """A function that connects another client of ``driver`` to the one database of the test."""
    database, clients = MemoryDatabase(), list[Northbound]()

    async def client() -> Northbound:
        northbound: Northbound
        if driver == "memory":
            northbound = MemoryNorthbound(database=database)
        elif driver == "native":
            northbound = NativeNorthbound(server.address)
        else:
            northbound = OvsdbappNorthbound(server.address)
        clients.append(northbound)
        await northbound.connect(MIRRORED)
        return northbound

    yield client
    for northbound in clients:
        await northbound.close()


@pytest_asyncio.fixture
async def nb(connect: Connect) -> Northbound:
    return await connect()
