"""How long changes take from accepted to the northbound, to northd and to the chassis: a histogram and, where spans are
on, a span for each stretch, below that of the call that made the change.

The keeper's stages tell how far revisions have come; nothing is asked of the databases. Changes that were accepted
together are measured as one. A server that is not the writer measures what it sees in the northbound.
"""

from __future__ import annotations

import time
from collections import deque

import anyio
from opentelemetry.trace import Span, set_span_in_context

from ovnk_core.keeper.stages import StageName, Stages
from ovnk_server.telemetry import Telemetry

STRETCHES: tuple[tuple[StageName, str], ...] = (("programmed", "nb"), ("realized", "sb"), ("enforced", "hv"))
MAX_WAITING = 10_000
"""Changes that are measured at one time; with more on their way the oldest are not measured any more."""


class _Accepted:
    """Changes that were accepted together: the revisions after ``before`` up to ``revision``."""

    def __init__(self, before: int, revision: int) -> None:
        self.before, self.revision = before, revision
        self.begun_s, self.stretch_ns = time.monotonic(), time.time_ns()
        self.spans: list[Span] = []


class Convergence:
    """Run it beside a keeper."""

    def __init__(self, telemetry: Telemetry, stages: Stages) -> None:
        self._telemetry, self._stages = telemetry, stages
        self._waiting: dict[str, deque[_Accepted]] = {stage: deque(maxlen=MAX_WAITING) for stage, _ in STRETCHES}

    async def run(self) -> None:
        """Measure until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._accept)
            for stage, label in STRETCHES:
                tasks.start_soon(self._reach, stage, label)

    async def _accept(self) -> None:
        progress = self._stages.progress["accepted"]
        known = progress.reached
        while True:
            await progress.changed()
            if progress.reached > known:
                accepted = _Accepted(known, progress.reached)
                known = progress.reached
                for waiting in self._waiting.values():
                    waiting.append(accepted)

    async def _reach(self, stage: StageName, label: str) -> None:
        progress = self._stages.progress[stage]
        histogram, waiting = self._telemetry.convergence_s.labels(label), self._waiting[stage]
        while True:
            await progress.changed()
            now_s, now_ns = time.monotonic(), time.time_ns()
            while waiting and waiting[0].revision <= progress.reached:
                accepted = waiting.popleft()
                histogram.observe(now_s - accepted.begun_s)
                if self._telemetry.tracer is not None:
                    self._follow(accepted, label, now_ns)

    def _follow(self, accepted: _Accepted, label: str, now_ns: int) -> None:
        tracer, changed = self._telemetry.tracer, self._telemetry.changed
        assert tracer is not None
        # A call may end a moment after its change is taken in: its span is looked for at every stretch.
        accepted.spans += [changed.pop(each) for each in list(changed) if accepted.before < each <= accepted.revision]
        for span in accepted.spans:
            made = tracer.start_span(
                f"converge.{label}", context=set_span_in_context(span), start_time=accepted.stretch_ns
            )
            made.set_attribute("ovnk.revision", accepted.revision)
            made.end(now_ns)
        accepted.stretch_ns = now_ns
