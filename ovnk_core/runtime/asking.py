"""What can be asked of a control plane. Nothing here changes anything; answers are about the revision in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ovnk_core.cluster import Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import NotFound, ObjectError, SchemaError
from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.flows.listing import ListedFlow, list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.ingest.text import show
from ovnk_core.model.decision import Decisions, DnsDecision
from ovnk_core.model.object import Declared
from ovnk_core.model.tables import DNS_DECISION, OBJECT_TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.listing import ListedRow, list_rows
from ovnk_core.runtime.broadcast import Broadcast, Event, Watch
from ovnk_core.runtime.resolver import NameStatus, Resolver
from ovnk_core.terms.label import LabelSelector
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.topology.annotations import TOLD, Told
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine as TraceEngine
from ovnk_core.trace.tracer import Tracer

WATCH_BUFFER = 10_000
ROUTER_KIND = "Pod"
"""What egress routers are."""


class Asking:
    """The half of a control plane that answers. Whoever builds on it sets ``cluster``, ``_northbound``, ``_broadcast``,
    ``_tellings`` and ``_resolver``, and calls ``_advance`` with every delta."""

    cluster: Cluster
    _northbound: Northbound
    _broadcast: Broadcast
    _tellings: Broadcast
    _resolver: Resolver

    _unbuilt: tuple[ObjectRef, ...] = ()
    _flows: FlowTable | None = None
    _tracer: Tracer | None = None

    def _advance(self, delta: Delta) -> None:
        if self._flows is not None and delta:
            self._flows.advance(delta)
        self._tracer = None

    @property
    def revision(self) -> int:
        """Counts changes of objects, decisions or derived rows."""
        return self.cluster.engine.revision

    def get(self, kind: str, namespace: str, name: str) -> Declared:
        """One object in force. Raises NotFound."""
        found = self.cluster.get(ObjectRef(kind, namespace, name))
        if found is None:
            raise NotFound(f"{ObjectRef(kind, namespace, name)} does not exist")
        return found

    def list(
        self, kind: str, namespace: str | None = None, selector: LabelSelector | None = None
    ) -> tuple[Declared, ...]:
        """Objects of a kind in name order, optionally of one namespace or matching a label selector."""
        if kind not in OBJECT_TABLES:
            raise NotFound(f"no kind {kind}; known: {', '.join(OBJECT_TABLES)}")
        found = sorted(self.cluster.objects(kind).items())
        return tuple(
            item
            for key, item in found
            if (namespace is None or key.namespace == namespace)
            and (selector is None or selector.matches(dict(getattr(item, "labels", ()))))
        )

    def watch(self, kinds: Sequence[str] = (), *, buffer: int = WATCH_BUFFER) -> Watch:
        """A snapshot, ``synced``, then every change in revision order; ``resync`` and a new snapshot when too slow."""
        wanted = frozenset(kinds or OBJECT_TABLES)

        unknown = wanted - OBJECT_TABLES.keys()
        if unknown:
            raise NotFound(f"no kind {', '.join(sorted(unknown))}; known: {', '.join(OBJECT_TABLES)}")

        def snapshot() -> tuple[int, list[Event]]:
            found = [
                Event(revision=self.revision, type="put", ref=ObjectRef(kind, key.namespace, key.name), object=item)
                for kind in OBJECT_TABLES
                if kind in wanted
                for key, item in sorted(self.cluster.objects(kind).items())
            ]
            return self.revision, found

        return self._broadcast.watch(snapshot, wanted, buffer)

    def told(self, kind: str) -> Mapping[NamespacedName, Told]:
        """What every Node, or every Pod, is told: annotations to write back to it, ports and MTU. Raises NotFound."""
        if kind not in TOLD:
            raise NotFound(f"nothing is told to objects of kind {kind}; known: {', '.join(TOLD)}")
        return self.cluster.engine.rows(TOLD[kind])

    def routers(self) -> Mapping[NamespacedName, RouterPlan]:
        """What the network plug-in is to do in every egress router pod, by pod."""
        return self.cluster.engine.rows(ROUTER_PLAN)

    def watch_told(self, kinds: Sequence[str] = (), *, buffer: int = WATCH_BUFFER) -> Watch:
        """As ``watch``, of what objects are told. Raises NotFound."""
        wanted = tuple(dict.fromkeys(kinds or TOLD))
        for kind in wanted:
            self.told(kind)

        def snapshot() -> tuple[int, list[Event]]:
            found = [
                telling(self.revision, self.cluster, kind, key) for kind in wanted for key in sorted(self.told(kind))
            ]
            return self.revision, found

        return self._tellings.watch(snapshot, frozenset(wanted), buffer)

    async def trace(
        self, source: str, target: str, *, protocol: str = "tcp", port: int | None = None, engine: TraceEngine = "both"
    ) -> Answer:
        """What happens to a new connection. ``both`` asks objects and flows and raises Disagreement if they differ."""
        return self.tracer().ask(parse_question(source, target, protocol, port), engine)

    def tracer(self) -> Tracer:
        """Answers questions about the revision in force; not to be kept over an await."""
        if self._tracer is None:
            self._tracer = Tracer(Scene(self.cluster, self._unbuilt), self._flow_table)
        return self._tracer

    def _flow_table(self) -> FlowTable:
        if self._flows is None:
            self._flows = FlowTable(self.cluster.engine)
        return self._flows

    def rows(self) -> tuple[ListedRow, ...]:
        """Desired northbound rows with their owners."""
        return list_rows(self.cluster.engine, self._northbound.schema)

    def flows(self) -> tuple[ListedFlow, ...]:
        """Logical flows that northd will make of the desired rows."""
        return list_flows(self.cluster.engine, self._flow_table())

    @property
    def decisions(self) -> Decisions:
        """Everything decided so far."""
        return self.cluster.decisions

    @property
    def errors(self) -> tuple[ObjectError, ...]:
        """Why objects are refused, or wait for an address."""
        return self.cluster.errors

    def dns(self, name: str) -> DnsDecision:
        """What a DNS name stands for, with its history. Raises NotFound for one that never had an answer, SchemaError
        for what is no DNS name."""
        found = self.cluster.engine.rows(DNS_DECISION).get(name_of(name))
        if found is None:
            raise NotFound(f"{name} was never answered, or is named by no firewall")
        return found

    @property
    def dns_lookups(self) -> Counter[str]:
        """Questions that the resolver asked since it began, by outcome."""
        return self._resolver.lookups

    def dns_status(self) -> dict[str, NameStatus]:
        """Every wanted DNS name: when it is due, when it was last heard of, what failed."""
        return self._resolver.status()


def name_of(text: str) -> str:
    """A DNS name as manifests write it -> as it is kept. Raises SchemaError."""
    try:
        return dns_name(text).name
    except ValueError as reason:
        raise SchemaError(str(reason), kind="DnsName", path="name", value=show(text)) from None


def events_of(revision: int, delta: Delta) -> Iterable[Event]:
    """A delta's changes of declared objects, by kind and name."""
    for kind, table in OBJECT_TABLES.items():
        for key, (_, new) in sorted(delta.rows(table).items()):
            assert isinstance(key, NamespacedName)
            ref = ObjectRef(kind, key.namespace, key.name)
            yield Event(revision=revision, type="delete" if new is None else "put", ref=ref, object=new)


def tellings_of(revision: int, delta: Delta, cluster: Cluster) -> Iterable[Event]:
    """A delta's changes of what objects are told, by kind and name; ``cluster`` is as it is after them."""
    for kind, table in TOLD.items():
        changed = set(delta.rows(table))
        if kind == ROUTER_KIND:
            changed |= delta.rows(ROUTER_PLAN).keys()
        for key in sorted(changed):
            assert isinstance(key, NamespacedName)
            yield telling(revision, cluster, kind, key)


def telling(revision: int, cluster: Cluster, kind: str, key: NamespacedName) -> Event:
    """What one object is told as things are."""
    told = cluster.engine.rows(TOLD[kind]).get(key)
    return Event(
        revision=revision,
        type="delete" if told is None else "put",
        ref=ObjectRef(kind, key.namespace, key.name),
        told=told,
        router=cluster.engine.rows(ROUTER_PLAN).get(key) if kind == ROUTER_KIND else None,
    )
