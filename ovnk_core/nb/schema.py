"""Column types of an OVSDB schema, and the canonical Python form of a column's value.

A server sends its schema at connect; ``parse_schema`` keeps what we need of it. Canonical values, used by reconcile
and by every driver alike:

* exactly one atom (min 1, max 1)    -> the atom (str, int, float, bool; uuids as text)
* at most one atom (min 0, max 1)    -> the atom, or None when empty
* many atoms                         -> frozenset of atoms
* a map                              -> dict of atoms

``encode`` and ``decode`` translate to and from the JSON of RFC 7047 section 5.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ovnk_core.errors import SchemaMismatch
from ovnk_core.terms.struct import Value

Atom = str | int | float | bool
Datum = Atom | None | frozenset[Atom] | dict[Atom, Atom]
Row = dict[str, Datum]
"""Columns of one row by name, in canonical form."""


class Column(Value, frozen=True, kw_only=True):
    """``shape`` of the canonical value; ``key`` is the atom type; references carry ``ref_table`` and strength.

    ``at_least``: fewest elements of a set. ``lowest`` and ``highest``: inclusive range of an integer key.
    ``longest``: most characters of a string key.
    """

    name: str
    shape: Literal["one", "optional", "set", "map"]
    key: str
    value: str = ""
    ref_table: str = ""
    is_strong: bool = False
    enum: tuple[str, ...] = ()
    at_least: int = 0
    lowest: int | None = None
    highest: int | None = None
    longest: int | None = None


class TableSchema(Value, frozen=True, kw_only=True):
    name: str
    columns: dict[str, Column]
    indexes: tuple[tuple[str, ...], ...] = ()
    is_root: bool = False
    max_rows: int | None = None


class DatabaseSchema(Value, frozen=True, kw_only=True):
    """``version`` as the server prints it (Debian 12: 7.0.0)."""

    name: str
    version: str
    tables: dict[str, TableSchema]

    def has(self, table: str, column: str = "") -> bool:
        found = self.tables.get(table)
        return found is not None and (not column or column in found.columns)

    def require(self, tables: Mapping[str, Iterable[str]]) -> None:
        """Raise SchemaMismatch naming everything missing at once."""
        missing = [table for table in tables if table not in self.tables]
        missing += [
            f"{table}.{column}"
            for table, columns in tables.items()
            if table in self.tables
            for column in columns
            if column not in self.tables[table].columns
        ]
        if missing:
            raise SchemaMismatch(f"schema {self.name} {self.version} has no {', '.join(sorted(missing))}")


def parse_schema(raw: Mapping[str, Any]) -> DatabaseSchema:
    """The ``get_schema`` reply -> DatabaseSchema. Raises SchemaMismatch on a shape RFC 7047 does not have."""
    try:
        tables = {name: _table(name, table) for name, table in raw["tables"].items()}
        return DatabaseSchema(name=raw["name"], version=raw.get("version", "0.0.0"), tables=tables)
    except (KeyError, TypeError, AttributeError) as error:
        raise SchemaMismatch(f"the server's schema is malformed: {error!r}") from error


def _table(name: str, raw: Mapping[str, Any]) -> TableSchema:
    return TableSchema(
        name=name,
        columns={column: _column(column, spec["type"]) for column, spec in raw["columns"].items()},
        indexes=tuple(tuple(index) for index in raw.get("indexes", ())),
        is_root=bool(raw.get("isRoot", False)),
        max_rows=raw.get("maxRows"),
    )


def _column(name: str, raw: Any) -> Column:
    if isinstance(raw, str):
        return Column(name=name, shape="one", key=raw)
    key = raw["key"] if isinstance(raw["key"], dict) else {"type": raw["key"]}
    if "value" in raw:
        value = raw["value"] if isinstance(raw["value"], str) else raw["value"]["type"]
        return Column(name=name, shape="map", key=key["type"], value=value)
    low, high = raw.get("min", 1), raw.get("max", 1)
    shape: Literal["one", "optional", "set"] = "one" if (low, high) == (1, 1) else "optional" if high == 1 else "set"
    enum = key.get("enum", ())
    return Column(
        name=name,
        shape=shape,
        key=key["type"],
        ref_table=key.get("refTable", ""),
        is_strong=bool(key.get("refTable")) and key.get("refType", "strong") == "strong",
        enum=tuple(sorted(enum[1])) if enum and enum[0] == "set" else (enum,) if isinstance(enum, str) else (),
        at_least=low if shape == "set" else 0,
        lowest=key.get("minInteger"),
        highest=key.get("maxInteger"),
        longest=key.get("maxLength"),
    )


def encode(column: Column, datum: Datum) -> Any:
    """Canonical value -> RFC 7047 JSON."""
    if column.shape == "map":
        assert isinstance(datum, dict)
        pairs = sorted(datum.items())
        if "uuid" in (column.key, column.value):
            return ["map", [(_atom(column.key, key), _atom(column.value, value)) for key, value in pairs]]
        return ["map", pairs]
    if column.shape == "set":
        assert isinstance(datum, frozenset)
        return encode_set(column, datum)
    if datum is None:
        return ["set", []]
    return _atom(column.key, datum)


def encode_set(column: Column, atoms: Iterable[Atom]) -> Any:
    """Atoms of a set column -> ``["set", [...]]``, sorted."""
    ordered = sorted(atoms)
    return ["set", [_atom("uuid", atom) for atom in ordered] if column.key == "uuid" else ordered]


def _atom(kind: str, atom: Any) -> Any:
    return ["uuid", atom] if kind == "uuid" else atom


def decode(column: Column, raw: Any) -> Datum:
    """RFC 7047 JSON -> canonical value. A set of one arrives as a bare atom."""
    if isinstance(raw, list):
        tag, body = raw
        if tag == "map":
            if "uuid" in (column.key, column.value):
                return {_bare(key): _bare(value) for key, value in body}
            return dict(body)
        if tag == "set":
            if column.shape == "set":
                return frozenset(map(_bare, body) if column.key == "uuid" else body)
            return _bare(body[0]) if body else None
        return frozenset((body,)) if column.shape == "set" else body
    return frozenset((raw,)) if column.shape == "set" else raw


def _bare(raw: Any) -> Any:
    return raw[1] if isinstance(raw, list) else raw


_ZERO: dict[str, Atom] = {
    "string": "",
    "integer": 0,
    "real": 0.0,
    "boolean": False,
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def default(column: Column) -> Datum:
    """What the server stores in a column an insert does not name."""
    match column.shape:
        case "map":
            return {}
        case "set":
            return frozenset((_ZERO[column.key],)) if column.at_least else frozenset()
        case "optional":
            return None
        case "one":
            return _ZERO[column.key]
