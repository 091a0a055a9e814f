"""The difference between desired and actual rows, as operations for one transaction.

One reconcile is one transaction (ADR 0005): a policy edit is atomic by construction, and no commit shows a
namespace unprotected, empty or mixed. A row whose owner and role survive keeps its uuid and is updated in place;
set columns change by mutate; rows we do not own are never touched unless ``adopt`` says so.

Cost: ``full`` reads every owned row once; ``incremental`` only rows and columns that an engine delta names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import Conflict, GuardError
from ovnk_core.nb.desired import DESIRED, GLOBAL_KEYS, MEMBER
from ovnk_core.nb.operation import Delete, Insert, Mutate, Operation, Update
from ovnk_core.nb.row import IPSEC_KEY, ColumnId, Element, RowId
from ovnk_core.nb.schema import DatabaseSchema, Row, default
from ovnk_core.nb.tables import TABLES
from ovnk_core.reconcile.columns import GLOBAL_TABLE, Columns, atoms, own_keys, owner_of, prefixed_keys
from ovnk_core.terms.struct import Value

Actual = Mapping[str, Mapping[str, Row]]
"""table -> uuid -> row: a driver's mirror."""
PRUNE_LIMIT = 0.20


class Difference(Value, frozen=True, kw_only=True):
    """Operations in order, and how many rows are ours and how many are not."""

    operations: tuple[Operation, ...]
    rows_owned: int
    rows_foreign: int

    def count(self) -> dict[str, int]:
        """Operations by verb; a mutate is one row and column."""
        names: dict[type[Value], str] = {Insert: "insert", Update: "update", Mutate: "mutate", Delete: "delete"}
        found = dict.fromkeys(names.values(), 0)
        for operation in self.operations:
            if type(operation) in names:
                found[names[type(operation)]] += 1
        return found


class Desired:
    """Desired rows of an engine, read as database rows."""

    def __init__(self, engine: Engine, schema: DatabaseSchema) -> None:
        self._engine, self.columns = engine, Columns(schema)

    def rows(self) -> Iterator[tuple[RowId, Value]]:
        for table in DESIRED.values():
            yield from self._engine.rows(table).items()

    def find(self, row_id: RowId) -> Value | None:
        table = DESIRED.get(row_id.table)
        found: Value | None = None if table is None else self._engine.rows(table).get(row_id)
        return found

    def members(self) -> Mapping[ColumnId, Mapping[Element, int]]:
        return self._engine.sets(MEMBER)

    def row(self, row_id: RowId) -> Row | None:
        """All columns of one desired row."""
        found = self.find(row_id)
        if found is None:
            return None
        return self.columns.scalars(row_id, found) | self.columns.sets(row_id, self.members())

    def global_keys(self) -> Mapping[str, str]:
        """Our keys of NB_Global's external_ids."""
        return self._engine.rows(GLOBAL_KEYS)

    def count(self) -> int:
        return sum(len(self._engine.rows(table)) for table in DESIRED.values())


_LARGE_MAP = 16
"""Keys of a map above which it pays to send only those that differ: recorded firewalls; no other map is larger."""


def full(desired: Desired, actual: Actual, *, adopt: bool = False) -> Difference:
    """Compare everything. Raises Conflict when a foreign row holds a name we need and ``adopt`` is off."""
    owned, foreign = _split(actual)
    members = desired.members()
    wanted = {row_id.uuid: (row_id, row) for row_id, row in desired.rows()}
    stale = {uuid: row_id for uuid, row_id in owned.items() if uuid not in wanted}
    inserts: list[Operation] = []
    changes: list[Operation] = []
    for uuid, (row_id, row) in wanted.items():
        current = actual.get(row_id.table, {}).get(uuid)
        if current is None:
            inserts.append(_insert(desired, row_id, row, members))
        else:
            changes += compare(desired, row_id, row, current, members)
    takeover = _takeover(inserts, actual, foreign, adopt=adopt)
    deletes = [Delete(table=row_id.table, uuid=uuid) for uuid, row_id in stale.items()]
    return Difference(
        operations=(*takeover, *inserts, *changes, *deletes, *global_changes(desired, actual)),
        rows_owned=len(wanted),
        rows_foreign=len(foreign) - sum(isinstance(operation, Delete) for operation in takeover),
    )


