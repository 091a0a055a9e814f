"""Desired rows in the canonical column form of ``nb.schema``, and which actual rows are ours.

Ownership is ``external_ids:ovnk-owner`` alone. Two tables have no external_ids; there a row is ours when its uuid
is the one we would derive from its content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ovnk_core.nb import naming
from ovnk_core.nb.operation import WRITER_KEY
from ovnk_core.nb.row import IPSEC_KEY, OWNER_KEY, REVISION_KEY, ColumnId, Element, RowId, parse_owner
from ovnk_core.nb.schema import Column, DatabaseSchema, Datum, Row
from ovnk_core.nb.tables import TABLES, TableSpec
from ovnk_core.terms.struct import Value

GLOBAL_TABLE = "NB_Global"
GLOBAL_PREFIX = "ovnk-"
GLOBAL_COLUMNS = (
    "name",
    "nb_cfg",
    "sb_cfg",
    "hv_cfg",
    "hv_cfg_timestamp",
    "external_ids",
    "options",
    "ipsec",
)
_PORT_PREFIXES = (naming.router_to_external(""), naming.router_to_join(""), naming.router_to_switch(""))


def mirrored() -> dict[str, tuple[str, ...]]:
    """Tables and columns a driver must mirror for us."""
    return {**{name: column_names(spec) for name, spec in TABLES.items()}, GLOBAL_TABLE: GLOBAL_COLUMNS}


def column_names(spec: TableSpec) -> tuple[str, ...]:
    fields = tuple(field.name for field in msgspec.structs.fields(spec.row))
    return (*fields, *spec.sets)


class Columns:
    """Translates row structs for one server's schema. What the schema lacks is left out: a column (``ACL.tier``), or a
    table, of which there must be no rows then (``Settings.has_template_variables``)."""

    def __init__(self, schema: DatabaseSchema) -> None:
        self.schema = schema
        self._scalars: dict[str, tuple[Column, ...]] = {}
        self._sets: dict[str, tuple[str, ...]] = {}
        for name, spec in TABLES.items():
            if name not in schema.tables:
                continue
            known = schema.tables[name].columns
            fields = (field.name for field in msgspec.structs.fields(spec.row))
            self._scalars[name] = tuple(known[field] for field in fields if field in known)
            self._sets[name] = tuple(column for column in spec.sets if column in known)

    def scalars(self, row_id: RowId, row: Value) -> Row:
        """Columns held in the row struct."""
        found: Row = {}
        for column in self._scalars[row_id.table]:
            found[column.name] = _canonical(column, getattr(row, column.name))
        if "external_ids" in found:
            ids = found["external_ids"]
            assert isinstance(ids, dict)
            ids[OWNER_KEY] = row_id.owner_text
        return found

    def sets(self, row_id: RowId, members: Mapping[ColumnId, Mapping[Element, int]]) -> dict[str, frozenset[Any]]:
        """Columns held in ``MEMBER``."""
        return {column: atoms(members.get(ColumnId(row_id, column), ())) for column in self._sets[row_id.table]}


def atoms(elements: Iterable[Element]) -> frozenset[Any]:
    """Members as database atoms: references become uuids."""
    return frozenset(element.uuid if isinstance(element, RowId) else element for element in elements)


def _canonical(column: Column, value: Any) -> Datum:
    match column.shape:
        case "map":
            return dict(value)
        case "set":
            return frozenset(value)
        case _:
            found: Datum = value
            return found


def owner_of(table: str, uuid: str, row: Row) -> RowId | None:
    """Who owns an actual row; None when it is not ours."""
    ids = row.get("external_ids")
    if isinstance(ids, dict):
        text = ids.get(OWNER_KEY)
        return parse_owner(table, text) if isinstance(text, str) else None
    claimed = _claim(table, row)
    return claimed if claimed is not None and claimed.uuid == uuid else None


_TURN_KEYS = (WRITER_KEY, REVISION_KEY)


def prefixed_keys(row: Row) -> dict[str, str]:
    """All of ours in NB_Global's external_ids; the rest of that row is not ours."""
    ids = row.get("external_ids")
    pairs = ids.items() if isinstance(ids, dict) else ()
    return {str(key): str(value) for key, value in pairs if str(key).startswith(GLOBAL_PREFIX)}


def own_keys(row: Row) -> dict[str, str]:
    """Our recorded keys in NB_Global's external_ids. Whose turn it is, and for which revision, are no records."""
    return {key: value for key, value in prefixed_keys(row).items() if key not in _TURN_KEYS}


def is_encryption_lost(rows: Mapping[str, Row]) -> bool:
    """Whether somebody turned off NB_Global.ipsec that bears our mark: we write both in one transaction."""
    return any(IPSEC_KEY in own_keys(row) and row.get("ipsec") is False for row in rows.values())


def _claim(table: str, row: Row) -> RowId | None:
    """The identity a row without external_ids would have if it were ours."""
    if table == "Load_Balancer_Group":
        return naming.lb_group_row(str(row.get("name", "")))
    if table == "Static_MAC_Binding":
        port = str(row.get("logical_port", ""))
        prefix = next((each for each in _PORT_PREFIXES if port.startswith(each)), "")
        return RowId(table, naming.node_owner(port.removeprefix(prefix)), str(row.get("ip", "")))
    return None
