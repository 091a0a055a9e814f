"""A server whose prober loses a real node: management addresses in network namespaces, a link that goes down and comes
back, and the rows of a real northbound after each. Asked at port 9 of TCP, and over gRPC health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from ovnk_client import Client

from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile.columns import mirrored
from tests.kit.namespace import Namespace, link
from tests.kit.ovn import Central, short_directory
from tests.kit.serving import ServerProcess

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
ADDRESS, SERVICE, PORT = "192.0.2.100", "Service_Egress_IP", 9107
MANAGEMENT = {"n1": "10.128.0.2", "n2": "10.128.2.2", "n3": "10.128.4.2"}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_S = 60.0
"""Far more than a round takes on a busy machine."""


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
        "spec": {"egressIPs": [ADDRESS], "namespaceSelector": {}},
    },
)


class Lan:
    """The server's namespace, and one of each node on a link of its own."""

    def __init__(self, stack: ExitStack) -> None:
        self.here = stack.enter_context(Namespace())
        self.nodes: dict[str, Namespace] = {}
        for number, (name, management) in enumerate(MANAGEMENT.items()):
            node = self.nodes[name] = stack.enter_context(Namespace())
            link(self.here, f"v{number}", node, "v")
            self.here.ip(f"addr add 10.9.{number}.1/30 dev v{number}")
            self.here.ip(f"route add {management}/32 via 10.9.{number}.2")
            node.ip(f"addr add 10.9.{number}.2/30 dev v", f"addr add {management}/32 dev lo")

    def cut(self, name: str) -> None:
        self.nodes[name].ip("link set v down")

    def mend(self, name: str) -> None:
        self.nodes[name].ip("link set v up")


@pytest.fixture
def lan() -> Iterator[Lan]:
    with ExitStack() as stack:
        yield Lan(stack)


@contextmanager
def healthy(lan: Lan) -> Iterator[dict[str, health.HealthServicer]]:
    """A health service on each node's management address; what it says can be changed."""
    with ExitStack() as stack:
        found = {}
        for name, node in lan.nodes.items():
            server, servicer = grpc.server(ThreadPoolExecutor(1)), health.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
            servicer.set(SERVICE, SERVING)
            with node.entered():
                assert server.add_insecure_port(f"{MANAGEMENT[name]}:{PORT}")
            server.start()
            stack.callback(lambda each: each.stop(0).wait(), server)
            found[name] = servicer
        yield found


class Observed:
    """The northbound as it is after each commit: on which gateway routers the address is."""

    def __init__(self, northbound: NativeNorthbound) -> None:
        self._northbound, self.most = northbound, 0

    def routers(self) -> set[str]:
        nats = {uuid for uuid, row in self._northbound.rows("NAT").items() if row["external_ip"] == ADDRESS}
        routers = self._northbound.rows("Logical_Router").values()
        return {str(row["name"]) for row in routers if nats & {str(each) for each in row["nat"]}}

    async def follow(self) -> None:
        async for _ in self._northbound.changes():
            self.most = max(self.most, len(self.routers()))

    async def until(self, router: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.routers() != {router}:
                await asyncio.sleep(0.01)


class Stand:
    def __init__(self, client: Client, observed: Observed) -> None:
        self.client, self.on = client, observed.until

    async def sees(self, **expected: bool) -> None:
        """Until the server says so of these nodes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = {each.name: each.is_reachable async for each in self.client.egress_nodes()}
                if found.items() >= expected.items():
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stand(lan: Lan, folder: Path, **options: str) -> AsyncIterator[Stand]:
    """A server in the namespace that sees all nodes, on a northbound with northd."""
    with Central(folder) as central:
        probing = {"egress-ip-probe-interval-s": "0.1", "egress-ip-probe-timeout-s": "1"}
        server = ServerProcess(folder, northbound=central.nb, options=probing | options)
        northbound = NativeNorthbound(central.nb)
        await northbound.connect(mirrored())
        observed = Observed(northbound)
        following = asyncio.create_task(observed.follow())
        with lan.here.entered():
            server.start()
        await server.ready()
        async with server.client() as client:
            await client.apply_and_wait(OBJECTS)
            await observed.until("GR_n1")
            yield Stand(client, observed)
        server.daemon.stop()
        following.cancel()
        await northbound.close()
        assert observed.most == 1, "the address was on two routers in one commit"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


async def test_a_node_that_is_cut_off_loses_its_address_and_gets_none_back(lan: Lan, folder: Path) -> None:
    async with stand(lan, folder) as made:
        await made.sees(n1=True, n2=True, n3=True)
        lan.cut("n1")
        await made.on("GR_n2")
        await made.sees(n1=False, n2=True, n3=True)
        lan.mend("n1")
        await made.sees(n1=True, n2=True, n3=True)
        await made.on("GR_n2")
        lan.cut("n2")
        await made.on("GR_n1")
        await made.sees(n2=False)


async def test_a_node_that_says_it_does_not_serve_is_lost_too(lan: Lan, folder: Path) -> None:
    with healthy(lan) as says:
        async with stand(lan, folder, **{"egress-ip-probe-port": str(PORT)}) as made:
            await made.sees(n1=True, n2=True, n3=True)
            says["n1"].set(SERVICE, NOT_SERVING)
            await made.on("GR_n2")
            lan.cut("n2")
            await made.on("GR_n3")
            await made.sees(n1=False, n2=False, n3=True)
            says["n1"].set(SERVICE, SERVING)
            lan.mend("n2")
            await made.sees(n1=True, n2=True, n3=True)
            await made.on("GR_n3")
