"""A database with the OVSDB semantics that can surprise a writer, in memory.

What it keeps to: a transaction is all or nothing; strong references must resolve; a row of a non-root table that
nothing refers to vanishes at commit, without an error; weak references to missing rows disappear; indexes are unique
at commit; a uuid cannot be inserted twice, nor deleted and inserted in one transaction; enums, ranges, lengths and
element counts hold. What it leaves out: conditions other than one row, durability, clustering, wait with a timeout.
A differential test (``tests/south``) holds it to a real server.

Cost of a transaction: proportional to the rows it touches and the members of their set columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import assert_never

from ovnk_core.errors import Rejected, TurnLost
from ovnk_core.nb.operation import (
    WRITER_KEY,
    BumpConfig,
    Delete,
    Insert,
    Mutate,
    Operation,
    RequireTurn,
    TakeTurn,
    Update,
)
from ovnk_core.nb.schema import Atom, Column, DatabaseSchema, Datum, Row, TableSchema, default, parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.northbound.memory_values import check_atom, check_datum, check_limits, check_map, is_uuid
from ovnk_core.northbound.port import MISSING_ROW, Changes, Receipt

GLOBAL, GLOBAL_UUID = "NB_Global", "00000000-0000-4000-8000-000000000001"
RowKey = tuple[str, str]


class MemoryDatabase:
    """The shared state behind one or more ``MemoryNorthbound``. Starts with the one row of NB_Global.

    ``schema`` defaults to the tables we write as of schema 7.0.0.
    """

    def __init__(self, schema: DatabaseSchema | None = None) -> None:
        self.schema = schema or parse_schema(SCHEMA)
        self.tables: dict[str, dict[str, Row]] = {name: {} for name in self.schema.tables}
        self._strong: Counter[RowKey] = Counter()
        self._weak: dict[RowKey, set[tuple[str, str, str]]] = {}
        self._indexes: dict[tuple[str, tuple[str, ...]], dict[tuple[object, ...], str]] = {}
        self._watchers: list[Callable[[Changes], None]] = []
        self._locks: dict[str, list[object]] = {}
        if GLOBAL in self.tables:
            self.commit([Insert(table=GLOBAL, uuid=GLOBAL_UUID, columns={})])

    def commit(self, operations: Sequence[Operation]) -> Receipt:
        """Everything or nothing. Raises Rejected or TurnLost."""
        draft = _Draft(self.schema, self.tables)
        nb_cfg = None
        for index, operation in enumerate(operations):
            try:
                nb_cfg = draft.execute(operation) or nb_cfg
            except Rejected as error:
                raise Rejected(error.error, error.details, index) from None
        settled = _Settlement(draft, self._strong, self._weak, self._indexes)
        settled.check()
        changes = self._apply(settled)
        if changes:
            for watcher in list(self._watchers):
                watcher(changes)
        return Receipt(operations=len(operations), nb_cfg=nb_cfg)

    def _apply(self, settled: _Settlement) -> Changes:
        changes: Changes = {}
        for (table, uuid), row in settled.draft.rows.items():
            before = self.tables[table].get(uuid)
            if before == row:
                continue
            changes.setdefault(table, {})[uuid] = before
            if row is None:
                del self.tables[table][uuid]
            else:
                self.tables[table][uuid] = row
            self._note_weak(table, uuid, before, row)
        for key, count in settled.counts.items():
            self._strong[key] += count
            if not self._strong[key]:
                del self._strong[key]
        for index, (gone, added) in settled.index_changes.items():
            held = self._indexes.setdefault(index, {})
            for value in gone:
                held.pop(value, None)
            held.update(added)
        return changes

    def _note_weak(self, table: str, uuid: str, before: Row | None, after: Row | None) -> None:
        for column in weak_columns(self.schema.tables[table]):
            old, new = _referred(column, before), _referred(column, after)
            for target in old - new:
                holders = self._weak[column.ref_table, target]
                holders.discard((table, uuid, column.name))
                if not holders:
                    del self._weak[column.ref_table, target]
            for target in new - old:
                self._weak.setdefault((column.ref_table, target), set()).add((table, uuid, column.name))

    def watch(self, watcher: Callable[[Changes], None]) -> None:
        """Call ``watcher`` after each commit with what changed (rows as they were before)."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[Changes], None]) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def lock(self, name: str, owner: object) -> bool:
        """Queue ``owner`` for a lock; True when it holds it."""
        queue = self._locks.setdefault(name, [])
        if not any(waiting is owner for waiting in queue):
            queue.append(owner)
        return queue[0] is owner

    def unlock(self, owner: object) -> None:
        for queue in self._locks.values():
            queue[:] = [waiting for waiting in queue if waiting is not owner]


