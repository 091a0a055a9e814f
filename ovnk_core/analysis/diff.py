"""What an edit changes: rules of egress firewalls, connections, source addresses outside, and northbound rows.

``before`` and ``after`` are two states of one cluster: the second is the first with other objects, so that decisions
(addresses, subnets, accepted versions) are the ones an edit in place would find. ``edited`` makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ovnk_core.analysis.connections import Connection, compare_connections
from ovnk_core.analysis.firewall.overlap import Overlaps
from ovnk_core.analysis.firewall.points import kept
from ovnk_core.analysis.seen_sources import SourceChange, compare_sources
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import Reach
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.model.egress_firewall import EgressFirewall, rule_text
from ovnk_core.model.tables import EGRESS_FIREWALL, OBJECT_TABLES
from ovnk_core.nb.operation import Delete, Insert, Mutate, Operation, Update
from ovnk_core.nb.row import IPSEC_KEY
from ovnk_core.nb.schema import Atom, DatabaseSchema, Row
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.reconcile.diff import Desired, full
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.trace.scene import Scene

VERBS: dict[type[Value], str] = {Insert: "insert", Update: "update", Mutate: "mutate", Delete: "delete"}


class RuleChange(Value, frozen=True, kw_only=True):
    """One change to one firewall's list. ``change``: added, removed, moved, dead (no packet reaches it any more) or
    alive (again). ``before`` and ``after``: its index, None where it is not in the list; ``source``: where it is
    written, in the newer version if it is there. ``hidden_by``: indexes, after, of the rules that hide a dead one."""

    namespace: str
    change: str
    text: str
    before: int | None = None
    after: int | None = None
    source: str = ""
    hidden_by: tuple[int, ...] = ()


class RowChange(Value, frozen=True, kw_only=True):
    """How many operations of one verb one table would see."""

    table: str
    verb: str
    count: int


class ObjectChange(Value, frozen=True, kw_only=True):
    """What happens to one object: created, changed or deleted."""

    ref: ObjectRef
    outcome: str


class ClusterDiff(Value, frozen=True, kw_only=True):
    """Everything that differs. ``is_complete`` False: there may be more connections."""

    objects: tuple[ObjectChange, ...]
    rules: tuple[RuleChange, ...]
    connections: tuple[Connection, ...]
    sources: tuple[SourceChange, ...]
    operations: tuple[Operation, ...]
    is_complete: bool

    @property
    def is_empty(self) -> bool:
        return not (self.objects or self.rules or self.connections or self.sources or self.rows)

    @property
    def rows(self) -> tuple[RowChange, ...]:
        """The operations, counted."""
        counts = Counter(
            (each.table, VERBS[type(each)])
            for each in self.operations
            if isinstance(each, Insert | Update | Mutate | Delete)
        )
        return tuple(RowChange(table=name, verb=verb, count=count) for (name, verb), count in sorted(counts.items()))


def edited(before: Cluster, loaded: Loaded) -> Cluster:
    """The cluster after its whole source of truth became ``loaded``. ``before`` stays as it is."""
    after = before.copy()
    after.replace(loaded)
    # Told is where an edit leads: nothing is programmed here, so that what moves has to be confirmed by nobody.
    after.withdrawn(after.leaving)
    return after


def diff_clusters(before: Cluster, after: Cluster, schema: DatabaseSchema) -> ClusterDiff:
    """Compare two states of one cluster; ``schema``: of the northbound database the rows are for."""
    scenes = Scene(before), Scene(after)
    compared = compare_connections(*scenes)
    return ClusterDiff(
        objects=tuple(_objects(before, after)),
        rules=tuple(_rules(before, after)),
        connections=compared.connections,
        sources=compare_sources(*scenes),
        operations=row_operations(before, after, schema),
        is_complete=compared.is_complete,
    )


# ------------------------------------------------------------------------------------------- objects


def _objects(before: Cluster, after: Cluster) -> Iterator[ObjectChange]:
    for kind, table in OBJECT_TABLES.items():
        old, new = before.engine.rows(table), after.engine.rows(table)
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                outcome = "created" if key not in old else "changed" if key in new else "deleted"
                yield ObjectChange(ref=ObjectRef(kind, key.namespace, key.name), outcome=outcome)


# ------------------------------------------------------------------------------------------- rules


def _rules(before: Cluster, after: Cluster) -> Iterator[RuleChange]:
    old, new = before.engine.rows(EGRESS_FIREWALL), after.engine.rows(EGRESS_FIREWALL)
    for key in sorted(old.keys() | new.keys()):
        one, two = old.get(key), new.get(key)
        if one != two or before.network != after.network:
            yield from _Lists(before, after, key, one, two).changes()


class _Lists:
    """Two versions of one firewall."""

    def __init__(
        self,
        before: Cluster,
        after: Cluster,
        key: NamespacedName,
        old: EgressFirewall | None,
        new: EgressFirewall | None,
    ) -> None:
        self.key = key
        self.old, self.new = (each.rules if each is not None else () for each in (old, new))
        ref = ObjectRef("EgressFirewall", key.namespace, key.name)
        self._sources = before.sources.get(ref), after.sources.get(ref)
        self._overlaps = Overlaps(self.old, Reach(before.network)), Overlaps(self.new, Reach(after.network))

    def changes(self) -> Iterator[RuleChange]:
        """Removed, added, moved; then what died or came alive."""
        stayed, moved = kept(self.old, self.new)
        paired = dict(stayed) | dict(moved)
        for index in range(len(self.old)):
            if index not in paired:
                yield self._change("removed", index, None)
        for index in sorted(set(range(len(self.new))) - set(paired.values())):
            yield self._change("added", None, index)
        for place, index in moved:
            yield self._change("moved", place, index)
        dead_before, dead_after = (_dead(each) for each in self._overlaps)
        origin = {after: before for before, after in paired.items()}
        for index in range(len(self.new)):
            was = origin.get(index)
            was_dead = was is not None and was in dead_before
            if index in dead_after and not was_dead:
                yield self._change("dead", was, index, self._overlaps[1].hiders(index).rules)
            elif was_dead and index not in dead_after:
                yield self._change("alive", was, index)

    def _change(
        self, change: str, before: int | None, after: int | None, hidden_by: tuple[int, ...] = ()
    ) -> RuleChange:
        index, side = (before, 0) if after is None else (after, 1)
        assert index is not None
        source = self._sources[side]
        return RuleChange(
            namespace=self.key.namespace,
            change=change,
            text=rule_text((self.old, self.new)[side][index]),
            before=before,
            after=after,
            source=source.at("spec", "egress", index) if source is not None else "",
            hidden_by=hidden_by,
        )


def _dead(overlaps: Overlaps) -> set[int]:
    """Rules that decide nothing, hidden or never asked."""
    nowhere = {index for index in range(len(overlaps.rules)) if not overlaps.is_somewhere(index)}
    return nowhere | set(overlaps.shadowed())


# ------------------------------------------------------------------------------------------- rows


def row_operations(before: Cluster, after: Cluster, schema: DatabaseSchema) -> tuple[Operation, ...]:
    """The one transaction that would turn the rows of one state into those of the other."""
    return full(Desired(after.engine, schema), _as_actual(before, schema)).operations


def _as_actual(before: Cluster, schema: DatabaseSchema) -> dict[str, dict[str, Row]]:
    """The desired rows of a state as if a database held them."""
    desired = Desired(before.engine, schema)
    members = desired.members()
    found: dict[str, dict[str, Row]] = {}
    for row_id, row in desired.rows():
        columns = desired.columns.scalars(row_id, row) | desired.columns.sets(row_id, members)
        found.setdefault(row_id.table, {})[row_id.uuid] = columns
    keys = desired.global_keys()
    found[GLOBAL_TABLE] = {"": {"external_ids": dict[Atom, Atom](keys.items()), "ipsec": IPSEC_KEY in keys}}
    return found
