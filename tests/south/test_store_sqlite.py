"""What the SQLite backend promises beyond the contract: kill -9, damage, a full disk, a second process."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from ovnk_core.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from ovnk_core.store import sqlite_file
from ovnk_core.store.entry import Base, Entry
from ovnk_core.store.replay import replay
from ovnk_core.store.sqlite import SqliteLog
from tests.kit.store import changed, entries, entry, put, state, taken

pytestmark = pytest.mark.asyncio
ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import asyncio, os, resource, sys
from ovnk_core.errors import StoreError
from ovnk_core.failpoint import arm_from
from ovnk_core.store.sqlite import SqliteLog
from tests.kit.store import entry, put

async def main(path, limit):
    log = SqliteLog(path)
    contents = await log.open()
    revision = contents.base.revision + len(contents.entries)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    print("open", flush=True)
    while True:
        revision += 1
        try:
            await log.append([entry(revision, put("p", os.urandom(2000)))])
        except StoreError as error:
            print(type(error).__name__, flush=True)
            revision -= 1
            if sys.stdin.readline() == "":
                return
        else:
            print(revision, flush=True)

arm_from(os.environ.get("OVNK_FAILPOINTS", ""))
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def child(path: Path, *, failpoints: str = "", limit: int = 0) -> subprocess.Popen[str]:
    """A process that appends to ``path`` and prints every revision once it was acknowledged."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OVNK_FAILPOINTS": failpoints},
    )


def killed(process: subprocess.Popen[str]) -> list[str]:
    """Kill -9 -> what it had still printed."""
    process.kill()
    assert process.stdin and process.stdout
    process.stdin.close()
    with process.stdout:
        rest = process.stdout.read().split()
    process.wait()
    return rest