class _Draft:
    """Rows as a running transaction sees them; ``rows`` holds those it touched (None: deleted)."""

    def __init__(self, schema: DatabaseSchema, tables: dict[str, dict[str, Row]]) -> None:
        self.schema = schema
        self.rows: dict[RowKey, Row | None] = {}
        self._tables = tables

    def before(self, key: RowKey) -> Row | None:
        return self._tables[key[0]].get(key[1])

    def get(self, key: RowKey) -> Row | None:
        return self.rows[key] if key in self.rows else self.before(key)

    def size(self, table: str) -> int:
        """Rows of one table at the end of the transaction."""
        grown = sum(
            (row is not None) - (self.before(key) is not None) for key, row in self.rows.items() if key[0] == table
        )
        return len(self._tables[table]) + grown

    def execute(self, operation: Operation) -> int | None:
        """One operation; the new nb_cfg of a BumpConfig. Raises Rejected or TurnLost."""
        match operation:
            case Insert():
                self._insert(operation)
            case Update():
                key, row = self._row(operation)
                self.rows[key] = row | self._columns(operation.table, operation.columns)
            case Mutate():
                self._mutate(operation)
            case Delete():
                key, _ = self._row(operation)
                self.rows[key] = None
            case BumpConfig():
                return self._bump_config()
            case RequireTurn():
                self._turn(operation.epoch, {str(operation.epoch)})
            case TakeTurn(epoch=epoch, previous=None):
                self._turn(epoch, {None, str(epoch)})
            case TakeTurn():
                self._turn(operation.epoch, {str(operation.previous)})
            case _ as never:
                assert_never(never)
        return None

    def _table(self, name: str) -> TableSchema:
        table = self.schema.tables.get(name)
        if table is None:
            raise Rejected("unknown table", f"no table {name} in schema {self.schema.version}")
        return table

    def _row(self, operation: Update | Mutate | Delete) -> tuple[RowKey, Row]:
        self._table(operation.table)
        key = (operation.table, operation.uuid)
        row = self.get(key)
        if row is None:
            raise Rejected(MISSING_ROW, f"{operation.table} {operation.uuid}")
        return key, row

    def _column(self, table: str, name: str) -> Column:
        column = self._table(table).columns.get(name)
        if column is None:
            raise Rejected("unknown column", f"no column {name} in table {table}")
        return column

    def _columns(self, table: str, row: Row) -> Row:
        for name, datum in row.items():
            check_datum(self._column(table, name), datum)
        return row

    def _insert(self, operation: Insert) -> None:
        table, key = self._table(operation.table), (operation.table, operation.uuid)
        if not is_uuid(operation.uuid):
            raise Rejected("syntax error", f"{operation.uuid!r} is not a uuid")
        if key in self.rows or self.before(key) is not None:
            raise Rejected("duplicate uuid", f"{operation.table} {operation.uuid}")
        named = self._columns(operation.table, operation.columns)
        row = {name: default(column) for name, column in table.columns.items()} | named
        for name, column in table.columns.items():
            # A default may violate its own column, which then must be named.
            if column.shape == "one" and name not in named:
                check_limits(column, row[name])
        self.rows[key] = row

    def _mutate(self, operation: Mutate) -> None:
        column = self._column(operation.table, operation.column)
        misfit = operation.keys or operation.drop if column.shape == "set" else operation.insert or operation.delete
        if column.shape not in ("set", "map") or misfit:
            raise Rejected("domain error", f"{operation.table}.{column.name} is a {column.shape}")
        for atom in (*operation.insert, *operation.delete):
            check_atom(column.key, atom)
        for atom in operation.insert:
            check_limits(column, atom)
        check_map(column, operation.keys)
        check_map(column, dict.fromkeys(operation.drop, ""))
        key, row = self._row(operation)
        old = row[column.name]
        new: Datum
        if isinstance(old, frozenset):
            new = (old | operation.insert) - (operation.delete - operation.insert)
            if len(new) < column.at_least:
                raise Rejected(
                    "constraint violation", f"{operation.table}.{column.name} needs {column.at_least} members"
                )
        else:
            assert isinstance(old, dict)
            kept: dict[Atom, Atom] = {name: value for name, value in old.items() if name not in operation.drop}
            kept.update(operation.keys)
            new = kept
        self.rows[key] = {**row, column.name: new}

    def _global(self) -> tuple[RowKey, Row]:
        touched = {key for key in self.rows if key[0] == GLOBAL}
        for key in touched | {(GLOBAL, uuid) for uuid in self._tables.get(GLOBAL, ())}:
            if (row := self.get(key)) is not None:
                return key, row
        raise Rejected(MISSING_ROW, GLOBAL)

    def _bump_config(self) -> int:
        key, row = self._global()
        value = row["nb_cfg"]
        assert isinstance(value, int)
        self.rows[key] = {**row, "nb_cfg": value + 1}
        return value + 1

    def _turn(self, epoch: int, allowed: Set[str | None]) -> None:
        """Set the turn to ``epoch`` where it is one of ``allowed``."""
        key, row = self._global()
        ids = row["external_ids"]
        assert isinstance(ids, dict)
        if ids.get(WRITER_KEY) not in allowed:
            raise TurnLost(epoch)
        self.rows[key] = {**row, "external_ids": {**ids, WRITER_KEY: str(epoch)}}


