"""Desired rows as plain, sorted values: what ``ovnk rows`` prints."""

from __future__ import annotations

from typing import Any

from ovnk_core.engine.engine import Engine
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import DatabaseSchema
from ovnk_core.reconcile.diff import Desired
from ovnk_core.terms.struct import Value


class ListedRow(Value, frozen=True, kw_only=True):
    """``columns``: sets as sorted lists, maps as sorted dicts, empty columns left out."""

    table: str
    uuid: str
    owner: RowId
    columns: dict[str, Any]


def list_rows(engine: Engine, schema: DatabaseSchema) -> tuple[ListedRow, ...]:
    """All desired rows, by table and owner."""
    desired = Desired(engine, schema)
    members = desired.members()
    found = []
    for row_id, row in sorted(desired.rows(), key=lambda pair: pair[0]):
        columns = desired.columns.scalars(row_id, row) | desired.columns.sets(row_id, members)
        shown = {name: _plain(value) for name, value in sorted(columns.items()) if value not in (None, frozenset(), {})}
        found.append(ListedRow(table=row_id.table, uuid=row_id.uuid, owner=row_id, columns=shown))
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return dict(sorted(value.items())) if isinstance(value, dict) else value
