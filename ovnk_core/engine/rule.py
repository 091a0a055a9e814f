"""Rules: pure functions from one driver row to output rows, with every lookup recorded.

``f(read, key, row)`` runs once per row of its driver table. What it looks up through ``read`` is recorded, also
lookups that found nothing; when the driver row or any recorded read changes, that one run is repeated. Rules never
iterate a table (``Reader`` has no call for it), never mutate anything and never look at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, overload

from ovnk_core.engine.table import AnyTable, E, K, Output, SetTable, Table, V


class Reader(Protocol):
    """How a rule looks up other rows."""

    @overload
    def __call__(self, table: Table[K, V], key: K) -> V | None: ...
    @overload
    def __call__(self, table: SetTable[K, E], key: K) -> frozenset[E]: ...


RuleFunction = Callable[[Reader, Any, Any], Iterable[Output]]
F = TypeVar("F", bound=Callable[..., Iterable[Output]])


class Rule:
    """A declared rule. ``driver`` may be a SetTable: then a run's key is (key, element) and its row is None."""

    __slots__ = ("driver", "function", "name", "out", "reads")

    def __init__(
        self, function: RuleFunction, *, driver: AnyTable, reads: tuple[AnyTable, ...], out: tuple[AnyTable, ...]
    ) -> None:
        self.function, self.driver, self.reads, self.out = function, driver, reads, out
        self.name = f"{function.__module__.removeprefix('ovnk_core.')}.{function.__name__}"

    def __repr__(self) -> str:
        return f"Rule({self.name})"


def rule(*, driver: AnyTable, out: tuple[AnyTable, ...], reads: tuple[AnyTable, ...] = ()) -> Callable[[F], Rule]:
    """Declare a rule: the table that drives it, the tables it may read, the tables it writes."""

    def declare(function: F) -> Rule:
        return Rule(function, driver=driver, reads=reads, out=out)

    return declare
