"""The mirror: rows of the monitored tables, kept current by ``monitor_cond_since`` and ``update3``.

Updates are decoded into a staging area in slices of a few milliseconds, giving the loop a turn in between, and put into
the mirror in one go: no reader ever sees half of a transaction. While much is decoded the garbage collector is off: it
would walk every row made so far again and again and make the load three to four times as expensive.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from ovnk_core.nb.schema import Column, DatabaseSchema, Datum, Row, decode, default
from ovnk_core.northbound.changes import ChangeHub, replace
from ovnk_core.terms.struct import Value

ZERO_ID = "00000000-0000-0000-0000-000000000000"
SLICE_S = 0.004
GC_OFF_BYTES = 1 << 19
BREATHE_BYTES = 1 << 20
Staged = dict[str, dict[str, Row | None]]


async def breathe(content: bytes | msgspec.Raw) -> None:
    """Give the loop a turn between two passes over a big message; one pass costs about 1 ms per MiB."""
    if len(content) > BREATHE_BYTES:
        await asyncio.sleep(0)


class RowUpdate(msgspec.Struct):
    """One row of an update2 or update3: exactly one field is set; columns at their default are left out."""

    initial: dict[str, Any] | None = None
    insert: dict[str, Any] | None = None
    modify: dict[str, Any] | None = None
    delete: Any = msgspec.UNSET


_TABLES = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])
_ROW = msgspec.json.Decoder(RowUpdate)
_REPLY = msgspec.json.Decoder(tuple[bool, str, msgspec.Raw])
_UPDATE3 = msgspec.json.Decoder(tuple[Any, str, msgspec.Raw])


class Watched(Value, frozen=True, kw_only=True):
    """The mirrored columns of one table, a row of defaults, and the columns whose JSON is the value already."""

    columns: dict[str, Column]
    template: Row
    plain: frozenset[str]


def watched(schema: DatabaseSchema, tables: Mapping[str, Sequence[str]]) -> dict[str, Watched]:
    """Tables and columns asked for, cut down to those the schema has."""
    found: dict[str, Watched] = {}
    for table, names in tables.items():
        if table not in schema.tables:
            continue
        columns = {name: schema.tables[table].columns[name] for name in names if schema.has(table, name)}
        found[table] = Watched(
            columns=columns,
            template={name: default(column) for name, column in columns.items()},
            plain=frozenset(name for name, column in columns.items() if column.shape == "one" and column.key != "uuid"),
        )
    return found


class Mirror:
    """Rows by table and uuid. ``last_id`` is the server's transaction id to resume from."""

    def __init__(self, hub: ChangeHub) -> None:
        self.tables: dict[str, dict[str, Row]] = {}
        self.last_id = ZERO_ID
        self._watched: dict[str, Watched] = {}
        self._hub = hub

    def watch(self, schema: DatabaseSchema, tables: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Set what is mirrored -> the ``monitor-requests`` of a monitor call. Another set of columns starts anew."""
        now = watched(schema, tables)
        if now != self._watched:
            self.last_id = ZERO_ID
        self._watched = now
        for table in now:
            self.tables.setdefault(table, {})
        return {table: [{"columns": list(of.columns)}] for table, of in now.items()}

    async def load(self, reply: msgspec.Raw) -> None:
        """Take the reply to ``monitor_cond_since``: everything, or what happened since ``last_id``."""
        is_since, last_id, content = _REPLY.decode(reply)
        await breathe(content)
        await self._take(content, is_reset=not is_since)
        self.last_id = last_id

    async def update(self, params: msgspec.Raw) -> None:
        """Take an ``update3`` notification."""
        _, last_id, content = _UPDATE3.decode(params)
        await self._take(content, is_reset=False)
        self.last_id = last_id

    async def _take(self, content: msgspec.Raw, *, is_reset: bool) -> None:
        with _collector_off(len(content) > GC_OFF_BYTES):
            staged = await self._stage(content)
            await breathe(content)
            changes = replace(self.tables, staged, is_reset=is_reset)
        self._hub.publish(changes)

    async def _stage(self, content: msgspec.Raw) -> Staged:
        staged: Staged = {}
        tables = _TABLES.decode(content)
        await breathe(content)
        pause_at = time.perf_counter() + SLICE_S
        for table, updates in tables.items():
            of = self._watched[table]
            rows: dict[str, Row | None] = {}
            present = self.tables[table]
            for count, (uuid, raw) in enumerate(updates.items()):
                rows[uuid] = _row(of, present, uuid, _ROW.decode(raw))
                if not count & 15 and time.perf_counter() > pause_at:
                    await asyncio.sleep(0)
                    pause_at = time.perf_counter() + SLICE_S
            staged[table] = rows
        return staged


def _row(of: Watched, present: Mapping[str, Row], uuid: str, update: RowUpdate) -> Row | None:
    """One row update -> the new row, None when deleted. Raises KeyError for a modify of a row we do not have."""
    if update.delete is not msgspec.UNSET:
        return None
    named = update.initial if update.initial is not None else update.insert
    if named is not None:
        row = of.template.copy()
        for name, raw in named.items():
            row[name] = raw if name in of.plain else decode(of.columns[name], raw)
        return row
    row = present[uuid].copy()
    for name, raw in (update.modify or {}).items():
        row[name] = raw if name in of.plain else _patched(of.columns[name], row[name], raw)
    return row


def _patched(column: Column, old: Datum, raw: Any) -> Datum:
    """A modified column: sets and maps arrive as their difference, the others as their new value."""
    difference = decode(column, raw)
    if isinstance(old, frozenset) and isinstance(difference, frozenset):
        return old ^ difference
    if isinstance(old, dict) and isinstance(difference, dict):
        merged = dict(old)
        for key, value in difference.items():
            if merged.get(key) == value:
                del merged[key]
            else:
                merged[key] = value
        return merged
    return difference


@contextmanager
def _collector_off(is_wanted: bool) -> Iterator[None]:
    """Keep the garbage collector from walking, again and again, what is being built and will be kept."""
    was_on = is_wanted and gc.isenabled()
    if was_on:
        gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
