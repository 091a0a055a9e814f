"""Keeps the wanted DNS names resolved: when to ask whom, and who hears of it. What answers mean: ``allocate.dns``.

One loop sleeps until the first name is due (a heap) and starts a task for each that is; at most ``queries`` questions
are on their way at once. Names come and go while it runs (``want``); a reply for a name that nobody wants any more is
dropped. Decisions that changed are handed to ``publish`` together, by one task: while it waits for its turn, later ones
join or replace them. Nothing here waits for DNS but the resolver itself, and no failure leaves it: failures are in
``status``.

A name that is no longer wanted keeps its decision for one grace period, so that a rule that is edited away and back
finds it. One on record that was never wanted keeps it until it is: objects may come late.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from ovnk_core.allocate.dns import GRACE_S, DnsState, begun, elapsed, heard, terms_of
from ovnk_core.errors import OvnkError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import DnsAnswer, DnsDecision
from ovnk_core.runtime.dns_query import NameServer, ask, read_resolv_conf
from ovnk_core.terms.address import Family
from ovnk_core.terms.struct import Value

RESOLV_CONF = "/etc/resolv.conf"
REPUBLISH_S = 5.0

Publish = Callable[[Mapping[str, DnsDecision | None]], Awaitable[None]]
"""Takes decisions by name; None forgets a name. May raise OvnkError: it is tried again."""


class ResolverSettings(Value, frozen=True, kw_only=True):
    """``servers`` in order; empty: those of ``resolv_conf``, read again at every question. ``timeout_s`` bounds one
    exchange with one server, ``grace_s`` is how long an Allow outlives an address, ``queries`` how many questions may
    be on their way. ``keeps_asking`` False is for a process that ends soon: only ``resolve_once`` asks, each name once,
    and only it and ``push`` hand anything over."""

    servers: tuple[NameServer, ...] = ()
    resolv_conf: str = RESOLV_CONF
    timeout_s: float = 2.0
    grace_s: float = GRACE_S
    queries: int = 16
    keeps_asking: bool = True


class NameStatus(Value, frozen=True, kw_only=True):
    """One name. Times are Unix seconds: ``due_s`` of the next question (infinity: nobody will ask it), ``heard_s``
    of the last word on the name, ``failed_s`` of the last failure of the current row of ``failures``. ``warnings``:
    what was not used of the last answer, that the answer in use is old, or that the newest is not in force yet."""

    name: str
    due_s: float
    heard_s: float | None
    failure: str
    failed_s: float | None
    failures: int
    is_answered: bool
    warnings: tuple[str, ...] = ()


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds, never running backwards."""

    async def sleep_until(self, at_s: float) -> None:
        """Until ``now()`` is at least ``at_s``; for ever for infinity."""


