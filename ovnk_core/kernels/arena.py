"""Packs intervals into one array of 64-bit words, the arena, that ``batch`` reads. numpy is imported with this module.

One array, because every further array argument costs a call some 150 ns. Its parts, found through the header:

* the index, from an address to its class. IPv4: either buckets of equal width over the span of all bounds, then a
  search of fixed length among (bound, class) words; or, where bounds cluster, a 16-8-8 tree of 16-bit entries that
  are a class or, from ``classes`` on, a chunk. IPv6: buckets over the upper halves, then a search.
* a record of 32 bytes per class: its best rule without ports for other protocols, TCP, UDP and SCTP, then 64 bits of
  which a port's bit is set if a rule about that port may come earlier.
* exact rows: a hash table from (class, atom) to the earliest rule, for every port whose rule comes before the class's
  best. Fast, but a class repeats the ports of the prefixes around it, so rows have a budget, ``ROWS_PER_ENTRY``.
  Over it, the tables per port of ``intervals`` are packed instead: linear memory, one search more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.columns import Columns
from ovnk_core.kernels.intervals import DEPTH, LOWEST, nest, port_tables
from ovnk_core.kernels.jit import kernel

Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

ROWS_PER_ENTRY = 8
SHIFTS, STRIDES = (16, 11, 6, 0), (16, 5, 5, 6)
"""Of the tree's levels: bits below a node, bits that choose a node of a chunk."""
HEADER = 16
RECORDS, EXACT, SLOTS, SLOT_SHIFT, TABLES, INDEX, BOUNDS, FIRST, WIDTH_SHIFT, BUCKETS, STEPS, LEVELS = range(12)
CLASSES = 15
"""Places in the header. Offsets count 64-bit words. """
HASH, HASH_2 = 0x9E3779B1, 0x85EBCA6B


class Tree:
    """What ``nest`` finds, trimmed."""

    def __init__(self, columns: Columns) -> None:
        count = len(columns)
        order, entries = _sorted(columns)
        best, parent, last = np.empty(4 * count + 4, np.int64), np.empty(count + 1, np.int64), np.empty(count + 1, np.int64)
        live = [np.empty(count, np.int64) for _ in range(3)]
        bounds = [np.empty(2 * count + 1, np.int64) for _ in range(3)]
        scratch = np.zeros(3 * DEPTH, np.int64)
        n_bounds, n_classes, n_live = nest(entries, (best, parent, last, *live, scratch), tuple(bounds))
        self.best, self.parent, self.last = best[: 4 * n_classes], parent[:n_classes], last[:n_classes]
        self.live = tuple(each[:n_live] for each in live)
        self.high, self.low, self.classes = (each[:n_bounds] for each in bounds)

    def tables(self) -> tuple[Longs, Longs, Longs, Longs]:
        """Atoms, first intervals, first classes and rules, as ``port_tables`` gives them."""
        order = np.argsort(self.live[1], kind="stable")
        live = tuple(each[order] for each in self.live)
        count = len(order)
        names, firsts = np.empty(count, np.int64), np.empty(count + 1, np.int64)
        starts, values = np.empty(3 * count + 1, np.int64), np.empty(3 * count + 1, np.int64)
        n_tables, size = port_tables(live, self.last, (names, firsts, starts, values, np.zeros(2 * DEPTH, np.int64)))
        return names[:n_tables], firsts[: n_tables + 1], starts[:size], values[:size]


def _sorted(columns: Columns) -> tuple[Longs, tuple[Longs, ...]]:
    high, low = np.frombuffer(columns.high, np.int64), np.frombuffer(columns.low, np.int64)
    length = np.frombuffer(columns.length, np.uint8)
    rules = np.repeat(np.arange(len(columns.counts)), np.frombuffer(columns.counts, np.int32))
    if not len(length) or length.max() <= 32:  # the lower 32 bits of every high half are free
        order = np.argsort(high | length, kind="stable")
    else:
        order = np.lexsort((length, low, high))
    high, low, length = high[order], low[order], length[order]
    end_low = low + _STEP_LOW[length]
    end_high = high + _STEP_HIGH[length] + ((length > 64) & (end_low == LOWEST))
    return order, (high, low, end_high, end_low, np.frombuffer(columns.atom, np.int32)[order].astype(np.int64), rules[order])


_STEP_HIGH = np.array([(1 << 64 - n) % (1 << 64) if n <= 64 else 0 for n in range(129)], np.uint64).view(np.int64)
_STEP_LOW = np.array([1 << 128 - n if n > 64 else 0 for n in range(129)], np.uint64).view(np.int64)
"""From the start of a prefix to its end, both halves, by length."""


