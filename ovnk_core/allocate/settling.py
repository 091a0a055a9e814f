"""The allocator of one cluster: kept in step with an engine's tables, and made anew where they changed under it.

An allocator knows what it gave out. When the networks change, or decisions came from elsewhere, it is forgotten; the
next one starts from what the tables hold, and the first one also from what was on record before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from ovnk_core.allocate.egress_ip import Leaving
from ovnk_core.allocate.egress_node import EgressNode, egress_node
from ovnk_core.allocate.loop import Allocator, Settled, placement
from ovnk_core.engine.engine import Engine
from ovnk_core.engine.table import Table
from ovnk_core.errors import ObjectError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import Decisions
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.model.tables import (
    CLUSTER,
    EGRESS_IP,
    EGRESS_IP_DECISION,
    INFRASTRUCTURE,
    NODE,
    NODE_DECISION,
    NODE_HEALTH,
    POD,
    POD_DECISION,
    SERVICE,
    SERVICE_DECISION,
)
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import SETTINGS
from ovnk_core.topology.platform import platform_of

Edits = dict[Table[Any, Any], dict[NamespacedName, Any]]
"""By table and key; a value of None deletes."""
V = TypeVar("V")
HEALTHY = NodeHealth()


class Wish(Value, frozen=True, kw_only=True):
    """What is asked of the allocator besides following the objects. ``withdrawn``: egress IPs that no northbound holds
    any more; ``is_rebalancing``: spread them evenly, now; ``health``: what is heard of nodes."""

    withdrawn: Leaving = {}
    health: Mapping[NamespacedName, NodeHealth] = {}
    is_rebalancing: bool = False


NOTHING = Wish()


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

    def settle(self, edits: Edits, network: ClusterNetwork, kept: set[ObjectRef], wish: Wish = NOTHING) -> Settled:
        """What must be decided so that ``edits`` can be in force. ``kept``: refused owners keep what they have."""
        nodes, pods, services = (after(self._engine, edits, table) for table in (NODE, POD, SERVICE))
        edits = edits | {NODE_HEALTH: self._health(wish, nodes, edits.get(NODE, {}))}
        if self._allocator is None or network != self._network:
            return self._begin(edits, network, kept, wish)
        before = self._engine.rows(POD)
        moved = [key for key, pod in edits.get(POD, {}).items() if placement(pod) != placement(before.get(key))]
        settled = self._allocator.settle(nodes, pods, changed_nodes=edits.get(NODE, {}), changed_pods=moved)
        served = self._allocator.settle_services(
            nodes, services, changed_nodes=edits.get(NODE, {}), changed_services=edits.get(SERVICE, {})
        )
        changed_nodes = {*edits.get(NODE, {}), *edits.get(NODE_HEALTH, {}), *settled.nodes}
        egress_ips = self._settle_egress_ips(edits, edits.get(EGRESS_IP, {}), changed_nodes, wish)
        return replace(
            settled, services=served, egress_ips=egress_ips, health=edits[NODE_HEALTH], errors=self._allocator.errors
        )

    def _health(
        self, wish: Wish, nodes: Mapping[NamespacedName, Node], changed: Iterable[NamespacedName]
    ) -> dict[NamespacedName, NodeHealth | None]:
        """What changes of what is recorded: of a node that is well, or gone, nothing is."""
        recorded = self._engine.rows(NODE_HEALTH)
        gone: dict[NamespacedName, NodeHealth | None] = {
            key: None for key in changed if key not in nodes and key in recorded
        }
        heard = {key: None if each == HEALTHY else each for key, each in wish.health.items() if key in nodes}
        return gone | {key: each for key, each in heard.items() if recorded.get(key) != each}

    def _begin(self, edits: Edits, network: ClusterNetwork, kept: set[ObjectRef], wish: Wish) -> Settled:
        """With an allocator made anew, which is told of everything."""
        nodes, pods, services = (after(self._engine, edits, table) for table in (NODE, POD, SERVICE))
        egress_ips = after(self._engine, edits, EGRESS_IP)
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
        changed_egress_ips = {*egress_ips, *_absent(recorded.egress_ips, "EgressIP", kept)}
        placed = self._settle_egress_ips(edits, changed_egress_ips, nodes, wish)
        self._has_decided = True
        rows = self._engine.rows
        missing = self._allocator.missing_from(
            rows(NODE_DECISION), rows(POD_DECISION), rows(SERVICE_DECISION), rows(EGRESS_IP_DECISION)
        )
        heard = (key.name for key in rows(NODE_HEALTH))
        unheard: dict[NamespacedName, NodeHealth | None] = dict.fromkeys({*_absent(heard, "Node", kept)} - nodes.keys())
        return Settled(
            nodes={**missing.nodes, **settled.nodes},
            pods={**missing.pods, **settled.pods},
            services={**missing.services, **served},
            egress_ips={**missing.egress_ips, **placed},
            health={**unheard, **edits[NODE_HEALTH]},
            errors=self._allocator.errors,
        )

    def _settle_egress_ips(
        self,
        edits: Edits,
        changed: Iterable[NamespacedName],
        changed_nodes: Iterable[NamespacedName],
        wish: Wish,
    ) -> dict[NamespacedName, EgressIPDecision | None]:
        assert self._allocator is not None and self._network is not None
        nodes, health, objects = (after(self._engine, edits, table) for table in (NODE, NODE_HEALTH, EGRESS_IP))
        settings = self._engine.rows(SETTINGS)[CLUSTER]
        seen: dict[str, EgressNode | None] = {}
        for key in changed_nodes:
            is_there = key in nodes and self._allocator.has_place(key)
            found = egress_node(nodes[key], health.get(key, HEALTHY), self._network, settings) if key in nodes else None
            seen[key.name] = found if found is None or is_there else replace(found, subnets=(), assumed=())
        platform = platform_of(settings, after(self._engine, edits, INFRASTRUCTURE).get(CLUSTER))
        allocator = self._allocator.egress_ips
        found_changes = allocator.settle(objects, changed, seen, platform)
        if wish.withdrawn:
            found_changes |= allocator.withdrawn(objects, wish.withdrawn)
        # What is leaving will weigh on some node again: evening out the rest meanwhile would move too much.
        if wish.is_rebalancing or (settings.rebalances_egress_ips and not allocator.leaving):
            found_changes |= allocator.rebalance(objects)
        return found_changes

    @property
    def leaving(self) -> Leaving:
        """Egress IPs whose withdrawal nobody has confirmed yet."""
        if self._allocator is not None:
            return self._allocator.egress_ips.leaving
        return {key: each.leaving for key, each in self._engine.rows(EGRESS_IP_DECISION).items() if each.leaving}

    @property
    def imbalance(self) -> Mapping[tuple[NamespacedName, Address], str]:
        """Egress IPs that would move so that loads are even, by object and address, and where to."""
        return self._allocator.egress_ips.imbalance if self._allocator is not None else {}

    @property
    def loads(self) -> dict[str, int]:
        """Egress IPs on each node that may hold any."""
        return self._allocator.egress_ips.loads if self._allocator is not None else {}

    def _remembered(self) -> Decisions:
        rows, before = self._engine.rows, Decisions() if self._has_decided else self._recorded
        return Decisions(
            nodes={**before.nodes, **{key.name: row for key, row in rows(NODE_DECISION).items()}},
            pods={**before.pods, **{str(key): row for key, row in rows(POD_DECISION).items()}},
            services={**before.services, **{str(key): row for key, row in rows(SERVICE_DECISION).items()}},
            egress_ips={**before.egress_ips, **{key.name: row for key, row in rows(EGRESS_IP_DECISION).items()}},
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
