"""Whose turn it is to decide and to write.

A turn begins with an entry of its own: whoever could append it has seen everything before it. The entry's epoch
fences the northbound, the store's term fences the log; whichever is lost first ends the turn. A northbound whose last
turn is not in this log was made from another one, and is not touched without consent. What was decided and not
recorded by then was never decided.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

import anyio

from ovnk_core.cluster import DecisionEdits
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import GuardError, StoreError, Superseded, TurnLost
from ovnk_core.failpoint import failpoint
from ovnk_core.keeper.committer import Committer
from ovnk_core.keeper.document import decision_key, decision_value
from ovnk_core.keeper.events import Events
from ovnk_core.keeper.housekeeping import SEAL_BITS, Turn, TurnBegins, WriteDecisions
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.keeper.stages import Stages
from ovnk_core.model.tables import (
    DNS_DECISION,
    EGRESS_IP_DECISION,
    INSTALL_DECISION,
    NODE_DECISION,
    NODE_HEALTH,
    POD_DECISION,
    SERVICE_DECISION,
)
from ovnk_core.nb.operation import turn_of
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.store.history import History
from ovnk_core.store.port import Log, Term

_KINDS = {
    INSTALL_DECISION: "Install",
    NODE_DECISION: "Node",
    POD_DECISION: "Pod",
    SERVICE_DECISION: "Service",
    EGRESS_IP_DECISION: "EgressIP",
    NODE_HEALTH: "NodeHealth",
    DNS_DECISION: "DnsName",
}
RESIGN_S = 2.0
_ADVICE = "if this store is the right one and no other server writes, start it with northbound.take_over"


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
        self._takes_over = settings.take_over
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
                above = (self._present() or 0) >> SEAL_BITS if self._takes_over else 0
                begins = TurnBegins(holder=term.holder, seal=secrets.randbits(SEAL_BITS), above=above)
                turn: Turn = await self._committer.commit(begins, term)
                async with anyio.create_task_group() as work:
                    work.start_soon(self._stages.write)
                    await self._until_ours(turn)
                    self._takes_over = False
                    self._events.add("TurnBegan", f"{term.holder} writes the northbound now (turn {turn.number})")
                    await self._plane.work(turn.epoch)
            except* TurnLost:
                self._end("another turn has begun in the northbound")
            except* StoreError as group:
                self._end(str(group.exceptions[0]))
            finally:
                self.term = None
                self._plane.cluster.is_deciding = False
                tasks.cancel_scope.cancel()
        await self._undecide()

    def _present(self) -> int | None:
        return turn_of(self._northbound.rows(GLOBAL_TABLE))

    async def _until_ours(self, turn: Turn) -> None:
        """Write nothing while the northbound is what another log made of it: that log may be the right one."""
        changes = self._northbound.changes()
        while why := self._strange(turn):
            self._stages.block(GuardError(f"{why}. Nothing is written; {_ADVICE}"))
            self._events.add("Blocked", why, severity="Warning")
            await anext(changes)
        self._stages.block(None)

    def _strange(self, turn: Turn) -> str:
        """Why the northbound is not this log's, or an empty text."""
        present, mark = self._present(), self._stages.mark
        if self._takes_over or present is None:
            return ""
        if present not in (turn.epoch, *turn.recent):
            return f"the northbound was last written in turn {present >> SEAL_BITS} of another store"
        if mark is not None and not self._stages.is_ours(mark):
            return f"the northbound was made from revision {mark[0]} of a later or another state of this store"
        return ""

    def _end(self, why: str) -> None:
        self._events.add(
            "TurnEnded", f"{self._settings.holder} no longer writes the northbound: {why}", severity="Warning"
        )

    async def _until_lost(self, term: Term, scope: anyio.CancelScope) -> None:
        await self._log.lost(term)
        self._end("its lease is over")
        scope.cancel()

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
