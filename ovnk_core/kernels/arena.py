"""Packs classes and intervals into one array of 64-bit words, the arena, that ``batch`` reads.

One array, because every further array argument costs a call some 150 ns. Seen as 32-bit words it holds, in order:

* The header, and the number of each protocol's kind (``columns.KINDS``).
* A record of 8 words per class, at ``(FIRST_RECORD + class) * 8``: its own place; its best rule without ports for other
  protocols, TCP, UDP and SCTP; 64 bits of which a port's bit is set if a rule about that port may come before them.
* The index, from an address to the place of a record. IPv4: a tree of 16, 5, 5 and 6 bits. A node is a place: of a
  record or, with ``CHUNK`` set, of the chunk of nodes below. A search always takes all steps; from a record it reads
  the record's own place again, so the processor has nothing to guess. Measured against buckets with a search, 16-8-8
  and 16-4-4-4-4: two or three ns slower than 16-8-8, with half to a quarter of its memory and a third of its build,
  and without the bad sets of buckets. At most 512 bytes per bound. IPv6: buckets of equal width over the upper halves,
  then a search with a fixed number of steps.
* Exact rows: a hash table from (record, atom) to the earliest rule, for every port whose rule comes before the class's
  best. Fast, but a class repeats the ports of the prefixes around it, so rows have a budget of ``ROWS_PER_ENTRY``.
  Over it the tables per port of ``intervals`` are packed instead: linear memory, one search more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.columns import KINDS, Columns
from ovnk_core.kernels.jit import kernel
from ovnk_core.kernels.tree import Longs, Tree

Words = npt.NDArray[np.uint64]
HalfWords = npt.NDArray[np.uint32]

ROWS_PER_ENTRY = 8
HEADER, KINDS_AT, FIRST_RECORD = 16, 16, 12
"""64-bit words of the header; where the kinds of protocols follow, 256 bytes; the first record, in records."""
RECORDS, PORTS, SLOTS, SLOT_SHIFT, TABLES, INDEX, BOUNDS, FIRST, WIDTH_SHIFT, BUCKETS, STEPS = range(11)
"""Places in the header; offsets count 64-bit words. ``PORTS`` is one of the three below."""
NO_PORTS, EXACT_ROWS, PORT_TABLES = range(3)
CHUNK = 1 << 31
SHIFTS, STRIDES = (16, 11, 6, 0), (16, 5, 5, 6, 0)
"""Of the tree's levels: bits below a node, bits that choose a node of a chunk."""
HASH, HASH_2 = 0x9E3779B1, 0x85EBCA6B
MAX_WORD = (1 << 64) - 1


