"""``MemoryNorthbound``: the port without a server; the embedded default.

Several of them may share one ``MemoryDatabase``, as several clients share a server: a restart is a new client on the
old database. Nothing acknowledges ``BumpConfig`` here: sb_cfg and hv_cfg stay what they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from ovnk_core.errors import Rejected, Unreachable
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.schema import DatabaseSchema, Row
from ovnk_core.northbound.changes import ChangeHub, ChangeStream
from ovnk_core.northbound.memory_database import MemoryDatabase
from ovnk_core.northbound.port import Changes, Receipt, check_lock_name

__all__ = ["MemoryDatabase", "MemoryNorthbound"]


class MemoryNorthbound:
    """A client of ``database``, or of a fresh one of ``schema``."""

    def __init__(self, schema: DatabaseSchema | None = None, *, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase(schema)
        self._hub = ChangeHub()
        self._columns: dict[str, tuple[str, ...]] = {}
        self._tables: dict[str, dict[str, Row]] = {}
        self._is_connected = False
        self._lock = ""

    @property
    def address(self) -> str:
        return "memory"

    @property
    def heard_s(self) -> float:
        return time.time()

    @property
    def schema(self) -> DatabaseSchema:
        return self.database.schema

    async def connect(self, tables: Mapping[str, Sequence[str]], *, timeout_s: float = 10.0) -> None:
        del timeout_s  # Nothing here can be late.
        self._columns = {
            table: tuple(column for column in columns if self.schema.has(table, column))
            for table, columns in tables.items()
            if self.schema.has(table)
        }
        for table in self._columns:
            self._tables[table] = {uuid: self._cut(table, row) for uuid, row in self.database.tables[table].items()}
        self._is_connected = True
        self.database.watch(self._committed)
        await asyncio.sleep(0)

    def _cut(self, table: str, row: Row) -> Row:
        return {column: row[column] for column in self._columns[table]}

    def _committed(self, changes: Changes) -> None:
        seen: Changes = {}
        for table, rows in changes.items():
            mirror = self._tables.get(table)
            if mirror is None:
                continue
            for uuid in rows:
                before = mirror.pop(uuid, None)
                now = self.database.tables[table].get(uuid)
                after = None if now is None else self._cut(table, now)
                if after is not None:
                    mirror[uuid] = after
                if before != after:
                    seen.setdefault(table, {})[uuid] = before
        self._hub.publish(seen)

    async def close(self) -> None:
        self.database.unwatch(self._committed)
        self.database.unlock(self)
        self._is_connected = False
        self._hub.close()

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._tables.get(table, {})

    def changes(self) -> ChangeStream:
        return self._hub.subscribe()

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        del timeout_s
        operations = tuple(operations)
        await asyncio.sleep(0)
        if not self._is_connected:
            raise Unreachable("memory: not connected")
        if self._lock and not self.database.lock(self._lock, self):
            raise Rejected("not owner", f"the lock {self._lock} is held by another client")
        return self.database.commit(operations)

    async def lock(self, name: str) -> bool:
        check_lock_name(name, self._lock)
        if not self._is_connected:
            raise Unreachable("memory: not connected")
        self._lock = name
        return self.database.lock(name, self)
