"""Operations -> RFC 7047 ``transact`` operations, and the reply -> a receipt or a refusal.

The server answers ``count: 0`` and commits when an update, mutate or delete meets no row. That would be half of a
transaction, so each row that the transaction did not insert itself is first required to exist, by a ``wait`` with
timeout 0; a failing ``wait`` aborts everything. So does the ``wait`` for the writer's turn, which looks at one key of a
map and lets the others be. Sets are mutated insert first, so that a column that must never be
empty survives a replacement of its only member; maps delete first, because insert leaves existing keys alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import msgspec

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
from ovnk_core.nb.schema import Column, DatabaseSchema, Row, TableSchema, encode, encode_set
from ovnk_core.northbound.port import MISSING_ROW, Receipt

GLOBAL = "NB_Global"
_EXISTS = {"op": "wait", "timeout": 0, "columns": ["_uuid"], "until": "!=", "rows": []}


class Compiler:
    """Builds one transaction, operation by operation.

    Only text is kept: a big transaction as values would be hundreds of thousands of objects for the garbage collector.
    ``origin[i]`` is the index of our operation behind ``encoded[i]``; -1 for the lock assertion. ``turns`` are the
    positions of waits for a turn, with the epoch that wants it.
    """

    def __init__(self, schema: DatabaseSchema, lock: str = "") -> None:
        self.encoded: list[bytes] = []
        self.origin: list[int] = []
        self.turns: dict[int, int] = {}
        self._schema = schema
        self._operations = 0
        self._known: set[tuple[str, str]] = set()
        self._bump: int | None = None
        if lock:
            self._emit(-1, {"op": "assert", "lock": lock})

    def add(self, operation: Operation) -> None:
        """Raises Rejected for what no server of this schema can accept (table, column, shape of a value)."""
        index = self._operations
        self._operations += 1
        match operation:
            case Insert():
                row = self._columns(operation.table, operation.columns, index)
                self._emit(index, {"op": "insert", "table": operation.table, "uuid": operation.uuid, "row": row})
                self._known.add((operation.table, operation.uuid))
            case Update():
                row = self._columns(operation.table, operation.columns, index)
                self._require(operation, index)
                self._emit(index, {"op": "update", **_row(operation), "row": row})
            case Mutate():
                mutations = _mutations(self._column(operation.table, operation.column, index), operation, index)
                self._require(operation, index)
                if mutations:
                    self._emit(index, {"op": "mutate", **_row(operation), "mutations": mutations})
            case Delete():
                self._table(operation.table, index)
                self._require(operation, index)
                self._emit(index, {"op": "delete", **_row(operation)})
                self._known.discard((operation.table, operation.uuid))
            case BumpConfig():
                self._bump_config(index)
            case RequireTurn():
                self._turn(operation.epoch, operation.epoch, index)
            case TakeTurn():
                self._take_turn(operation, index)
            case _ as never:
                assert_never(never)

    def _emit(self, index: int, operation: dict[str, Any]) -> None:
        """Encoded one by one, so that a long transaction can be built in slices."""
        try:
            encoded = msgspec.json.encode(operation)
        except UnicodeEncodeError:
            raise Rejected("syntax error", "text holds a lone surrogate", index) from None
        if b"\\u0000" in encoded and any("\0" in text for text in _texts(operation)):
            # A server does not refuse this but drops the connection.
            raise Rejected("syntax error", "text holds a NUL", index)
        self.encoded.append(encoded)
        self.origin.append(index)

    def _require(self, operation: Update | Mutate | Delete, index: int) -> None:
        key = (operation.table, operation.uuid)
        if key in self._known:
            return
        self._known.add(key)
        row = {"_uuid": ["uuid", operation.uuid]}
        guard = {"op": "wait", "timeout": 0, **_row(operation), "columns": ["_uuid"], "until": "==", "rows": [row]}
        self._emit(index, guard)

    def _global(self, index: int) -> None:
        self._emit(index, {**_EXISTS, "table": GLOBAL, "where": []})

    def _bump_config(self, index: int) -> None:
        self._global(index)
        everything = {"table": GLOBAL, "where": []}
        self._emit(index, {"op": "mutate", **everything, "mutations": [["nb_cfg", "+=", 1]]})
        self._bump = len(self.encoded)
        self._emit(index, {"op": "select", **everything, "columns": ["nb_cfg"]})

    def _turn(self, epoch: int, present: int, index: int) -> None:
        """Go on only while the turn is ``present``."""
        self._global(index)
        self.turns[len(self.encoded)] = epoch
        self._emit(index, {**_EXISTS, "table": GLOBAL, "where": [["external_ids", "includes", _turn_map(present)]]})

    def _take_turn(self, operation: TakeTurn, index: int) -> None:
        mutations: list[Any] = [["external_ids", "insert", _turn_map(operation.epoch)]]
        if operation.previous is None:
            self._global(index)
        else:
            self._turn(operation.epoch, operation.previous, index)
            mutations.insert(0, ["external_ids", "delete", _turn_map(operation.previous)])
        self._emit(index, {"op": "mutate", "table": GLOBAL, "where": [], "mutations": mutations})
        if operation.previous is None:
            # Nothing tells that a map lacks a key, but inserting leaves a key alone that is there: so look afterwards.
            self._turn(operation.epoch, operation.epoch, index)

    def _table(self, name: str, index: int) -> TableSchema:
        table = self._schema.tables.get(name)
        if table is None:
            raise Rejected("unknown table", f"no table {name} in schema {self._schema.version}", index)
        return table

    def _column(self, table: str, name: str, index: int) -> Column:
        column = self._table(table, index).columns.get(name)
        if column is None:
            raise Rejected("unknown column", f"no column {name} in table {table}", index)
        return column

    def _columns(self, table: str, row: Row, index: int) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        columns = self._table(table, index).columns
        for name, datum in row.items():
            column = columns.get(name) or self._column(table, name, index)
            try:
                encoded[name] = encode(column, datum)
            except (AssertionError, TypeError, AttributeError):
                raise Rejected("syntax error", f"{table}.{name} is a {column.shape}, not {datum!r}", index) from None
        return encoded

    def encode(self, database: str) -> msgspec.Raw:
        """The ``params`` of the request, encoded."""
        return msgspec.Raw(b"[" + b",".join([msgspec.json.encode(database), *self.encoded]) + b"]")

    def receipt(self, results: Sequence[Any]) -> Receipt:
        """The ``result`` array of the reply -> Receipt. Raises Rejected or TurnLost."""
        for position, result in enumerate(results):
            if isinstance(result, dict) and "error" in result:
                raise self._refusal(position, result)
        if len(results) < len(self.encoded):
            raise Rejected("protocol error", f"{len(results)} results for {len(self.encoded)} operations")
        nb_cfg = None if self._bump is None else int(results[self._bump]["rows"][0]["nb_cfg"])
        return Receipt(operations=self._operations, nb_cfg=nb_cfg)

    def _refusal(self, position: int, result: dict[str, Any]) -> Rejected | TurnLost:
        error, details = str(result["error"]), str(result.get("details", ""))
        if position in self.turns and error == "timed out":
            return TurnLost(self.turns[position])
        if position >= len(self.encoded):
            return Rejected(error, details)
        index, operation = self.origin[position], msgspec.json.decode(self.encoded[position])
        if operation["op"] == "wait":
            where = operation["where"]
            return Rejected(MISSING_ROW, f"{operation['table']} {where[0][2][1] if where else ''}".strip(), index)
        return Rejected(error, details, None if index < 0 else index)


def _row(operation: Update | Mutate | Delete) -> dict[str, Any]:
    return {"table": operation.table, "where": [["_uuid", "==", ["uuid", operation.uuid]]]}


def _turn_map(epoch: int) -> list[Any]:
    return ["map", [[WRITER_KEY, str(epoch)]]]


def _mutations(column: Column, operation: Mutate, index: int) -> list[Any]:
    """A Mutate -> RFC 7047 mutations; empty when it changes nothing."""
    misfit = operation.keys or operation.drop if column.shape == "set" else operation.insert or operation.delete
    if column.shape not in ("set", "map") or misfit:
        raise Rejected("domain error", f"{operation.table}.{column.name} is a {column.shape}", index)
    if column.shape == "set":
        steps = [("insert", operation.insert), ("delete", operation.delete - operation.insert)]
        return [[column.name, verb, encode_set(column, atoms)] for verb, atoms in steps if atoms]
    gone = sorted(operation.drop | operation.keys.keys())
    mutations: list[Any] = [[column.name, "delete", ["set", gone]]] if gone else []
    if operation.keys:
        mutations.append([column.name, "insert", ["map", [list(pair) for pair in operation.keys.items()]]])
    return mutations


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
