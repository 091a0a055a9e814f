"""The page ``store/port.py``, sentence by sentence, on every backend."""

from __future__ import annotations

import asyncio
import random

import pytest

from ovnk_core.errors import GuardError, StoreCorrupt, StoreUnavailable, Superseded
from ovnk_core.store.entry import Base, Change, Entry, Stored, StoreKey
from ovnk_core.store.port import Contents, Log
from ovnk_core.store.replay import replay
from ovnk_core.store.transfer import export_state, import_state, restore
from tests.kit.store import Store, changed, drop, entries, entry, key, put, random_entry, state, taken

pytestmark = pytest.mark.asyncio


async def reopened(store: Store, log: Log) -> tuple[Log, Base]:
    """A new log on the same store, as after a restart, and the state it holds."""
    await log.close()
    log = store.log()
    contents = await log.open()
    assert await log.integrity() == []
    return log, state(contents)


async def test_a_new_store_is_empty(log: Log) -> None:
    assert await log.base() == 0
    assert await log.writer() == ""


async def test_entries_come_back_whole_and_in_order(store: Store, log: Log) -> None:
    made = [entry(1, put("a", "{}"), put("b", b"\x00\xff")), entry(2, drop("a")), Entry(revision=3, changes=())]
    await log.append(made[:1])
    await log.append(made[1:])
    await log.close()
    contents = await store.log().open()
    assert contents.base == Base()
    assert list(contents.entries) == made


async def test_a_taken_revision_is_refused_and_nothing_changes(store: Store, log: Log) -> None:
    await log.append(entries(1, 3))
    with pytest.raises(Superseded):
        await log.append([entry(3, id="other"), entry(4)])
    await log.append([])
    await log.append([entry(4)])
    _, found = await reopened(store, log)
    assert found == replay(Base(), entries(1, 4))


async def test_a_revision_too_far_means_that_acknowledged_entries_are_gone(log: Log) -> None:
    await log.append([entry(1)])
    with pytest.raises(StoreCorrupt, match="2 was acknowledged"):
        await log.append([entry(3)])
    with pytest.raises(ValueError, match="consecutive"):
        await log.append([entry(2), entry(4)])


async def test_follow_brings_what_was_and_what_comes(log: Log) -> None:
    await log.append(entries(1, 5))
    early, late = log.follow(0), log.follow(3)
    assert await taken(early, 5) == entries(1, 5)
    assert await taken(late, 2) == entries(4, 5)
    waiting = asyncio.create_task(taken(early, 3))
    await asyncio.sleep(0)
    await log.append(entries(6, 7))
    await log.append([entry(8)])
    assert await waiting == entries(6, 8)
    assert await taken(late, 3) == entries(6, 8)


async def test_follow_says_when_a_revision_is_gone(log: Log) -> None:
    made = entries(1, 4)
    for each in made:
        await log.append([each])
    await log.compact(3, changed(Base(), made[:3]))
    with pytest.raises(StoreCorrupt, match=r"compacted|missing"):
        await anext(log.follow(1))
    assert await taken(log.follow(3), 1) == made[3:]


async def test_compaction_keeps_the_state_and_drops_entries(store: Store, log: Log) -> None:
    made = [
        entry(1, put("a", "1"), put("b", "1"), put("c", "1")),
        entry(2, drop("a"), put("b", "2")),
        entry(3, put("a", "3"), drop("c")),
        entry(4, put("d", "4")),
    ]
    await log.append(made)  # in one append, so that compaction cuts through it
    await log.compact(2, changed(Base(), made[:2]))
    assert await log.base() == 2
    log, found = await reopened(store, log)
    assert found == replay(Base(), made)
    await log.compact(2, {key("a"): None})  # not again
    await log.compact(1, {key("b"): None})  # never back
    await log.compact(4, changed(replay(Base(), made[:2]), made[2:]))
    await log.append([entry(5, put("a", "5"))])
    await log.close()
    contents = await store.log().open()
    assert contents.base == replay(Base(), made)
    assert contents.entries == (entry(5, put("a", "5")),)
    assert contents.base.items[key("a")] == Stored(value=b"3", created=3, modified=3)
    assert key("c") not in contents.base.items


async def test_what_is_not_there_cannot_be_compacted(log: Log) -> None:
    await log.append(entries(1, 2))
    with pytest.raises(ValueError, match="cannot compact at 3"):
        await log.compact(3, {})


async def test_large_appends_are_whole(store: Store, log: Log) -> None:
    noise = random.Random(4)
    big = entry(1, *(put(f"n{number}", noise.randbytes(700_000)) for number in range(4)))
    many = [entry(revision, *(put(f"m{n}", str(revision)) for n in range(40))) for revision in range(2, 302)]
    await log.append([big])
    await log.append(many)
    huge = entry(302, put("huge", noise.randbytes(2_500_000)), drop("n0"))
    await log.append([huge])
    log, found = await reopened(store, log)
    assert found == replay(Base(), [big, *many, huge])
    await log.compact(302, changed(Base(), [big, *many, huge]))
    await log.append([smaller := entry(303, put("huge", "1"))])
    log, found = await reopened(store, log)
    assert found == replay(Base(), [big, *many, huge, smaller])
    await log.compact(303, {key("huge"): found.items[key("huge")]})
    log, again = await reopened(store, log)
    assert again == found


