"""Rows, flows and operations as messages, without those of owners that the caller may not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ovnk_api.v1 import diff_pb2
from ovnk_api.v1 import northbound_pb2 as pb

from ovnk_core.analysis.diff import row_operations
from ovnk_core.analysis.firewall.rows import RuleAt, rules_of_rows
from ovnk_core.cluster import Cluster
from ovnk_core.flows.listing import ListedFlow
from ovnk_core.keeper.proposal import Result
from ovnk_core.keeper.snapshot import Snapshot
from ovnk_core.nb.desired import DESIRED
from ovnk_core.nb.operation import Delete, Insert, Mutate, Operation, Update
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import Atom, DatabaseSchema
from ovnk_core.reconcile.listing import ListedRow
from ovnk_core.terms.name import ObjectRef
from ovnk_server.convert import OUTCOMES, reference

MAX_OPERATIONS = 500
"""Operations that a plan spells out."""
NOBODY = ObjectRef("", "", "")
"""Owner of what belongs to the database as a whole."""
Sees = Callable[[ObjectRef], bool]
Owners = Mapping[str, RowId]
"""By the row's uuid."""
Rules = Mapping[RowId, tuple[RuleAt, ...]]
Told = Insert | Update | Mutate | Delete
VERBS: dict[type[Told], pb.RowVerb.ValueType] = {
    Insert: pb.ROW_VERB_INSERT,
    Update: pb.ROW_VERB_UPDATE,
    Mutate: pb.ROW_VERB_MUTATE,
    Delete: pb.ROW_VERB_DELETE,
}

# ------------------------------------------------------------------------------------------- rows and flows


def rules_of(snapshot: Snapshot) -> Rules:
    """Which rules rows stand for."""
    return snapshot.once("rules", rules_of_rows)


def row(listed: ListedRow, rules: Rules) -> pb.Row:
    return pb.Row(
        table=listed.table,
        uuid=listed.uuid,
        owner=_owner(listed.owner),
        columns=_columns(listed.columns),
        rules=_rules(rules.get(listed.owner, ())),
    )


def flow(listed: ListedFlow, rules: Rules) -> pb.Flow:
    source = listed.owner
    return pb.Flow(
        datapaths=listed.datapaths,
        pipeline=pb.PIPELINE_EGRESS if listed.pipeline == "egress" else pb.PIPELINE_INGRESS,
        stage=listed.stage,
        priority=listed.priority,
        match=listed.match,
        actions=listed.actions,
        source_row=pb.FlowRow(table=source.table, uuid=source.uuid, owner=_owner(source)),
        rules=_rules(rules.get(source, ())),
    )


def _owner(row_id: RowId) -> pb.RowOwner:
    owner = row_id.owner
    return pb.RowOwner(kind=owner.kind, namespace=owner.namespace, name=owner.name, role=row_id.role)


def _rules(found: Iterable[RuleAt]) -> list[pb.RuleSource]:
    return [pb.RuleSource(rule=each.rule, field_path=f"spec.egress[{each.rule}]") for each in found]


# ------------------------------------------------------------------------------------------- columns


def _columns(columns: Mapping[str, Any]) -> list[pb.Column]:
    return [pb.Column(name=name, value=_value(value)) for name, value in sorted(columns.items())]


def _value(value: Any) -> pb.ColumnValue:
    if isinstance(value, Mapping):
        pairs = [pb.AtomPair(key=_atom(key), value=_atom(each)) for key, each in sorted(value.items())]
        return pb.ColumnValue(map=pb.AtomMap(pairs=pairs))
    if isinstance(value, list | tuple | frozenset):
        return pb.ColumnValue(set=pb.AtomSet(atoms=[_atom(each) for each in sorted(value)]))
    if value is None:
        return pb.ColumnValue(set=pb.AtomSet())
    return pb.ColumnValue(atom=_atom(value))


def _atom(value: Atom) -> pb.Atom:
    if isinstance(value, bool):
        return pb.Atom(boolean=value)
    if isinstance(value, int):
        return pb.Atom(integer=value)
    return pb.Atom(real=value) if isinstance(value, float) else pb.Atom(text=value)


# ------------------------------------------------------------------------------------------- operations


def owners_of(*clusters: Cluster) -> dict[str, RowId]:
    """Owners of the desired rows of some states."""
    return {
        row_id.uuid: row_id for each in clusters for table in DESIRED.values() for row_id in each.engine.rows(table)
    }


class Operations(NamedTuple):
    """Those that the caller may read. ``is_redacted``: there are others."""

    found: tuple[Told, ...]
    owners: Owners
    is_redacted: bool

    def messages(self, limit: int) -> list[pb.RowOperation]:
        return [_operation(each, self.owners.get(each.uuid)) for each in self.found[:limit]]

    def counts(self) -> list[diff_pb2.RowCount]:
        numbers = Counter((each.table, VERBS[type(each)]) for each in self.found)
        return [
            diff_pb2.RowCount(table=table, verb=verb, operations=count)
            for (table, verb), count in sorted(numbers.items())
        ]


def reader_of(row_id: RowId | None) -> ObjectRef:
    """The object that whoever reads a row must be allowed to read: its owner, or the database as a whole where it
    belongs to nobody or tells of others' objects."""
    return NOBODY if row_id is None or row_id.tells_of_others else row_id.owner


def readable(operations: Iterable[Operation], owners: Owners, sees: Sees) -> Operations:
    """Operations on rows that ``sees`` holds for (``reader_of``)."""
    told = [each for each in operations if isinstance(each, Told)]
    found = tuple(each for each in told if sees(reader_of(owners.get(each.uuid))))
    return Operations(found=found, owners=owners, is_redacted=len(found) < len(told))


def _operation(operation: Told, owner: RowId | None) -> pb.RowOperation:
    columns: list[pb.Column] = []
    removed: list[pb.Column] = []
    match operation:
        case Insert() | Update():
            columns = _columns(operation.columns)
        case Mutate():
            added, gone = operation.insert or operation.keys, operation.delete or operation.drop
            columns = _columns({operation.column: added}) if added else []
            removed = _columns({operation.column: gone}) if gone else []
    return pb.RowOperation(
        verb=VERBS[type(operation)],
        table=operation.table,
        uuid=operation.uuid,
        owner=None if owner is None else _owner(owner),
        columns=columns,
        removed=removed,
    )


def object_changes(results: Iterable[Result]) -> list[diff_pb2.ObjectChange]:
    """What a request does to objects, without those that stay as they are."""
    return [
        diff_pb2.ObjectChange(reference=reference(each.ref), outcome=OUTCOMES[each.outcome])
        for each in results
        if each.outcome not in ("unchanged", "absent")
    ]


def change_plan(
    results: Iterable[Result], before: Snapshot, after: Cluster, schema: DatabaseSchema, *, sees: Sees
) -> diff_pb2.ChangePlan:
    """What a request would change. Costs a comparison of all rows: for a worker thread."""
    operations = row_operations(before.cluster, after, schema)
    found = readable(operations, owners_of(before.cluster, after), sees)
    return diff_pb2.ChangePlan(
        objects=object_changes(results),
        counts=found.counts(),
        operations=found.messages(MAX_OPERATIONS),
        is_complete=len(found.found) <= MAX_OPERATIONS,
        is_redacted=found.is_redacted,
    )
