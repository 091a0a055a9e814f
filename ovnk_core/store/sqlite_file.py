"""One SQLite file as a log: the blocking half, called from one thread at a time.

``entry`` and ``change`` hold the log, ``item`` the base, ``meta`` three numbers and the id of the file. SQLite keeps
a transaction whole, but trusts the bytes it reads; so every entry and every item carries a checksum, revisions are
dense, and the file next to it, ``PATH.lock``, notes the last revision that was acknowledged (written, not synced: it
never runs ahead of the database). A database that was cut, or whose write-ahead log was, therefore never passes for a
shorter one. The same side file carries the lock that keeps a second process out; the kernel drops it when we die.

Everything is checked over a read-only connection before the file is opened for writing: what is refused stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovnk_core.errors import QuotaError, StoreCorrupt, StoreError, StoreFull, StoreUnavailable, StoreUnknown
from ovnk_core.failpoint import failpoint
from ovnk_core.store.codec import entry_checksum, key_columns, stored_checksum
from ovnk_core.store.entry import SPACES, Base, Change, Entry, Stored, StoreKey
from ovnk_core.store.port import Contents
from ovnk_core.store.sequence import check_append, check_dense

APPLICATION = 0x6F766E6B
"""SQLite's application_id of our files: ``ovnk``."""
FORMAT = 1
QUICK_CHECK_BYTES = 64 << 20
"""Larger files are not walked page by page at open; checksums and dense revisions are checked always."""
BUSY_S = 5.0

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE item (space TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (space, kind, namespace, name));
CREATE TABLE entry (revision INTEGER PRIMARY KEY, at_s INTEGER NOT NULL, author TEXT NOT NULL, id TEXT NOT NULL,
    checksum INTEGER NOT NULL);
CREATE TABLE change (revision INTEGER NOT NULL, position INTEGER NOT NULL,
    space TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, value BLOB,
    PRIMARY KEY (revision, position));
