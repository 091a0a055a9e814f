"""How far a revision has come: accepted, programmed in the northbound, realized by northd, enforced on the chassis.

The writer knows what it has programmed; everybody else, and the stages after that, go by the northbound: each time it
raises nb_cfg the writer says there for which revision, northd and the chassis answer with sb_cfg and hv_cfg. Raising
nb_cfg makes northd and every chassis work, so it is done at once only while somebody waits for it, and otherwise at
most every ``QUIET_S`` seconds.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from typing import Any, Literal

import anyio

from ovnk_core.errors import OvnkError, SouthError, Unreachable
from ovnk_core.nb.row import REVISION_KEY
from ovnk_core.nb.schema import Row
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.runtime.broadcast import Progress
from ovnk_core.runtime.programmer import Programmer
from ovnk_core.store.history import History
from ovnk_core.terms.struct import Value

StageName = Literal["accepted", "programmed", "realized", "enforced"]
STAGES: tuple[StageName, ...] = ("accepted", "programmed", "realized", "enforced")
QUIET_S = 2.0
MAX_TIMES = 1_000
"""Moments that are remembered of each stage."""
PRIVATE_TABLE = "Chassis_Private"


Mark = tuple[int, str]
"""A revision, and the id of the entry that had it in the log that was programmed."""
_SEPARATOR = ":"


class Standing(Value, frozen=True, kw_only=True):
    """The newest revision that has reached each stage; -1: none that we know of. ``lagging``: chassis that have not
    acknowledged the newest nb_cfg; these, and how many
    there are, only where a southbound database is known. ``failure``: what keeps the writer."""

    accepted: int
    programmed: int
    realized: int
    enforced: int
    chassis: int | None = None
    lagging: tuple[str, ...] = ()
    failure: str = ""


class Stages:
    """Follows one northbound, and a southbound where there is one."""

    def __init__(
        self, programmer: Programmer, history: History, northbound: Northbound, southbound: Northbound | None
    ) -> None:
        self._programmer, self._history = programmer, history
        self._northbound, self._southbound = northbound, southbound
        self.progress: dict[StageName, Progress] = {stage: Progress() for stage in STAGES}
        self._times: dict[StageName, deque[tuple[int, float]]] = {stage: deque(maxlen=MAX_TIMES) for stage in STAGES}
        self._begun = -1
        """What was there when this server began: nobody here saw when that reached anything."""
        self._applied: deque[tuple[int, int]] = deque()
        self._is_writing = False
        self._marked = -1
        self._wanted = anyio.Event()

    def accepted(self, revision: int, engine_revision: int) -> None:
        """``revision`` is in force, which made the engine's revision ``engine_revision``."""
        if self._begun < 0:
            self._begun = revision
        if self._applied and self._applied[-1][1] == engine_revision:
            self._applied.pop()
        self._applied.append((revision, engine_revision))
        self._reach("accepted", revision)
        if self._is_writing:
            self._settle()  # A revision that asks nothing of the northbound wakes no writer.
        else:
            self._read()  # The northbound may have told of this revision before it came here.

    def _reach(self, stage: StageName, revision: int) -> None:
        if revision > self.progress[stage].reached:
            self._times[stage].append((revision, time.time()))
        self.progress[stage].advance(revision)

    def reached_at(self, stage: StageName, revision: int) -> float | None:
        """When this server saw ``revision`` reach ``stage``, in Unix seconds; None if it did not, or long ago."""
        times = self._times[stage]
        found = bisect_left(times, revision, key=lambda each: each[0])
        is_forgotten = found == 0 and len(times) == MAX_TIMES
        return times[found][1] if revision > self._begun and found < len(times) and not is_forgotten else None

    # ------------------------------------------------------------------ the writer's part

    async def write(self) -> None:
        """While it is our turn: tell what is programmed, and ask for acknowledgements. Until cancelled."""
        self._is_writing, self._marked = True, -1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tell)
                tasks.start_soon(self._ask)
        finally:
            self._is_writing = False

    def _settle(self) -> None:
        while self._applied and self._applied[0][1] <= self._programmer.written.reached:
            self._reach("programmed", self._applied.popleft()[0])

    async def _tell(self) -> None:
        written = self._programmer.written
        while True:
            self._settle()
            if written.failure is not None:
                for stage in STAGES[1:]:
                    self.progress[stage].fail(written.failure)
            await written.changed()

    async def _ask(self) -> None:
        programmed = self.progress["programmed"]
        while True:
            if programmed.reached <= self._marked:
                await programmed.changed()
                continue
            with anyio.move_on_after(QUIET_S):
                await self._wanted.wait()
            self._wanted = anyio.Event()
            mark = programmed.reached
            try:
                await self._programmer.bump(f"{mark}{_SEPARATOR}{self._history.entry_id(mark)}")
            except SouthError as error:
                await anyio.sleep(error.retry_after_s or QUIET_S)
            else:
                self._marked = mark

    def block(self, error: OvnkError | None) -> None:
        """Tell whoever waits why nothing is written; None: it is, from now on."""
        self._programmer.block(error)

    # ------------------------------------------------------------------ everybody's part

    async def follow(self) -> None:
        """Read what the northbound acknowledges, until cancelled."""
        changes = self._northbound.changes()
        self._read()
        async for changed in changes:
            if GLOBAL_TABLE in changed:
                self._read()

    def _read(self) -> None:
        for row in self._northbound.rows(GLOBAL_TABLE).values():
            found = _mark_of(row)
            if found is None or not self.is_ours(found):
                continue  # Of another store, or not here yet.
            asked, mark = _number(row.get("nb_cfg")), found[0]
            if not self._is_writing:
                self._reach("programmed", mark)
                while self._applied and self._applied[0][0] <= mark:
                    self._applied.popleft()
            if _number(row.get("sb_cfg")) >= asked:
                self._reach("realized", mark)
            # Without a chassis northd copies sb_cfg to hv_cfg; the timestamp stays 0 then.
            if _number(row.get("hv_cfg")) >= asked and _number(row.get("hv_cfg_timestamp")):
                self._reach("enforced", mark)

    @property
    def mark(self) -> Mark | None:
        """What the northbound says it was last acknowledged for."""
        rows = self._northbound.rows(GLOBAL_TABLE).values()
        return next((found for row in rows if (found := _mark_of(row)) is not None), None)

    def is_ours(self, mark: Mark) -> bool:
        """Whether a mark is of an entry that this log has, as far as it remembers."""
        revision, entry_id = mark
        return revision <= self._history.revision and self._history.entry_id(revision) in ("", entry_id)

    async def wait(self, revision: int, stage: StageName, timeout_s: float | None) -> None:
        """Until ``revision`` has reached ``stage``. Raises what keeps the writer, TimeoutError, or Unreachable when no
        chassis is registered that could enforce anything."""
        progress = self.progress[stage]
        if stage in ("realized", "enforced") and progress.reached < revision:
            self._wanted.set()
        try:
            await progress.wait(revision, timeout_s)
        except TimeoutError:
            if stage == "enforced" and not self.has_chassis:
                raise Unreachable("no chassis is registered, so nobody can enforce anything") from None
            raise

    @property
    def has_chassis(self) -> bool:
        """Whether any chassis ever acknowledged, or is registered."""
        if self._southbound is not None:
            return bool(self._southbound.rows(PRIVATE_TABLE))
        return any(_number(row.get("hv_cfg_timestamp")) for row in self._northbound.rows(GLOBAL_TABLE).values())

    def standing(self) -> Standing:
        """As of now."""
        asked = max((_number(row.get("nb_cfg")) for row in self._northbound.rows(GLOBAL_TABLE).values()), default=0)
        rows = self._southbound.rows(PRIVATE_TABLE).values() if self._southbound is not None else ()
        lagging = sorted(str(row.get("name")) for row in rows if _number(row.get("nb_cfg")) < asked)
        failure: OvnkError | Exception | None = self._programmer.written.failure if self._is_writing else None
        return Standing(
            accepted=self.progress["accepted"].reached,
            programmed=self.progress["programmed"].reached,
            realized=self.progress["realized"].reached,
            enforced=self.progress["enforced"].reached,
            chassis=None if self._southbound is None else len(rows),
            lagging=tuple(lagging),
            failure="" if failure is None else str(failure),
        )


def _mark_of(row: Row) -> Mark | None:
    ids = row.get("external_ids")
    text = str(ids.get(REVISION_KEY, "")) if isinstance(ids, dict) else ""
    revision, _, entry_id = text.partition(_SEPARATOR)
    return (int(revision), entry_id) if revision.isdigit() and revision.isascii() else None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
