"""One real ovsdb-server for the whole folder, emptied between tests, and the three drivers behind one fixture; one real
etcd for the whole folder, with a prefix for each test, and the three backends of the store behind another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound
from ovnk_core.northbound.port import Northbound
from ovnk_core.store.entry import Base
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.port import Contents, Log
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.store import BACKENDS, Store
from tests.south.etcd_store import Open
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


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[EtcdServer]:
    with short_directory() as directory, EtcdServer(directory) as server:
        yield server


@pytest.fixture
def etcd(shared_etcd: EtcdServer) -> tuple[str, str]:
    """Endpoint of the shared etcd, for tests that do not hurt it, and a prefix that is the test's own."""
    return shared_etcd.endpoint, f"/{uuid4().hex}"


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """An etcd that the test may kill or stop."""
    with short_directory() as directory, EtcdServer(directory) as server:
        yield server


@pytest_asyncio.fixture(params=BACKENDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, etcd: tuple[str, str]) -> AsyncIterator[Store]:
    made = Store(str(request.param), tmp_path, *etcd)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def log(store: Store) -> Log:
    """An open log on a new store."""
    made = store.log()
    contents = await made.open()
    assert contents == Contents(base=Base())
    return made


@pytest_asyncio.fixture
async def opened(etcd: tuple[str, str]) -> AsyncIterator[Open]:
    """A function that opens another log on the one store of the test."""
    logs: list[EtcdLog] = []

    async def make(endpoint: str = "", timeout_s: float = 5.0) -> EtcdLog:
        log = EtcdLog([endpoint or etcd[0]], etcd[1], timeout_s=timeout_s, term_s=1)
        logs.append(log)
        await log.open()
        return log

    yield make
    for log in logs:
        await log.close()
