"""The engine: transactions in, net deltas out.

One transaction sweeps the graph once, floor by floor, so no half-way state can be seen. A rule's run is repeated
only when its driver row or something it read has changed, and only real differences of its output travel on.
If anything raises, every table is put back, memos are dropped and the next use rebuilds from the inputs.

Cost model: a transaction costs the runs it triggers; each run costs its function plus O(outputs). Nothing scans a
table. Single-threaded and not re-entrant: the shell owns an engine in one task.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any, NoReturn

from ovnk_core.engine.graph import Graph, Node, name_of
from ovnk_core.engine.rule import Rule
from ovnk_core.engine.state import ABSENT, EMPTY, Counters, RuleNode, Run, SetState, TableState, View
from ovnk_core.engine.table import AnyTable, K, SetTable, Table, V
from ovnk_core.engine.transaction import Delta, Origin, Transaction, difference, origin_of
from ovnk_core.errors import BugError, Divergence, FloorError, KeyClash, RuleFault


class _Reads:
    """The reader handed to rules; records every lookup of the current run."""

    __slots__ = ("readable", "seen")

    def __init__(self) -> None:
        self.readable: dict[Any, TableState | SetState] = {}
        self.seen: list[tuple[TableState | SetState, Any]] = []

    def __call__(self, table: Any, key: Any) -> Any:
        state = self.readable.get(table)
        if state is None:
            raise FloorError(f"the rule reads {table.name}, which it does not declare")
        self.seen.append((state, key))
        if isinstance(state, TableState):
            return state.rows.get(key)
        return frozenset(state.members(key))


class _Inputs:
    """The tables nobody writes (``transaction.Inputs``)."""

    def __init__(self, states: dict[Any, TableState | SetState], graph: Graph) -> None:
        self._states, self._derived = states, graph.writers

    def table(self, table: Table[Any, Any]) -> TableState:
        state = self._states.get(table)
        if not isinstance(state, TableState) or table.name in self._derived:
            raise FloorError(f"{table.name} is not an input table")
        return state

    def set_table(self, table: SetTable[Any, Any]) -> SetState:
        state = self._states.get(table)
        if not isinstance(state, SetState) or table.name in self._derived:
            raise FloorError(f"{table.name} is not an input table")
        return state


class Engine:
    """``nodes``: rules and relation classes, in any order. ``check`` arms the expensive self-tests.

    ``inputs``: input tables to keep even while no node reads them.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        inputs: Sequence[AnyTable] = (),
        check: bool = False,
        verify_every: int = 0,
        seed: int = 0,
    ) -> None:
        self._nodes_given, self._inputs_given = tuple(nodes), tuple(inputs)
        self.graph = Graph(nodes, inputs)
        self.revision = 0
        self._check, self._verify_every, self._random = check, verify_every, random.Random(seed)
        self._busy = self._is_stale = False
        self._transactions = 0
        self._reads = _Reads()
        self._make_states()

    def _make_states(self) -> None:
        self._states: dict[Any, TableState | SetState] = {
            table: SetState(table) if isinstance(table, SetTable) else TableState(table)
            for table in self.graph.tables.values()
        }
        self._view = View(self._states)
        self._make_nodes()

    def _make_nodes(self) -> None:
        last_writer = {
            table: max(self.graph.nodes.index(node) for node in nodes) for table, nodes in self.graph.writers.items()
        }
        self._completes: list[list[TableState | SetState]] = [[] for _ in self.graph.nodes]
        for name, index in last_writer.items():
            self._completes[index].append(self._states[self.graph.tables[name]])
        self._inputs = [state for state in self._states.values() if state.table.name not in self.graph.writers]
        self._driven: dict[Any, list[RuleNode]] = {}
        self._running: list[RuleNode | Any] = []
        self._counters: dict[str, Counters] = getattr(self, "_counters", {})
        for index, node in enumerate(self.graph.nodes):
            counters = self._counters.setdefault(name_of(node), Counters())
            if isinstance(node, Rule):
                made = RuleNode(node, index)
                made.counters = counters
                made.readable = {table: self._states[table] for table in node.reads}
                self._driven.setdefault(self._states[node.driver], []).append(made)
                self._running.append(made)
            else:
                self._running.append(node())

    # ------------------------------------------------------------------ reading

    def rows(self, table: Table[K, V]) -> Mapping[K, V]:
        """All rows of a table; a read-only view, valid until the next transaction."""
        self._fresh()
        state = self._states[table]
        assert isinstance(state, TableState)
        return MappingProxyType(state.rows)

    def members(self, table: SetTable[Any, Any], key: Any) -> Mapping[Any, int]:
        """Elements of one set with their counts."""
        self._fresh()
        state = self._states[table]
        assert isinstance(state, SetState)
        return MappingProxyType(state.sets.get(key, {})) if key in state.sets else EMPTY

    def sets(self, table: SetTable[Any, Any]) -> Mapping[Any, Mapping[Any, int]]:
        self._fresh()
        state = self._states[table]
        assert isinstance(state, SetState)
        return MappingProxyType(state.sets)

    def why(self, table: AnyTable, key: Any, element: Any = None) -> tuple[Origin, ...]:
        """The runs that wrote a row (one) or an element of a set (any number); empty for inputs."""
        self._fresh()
        state = self._states[table]
        if isinstance(state, TableState):
            owner = state.owners.get(key)
            return (origin_of(owner),) if owner else ()
        return tuple(
            origin_of(run)
            for node in self._running
            if isinstance(node, RuleNode) and table in node.rule.out
            for run in node.runs.values()
            if any(out[0] is table and out[1] == key and out[2] == element for out in run.outputs)
        )

    def stats(self) -> dict[str, dict[str, int]]:
        """Per node: runs, cut_offs, rows_out, reads, ns; cumulative since the engine was made."""
        return {name: counters.as_dict() for name, counters in self._counters.items()}

    def describe(self, style: str = "text") -> str:
        return self.graph.describe(style)

    # ------------------------------------------------------------------ writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing: an exception in the block or in a rule leaves every table as it was."""
        self._begin()
        txn = Transaction(_Inputs(self._states, self.graph))
        try:
            yield txn
            for _ in self._sweep():
                pass
            txn.delta = self._commit()
        except BaseException:
            self._undo()
            raise
        finally:
            self._busy = False
        self._self_test()

    def load(
        self, edits: Iterable[tuple[Table[Any, Any], Any, Any]], *, yield_every_ms: float = 5.0
    ) -> Generator[None, None, Delta]:
        """One transaction of many puts (a value of None deletes) that hands control back every few milliseconds.

        The delta is the generator's return value; nothing is committed before that. Closing it early undoes all.
        """
        self._begin()
        txn = Transaction(_Inputs(self._states, self.graph))
        done = False
        try:
            slice_end = perf_counter_ns() + int(yield_every_ms * 1e6)
            for count, (table, key, value) in enumerate(edits):
                if value is None:
                    txn.delete(table, key)
                else:
                    txn.put(table, key, value)
                if not count & 63 and perf_counter_ns() > slice_end:
                    yield
                    slice_end = perf_counter_ns() + int(yield_every_ms * 1e6)
            for _ in self._sweep():
                if perf_counter_ns() > slice_end:
                    yield
                    slice_end = perf_counter_ns() + int(yield_every_ms * 1e6)
            delta = self._commit()
            done = True
        finally:
            if not done:
                self._undo()
            self._busy = False
        self._self_test()
        return delta

    def rebuild(self) -> Delta:
        """Forget all memos and run everything. The delta is empty unless the engine had diverged."""
        before = {
            table: dict(state.rows) if isinstance(state, TableState) else {k: set(v) for k, v in state.sets.items()}
            for table, state in self._states.items()
            if table.name in self.graph.writers
        }
        inputs = {
            table: (dict(state.rows) if isinstance(state, TableState) else {k: dict(v) for k, v in state.sets.items()})
            for table, state in self._states.items()
            if table.name not in self.graph.writers
        }
        self._make_states()
        for table, content in inputs.items():
            state = self._states[table]
            if isinstance(state, TableState):
                state.rows = content
            else:
                state.sets = content
            state.mark_all_new()
        self._is_stale = False
        for _ in self._sweep(rebuild=True):
            pass
        for state in self._states.values():
            state.finish()
        return difference(before, self._states)

    def verify(self) -> None:
        """Build a twin from the inputs; raise Divergence at the first table and key that differs."""
        self._fresh()
        twin = Engine(self._nodes_given, inputs=self._inputs_given)
        for table, state in self._states.items():
            if table.name not in self.graph.writers:
                other = twin._states[table]
                if isinstance(state, TableState) and isinstance(other, TableState):
                    other.rows = dict(state.rows)
                elif isinstance(state, SetState) and isinstance(other, SetState):
                    other.sets = {key: dict(counts) for key, counts in state.sets.items()}
                other.mark_all_new()
        for _ in twin._sweep(rebuild=True):
            pass
        for table, state in self._states.items():
            other = twin._states[table]
            mine = state.rows if isinstance(state, TableState) else state.sets
            theirs = other.rows if isinstance(other, TableState) else other.sets
            if mine != theirs:
                keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
                raise Divergence(
                    f"{table.name}[{keys[0]}]: incremental {mine.get(keys[0])!r}, from scratch {theirs.get(keys[0])!r}"
                    f" ({len(keys)} keys differ)"
                )

    # ------------------------------------------------------------------ the sweep

    def _begin(self) -> None:
        if self._busy:
            raise BugError("the engine is in a transaction already")
        self._fresh()
        self._busy = True

    def _fresh(self) -> None:
        if self._is_stale:
            self.rebuild()

    def _commit(self) -> Delta:
        delta: dict[AnyTable, Any] = {}
        for table, state in self._states.items():
            if state.net:
                delta[table] = state.net
            state.finish()
        if delta:
            self.revision += 1
        return Delta(delta)

    def _undo(self) -> None:
        for state in self._states.values():
            state.undo()
        self._is_stale = True

    def _self_test(self) -> None:
        self._transactions += 1
        if self._check and self._verify_every and self._transactions % self._verify_every == 0:
            self.verify()

    def _sweep(self, *, rebuild: bool = False) -> Generator[None, None, None]:
        for state in self._inputs:
            self._complete(state)
        for index, node in enumerate(self._running):
            started = perf_counter_ns()
            if isinstance(node, RuleNode):
                if node.dirty:
                    yield from self._run_rule(node)
                counters = node.counters
            else:
                counters = self._counters[node.name]
                if rebuild:
                    node.rebuild(self._view)
                    counters.runs += 1
                elif any(self._states[table].net for table in node.inputs):
                    node.step(self._view)
                    counters.runs += 1
            for state in self._completes[index]:
                self._complete(state)
            counters.ns += perf_counter_ns() - started
            yield

    def _complete(self, state: TableState | SetState) -> None:
        """All writers of a table have run: fix its net changes and wake whoever depends on them."""
        if not state.old and not (isinstance(state, TableState) and state.contested):
            return
        net = state.settle()
        drivers = self._driven.get(state, ())
        readers = state.readers
        if isinstance(state, TableState):
            for key in net:
                for node in drivers:
                    node.dirty[key] = None
                for run in readers.get(key, ()):
                    run.node.dirty[run.key] = None
        else:
            for key, (appeared, vanished) in net.items():
                for node in drivers:
                    for element in (*appeared, *vanished):
                        node.dirty[(key, element)] = None
                for run in readers.get(key, ()):
                    run.node.dirty[run.key] = None

    def _run_rule(self, node: RuleNode) -> Generator[None, None, None]:
        keys = list(node.dirty)
        node.dirty.clear()
        if self._check:
            self._random.shuffle(keys)
        driver = self._states[node.rule.driver]
        counters = node.counters
        self._reads.readable = node.readable
        count = 0
        for key in keys:
            if isinstance(driver, TableState):
                row = driver.rows.get(key, ABSENT)
            else:
                row = None if key[1] in driver.members(key[0]) else ABSENT
            run = node.runs.get(key)
            if row is ABSENT:
                if run is not None:
                    self._retract(run)
                    del node.runs[key]
                continue
            if run is None:
                run = node.runs[key] = Run(node, key)
            self._repeat(run, row)
            counters.runs += 1
            count += 1
            if not count & 255:
                yield
                self._reads.readable = node.readable

    def _repeat(self, run: Run, row: Any) -> None:
        node, reads = run.node, self._reads
        reads.seen = []
        try:
            outputs = tuple(node.rule.function(reads, run.key, row))
            if self._check:
                self._check_purity(node, run.key, row, outputs)
        except Exception as error:
            self._fault(node, run.key, error)
        node.counters.reads += len(reads.seen)
        seen = tuple(reads.seen)
        if seen != run.reads:
            self._rewire(run, seen)
        if outputs == run.outputs:
            node.counters.cut_offs += 1
            return
        node.counters.rows_out += len(outputs)
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

    def _rewire(self, run: Run, seen: tuple[tuple[TableState | SetState, Any], ...]) -> None:
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
        old = set(run.outputs)
        new = dict.fromkeys(outputs)
        kept = {(table, key) for table, key, _ in new if isinstance(table, Table)}
        if len(kept) != sum(isinstance(out[0], Table) for out in new):
            raise KeyClash(f"{run.node.rule.name}({run.key}) writes one key twice")
        for table, key, value in old:
            if (table, key, value) in new:
                continue
            state = self._states[table]
            if isinstance(state, SetState):
                state.remove(key, value)
            elif (table, key) not in kept:
                state.erase(key, run)
        for output in new:
            if output in old:
                continue
            table, key, value = output
            state = self._states[table]
            if isinstance(state, SetState):
                state.add(key, value)
            else:
                state.write(key, value, run)
        run.outputs = tuple(new)

    def _retract(self, run: Run) -> None:
        self._rewire(run, ())
        self._replace(run, ())
