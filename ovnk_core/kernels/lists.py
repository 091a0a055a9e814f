"""Intervals as sorted lists, for single questions: built by the kernels' plain functions, so without numpy and numba.

Where compiled kernels are at hand already, those build them, which is some ten times faster for thousands of rules.
"""

from __future__ import annotations

from itertools import chain, repeat

from ovnk_core.kernels.columns import HALF, LOW_64, WIDTHS, Columns
from ovnk_core.kernels.intervals import DEPTH, LOWEST, nest, port_tables

SMALL = 200
"""Up to so many entries, lists are built without asking what is compiled."""


class Lists:
    """``bounds``: sorted addresses; from ``bounds[i]`` on an address is of class ``classes[i]``. ``best``: 4 per class,
    see ``nest``. ``tables``: atom -> (first classes, rules). ``highest``: the last address of the family."""

    __slots__ = ("best", "bounds", "classes", "highest", "tables")

    def __init__(self, columns: Columns, family: int) -> None:
        self.highest = (1 << WIDTHS[family]) - 1
        if nest.is_compiled and len(columns) > SMALL:
            from ovnk_core.kernels.arena import Tree

            tree = Tree(columns)
            high, low, self.classes, self.best = (
                each.tolist() for each in (tree.high, tree.low, tree.classes, tree.best)
            )
            names, firsts, starts, values = (each.tolist() for each in tree.tables())
        else:
            high, low, self.classes, self.best, (names, firsts, starts, values) = _plain(columns)
        if family == 4:
            self.bounds = [(each + HALF) >> 32 for each in high]
        else:
            self.bounds = [(upper + HALF) << 64 | (lower + HALF) for upper, lower in zip(high, low, strict=True)]
        self.tables: dict[int, tuple[list[int], list[int]]] = {
            name: (starts[firsts[at] : firsts[at + 1]], values[firsts[at] : firsts[at + 1]])
            for at, name in enumerate(names)
        }


def _plain(columns: Columns) -> tuple[list[int], list[int], list[int], list[int], tuple[list[int], ...]]:
    """Bounds high, low and class, ``best``, and port tables, as ``nest`` and ``port_tables`` give them."""
    count = len(columns)
    best, parent, last = [0] * (4 * count + 4), [0] * (count + 1), [0] * (count + 1)
    live, bounds = [[0] * count for _ in range(3)], [[0] * (2 * count + 1) for _ in range(3)]
    outs = (best, parent, last, *live, [0] * (3 * DEPTH))
    n_bounds, n_classes, n_live = nest.py_func(_sorted(columns), outs, tuple(bounds))
    high, low, classes = (each[:n_bounds] for each in bounds)
    order = sorted(range(n_live), key=live[1].__getitem__)
    tables = ([0] * n_live, [0] * (n_live + 1), [0] * (3 * n_live + 1), [0] * (3 * n_live + 1), [0] * (2 * DEPTH))
    sorted_live = tuple([each[at] for at in order] for each in live)
    n_tables, size = port_tables.py_func(sorted_live, last[:n_classes], tables)
    names, firsts, starts, values, _ = tables
    return high, low, classes, best[: 4 * n_classes], (names[:n_tables], firsts, starts[:size], values[:size])


def _sorted(columns: Columns) -> tuple[list[int], ...]:
    """The columns ``nest`` reads."""
    rules = chain.from_iterable(map(repeat, range(len(columns.counts)), columns.counts))
    rows = sorted(zip(columns.high, columns.low, columns.length, columns.atom, rules, strict=True))
    if not rows:
        return ([], [], [], [], [], [])
    high, low, length, atoms, sorted_rules = map(list, zip(*rows, strict=True))
    ends = [_end(*row[:3]) for row in rows]
    return high, low, [end[0] for end in ends], [end[1] for end in ends], atoms, sorted_rules


def _end(high: int, low: int, length: int) -> tuple[int, int]:
    """The first address after a prefix, wrapping around."""
    if length <= 64:
        high += 1 << 64 - length
        return (high if high < HALF else LOWEST), low
    low += 1 << 128 - length
    if low < HALF:
        return high, low
    return (high + 1 if high + 1 < HALF else LOWEST), LOWEST
