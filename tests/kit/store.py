"""Entries for tests of the store, and what a log should hold."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from ovnk_core.store.entry import SPACES, Base, Change, Entry, Stored, StoreKey
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.memory import MemoryLog, MemoryLogDatabase
from ovnk_core.store.port import Contents, Log
from ovnk_core.store.replay import replay
from ovnk_core.store.sqlite import SqliteLog

BACKENDS = ("memory", "sqlite", "etcd")


def key(name: str, kind: str = "Pod", namespace: str = "shop") -> StoreKey:
    return StoreKey("object", kind, namespace, name)


def put(name: str, value: bytes | str) -> Change:
    return Change(key=key(name), value=value.encode() if isinstance(value, str) else value)


def drop(name: str) -> Change:
    return Change(key=key(name), value=None)


def entry(revision: int, *changes: Change, id: str = "") -> Entry:
    """An entry; without changes it puts ``p`` to its revision. The id is the revision unless given."""
    changes = changes or (put("p", f'"{revision}"'),)
    return Entry(revision=revision, changes=changes, at_s=1_700_000_000, author="ann", id=id or f"id-{revision}")


def entries(first: int, last: int) -> list[Entry]:
    """Revisions ``first`` to ``last``, one change each."""
    return [entry(revision) for revision in range(first, last + 1)]


def state(contents: Contents) -> Base:
    """What ``contents`` lead to."""
    return replay(contents.base, contents.entries)


def changed(before: Base, made: Iterable[Entry]) -> dict[StoreKey, Stored | None]:
    """What a compaction after ``made`` must be given."""
    made = list(made)
    items = replay(before, made).items
    return {change.key: items.get(change.key) for each in made for change in each.changes}


async def taken(stream: AsyncIterator[Entry], count: int) -> list[Entry]:
    """The next ``count`` entries."""
    return [await anext(stream) for _ in range(count)]


class Store:
    """One store of a test, and as many logs on it as wanted; a SQLite file takes one at a time."""

    def __init__(self, backend: str, directory: Path, endpoint: str, prefix: str) -> None:
        self.backend, self._path = backend, directory / "store.db"
        self._database, self._endpoint, self._prefix = MemoryLogDatabase(), endpoint, prefix
        self._logs: list[Log] = []

    def log(self) -> Log:
        """Another log, not opened yet."""
        made: Log
        if self.backend == "memory":
            made = MemoryLog(self._database)
        elif self.backend == "sqlite":
            made = SqliteLog(self._path)
        else:
            made = EtcdLog([self._endpoint], self._prefix, timeout_s=5.0, term_s=5)
        self._logs.append(made)
        return made

    async def close(self) -> None:
        for log in self._logs:
            await log.close()


def random_entry(random_: random.Random, revision: int, names: int = 12) -> Entry:
    """Some puts and deletes of a dozen keys, in every space; none twice."""
    chosen = random_.sample(range(names), random_.randint(0, 4))
    changes = tuple(
        Change(
            key=StoreKey(SPACES[number % len(SPACES)], "Kind", "" if number % 2 else "ns/%", f"n{number}"),
            value=None if random_.random() < 0.3 else random_.randbytes(random_.randint(0, 200)),
        )
        for number in chosen
    )
    return Entry(revision=revision, changes=changes, at_s=revision, author="", id=f"id-{revision}")
