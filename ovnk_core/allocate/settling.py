"""The allocator of one cluster: kept in step with an engine's tables, and made anew where they changed under it.

An allocator knows what it gave out. When the networks change, or decisions came from elsewhere, it is forgotten; the
next one starts from what the tables hold, and the first one also from what was on record before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from ovnk_core.allocate.loop import Allocator, Settled, placement
from ovnk_core.engine.engine import Engine
from ovnk_core.engine.table import Table
from ovnk_core.errors import ObjectError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import Decisions
from ovnk_core.model.tables import NODE, NODE_DECISION, POD, POD_DECISION, SERVICE, SERVICE_DECISION
from ovnk_core.terms.name import NamespacedName, ObjectRef

Edits = dict[Table[Any, Any], dict[NamespacedName, Any]]
"""By table and key; a value of None deletes."""
V = TypeVar("V")


class Settling:
    """``recorded``: decisions from before this process."""

    def __init__(self, engine: Engine, recorded: Decisions) -> None:
        self._engine, self._recorded = engine, recorded
        self._allocator: Allocator | None = None
        self._network: ClusterNetwork | None = None
        self._has_decided = False

    @property
    def errors(self) -> Mapping[ObjectRef, ObjectError]:
        """Who could not be served, and why."""
        return self._allocator.errors if self._allocator is not None else {}

    @property
    def has_nodes(self) -> bool | None:
        """Whether some node has a subnet; None while nothing is known."""
        return self._allocator.has_nodes if self._allocator is not None else None

    def forget(self) -> None:
        """What the tables hold was not given out here."""
        self._allocator = None

    def settle(self, edits: Edits, network: ClusterNetwork, kept: set[ObjectRef]) -> Settled:
        """What must be decided so that ``edits`` can be in force. ``kept``: refused owners keep what they have."""
        nodes, pods, services = (after(self._engine, edits, table) for table in (NODE, POD, SERVICE))
        if self._allocator is not None and network == self._network:
            before = self._engine.rows(POD)
            moved = [key for key, pod in edits.get(POD, {}).items() if placement(pod) != placement(before.get(key))]
            settled = self._allocator.settle(nodes, pods, changed_nodes=edits.get(NODE, {}), changed_pods=moved)
            served = self._allocator.settle_services(
                nodes, services, changed_nodes=edits.get(NODE, {}), changed_services=edits.get(SERVICE, {})
            )
            return replace(settled, services=served, errors=self._allocator.errors)
        recorded = self._remembered()
        self._allocator, self._network = Allocator(network, recorded), network
        settled = self._allocator.settle(
            nodes,
            pods,
            changed_nodes={*nodes, *_absent(recorded.nodes, "Node", kept)},
            changed_pods={*pods, *_absent(recorded.pods, "Pod", kept)},
        )
        served = self._allocator.settle_services(
            nodes,
            services,
            changed_nodes=nodes,
            changed_services={*services, *_absent(recorded.services, "Service", kept)},
        )
        self._has_decided = True
        rows = self._engine.rows
        missing = self._allocator.missing_from(rows(NODE_DECISION), rows(POD_DECISION), rows(SERVICE_DECISION))
        return Settled(
            nodes={**missing.nodes, **settled.nodes},
            pods={**missing.pods, **settled.pods},
            services={**missing.services, **served},
            errors=self._allocator.errors,
        )

    def _remembered(self) -> Decisions:
        rows, before = self._engine.rows, Decisions() if self._has_decided else self._recorded
        return Decisions(
            nodes={**before.nodes, **{key.name: row for key, row in rows(NODE_DECISION).items()}},
            pods={**before.pods, **{str(key): row for key, row in rows(POD_DECISION).items()}},
            services={**before.services, **{str(key): row for key, row in rows(SERVICE_DECISION).items()}},
        )


def _absent(recorded: Iterable[str], kind: str, kept: set[ObjectRef]) -> Iterator[NamespacedName]:
    """Recorded owners, except those that keep what they were given."""
    for text in recorded:
        key = NamespacedName(*text.split("/", 1)) if "/" in text else NamespacedName("", text)
        if ObjectRef(kind, key.namespace, key.name) not in kept:
            yield key


def after(engine: Engine, edits: Edits, table: Table[NamespacedName, V]) -> Mapping[NamespacedName, V]:
    """A table as it will be after the edits, without copying what does not change."""
    rows = engine.rows(table)
    return _Layered(rows, edits[table]) if edits.get(table) else rows


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
