"""The front door for library users: declare objects, ask questions, and the northbound follows.

    async with ControlPlane(MemoryNorthbound()) as plane:
        result = await plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}])
        await plane.wait(result.revision)
        answer = await plane.trace("shop/web", "shop/db:5432")

A request is all or nothing: one refused object refuses the batch and changes nothing. A *source of truth* (a folder,
an API server) is stated with ``replace``: there a refused object keeps its last accepted version, or fails closed.

One task writes to the northbound; applies only tell it that there is something to do, so a slow database holds up
nobody and any number of applies become one transaction. Nothing here is global: several planes may live in one
process. Every method may be cancelled at any await; what was accepted stays accepted, and leaving the block gives it
``timeout_s`` to reach the northbound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec.structs import replace

from ovnk_core.allocate.egress_ip import Leaving
from ovnk_core.allocate.settling import HEALTHY, Wish
from ovnk_core.cluster import Applied, Cluster, DecisionEdits
from ovnk_core.errors import (
    GuardError,
    NotFound,
    ObjectError,
    OvnkError,
    SouthError,
    TurnLost,
)
from ovnk_core.features.egress_firewall.compile import DNS_NAME
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Item, Loaded, Refused
from ovnk_core.kernels.layering import warm
from ovnk_core.model.decision import Decisions, DnsAnswer, DnsDecision
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL, NODE, NODE_HEALTH, cluster_key
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
from ovnk_core.reconcile.diff import Difference
from ovnk_core.reconcile.recall import recall
from ovnk_core.runtime.asking import Asking, events_of, name_of, tellings_of
from ovnk_core.runtime.broadcast import Broadcast
from ovnk_core.runtime.programmer import Programmer, Stage
from ovnk_core.runtime.reachability import Prober, ProberSettings, probed_nodes
from ovnk_core.runtime.receipt import Receipt, Result, receipt_of, remarks_of
from ovnk_core.runtime.recorded import decided_in, decisions_of, merged, over
from ovnk_core.runtime.resolver import Resolver, ResolverSettings
from ovnk_core.runtime.scope import leave
from ovnk_core.runtime.writer import Flushed, Writer
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, Settings

Record = Callable[[DecisionEdits], Awaitable[None]]
RETRY_S = 1.0
LARGE_LIST = 1_000
"""Rules of an egress firewall from which on an edit is worth compiled code."""


class ControlPlane(Asking):
    """One cluster, one northbound. Use as an async context manager.

    ``writes`` False only reads: ``pending`` tells what would be written. ``adopt`` takes over foreign rows that hold
    our names, ``allow_prune`` lifts the mass-deletion guard, ``timeout_s`` bounds one transaction. ``decisions`` are
    recorded ones to start from; what the northbound remembers is added to them. ``resolver`` says whom to ask for DNS
    names; without it they stand for what is on record and what ``push_dns`` brings. ``prober`` says how nodes that may
    hold egress IPs are asked whether they answer; without it they do unless ``report_reachability`` says otherwise.

    ``record`` makes decisions durable before rows rest on them; with it the plane is a replica: it neither decides nor
    writes before ``work`` is called, and ``decide`` brings what others decided.
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
        resolver: ResolverSettings | None = None,
        prober: ProberSettings | None = None,
        record: Record | None = None,
    ) -> None:
        self._northbound, self._settings, self._writes, self._record = northbound, settings, writes, record
        self._timeout_s, self._resolving, self._probing = timeout_s, resolver, prober
        self._recorded = decisions or Decisions()
        self._adopt, self._allow_prune = adopt, allow_prune
        self._broadcast, self._tellings, self._lock = Broadcast(), Broadcast(), anyio.Lock(fast_acquire=True)
        self._edits_large_lists = anyio.Event()
        self._unrecorded: DecisionEdits = {}
        self._recording = anyio.Lock(fast_acquire=True)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._northbound.connect(mirrored(), timeout_s=self._timeout_s)
        self._exit.push_async_callback(self._northbound.close)
        try:
            # What is kept in a store is newer than rows that were made from it.
            recalled = self._recall()
            recorded = merged(self._recorded, recalled) if self._record is None else merged(recalled, self._recorded)
            self.cluster = Cluster(settings=self._fitting_settings(), decisions=recorded)
            self.cluster.is_deciding = self._record is None
            self._writer = Writer(
                self.cluster,
                self._northbound,
                adopt=self._adopt,
                allow_prune=self._allow_prune,
                timeout_s=self._timeout_s,
            )
            self._programmer = Programmer(
                self._writer, self._northbound, self._lock, self.record_decisions, self._withdraw
            )
            self._resolver = self._new_resolver(recorded.dns)
            if self._writes and self._record is None:
                tasks: TaskGroup = await self._exit.enter_async_context(anyio.create_task_group())
                self._exit.callback(tasks.cancel_scope.cancel)
                tasks.start_soon(self._run)
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None and self._writes and self._record is None and self._programmer.served.failure is None:
            with anyio.move_on_after(self._timeout_s), suppress(OvnkError):
                await self._programmer.wait(None, "nb", timeout_s=None)
        self._broadcast.close()
        self._tellings.close()
        await leave(self._exit, kind, error, at)

    # ------------------------------------------------------------------ working

    def _fitting_settings(self) -> Settings:
        """The settings, less what the northbound's schema cannot hold."""
        settings = self._settings or Settings()
        is_known = settings.has_template_variables and self._northbound.schema.has("Chassis_Template_Var")
        return replace(settings, has_template_variables=is_known)

    def _new_resolver(self, recorded: Mapping[str, DnsDecision]) -> Resolver:
        return Resolver(self._resolving, recorded, network=lambda: self.cluster.network, publish=self._decide_dns)

    def _new_prober(self, settings: ProberSettings) -> Prober:
        rows = self.cluster.engine.rows
        return Prober(
            settings,
            targets=lambda: probed_nodes(rows(NODE), rows(NODE_PLACE)),
            recorded=lambda: {key.name: each.is_reachable for key, each in rows(NODE_HEALTH).items()},
            publish=self.report_reachability,
        )

    async def _run(self, turn: int | None = None) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._programmer.run, turn)
            if self._resolving is None or self._resolving.keeps_asking:
                tasks.start_soon(self._resolver.run)
            if self._probing is not None:
                tasks.start_soon(self._new_prober(self._probing).run)
            tasks.start_soon(self._warm_up)

    async def work(self, turn: int) -> None:
        """A replica's turn: decide, record and write until cancelled. Waits for a northbound that cannot be reached.

        Raises TurnLost or Superseded when a later turn has begun.
        """
        while True:
            try:
                await self._writer.take_turn(turn)
                break
            except TurnLost:
                raise
            except SouthError as error:
                self._programmer.written.fail(error)
                await anyio.sleep(error.retry_after_s or RETRY_S)
        async with self._lock:
            self._resolver = self._new_resolver(self.cluster.engine.rows(DNS_DECISION))
            self._committed(await self._drive(self.cluster.deciding()))
            self._resolver.want(self.cluster.dns_names)
        try:
            await self._run(turn)
        finally:
            self.cluster.is_deciding = False

    async def record_decisions(self) -> None:
        """Until nothing is decided that is not recorded; what fails to be recorded stays to be recorded."""
        async with self._recording:
            while self._record is not None and self._unrecorded:
                edits, self._unrecorded = self._unrecorded, {}
                try:
                    await self._record(edits)
                except BaseException:
                    self._unrecorded = over(edits, self._unrecorded)
                    raise

    async def take(
        self, put: Iterable[Item] = (), gone: Iterable[ObjectRef] = (), refused: Iterable[Refused] = ()
    ) -> Applied:
        """Take over what was accepted elsewhere."""
        async with self._lock:
            applied = await self._drive(self.cluster.applying(put, gone, refused))
            self._committed(applied)
        return applied

    async def decide(self, decisions: DecisionEdits) -> None:
        """Take over what was decided elsewhere."""
        async with self._lock:
            self._committed(self.cluster.decide(decisions), is_recorded=True)

    def forget_unrecorded(self) -> DecisionEdits:
        """Decisions that never became durable, which are not to be any more."""
        edits, self._unrecorded = self._unrecorded, {}
        return edits

    # ------------------------------------------------------------------ declaring

    async def apply(self, objects: Iterable[Mapping[str, Any]]) -> Receipt:
        """Add or change objects, given as manifests. All are accepted, or none is and nothing changes."""
        loaded = parse_objects(objects)
        async with self._lock:
            refused = self._refusals(loaded)
            if refused:
                accepted = [Result(ref=item.ref) for item in loaded.items if item.ref not in refused]
                results = (*accepted, *(Result(ref=ref, errors=errors) for ref, errors in refused.items()))
                return Receipt(revision=self.revision, results=results, warnings=remarks_of(loaded))
            self._unbuilt = tuple(sorted({*self._unbuilt, *loaded.unbuilt}))
            applied = await self._drive(self.cluster.applying(loaded.items, (), ()))
            self._committed(applied)
        return receipt_of(self.cluster, loaded)

    def _refusals(self, loaded: Loaded) -> dict[ObjectRef, tuple[ObjectError, ...]]:
        """Why a request is refused, by object: at the door, or by what else is in force."""
        refused: dict[ObjectRef, tuple[ObjectError, ...]] = {each.ref: each.errors for each in loaded.refused}
        return refused | self.cluster.inadmissible(loaded.items)

    async def delete(self, refs: Iterable[ObjectRef]) -> Receipt:
        """Remove objects. Raises NotFound (and removes nothing) when one is not there."""
        gone = tuple(refs)
        async with self._lock:
            self._require(gone)
            self._unbuilt = tuple(ref for ref in self._unbuilt if ref not in gone)
            self._committed(await self._drive(self.cluster.applying((), gone, ())))
        return Receipt(revision=self.revision, results=tuple(Result(ref=ref) for ref in gone))

    def _require(self, refs: Iterable[ObjectRef]) -> None:
        """Raise NotFound for the first object that is neither in force, refused nor of a kind not built yet."""
        for ref in refs:
            if self.cluster.get(ref) is None and ref not in self.cluster.refused and ref not in self._unbuilt:
                raise NotFound(f"{ref} does not exist")

    async def replace(self, loaded: Loaded) -> Receipt:
        """Make a source of truth's content the whole truth. Refused objects stay in force as last accepted."""
        async with self._lock:
            self._unbuilt = loaded.unbuilt
            self._committed(await self._drive(self.cluster.replacing(loaded)))
        return receipt_of(self.cluster, loaded)

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

    def _committed(self, applied: Applied, *, is_recorded: bool = False) -> None:
        """Everything that follows an accepted change, with no await in between."""
        delta = applied.delta
        if self._record is not None and not is_recorded:
            self._unrecorded = over(self._unrecorded, decided_in(delta))
        self._programmer.note(delta, self.revision)
        self._advance(delta)
        if delta.sets(DNS_NAME) or delta.rows(CLUSTER_NETWORK):
            self._resolver.want(self.cluster.dns_names)
        if any(old and new and len(new.rules) > LARGE_LIST for old, new in delta.rows(EGRESS_FIREWALL).values()):
            self._edits_large_lists.set()
        self._broadcast.send(events_of(self.revision, delta))
        self._tellings.send(tellings_of(self.revision, delta, self.cluster))

    # ------------------------------------------------------------------ egress IPs

    async def _wish(self, wish: Wish | Callable[[], Wish]) -> int:
        async with self._lock:
            wished = wish if isinstance(wish, Wish) else wish()
            self._committed(await self._drive(self.cluster.applying((), (), (), wished)))
        return self.revision

    async def _withdraw(self, leaving: Leaving) -> None:
        await self._wish(Wish(withdrawn=leaving))

    async def rebalance_egress_ips(self) -> int:
        """Spread them evenly over their nodes with the fewest moves; the revision that withdraws those that move."""
        return await self._wish(Wish(is_rebalancing=True))

    async def report_health(self, health: Mapping[str, NodeHealth]) -> int:
        """What was heard of nodes, by name; the revision to wait for. Raises NotFound for what is no node."""
        self._require(ObjectRef("Node", "", name) for name in health)
        return await self._wish(Wish(health={cluster_key(name): each for name, each in health.items()}))

    async def report_reachability(self, heard: Mapping[str, bool]) -> int:
        """Whether nodes answer, by name, and nothing else of them; as ``report_health``."""
        return await self._heard({name: {"is_reachable": each} for name, each in heard.items()})

    async def drain_node(self, name: str, *, is_drained: bool = True) -> int:
        """Take a node's egress IPs off it and give it none, or (``is_drained`` False) again some; as
        ``report_health``."""
        return await self._heard({name: {"is_drained": is_drained}})

    async def _heard(self, changes: Mapping[str, Mapping[str, bool]]) -> int:
        self._require(ObjectRef("Node", "", name) for name in changes)
        known = self.cluster.engine.rows(NODE_HEALTH)

        def wish() -> Wish:
            keys = {cluster_key(name): change for name, change in changes.items()}
            return Wish(health={key: replace(known.get(key, HEALTHY), **change) for key, change in keys.items()})

        return await self._wish(wish)

    # ------------------------------------------------------------------ DNS names

    async def _decide_dns(self, decisions: Mapping[str, DnsDecision | None]) -> None:
        async with self._lock:
            self._committed(self.cluster.decide_dns(decisions))

    async def push_dns(self, answer: DnsAnswer) -> int:
        """What a resolver feed knows of a name (a wildcard too), complete; the revision to wait for. Raises SchemaError
        for what is no DNS name."""
        await self._resolver.push(replace(answer, name=name_of(answer.name)))
        return self.revision

    async def resolve_dns(self, deadline_s: float) -> None:
        """Ask for every name of every firewall now, for at most ``deadline_s`` seconds: for commands that run once."""
        await self._resolver.resolve_once(sorted(self.cluster.dns_names), deadline_s)

    # ------------------------------------------------------------------ trying

    def pending(self) -> Difference:
        """What is not in the northbound yet, compared in full. Raises Conflict."""
        return self._writer.difference()

    def plan(
        self, objects: Iterable[Mapping[str, Any]] = (), delete: Iterable[ObjectRef] = ()
    ) -> tuple[Receipt, Difference]:
        """What an apply would do, without doing it: per-object results and operations. Costs a copy of the cluster."""
        loaded, gone = parse_objects(objects), tuple(delete)
        self._require(gone)
        refused = self._refusals(loaded)
        twin = self.cluster.copy()
        if not refused:
            twin.apply(loaded.items, gone, ())
        writer = Writer(twin, self._northbound, adopt=self._adopt, allow_prune=True)
        results = [Result(ref=item.ref) for item in loaded.items if item.ref not in refused]
        results += [Result(ref=ref, errors=errors) for ref, errors in refused.items()]
        receipt = Receipt(revision=self.revision, results=tuple(results), warnings=remarks_of(loaded))
        return receipt, writer.difference()

    # ------------------------------------------------------------------ following

    @property
    def programmer(self) -> Programmer:
        """What writes to the northbound, and how far it is."""
        return self._programmer

    async def wait(self, revision: int | None = None, stage: Stage = "nb", *, timeout_s: float | None = None) -> None:
        """Until ``revision`` (by default all that was asked for so far) is in the northbound, taken up by northd, or on
        every chassis.

        Raises what stopped the writer (Conflict, GuardError, Rejected), TimeoutError, or Unreachable when no chassis
        is registered that could acknowledge ``hv``.
        """
        await self._programmer.wait(revision, stage, timeout_s=timeout_s)

    @property
    def last_flush(self) -> Flushed:
        """What the last transaction did."""
        return self._programmer.last_flush

    @property
    def operations(self) -> Counter[str]:
        """By verb, of every transaction so far."""
        return self._programmer.operations

    async def _warm_up(self) -> None:
        """Whoever edits large firewalls will do so again: load the compiled layering in a thread, once."""
        await self._edits_large_lists.wait()
        await anyio.to_thread.run_sync(warm, abandon_on_cancel=True)

    async def purge(self) -> dict[str, int]:
        """Remove exactly our rows from the northbound; operations by verb. For a plane that does not write."""
        if self._writes:
            raise GuardError("this plane would put purged rows back: open it with writes=False to purge")
        async with self._lock:
            return await self._writer.purge()

    # ------------------------------------------------------------------ remembering

    def _recall(self) -> Decisions:
        return decisions_of(recall({table: self._northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}))