def numbered(revision: int) -> Entry:
    return entry(revision, put(f"n{revision % 7}", b"%4d" % revision * 500))


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A closed store of 30 entries, compacted at 15."""
    path = tmp_path / "made.db"
    log = SqliteLog(path)
    await log.open()
    for revision in range(1, 31):
        await log.append([numbered(revision)])
    await log.compact(15, changed(Base(), map(numbered, range(1, 16))))
    await log.close()
    yield path


def expected() -> Base:
    return replay(Base(), map(numbered, range(1, 31)))


async def read(path: Path) -> Base:
    """What a store holds, or the error of opening it."""
    log = SqliteLog(path)
    try:
        return state(await log.open())
    finally:
        await log.close()


async def test_acknowledged_entries_outlive_kill_9(tmp_path: Path) -> None:
    path, chance, acknowledged = tmp_path / "store.db", random.Random(9), 0
    for _ in range(10):
        process = child(path)
        assert process.stdout and process.stdout.readline() == "open\n"
        for _ in range(chance.randint(1, 25)):
            acknowledged = int(process.stdout.readline())
        rest = killed(process)
        acknowledged = int(rest[-1]) if rest else acknowledged
        found = await read(path)
        assert acknowledged <= found.revision <= acknowledged + 1
        acknowledged = found.revision


@pytest.mark.parametrize(("point", "kept"), [("before", 4), ("after", 5)])
async def test_the_commit_is_the_line(tmp_path: Path, point: str, kept: int) -> None:
    process = child(tmp_path / "store.db", failpoints=f"store.sqlite.{point}_commit=kill@5")
    assert process.wait(30) == -signal.SIGKILL
    assert killed(process) == ["open", "1", "2", "3", "4"]
    assert (await read(tmp_path / "store.db")).revision == kept


async def test_a_second_process_is_told_and_takes_over_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = child(path)
    assert process.stdout and process.stdout.readline() == "open\n"
    with pytest.raises(StoreUnavailable, match=rf"{path}.*another process"):
        await SqliteLog(path).open()
    assert process.stdout.readline() == "1\n"
    killed(process)
    assert (await read(path)).revision > 0


async def test_the_file_is_ours_alone(path: Path) -> None:
    path.chmod(0o644)
    log = SqliteLog(path)
    await log.open()
    for name in ("", "-wal", ".lock"):
        assert stat.S_IMODE(path.with_name(path.name + name).stat().st_mode) == 0o600
    await log.close()


def flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


@pytest.mark.parametrize("damage", [flipped, cut])
@pytest.mark.parametrize("part", ["", "-wal"])
async def test_damage_is_seen_and_left_alone(
    path: Path, tmp_path: Path, damage: Callable[[bytes, random.Random], bytes], part: str
) -> None:
    """Whatever happens to the bytes: the same state, or StoreCorrupt and untouched files; never another state."""
    chance, found = random.Random(1), 0
    log = SqliteLog(path)
    await log.open()
    await log.append([entry(31)])  # lies in the write-ahead log
    files = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal", ".lock")}
    await log.close()
    target = tmp_path / "damaged.db"
    for _ in range(150):
        broken = {**files, part: damage(files[part], chance)}
        for name, data in broken.items():
            target.with_name(target.name + name).write_bytes(data)
        target.with_name(target.name + "-shm").unlink(missing_ok=True)
        try:
            assert await read(target) == replay(expected(), [entry(31)])
        except StoreCorrupt as error:
            found += 1
            assert str(target) in str(error)
            assert {name: target.with_name(target.name + name).read_bytes() for name in files} == broken
    assert found > 40


async def test_the_thorough_check_finds_what_opening_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening reads tables, not their indexes."""
    monkeypatch.setattr(sqlite_file, "QUICK_CHECK_BYTES", 0)
    path, made = tmp_path / "made.db", entry(1, *(put(f"name-{number}", "1") for number in range(400)))
    log = SqliteLog(path)
    await log.open()
    await log.append([made])
    await log.compact(1, changed(Base(), [made]))
    await log.close()
    chance, found, whole = random.Random(2), 0, path.read_bytes()
    for _ in range(60):
        target = tmp_path / "damaged.db"
        target.write_bytes(flipped(whole, chance))
        log = SqliteLog(target)
        try:
            assert state(await log.open()) == replay(Base(), [made])
            found += bool(await log.integrity())
        except StoreCorrupt:
            pass
        finally:
            await log.close()
    assert found > 0


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM entry WHERE revision = 20", "revision 20 is missing"),
        ("DELETE FROM entry WHERE revision = 30", "30 was acknowledged"),
        ("DELETE FROM change WHERE revision = 20", "revision 20: damaged"),
        ("UPDATE change SET value = x'00' WHERE revision = 20", "revision 20: damaged"),
        ("UPDATE change SET value = 'text' WHERE revision = 20", "revision 20: damaged"),
        ("UPDATE change SET space = 'nowhere' WHERE revision = 20", "revision 20: damaged"),
        ("UPDATE entry SET author = 'eve' WHERE revision = 20", "revision 20: damaged"),
        ("UPDATE item SET value = x'00' WHERE name = 'n1'", "n1: damaged"),
        ("UPDATE item SET modified = 99 WHERE name = 'n1'", "n1: damaged"),
        ("DELETE FROM meta WHERE name = 'base'", "meta is damaged"),
        ("UPDATE meta SET value = 16 WHERE name = 'base'", "should be compacted"),
        ("DROP TABLE change", "no such table"),
        ("PRAGMA user_version = 2", "format 2"),
        ("PRAGMA application_id = 7", "not a store of ovnk"),
    ],
)
async def test_what_the_database_says_is_checked(path: Path, statement: str, says: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(StoreCorrupt, match=says):
        await read(path)


async def test_an_older_copy_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    log = SqliteLog(path)
    await log.open()
    await log.append([entry(31)])
    await log.close()
    shutil.copy(copy, path)
    with pytest.raises(StoreCorrupt, match=r"ends at revision 30, yet 31 was acknowledged.*remove"):
        await read(path)
    path.with_name(path.name + ".lock").unlink()
    assert await read(path) == expected()


async def test_a_deleted_file_is_a_new_store_an_emptied_one_is_not(path: Path) -> None:
    path.unlink()
    assert (await read(path)).revision == 0
    path.write_bytes(b"")
    with pytest.raises(StoreCorrupt, match="the file is empty"):
        await read(path)


async def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("just a note, longer than a header of a database would be; " * 20)
    with pytest.raises(StoreCorrupt, match="not a database"):
        await read(note)
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await read(tmp_path / "nowhere" / "store.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnavailable, match="folder"):
        await read(tmp_path / "folder")


async def test_a_creation_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "store.db.new").write_bytes(b"half")
    assert (await read(tmp_path / "store.db")).revision == 0


async def test_a_full_store_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "store.db", max_bytes=400_000)
    await log.open()
    made = [entry(1, put("p", b"x" * 100_000)), entry(2, put("p", b"y" * 100_000))]
    for each in made:
        await log.append([each])
    with pytest.raises(StoreFull, match="full"):
        await log.append([entry(3, put("p", b"z" * 300_000))])
    assert await taken(log.follow(0), 2) == made
    await log.append([entry(3)])
    await log.compact(3, changed(Base(), [*made, entry(3)]))
    await log.append([entry(4, put("q", b"z" * 150_000))])
    await log.close()
    assert (await read(log.path)).revision == 4


async def test_a_failing_disk_never_leaves_half_an_entry(tmp_path: Path) -> None:
    """The limit on file size makes a write fail in the middle of a commit, as a bad disk does."""
    path = tmp_path / "store.db"
    process = child(path, limit=100_000)
    assert process.stdin and process.stdout and process.stdout.readline() == "open\n"
    lines = []
    while not (line := process.stdout.readline()).startswith("Store"):
        lines.append(int(line))
    assert line in ("StoreUnknown\n", "StoreUnavailable\n")
    process.stdin.write("again\n")
    process.stdin.flush()
    assert process.stdout.readline() == "StoreUnavailable\n"
    killed(process)
    found = await read(path)
    assert lines[-1] <= found.revision <= lines[-1] + 1


async def test_a_file_that_is_written_by_somebody_else_is_unavailable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    log = SqliteLog(path)
    await log.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await log.append([entry(31)])
    other.execute("ROLLBACK")
    other.close()
    await log.append([entry(31)])
    await log.close()


async def test_the_loop_runs_while_the_disk_works(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "store.db")
    await log.open()
    task = asyncio.create_task(log.append(entries(1, 3_000)))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    await task
    await log.close()
    assert turns > 20


async def test_errors_are_of_the_tree(tmp_path: Path) -> None:
    """Whatever SQLite raises, callers see a StoreError."""
    log = SqliteLog(tmp_path / "store.db")
    await log.open()
    connection = sqlite3.connect(log.path, isolation_level=None)
    connection.execute("DROP TABLE change")
    connection.close()
    with pytest.raises(StoreError):
        await log.append([entry(1)])
    await log.close()