class _Settlement:
    """The commit: reference counts, garbage, row limits, weak references, indexes, in the server's order."""

    def __init__(
        self,
        draft: _Draft,
        strong: Counter[RowKey],
        weak: dict[RowKey, set[tuple[str, str, str]]],
        indexes: dict[tuple[str, tuple[str, ...]], dict[tuple[object, ...], str]],
    ) -> None:
        self.draft, self.counts = draft, Counter[RowKey]()
        self.index_changes: dict[
            tuple[str, tuple[str, ...]], tuple[list[tuple[object, ...]], dict[tuple[object, ...], str]]
        ] = {}
        self._strong, self._weak, self._indexes = strong, weak, indexes

    def check(self) -> None:
        """Raises Rejected without an operation index, as the server does for a failing commit."""
        self._count_references()
        self._collect_garbage()
        for name in {key[0] for key in self.draft.rows}:
            limit = self.draft.schema.tables[name].max_rows
            if limit is not None and self.draft.size(name) > limit:
                raise Rejected("constraint violation", f"{name} may hold {limit} rows only")
        self._drop_weak_references()
        self._check_indexes()

    def _count_references(self) -> None:
        for (table, uuid), row in list(self.draft.rows.items()):
            before = self.draft.before((table, uuid))
            for column in strong_columns(self.draft.schema.tables[table]):
                old, new = _referred(column, before), _referred(column, row)
                for target in old - new:
                    self.counts[column.ref_table, target] -= 1
                for target in new - old:
                    self.counts[column.ref_table, target] += 1
                    if self.draft.get((column.ref_table, target)) is None:
                        reason = f"{table}.{column.name} of {uuid} refers to a missing row {target}"
                        raise Rejected("referential integrity violation", reason)
        for key, row in self.draft.rows.items():
            if row is None and self._strong[key] + self.counts[key] > 0:
                raise Rejected("referential integrity violation", f"{key[0]} {key[1]} is still referred to")

    def _collect_garbage(self) -> None:
        work = [*self.draft.rows, *(key for key, count in self.counts.items() if count < 0)]
        while work:
            key = work.pop()
            row, table = self.draft.get(key), self.draft.schema.tables[key[0]]
            if row is None or table.is_root or self._strong[key] + self.counts[key] > 0:
                continue
            self.draft.rows[key] = None
            for column in strong_columns(table):
                for target in _referred(column, row):
                    self.counts[column.ref_table, target] -= 1
                    work.append((column.ref_table, target))

    def _drop_weak_references(self) -> None:
        suspects = {
            (table, uuid, column.name)
            for (table, uuid), row in self.draft.rows.items()
            if row is not None
            for column in weak_columns(self.draft.schema.tables[table])
        }
        for key, row in self.draft.rows.items():
            if row is None:
                suspects |= self._weak.get(key, set())
        for table, uuid, name in suspects:
            row = self.draft.get((table, uuid))
            if row is None:
                continue
            column = self.draft.schema.tables[table].columns[name]
            held = _referred(column, row)
            alive = frozenset(target for target in held if self.draft.get((column.ref_table, target)) is not None)
            if alive == held:
                continue
            if len(alive) < column.at_least:
                raise Rejected("constraint violation", f"{table}.{name} of {uuid} would be empty")
            self.draft.rows[table, uuid] = {**row, name: alive if column.shape == "set" else None}

    def _check_indexes(self) -> None:
        for (table, uuid), row in self.draft.rows.items():
            for columns in self.draft.schema.tables[table].indexes:
                gone, added = self.index_changes.setdefault((table, columns), ([], {}))
                before = self.draft.before((table, uuid))
                if before is not None:
                    gone.append(_index_value(before, columns))
                if row is not None:
                    value = _index_value(row, columns)
                    if value in added:
                        raise _duplicate(table, columns, value)
                    added[value] = uuid
        for (table, columns), (_, added) in self.index_changes.items():
            held = self._indexes.get((table, columns), {})
            for value in added:
                holder = held.get(value)
                if holder is not None and (table, holder) not in self.draft.rows:
                    raise _duplicate(table, columns, value)


def _duplicate(table: str, columns: tuple[str, ...], value: tuple[object, ...]) -> Rejected:
    return Rejected("constraint violation", f"{table} has two rows with {', '.join(columns)} = {value}")


def _index_value(row: Row, columns: Iterable[str]) -> tuple[object, ...]:
    return tuple(tuple(sorted(value.items())) if isinstance(value := row[name], dict) else value for name in columns)


def strong_columns(table: TableSchema) -> list[Column]:
    return [column for column in table.columns.values() if column.ref_table and column.is_strong]


def weak_columns(table: TableSchema) -> list[Column]:
    return [column for column in table.columns.values() if column.ref_table and not column.is_strong]


def _referred(column: Column, row: Row | None) -> frozenset[str]:
    """The uuids one reference column holds."""
    value = None if row is None else row[column.name]
    if isinstance(value, frozenset):
        return value  # type: ignore[return-value]  # a reference column holds uuids only
    return frozenset() if value is None else frozenset((str(value),))
