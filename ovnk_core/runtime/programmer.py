"""Keeps a northbound as a cluster wants it, for as long as it is our turn to write.

One task sends. Whoever changes the cluster tells ``note`` and goes on; while a transaction is on its way further
changes gather and become one. Decisions that rows depend on are recorded before the rows are sent, so nothing in the
northbound ever rests on a decision that a crash could lose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio

from ovnk_core.allocate.egress_ip import Leaving
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import OvnkError, Rejected, SouthError, StoreError, Superseded, TurnLost, Unreachable
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.runtime.broadcast import Progress
from ovnk_core.runtime.writer import Flushed, Writer

Stage = Literal["nb", "sb", "hv"]
Record = Callable[[], Awaitable[None]]
"""Makes every decision so far durable. Called without the lock; may change the cluster."""
Withdrawn = Callable[[Leaving], Awaitable[None]]
"""Told what a confirmed commit withdrew. Called without the lock; changes the cluster."""
READ_BACK_S, GATHER_S, BUMP_TIMEOUT_S = 0.1, 0.005, 30.0


class Programmer:
    """``lock`` guards the cluster: nobody changes it while its difference is computed."""

    def __init__(
        self,
        writer: Writer,
        northbound: Northbound,
        lock: anyio.Lock,
        record: Record | None = None,
        withdrawn: Withdrawn | None = None,
    ) -> None:
        self._writer, self._northbound, self._lock = writer, northbound, lock
        self._record, self._withdrawn = record, withdrawn
        self.written, self.served = Progress(), Progress()
        """Engine revisions, and requests, that are in the northbound."""
        self.requests = -1
        self._revision = 0
        self._blocked: OvnkError | None = None
        self._wake = anyio.Event()
        self.last_flush = Flushed(operations={}, rows_owned=0, rows_foreign=0)
        self.operations = Counter[str]()
        """By verb, of every flush so far."""

    # ------------------------------------------------------------------ told

    def note(self, delta: Delta, revision: int) -> None:
        """The cluster changed, and is at ``revision`` now. Never waits."""
        self._writer.note(delta)
        self._revision = revision
        self.requests += 1
        if self._blocked is None:
            for progress in (self.written, self.served):
                progress.failure = None
        self._wake.set()

    @property
    def repairs(self) -> int:
        """How often somebody else's change of our rows was undone."""
        return self._writer.repairs

    # ------------------------------------------------------------------ writing

    async def run(self, turn: int | None = None) -> None:
        """Write until cancelled; ``turn`` is the epoch that every transaction is fenced with.

        Raises TurnLost or Superseded when another server's turn has begun.
        """
        self._writer.turn = turn
        self._writer.doubt()
        if turn is not None:
            self._wake.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            tasks.start_soon(self._repair)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await self._flush()
            if self._writer.turn is not None:
                # Changes that come quickly become one transaction: what follows within this time waits for it.
                await anyio.sleep(GATHER_S)

    def block(self, error: OvnkError | None) -> None:
        """Write nothing, for this reason; None lifts it."""
        self._blocked = error
        if error is not None:
            self._fail(error)

    async def _flush(self) -> None:
        """A failure is kept for whoever waits; what can be retried is retried."""
        if self._blocked is not None:
            self._fail(self._blocked)
            return
        is_second_look = False
        while True:
            try:
                if self._record is not None:
                    await self._record()
                async with self._lock:
                    revision, requests = self._revision, self.requests
                    prepared = self._writer.prepare()
                with anyio.CancelScope(shield=True):
                    self.last_flush = await self._writer.send(prepared)
                self.operations.update(self.last_flush.operations)
            except (TurnLost, Superseded):
                raise
            except (SouthError, StoreError) as error:
                failure, delay = error, error.retry_after_s
            except OvnkError as error:
                self._fail(error)
                return
            else:
                if self._writer.turn is not None:
                    # From here on everything that goes was asked to go, and the log says by whom.
                    self._writer.allow_prune = True
                if prepared.leaving and self._withdrawn is not None:
                    # Before anybody is told, so that who waits for everything waits for where they go, too.
                    await self._withdrawn(prepared.leaving)
                self.written.advance(revision)
                self.served.advance(requests)
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
        for progress in (self.written, self.served):
            progress.fail(error)

    async def _repair(self) -> None:
        """Somebody else changed rows of ours: put them back."""
        async for changes in self._northbound.changes():
            if self.written.reached >= 0 and self._writer.drifted(changes):
                self._writer.repairs += 1
                self._writer.doubt()
                self._wake.set()

    # ------------------------------------------------------------------ following

    async def wait(self, revision: int | None, stage: Stage, *, timeout_s: float | None) -> None:
        """Until ``revision`` (None: all that was asked for so far) is in the northbound, taken up by northd (``sb``),
        or on every chassis (``hv``). Raises what stopped the writer, TimeoutError, or Unreachable."""
        if revision is None:
            await self.served.wait(self.requests, timeout_s)
        else:
            await self.written.wait(revision, timeout_s)
        if stage == "nb":
            return
        with anyio.fail_after(timeout_s if timeout_s is not None else float("inf")):
            changes = self._northbound.changes()
            number = await self._writer.bump(timeout_s or BUMP_TIMEOUT_S)
            column = f"{stage}_cfg"
            while not self._acknowledged(column, number):
                await anext(changes)
        if stage == "hv" and not self._global("hv_cfg_timestamp"):
            raise Unreachable("no chassis is registered, so nobody can acknowledge hv")

    async def bump(self, mark: str) -> int:
        """Ask northd and the chassis to acknowledge everything so far, and leave a mark for which revision."""
        return await self._writer.bump(BUMP_TIMEOUT_S, mark)

    def _acknowledged(self, column: str, number: int) -> bool:
        value = self._global(column)
        return isinstance(value, int) and value >= number

    def _global(self, column: str) -> Any:
        return next((row.get(column) for row in self._northbound.rows(GLOBAL_TABLE).values()), None)