@kernel
def _rows(parent: Longs, best: Longs, live: tuple[Longs, ...], budget: int) -> tuple[int, Longs, Longs, Longs]:
    """(first row of each class and one more, atom, rule) with the number of rows, or -1 for more than ``budget``."""
    live_class, live_atom, live_rule = live
    n_classes, n_live = len(parent), len(live_class)
    first, atoms, rules = np.empty(n_classes + 1, np.int64), np.empty(budget, np.int64), np.empty(budget, np.int64)
    size = at = 0
    for here in range(n_classes):
        first[here] = size
        if here > 0:
            for each in range(first[parent[here]], first[parent[here] + 1]):
                if rules[each] < best[4 * here + (atoms[each] >> 16)]:
                    if size == budget:
                        return -1, first, atoms, rules
                    atoms[size], rules[size] = atoms[each], rules[each]
                    size += 1
        while at < n_live and live_class[at] == here:
            if size == budget:
                return -1, first, atoms, rules
            atoms[size], rules[size] = live_atom[at], live_rule[at]
            size += 1
            at += 1
    first[n_classes] = size
    return size, first, atoms, rules


@kernel
def _fill(first: Longs, atoms: Longs, rules: Longs, records: npt.NDArray[np.uint32], slots: Words, shift: int) -> None:
    """Rows into the hash table ``slots`` [2 ** (32 - shift)] and the port bits of ``records`` [8 per class]."""
    last = len(slots) - 1
    for here in range(len(first) - 1):
        for each in range(first[here], first[here + 1]):
            atom = atoms[each]
            bit = (atom * HASH) & 0xFFFFFFFF
            records[8 * here + 4 + (bit >> 31)] |= np.uint32(1 << ((bit >> 26) & 31))
            tag = np.uint64(here << 18 | atom)
            slot = ((atom * HASH + here * HASH_2) & 0xFFFFFFFF) >> shift
            while slots[slot] != 0 and slots[slot] >> np.uint64(24) != tag:
                slot = (slot + 1) & last
            word = tag << np.uint64(24) | np.uint64(rules[each])
            if slots[slot] == 0 or word < slots[slot]:
                slots[slot] = word


@kernel
def _inherit(parent: Longs, live: tuple[Longs, ...], records: npt.NDArray[np.uint32]) -> None:
    """The port bits of ``records`` without rows: a class has its own and those of the classes around it."""
    at = 0
    for here in range(len(parent)):
        if here > 0:
            records[8 * here + 4] = records[8 * parent[here] + 4]
            records[8 * here + 5] = records[8 * parent[here] + 5]
        while at < len(live[0]) and live[0][at] == here:
            bit = (live[1][at] * HASH) & 0xFFFFFFFF
            records[8 * here + 4 + (bit >> 31)] |= np.uint32(1 << ((bit >> 26) & 31))
            at += 1


@kernel
def _grow(bounds: Longs, classes: Longs, nodes: npt.NDArray[np.uint32], levels: Longs, bases: Longs) -> int:
    """The tree over sorted ``bounds`` into ``nodes``, breadth first -> nodes used.

    ``levels``: in, the first number that means a chunk; out, where the chunks of levels 1 to 3 begin.
    ``bases``: scratch, the first address of each chunk.
    """
    end, leaves, chunks, size = len(bounds) - 1, levels[0], 1, 0
    first, bases[0] = 0, 0
    for level in range(4):
        shift, bits, at, after = SHIFTS[level], STRIDES[level], 0, chunks
        levels[level] = size
        for chunk in range(first, after):
            for child in range(1 << bits):
                base = bases[chunk] + (child << shift)
                while at < end and bounds[at + 1] <= base:
                    at += 1
                nodes[size] = classes[at]
                if at < end and bounds[at + 1] < base + (1 << shift):
                    nodes[size] = leaves + chunks - after
                    bases[chunks] = base
                    chunks += 1
                size += 1
        first = after
    return size


@kernel
def _buckets(bounds: Words, first: int, shift: int, starts: npt.NDArray[np.uint32]) -> int:
    """Bucket -> the bound in force where it starts -> most bounds inside one. Bucket 0 lies before ``bounds[1]``."""
    end, at, most = len(bounds) - 1, 0, 0
    starts[0] = 0
    for bucket in range(1, len(starts)):
        base = np.uint64(first) + (np.uint64(bucket - 1) << np.uint64(shift))
        before = at
        while at < end and bounds[at + 1] <= base:
            at += 1
        starts[bucket] = at
        most = max(most, at - before)
    return max(most, end - at)


