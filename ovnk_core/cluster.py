"""The synchronous core: objects and decisions in, desired northbound rows out.

``Cluster`` owns one engine, one allocator and the book of who was refused. It does no I/O and never awaits:
``control_plane`` and the command line drive it. An ``apply`` is one engine transaction, all or nothing.

A refused object still exists: its accepted version, in force or on record, stays; without one it fails closed (a policy
isolates and allows nothing, a namespace is matched by no selector, a pod or node has no port). Of a file that cannot be
read nobody knows what it holds, so as long as there is one, everything on record stays and nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from ovnk_core.admission import NETWORK_KINDS, inadmissible, network_after
from ovnk_core.allocate.egress_ip import Leaving
from ovnk_core.allocate.loop import Settled
from ovnk_core.allocate.settling import NOTHING, Edits, Settling, Wish
from ovnk_core.engine.engine import Engine
from ovnk_core.engine.table import Table
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import ObjectError
from ovnk_core.features.egress_firewall.compile import ALL, DNS_NAME
from ovnk_core.ingest.outcome import UNREADABLE, Item, Loaded, Refused, fails_closed
from ovnk_core.ingest.position import SourceMap
from ovnk_core.model.cluster import ClusterNetwork, InstallDecision, effective_network
from ovnk_core.model.decision import Decisions, DnsDecision
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.manifest import is_recorded
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.object import Declared
from ovnk_core.model.tables import (
    CLUSTER,
    DECISION_TABLES,
    DNS_DECISION,
    EGRESS_IP_DECISION,
    INSTALL_DECISION,
    NETWORK,
    NETWORK_OPERATOR,
    NODE_DECISION,
    NODE_HEALTH,
    OBJECT_TABLES,
    POD_DECISION,
    SERVICE_DECISION,
    cluster_key,
)
from ovnk_core.pipeline import PIPELINE
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import SETTINGS, Settings

DecisionEdits = Mapping[Table[Any, Any], Mapping[Any, Any]]
"""By decision table and key; a value of None forgets."""


class Applied(Value, frozen=True, kw_only=True):
    """What an apply did: the net delta of every table, and who waits for the allocator after it."""

    delta: Delta
    errors: dict[ObjectRef, ObjectError]


class Cluster:
    """One cluster's objects, decisions and desired rows."""

    is_deciding = True
    """False for a replica: decisions are made elsewhere and come by ``decide``; until then their owner has none."""

    def __init__(
        self, *, settings: Settings | None = None, decisions: Decisions | None = None, check: bool = False
    ) -> None:
        self.engine = Engine(PIPELINE, inputs=(*OBJECT_TABLES.values(), *DECISION_TABLES), check=check)
        self.refused: dict[ObjectRef, Refused] = {}
        self.sources: dict[ObjectRef, SourceMap] = {}
        self._recorded = decisions or Decisions()
        self._settling = Settling(self.engine, self._recorded)
        self._network: ClusterNetwork | None = None
        with self.engine.transaction() as txn:
            txn.put(SETTINGS, CLUSTER, settings or Settings())
            for name, answered in self._recorded.dns.items():
                txn.put(DNS_DECISION, name, answered)
            for name, health in self._recorded.health.items():
                txn.put(NODE_HEALTH, cluster_key(name), health)
            if installed := _installed(self._recorded):
                txn.put(INSTALL_DECISION, CLUSTER, installed)

    # ------------------------------------------------------------------ reading

    def get(self, ref: ObjectRef) -> Declared | None:
        table = OBJECT_TABLES.get(ref.kind)
        return None if table is None else self.engine.rows(table).get(ref.key)

    def objects(self, kind: str) -> Mapping[NamespacedName, Any]:
        return self.engine.rows(OBJECT_TABLES[kind])

    def count(self) -> int:
        """Objects in force, as declared: blocked stand-ins for refused ones do not count."""
        return sum(
            not _is_stand_in(item) for table in OBJECT_TABLES.values() for item in self.engine.rows(table).values()
        )

    @property
    def network(self) -> ClusterNetwork:
        return self._network or effective_network(None, None)

    @property
    def dns_names(self) -> frozenset[str]:
        """Every DNS name that some rule names, wildcards included."""
        return frozenset(self.engine.members(DNS_NAME, ALL))

    @property
    def decisions(self) -> Decisions:
        """Everything decided so far, ready to be recorded."""
        return _decisions(
            {kind: self.engine.rows(table) for kind, table in OBJECT_TABLES.items()},
            {table: self.engine.rows(table) for table in DECISION_TABLES},
        )

    @property
    def installed(self) -> InstallDecision | None:
        """What cannot be changed any more; None while the cluster has no node."""
        return self.engine.rows(INSTALL_DECISION).get(CLUSTER)

    @property
    def keeps_everything(self) -> bool:
        """The network configuration itself is refused: nothing can be derived, so nothing may be removed."""
        return any(ref.kind in NETWORK_KINDS and self.get(ref) is None for ref in self.refused)

    @property
    def problems(self) -> dict[ObjectRef, tuple[ObjectError, ...]]:
        """By object: why it is refused at the door, or waits for the allocator."""
        found = {ref: refused.errors for ref, refused in self.refused.items()}
        for ref, error in self._settling.errors.items():
            found[ref] = (*found.get(ref, ()), self._located(ref, error))
        return found

    @property
    def errors(self) -> tuple[ObjectError, ...]:
        """Every problem, flat."""
        return tuple(error for errors in self.problems.values() for error in errors)

    def _located(self, ref: ObjectRef, error: ObjectError) -> ObjectError:
        source = self.sources.get(ref)
        return error if error.source or source is None else error.at(str(source))

    def copy(self) -> Cluster:
        """An independent cluster with the same objects and decisions, to try things on."""
        return self.copying()()

    def copying(self) -> Callable[[], Cluster]:
        """The inputs as they are now, as a function that builds the copy; it may be called once, later, in any thread.

        Costs a shallow copy of the input tables.
        """
        settings = self.engine.rows(SETTINGS)[CLUSTER]
        objects = {kind: dict(self.engine.rows(table)) for kind, table in OBJECT_TABLES.items()}
        decided = {table: dict(self.engine.rows(table)) for table in DECISION_TABLES}
        refused, sources, is_deciding = dict(self.refused), dict(self.sources), self.is_deciding

        def build() -> Cluster:
            twin = Cluster(settings=settings, decisions=_decisions(objects, decided))
            twin.refused, twin.is_deciding = refused, is_deciding
            unknown = SourceMap(file="object")
            twin.apply(
                Item(ref=ref, value=value, source=sources.get(ref, unknown))
                for kind, rows in objects.items()
                for key, value in rows.items()
                for ref in (ObjectRef(kind, key.namespace, key.name),)
            )
            if not is_deciding:
                twin.decide(decided)
            return twin

        return build

    # ------------------------------------------------------------------ writing

    def replace(self, loaded: Loaded) -> Applied:
        """Make ``loaded`` the whole truth: what it does not hold is deleted."""
        return _drain(self.replacing(loaded))

    def replacing(self, loaded: Loaded) -> Generator[None, None, Applied]:
        """``replace`` in slices of a few milliseconds."""
        present = {item.ref for item in loaded.items} | {refused.ref for refused in loaded.refused}
        refused = list(loaded.refused)
        gone = [ref for ref in self._refs() if ref not in present]
        if any(each.may_be_anything for each in refused):
            gone = [ref for ref in gone if ref.kind in UNREADABLE]
            refused += [Refused(ref=ref, errors=()) for ref in self._recorded.accepted if ref not in present]
        return self.applying(loaded.items, gone, refused)

    def apply(
        self, put: Iterable[Item] = (), delete: Iterable[ObjectRef] = (), refused: Iterable[Refused] = ()
    ) -> Applied:
        """Add or change objects, remove others, and take note of refused ones."""
        return _drain(self.applying(put, delete, refused))

    def applying(
        self, put: Iterable[Item], delete: Iterable[ObjectRef], refused: Iterable[Refused], wish: Wish = NOTHING
    ) -> Generator[None, None, Applied]:
        """``apply`` in slices; nothing is in force before the generator ends."""
        put, delete, refused = tuple(put), tuple(delete), tuple(refused)
        if faults := self.inadmissible(put):
            refused += tuple(
                Refused(
                    ref=item.ref, errors=faults[item.ref], stand_in=fails_closed(item.value), source=str(item.source)
                )
                for item in put
                if item.ref in faults
            )
            put = tuple(item for item in put if item.ref not in faults)
        edits: Edits = {}
        for item in put:
            edits.setdefault(OBJECT_TABLES[item.ref.kind], {})[item.ref.key] = item.value
        for ref in delete:
            if ref.kind in OBJECT_TABLES:
                edits.setdefault(OBJECT_TABLES[ref.kind], {})[ref.key] = None
        for kind, stand_in in self._stand_ins(refused):
            edits.setdefault(OBJECT_TABLES[kind], {})[stand_in.key] = stand_in
        network = self._network_after(edits)
        settled = self._settle(edits, network, refused, wish)
        installs = self._installs(network)
        decided: Edits = {INSTALL_DECISION: installs, NODE_DECISION: settled.nodes, POD_DECISION: settled.pods}
        decided |= {SERVICE_DECISION: settled.services, EGRESS_IP_DECISION: settled.egress_ips}
        decided[NODE_HEALTH] = settled.health
        try:
            delta = yield from self.engine.load(
                (table, key, value)
                for part in (edits, decided)
                for table, rows in part.items()
                for key, value in rows.items()
            )
        except BaseException:
            self._settling.forget()
            raise
        self._network = network
        if installs:
            self._reconsider_network()
        self._note(put, delete, refused)
        return Applied(delta=delta, errors=settled.errors)

    @property
    def leaving(self) -> Leaving:
        """Egress IPs withdrawn from their nodes that may still be in a northbound, by object: to be given to
        ``withdrawn`` when the rows as they are now are Programmed. None while nothing would be programmed."""
        return self._settling.leaving if self.is_deciding and not self.keeps_everything else {}

    @property
    def imbalance(self) -> Mapping[tuple[NamespacedName, Address], str]:
        """Egress IPs that ``rebalance`` would move, by object and address, and the node each would come to if nothing
        else changed; empty for a replica."""
        return self._settling.imbalance

    @property
    def egress_loads(self) -> dict[str, int]:
        """Egress IPs on each node that may hold any, by name; empty for a replica."""
        return self._settling.loads

    def withdrawn(self, leaving: Leaving) -> Applied:
        """These egress IPs are in no northbound any more, so they are placed anew where that is possible."""
        return _drain(self.applying((), (), (), Wish(withdrawn=leaving)))

    def rebalance(self) -> Applied:
        """Spread the egress IPs over the nodes with the fewest moves. Those that move are withdrawn first."""
        return _drain(self.applying((), (), (), Wish(is_rebalancing=True)))

    def report(self, health: Mapping[str, NodeHealth]) -> Applied:
        """What was heard of nodes, by name, beside their Ready condition. Of a node that is not there nothing is."""
        return _drain(
            self.applying((), (), (), Wish(health={cluster_key(name): each for name, each in health.items()}))
        )

    def decide_dns(self, decisions: Mapping[str, DnsDecision | None]) -> Applied:
        """Record what DNS names stand for now, in one transaction; None forgets a name. Nothing else is touched."""
        return self.decide({DNS_DECISION: decisions})

    def decide(self, decisions: DecisionEdits) -> Applied:
        """Take over decisions that were made elsewhere, in one transaction; None forgets one."""
        if any(table is not DNS_DECISION and rows for table, rows in decisions.items()):
            self._settling.forget()
        with self.engine.transaction() as txn:
            for table, rows in decisions.items():
                for key, decision in rows.items():
                    if decision is None:
                        txn.delete(table, key)
                    else:
                        txn.put(table, key, decision)
        if decisions.get(INSTALL_DECISION):
            self._reconsider_network()
        return Applied(delta=txn.delta, errors={})

    def deciding(self) -> Generator[None, None, Applied]:
        """Begin to decide: what is in force but has no decision gets one, what is decided for nobody is dropped."""
        self.is_deciding = True
        self._settling.forget()
        return self.applying((), (), tuple(self.refused.values()))

    def _installs(self, network: ClusterNetwork) -> dict[NamespacedName, InstallDecision | None]:
        """A cluster is installed with its first node, and no more with its last: what changes of that."""
        has_nodes = self._settling.has_nodes
        if has_nodes is None or has_nodes == (self.installed is not None):
            return {}
        chosen = InstallDecision(hybrid=network.hybrid, has_ipsec=network.has_ipsec)
        return {CLUSTER: chosen if has_nodes else None}

    def _settle(self, edits: Edits, network: ClusterNetwork, refused: tuple[Refused, ...], wish: Wish) -> Settled:
        if not self.is_deciding:
            self._settling.forget()
            return Settled(nodes={}, pods={}, errors={})
        kept = {each.ref for each in refused} | set(self.refused)
        return self._settling.settle(edits, network, kept, wish)

    def _reconsider_network(self) -> None:
        before, self._network = self._network, None
        self._network = self._network_after({})
        if before != self._network:
            self._settling.forget()

    def _note(self, put: Iterable[Item], delete: Iterable[ObjectRef], refused: Iterable[Refused]) -> None:
        for item in put:
            self.sources[item.ref] = item.source
            self.refused.pop(item.ref, None)
        for ref in delete:
            self.sources.pop(ref, None)
            self.refused.pop(ref, None)
        self.refused.update({each.ref: each for each in refused if each.errors})

    def _refs(self) -> Iterator[ObjectRef]:
        for kind, table in OBJECT_TABLES.items():
            for key in self.engine.rows(table):
                yield ObjectRef(kind, key.namespace, key.name)
        yield from (ref for ref in self.refused if self.get(ref) is None)

    def _stand_ins(self, refused: Iterable[Refused]) -> Iterator[tuple[str, Declared]]:
        """(kind, object) for refused objects with nothing in force: the version on record, else what fails closed."""
        for each in refused:
            kind = each.ref.kind
            current = self.get(each.ref)
            if kind not in OBJECT_TABLES or (current is not None and not _is_stand_in(current)):
                continue
            stand_in = self._recorded.accepted.get(each.ref) or each.stand_in
            if stand_in is None and kind == "Namespace":
                stand_in = Namespace(name=each.ref.name, is_blocked=True)
            if stand_in is not None:
                yield kind, stand_in

    def inadmissible(self, put: Iterable[Item]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
        """Why objects that are sound by themselves cannot be accepted here (``admission``)."""
        return inadmissible(self.engine, put)

    def _network_after(self, edits: Edits) -> ClusterNetwork:
        if self._network is not None and NETWORK not in edits and NETWORK_OPERATOR not in edits:
            return self._network
        return network_after(self.engine, edits)


def _installed(recorded: Decisions) -> InstallDecision | None:
    """A record with nodes that says nothing of the installation is older than hybrid networking here."""
    return recorded.install or (InstallDecision() if recorded.nodes else None)


def _decisions(objects: Mapping[str, Mapping[NamespacedName, Any]], decided: DecisionEdits) -> Decisions:
    """Objects by kind, and decisions by table, as what is to be recorded; blocked stand-ins were never accepted."""
    return Decisions(
        install=decided[INSTALL_DECISION].get(CLUSTER),
        nodes={key.name: row for key, row in sorted(decided[NODE_DECISION].items())},
        pods={str(key): row for key, row in sorted(decided[POD_DECISION].items())},
        services={str(key): row for key, row in sorted(decided[SERVICE_DECISION].items())},
        egress_ips={key.name: row for key, row in sorted(decided[EGRESS_IP_DECISION].items())},
        health={key.name: row for key, row in sorted(decided[NODE_HEALTH].items())},
        dns=dict(sorted(decided[DNS_DECISION].items())),
        accepted={
            ObjectRef(kind, key.namespace, key.name): item
            for kind, rows in objects.items()
            for key, item in sorted(rows.items())
            if not _is_stand_in(item) and is_recorded(item)
        },
    )


def _is_stand_in(item: Declared) -> bool:
    """Whether it only holds the place of a refused object."""
    if isinstance(item, NetworkPolicy | EgressFirewall):
        return bool(item.blocked)
    return isinstance(item, Namespace) and item.is_blocked


def _drain(steps: Generator[None, None, Applied]) -> Applied:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            applied: Applied = stop.value
            return applied
