"""The data behind the tables of one engine, and what one transaction touched.

A state remembers, for each key touched since the transaction began, what was there before. ``settle`` turns that
into net changes once all writers of the table have run; ``undo`` puts the old content back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

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
    """A rule inside one engine: its memos, the driver keys to run again, and its counters."""

    __slots__ = ("counters", "dirty", "index", "readable", "rule", "runs")

    def __init__(self, rule: Rule, index: int) -> None:
        self.rule, self.index = rule, index
        self.runs: dict[Any, Run] = {}
        self.dirty: dict[Any, None] = {}
        self.readable: dict[Any, TableState | SetState] = {}
        self.counters = Counters()


class Counters:
    """Work done by one node since the engine was made. ``ns`` is wall time of its sweeps."""

    __slots__ = ("cut_offs", "ns", "reads", "rows_out", "runs")

    def __init__(self) -> None:
        self.runs = self.cut_offs = self.rows_out = self.reads = self.ns = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("runs", "cut_offs", "rows_out", "reads", "ns")}


class TableState:
    """Rows of one Table. ``owners`` holds the run that wrote a derived key; inputs have none."""

    __slots__ = ("contested", "net", "old", "owners", "readers", "rows", "table")

    def __init__(self, table: Table[Any, Any]) -> None:
        self.table = table
        self.rows: dict[Any, Any] = {}
        self.old: dict[Any, Any] = {}
        self.owners: dict[Any, Run] = {}
        self.contested: list[tuple[Any, Any, Run]] = []
        self.readers: dict[Any, dict[Run, None]] = {}
        self.net: dict[Any, tuple[Any, Any]] = {}

    def put(self, key: Any, value: Any) -> None:
        self.old.setdefault(key, self.rows.get(key, ABSENT))
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

    __slots__ = ("net", "old", "readers", "sets", "table")

    def __init__(self, table: SetTable[Any, Any]) -> None:
        self.table = table
        self.sets: dict[Any, dict[Any, int]] = {}
        self.old: dict[Any, dict[Any, int]] = {}
        self.readers: dict[Any, dict[Run, None]] = {}
        self.net: dict[Any, tuple[set[Any], set[Any]]] = {}

    def members(self, key: Any) -> Mapping[Any, int]:
        return self.sets.get(key, EMPTY)

    def add(self, key: Any, element: Any) -> None:
        counts = self.sets.setdefault(key, {})
        count = counts.get(element, 0)
        self.old.setdefault(key, {}).setdefault(element, count)
        counts[element] = count + 1

    def remove(self, key: Any, element: Any) -> None:
        counts = self.sets[key]
        count = counts[element]
        self.old.setdefault(key, {}).setdefault(element, count)
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
            appeared = {element for element, count in before.items() if not count and element in now}
            vanished = {element for element, count in before.items() if count and element not in now}
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

    __slots__ = ("_states",)

    def __init__(self, states: dict[Any, TableState | SetState]) -> None:
        self._states = states

    def rows(self, table: Table[Any, Any]) -> Mapping[Any, Any]:
        state = self._states[table]
        assert isinstance(state, TableState)
        return state.rows

    def sets(self, table: SetTable[Any, Any]) -> Mapping[Any, Mapping[Any, int]]:
        return self._set(table).sets

    def members(self, table: SetTable[Any, Any], key: Any) -> Mapping[Any, int]:
        return self._set(table).members(key)

    def changes(self, table: Table[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
        state = self._states[table]
        assert isinstance(state, TableState)
        for key, (old, new) in state.net.items():
            yield key, old, new

    def set_changes(self, table: SetTable[Any, Any]) -> Iterator[tuple[Any, set[Any], set[Any]]]:
        for key, (appeared, vanished) in self._set(table).net.items():
            yield key, appeared, vanished

    def add(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        self._set(table).add(key, element)

    def remove(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        self._set(table).remove(key, element)

    def _set(self, table: SetTable[Any, Any]) -> SetState:
        state = self._states[table]
        assert isinstance(state, SetState)
        return state
