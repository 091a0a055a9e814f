"""Moving the base of a log in etcd: cut at every step, by two servers at once, and as the beginning of an import."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from ovnk_core.errors import StoreUnknown, Superseded
from ovnk_core.failpoint import arm, disarm
from ovnk_core.store.entry import Base, Entry
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.replay import replay
from tests.kit.store import changed, drop, entries, entry, put, state
from tests.south.etcd_store import Open, Wire, found, keys

pytestmark = pytest.mark.asyncio


def history() -> list[Entry]:
    noise = random.Random(3)
    return [
        entry(1, *(put(f"n{number}", "1") for number in range(150))),
        entry(2, put("big", noise.randbytes(1_200_000)), put("n0", "2")),
        entry(
            3, *(put(f"n{number}", "3") for number in range(1, 60)), *(drop(f"n{number}") for number in range(60, 90))
        ),
        entry(4, put("big", noise.randbytes(2_100_000)), put("n5", "4")),
        entry(5, put("n6", "5")),
    ]


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_compaction_may_be_cut_anywhere(opened: Open, is_sent: bool) -> None:
    made = history()
    first = await opened()
    await first.append(made[:3])
    await first.compact(2, changed(Base(), made[:2]))
    await first.append(made[3:])
    base, step = replay(Base(), made[:2]), 0
    while True:
        step += 1
        log = await opened()
        wire = Wire(log)
        wire.lose(at=step, is_sent=is_sent)
        actual = wire.transact

        async def transact(*operations: Any, is_repeatable: bool, actual: Any = actual) -> Any:
            try:
                return await actual(*operations, is_repeatable=is_repeatable)
            except StoreUnknown:
                raise Cut from None

        log._link.transact = transact  # type: ignore[method-assign]
        try:
            await log.compact(4, changed(base, made[2:4]))
        except Cut:
            assert await found(first) == replay(Base(), made)
            continue
        break
    assert step > 4
    assert await first.base() == 4
    assert await found(first) == replay(Base(), made)
    assert len(await keys(first, "log/")) == 1
    assert len(await keys(first, "base-parts/")) == 3
    await first.compact(5, changed(replay(Base(), made[:4]), made[4:]))
    assert await found(first) == replay(Base(), made)
    assert await keys(first, "log/") == await keys(first, "log-parts/") == []


async def test_what_a_cut_compaction_had_left_the_next_one_writes(opened: Open) -> None:
    made = history()
    log = await opened()
    for each in made:
        await log.append([each])
    arm("store.compact.before_base", _cut)
    try:
        with pytest.raises(Cut):
            await log.compact(3, changed(Base(), made[:3]))
    finally:
        disarm()
    fresh = EtcdLog(log._link._endpoints, log._layout.prefix)
    contents = await fresh.open()
    assert contents.base == replay(Base(), made[:3])
    assert await fresh.base() == 0
    await fresh.compact(4, changed(contents.base, made[3:4]))
    await fresh.close()
    assert await found(log) == replay(Base(), made)
    assert await log.base() == 4


def _cut() -> None:
    raise Cut


async def test_the_later_of_two_compactions_wins(opened: Open) -> None:
    made = history()
    slow, quick = await opened(), await opened()
    for each in made:
        await slow.append([each])
    inside, go_on = asyncio.Event(), asyncio.Event()
    actual = slow._link.transact

    async def transact(*operations: Any, is_repeatable: bool) -> Any:
        outcome = await actual(*operations, is_repeatable=is_repeatable)
        if not inside.is_set() and slow._link.transact is transact and len(operations[1]) > 50:
            inside.set()
            await go_on.wait()
        return outcome

    slow._link.transact = transact  # type: ignore[method-assign]
    task = asyncio.create_task(slow.compact(2, changed(Base(), made[:2])))
    await inside.wait()
    await quick.compact(1, changed(Base(), made[:1]))  # another is on its way further: nothing happens
    assert await quick.base() == 0
    await quick.compact(4, changed(Base(), made[:4]))
    assert await found(quick) == replay(Base(), made)
    go_on.set()
    with pytest.raises(Superseded, match="another server compacts"):
        await task
    assert await quick.base() == 4
    assert await found(quick) == replay(Base(), made)


async def test_an_import_that_was_cut_leaves_an_empty_store(opened: Open) -> None:
    made = history()
    log = await opened()
    arm("store.compact.after_base", _cut)
    try:
        with pytest.raises(Cut):
            await log.compact(4, dict(replay(Base(), made[:4]).items))
    finally:
        disarm()
    assert await found(log) == Base()
    assert await keys(log, "base/")
    other = await opened()
    await other.append([entry(1)])
    assert await found(log) == replay(Base(), [entry(1)])
    assert await keys(log, "base/") == await keys(log, "base-parts/") == []


async def test_a_compaction_by_etcd_itself_does_not_disturb_reading(opened: Open) -> None:
    log = await opened()
    await log.append(entries(1, 3))
    fresh = await opened()
    actual, is_done = fresh._link.page, False

    async def page(*arguments: Any, **named: Any) -> Any:
        nonlocal is_done
        if named.get("revision") and not is_done:
            is_done = True
            await log.append([entry(4)])
            await log._link._members[0].kv.compact(named["revision"] + 1)
        return await actual(*arguments, **named)

    fresh._link.page = page
    assert state((await fresh._reader.load()).contents) == replay(Base(), entries(1, 4))
