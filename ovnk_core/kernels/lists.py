"""Classes and intervals as sorted lists, for single questions: built by the kernels' plain functions, without numpy.

Where compiled kernels are at hand already those build them, some ten times faster for thousands of entries.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import NamedTuple

from ovnk_core.kernels.columns import HALF, WIDTHS, Columns
from ovnk_core.kernels.intervals import DEPTH, LOWEST, classify, nest, port_tables

SMALL = 200
"""Up to so many entries the plain functions are as fast."""
Tables = tuple[list[int], list[int], list[int], list[int]]


class Lists(NamedTuple):
    """What a single question reads; a tuple, because unpacking one costs less than five attributes.

    ``highest``: the last address of the family. ``bounds``: sorted addresses; from ``bounds[i]`` on ``best[places[i]]``
    to ``best[places[i] + 3]`` are the four best rules of the class, see ``classify``; a place is four times a class.
    ``table_of``: atom -> its table; ``firsts``, ``starts``, ``rules``: of ``port_tables``, ``starts`` as places.
    """

    highest: int
    bounds: list[int]
    places: list[int]
    best: list[int]
    table_of: dict[int, int]
    firsts: list[int]
    starts: list[int]
    rules: list[int]


def lists_of(columns: Columns, family: int) -> Lists:
    """The lists of one family's entries."""
    is_quick = nest.is_compiled and len(columns) > SMALL
    high, low, classes, best, (names, firsts, starts, rules) = _compiled(columns) if is_quick else _plain(columns)
    if family == 4:
        bounds = [(each + HALF) >> 32 for each in high]
    else:
        bounds = [(upper + HALF) << 64 | (lower + HALF) for upper, lower in zip(high, low, strict=True)]
    table_of = {name: table for table, name in enumerate(names)}
    places, start_places = [4 * each for each in classes], [4 * each for each in starts]
    return Lists((1 << WIDTHS[family]) - 1, bounds, places, best, table_of, firsts, start_places, rules)


def _compiled(columns: Columns) -> tuple[list[int], list[int], list[int], list[int], Tables]:
    from ovnk_core.kernels.tree import Tree

    tree = Tree(columns)
    names, firsts, starts, values = tree.tables()
    tables = names.tolist(), firsts.tolist(), starts.tolist(), values.tolist()
    return tree.high.tolist(), tree.low.tolist(), tree.classes.tolist(), tree.best.tolist(), tables


def _plain(columns: Columns) -> tuple[list[int], list[int], list[int], list[int], Tables]:
    """Bounds high, low and class, ``best``, and port tables."""
    count = len(columns)
    prefixes, atoms, rules = _sorted(columns)
    node_of, around = [0] * count, [0] * (count + 1)
    bounds = [[0] * (2 * count + 1) for _ in range(3)]
    n_bounds, n_nodes = nest.py_func(prefixes, (node_of, around, [0] * (3 * DEPTH)), tuple(bounds))
    class_of, best, outer, last = ([0] * size for size in (n_nodes, 4 * n_nodes + 4, n_nodes + 1, n_nodes + 1))
    live = [[0] * count for _ in range(3)]
    n_classes, n_live = classify.py_func(
        (node_of, atoms, rules), around[:n_nodes], (class_of, best, outer, last, *live)
    )
    order = sorted(range(n_live), key=live[1].__getitem__)
    sorted_live = tuple([each[at] for at in order] for each in live)
    names, firsts, starts, values = ([0] * size for size in (n_live, n_live + 1, 3 * n_live + 1, 3 * n_live + 1))
    n_tables, size = port_tables.py_func(sorted_live, last, (names, firsts, starts, values, [0] * (2 * DEPTH)))
    tables = names[:n_tables], firsts[: n_tables + 1], starts[:size], values[:size]
    high, low, nodes = (each[:n_bounds] for each in bounds)
    classes = [class_of[node] for node in nodes]
    return high, low, classes, best[: 4 * n_classes], tables


def _sorted(columns: Columns) -> tuple[tuple[list[int], ...], list[int], list[int]]:
    """The columns ``nest`` and ``classify`` read: prefixes, atoms, rules."""
    rules = chain.from_iterable(map(repeat, range(len(columns.counts)), columns.counts))
    rows = sorted(zip(columns.high, columns.low, columns.length, columns.atom, rules, strict=True))
    ends = [_end(high, low, length) for high, low, length, _, _ in rows]
    prefixes = ([row[0] for row in rows], [row[1] for row in rows], [end[0] for end in ends], [end[1] for end in ends])
    return prefixes, [row[3] for row in rows], [row[4] for row in rows]


def _end(high: int, low: int, length: int) -> tuple[int, int]:
    """The first address after a prefix, wrapping around."""
    if length > 64:
        low += 1 << 128 - length
        if low < HALF:
            return high, low
        low, length = LOWEST, 64
    high += 1 << 64 - length
    return (high if high < HALF else LOWEST), low
