"""One transaction of an engine: the edits it takes and the net delta it leaves."""

from __future__ import annotations

from typing import Any, Protocol

from ovnk_core.engine.state import ABSENT, Run, SetState, TableState
from ovnk_core.engine.table import AnyTable, SetTable, Table
from ovnk_core.terms.struct import Value

RowChanges = dict[Any, tuple[Any, Any]]
SetChanges = dict[Any, tuple[set[Any], set[Any]]]


class Delta:
    """Net changes of one transaction: ``rows`` key -> (old, new) and ``sets`` key -> (appeared, vanished).

    ``compared``: how many rows and elements had been written or taken away to find them.
    """

    __slots__ = ("_by_table", "compared")

    def __init__(self, by_table: dict[AnyTable, Any], compared: int = 0) -> None:
        self._by_table, self.compared = by_table, compared

    def rows(self, table: Table[Any, Any]) -> RowChanges:
        found: RowChanges = self._by_table.get(table, {})
        return found

    def sets(self, table: SetTable[Any, Any]) -> SetChanges:
        found: SetChanges = self._by_table.get(table, {})
        return found

    def tables(self) -> tuple[AnyTable, ...]:
        return tuple(self._by_table)

    def __bool__(self) -> bool:
        return bool(self._by_table)


class Origin(Value, frozen=True, kw_only=True):
    """Why a row exists: the rule, its driver key, and the (table, key) pairs it read."""

    rule: str
    driver: Any
    reads: tuple[tuple[str, Any], ...]


class Inputs(Protocol):
    """What a transaction may edit; both calls raise FloorError for a table that is derived."""

    def table(self, table: Table[Any, Any]) -> TableState: ...

    def set_table(self, table: SetTable[Any, Any]) -> SetState: ...


class Transaction:
    """Edits of input tables, applied at the end of the ``with`` block. ``delta`` is valid afterwards."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self.noops: list[tuple[str, Any]] = []
        self.delta = Delta({})

    def put(self, table: Table[Any, Any], key: Any, value: Any) -> None:
        """Set a row; the last write of a key wins, an equal write is a no-op."""
        state = self._inputs.table(table)
        if state.rows.get(key, ABSENT) == value:
            self.noops.append((table.name, key))
        else:
            state.put(key, value)

    def delete(self, table: Table[Any, Any], key: Any) -> None:
        """Remove a row; an absent key is a no-op."""
        state = self._inputs.table(table)
        if key in state.rows:
            state.drop(key)
        else:
            self.noops.append((table.name, key))

    def include(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        """Put an element into a set; one that is there already is a no-op."""
        state = self._inputs.set_table(table)
        if element in state.members(key):
            self.noops.append((table.name, (key, element)))
        else:
            state.add(key, element)

    def exclude(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        """Take an element out of a set; an absent one is a no-op."""
        state = self._inputs.set_table(table)
        if element in state.members(key):
            state.remove(key, element)
        else:
            self.noops.append((table.name, (key, element)))


def origin_of(run: Run) -> Origin:
    return Origin(
        rule=run.node.rule.name,
        driver=run.key,
        reads=tuple((state.table.name, key) for state, key in run.reads),
    )


def difference(before: dict[Any, Any], states: dict[Any, TableState | SetState]) -> Delta:
    delta: dict[AnyTable, Any] = {}
    for table, old in before.items():
        state = states[table]
        if isinstance(state, TableState):
            rows = {
                key: (old.get(key), state.rows.get(key))
                for key in {**old, **state.rows}
                if old.get(key, ABSENT) != state.rows.get(key, ABSENT)
            }
            if rows:
                delta[table] = rows
        else:
            sets = {
                key: (set(state.members(key)) - old.get(key, set()), old.get(key, set()) - set(state.members(key)))
                for key in {**old, **state.sets}
                if old.get(key, set()) != set(state.members(key))
            }
            if sets:
                delta[table] = sets
    return Delta(delta)
