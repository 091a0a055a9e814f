"""Two servers on one etcd and one northbound: both accept and answer, one writes, and a writer that was away cannot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ovnk_client import Client, ClientError, reference

from ovnk_core.nb.row import OWNER_KEY
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile.columns import mirrored
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import Central, short_directory
from tests.kit.serving import ServerProcess

Manifest = dict[str, Any]
NODE: Manifest = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def _pod(name: str) -> Manifest:
    metadata = {"name": name, "namespace": "shop", "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1"}}


class Pair:
    """Both servers, their store, and our own eyes on the northbound."""

    def __init__(
        self, first: ServerProcess, second: ServerProcess, etcd: EtcdServer, northbound: NativeNorthbound
    ) -> None:
        self.first, self.second, self.etcd, self.northbound = first, second, etcd, northbound

    def ports(self) -> set[str]:
        """Names of pods that have a port now."""
        rows = self.northbound.rows("Logical_Switch_Port").values()
        return {str(row["name"]).partition("_")[2] for row in rows if "Pod" in str(row["external_ids"].get(OWNER_KEY))}

    async def until(self, wanted: set[str]) -> None:
        async with asyncio.timeout(60):
            while self.ports() != wanted:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _pair(folder: Path, failpoints: str = "") -> AsyncIterator[Pair]:
    with Central(folder) as central, EtcdServer(folder) as etcd:
        parts: dict[str, Any] = {
            "northbound": central.nb,
            "store": f"etcd:{etcd.endpoint}",
            "options": {"etcd-term-s": "5"},
        }
        environment = {"OVNK_FAILPOINTS": failpoints} if failpoints else None
        first = ServerProcess(folder, "first", **parts, environment=environment)
        second = ServerProcess(folder, "second", **parts)
        northbound = NativeNorthbound(central.nb)
        await northbound.connect(mirrored())
        try:
            first.start()
            await first.ready()
            async with first.client() as client:
                await _until_writer(client, "first")
            second.start()
            await second.ready()
            yield Pair(first, second, etcd, northbound)
        finally:
            await northbound.close()
            for server in (first, second):
                if server.daemon.is_alive:
                    server.daemon.resume()
                server.daemon.stop()


async def _until_writer(client: Client, holder: str, timeout_s: float = 60.0) -> int:
    """Until ``holder`` has the turn -> its epoch."""
    async with asyncio.timeout(timeout_s):
        while True:
            writer = (await client.status()).writer
            if writer.holder == holder and writer.epoch:
                return writer.epoch
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_both_accept_and_answer_and_one_writes(folder: Path) -> None:
    async with _pair(folder) as pair, pair.first.client() as one, pair.second.client() as two:
        await one.apply_and_wait([NODE, _pod("a")])
        answer = await two.apply(_pod("b"))
        assert (await one.wait(answer.revision, "realized")).is_reached
        assert (await two.wait(answer.revision, "realized")).is_reached, "told by marks in the northbound"
        await pair.until({"a", "b"})
        for client in (one, two):
            status = await client.status(answer.revision)
            assert status.writer.holder == "first"
            found = await client.get("Pod", "b", namespace="shop")
            assert found.pod.status.pod_ip, "decided by the writer, shown by both"
            traced = await client.trace("shop/a", "shop/b:80")
            assert traced.revision >= answer.revision
        assert (await one.status()).writer.is_self and not (await two.status()).writer.is_self


@pytest.mark.asyncio
async def test_fifty_clients_of_both_servers_lose_nothing(folder: Path) -> None:
    async with _pair(folder) as pair, pair.first.client() as one, pair.second.client() as two:
        await one.apply(NODE)
        clients = (one, two)
        answers = await asyncio.gather(*(clients[n % 2].apply(_pod(f"p{n}")) for n in range(50)))
        assert len({answer.revision for answer in answers}) == 50
        await pair.until({f"p{n}" for n in range(50)})
        # Decisions reach the follower with the log, a moment after the rows that rest on them.
        await two.wait((await one.status()).accepted_revision, "accepted")
        addresses = {each.pod.status.pod_ip async for each in two.objects("Pod")}
        assert len(addresses) == 50


@pytest.mark.asyncio
async def test_a_writer_that_slept_past_its_lease_cannot_write(folder: Path) -> None:
    """The first server is suspended with a transaction in its hand. Meanwhile the other writes the same change, and
    then takes it back. When the first one wakes, its transaction must not bring the pod back."""
    async with (
        _pair(folder, "writer.before_transact=stop@4") as pair,
        pair.second.client() as two,
        Client(pair.first.socket, deadline_s=5) as one,
    ):
        await one.apply_and_wait(NODE)
        pushing = asyncio.create_task(_push(one))
        async with asyncio.timeout(60):
            while not pair.first.daemon.is_stopped:
                await asyncio.sleep(0.01)
        before = await _until_writer(two, "second")
        await pair.until({each.pod.metadata.name async for each in two.objects("Pod")})
        gone = [reference("Pod", each.pod.metadata.name, "shop") async for each in two.objects("Pod")]
        assert gone, "the change that the first one was about to write"
        await two.delete(gone)
        await pair.until(set())
        seen = pair.northbound.changes()
        pair.first.daemon.resume()
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        assert await _until_writer(one, "second") == before, "it knows that its turn is over"
        answer = await two.apply(_pod("last"))
        assert (await two.wait(answer.revision, "programmed")).is_reached
        await pair.until({"last"})
        names = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for changes in seen:
                    for uuid, old in changes.get("Logical_Switch_Port", {}).items():
                        row = old or pair.northbound.rows("Logical_Switch_Port").get(uuid) or {}
                        names.add(str(row.get("name")))
        assert names <= {"shop_last"}, "the first one wrote after its turn"
        assert (await one.get("Pod", "last", namespace="shop")).pod.status.pod_ip, "and it follows again"


async def _push(client: Client) -> None:
    for number in itertools.count():
        await client.apply(_pod(f"x{number}"))
        await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_the_other_takes_over_when_the_writer_is_killed_or_leaves(folder: Path) -> None:
    async with _pair(folder) as pair, pair.second.client() as two:
        async with pair.first.client() as one:
            await one.apply_and_wait([NODE, _pod("a")])
        pair.first.daemon.kill()
        await _until_writer(two, "second")
        answer = await two.apply(_pod("b"))
        assert (await two.wait(answer.revision, "programmed")).is_reached
        await pair.until({"a", "b"})
        pair.first.start()
        await pair.first.ready()
        pair.second.daemon.stop()
        async with pair.first.client() as one:
            await _until_writer(one, "first", 5.0)
            answer = await one.apply(_pod("c"))
            assert (await one.wait(answer.revision, "programmed")).is_reached
        await pair.until({"a", "b", "c"})


@pytest.mark.asyncio
async def test_an_etcd_that_falls_silent_ends_nobody(folder: Path) -> None:
    """Its connections stay, and nothing is answered on them: worse than one that is gone."""
    async with _pair(folder) as pair, pair.first.client() as one, pair.second.client() as two:
        await one.apply_and_wait([NODE, _pod("a")])
        pair.etcd.suspend()
        for client in (one, two):
            said = ""
            async with asyncio.timeout(2.5):
                while not said:  # a thread of etcd may answer once more before the signal reaches it
                    said = (await client.status()).store_failure
            assert said.startswith(f"etcd:{pair.etcd.endpoint}: "), said
        begun_s = time.monotonic()
        for failed in await asyncio.gather(*map(_refused, (pair.first, pair.second))):
            assert f"etcd:{pair.etcd.endpoint}" in failed
        assert time.monotonic() - begun_s < 6.5, "the store's five seconds"
        # By now the lease is over, and so is the turn.
        assert not (await one.status()).writer.is_self
        assert (await two.get("Pod", "a", namespace="shop")).pod.status.pod_ip, "what is kept is answered"
        pair.etcd.resume()
        async with asyncio.timeout(60):
            while not (await one.status()).writer.epoch:
                await asyncio.sleep(0.05)
        # What was sent when etcd fell silent may be carried out now: nobody said that it was not.
        answer = await two.apply([_pod("late"), _pod("b")])
        assert (await two.wait(answer.revision, "programmed")).is_reached
        await pair.until({"a", "b", "late"})
        for server in (pair.first, pair.second):
            assert server.daemon.is_alive
            console = (server.directory / f"{server.name}.console").read_text()
            assert "CancelledError" not in console and "never retrieved" not in console


async def _refused(server: ServerProcess) -> str:
    """How a change fails that is asked once."""
    async with Client(server.socket, patience_s=0.01) as client:
        with pytest.raises(ClientError) as caught:
            await client.apply(_pod("late"))
    return str(caught.value)
