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
from collections.abc import Generator, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec.structs import replace

from ovnk_core.cluster import Applied, Cluster
from ovnk_core.errors import (
    GuardError,
    NotFound,
    ObjectError,
    OvnkError,
    Rejected,
    SouthError,
    Unreachable,
)
from ovnk_core.features.egress_firewall.compile import DNS_NAME
from ovnk_core.ingest.decisions import accepted_texts
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.kernels.layering import warm
from ovnk_core.model.decision import Decisions, DnsAnswer, DnsDecision
from ovnk_core.model.tables import EGRESS_FIREWALL
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
from ovnk_core.reconcile.diff import Difference
from ovnk_core.reconcile.recall import Recalled, recall
from ovnk_core.runtime.asking import Asking, events_of, name_of
from ovnk_core.runtime.broadcast import Broadcast, Progress
from ovnk_core.runtime.receipt import Receipt, Result, receipt_of, remarks_of
from ovnk_core.runtime.resolver import Resolver, ResolverSettings
from ovnk_core.runtime.writer import Flushed, Writer
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.place import CLUSTER_NETWORK, Settings

Stage = Literal["nb", "sb", "hv"]
READ_BACK_S = 0.1
LARGE_LIST = 1_000
"""Rules of an egress firewall from which on an edit is worth compiled code."""


class ControlPlane(Asking):
    """One cluster, one northbound. Use as an async context manager.

    ``writes`` False only reads: ``pending`` tells what would be written. ``adopt`` takes over foreign rows that hold
    our names, ``allow_prune`` lifts the mass-deletion guard, ``timeout_s`` bounds one transaction. ``decisions`` are
    recorded ones to start from; what the northbound remembers is added to them. ``resolver`` says whom to ask for DNS
    names; without it they stand for what is on record and what ``push_dns`` brings.
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
    ) -> None:
        self._northbound, self._settings, self._writes = northbound, settings, writes
        self._timeout_s, self._resolving = timeout_s, resolver
        self._recorded = decisions or Decisions()
        self._adopt, self._allow_prune = adopt, allow_prune
        self._broadcast, self._written, self._served = Broadcast(), Progress(), Progress()
        self._requests = -1
        self._lock = anyio.Lock()
        self._wake, self._edits_large_lists = anyio.Event(), anyio.Event()
        self._exit = AsyncExitStack()
        self.last_flush = Flushed(operations={}, rows_owned=0, rows_foreign=0)
        self.operations = Counter[str]()
        """By verb, of every flush so far."""

    async def __aenter__(self) -> Self:
        await self._northbound.connect(mirrored(), timeout_s=self._timeout_s)
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
            self._resolver = Resolver(
                self._resolving, recorded.dns, network=lambda: self.cluster.network, publish=self._decide_dns
            )
            if self._writes:
                tasks: TaskGroup = await self._exit.enter_async_context(anyio.create_task_group())
                self._exit.callback(tasks.cancel_scope.cancel)
                tasks.start_soon(self._write)
                tasks.start_soon(self._repair)
                if self._resolving is None or self._resolving.keeps_asking:
                    tasks.start_soon(self._resolver.run)
                tasks.start_soon(self._warm_up)
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None and self._writes and self._served.failure is None:
            with anyio.move_on_after(self._timeout_s), suppress(OvnkError):
                await self._served.wait(self._requests)
        self._broadcast.close()
        try:
            await self._exit.__aexit__(kind, error, at)
        except BaseExceptionGroup as group:
            # The task group wraps whatever ended the block; a caller's own exception goes on as it is.
            alone = group.exceptions[0] if len(group.exceptions) == 1 else None
            if alone is None:
                raise
            if alone is not error:
                raise alone from None

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

    def _committed(self, applied: Applied) -> None:
        """Everything that follows an accepted change, with no await in between."""
        delta = applied.delta
        self._writer.note(delta)
        self._advance(delta)
        if delta.sets(DNS_NAME) or delta.rows(CLUSTER_NETWORK):
            self._resolver.want(self.cluster.dns_names)
        if any(old and new and len(new.rules) > LARGE_LIST for old, new in delta.rows(EGRESS_FIREWALL).values()):
            self._edits_large_lists.set()
        self._broadcast.send(events_of(self.revision, delta))
        self._requests += 1
        for progress in (self._written, self._served):
            progress.failure = None
        self._wake.set()

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

    async def wait(self, revision: int | None = None, stage: Stage = "nb", *, timeout_s: float | None = None) -> None:
        """Until ``revision`` (by default all that was asked for so far) is in the northbound, taken up by northd, or on
        every chassis.

        Raises what stopped the writer (Conflict, GuardError, Rejected), TimeoutError, or Unreachable when no chassis
        is registered that could acknowledge ``hv``.
        """
        if revision is None:
            await self._served.wait(self._requests, timeout_s)
        else:
            await self._written.wait(revision, timeout_s)
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
        is_second_look = False
        while True:
            async with self._lock:
                revision, requests = self.revision, self._requests
                try:
                    with anyio.CancelScope(shield=True):
                        self.last_flush = await self._writer.flush()
                    self.operations.update(self.last_flush.operations)
                except SouthError as error:
                    failure, delay = error, error.retry_after_s
                except OvnkError as error:
                    self._fail(error)
                    return
                else:
                    self._written.advance(revision)
                    self._served.advance(requests)
                    return
            if isinstance(failure, Rejected) and not is_second_look:
                # Most likely the mirror was behind: what we sent before was committed after all, or another writer was
                # faster. Compared with a current mirror, what is left is a real refusal.
                is_second_look, delay = True, READ_BACK_S
            if delay is None:
                self._fail(failure)
                return
            await anyio.sleep(delay)

    def _fail(self, error: OvnkError) -> None:
        for progress in (self._written, self._served):
            progress.fail(error)

    async def _warm_up(self) -> None:
        """Whoever edits large firewalls will do so again: load the compiled layering in a thread, once."""
        await self._edits_large_lists.wait()
        await anyio.to_thread.run_sync(warm, abandon_on_cancel=True)

    async def _repair(self) -> None:
        """Somebody else changed rows of ours: put them back."""
        async for changes in self._northbound.changes():
            if self._written.reached >= 0 and self._writer.drifted(changes):
                self._writer.repairs += 1
                self._writer.doubt()
                self._wake.set()

    async def purge(self) -> dict[str, int]:
        """Remove exactly our rows from the northbound; operations by verb. For a plane that does not write."""
        if self._writes:
            raise GuardError("this plane would put purged rows back: open it with writes=False to purge")
        async with self._lock:
            return await self._writer.purge()

    # ------------------------------------------------------------------ remembering

    def _recall(self) -> Decisions:
        return decisions_of(recall({table: self._northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}))


def decisions_of(recalled: Recalled) -> Decisions:
    """Recalled rows as decisions."""
    return Decisions(
        nodes=recalled.nodes, pods=recalled.pods, dns=recalled.dns, accepted=accepted_texts(recalled.accepted)
    )


def _merge(first: Decisions, second: Decisions) -> Decisions:
    """``second`` (the northbound) wins: it is what is in force."""
    return Decisions(
        nodes={**first.nodes, **second.nodes},
        pods={**first.pods, **second.pods},
        dns={**first.dns, **second.dns},
        accepted={**first.accepted, **second.accepted},
    )
