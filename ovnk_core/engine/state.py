"""The data behind the tables of one engine, and what one transaction touched.

A state remembers, for each key touched since the transaction began, what was there before. ``settle`` turns that
into net changes once all writers of the table have run; ``undo`` puts the old content back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from ovnk_core.engine.relation import Relation
from ovnk_core.engine.rule import Rule
from ovnk_core.engine.table import SetTable, Table
from ovnk_core.errors import KeyClash

ABSENT: Final = object()
EMPTY: Mapping[Any, int] = MappingProxyType({})


class Run:
    """The memo of one driver row: what it read and what it wrote."""

    __slots__ = ("key", "node", "outputs", "reads")

    def __init__(self, node: RuleNode, key: Any) -> None:
        self.node, self.key = node, key
        self.reads: tuple[tuple[TableState | SetState, Any], ...] = ()
        self.outputs: tuple[Any, ...] = ()


class RuleNode:
    """A rule inside one engine: its memos, the driver keys to run again, and its counters.

    ``step`` is its bit in the sweep; ``readable`` and ``outs`` are the states it may read and writes.
    """

    __slots__ = ("counters", "dirty", "outs", "readable", "rule", "runs", "step")

    def __init__(
        self,
        rule: Rule,
        step: int,
        readable: dict[Any, TableState | SetState],
        outs: tuple[TableState | SetState, ...],
        counters: Counters,
    ) -> None:
        self.rule, self.step, self.readable, self.outs, self.counters = rule, step, readable, outs, counters
        self.runs: dict[Any, Run] = {}
        self.dirty: dict[Any, None] = {}


class RelationNode:
    """A relation inside one engine."""

    __slots__ = ("counters", "outs", "relation")

    def __init__(self, relation: Relation, outs: tuple[TableState | SetState, ...], counters: Counters) -> None:
        self.relation, self.outs, self.counters = relation, outs, counters

    def run(self, view: View, *, rebuild: bool) -> None:
        self.counters.runs += 1
        if rebuild:
            self.relation.rebuild(view)
        else:
            self.relation.step(view)


class Counters:
    """Work done by one node since the engine was made.

    ``runs`` of a rule's function or of a relation's step, ``cut_offs``: runs that said what they had said before,
    ``rows_out``: rows and elements that runs wrote or took away, ``reads``: lookups, ``ns``: wall time.
    """

    __slots__ = ("cut_offs", "ns", "reads", "rows_out", "runs")

    def __init__(self) -> None:
        self.runs = self.cut_offs = self.rows_out = self.reads = self.ns = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("runs", "cut_offs", "rows_out", "reads", "ns")}


class TableState:
    """Rows of one Table. ``owners`` holds the run that wrote a derived key; inputs have none.

    ``drives`` are the rules that run per row, ``wakes`` the steps of relations that read the table, ``settles`` the
    step at which its last writer is through.
    """

    __slots__ = ("contested", "drives", "net", "old", "owners", "readers", "rows", "settles", "table", "wakes")

    def __init__(self, table: Table[Any, Any]) -> None:
        self.table = table
        self.rows: dict[Any, Any] = {}
        self.old: dict[Any, Any] = {}
        self.owners: dict[Any, Run] = {}
        self.contested: list[tuple[Any, Any, Run]] = []
        self.readers: dict[Any, dict[Run, None]] = {}
        self.net: dict[Any, tuple[Any, Any]] = {}
        self.drives: list[RuleNode] = []
        self.wakes = self.settles = 0

    def count_touched(self) -> int:
        return len(self.old)

    def driver_keys(self) -> Iterable[Any]:
        """Keys of runs that the net changes concern."""
        return self.net

    def driver_row(self, key: Any) -> Any:
        """The row a run is about; ABSENT when it is gone."""
        return self.rows.get(key, ABSENT)

    def put(self, key: Any, value: Any) -> None:
        if key not in self.old:
            self.old[key] = self.rows.get(key, ABSENT)
        self.rows[key] = value

    def drop(self, key: Any) -> None:
        self.old.setdefault(key, self.rows.get(key, ABSENT))
        self.rows.pop(key, None)

    def write(self, key: Any, value: Any, run: Run) -> None:
        """A rule's output. A key whose other owner has not let go yet waits until ``settle``."""
        owner = self.owners.setdefault(key, run)
        if owner is run:
            self.put(key, value)
        else:
            self.old.setdefault(key, self.rows.get(key, ABSENT))
            self.contested.append((key, value, run))

    def erase(self, key: Any, run: Run) -> None:
        if self.owners.get(key) is run:
            del self.owners[key]
            self.drop(key)

    def settle(self) -> dict[Any, tuple[Any, Any]]:
        """Net changes, key -> (old, new) with None for absent. Raises KeyClash when two runs hold one key."""
        for key, value, run in self.contested:
            owner = self.owners.setdefault(key, run)
            if owner is not run:
                raise KeyClash(
                    f"{self.table.name}[{key}] is written by {run.node.rule.name}({run.key}) "
                    f"and by {owner.node.rule.name}({owner.key})"
                )
            self.put(key, value)
        self.contested.clear()
        net: dict[Any, tuple[Any, Any]] = {}
        rows = self.rows
        for key, old in self.old.items():
            new = rows.get(key, ABSENT)
            if old is new or (old is not ABSENT and new is not ABSENT and old == new):
                continue
            net[key] = (None if old is ABSENT else old, None if new is ABSENT else new)
        self.net = net
        return net

    def finish(self) -> None:
        self.old.clear()
        self.net = {}

    def undo(self) -> None:
        for key, old in self.old.items():
            if old is ABSENT:
                self.rows.pop(key, None)
            else:
                self.rows[key] = old
        self.contested.clear()
        self.finish()

    def mark_all_new(self) -> None:
        """Make every row look as if it had just been put: the start of a rebuild."""
        self.old = dict.fromkeys(self.rows, ABSENT)


