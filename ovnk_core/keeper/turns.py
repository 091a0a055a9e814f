"""Whose turn it is to decide and to write.

A turn begins with an entry of its own: whoever could append it has seen everything before it. The entry's number
fences the northbound, the store's term fences the log; whichever is lost first ends the turn. What was decided and not
recorded by then was never decided.
"""

from __future__ import annotations

from contextlib import suppress

import anyio

from ovnk_core.cluster import DecisionEdits
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import GuardError, StoreError, Superseded, TurnLost
from ovnk_core.failpoint import failpoint
from ovnk_core.keeper.committer import Committer
from ovnk_core.keeper.document import decision_key, decision_value
from ovnk_core.keeper.events import Events
from ovnk_core.keeper.housekeeping import TurnBegins, WriteDecisions
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.keeper.stages import Stages
from ovnk_core.model.tables import DNS_DECISION, NODE_DECISION, POD_DECISION
from ovnk_core.nb.operation import turn_of
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.store.history import History
from ovnk_core.store.port import Log, Term

_KINDS = {NODE_DECISION: "Node", POD_DECISION: "Pod", DNS_DECISION: "DnsName"}
RESIGN_S = 2.0


class Turns:
    """Campaigns for ever; ``term`` is our turn while it lasts."""

    def __init__(
        self,
        log: Log,
        committer: Committer,
        plane: ControlPlane,
        stages: Stages,
        events: Events,
        *,
        history: History,
        northbound: Northbound,
        settings: KeeperSettings,
    ) -> None:
        self._log, self._committer, self._plane, self._stages = log, committer, plane, stages
        self._events, self._history, self._northbound, self._settings = events, history, northbound, settings
        self.term: Term | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                term = await self._log.campaign(self._settings.holder)
            except StoreError as error:
                await anyio.sleep(error.retry_after_s or 1.0)
                continue
            await self._serve(term)
            await self._give_up(term)
            # Where nobody else wants it the turn would be ours again at once.
            await anyio.sleep(RESIGN_S)

    async def resign(self) -> None:
        """End our turn, so that another server need not wait for it to run out."""
        if self.term is not None:
            await self._give_up(self.term)

    async def _give_up(self, term: Term) -> None:
        with anyio.move_on_after(RESIGN_S, shield=True), suppress(StoreError):
            await self._log.resign(term)

    async def _serve(self, term: Term) -> None:
        """One turn, until it is over."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_lost, term, tasks.cancel_scope)
            try:
                self.term = term
                above = self._present_turn() if self._settings.take_over else 0
                turn: int = await self._committer.commit(TurnBegins(holder=term.holder, above=above), term)
                self._events.add("TurnBegan", f"{term.holder} writes the northbound now (turn {turn})")
                self._check_age()
                async with anyio.create_task_group() as work:
                    work.start_soon(self._stages.write)
                    await self._plane.work(turn)
            except* TurnLost:
                present = self._present_turn()
                self._end(f"turn {present} has begun in the northbound; if no other server writes it, take it over")
            except* StoreError as group:
                self._end(str(group.exceptions[0]))
            finally:
                self.term = None
                self._plane.cluster.is_deciding = False
                tasks.cancel_scope.cancel()
        await self._undecide()

    def _present_turn(self) -> int:
        return turn_of(self._northbound.rows(GLOBAL_TABLE)) or 0

    def _end(self, why: str) -> None:
        self._events.add(
            "TurnEnded", f"{self._settings.holder} no longer writes the northbound: {why}", severity="Warning"
        )

    async def _until_lost(self, term: Term, scope: anyio.CancelScope) -> None:
        await self._log.lost(term)
        self._end("its lease is over")
        scope.cancel()

    def _check_age(self) -> None:
        """The northbound remembers which revision it was made from: an older store must not undo it."""
        recorded = self._stages.recorded
        if recorded > self._history.revision and not self._settings.allow_prune:
            self._stages.block(
                GuardError(
                    f"the northbound was programmed from revision {recorded}, but this store ends at"
                    f" {self._history.revision}: it is empty or an older copy. Nothing is written: restore the store"
                    " (ovnk store import), or pass --allow-prune if this store is right"
                )
            )

    async def record(self, edits: DecisionEdits) -> None:
        """Decisions become entries before rows rest on them. Raises Superseded when our turn is over."""
        term = self.term
        if term is None:
            raise Superseded("our turn as the writer is over")
        values = {
            decision_key(_KINDS[table], key): None if decision is None else decision_value(decision)
            for table, rows in edits.items()
            for key, decision in rows.items()
        }
        failpoint("keeper.before_decisions")
        await self._committer.commit(WriteDecisions(values=values), term)
        failpoint("keeper.after_decisions")

    async def _undecide(self) -> None:
        """What we decided but could not record any more was never decided."""
        edits = self._plane.forget_unrecorded()
        meaning = Meaning()
        for table, rows in edits.items():
            for key in rows:
                at = decision_key(_KINDS[table], key)
                stored = self._history.get(at)
                meaning.add(at, stored.value if stored else None)
        await self._plane.decide(meaning.decisions)