class _Parts:
    """An arena being put together."""

    def __init__(self) -> None:
        self.header = np.zeros(HEADER, np.uint64)
        kinds = np.zeros(256, np.uint8)
        kinds[list(KINDS)] = list(KINDS.values())
        self._parts: list[Words] = [self.header, kinds.view(np.uint64)]

    @property
    def size(self) -> int:
        """64-bit words so far."""
        return sum(map(len, self._parts))

    def add(self, name: int, part: Words | HalfWords) -> None:
        """Append ``part``, to be found through ``header[name]``."""
        self.header[name] = self.size
        padded = np.zeros(-(-part.nbytes // 8), np.uint64)
        padded.view(part.dtype)[: len(part)] = part
        self._parts.append(padded)

    def joined(self, extra: int = 0) -> Words:
        """The arena, and behind it ``extra`` words that are not set."""
        arena = np.empty(self.size + extra, np.uint64)
        np.concatenate(self._parts, out=arena[: self.size])
        return arena


def pack(columns: Columns, family: int) -> Words:
    """The arena of one family's entries [n]; some 3 ms for 8,000 rules."""
    tree = Tree(columns)
    parts = _Parts()
    n_classes = len(tree.outer)
    records = np.zeros((n_classes, 8), np.uint32)
    records[:, 0] = (np.arange(n_classes) + FIRST_RECORD) * 8
    records[:, 1:5] = tree.best.reshape(-1, 4)
    flat = records.reshape(-1)
    size, first, atoms, rules = _rows(tree.outer, tree.best, tree.live, ROWS_PER_ENTRY * len(columns))
    is_exact = size >= 0 and n_classes + FIRST_RECORD < 1 << 22  # a slot: 22 bits record, 18 bits atom, 24 bits rule
    if is_exact:
        slots = np.zeros(max(2, 1 << (2 * size - 1).bit_length()), np.uint64)
        _fill(first, atoms, rules, flat, slots)
    else:
        _inherit(tree.outer, tree.live, flat)
        names, firsts, starts, values = tree.tables()
        slots = np.zeros(2 * max(2, 1 << (2 * len(names) - 1).bit_length()), np.uint64)
        _name(names, firsts, slots)
    parts.add(RECORDS, flat)
    parts.header[PORTS] = NO_PORTS if not len(tree.live[0]) else EXACT_ROWS if is_exact else PORT_TABLES
    parts.header[SLOT_SHIFT] = 33 - (len(slots) if is_exact else len(slots) // 2).bit_length()
    parts.add(SLOTS, slots)
    if not is_exact:
        parts.add(TABLES, ((starts + FIRST_RECORD) << 32 | values).view(np.uint64))
    return _with_index_4(tree, parts) if family == 4 else _with_index_6(tree, parts)


def _with_index_4(tree: Tree, parts: _Parts) -> Words:
    """The tree is grown in place, because it is most of the arena: pages that it does not need are never touched."""
    bounds, start = (tree.high >> 32) + (1 << 31), parts.size
    parts.header[INDEX] = start
    arena = parts.joined((1 << 15) + 64 * len(bounds))
    nodes = arena[start:].view(np.uint32)
    size = _grow(bounds, tree.classes, nodes, 2 * start, np.empty(3 * len(bounds) + 1, np.int64))
    return arena[: start + size // 2]


def _with_index_6(tree: Tree, parts: _Parts) -> Words:
    high, low = (each.view(np.uint64) ^ np.uint64(1 << 63) for each in (tree.high, tree.low))
    first, last = int(high[min(1, len(high) - 1)]), int(high[-1])
    bits = min(16, (4 * len(high)).bit_length())
    shift = max(0, (last - first).bit_length() - bits)
    starts = np.empty(((last - first) >> shift) + 2, np.uint32)
    steps = _buckets(high, low, np.uint64(first), shift, starts).bit_length()
    for name, value in ((FIRST, first), (WIDTH_SHIFT, shift), (BUCKETS, len(starts)), (STEPS, steps)):
        parts.header[name] = value
    bounds = np.full((len(high) + (1 << steps), 3), MAX_WORD, np.uint64)  # a search may look past the end
    bounds[: len(high), 0], bounds[: len(high), 1] = high, low
    places = (tree.classes + FIRST_RECORD) * 8
    bounds[: len(high), 2], bounds[len(high) :, 2] = places, places[-1]
    parts.add(INDEX, starts)
    parts.add(BOUNDS, bounds.reshape(-1))
    return parts.joined()


@kernel
def _rows(outer: Longs, best: Longs, live: tuple[Longs, ...], budget: int) -> tuple[int, Longs, Longs, Longs]:
    """(first row of each class and one more, atom, rule) with the number of rows, or -1 for more than ``budget``."""
    live_class, live_atom, live_rule = live
    n_classes, n_live = len(outer), len(live_class)
    first, atoms, rules = np.empty(n_classes + 1, np.int64), np.empty(budget, np.int64), np.empty(budget, np.int64)
    size = at = 0
    for here in range(n_classes):
        first[here] = size
        if here > 0:
            for each in range(first[outer[here]], first[outer[here] + 1]):
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
def _fill(first: Longs, atoms: Longs, rules: Longs, records: HalfWords, slots: Words) -> None:
    """Rows into the hash table ``slots`` [a power of two] and the port bits of ``records`` [8 per class]."""
    last = len(slots) - 1
    shift = 32
    while last >> (32 - shift):
        shift -= 1
    for here in range(len(first) - 1):
        for each in range(first[here], first[here + 1]):
            atom = atoms[each]
            bit = (atom * HASH) & 0xFFFFFFFF
            records[8 * here + 5 + (bit >> 31)] |= np.uint32(1 << ((bit >> 26) & 31))
            record = here + FIRST_RECORD
            tag = np.uint64(record << 18 | atom)
            slot = ((atom * HASH + record * HASH_2) & 0xFFFFFFFF) >> shift
            while slots[slot] != 0 and slots[slot] >> np.uint64(24) != tag:
                slot = (slot + 1) & last
            word = tag << np.uint64(24) | np.uint64(rules[each])
            if slots[slot] == 0 or word < slots[slot]:
                slots[slot] = word


@kernel
def _inherit(outer: Longs, live: tuple[Longs, ...], records: HalfWords) -> None:
    """The port bits of ``records`` without rows: a class has its own and those of the classes around it."""
    at = 0
    for here in range(len(outer)):
        if here > 0:
            records[8 * here + 6] = records[8 * outer[here] + 6]
            records[8 * here + 5] = records[8 * outer[here] + 5]
        while at < len(live[0]) and live[0][at] == here:
            bit = (live[1][at] * HASH) & 0xFFFFFFFF
            records[8 * here + 5 + (bit >> 31)] |= np.uint32(1 << ((bit >> 26) & 31))
            at += 1


@kernel
def _name(names: Longs, firsts: Longs, slots: Words) -> None:
    """Hash table from atom to its table: words of atom, then first interval << 32 | intervals."""
    last = len(slots) // 2 - 1
    shift = 32
    while last >> (32 - shift):
        shift -= 1
    for table in range(len(names)):
        slot = ((names[table] * HASH) & 0xFFFFFFFF) >> shift
        while slots[2 * slot] != 0:
            slot = (slot + 1) & last
        slots[2 * slot] = names[table]
        slots[2 * slot + 1] = firsts[table] << 32 | (firsts[table + 1] - firsts[table])


@kernel
def _grow(bounds: Longs, classes: Longs, nodes: HalfWords, place: int, bases: Longs) -> int:
    """The tree over sorted ``bounds`` into ``nodes``, breadth first -> nodes used.

    ``place``: where the nodes will be, in words. ``bases``: scratch, the first address of each chunk.
    """
    end, chunks, size, first = len(bounds) - 1, 1, 0, 0
    bases[0] = 0
    for level in range(4):
        shift, bits, at, after = SHIFTS[level], STRIDES[level], 0, chunks
        below, count = place + size + ((after - first) << bits), 1 << bits
        for chunk in range(first, after):
            base, child = bases[chunk], 0
            while child < count:
                while at < end and bounds[at + 1] <= base + (child << shift):
                    at += 1
                until = min(count, (bounds[at + 1] - base) >> shift) if at < end else count
                for each in range(child, until):
                    nodes[size + each] = (classes[at] + FIRST_RECORD) * 8
                child = until
                if child < count and bounds[at + 1] > base + (child << shift):  # a bound inside, not at its start
                    nodes[size + child] = CHUNK | (below + ((chunks - after) << STRIDES[level + 1]))
                    bases[chunks] = base + (child << shift)
                    chunks += 1
                    child += 1
            size += count
        first = after
    return size


@kernel
def _buckets(high: Words, low: Words, first: np.uint64, shift: int, starts: HalfWords) -> int:
    """Bucket -> the bound in force at its first address, into ``starts`` -> most bounds inside one bucket.

    Bucket b >= 1 begins at upper half ``first + ((b - 1) << shift)``; bucket 0 is everything before, the last one ends
    with the address space.
    """
    end, at, most = len(high) - 1, 0, 0
    starts[0] = 0
    for bucket in range(1, len(starts)):
        base = first + (np.uint64(bucket - 1) << np.uint64(shift))
        before = at
        while at < end and (high[at + 1] < base or (high[at + 1] == base and low[at + 1] == 0)):
            at += 1
        starts[bucket] = at
        most = max(most, at - before)
    return max(most, end - at)
