"""The engine: transactions in, net deltas out.

One transaction sweeps the graph once, floor by floor (``sweep``), so no half-way state can be seen. If anything
raises, every table is put back, memos are dropped and the next use rebuilds from the inputs.

Cost model: a transaction costs the edits it makes and the runs they trigger, never the size of a table or of the
graph. Single-threaded and not re-entrant: the shell owns an engine in one task.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any

from ovnk_core.engine.graph import Graph, Node
from ovnk_core.engine.state import EMPTY, Counters, SetState, TableState
from ovnk_core.engine.sweep import Sweep
from ovnk_core.engine.table import AnyTable, K, SetTable, Table, V
from ovnk_core.engine.transaction import Delta, Origin, Transaction, difference, origin_of
from ovnk_core.errors import BugError, Divergence, FloorError


class _Inputs:
    """The tables nobody writes (``transaction.Inputs``)."""

    def __init__(self, states: dict[Any, TableState | SetState], graph: Graph) -> None:
        self._rows: dict[Any, TableState] = {}
        self._sets: dict[Any, SetState] = {}
        for table, state in states.items():
            if table.name not in graph.writers:
                if isinstance(state, TableState):
                    self._rows[table] = state
                else:
                    self._sets[table] = state

    def table(self, table: Table[Any, Any]) -> TableState:
        state = self._rows.get(table)
        if state is None:
            raise FloorError(f"{table.name} is not an input table")
        return state

    def set_table(self, table: SetTable[Any, Any]) -> SetState:
        state = self._sets.get(table)
        if state is None:
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
        self._verify_every = verify_every if check else 0
        self._shuffle = random.Random(seed) if check else None
        self._counters: dict[str, Counters] = {}
        self._busy = self._is_stale = False
        self._transactions = 0
        self._make_states()

    def _make_states(self) -> None:
        self._states: dict[Any, TableState | SetState] = {
            table: SetState(table) if isinstance(table, SetTable) else TableState(table)
            for table in self.graph.tables.values()
        }
        self._inputs = _Inputs(self._states, self.graph)
        self._sweep = Sweep(self.graph, self._states, self._counters, self._shuffle)

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
            for node in self._sweep.rules
            if table in node.rule.out
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
        txn = Transaction(self._inputs)
        try:
            yield txn
            for _ in self._sweep.run():
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
        txn = Transaction(self._inputs)
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
            for _ in self._sweep.run():
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
        for _ in self._sweep.run(rebuild=True):
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
        for _ in twin._sweep.run(rebuild=True):
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

    # ------------------------------------------------------------------ beginning and end

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
        compared = 0
        for state in self._sweep.settled:
            compared += state.count_touched()
            if state.net:
                delta[state.table] = state.net
            state.finish()
        if delta:
            self.revision += 1
        return Delta(delta, compared)

    def _undo(self) -> None:
        for state in self._states.values():
            state.undo()
        self._is_stale = True

    def _self_test(self) -> None:
        self._transactions += 1
        if self._verify_every and self._transactions % self._verify_every == 0:
            self.verify()