@pytest.mark.parametrize("name", ["a/b", "%2F", "ä€𝄞", "..", " ", "a\nb", "*", "x" * 300])
async def test_names_are_kept_as_they_are(store: Store, log: Log, name: str) -> None:
    odd = [StoreKey("decision", name, "", "n"), StoreKey("request", "k", name, ""), StoreKey("meta", "", "", name)]
    made = entry(1, *(Change(key=each, value=b"") for each in odd))
    await log.append([made])
    await log.compact(1, changed(Base(), [made]))
    _, found = await reopened(store, log)
    assert set(found.items) == set(odd)


async def test_turns_rise_and_end(log: Log) -> None:
    first = await log.campaign("a")
    assert await log.writer() == "a"
    await log.append([entry(1)], term=first)
    waiting = asyncio.create_task(log.lost(first))
    await log.resign(first)
    await asyncio.wait_for(waiting, 5)
    assert await log.writer() == ""
    with pytest.raises(Superseded, match="is over"):
        await log.append([entry(2)], term=first)
    second = await log.campaign("b")
    assert second.epoch > first.epoch
    with pytest.raises(Superseded, match="is over"):
        await log.append([entry(2)], term=first)
    await log.append([entry(2)], term=second)
    await log.append([entry(3)])  # without a term anybody may
    await log.resign(first)  # over long ago
    assert await log.writer() == "b"


async def test_epochs_rise_across_restarts(store: Store, log: Log) -> None:
    first = await log.campaign("a")
    await log.resign(first)
    await log.close()
    log = store.log()
    await log.open()
    assert (await log.campaign("a")).epoch > first.epoch


async def test_a_closed_log_says_so(store: Store, log: Log) -> None:
    stream = log.follow(0)
    waiting = asyncio.create_task(taken(stream, 1))
    await asyncio.sleep(0.05)
    await log.close()
    await log.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(waiting, 10)
    with pytest.raises(StoreUnavailable):
        await log.append([entry(1)])
    with pytest.raises(StoreUnavailable):
        await anext(log.follow(0))
    with pytest.raises(StoreUnavailable):
        await store.log().append([entry(1)])


async def test_a_cancelled_append_is_whole_or_nothing(store: Store, log: Log) -> None:
    revision = 0
    for delay in range(8):
        task = asyncio.create_task(log.append([entry(revision + 1), entry(revision + 2)]))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        log, found = await reopened(store, log)
        assert found.revision in (revision, revision + 2)
        revision = found.revision
        assert found == replay(Base(), entries(1, revision))


async def test_a_random_walk_is_remembered(store: Store, log: Log) -> None:
    chance = random.Random(20)
    made: list[Entry] = []
    base = Base()
    for _ in range(60):
        action = chance.random()
        if action < 0.7:
            count = chance.randint(1, 5)
            fresh = [random_entry(chance, len(made) + 1 + index) for index in range(count)]
            await log.append(fresh)
            made += fresh
        elif action < 0.85 and made:
            target = chance.randint(base.revision, len(made))
            await log.compact(target, changed(base, made[base.revision : target]))
            base = replay(base, made[base.revision : target])
        else:
            await log.close()
            log = store.log()
            contents = await log.open()
            assert contents.base == base
            assert list(contents.entries) == made[base.revision :]


async def test_an_export_imports_into_an_empty_store_and_goes_on(store: Store, log: Log) -> None:
    made = [entry(1, put("a", '{"x":1}'), put("b", b"\xff")), entry(2, put("a", '{"x":2}')), entry(3, drop("b"))]
    source = import_state(export_state(_contents(made)))
    assert await restore(log, _contents([]), source) == 3
    assert await log.base() == 3
    await log.append([entry(4)])
    assert await taken(log.follow(3), 1) == [entry(4)]
    log, found = await reopened(store, log)
    assert found == replay(Base(), [*made, entry(4)])
    await log.close()
    contents = await store.log().open()
    with pytest.raises(GuardError, match="not replaced"):
        await restore(store.log(), contents, source)


async def test_an_import_replaces_only_when_told_and_by_one_entry(store: Store, log: Log) -> None:
    await log.append([entry(1, put("a", "1"), put("b", "1")), entry(2, put("c", "1"))])
    wanted = Base(revision=9, items={key("a"): Stored(value=b"1", created=1, modified=1), key("z"): _stored(b"5")})
    contents = _contents([entry(1, put("a", "1"), put("b", "1")), entry(2, put("c", "1"))])
    assert await restore(log, contents, wanted, may_replace=True) == 3
    _, found = await reopened(store, log)
    assert {each: item.value for each, item in found.items.items()} == {key("a"): b"1", key("z"): b"5"}
    assert found.items[key("a")].modified == 1


def _stored(value: bytes) -> Stored:
    return Stored(value=value, created=2, modified=7)


def _contents(made: list[Entry]) -> Contents:
    return Contents(base=Base(), entries=tuple(made))
