"""Client histories of a running server, judged against its log: watches in order, without gaps or repetitions, through
lost connections and restarts; writes that are linearizable per object, however many clients compete."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ovnk_api.v1.object_pb2 import Object
from ovnk_client import Client, Conflict, Unavailable, WatchEvent, reference
from ovnk_wire import reference_of

from ovnk_core.store.open import open_log
from ovnk_core.terms.name import ObjectRef
from tests.cli.command import PACKAGES, ROOT
from tests.kit.histories import Seen, Truth, Write, judge_watch, judge_writes, truth_of
from tests.kit.ovn import Daemon, short_directory
from tests.kit.serving import ServerProcess

SCALE = float(os.environ.get("TEST_SCALE", "1"))
EVENTS = min(1_000_000, int(100_000 * SCALE))
WATCHERS, WRITERS, BATCH = 10, 8, 20
LEAD = 40
"""Revisions that writers may be ahead of the slowest watcher: fewer changes than make a server let go of it."""
Manifest = dict[str, Any]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def _pod(name: str, counter: int) -> Manifest:
    metadata = {"name": name, "namespace": "shop", "annotations": {"counter": str(counter)}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


def _large(name: str, counter: int) -> Manifest:
    """Large enough that no buffer between server and client holds 10,000 of them."""
    pod = _pod(name, counter)
    pod["metadata"]["annotations"]["filler"] = "x" * 2_000
    return pod


def _ref(each: Object) -> ObjectRef:
    found = reference_of(each)
    return ObjectRef(found.kind, found.namespace, found.name)


def _seen(event: WatchEvent) -> Seen:
    ref = _ref(event.object) if event.object is not None else None
    return Seen(type=event.type, revision=event.revision, resume=event.resume_revision, ref=ref)


async def _truth(server: ServerProcess) -> tuple[Truth, int]:
    """What the log of a stopped server says."""
    log = open_log(server.store)
    contents = await log.open()
    await log.close()
    assert not contents.base.revision, "the test must see the whole log"
    return truth_of(contents.entries), contents.entries[-1].revision


class Watcher:
    """Watches all pods with a client of its own. ``breaks``: throws its watch away now and then and goes on with a new
    one where the old one ended, as another program with the same bookmark would."""

    def __init__(self, server: ServerProcess, *, breaks: random.Random | None = None) -> None:
        self._server, self._breaks = server, breaks
        self.seen: list[Seen] = []
        self.revision = 0

    async def run(self) -> None:
        resume: int | None = None
        async with Client(self._server.socket) as client:
            while True:
                self.seen.append(Seen(type="opened", resume=-1 if resume is None else resume))
                async with client.watch("Pod", resume_revision=resume) as events:
                    left = self._breaks.randrange(200, 2_000) if self._breaks else -1
                    async for event in events:
                        self._note(event)
                        left -= 1
                        if left == 0 and event.resume_revision == event.revision:
                            break
                        left = max(left, 1) if left > -1 else left
                    resume = events.resume_revision

    def _note(self, event: WatchEvent) -> None:
        self.revision = max(self.revision, event.resume_revision)
        self.seen.append(_seen(event))
        if event.type == "resync":
            self.seen.append(Seen(type="opened", resume=-1))

    async def reach(self, revision: int) -> None:
        while self.revision < revision:
            await asyncio.sleep(0.05)


async def _write(client: Client, writer: int, batches: int, begun: Callable[[int], Awaitable[None]]) -> None:
    """Batches of creations, changes and deletions of this writer's own pods; ``begun`` hears the last revision."""
    chance, there, newest = random.Random(writer), set[str](), 0
    for batch in range(batches):
        await begun(newest)
        names = [f"w{writer}-{number}" for number in chance.sample(range(60), BATCH)]
        gone = [name for name in names if name in there and chance.random() < 0.2]
        try:
            kept = [name for name in names if name not in gone]
            newest = (await client.apply([_pod(name, batch) for name in kept])).revision
            there.update(kept)
            if gone:
                await client.delete([reference("Pod", name, "shop") for name in gone], allow_missing=True)
                there.difference_update(gone)
        except Unavailable:
            await asyncio.sleep(0.1)


async def _settle(watchers: list[Watcher], client: Client) -> int:
    revision = (await client.status()).accepted_revision
    # What is still to be heard grows with what was written.
    async with asyncio.timeout(60 * max(1.0, EVENTS / 100_000)):
        await asyncio.gather(*(watcher.reach(revision) for watcher in watchers))
    return revision