def incremental(desired: Desired, deltas: Sequence[Delta], actual: Actual) -> tuple[Operation, ...]:
    """Compare only what engine deltas touched: rows, and elements of sets, whatever the size of the sets.

    Valid when everything before them is in the northbound.
    """
    members = desired.members()
    touched: dict[RowId, None] = {}
    columns: dict[RowId, dict[str, set[Element]]] = {}
    for delta in deltas:
        for table in DESIRED.values():
            touched.update(dict.fromkeys(delta.rows(table)))
        for column_id, (appeared, vanished) in delta.sets(MEMBER).items():
            elements = columns.setdefault(column_id.row, {}).setdefault(column_id.column, set())
            elements |= appeared
            elements |= vanished
    operations: list[Operation] = []
    deletes: list[Operation] = []
    for row_id in {**touched, **columns}:
        row, current = desired.find(row_id), actual.get(row_id.table, {}).get(row_id.uuid)
        if row is None:
            if current is not None:
                deletes.append(Delete(table=row_id.table, uuid=row_id.uuid))
        elif current is None:
            operations.append(_insert(desired, row_id, row, members))
        else:
            if row_id in touched:
                operations += _scalar_changes(row_id, desired.columns.scalars(row_id, row), current)
            for column, elements in columns.get(row_id, {}).items():
                wanted = members.get(ColumnId(row_id, column), {})
                operations += _element_changes(row_id, column, elements, wanted, current)
    recorded = any(delta.rows(GLOBAL_KEYS) for delta in deltas)
    return (*operations, *deletes, *(global_changes(desired, actual) if recorded else ()))


def global_changes(desired: Desired, actual: Actual) -> Iterator[Operation]:
    """Bring our keys of NB_Global up to date, and its column ipsec if that is ours. A fresh database without that row
    has nowhere to record yet."""
    want = desired.global_keys()
    for uuid, row in actual.get(GLOBAL_TABLE, {}).items():
        have = own_keys(row)
        yield from _ipsec_change(uuid, row, have, is_wanted=IPSEC_KEY in want)
        changed = {key: value for key, value in want.items() if have.get(key) != value}
        gone = frozenset(have.keys() - want.keys())
        if changed or gone:
            yield Mutate(table=GLOBAL_TABLE, uuid=uuid, column="external_ids", keys=changed, drop=gone)


def _ipsec_change(uuid: str, row: Row, have: Mapping[str, str], *, is_wanted: bool) -> Iterator[Operation]:
    """Off is written only where the mark says that on was ours: nobody's encryption ends because of us."""
    if (is_wanted or IPSEC_KEY in have) and row.get("ipsec") is not is_wanted:
        yield Update(table=GLOBAL_TABLE, uuid=uuid, columns={"ipsec": is_wanted})


def compare(
    desired: Desired,
    row_id: RowId,
    row: Value,
    current: Row,
    members: Mapping[ColumnId, Mapping[Element, int]],
) -> Iterator[Operation]:
    """Operations that turn ``current`` into the desired row."""
    yield from _scalar_changes(row_id, desired.columns.scalars(row_id, row), current)
    for column, want in desired.columns.sets(row_id, members).items():
        yield from _set_change(row_id, column, want, current)


def _scalar_changes(row_id: RowId, want: Row, current: Row) -> Iterator[Operation]:
    """Columns are overwritten, except maps where most keys stay: there the keys that differ are set or removed."""
    changed = {name: value for name, value in want.items() if current.get(name) != value}
    for column, value in tuple(changed.items()):
        have = current.get(column)
        if not isinstance(value, dict) or not isinstance(have, dict):
            continue
        keys = {str(key): str(text) for key, text in value.items() if have.get(key) != text}
        drop = frozenset(map(str, have.keys() - value.keys()))
        if len(value) > _LARGE_MAP and len(keys) + len(drop) < len(value) // 2:
            del changed[column]
            yield Mutate(table=row_id.table, uuid=row_id.uuid, column=column, keys=keys, drop=drop)
    if changed:
        yield Update(table=row_id.table, uuid=row_id.uuid, columns=changed)


def _set_change(row_id: RowId, column: str, want: frozenset[Any], current: Row) -> Iterator[Operation]:
    have = current.get(column)
    assert isinstance(have, frozenset)
    if want != have:
        yield Mutate(table=row_id.table, uuid=row_id.uuid, column=column, insert=want - have, delete=have - want)


def _element_changes(
    row_id: RowId, column: str, elements: Iterable[Element], wanted: Mapping[Element, int], current: Row
) -> Iterator[Operation]:
    """``_set_change`` for some elements of a column; the others are right."""
    have = current.get(column)
    assert isinstance(have, frozenset)
    insert = atoms(element for element in elements if element in wanted) - have
    delete = atoms(element for element in elements if element not in wanted) & have
    if insert or delete:
        yield Mutate(table=row_id.table, uuid=row_id.uuid, column=column, insert=insert, delete=delete)


