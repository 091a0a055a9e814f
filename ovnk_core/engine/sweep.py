"""One pass over the graph: which nodes have work, in which order, and what becomes of their outputs.

A rule's run is repeated only when its driver row or something it read has changed, and only real differences of its
output travel on. Nothing here looks at a table or a node that the transaction did not touch.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from time import perf_counter_ns
from typing import Any, NoReturn

from ovnk_core.engine.graph import Graph
from ovnk_core.engine.rule import Rule
from ovnk_core.engine.state import ABSENT, Counters, RelationNode, RuleNode, Run, SetState, TableState, View
from ovnk_core.engine.table import SetTable
from ovnk_core.errors import BugError, FloorError, KeyClash, RuleFault

State = TableState | SetState
RUNS_AT_A_TIME = 256
"""Between two chances to hand control back: a few milliseconds."""


class _Reads:
    """The reader handed to rules; records every lookup of the current run."""

    __slots__ = ("readable", "seen")

    def __init__(self) -> None:
        self.readable: dict[Any, State] = {}
        self.seen: list[tuple[State, Any]] = []

    def __call__(self, table: Any, key: Any) -> Any:
        state = self.readable.get(table)
        if state is None:
            raise FloorError(f"the rule reads {table.name}, which it does not declare")
        self.seen.append((state, key))
        if isinstance(state, TableState):
            return state.rows.get(key)
        return frozenset(state.members(key))


class Sweep:
    """All nodes of one engine, in running order. ``shuffle`` arms the self-tests and mixes the order of runs.

    Step 0 is the inputs; node i runs at step 2i + 1, and at step 2i + 2 the tables it is the last to write are settled,
    which wakes later nodes. ``_due`` holds the steps with work as bits, so that the next one is the lowest bit: a sweep
    costs the steps it takes, not those there are. ``settled`` are the states the last run touched.
    """

    def __init__(
        self, graph: Graph, states: dict[Any, State], counters: dict[str, Counters], shuffle: Random | None
    ) -> None:
        self._states, self._shuffle = states, shuffle
        self._reads, self._view = _Reads(), View(states)
        self._due = self._relations = 0
        self.settled: list[State] = []
        self.rules: list[RuleNode] = []
        self._inputs = tuple(state for state in states.values() if state.table.name not in graph.writers)
        self._steps: list[RuleNode | RelationNode | list[State]] = [[]]
        written: set[Any] = set()
        for index, node in enumerate(graph.nodes):
            bit = 1 << (2 * index + 1)
            counted = counters.setdefault(node.name, Counters())
            outs = tuple(dict.fromkeys(states[table] for table in node.out))
            if isinstance(node, Rule):
                rule = RuleNode(node, bit, {table: states[table] for table in node.reads}, outs, counted)
                states[node.driver].drives.append(rule)
                self.rules.append(rule)
                self._steps += [rule, []]
            else:
                self._steps += [RelationNode(node(), outs, counted), []]
                self._relations |= bit
                for table in node.inputs:
                    states[table].wakes |= bit
            written.update(outs)
            for state in outs:
                state.settles = bit << 1
        for state in written:
            last = self._steps[state.settles.bit_length() - 1]
            assert isinstance(last, list)
            last.append(state)

    def run(self, *, rebuild: bool = False) -> Generator[None, None, None]:
        """Bring every derived table up to its inputs; yields between pieces of work. ``rebuild``: relations start
        from nothing."""
        self.settled = []
        self._due = self._relations if rebuild else 0
        for state in self._inputs:
            if state.old:
                self._settle(state)
        while self._due:
            bit = self._due & -self._due
            self._due ^= bit
            step = self._steps[bit.bit_length() - 1]
            if isinstance(step, list):
                for state in step:
                    if state.old:
                        self._settle(state)
                continue
            started = perf_counter_ns()
            if isinstance(step, RuleNode):
                keys = self._take_dirty(step)
                for start in range(0, len(keys), RUNS_AT_A_TIME):
                    self._run_rule(step, keys[start : start + RUNS_AT_A_TIME])
                    yield
            else:
                step.run(self._view, rebuild=rebuild)
                yield
            for state in step.outs:
                if state.old:
                    self._due |= state.settles
            step.counters.ns += perf_counter_ns() - started

    def _settle(self, state: State) -> None:
        """All writers of a table have run: fix its net changes and wake whoever depends on them."""
        self.settled.append(state)
        net = state.settle()
        if not net:
            return
        due = self._due | state.wakes
        for rule in state.drives:
            rule.dirty.update(dict.fromkeys(state.driver_keys()))
            due |= rule.step
        if state.readers:
            for key in net:
                for run in state.readers.get(key, ()):
                    run.node.dirty[run.key] = None
                    due |= run.node.step
        self._due = due

    def _take_dirty(self, node: RuleNode) -> list[Any]:
        keys = list(node.dirty)
        node.dirty.clear()
        if self._shuffle is not None:
            self._shuffle.shuffle(keys)
        return keys

    def _run_rule(self, node: RuleNode, keys: list[Any]) -> None:
        driver = self._states[node.rule.driver]
        self._reads.readable = node.readable
        for key in keys:
            row = driver.driver_row(key)
            run = node.runs.get(key)
            if row is ABSENT:
                if run is not None:
                    self._retract(run)
                    del node.runs[key]
                continue
            if run is None:
                run = node.runs[key] = Run(node, key)
            self._repeat(run, row)

    def _repeat(self, run: Run, row: Any) -> None:
        node, reads, counters = run.node, self._reads, run.node.counters
        reads.seen = []
        try:
            outputs = tuple(node.rule.function(reads, run.key, row))
            if self._shuffle is not None:
                self._check_purity(node, run.key, row, outputs)
        except Exception as error:
            self._fault(node, run.key, error)
        seen = tuple(reads.seen)
        counters.runs += 1
        counters.reads += len(seen)
        if seen != run.reads:
            self._rewire(run, seen)
        if outputs == run.outputs:
            counters.cut_offs += 1
            return
        self._replace(run, outputs)

    def _check_purity(self, node: RuleNode, key: Any, row: Any, outputs: tuple[Any, ...]) -> None:
        digest = hash(row)
        seen = self._reads.seen
        self._reads.seen = []
        again = tuple(node.rule.function(self._reads, key, row))
        if again != outputs or self._reads.seen != seen or hash(row) != digest:
            raise BugError("the rule is not pure: a second run gave something else")
        for table, out_key, _ in outputs:
            if table not in node.rule.out:
                raise FloorError(f"the rule writes {table.name}[{out_key}], which it does not declare")

    def _fault(self, node: RuleNode, key: Any, error: Exception) -> NoReturn:
        read = ", ".join(f"{state.table.name}[{at}]" for state, at in self._reads.seen) or "nothing"
        raise RuleFault(f"{node.rule.name}({key}) raised {error!r}; it had read {read}") from error

    def _rewire(self, run: Run, seen: tuple[tuple[State, Any], ...]) -> None:
        for state, key in run.reads:
            readers = state.readers.get(key)
            if readers is not None:
                readers.pop(run, None)
                if not readers:
                    del state.readers[key]
        for state, key in seen:
            state.readers.setdefault(key, {})[run] = None
        run.reads = seen

    def _replace(self, run: Run, outputs: tuple[Any, ...]) -> None:
        """Exchange the outputs of a run; what it still says stays untouched."""
        old, new = _by_place(run, run.outputs), _by_place(run, outputs)
        changed = 0
        for place, value in old.items():
            if place not in new:
                changed += 1
                state = self._states[place[0]]
                if isinstance(state, SetState):
                    state.remove(place[1], value)
                else:
                    state.erase(place[1], run)
        for place, value in new.items():
            if place not in old or old[place] != value:
                changed += 1
                state = self._states[place[0]]
                if isinstance(state, SetState):
                    state.add(place[1], value)
                else:
                    state.write(place[1], value, run)
        run.outputs = outputs
        run.node.counters.rows_out += changed

    def _retract(self, run: Run) -> None:
        self._rewire(run, ())
        self._replace(run, ())


def _by_place(run: Run, outputs: tuple[Any, ...]) -> dict[tuple[Any, ...], Any]:
    """Outputs by where they go: (table, key), or for a set (table, key, element). Values are compared, never hashed.

    Raises KeyClash when a run says two things of one key.
    """
    places: dict[tuple[Any, ...], Any] = {}
    for output in outputs:
        table, key, value = output
        if isinstance(table, SetTable):
            places[output] = value
        elif places.setdefault((table, key), value) != value:
            raise KeyClash(f"{run.node.rule.name}({run.key}) writes one key twice")
    return places
