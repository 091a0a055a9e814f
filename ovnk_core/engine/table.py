"""Tables: what the engine holds, and how rules name what they write.

A ``Table`` maps a key to one immutable value. A ``SetTable`` maps a key to a set of elements, each counted once per
writer, so that an element stays until its last writer is gone. Both are *declarations*: they carry a name and
types, no data. The data live in an ``Engine``, so two engines never share state.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
E = TypeVar("E", bound=Hashable)

Output = tuple["AnyTable", Any, Any]
"""What a rule yields: the table, the key, and the value (Table) or the element (SetTable)."""


class Table(Generic[K, V]):
    """One value per key; exactly one driver row may write a key."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def row(self, key: K, value: V) -> Output:
        """Say that ``key`` has ``value``."""
        return (self, key, value)

    def __repr__(self) -> str:
        return f"Table({self.name})"


class SetTable(Generic[K, E]):
    """A set of elements per key; any number of driver rows may write an element."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def member(self, key: K, element: E) -> Output:
        """Say that ``element`` belongs to the set ``key``."""
        return (self, key, element)

    def __repr__(self) -> str:
        return f"SetTable({self.name})"


AnyTable = Table[Any, Any] | SetTable[Any, Any]