@pytest.mark.asyncio
async def test_watches_miss_nothing_and_repeat_nothing(folder: Path) -> None:
    server = ServerProcess(folder, options={"history-changes": "1000000"})
    server.start()
    await server.ready()
    watchers = [Watcher(server, breaks=random.Random(n) if n % 2 else None) for n in range(WATCHERS)]
    batches = 1 + EVENTS * 11 // 10 // WATCHERS // WRITERS // BATCH
    done, total = 0, batches * WRITERS

    async def begun(newest: int) -> None:
        nonlocal done
        await asyncio.gather(*(watcher.reach(newest - LEAD) for watcher in watchers))
        done += 1
        if done == total // 2:
            # Half-way the server goes away without a word, and comes back.
            server.daemon.kill()
            server.start()

    async with server.client() as client:
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        await asyncio.gather(*(_write(client, n, batches, begun) for n in range(WRITERS)))
        revision = await _settle(watchers, client)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    server.daemon.stop()
    truth, _ = await _truth(server)
    for number, watcher in enumerate(watchers):
        assert all(each.type != "resync" for each in watcher.seen), f"watcher {number} was told to begin anew"
        faults = judge_watch(watcher.seen, truth, revision)
        assert not faults, f"watcher {number}: {len(faults)} faults, the first {faults[:3]}"
    events = sum(each.ref is not None for watcher in watchers for each in watcher.seen)
    assert events >= EVENTS, "the test has become smaller than it says"


@pytest.mark.asyncio
async def test_fifty_writers_of_one_object_lose_no_update(folder: Path) -> None:
    server = ServerProcess(folder)
    server.start()
    await server.ready()
    ref, writes = ObjectRef("Pod", "shop", "one"), list[Write]()

    async def count(writer: int, client: Client) -> None:
        for _ in range(4):
            while True:
                begun_s = time.monotonic()
                read = await client.get("Pod", "one", namespace="shop")
                version = read.pod.metadata.resource_version
                counter = int(read.pod.metadata.annotations["counter"])
                changed = _pod("one", counter + 1)
                changed["metadata"]["resourceVersion"] = version
                try:
                    answer = await client.apply(changed)
                except Conflict:
                    continue
                ended_s = time.monotonic()
                based_on = int(version.removeprefix("r"))
                writes.append(
                    Write(
                        writer=writer,
                        ref=ref,
                        begun_s=begun_s,
                        ended_s=ended_s,
                        revision=answer.revision,
                        based_on=based_on,
                    )
                )
                break

    async with server.client() as client:
        await client.apply(_pod("one", 0))
        await asyncio.gather(*(count(n, client) for n in range(50)))
        final = await client.get("Pod", "one", namespace="shop")
    server.daemon.stop()
    assert final.pod.metadata.annotations["counter"] == "200"
    truth, _ = await _truth(server)
    assert not judge_writes(writes, truth)


STALLED = """
import asyncio, sys
from ovnk_client import Client

async def main():
    async with Client(sys.argv[1]) as client, client.watch("Pod") as events:
        async for event in events:
            if event.type in ("synced", "resync"):
                print(event.type, flush=True)

asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_a_stalled_watcher_is_told_and_holds_nobody_up(folder: Path) -> None:
    server = ServerProcess(folder)
    server.start()
    await server.ready()
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    argv = ["env", f"PYTHONPATH={path}", sys.executable, "-c", STALLED, server.socket]
    stalled = Daemon("stalled", argv, folder)
    console = folder / "stalled.console"

    async def said(words: list[str]) -> None:
        async with asyncio.timeout(30):
            while console.read_text().split() != words:
                await asyncio.sleep(0.02)

    async with server.client() as client:
        fast = Watcher(server)
        task = asyncio.create_task(fast.run())
        stalled.start()
        await said(["synced"])
        stalled.suspend()
        # Nobody reads that watch while 15,000 changes go by, more than any buffer on the way holds.
        for batch in range(75):
            await client.apply([_large(f"p{n}", batch) for n in range(200)])
        await _settle([fast], client)
        stalled.resume()
        await said(["synced", "resync", "synced"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    stalled.stop()
    server.daemon.stop()
    assert sum(each.type == "resync" for each in fast.seen) == 0
