"""Classes and intervals as numpy arrays, by compiled kernels: what ``arena`` packs. Imports numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.columns import Columns
from ovnk_core.kernels.intervals import DEPTH, LOWEST, classify, nest, port_tables

Longs = npt.NDArray[np.int64]
_STEP_HIGH = np.array([(1 << 64 - n) % (1 << 64) if n <= 64 else 0 for n in range(129)], np.uint64).view(np.int64)
_STEP_LOW = np.array([1 << 128 - n if n > 64 else 0 for n in range(129)], np.uint64).view(np.int64)
"""From the start of a prefix to its end, both halves, by length."""


class Tree:
    """Of one family's entries: ``high``, ``low`` and ``classes`` [per bound]; ``best`` [4 per class], ``outer`` and
    ``last`` [per class]; ``live``: class, atom and rule [per live entry]. See ``intervals``."""

    __slots__ = ("best", "classes", "high", "last", "live", "low", "outer")

    def __init__(self, columns: Columns) -> None:
        count = len(columns)
        prefixes, atoms, rules = _sorted(columns)
        node_of, around, *bounds = (np.empty(size, np.int64) for size in (count, count + 1, *(2 * count + 1,) * 3))
        n_bounds, n_nodes = nest(prefixes, (node_of, around, np.zeros(3 * DEPTH, np.int64)), tuple(bounds))
        sizes = (n_nodes, 4 * n_nodes + 4, n_nodes + 1, n_nodes + 1, count, count, count)
        class_of, best, outer, last, *live = (np.empty(size, np.int64) for size in sizes)
        n_classes, n_live = classify((node_of, atoms, rules), around[:n_nodes], (class_of, best, outer, last, *live))
        self.high, self.low = bounds[0][:n_bounds], bounds[1][:n_bounds]
        self.classes: Longs = class_of[bounds[2][:n_bounds]]
        self.best, self.outer, self.last = best[: 4 * n_classes], outer[:n_classes], last[:n_classes]
        self.live = tuple(each[:n_live] for each in live)

    def tables(self) -> tuple[Longs, Longs, Longs, Longs]:
        """Atoms, first intervals, first classes and rules, as ``port_tables`` gives them."""
        order = np.argsort(self.live[1], kind="stable")
        live = tuple(each[order] for each in self.live)
        sizes = (len(order), len(order) + 1, 3 * len(order) + 1, 3 * len(order) + 1)
        names, firsts, starts, values = (np.empty(size, np.int64) for size in sizes)
        n_tables, size = port_tables(live, self.last, (names, firsts, starts, values, np.zeros(2 * DEPTH, np.int64)))
        return names[:n_tables], firsts[: n_tables + 1], starts[:size], values[:size]


def _sorted(columns: Columns) -> tuple[tuple[Longs, ...], Longs, Longs]:
    """The columns ``nest`` and ``classify`` read: prefixes, atoms, rules."""
    high, low = np.frombuffer(columns.high, np.int64), np.frombuffer(columns.low, np.int64)
    length = np.frombuffer(columns.length, np.uint8)
    rules = np.repeat(np.arange(len(columns.counts)), np.frombuffer(columns.counts, np.int32))
    if not len(length) or length.max() <= 32:  # the lower 32 bits of every upper half are free
        order = np.argsort(high | length)
    else:
        order = np.lexsort((length, low, high))
    high, low, length = high[order], low[order], length[order]
    end_low = low + _STEP_LOW[length]
    end_high = high + _STEP_HIGH[length] + ((length > 64) & (end_low == LOWEST))
    return (high, low, end_high, end_low), np.frombuffer(columns.atom, np.int32)[order].astype(np.int64), rules[order]
