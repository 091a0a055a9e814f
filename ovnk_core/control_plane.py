"""The front door for library users: declare objects, ask questions, and the northbound follows.

    async with ControlPlane(MemoryNorthbound()) as plane:
        result = await plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}])
        await plane.wait(result.revision)
        answer = await plane.trace("shop/web", "shop/db:5432")

A request is all or nothing: one refused object refuses the batch and changes nothing. A *source of truth* (a folder,
an API server) is stated with ``replace``: there a refused object keeps its last accepted version, or fails closed.

One task writes to the northbound; applies only tell it that there is something to do, so a slow database holds up
nobody and any number of applies become one transaction. Nothing here is global: several planes may live in one
process. Every method may be cancelled at any await; what was accepted stays accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Literal, Self

import anyio
from anyio.abc import TaskGroup

from ovnk_core.cluster import Applied, Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import NotFound, ObjectError, OvnkError, Rejected, SouthError, UnknownOutcome, Unreachable
from ovnk_core.features.network_policy.rules import ACCEPTED_KEY
from ovnk_core.flows.listing import ListedFlow, list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.decisions import accepted_texts
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.model.decision import Decisions
from ovnk_core.model.object import Declared
from ovnk_core.model.tables import OBJECT_TABLES
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
from ovnk_core.reconcile.diff import Difference
from ovnk_core.reconcile.listing import ListedRow, list_rows
from ovnk_core.reconcile.recall import Recalled, recall
from ovnk_core.runtime.broadcast import Broadcast, Event, Progress
from ovnk_core.runtime.writer import Flushed, Writer
from ovnk_core.terms.label import LabelSelector
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NODE_ID_KEY, Settings
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine as TraceEngine
from ovnk_core.trace.tracer import Tracer

Stage = Literal["nb", "sb", "hv"]
WATCH_BUFFER = 10_000
READ_BACK_S = 0.1


class Result(Value, frozen=True, kw_only=True):
    """What became of one object of a batch."""

    ref: ObjectRef
    errors: tuple[ObjectError, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return not self.errors


class Receipt(Value, frozen=True, kw_only=True):
    """``revision`` to wait for; unchanged when the batch was refused. ``results`` in the order of the batch."""

    revision: int
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return all(result.is_accepted for result in self.results)


class ControlPlane:
    """One cluster, one northbound. Use as an async context manager.

    ``writes`` False only reads: ``pending`` tells what would be written. ``adopt`` takes over foreign rows that hold
    our names, ``allow_prune`` lifts the mass-deletion guard, ``timeout_s`` bounds one transaction. ``decisions`` are
    recorded ones to start from; what the northbound remembers is added to them.
    """

    def __init__(
        self,
        northbound: Northbound,
        *,
        settings: Settings | None = None,
        decisions: Decisions | None = None,
        adopt: bool = False,
        allow_prune: bool = False,
        writes: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self._northbound, self._settings, self._writes = northbound, settings, writes
        self._timeout_s = timeout_s
        self._recorded = decisions or Decisions()
        self._adopt, self._allow_prune = adopt, allow_prune
        self._broadcast, self._written = Broadcast(), Progress()
        self._lock = anyio.Lock()
        self._wake = anyio.Event()
        self._exit = AsyncExitStack()
        self._unbuilt: tuple[ObjectRef, ...] = ()
        self._flows: FlowTable | None = None
        self._tracer: Tracer | None = None
        self.last_flush = Flushed(operations={}, rows_owned=0, rows_foreign=0)

    async def __aenter__(self) -> Self:
        await self._northbound.connect(mirrored())
        self._exit.push_async_callback(self._northbound.close)
        try:
            recorded = _merge(self._recorded, self._recall())
            self.cluster = Cluster(settings=self._settings, decisions=recorded)
            self._writer = Writer(
                self.cluster,
                self._northbound,
                adopt=self._adopt,
                allow_prune=self._allow_prune,
                timeout_s=self._timeout_s,
            )
            if self._writes:
                tasks: TaskGroup = await self._exit.enter_async_context(anyio.create_task_group())
                self._exit.callback(tasks.cancel_scope.cancel)
                tasks.start_soon(self._write)
                tasks.start_soon(self._repair)
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, at)

    # ------------------------------------------------------------------ declaring

    @property
    def revision(self) -> int:
        """Counts changes of objects, decisions or derived rows."""
        return self.cluster.engine.revision

    async def apply(self, objects: Iterable[Mapping[str, Any]]) -> Receipt:
        """Add or change objects, given as manifests. All are accepted, or none is and nothing changes."""
        loaded = parse_objects(objects)
        refused = {each.ref: each.errors for each in loaded.refused}
        if refused:
            accepted = [Result(ref=item.ref) for item in loaded.items]
            results = [*accepted, *(Result(ref=ref, errors=errors) for ref, errors in refused.items())]
            return Receipt(revision=self.revision, results=tuple(results), warnings=_texts(loaded))
        async with self._lock:
            self._unbuilt = tuple(sorted({*self._unbuilt, *loaded.unbuilt}))
            applied = await self._drive(self.cluster.applying(loaded.items, (), ()))
            self._committed(applied)
        return Receipt(
            revision=self.revision,
            results=tuple(Result(ref=item.ref) for item in loaded.items),
            warnings=_texts(loaded),
        )

    async def delete(self, refs: Iterable[ObjectRef]) -> Receipt:
        """Remove objects. Raises NotFound (and removes nothing) when one is not there."""
        gone = tuple(refs)
        async with self._lock:
            for ref in gone:
                if self.cluster.get(ref) is None:
                    raise NotFound(f"{ref} does not exist")
            self._committed(await self._drive(self.cluster.applying((), gone, ())))
        return Receipt(revision=self.revision, results=tuple(Result(ref=ref) for ref in gone))

    async def replace(self, loaded: Loaded) -> Receipt:
        """Make a source of truth's content the whole truth. Refused objects stay in force as last accepted."""
        async with self._lock:
            self._unbuilt = loaded.unbuilt
            self._committed(await self._drive(self.cluster.replacing(loaded)))
        refused = [Result(ref=each.ref, errors=each.errors) for each in loaded.refused]
        accepted = [Result(ref=item.ref) for item in loaded.items]
        return Receipt(revision=self.revision, results=(*accepted, *refused), warnings=_texts(loaded))

    @staticmethod
    async def _drive(steps: Generator[None, None, Applied]) -> Applied:
        """Run a long apply in slices so that the event loop breathes. Cancelled half-way, nothing is in force."""
        try:
            while True:
                try:
                    next(steps)
                except StopIteration as stop:
                    applied: Applied = stop.value
                    return applied
                await anyio.sleep(0)
        finally:
            steps.close()

    def _committed(self, applied: Applied) -> None:
        """Everything that follows an accepted change, with no await in between."""
        delta = applied.delta
        self._writer.note(delta)
        if self._flows is not None and delta:
            self._flows.advance(delta)
        self._tracer = None
        self._broadcast.send(_events(self.revision, delta))
        self._wake.set()

    # ------------------------------------------------------------------ asking

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

    def watch(self, kinds: Sequence[str] = (), *, buffer: int = WATCH_BUFFER) -> AsyncIterator[Event]:
        """A snapshot, ``synced``, then every change in revision order; ``resync`` and a new snapshot when too slow."""
        wanted = frozenset(kinds or OBJECT_TABLES)

        def snapshot() -> tuple[int, list[Event]]:
            found = [
                Event(revision=self.revision, type="put", ref=ObjectRef(kind, key.namespace, key.name), object=item)
                for kind in OBJECT_TABLES
                if kind in wanted
                for key, item in sorted(self.cluster.objects(kind).items())
            ]
            return self.revision, found

        async def events() -> AsyncIterator[Event]:
            async for event in self._broadcast.subscribe(snapshot, buffer):
                if event.ref is None or event.ref.kind in wanted:
                    yield event

        return events()

    async def trace(
        self, source: str, target: str, *, protocol: str = "tcp", port: int | None = None, engine: TraceEngine = "both"
    ) -> Answer:
        """What happens to a new connection. ``both`` asks objects and flows and raises Disagreement if they differ."""
        if self._tracer is None:
            self._tracer = Tracer(Scene(self.cluster, self._unbuilt), self._flow_table)
        return self._tracer.ask(parse_question(source, target, protocol, port), engine)

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

    def pending(self) -> Difference:
        """What is not in the northbound yet, compared in full. Raises Conflict."""
        return self._writer.difference()

    def plan(
        self, objects: Iterable[Mapping[str, Any]] = (), delete: Iterable[ObjectRef] = ()
    ) -> tuple[Receipt, Difference]:
        """What an apply would do, without doing it: per-object results and operations. Costs a copy of the cluster."""
        loaded = parse_objects(objects)
        twin = self.cluster.copy()
        twin.apply(loaded.items if not loaded.refused else (), delete, ())
        writer = Writer(twin, self._northbound, adopt=self._adopt, allow_prune=True)
        results = [Result(ref=item.ref) for item in loaded.items]
        results += [Result(ref=each.ref, errors=each.errors) for each in loaded.refused]
        receipt = Receipt(revision=self.revision, results=tuple(results), warnings=_texts(loaded))
        return receipt, writer.difference()

    @property
    def decisions(self) -> Decisions:
        """Everything decided so far."""
        return self.cluster.decisions

    @property
    def errors(self) -> tuple[ObjectError, ...]:
        """Why objects are refused, or wait for an address."""
        return self.cluster.errors

    # ------------------------------------------------------------------ following

    async def wait(self, revision: int | None = None, stage: Stage = "nb", *, timeout_s: float | None = None) -> None:
        """Until ``revision`` (now, by default) is in the northbound, translated by northd, or on every chassis.

        Raises what stopped the writer (Conflict, GuardError, Rejected), TimeoutError, or Unreachable when no chassis
        is registered that could acknowledge ``hv``.
        """
        target = self.revision if revision is None else revision
        await self._written.wait(target, timeout_s)
        if stage == "nb":
            return
        with anyio.fail_after(timeout_s if timeout_s is not None else float("inf")):
            changes = self._northbound.changes()
            async with self._lock:
                number = await self._writer.bump(timeout_s or 30.0)
            column = f"{stage}_cfg"
            while not self._acknowledged(column, number):
                await anext(changes)
        if stage == "hv" and not self._global("hv_cfg_timestamp"):
            raise Unreachable("no chassis is registered, so nobody can acknowledge hv")

    def _acknowledged(self, column: str, number: int) -> bool:
        value = self._global(column)
        return isinstance(value, int) and value >= number

    def _global(self, column: str) -> Any:
        return next((row.get(column) for row in self._northbound.rows(GLOBAL_TABLE).values()), None)

    async def _write(self) -> None:
        """The one task that sends. A failure is kept for whoever waits; what can be retried is retried."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await self._flush()

    async def _flush(self) -> None:
        is_unknown = False
        while True:
            async with self._lock:
                revision = self.revision
                try:
                    with anyio.CancelScope(shield=True):
                        self.last_flush = await self._writer.flush()
                except SouthError as error:
                    failure, delay = error, error.retry_after_s
                except OvnkError as error:
                    self._written.fail(error)
                    return
                else:
                    self._written.advance(revision)
                    return
            if isinstance(failure, Rejected) and is_unknown:
                # What we sent before was committed after all: compared with a current mirror nothing is left to do.
                is_unknown, delay = False, READ_BACK_S
            elif delay is None:
                self._written.fail(failure)
                return
            else:
                is_unknown = is_unknown or isinstance(failure, UnknownOutcome)
            await anyio.sleep(delay)

    async def _repair(self) -> None:
        """Somebody else changed rows of ours: put them back."""
        async for changes in self._northbound.changes():
            if self._written.reached >= 0 and self._writer.drifted(changes):
                self._writer.repairs += 1
                self._writer.doubt()
                self._wake.set()

    async def purge(self) -> dict[str, int]:
        """Remove exactly our rows from the northbound; operations by verb."""
        async with self._lock:
            return await self._writer.purge()

    # ------------------------------------------------------------------ remembering

    def _recall(self) -> Decisions:
        actual = {table: self._northbound.rows(table) for table in TABLES}
        return decisions_of(recall(actual, accepted_key=ACCEPTED_KEY, node_id_key=NODE_ID_KEY))


def decisions_of(recalled: Recalled) -> Decisions:
    """Recalled rows as decisions."""
    policies = accepted_texts(recalled.policies.values())
    return Decisions(nodes=recalled.nodes, pods=recalled.pods, policies=policies)


def _merge(first: Decisions, second: Decisions) -> Decisions:
    """``second`` (the northbound) wins: it is what is in force."""
    return Decisions(
        nodes={**first.nodes, **second.nodes},
        pods={**first.pods, **second.pods},
        policies={**first.policies, **second.policies},
    )


def _texts(loaded: Loaded) -> tuple[str, ...]:
    return tuple(f"{warning.source}: {warning.text}" for warning in loaded.warnings)


def _events(revision: int, delta: Delta) -> Iterable[Event]:
    for kind, table in OBJECT_TABLES.items():
        for key, (_, new) in sorted(delta.rows(table).items()):
            assert isinstance(key, NamespacedName)
            ref = ObjectRef(kind, key.namespace, key.name)
            yield Event(revision=revision, type="delete" if new is None else "put", ref=ref, object=new)
