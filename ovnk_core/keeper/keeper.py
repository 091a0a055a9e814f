"""``Keeper``: a control plane whose objects are kept in a log, alone or as one of several servers on it.

    async with Keeper(NativeNorthbound("unix:/run/ovn/ovnnb_db.sock"), SqliteLog("ovnk.db")) as keeper:
        accepted = await keeper.commit(keeper.request(puts=[Put(manifest=...)]))
        await keeper.wait(accepted.revision, "realized")

Every server takes in every entry of the log, in order, and answers questions. Whose turn it is decides, records its
decisions in the log, and writes to the northbound, fenced by the number of its turn. A turn begins with an entry of its
own: whoever could append it has seen everything before it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4
from weakref import WeakSet

import anyio
import anyio.to_thread
import msgspec

from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import BugError, NotWriter, OvnkError, StoreCorrupt
from ovnk_core.failpoint import failpoint
from ovnk_core.keeper.committer import Committer, Overlay, Parsed, Proposal
from ovnk_core.keeper.document import ref_of
from ovnk_core.keeper.events import Events
from ovnk_core.keeper.housekeeping import TURN_KEY, Expire, Turn
from ovnk_core.keeper.inventory import Inventory
from ovnk_core.keeper.link import Link, Writer, ask_northbound, ask_writer
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.keeper.moves import moves_of
from ovnk_core.keeper.proposal import Drop, Put, Request
from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.keeper.snapshot import Pending, Snapshot, Snapshots, missing
from ovnk_core.keeper.source import Statement, Unreadable
from ovnk_core.keeper.stages import PRIVATE_TABLE, StageName, Stages
from ovnk_core.keeper.turns import Turns
from ovnk_core.keeper.watching import Filter, KeptWatch, Page, Visible, read_page
from ovnk_core.model.decision import Decisions, DnsAnswer
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.tables import (
    CLUSTER,
    DNS_DECISION,
    EGRESS_IP_DECISION,
    INSTALL_DECISION,
    NODE_DECISION,
    NODE_HEALTH,
    POD_DECISION,
    SERVICE_DECISION,
)
from ovnk_core.nb.schema import DatabaseSchema
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.runtime.asking import name_of
from ovnk_core.runtime.scope import leave
from ovnk_core.store.entry import Entry, StoreKey
from ovnk_core.store.history import Edit, History
from ovnk_core.store.port import Log, Term
from ovnk_core.terms.name import ObjectRef

SLICE_S = 0.005


class Keeper:
    """Use as an async context manager. ``southbound`` (a driver for OVN_Southbound) lets it name chassis that lag."""

    def __init__(
        self,
        northbound: Northbound,
        log: Log,
        *,
        settings: KeeperSettings | None = None,
        southbound: Northbound | None = None,
    ) -> None:
        self._northbound, self._southbound, self._log = northbound, southbound, log
        self.settings = settings or KeeperSettings()
        self._lock = anyio.Lock(fast_acquire=True)
        self._exit = AsyncExitStack()
        self.events = Events()
        self.watches = WeakSet[KeptWatch]()
        self.placements = 0
        """How often an egress IP came to a node, since this server began."""
        self.failure: Exception | None = None
        """What makes this server unable to go on; its answers are not to be trusted any more."""

    # ------------------------------------------------------------------ living

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def _open(self) -> None:
        contents = await self._log.open()
        self._exit.push_async_callback(self._log.close)
        self.history = History(contents.base)
        self.inventory = Inventory(self.history)
        for entry in contents.entries:
            self.history.advance(entry)
        meaning = await self._everything()
        chosen = self.settings
        self.plane = ControlPlane(
            self._northbound,
            settings=chosen.cluster,
            decisions=_decisions(meaning.decisions),
            adopt=chosen.adopt,
            allow_prune=chosen.allow_prune,
            timeout_s=chosen.timeout_s,
            resolver=chosen.resolver,
            prober=chosen.prober,
            record=lambda edits: self._turns.record(edits),
        )
        await self._exit.enter_async_context(self.plane)
        if self._southbound is not None:
            await self._southbound.connect({PRIVATE_TABLE: ("name", "nb_cfg")}, timeout_s=chosen.timeout_s)
            self._exit.push_async_callback(self._southbound.close)
        self.snapshots = Snapshots(self.plane, self.history, self._lock)
        self.stages = Stages(self.plane.programmer, self.history, self._northbound, self._southbound)
        self._committer = Committer(self._log, self.history, self._lock, view=self._view, take=self._take)
        self._turns = Turns(
            self._log,
            self._committer,
            self.plane,
            self.stages,
            self.events,
            history=self.history,
            northbound=self._northbound,
            settings=chosen,
        )
        await self.plane.decide(meaning.decisions)
        await self.plane.take(meaning.put.values())
        # After the accepted versions, so that a refused one finds what it stands on.
        await self.plane.take((), (), meaning.refused.values())
        self.stages.accepted(self.history.revision, self.plane.revision)
        tasks = await self._exit.enter_async_context(anyio.create_task_group())
        self._exit.callback(tasks.cancel_scope.cancel)
        for task in (self._committer.run, self._turns.run, self._keep_house, self.stages.follow):
            tasks.start_soon(task)
        if self._log.is_shared:
            tasks.start_soon(self._follow)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._turns.resign()
        await leave(self._exit, kind, error, at)

    async def _everything(self) -> Meaning:
        """All that is kept, read in slices."""
        meaning = Meaning()
        pause_at = time.perf_counter() + SLICE_S
        for space in ("object", "refused", "decision"):
            first, last = StoreKey(space, "", "", ""), StoreKey(space, "\x7f", "", "")
            for key, stored in list(self.history.items(first, last)):
                meaning.add(key, stored.value)
                if key.space != "decision":
                    self.inventory.note(ref_of(key))
                if time.perf_counter() > pause_at:
                    await anyio.sleep(0)
                    pause_at = time.perf_counter() + SLICE_S
        return meaning

    # ------------------------------------------------------------------ asking for changes

    @property
    def term(self) -> Term | None:
        """Our turn as the writer, while it lasts."""
        return self._turns.term

    @property
    def revision(self) -> int:
        """The newest revision that is in force here."""
        return self.history.revision

    @property
    def schema(self) -> DatabaseSchema:
        """Of the northbound."""
        return self._northbound.schema

    def request(
        self, puts: Sequence[Put] = (), drops: Sequence[Drop] = (), *, author: str = "", id: str = ""
    ) -> Request:
        """A request that happens as a whole or not at all."""
        return Request(puts=tuple(puts), drops=tuple(drops), author=author, id=id, make_uid=_uid, now=_now())

    def statement(
        self,
        source: str,
        puts: Sequence[Put] = (),
        *,
        gone: Sequence[ObjectRef] = (),
        unreadable: Sequence[Unreadable] = (),
        author: str = "",
    ) -> Statement:
        """What a synchronised source states."""
        return Statement(
            source=source,
            puts=tuple(puts),
            gone=tuple(gone),
            unreadable=tuple(unreadable),
            author=author,
            make_uid=_uid,
            now=_now(),
        )

    async def commit(self, proposal: Proposal) -> Any:
        """Make a ``Request`` (-> Accepted), ``Statement`` (-> Judged) or ``Prune`` (-> Pruned) durable and in force.

        Raises what its plan raises (Refusal, NotFound, Exists, Outdated, IdReused), Contended, or a StoreError; then
        nothing was changed, except after StoreUnknown.
        """
        if self.failure is not None:
            raise BugError(f"this server has failed: {self.failure}")
        return await self._committer.commit(proposal)

    async def try_out(self, proposal: Proposal) -> tuple[Any, Snapshot, Cluster]:
        """What ``commit`` would answer, the cluster as it is, and as it would be. Nothing is changed.

        Raises what its plan raises. Costs two copies of the cluster, of which the first is shared.
        """
        before = await self.snapshot()
        async with self._lock:
            plan = proposal.plan(view := self._view())
            meaning = Meaning()
            for change in plan.changes:
                meaning.add(change.key, change.value, plan.items.get(change.key))
            view.put(Entry(revision=view.revision + 1, changes=plan.changes))
            meaning.keep(view.get)
        # Both states from one copy, so that what others change meanwhile is in neither.
        return plan.answer(before.revision), before, await self.snapshots.changed(before, meaning)

    async def snapshot(self) -> Snapshot:
        """A copy of the cluster that nobody changes, for questions that take long."""
        return await self.snapshots.latest()

    async def push_dns(self, answers: Sequence[DnsAnswer]) -> tuple[int, tuple[str, ...]]:
        """What a resolver feed heard, durable when this returns -> the revision that holds it, and the names among them
        that no firewall speaks of, which are passed over.

        Raises NotWriter on a server whose turn it is not, and SchemaError for what is no DNS name.
        """
        await self.require_turn()
        named = [(name_of(answer.name), answer) for answer in answers]
        ignored = tuple(sorted({name for name, _ in named} - self.plane.cluster.dns_names))
        for name, answer in named:
            if name not in ignored:
                await self.plane.push_dns(answer)
        await self.plane.record_decisions()
        return self.revision, ignored

    async def rebalance_egress_ips(self) -> int:
        """Spread them evenly with the fewest moves -> the revision that decides it. Raises NotWriter."""
        return await self._decided(self.plane.rebalance_egress_ips)

    async def report_health(self, health: Mapping[str, NodeHealth]) -> int:
        """What was heard of nodes, by name, durable when this returns -> the revision that holds it.

        Raises NotWriter on a server whose turn it is not, and NotFound for what is no node.
        """
        return await self._decided(lambda: self.plane.report_health(health))

    async def report_reachability(self, heard: Mapping[str, bool]) -> int:
        """Whether nodes answer, by name; as ``report_health``."""
        return await self._decided(lambda: self.plane.report_reachability(heard))

    async def drain_node(self, name: str, *, is_drained: bool = True) -> int:
        """Take a node's egress IPs off it, or let it hold some again; as ``report_health``."""
        return await self._decided(lambda: self.plane.drain_node(name, is_drained=is_drained))

    async def _decided(self, decide: Callable[[], Awaitable[object]]) -> int:
        await self.require_turn()
        await decide()
        await self.plane.record_decisions()
        return self.revision

    async def require_turn(self) -> None:
        """Raises NotWriter with the name of the server whose turn it is, if it is another one's."""
        if self.term is None:
            raise NotWriter((await self.writer()).turn.holder)

    async def pending(self) -> Pending:
        """What is not in the northbound yet, compared in full. Raises Conflict."""
        actual = {table: dict(self._northbound.rows(table)) for table in (*TABLES, GLOBAL_TABLE)}
        snapshot, adopt = await self.snapshot(), self.settings.adopt
        return await anyio.to_thread.run_sync(lambda: missing(snapshot, actual, self.schema, adopt=adopt))

    # ------------------------------------------------------------------ reading

    async def writer(self) -> Writer:
        """Whose turn it is, and whether the store says so."""
        stored = self.history.get(TURN_KEY)
        known = msgspec.json.decode(stored.value, type=Turn) if stored else Turn(holder="", number=0)
        return await ask_writer(self._log, known)

    def page(self, wanted: Filter, *, limit: int, token: str = "", visible: Visible | None = None) -> Page:
        """See ``read_page``."""
        return read_page(self.history, wanted.checked(), limit=limit, token=token, visible=visible)

    def watch(
        self, wanted: Filter, *, after: int | None = None, visible: Visible | None = None, bookmark_s: float = 10.0
    ) -> KeptWatch:
        """See ``KeptWatch``."""
        made = KeptWatch(
            self.history,
            wanted.checked(),
            moved=lambda: self._committer.moved,
            in_force=lambda: self.stages.progress["accepted"].reached,
            shown_in=self.inventory.ties.shown_in,
            after=after,
            visible=visible,
            bookmark_s=bookmark_s,
        )
        self.watches.add(made)
        return made

    async def link(self) -> Link:
        """Whether the northbound answers."""
        return await ask_northbound(self._northbound)

    async def wait(self, revision: int, stage: StageName, timeout_s: float | None = None) -> None:
        """See ``Stages.wait``."""
        await self.stages.wait(revision, stage, timeout_s)

    # ------------------------------------------------------------------ taking in

    def _view(self) -> Overlay:
        return Overlay(self.history, self.plane.cluster, self.inventory)

    async def _take(self, entries: Sequence[Entry], parsed: Parsed) -> None:
        async with self._lock:
            fresh = [entry for entry in entries if entry.revision > self.history.revision]
            if not fresh:
                return
            told = [(entry, self.history.advance(entry)) for entry in fresh]
            edits = [edit for _, each in told for edit in each]
            meaning = Meaning()
            try:
                meaning.add_edits(edits, parsed)
                meaning.keep(self.history.get)
                for ref in {ref_of(edit.key) for edit in edits if edit.key.space in ("object", "refused")}:
                    self.inventory.note(ref)
                for entry, each in told:
                    self._tell(each, entry.author)
                await self._apply(meaning)
                if meaning.decisions and not self.plane.cluster.is_deciding:
                    await self.plane.decide(meaning.decisions)
            except Exception as error:
                self.failure = error
                self.events.add("Failed", f"{type(error).__name__}: {error}", severity="Warning")
                raise BugError(f"revision {self.history.revision} cannot be put in force: {error}") from error
            self.stages.accepted(self.history.revision, self.plane.revision)
            self._committer.advanced()
        failpoint("keeper.after_apply")

    async def _apply(self, meaning: Meaning) -> None:
        """Objects in force. A refused version finds the accepted one before it in force, if there is one."""
        if meaning.put.keys() & meaning.refused.keys():
            await self.plane.take(meaning.put.values(), meaning.gone)
            await self.plane.take((), (), meaning.refused.values())
        elif meaning.has_objects:
            await self.plane.take(meaning.put.values(), meaning.gone, meaning.refused.values())

    def _tell(self, edits: Sequence[Edit], author: str) -> None:
        by = f" by {author}" if author else ""
        for edit in edits:
            if edit.key.space == "object":
                reason = "Deleted" if edit.after is None else "Changed" if edit.before else "Created"
                self.events.add(reason, f"{reason.lower()}{by}", ref=ref_of(edit.key), revision=edit.revision)
            elif edit.key.space == "refused" and edit.after is not None:
                message = f"refused{by}; its last accepted version stays in force, or it fails closed"
                ref = ref_of(edit.key)
                self.events.add("Refused", message, ref=ref, revision=edit.revision, severity="Warning")
            for move in moves_of(edit):
                at = ref_of(edit.key) if edit.key.kind == "EgressIP" else ObjectRef("Node", "", edit.key.name)
                self.placements += move.reason == "Assigned"
                self.events.add(
                    move.reason,
                    move.message,
                    ref=at,
                    revision=edit.revision,
                    severity=move.severity,
                    mentions=move.mentions,
                )

    async def _follow(self) -> None:
        """Take in what others append. Our own entries are taken in when they are appended."""
        try:
            async for entry in self._log.follow(self.history.revision):
                if entry.revision > self.history.revision:
                    with anyio.CancelScope(shield=True):
                        await self._take([entry], {})
        except (BugError, StoreCorrupt) as error:
            self.failure = self.failure or error

    # ------------------------------------------------------------------ keeping house

    async def _keep_house(self) -> None:
        while True:
            await anyio.sleep(self.settings.housekeeping_s)
            try:
                await self.keep_house()
            except OvnkError as error:
                self.events.add("HousekeepingFailed", str(error), severity="Warning")

    async def keep_house(self) -> None:
        """Forget old request ids and old history, within what the settings say."""
        history, term = self.history, self.term
        if term is not None:
            await self._committer.commit(Expire(now_s=int(time.time())), term)
            target = history.excess(edits=self.settings.history_changes, size=self.settings.history_bytes)
            if target > history.compacted:
                await self._log.compact(target, history.changed_until(target))
        async with self._lock:
            base = min(await self._log.base(), history.revision)
            if base > history.compacted:
                history.forget(base)


def _decisions(found: dict[Any, dict[Any, Any]]) -> Decisions:
    return Decisions(
        install=found.get(INSTALL_DECISION, {}).get(CLUSTER),
        nodes={key.name: each for key, each in found.get(NODE_DECISION, {}).items()},
        pods={str(key): each for key, each in found.get(POD_DECISION, {}).items()},
        services={str(key): each for key, each in found.get(SERVICE_DECISION, {}).items()},
        egress_ips={key.name: each for key, each in found.get(EGRESS_IP_DECISION, {}).items()},
        health={key.name: each for key, each in found.get(NODE_HEALTH, {}).items()},
        dns=dict(found.get(DNS_DECISION, {})),
    )


def _uid() -> str:
    return str(uuid4())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
