"""Turns of the writer in etcd: one at a time, also when the holder is stopped, cut off or robbed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from ovnk_core.errors import StoreUnavailable, Superseded
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.etcd_link import delete
from tests.kit.etcd import EtcdServer
from tests.kit.store import entry

pytestmark = pytest.mark.asyncio
ROOT = Path(__file__).resolve().parents[2]
TERM_S = 2

HOLDER = """
import asyncio, sys
from ovnk_core.errors import StoreError
from ovnk_core.store.etcd import EtcdLog
from tests.kit.store import entry

async def main(endpoint, prefix):
    log = EtcdLog([endpoint], prefix, term_s=2)
    await log.open()
    term = await log.campaign("stopped")
    await log.append([entry(1)], term=term)
    print(term.epoch, flush=True)
    await log.lost(term)
    try:
        await log.append([entry(3)], term=term)
    except StoreError as error:
        print(type(error).__name__, flush=True)
    else:
        print("written", flush=True)
    await log.close()

asyncio.run(main(*sys.argv[1:]))
"""

Open = Callable[[], Awaitable[EtcdLog]]


@pytest_asyncio.fixture
async def opened(etcd: tuple[str, str]) -> AsyncIterator[Open]:
    logs: list[EtcdLog] = []

    async def make() -> EtcdLog:
        log = EtcdLog([etcd[0]], etcd[1], term_s=TERM_S)
        logs.append(log)
        await log.open()
        return log

    yield make
    for log in logs:
        await log.close()


async def test_a_stopped_holder_is_followed_by_another_and_cannot_write(etcd: tuple[str, str], opened: Open) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *etcd],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    epoch = int(await asyncio.to_thread(process.stdout.readline))
    log = await opened()
    assert await log.writer() == "stopped"
    process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    term = await asyncio.wait_for(log.campaign("next"), 10)
    assert time.monotonic() - stopped < 5
    assert term.epoch > epoch
    await log.append([entry(2)], term=term)
    process.send_signal(signal.SIGCONT)
    with process.stdout:
        assert (await asyncio.to_thread(process.stdout.read)).split() == ["Superseded"]
    assert process.wait() == 0
    await log.append([entry(3)], term=term)


async def test_a_turn_is_kept_as_long_as_it_is_renewed(opened: Open) -> None:
    holder, other = await opened(), await opened()
    term = await holder.campaign("holder")
    waiting = asyncio.create_task(other.campaign("other"))
    done, _ = await asyncio.wait([waiting, asyncio.create_task(holder.lost(term))], timeout=1.6 * TERM_S)
    assert not done
    await holder.append([entry(1)], term=term)
    asked = time.monotonic()
    await holder.resign(term)
    assert (await asyncio.wait_for(waiting, 5)).epoch > term.epoch
    assert time.monotonic() - asked < 1.0  # woken by the watch, not by the clock
    assert await holder.writer() == "other"


async def test_a_holder_that_is_cut_off_gives_up_before_etcd_does(own_etcd: EtcdServer) -> None:
    log = EtcdLog([own_etcd.endpoint], term_s=3, timeout_s=1.0)
    await log.open()
    term = await log.campaign("holder")
    own_etcd.suspend()
    cut_off = time.monotonic()
    await asyncio.wait_for(log.lost(term), 10)
    assert time.monotonic() - cut_off < 2.5  # two thirds of the lease, and some
    own_etcd.resume()
    await log.close()


async def test_a_request_that_its_caller_gives_up_is_given_up_by_nobody_else(own_etcd: EtcdServer) -> None:
    """grpc answers a cancellation with one of its own, which no cancel scope takes for the one it asked for."""
    log = EtcdLog([own_etcd.endpoint], term_s=3)
    await log.open()
    term = await log.campaign("holder")
    own_etcd.suspend()
    with anyio.move_on_after(0.1) as scope:
        await log.writer()
    assert scope.cancelled_caught
    with anyio.move_on_after(0.1, shield=True) as scope:
        await log.resign(term)
    assert scope.cancelled_caught
    waiting = asyncio.create_task(log.writer())
    await asyncio.sleep(0.1)
    await log.close()
    with pytest.raises(StoreUnavailable):
        await waiting
    own_etcd.resume()


async def test_a_lapsed_turn_cannot_write_and_the_next_is_higher(opened: Open) -> None:
    first, second = await opened(), await opened()
    term = await first.campaign("first")
    await first._turns._stop()  # renews no more, and does not say so
    after = await asyncio.wait_for(second.campaign("second"), 10)
    assert after.epoch > term.epoch
    with pytest.raises(Superseded, match=r"turn .* of first is over"):
        await first.append([entry(1)], term=term)
    await first.lost(term)
    again = asyncio.create_task(first.campaign("first"))
    await second.append([entry(1)], term=after)
    await second.resign(after)
    assert (await asyncio.wait_for(again, 5)).epoch > after.epoch


async def test_a_holder_whose_key_was_taken_away_notices(opened: Open) -> None:
    log = await opened()
    term = await log.campaign("holder")
    await log._link.transact([], [delete(log._layout.writer)], is_repeatable=True)
    with pytest.raises(Superseded, match="is over"):
        await log.append([entry(1)], term=term)
    await asyncio.wait_for(log.lost(term), TERM_S)


async def test_a_campaign_can_be_given_up(opened: Open) -> None:
    holder, other = await opened(), await opened()
    term = await holder.campaign("holder")
    waiting = asyncio.create_task(other.campaign("other"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.wait([waiting])
    await holder.resign(term)
    assert await other.writer() == ""


async def test_a_campaign_ends_when_the_log_is_closed(opened: Open) -> None:
    holder, other = await opened(), await opened()
    await holder.campaign("holder")
    waiting = asyncio.create_task(other.campaign("other"))
    await asyncio.sleep(0.1)
    await other.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(waiting, 5)


async def test_many_stand_and_one_at_a_time_has_the_turn(opened: Open) -> None:
    logs = [await opened() for _ in range(4)]
    epochs: list[int] = []
    holding = 0

    async def stand(log: EtcdLog, name: str) -> None:
        nonlocal holding
        for _ in range(3):
            term = await log.campaign(name)
            holding += 1
            assert holding == 1
            epochs.append(term.epoch)
            await asyncio.sleep(0)
            holding -= 1
            await log.resign(term)

    await asyncio.wait_for(asyncio.gather(*(stand(log, str(index)) for index, log in enumerate(logs))), 30)
    assert epochs == sorted(set(epochs))
    assert len(epochs) == 12
