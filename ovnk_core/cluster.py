"""The synchronous core: objects and decisions in, desired northbound rows out.

``Cluster`` owns one engine, one allocator and the book of who was refused. It does no I/O and never awaits:
``control_plane`` and the command line drive it. An ``apply`` is one engine transaction, all or nothing.

A refused object still exists. If an accepted version is known it stays in force; else a NetworkPolicy is replaced
by its blocked stand-in, and rows that another kind still has in the northbound are kept there as they are (``kept``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ovnk_core.allocate.loop import Allocator, Settled, placement
from ovnk_core.engine.engine import Engine
from ovnk_core.engine.table import Table
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import LimitError, ObjectError
from ovnk_core.ingest.outcome import Item, Loaded, Refused
from ovnk_core.ingest.parse_network import network_conflicts
from ovnk_core.ingest.position import SourceMap
from ovnk_core.model.cluster import ClusterNetwork, effective_network
from ovnk_core.model.decision import Decisions
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.object import Declared
from ovnk_core.model.tables import (
    CLUSTER,
    NETWORK,
    NETWORK_OPERATOR,
    NETWORK_POLICY,
    NODE,
    NODE_DECISION,
    OBJECT_TABLES,
    POD,
    POD_DECISION,
)
from ovnk_core.pipeline import PIPELINE
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import SETTINGS, Settings

Edits = dict[Table[Any, Any], dict[NamespacedName, Any]]
"""By table and key; a value of None deletes."""
NETWORK_KINDS = ("Network", "NetworkOperator")
V = TypeVar("V")


class Applied(Value, frozen=True, kw_only=True):
    """What an apply did: the net delta of every table, and the allocation errors that stand after it."""

    delta: Delta
    errors: tuple[ObjectError, ...]


class Cluster:
    """One cluster's objects, decisions and desired rows."""

    def __init__(
        self, *, settings: Settings | None = None, decisions: Decisions | None = None, check: bool = False
    ) -> None:
        self.engine = Engine(PIPELINE, inputs=tuple(OBJECT_TABLES.values()), check=check)
        self.refused: dict[ObjectRef, Refused] = {}
        self.sources: dict[ObjectRef, SourceMap] = {}
        self._recorded = decisions or Decisions()
        self._allocator: Allocator | None = None
        self._network: ClusterNetwork | None = None
        with self.engine.transaction() as txn:
            txn.put(SETTINGS, CLUSTER, settings or Settings())

    # ------------------------------------------------------------------ reading

    def get(self, ref: ObjectRef) -> Declared | None:
        table = OBJECT_TABLES.get(ref.kind)
        return None if table is None else self.engine.rows(table).get(ref.key)

    def objects(self, kind: str) -> Mapping[NamespacedName, Any]:
        return self.engine.rows(OBJECT_TABLES[kind])

    def count(self) -> int:
        """Objects in force, as declared: blocked stand-ins for refused ones do not count."""
        blocked = sum(1 for policy in self.engine.rows(NETWORK_POLICY).values() if policy.blocked)
        return sum(len(self.engine.rows(table)) for table in OBJECT_TABLES.values()) - blocked

    @property
    def network(self) -> ClusterNetwork:
        return self._network or effective_network(None, None)

    @property
    def decisions(self) -> Decisions:
        """Everything decided so far, ready to be recorded."""
        policies = self.engine.rows(NETWORK_POLICY)
        return Decisions(
            nodes={key.name: row for key, row in sorted(self.engine.rows(NODE_DECISION).items())},
            pods={str(key): row for key, row in sorted(self.engine.rows(POD_DECISION).items())},
            policies={str(key): row for key, row in sorted(policies.items()) if not row.blocked},
        )

    @property
    def kept(self) -> frozenset[ObjectRef]:
        """Refused objects that are not in force here: what the northbound holds of them must stay as it is."""
        return frozenset(ref for ref in self.refused if ref.kind != "NetworkPolicy" and self.get(ref) is None)

    @property
    def keeps_everything(self) -> bool:
        """The network configuration itself is refused: nothing can be derived, so nothing may be removed."""
        return any(ref.kind in NETWORK_KINDS and self.get(ref) is None for ref in self.refused)

    @property
    def errors(self) -> tuple[ObjectError, ...]:
        """Why objects are refused, at the door or by the allocator."""
        at_door = [error for refused in self.refused.values() for error in refused.errors]
        return (*at_door, *(self._allocator.errors.values() if self._allocator else ()))

    def copy(self) -> Cluster:
        """An independent cluster with the same objects and decisions, to try things on."""
        rows = self.engine.rows(SETTINGS)
        twin = Cluster(settings=rows[CLUSTER], decisions=self.decisions)
        twin.refused = dict(self.refused)
        items = [
            Item(ref=ref, value=value, source=self.sources.get(ref, SourceMap(file="object")))
            for kind, table in OBJECT_TABLES.items()
            for key, value in self.engine.rows(table).items()
            for ref in (ObjectRef(kind, key.namespace, key.name),)
        ]
        twin.apply(items)
        return twin

    # ------------------------------------------------------------------ writing

    def replace(self, loaded: Loaded) -> Applied:
        """Make ``loaded`` the whole truth: what it does not hold is deleted."""
        return _drain(self.replacing(loaded))

    def replacing(self, loaded: Loaded) -> Generator[None, None, Applied]:
        """``replace`` in slices of a few milliseconds."""
        present = {item.ref for item in loaded.items} | {refused.ref for refused in loaded.refused}
        gone = [ref for ref in self._refs() if ref not in present]
        return self.applying(loaded.items, gone, loaded.refused)

    def apply(
        self, put: Iterable[Item] = (), delete: Iterable[ObjectRef] = (), refused: Iterable[Refused] = ()
    ) -> Applied:
        """Add or change objects, remove others, and take note of refused ones."""
        return _drain(self.applying(put, delete, refused))

    def applying(
        self, put: Iterable[Item], delete: Iterable[ObjectRef], refused: Iterable[Refused]
    ) -> Generator[None, None, Applied]:
        """``apply`` in slices; nothing is in force before the generator ends."""
        put, delete, refused = tuple(put), tuple(delete), tuple(refused)
        edits: Edits = {}
        for item in put:
            edits.setdefault(OBJECT_TABLES[item.ref.kind], {})[item.ref.key] = item.value
        for ref in delete:
            if ref.kind in OBJECT_TABLES:
                edits.setdefault(OBJECT_TABLES[ref.kind], {})[ref.key] = None
        for policy in self._stand_ins(refused):
            edits.setdefault(NETWORK_POLICY, {})[policy.key] = policy
        put, refused = self._consistent(edits, put, refused)
        network = self._network_after(edits)
        settled = self._allocate(edits, network, refused)
        decided: Edits = {NODE_DECISION: settled.nodes, POD_DECISION: settled.pods}
        try:
            delta = yield from self.engine.load(
                (table, key, value)
                for part in (edits, decided)
                for table, rows in part.items()
                for key, value in rows.items()
            )
        except BaseException:
            self._allocator = None
            raise
        self._network = network
        self._note(put, delete, refused)
        return Applied(delta=delta, errors=tuple(settled.errors.values()))

    def _note(self, put: Iterable[Item], delete: Iterable[ObjectRef], refused: Iterable[Refused]) -> None:
        for item in put:
            self.sources[item.ref] = item.source
            self.refused.pop(item.ref, None)
        for ref in delete:
            self.sources.pop(ref, None)
            self.refused.pop(ref, None)
        for each in refused:
            self.refused[each.ref] = each

    def _refs(self) -> Iterator[ObjectRef]:
        for kind, table in OBJECT_TABLES.items():
            for key in self.engine.rows(table):
                yield ObjectRef(kind, key.namespace, key.name)
        yield from (ref for ref in self.refused if self.get(ref) is None)

    def _stand_ins(self, refused: Iterable[Refused]) -> Iterator[NetworkPolicy]:
        """Refused policies with nothing in force: the last accepted version on record, else the blocked stand-in."""
        for each in refused:
            if each.stand_in is None:
                continue
            current = self.engine.rows(NETWORK_POLICY).get(each.stand_in.key)
            if current is None or current.blocked:
                yield self._recorded.policies.get(str(each.stand_in.key)) or each.stand_in

    def _consistent(
        self, edits: Edits, put: tuple[Item, ...], refused: tuple[Refused, ...]
    ) -> tuple[tuple[Item, ...], tuple[Refused, ...]]:
        """Each Network kind is sound by itself; if they contradict each other together, the edit of them is refused."""
        touched = [item for item in put if item.ref.kind in NETWORK_KINDS]
        conflicts = network_conflicts(self._network_after(edits)) if touched else ()
        if not conflicts:
            return put, refused
        for item in touched:
            del edits[OBJECT_TABLES[item.ref.kind]][item.ref.key]
        errors = tuple(
            LimitError(conflict, kind="Network", name="cluster", source=str(touched[0].source))
            for conflict in conflicts
        )
        together = tuple(Refused(ref=item.ref, errors=errors, source=str(item.source)) for item in touched)
        return tuple(item for item in put if item not in touched), (*refused, *together)

    def _network_after(self, edits: Edits) -> ClusterNetwork:
        if self._network is not None and NETWORK not in edits and NETWORK_OPERATOR not in edits:
            return self._network
        return effective_network(
            self._after(edits, NETWORK).get(CLUSTER), self._after(edits, NETWORK_OPERATOR).get(CLUSTER)
        )

    def _after(self, edits: Edits, table: Table[NamespacedName, V]) -> Mapping[NamespacedName, V]:
        """A table as it will be after the edits, without copying what does not change."""
        rows = self.engine.rows(table)
        return _Layered(rows, edits[table]) if edits.get(table) else rows

    def _allocate(self, edits: Edits, network: ClusterNetwork, refused: tuple[Refused, ...]) -> Settled:
        nodes, pods = self._after(edits, NODE), self._after(edits, POD)
        if self._allocator is not None and network == self._network:
            before = self.engine.rows(POD)
            moved = [key for key, pod in edits.get(POD, {}).items() if placement(pod) != placement(before.get(key))]
            return self._allocator.settle(nodes, pods, changed_nodes=edits.get(NODE, {}), changed_pods=moved)
        recorded = self._recorded if self._network is None else self.decisions
        self._allocator = Allocator(network, recorded)
        kept = {each.ref for each in refused} | set(self.refused)
        settled = self._allocator.settle(
            nodes,
            pods,
            changed_nodes={*nodes, *self._absent(recorded.nodes, "Node", kept)},
            changed_pods={*pods, *self._absent(recorded.pods, "Pod", kept)},
        )
        missing = self._allocator.missing_from(self.engine.rows(NODE_DECISION), self.engine.rows(POD_DECISION))
        return Settled(
            nodes={**missing.nodes, **settled.nodes}, pods={**missing.pods, **settled.pods}, errors=settled.errors
        )

    @staticmethod
    def _absent(recorded: Iterable[str], kind: str, kept: set[ObjectRef]) -> Iterator[NamespacedName]:
        """Recorded owners, except refused ones: those keep what they were given."""
        for text in recorded:
            key = NamespacedName(*text.split("/", 1)) if "/" in text else NamespacedName("", text)
            if ObjectRef(kind, key.namespace, key.name) not in kept:
                yield key


class _Layered(Mapping[NamespacedName, V]):
    """A table with edits on top; None hides a row."""

    def __init__(self, below: Mapping[NamespacedName, V], edits: Mapping[NamespacedName, V | None]) -> None:
        self._below, self._edits = below, edits

    def __getitem__(self, key: NamespacedName) -> V:
        if key not in self._edits:
            return self._below[key]
        found = self._edits[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[NamespacedName]:
        yield from (key for key in self._below if key not in self._edits)
        yield from (key for key, value in self._edits.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _drain(steps: Generator[None, None, Applied]) -> Applied:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            applied: Applied = stop.value
            return applied