class SystemClock:
    """Unix time as it was when this was made, plus what passed since: setting the machine's clock moves no timer. The
    price: history is off by that step until the next start."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset

    async def sleep_until(self, at_s: float) -> None:
        if math.isinf(at_s):
            await anyio.sleep_forever()
        while (left_s := at_s - self.now()) > 0:
            await anyio.sleep(left_s)


class Resolver:
    """``settings`` None asks nobody: names live on what is on record and what a feed pushes.

    ``network`` says which families to ask for and which addresses are never an answer; it is called at each answer.
    """

    def __init__(
        self,
        settings: ResolverSettings | None,
        recorded: Mapping[str, DnsDecision],
        *,
        network: Callable[[], ClusterNetwork],
        publish: Publish,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or ResolverSettings()
        self._is_asking = settings is not None
        self._network, self._publish, self._clock = network, publish, clock or SystemClock()
        self._recorded = dict(recorded)
        self._states: dict[str, DnsState] = {}
        self._wanted: frozenset[str] = frozenset()
        self._terms = terms_of(network(), self._settings.grace_s)
        self._forget_s: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._alarms: dict[str, float] = {}
        self._in_flight: dict[str, anyio.Event] = {}
        self._changed: dict[str, DnsDecision | None] = {}
        self._publishing = anyio.Lock()
        self._limit = anyio.CapacityLimiter(self._settings.queries)
        self._wake, self._news = anyio.Event(), anyio.Event()
        self.lookups = Counter[str]()
        """Questions that were answered, by outcome."""
        self.problem = ""
        """Why decisions could not be handed over, while that is so."""

    # ------------------------------------------------------------------ what is wanted, what is known

    def want(self, names: Iterable[str]) -> None:
        """The names some rule needs now, all of them. Never waits. When the cluster's networks changed since the last
        call, every name is asked for again."""
        names = frozenset(names)
        now_s = self._clock.now()
        before, self._wanted = self._wanted, names
        for name in before - names:
            self._forget_s[name] = now_s + self._settings.grace_s
            self._schedule(name)
        for name in names - before:
            self._forget_s.pop(name, None)
            self._begin(name)
            self._schedule(name)
        terms = terms_of(self._network(), self._settings.grace_s)
        if terms != self._terms:
            self._terms = terms
            for name in names & before:
                self._states[name] = replace(self._states[name], due_s=now_s)
                self._schedule(name)

    def _begin(self, name: str) -> None:
        """Know a name, from the record if it is on it. What ended since it was recorded is news."""
        if name in self._states:
            return
        recorded = self._recorded.pop(name, None)
        state = self._states[name] = begun(name, recorded, self._clock.now(), self._settings.grace_s)
        if state.decision is not recorded:
            self._note(name, state.decision)

    def status(self) -> dict[str, NameStatus]:
        """By wanted name, sorted."""
        return {name: self._status(self._states[name]) for name in sorted(self._wanted)}

    def _status(self, state: DnsState) -> NameStatus:
        warnings = list(state.warnings)
        if state.failures:
            heard_s = state.heard_s
            age = "from the record" if heard_s is None else f"{self._clock.now() - heard_s:.0f} s old"
            using = f"; the last answer, {age}, stays in use" if state.decision else "; nothing is known of it yet"
            warnings.append(f"{state.name}: {state.failure}{using}")
        if self.problem and state.name in self._changed:
            warnings.append(f"{state.name}: what was heard last is not in force yet ({self.problem})")
        return NameStatus(
            name=state.name,
            due_s=state.due_s if self._may_ask(state.name) and self._settings.keeps_asking else math.inf,
            heard_s=state.heard_s,
            failure=state.failure,
            failed_s=state.failed_s,
            failures=state.failures,
            is_answered=state.decision is not None,
            warnings=tuple(warnings),
        )

    @property
    def is_idle(self) -> bool:
        """Nothing is due, on its way or waiting to be handed over."""
        is_due = min(self._alarms.values(), default=math.inf) <= self._clock.now()
        return not (is_due or self._in_flight or self._changed or self._publishing.locked())

    async def push(self, answer: DnsAnswer) -> None:
        """What a feed knows of a name, as if all servers had said so; in force when this returns. A push is complete:
        what it does not hold has left the answer."""
        if answer.name not in self._states:
            self._begin(answer.name)
            self._forget_s[answer.name] = self._clock.now() + self._settings.grace_s
        self._hear(answer.name, (answer,))
        await self._hand_over()

    # ------------------------------------------------------------------ running

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_handing_over)
            while True:
                self._wake = anyio.Event()
                self._start_due(tasks)
                await self._sleep(self._heap[0][0] if self._heap else math.inf)

    async def resolve_once(self, names: Iterable[str], deadline_s: float) -> dict[str, DnsDecision]:
        """Ask for names now, at most ``deadline_s`` seconds in all, end grace periods, and hand over what changed;
        decisions by name.

        For a command that runs once: names that nobody answered in time are left out, ``status`` says why.
        """
        names = tuple(name for name in dict.fromkeys(names) if self._may_ask(name))
        self.want(self._wanted | set(names))
        started_s = self._clock.now()
        waiting: dict[str, list[DnsAnswer]] = {name: [] for name in names}

        async def one(name: str) -> None:
            await self._ask(name, waiting[name])
            del waiting[name]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_at, tasks, started_s + deadline_s)
            async with anyio.create_task_group() as asking:
                for name in names:
                    asking.start_soon(one, name)
            tasks.cancel_scope.cancel()
        for name, answers in waiting.items():
            state = self._states[name]
            if max(state.heard_s or 0.0, state.failed_s or 0.0) < started_s:
                self._hear(name, [*answers, *self._late(name, answers, deadline_s)])
        for name in self._wanted:
            self._keep(elapsed(self._states[name], self._clock.now()))
        await self._hand_over()
        return {name: each for name in names if (each := self._states[name].decision) is not None}

    def _late(self, name: str, answers: Sequence[DnsAnswer], deadline_s: float) -> Iterable[DnsAnswer]:
        """A timeout for each family that was not heard of when the time was over."""
        given = {each.family for each in answers}
        what = {4: "A ", 6: "AAAA "} if given else {}
        for family in self._network().families:
            if family not in given:
                reason = f"no {what.get(family, '')}answer in {deadline_s:g} s"
                yield DnsAnswer(name=name, outcome="timeout", family=family, reason=reason)

    async def _cancel_at(self, tasks: TaskGroup, at_s: float) -> None:
        await self._clock.sleep_until(at_s)
        tasks.cancel_scope.cancel()

    async def _sleep(self, until_s: float) -> None:
        """Until a time, or until something was scheduled."""
        async with anyio.create_task_group() as tasks:

            async def sleep() -> None:
                await self._clock.sleep_until(until_s)
                tasks.cancel_scope.cancel()

            tasks.start_soon(sleep)
            await self._wake.wait()
            tasks.cancel_scope.cancel()

    def _schedule(self, name: str) -> None:
        """Make sure that the loop looks at a name in time. A name has one alarm; one that rings early does no harm."""
        if name not in self._wanted:
            at_s = self._forget_s[name]
        else:
            at_s = self._states[name].wake_s if self._may_ask(name) else self._states[name].expiry_s
        if at_s < self._alarms.get(name, math.inf):
            self._alarms[name] = at_s
            heapq.heappush(self._heap, (at_s, name))
            self._wake.set()

    def _start_due(self, tasks: TaskGroup) -> None:
        now_s = self._clock.now()
        while self._heap and self._heap[0][0] <= now_s:
            at_s, name = heapq.heappop(self._heap)
            if self._alarms.get(name) == at_s:
                del self._alarms[name]
                self._attend(name, now_s, tasks)

    def _attend(self, name: str, now_s: float, tasks: TaskGroup) -> None:
        """Whatever is due for a name. A round under way sees to the next alarm itself."""
        if name in self._in_flight:
            return
        if self._forget_s.get(name, math.inf) <= now_s:
            del self._forget_s[name]
            if self._states.pop(name).decision is not None:
                self._note(name, None)
        elif name in self._wanted and self._may_ask(name) and self._states[name].due_s <= now_s:
            self._in_flight[name] = anyio.Event()
            tasks.start_soon(self._round, name, [])
        else:
            self._keep(elapsed(self._states[name], now_s))

    def _may_ask(self, name: str) -> bool:
        return self._is_asking and not name.startswith("*.")

    # ------------------------------------------------------------------ asking

    async def _ask(self, name: str, answers: list[DnsAnswer]) -> None:
        """One round for a name, or what is left of the one under way."""
        if name in self._in_flight:
            await self._in_flight[name].wait()
        else:
            self._in_flight[name] = anyio.Event()
            await self._round(name, answers)

    async def _round(self, name: str, answers: list[DnsAnswer]) -> None:
        """Every family of the cluster at once. ``answers`` (empty) takes them as they come, for a caller that ends the
        round before its time."""
        try:
            servers = self._servers()
            async with anyio.create_task_group() as tasks:
                for family in self._network().families:
                    tasks.start_soon(self._question, name, family, servers, answers)
            self._hear(name, sorted(answers, key=lambda each: each.family or 0))
        finally:
            self._in_flight.pop(name).set()
            self._schedule(name)

    async def _question(
        self, name: str, family: Family, servers: tuple[NameServer, ...], answers: list[DnsAnswer]
    ) -> None:
        async with self._limit:
            answer = await ask(name, family, servers, self._settings.timeout_s)
            self.lookups[answer.outcome] += 1
            answers.append(answer)

    def _servers(self) -> tuple[NameServer, ...]:
        if self._settings.servers:
            return self._settings.servers
        try:
            return read_resolv_conf(Path(self._settings.resolv_conf).read_text(errors="replace"))
        except OSError:
            return ()

    def _hear(self, name: str, answers: Sequence[DnsAnswer]) -> None:
        terms = terms_of(self._network(), self._settings.grace_s)
        self._keep(heard(self._states[name], answers, self._clock.now(), terms))

    def _keep(self, state: DnsState) -> None:
        before = self._states[state.name].decision
        self._states[state.name] = state
        self._schedule(state.name)
        if state.decision is not before:
            self._note(state.name, state.decision)

    # ------------------------------------------------------------------ handing over

    def _note(self, name: str, decision: DnsDecision | None) -> None:
        self._changed[name] = decision
        self._news.set()

    async def _keep_handing_over(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            try:
                await self._hand_over()
            except OvnkError:
                await self._clock.sleep_until(self._clock.now() + REPUBLISH_S)
                self._news.set()

    async def _hand_over(self) -> None:
        """Everything that changed, as one. Raises what ``publish`` raises; the changes are kept for the next time."""
        async with self._publishing:
            changed, self._changed = self._changed, {}
            if not changed:
                return
            try:
                await self._publish(changed)
            except BaseException as error:
                self._changed = {**changed, **self._changed}
                self.problem = str(error)
                raise
            self.problem = ""