class SetState:
    """Counted elements of one SetTable."""

    __slots__ = ("drives", "net", "old", "readers", "sets", "settles", "table", "wakes")

    def __init__(self, table: SetTable[Any, Any]) -> None:
        self.table = table
        self.sets: dict[Any, dict[Any, int]] = {}
        self.old: dict[Any, dict[Any, int]] = {}
        self.readers: dict[Any, dict[Run, None]] = {}
        self.net: dict[Any, tuple[set[Any], set[Any]]] = {}
        self.drives: list[RuleNode] = []
        self.wakes = self.settles = 0

    def count_touched(self) -> int:
        return sum(map(len, self.old.values()))

    def driver_keys(self) -> Iterable[Any]:
        """(key, element) of every element that appeared or vanished."""
        for key, (appeared, vanished) in self.net.items():
            for element in (*appeared, *vanished):
                yield key, element

    def driver_row(self, key: Any) -> Any:
        """Elements carry no value: None, or ABSENT."""
        return None if key[1] in self.members(key[0]) else ABSENT

    def members(self, key: Any) -> Mapping[Any, int]:
        return self.sets.get(key, EMPTY)

    def add(self, key: Any, element: Any) -> None:
        counts = self.sets.get(key)
        if counts is None:
            counts = self.sets[key] = {}
        count = counts.get(element, 0)
        before = self.old.get(key)
        if before is None:
            self.old[key] = {element: count}
        else:
            before.setdefault(element, count)
        counts[element] = count + 1

    def remove(self, key: Any, element: Any) -> None:
        counts = self.sets[key]
        count = counts[element]
        before = self.old.get(key)
        if before is None:
            self.old[key] = {element: count}
        else:
            before.setdefault(element, count)
        if count > 1:
            counts[element] = count - 1
            return
        del counts[element]
        if not counts:
            del self.sets[key]

    def settle(self) -> dict[Any, tuple[set[Any], set[Any]]]:
        """Net changes, key -> (appeared, vanished)."""
        net: dict[Any, tuple[set[Any], set[Any]]] = {}
        for key, before in self.old.items():
            now = self.sets.get(key, EMPTY)
            appeared: set[Any] = set()
            vanished: set[Any] = set()
            for element, count in before.items():
                if element in now:
                    if not count:
                        appeared.add(element)
                elif count:
                    vanished.add(element)
            if appeared or vanished:
                net[key] = (appeared, vanished)
        self.net = net
        return net

    def finish(self) -> None:
        self.old.clear()
        self.net = {}

    def undo(self) -> None:
        for key, before in self.old.items():
            counts = self.sets.setdefault(key, {})
            for element, count in before.items():
                if count:
                    counts[element] = count
                else:
                    counts.pop(element, None)
            if not counts:
                del self.sets[key]
        self.finish()

    def mark_all_new(self) -> None:
        self.old = {key: dict.fromkeys(counts, 0) for key, counts in self.sets.items()}


class View:
    """What a relation sees during a step (``relation.RelationView``)."""

    __slots__ = ("_rows", "_sets")

    def __init__(self, states: Mapping[Any, TableState | SetState]) -> None:
        self._rows = {table: state for table, state in states.items() if isinstance(state, TableState)}
        self._sets = {table: state for table, state in states.items() if isinstance(state, SetState)}

    def rows(self, table: Table[Any, Any]) -> Mapping[Any, Any]:
        return self._rows[table].rows

    def sets(self, table: SetTable[Any, Any]) -> Mapping[Any, Mapping[Any, int]]:
        return self._sets[table].sets

    def members(self, table: SetTable[Any, Any], key: Any) -> Mapping[Any, int]:
        return self._sets[table].sets.get(key, EMPTY)

    def changes(self, table: Table[Any, Any]) -> Mapping[Any, tuple[Any, Any]]:
        return self._rows[table].net

    def set_changes(self, table: SetTable[Any, Any]) -> Mapping[Any, tuple[set[Any], set[Any]]]:
        return self._sets[table].net

    def add(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        self._sets[table].add(key, element)

    def remove(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        self._sets[table].remove(key, element)
