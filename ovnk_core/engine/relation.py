"""Relations: the few hand-written, set-valued nodes, delta in and delta out.

For joins and big fan-in, where re-running a function would cost O(members). A relation reads the changes of its
inputs and emits changes of its outputs through a ``RelationView``; ``rebuild`` must give the same answer from
nothing, and the engine's contract test checks that it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ovnk_core.engine.table import AnyTable, SetTable, Table


class RelationView(Protocol):
    """What a relation sees of the engine during a step."""

    def rows(self, table: Table[Any, Any]) -> Mapping[Any, Any]:
        """Current rows of an input table."""
        ...

    def members(self, table: SetTable[Any, Any], key: Any) -> Mapping[Any, int]:
        """Current elements of one set, with their counts; empty when there are none."""
        ...

    def sets(self, table: SetTable[Any, Any]) -> Mapping[Any, Mapping[Any, int]]:
        """All sets of an input set table."""
        ...

    def changes(self, table: Table[Any, Any]) -> Mapping[Any, tuple[Any, Any]]:
        """key -> (old value, new value) of this transaction; None stands for absent."""
        ...

    def set_changes(self, table: SetTable[Any, Any]) -> Mapping[Any, tuple[set[Any], set[Any]]]:
        """key -> (elements that appeared, elements that vanished) of this transaction."""
        ...

    def add(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        """Count ``element`` once more in an output set."""
        ...

    def remove(self, table: SetTable[Any, Any], key: Any, element: Any) -> None:
        """Count ``element`` once less."""
        ...


class Relation(Protocol):
    """Made anew for each engine by calling its class; keeps private indexes between steps."""

    name: str
    inputs: tuple[AnyTable, ...]
    out: tuple[SetTable[Any, Any], ...]

    def step(self, view: RelationView) -> None:
        """Consume this transaction's input changes, emit output changes."""
        ...

    def rebuild(self, view: RelationView) -> None:
        """Forget private state and emit everything, from the inputs alone. Outputs are empty when called."""
        ...


RelationClass = type[Any]