"""
KEY = "space, kind, namespace, name"
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
}


class SqliteFile:
    """``path`` as a log. ``max_bytes`` caps the database file; 0: the disk does."""

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.base = self.revision = 0
        self._connection: sqlite3.Connection | None = None
        self._side: _SideFile | None = None
        self._store_id = ""
        self._failure = ""
        """Set when a commit failed half-way: what the disk holds is unknown until the file is opened again."""

    # ------------------------------------------------------------------ opening

    def open(self) -> Contents:
        """Lock, check and read the whole file. Raises StoreUnavailable or StoreCorrupt."""
        self._failure = ""
        try:
            self._side = _SideFile(self.path)
            with self._translated():
                if not self.path.exists():
                    self._create()
                contents = self._read()
                self._connect()
        except StoreError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"sqlite:{self.path}: {error.strerror or error}") from error
        return contents

    def _create(self) -> None:
        assert self._side is not None
        self._side.note("", 0)
        made = self.path.with_name(self.path.name + ".new")
        made.unlink(missing_ok=True)
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.executescript(
                f"PRAGMA synchronous=FULL; PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT};"
                f"BEGIN; {SCHEMA} COMMIT;"
            )
            values = {"store": uuid.uuid4().hex, "base": 0, "epoch": 0}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        made.rename(self.path)  # a file that is there is whole, also when we die right here
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _connect(self) -> None:
        assert self._side is not None
        self.path.chmod(0o600)  # SQLite makes the files next to it alike
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_S)
        self._connection = connection
        if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise StoreUnavailable(f"sqlite:{self.path}: this file system cannot hold a write-ahead log")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={QUICK_CHECK_BYTES}")
        if self.max_bytes:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={max(1, self.max_bytes // page_bytes)}")
        connection.execute("BEGIN IMMEDIATE")  # a file that may not be written says so now
        connection.execute("ROLLBACK")
        self._side.note(self._store_id, self.revision)

    def _read(self) -> Contents:
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)) as connection:
            self._check_file(connection)
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            if not (isinstance(meta.get("store"), str) and type(meta.get("base")) is type(meta.get("epoch")) is int):
                raise self._corrupt("table meta is damaged")
            self._store_id, self.base = meta["store"], meta["base"]
            if connection.execute("SELECT 1 FROM entry WHERE revision <= ?", (self.base,)).fetchone():
                raise self._corrupt(f"entries up to revision {self.base} should be compacted, yet are there")
            items = dict(self._items(connection))
            entries = self._entries(connection, self.base, limit=-1)
        self.revision = check_dense(entries, self.base, f"sqlite:{self.path}")
        self._check_acknowledged()
        return Contents(base=Base(revision=self.base, items=items), entries=entries)

    def _check_file(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            raise self._corrupt("not a store of ovnk" if self.path.stat().st_size else "the file is empty")
        if version != FORMAT:
            raise self._corrupt(f"written in format {version}; this version reads {FORMAT}")
        if self.path.stat().st_size < QUICK_CHECK_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise self._corrupt(str(verdict).replace("\n", "; "))

    def _check_acknowledged(self) -> None:
        assert self._side is not None
        store_id, revision = self._side.noted
        if store_id == self._store_id and revision > self.revision:
            raise self._corrupt(
                f"it ends at revision {self.revision}, yet {revision} was acknowledged ({self._side.path.name}): part"
                f" of it, or of its -wal file, is missing; if an older copy was put back on purpose, remove"
                f" {self._side.path}"
            )

    def _corrupt(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(f"sqlite:{self.path}: {what}")

    # ------------------------------------------------------------------ reading

    def _items(self, connection: sqlite3.Connection) -> Iterator[tuple[StoreKey, Stored]]:
        for *key, value, created, modified, checksum in connection.execute(
            f"SELECT {KEY}, value, created, modified, checksum FROM item"
        ):
            self._check_columns(key, value, (created, modified, checksum), "an item of the base")
            found, stored = StoreKey(*key), Stored(value=value, created=created, modified=modified)
            if stored_checksum(found, stored) != checksum or not 0 < created <= modified <= self.base:
                raise self._corrupt(f"{found}: damaged (its checksum does not match)")
            yield found, stored

    def _entries(self, connection: sqlite3.Connection, after: int, limit: int) -> tuple[Entry, ...]:
        heads = connection.execute(
            "SELECT revision, at_s, author, id, checksum FROM entry WHERE revision > ? ORDER BY revision LIMIT ?",
            (after, limit),
        ).fetchall()
        changes: dict[int, list[Change]] = {head[0]: [] for head in heads}
        last = heads[-1][0] if heads else after
        for revision, *key, value in connection.execute(
            f"SELECT revision, {KEY}, value FROM change WHERE revision > ? AND revision <= ? "
            "ORDER BY revision, position",
            (after, last),
        ):
            self._check_columns(key, b"" if value is None else value, (revision,), f"revision {revision}")
            changes.setdefault(revision, []).append(Change(key=StoreKey(*key), value=value))
        return tuple(self._entry(head, changes[head[0]]) for head in heads)

    def _entry(self, head: tuple[object, ...], changes: list[Change]) -> Entry:
        revision, at_s, author, id_, checksum = head
        if not (
            isinstance(revision, int) and isinstance(at_s, int) and isinstance(author, str) and isinstance(id_, str)
        ):
            raise self._corrupt(f"revision {revision}: damaged (columns of the wrong type)")
        entry = Entry(revision=revision, changes=tuple(changes), at_s=at_s, author=author, id=id_)
        if entry_checksum(entry) != checksum:
            raise self._corrupt(f"revision {revision}: damaged (its checksum does not match)")
        return entry

    def _check_columns(self, key: list[object], value: object, numbers: Sequence[object], where: str) -> None:
        if (
            key[0] not in SPACES
            or not all(isinstance(part, str) for part in key)
            or not isinstance(value, bytes)
            or not all(isinstance(number, int) for number in numbers)
        ):
            raise self._corrupt(f"{where}: damaged (columns of the wrong type, key {key})")

    def after(self, revision: int, limit: int) -> tuple[Entry, ...]:
        """At most ``limit`` entries that follow ``revision``. Raises StoreCorrupt when the next one is gone."""
        if revision < self.base:
            raise self._corrupt(f"revision {revision + 1} is compacted; the oldest that is kept is {self.base + 1}")
        with self._translated():
            entries = self._entries(self._usable(), revision, limit)
        check_dense(entries, revision, f"sqlite:{self.path}")
        return entries

    def integrity(self) -> list[str]:
        """What SQLite itself finds wrong with every page of the file. O(file)."""
        with self._translated():
            found = [str(row[0]) for row in self._usable().execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    # ------------------------------------------------------------------ writing

    def append(self, entries: Sequence[Entry]) -> None:
        """One transaction, on disk when this returns. Raises as ``Log.append`` does."""
        check_append(entries, self.revision, f"sqlite:{self.path}")
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)",
                [(each.revision, each.at_s, each.author, each.id, entry_checksum(each)) for each in entries],
            )
            connection.executemany(
                "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (each.revision, position, *key_columns(change.key), change.value)
                    for each in entries
                    for position, change in enumerate(each.changes)
                ),
            )
            failpoint("store.sqlite.before_commit")
        failpoint("store.sqlite.after_commit")
        self._reached(entries[-1].revision)

    def _reached(self, revision: int) -> None:
        assert self._side is not None
        self.revision = revision
        self._side.note(self._store_id, revision)

    def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        """See ``Log.compact``; one transaction."""
        if revision > self.revision and self.revision:
            raise ValueError(f"cannot compact at {revision}: the log is at {self.revision}")
        if revision <= self.base:
            return
        failpoint("store.compact.before_base")
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM item WHERE space = ? AND kind = ? AND namespace = ? AND name = ?",
                (key_columns(key) for key, item in items.items() if item is None),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (*key_columns(key), item.value, item.created, item.modified, stored_checksum(key, item))
                    for key, item in items.items()
                    if item is not None
                ),
            )
            connection.execute("DELETE FROM change WHERE revision <= ?", (revision,))
            connection.execute("DELETE FROM entry WHERE revision <= ?", (revision,))
            connection.execute("UPDATE meta SET value = ? WHERE name = 'base'", (revision,))
            failpoint("store.compact.after_base")
        self.base = revision
        self._reached(max(self.revision, revision))

    def next_epoch(self) -> int:
        """One more than any number this was ever answered with."""
        with self._transaction() as connection:
            connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
            (epoch,) = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        return int(epoch)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._usable()
        with self._translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            self._commit(connection)

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if _primary_code(error) == sqlite3.SQLITE_IOERR:
                # The last page may or may not be on disk, and a kernel that failed to sync once may call it clean the
                # next time. Only reading the file anew tells, so nothing is written until somebody does.
                self._failure = f"a write failed ({error}); open the store again"
                raise StoreUnknown(f"sqlite:{self.path}: {self._failure}") from error
            raise

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None or self._failure:
            raise StoreUnavailable(f"sqlite:{self.path}: {self._failure or 'the log is not open'}")
        return self._connection

    def close(self) -> None:
        """Let go of the file and its lock; idempotent."""
        connection, self._connection = self._connection, None
        side, self._side = self._side, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if side is not None:
            side.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            code, message = _primary_code(error), f"sqlite:{self.path}: {error}"
            if code == sqlite3.SQLITE_FULL:
                raise StoreFull(message) from error
            if code in _UNWRITABLE:
                raise StoreUnavailable(message) from error
            if code == sqlite3.SQLITE_TOOBIG or isinstance(error, OverflowError):
                raise QuotaError(message) from error
            raise StoreCorrupt(message) from error


def _primary_code(error: BaseException) -> int:
    """SQLite's result code without its extension; 0 when the error has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class _SideFile:
    """``PATH.lock``: our lock, and the last acknowledged revision of the store with a certain id."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise StoreUnavailable(f"sqlite:{database}: in use by another process") from error
        self.noted = self._read()

    def _read(self) -> tuple[str, int]:
        """Store id and revision; nothing where the note cannot be read: it is a second guard, not a source."""
        words = os.pread(self._descriptor, 100, 0).decode(errors="replace").split()
        return (words[0], int(words[1])) if len(words) == 2 and words[1].isdecimal() else ("", 0)

    def note(self, store_id: str, revision: int) -> None:
        os.pwrite(self._descriptor, f"{store_id or '-':32} {revision:20}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._descriptor)