def _insert(desired: Desired, row_id: RowId, row: Value, members: Mapping[ColumnId, Mapping[Element, int]]) -> Insert:
    """A new row; columns that equal the schema's default are not named."""
    columns = desired.columns.scalars(row_id, row) | desired.columns.sets(row_id, members)
    known = desired.columns.schema.tables[row_id.table].columns
    explicit = {name: value for name, value in columns.items() if value != default(known[name])}
    return Insert(table=row_id.table, uuid=row_id.uuid, columns=explicit)


def _split(actual: Actual) -> tuple[dict[str, RowId], dict[str, str]]:
    """(our rows by uuid, foreign rows' tables by uuid) of the tables we write."""
    owned: dict[str, RowId] = {}
    foreign: dict[str, str] = {}
    for table in TABLES:
        for uuid, row in actual.get(table, {}).items():
            owner = owner_of(table, uuid, row)
            if owner is None:
                foreign[uuid] = table
            else:
                owned[uuid] = owner
    return owned, foreign


def _takeover(
    inserts: Iterable[Operation], actual: Actual, foreign: Mapping[str, str], *, adopt: bool
) -> list[Operation]:
    """Foreign rows that hold a name we are about to insert: a Conflict, or (``adopt``) removed in our favour."""
    names: dict[tuple[str, str], str] = {}
    for uuid, table in foreign.items():
        named = TABLES[table].name_column
        if named is not None:
            names[(table, str(actual[table][uuid].get(named)))] = uuid
    clashes: list[tuple[Insert, str]] = []
    for operation in inserts:
        if isinstance(operation, Insert) and (column := TABLES[operation.table].name_column):
            holder = names.get((operation.table, str(operation.columns.get(column))))
            if holder is not None:
                clashes.append((operation, holder))
    if clashes and not adopt:
        shown = "; ".join(_clash(operation, uuid) for operation, uuid in clashes[:3])
        more = f" and {len(clashes) - 3} more" if len(clashes) > 3 else ""
        raise Conflict(f"{shown}{more}. Remove the foreign rows, or take them over with --adopt")
    return [change for operation, uuid in clashes for change in _remove(operation.table, uuid, actual)]


def _clash(operation: Insert, uuid: str) -> str:
    column = TABLES[operation.table].name_column
    assert column is not None
    ids = operation.columns.get("external_ids")
    ours = ids.get("ovnk-owner") if isinstance(ids, dict) else operation.uuid
    return f"{operation.table} {operation.columns[column]!r} needed by {ours} is held by foreign row {uuid}"


def _remove(table: str, uuid: str, actual: Actual) -> Iterator[Operation]:
    for parent_table, spec in TABLES.items():
        for column in spec.sets:
            for parent, row in actual.get(parent_table, {}).items():
                have = row.get(column)
                if isinstance(have, frozenset) and uuid in have:
                    yield Mutate(table=parent_table, uuid=parent, column=column, delete=frozenset((uuid,)))
    yield Delete(table=table, uuid=uuid)


def guard(difference: Difference, *, rows_before: int, objects: int, allow_prune: bool) -> None:
    """Refuse a mass deletion. Raises GuardError naming the figures and the flag that lifts it."""
    deletes = difference.count()["delete"]
    if allow_prune or not deletes:
        return
    if not objects:
        raise GuardError(f"the input holds no object, yet {deletes} rows would be deleted; pass --allow-prune if meant")
    if rows_before and deletes > PRUNE_LIMIT * rows_before:
        raise GuardError(
            f"{deletes} of our {rows_before} rows would be deleted, more than {PRUNE_LIMIT:.0%};"
            " pass --allow-prune if meant"
        )


def owned_rows(actual: Actual) -> dict[str, RowId]:
    """Every actual row that is ours, by uuid."""
    return _split(actual)[0]


def purge(actual: Actual) -> tuple[Operation, ...]:
    """Delete exactly our rows. Members of foreign rows that refer to ours are taken out first."""
    owned, foreign = _split(actual)
    operations: list[Operation] = []
    for uuid, table in foreign.items():
        for column in TABLES[table].sets:
            have = actual[table][uuid].get(column)
            ours = frozenset(atom for atom in have if atom in owned) if isinstance(have, frozenset) else frozenset()
            if ours:
                operations.append(Mutate(table=table, uuid=uuid, column=column, delete=ours))
    for uuid, row in actual.get(GLOBAL_TABLE, {}).items():
        operations += _ipsec_change(uuid, row, own_keys(row), is_wanted=False)
        if keys := prefixed_keys(row):
            operations.append(Mutate(table=GLOBAL_TABLE, uuid=uuid, column="external_ids", drop=frozenset(keys)))
    return (*operations, *(Delete(table=row_id.table, uuid=uuid) for uuid, row_id in owned.items()))
