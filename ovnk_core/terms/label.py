"""Labels and label selectors, with Kubernetes' exact semantics.

A selector is a conjunction of requirements. ``NotIn`` and ``DoesNotExist`` accept objects without the key; an
empty selector matches everything; an *absent* selector is not a selector (None) and its owner says what that means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, assert_never

from ovnk_core.terms.struct import Key

Labels = tuple[tuple[str, str], ...]
Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


class Requirement(Key, frozen=True, order=True, cache_hash=True):
    """key operator values; ``values`` sorted and unique, empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def accepts(self, value: str | None) -> bool:
        """Whether a label ``value`` (None: the key is absent) satisfies this requirement."""
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _ as never:
                assert_never(never)

    def __str__(self) -> str:
        match self.operator:
            case "In":
                return (
                    f"{self.key}={self.values[0]}"
                    if len(self.values) == 1
                    else f"{self.key} in ({', '.join(self.values)})"
                )
            case "NotIn":
                return f"{self.key} notin ({', '.join(self.values)})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case _ as never:
                assert_never(never)


class LabelSelector(Key, frozen=True, order=True, cache_hash=True):
    """All requirements must hold; sorted and unique, so equal selectors are equal values."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        for requirement in self.requirements:  # noqa: SIM110  # a generator expression costs more than the test
            if not requirement.accepts(labels.get(requirement.key)):
                return False
        return True

    def __str__(self) -> str:
        return ", ".join(map(str, self.requirements)) or "everything"


EVERYTHING = LabelSelector()


def labels(mapping: dict[str, str]) -> Labels:
    """A label map as a sorted tuple."""
    return tuple(sorted(mapping.items()))


def selector(requirements: Iterable[Requirement]) -> LabelSelector:
    """Requirements in any order, with duplicates, as one canonical selector."""
    return LabelSelector(tuple(sorted(set(requirements))))


def requirement(key: str, operator: Operator, values: Iterable[str] = ()) -> Requirement:
    return Requirement(key, operator, tuple(sorted(set(values))))