def pack(columns: Columns, family: int) -> Words:
    """The arena of one family's entries; a few ms for 8,000 rules once compiled."""
    tree = Tree(columns)
    n_classes = len(tree.parent)
    header = np.zeros(HEADER, np.uint64)
    parts: list[npt.NDArray[Any]] = [header]
    header[CLASSES] = n_classes

    def append(name: int, part: npt.NDArray[Any]) -> None:
        header[name] = sum(each.nbytes for each in parts) // 8
        parts.append(part if part.nbytes % 8 == 0 else np.concatenate([part, np.zeros(-part.nbytes % 8 // part.itemsize, part.dtype)]))

    records = np.zeros((n_classes + 1) // 1 * 8, np.uint32).reshape(-1, 8)
    records[:n_classes, :4] = tree.best.reshape(-1, 4)
    append(RECORDS, records.reshape(-1))
    size, first, atoms, rules = _rows(tree.parent, tree.best, tree.live, ROWS_PER_ENTRY * len(columns) + 64)
    if size >= 0 and n_classes < 1 << 22 and len(columns.counts) < 1 << 24:
        bits = max(1, (2 * size - 1).bit_length())
        slots = np.zeros(1 << bits, np.uint64)
        _fill(first, atoms, rules, records.reshape(-1), slots, 32 - bits)
        header[EXACT], header[SLOT_SHIFT] = 1, 32 - bits
        append(SLOTS, slots)
    else:
        _inherit(tree.parent, tree.live, records.reshape(-1))
        _append_tables(tree, header, append)
    if family == 4:
        _append_index_4(tree, header, append)
    else:
        _append_index_6(tree, header, append)
    return np.concatenate([part.view(np.uint64) for part in parts])


def _append_tables(tree: Tree, header: Words, append: Any) -> None:
    names, firsts, starts, values = tree.tables()
    bits = max(1, (2 * len(names) - 1).bit_length())
    slots = np.zeros(2 << bits, np.uint64)
    _name(names, firsts, slots, 32 - bits)
    header[SLOT_SHIFT] = 32 - bits
    append(SLOTS, slots)
    append(TABLES, (starts << 32 | values).view(np.uint64))


@kernel
def _name(names: Longs, firsts: Longs, slots: Words, shift: int) -> None:
    """Hash table from atom to its table: words of atom, then first interval << 32 | intervals."""
    last = len(slots) // 2 - 1
    for table in range(len(names)):
        slot = ((names[table] * HASH) & 0xFFFFFFFF) >> shift
        while slots[2 * slot] != 0:
            slot = (slot + 1) & last
        slots[2 * slot] = names[table]
        slots[2 * slot + 1] = firsts[table] << 32 | (firsts[table + 1] - firsts[table])


def _append_index_4(tree: Tree, header: Words, append: Any) -> None:
    bounds = (tree.high >> 32) + (1 << 31)
    nodes = np.empty((1 << 16) + 128 * len(bounds), np.uint32)
    levels = np.array([len(tree.parent), 0, 0, 0])
    size = _grow(bounds, tree.classes, nodes, levels, np.empty(3 * len(bounds) + 1, np.int64))
    append(INDEX, nodes[:size])
    header[LEVELS : LEVELS + 3] = levels[1:]


def _append_index_6(tree: Tree, header: Words, append: Any) -> None:
    high, low = (each.view(np.uint64) ^ np.uint64(1 << 63) for each in (tree.high, tree.low))
    starts, steps = _bucketed(high + (low != 0), header)
    append(INDEX, starts)
    padded = np.full((len(high) + (1 << steps), 3), (1 << 64) - 1, np.uint64)
    padded[: len(high), 0], padded[: len(high), 1] = high, low
    padded[:, 2] = tree.classes[-1]
    padded[: len(high), 2] = tree.classes
    append(BOUNDS, padded.reshape(-1))


def _bucketed(bounds: Words, header: Words) -> tuple[npt.NDArray[np.uint32], int]:
    first, last = int(bounds[min(1, len(bounds) - 1)]), int(bounds[-1])
    buckets = min(1 << 16, max(8, 1 << (4 * len(bounds) - 1).bit_length()))
    shift = max(0, (last - first).bit_length() - (buckets.bit_length() - 1))
    used = ((last - first) >> shift) + 2
    starts = np.empty(used, np.uint32)
    most = _buckets(bounds, np.uint64(first), shift, starts)
    steps = most.bit_length()
    header[FIRST], header[WIDTH_SHIFT], header[BUCKETS], header[STEPS] = first, shift, used, steps
    return starts, steps
