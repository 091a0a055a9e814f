"""The passes of :mod:`ovnk_core.kernels.layering`, each a plain loop over columns of ints.

Everything here runs unchanged as Python (``.py_func``, lists as columns) and compiled (numpy arrays as columns), which
is why columns come in as arguments, no pass calls another, and a pass returns at most one int. The order is: ``grow``,
``mark_open``, ``gather``, ``cover``, then ``raise_peaks`` and ``sweep`` once per protocol, ``route``, ``stack``.

Words. A *node* is one distinct prefix; nodes are numbered in preorder of containment, so the subtree of ``u`` is the
range ``u .. stop[u] - 1``. Node 0 is the whole address space of all families: it has no address of its own and holds
the opaque destinations. An *atom* is one (protocol, port) of one entry. A *dense* table, numbered 0 for "every
protocol" and 1.. for "every port of a protocol", has one place per node; an *exact* table (protocol, port) has places
only where its atoms are, so memory stays linear. In the table column of atoms a dense table ``k`` is written
``-1 - k``, an exact one as its number.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

from ovnk_core.kernels.jit import kernel

Column = MutableSequence[int]


class Prefixes(NamedTuple):
    """Per entry, then one root per family: 128-bit first and last address in halves, prefix length.

    ``family`` 0 marks an entry without a prefix of its own; it lands on node 0.
    """

    family: Column
    high: Column
    low: Column
    last_high: Column
    last_low: Column
    length: Column


class Tree(NamedTuple):
    """``node`` per entry; per node its parent (-1: none), the end of its subtree and an entry that has its prefix."""

    node: Column
    parent: Column
    stop: Column
    owner: Column


class Atoms(NamedTuple):
    """The atoms of entry i are ``first[i] .. first[i + 1] - 1``; those of exact table t ``member[begin[t]]`` up to
    ``begin[t + 1]``, in preorder. ``table``, ``entry`` and ``slot`` (its place) are per atom, ``protocol`` (the dense
    table) per exact table.
    """

    first: Column
    table: Column
    entry: Column
    slot: Column
    protocol: Column
    begin: Column
    member: Column


class Cover(NamedTuple):
    """Who covers what, ``dense`` tables of one place per node.

    ``lowest`` is the earliest entry that covers the node's own addresses for the whole table; ``highest`` the latest
    such entry within the subtree, -1 if no address there belongs to a node. ``live`` is per entry.
    """

    opened: Column
    lowest: Column
    highest: Column
    live: Column


class Sweep(NamedTuple):
    """Room for ``sweep``: range maxima with their logarithms, and a stack of open prefixes."""

    peak: Column
    log2: Column
    node: Column
    winner: Column
    slot: Column
    up: Column


class Tracks(NamedTuple):
    """The places an atom reads and writes, three each, given as -1; ``up`` is a place's parent place in its table."""

    reads: Column
    writes: Column
    up: Column


class Heights(NamedTuple):
    """Per verdict (deny, then allow) and place: the highest layer there, and there or below."""

    own: Column
    below: Column


@kernel
def grow(order: Column, prefixes: Prefixes, tree: Tree) -> int:
    """Fill ``tree`` from entries sorted by (family, first address, length); returns the number of nodes."""
    count = 1
    tree.parent[0] = -1
    tree.owner[0] = -1
    current = 0
    previous = -1
    for i in order:
        if prefixes.family[i] == 0:
            tree.node[i] = 0
            continue
        if (
            previous >= 0
            and prefixes.family[previous] == prefixes.family[i]
            and prefixes.high[previous] == prefixes.high[i]
            and prefixes.low[previous] == prefixes.low[i]
            and prefixes.length[previous] == prefixes.length[i]
        ):
            tree.node[i] = tree.node[previous]
            continue
        while current > 0:
            above = tree.owner[current]
            if prefixes.family[above] == prefixes.family[i] and (
                prefixes.last_high[above] > prefixes.high[i]
                or (prefixes.last_high[above] == prefixes.high[i] and prefixes.last_low[above] >= prefixes.low[i])
            ):
                break
            tree.stop[current] = count
            current = tree.parent[current]
        tree.parent[count] = current
        tree.owner[count] = i
        tree.node[i] = count
        current = count
        previous = i
        count += 1
    while current >= 0:
        tree.stop[current] = count
        current = tree.parent[current]
    return count


@kernel
def mark_open(count: int, length: Column, tree: Tree, tally: Column, opened: Column) -> int:
    """``opened[u]`` = 1 if some address belongs to ``u`` and to none of its children, else 0; ``tally`` is 129 zeros.

    Disjoint children fill their parent exactly when their sizes add up to its size. Sizes are powers of two, so they
    are added by counting children per length and carrying pairs upwards: no 128-bit arithmetic is needed.
    """
    opened[0] = 0
    for u in range(1, count):
        own = length[tree.owner[u]]
        deepest = own
        w = u + 1
        while w < tree.stop[u]:
            depth = length[tree.owner[w]]
            tally[depth] += 1
            deepest = max(deepest, depth)
            w = tree.stop[w]
        for depth in range(deepest, own, -1):
            tally[depth - 1] += tally[depth] >> 1
            tally[depth] = 0
        opened[u] = 1 - tally[own]
        tally[own] = 0
    return 0


@kernel
def gather(order: Column, atoms: Atoms) -> int:
    """Fill ``atoms.entry``; sort the atoms of every exact table by node, then entry (``begin`` has two spare zeros)."""
    entries = len(atoms.first) - 1
    for i in range(entries):
        for a in range(atoms.first[i], atoms.first[i + 1]):
            atoms.entry[a] = i
            if atoms.table[a] >= 0:
                atoms.begin[atoms.table[a] + 2] += 1
    for t in range(2, len(atoms.begin)):
        atoms.begin[t] += atoms.begin[t - 1]
    for i in order:
        if i < entries:
            for a in range(atoms.first[i], atoms.first[i + 1]):
                t = atoms.table[a]
                if t >= 0:
                    atoms.member[atoms.begin[t + 1]] = a
                    atoms.begin[t + 1] += 1
    return 0


@kernel
def cover(count: int, tree: Tree, atoms: Atoms, found: Cover) -> int:
    """Fill ``lowest`` (given as "nobody", the number of entries) and ``highest`` (as -1); mark who is live by them."""
    lowest, highest, parent = found.lowest, found.highest, tree.parent
    for a in range(len(atoms.table)):
        u = tree.node[atoms.entry[a]]
        if atoms.table[a] < 0 and u > 0:
            place = (-1 - atoms.table[a]) * count + u
            lowest[place] = min(lowest[place], atoms.entry[a])
    for base in range(0, len(lowest), count):
        for u in range(1, count):
            place, above = base + u, base + parent[u]
            if lowest[above] < lowest[place]:
                lowest[place] = lowest[above]
            if lowest[u] < lowest[place]:
                lowest[place] = lowest[u]
        for u in range(count - 1, 0, -1):
            place, above = base + u, base + parent[u]
            if found.opened[u] > 0 and highest[place] < lowest[place]:
                highest[place] = lowest[place]
            if highest[above] < highest[place]:
                highest[above] = highest[place]
    for a in range(len(atoms.table)):
        i = atoms.entry[a]
        if atoms.table[a] < 0 and highest[(-1 - atoms.table[a]) * count + tree.node[i]] >= i:
            found.live[i] = 1
    return 0


@kernel
def raise_peaks(protocol: int, count: int, found: Cover, work: Sweep) -> int:
    """Fill ``work.peak``: row r, place u = the latest covering entry of the protocol on nodes ``u .. u + 2**r - 1``."""
    peak = work.peak
    for u in range(count):
        peak[u] = found.lowest[protocol * count + u] if found.opened[u] > 0 else -1
    work.log2[1] = 0
    for size in range(2, count + 1):
        work.log2[size] = work.log2[size >> 1] + 1
    for row in range(1, len(peak) // count):
        base = row * count
        half = 1 << (row - 1)
        for u in range(count - 2 * half + 1):
            left, right = peak[base - count + u], peak[base - count + u + half]
            peak[base + u] = left if left > right else right
    return 0


@kernel
def sweep(protocol: int, used: int, tree: Tree, atoms: Atoms, found: Cover, work: Sweep) -> int:
    """Walk the exact tables of one protocol: who is live, and the places of their atoms.

    Between two edges of a table's prefixes one entry of that table is the earliest; it decides a packet there if some
    node in between is covered later, or never, by the wider tables. Returns the number of places used so far.
    """
    stop, nodes, winners, slots, peaks = tree.stop, work.node, work.winner, work.slot, work.peak
    nobody = len(atoms.first) - 1
    winners[0], slots[0] = nobody, -1  # the stack of open prefixes starts at 1; 0 is outside all
    for t in range(len(atoms.protocol)):
        if atoms.protocol[t] != protocol:
            continue
        depth, cursor, latest = 0, 0, -1
        begin, end = atoms.begin[t], atoms.begin[t + 1]
        has_opaque = begin < end and tree.node[atoms.entry[atoms.member[begin]]] == 0
        for b in range(begin, end + 1):
            a = atoms.member[b] if b < end else -1
            start = tree.node[atoms.entry[a]] if a >= 0 else stop[0]
            is_closing = True
            while is_closing:
                is_closing = depth > 0 and stop[nodes[depth]] <= start
                edge = stop[nodes[depth]] if is_closing else start
                if cursor < edge and (has_opaque or winners[depth] < nobody):
                    row = work.log2[edge - cursor]
                    peak = max(peaks[row * stop[0] + cursor], peaks[row * stop[0] + edge - (1 << row)])
                    if winners[depth] < nobody and peak >= winners[depth]:
                        found.live[winners[depth]] = 1
                    latest = max(latest, min(peak, winners[depth]))
                cursor = edge
                depth -= is_closing
            if a >= 0:
                if depth == 0 or nodes[depth] != start:
                    depth += 1
                    nodes[depth] = start
                    winners[depth] = winners[depth - 1]
                    slots[depth] = used
                    work.up[used] = slots[depth - 1]
                    used += 1
                if start > 0:
                    winners[depth] = min(winners[depth], atoms.entry[a])
                atoms.slot[a] = slots[depth]
        for b in range(begin, end if has_opaque else begin):
            i = atoms.entry[atoms.member[b]]
            if tree.node[i] > 0:
                break  # the opaque ones, on node 0, come first
            if latest >= i:
                found.live[i] = 1
    return used


@kernel
def route(dense: int, count: int, tree: Tree, atoms: Atoms, tracks: Tracks) -> int:
    """Fill ``tracks``. A dense table has two sets of places: for its own atoms, and for its own and narrower ones.

    An atom reads its own table together with all narrower ones, and every wider table alone; it writes the reverse.
    Wider tables are read and written once per entry, or once per run of atoms of one protocol, not once per atom.
    """
    reads, writes = tracks.reads, tracks.writes
    for t in range(2 * dense):
        tracks.up[t * count] = -1
        for u in range(1, count):
            tracks.up[t * count + u] = t * count + tree.parent[u]
    for i in range(len(atoms.first) - 1):
        node = tree.node[i]
        previous = -1
        for a in range(atoms.first[i], atoms.first[i + 1]):
            table = atoms.table[a]
            protocol = atoms.protocol[table] if table >= 0 else -1 - table
            alone = protocol * count + node
            whole = dense * count + alone
            reads[3 * a] = atoms.slot[a] if table >= 0 else whole
            writes[3 * a] = atoms.slot[a] if table >= 0 else alone
            if protocol > 0 and protocol != previous:
                writes[3 * a + 1] = whole
                if table >= 0:
                    reads[3 * a + 1] = alone
            if previous < 0:
                writes[3 * a + 2] = dense * count + node
                if protocol > 0:
                    reads[3 * a + 2] = node
            previous = protocol
    return 0


@kernel
def stack(first: Column, allow: Column, live: Column, tracks: Tracks, heights: Heights, layer: Column) -> int:
    """Fill ``layer`` (given as SHADOWED) in list order. ``heights`` are -1: the deny places, then the allow places."""
    reads, writes, up, own, below = tracks.reads, tracks.writes, tracks.up, heights.own, heights.below
    for i in range(len(layer)):
        if live[i] == 0:
            continue
        mine = len(up) if allow[i] > 0 else 0
        rival = len(up) - mine
        height = 0
        for r in range(3 * first[i], 3 * first[i + 1]):
            place = reads[r]
            if place >= 0:
                if below[rival + place] >= height:
                    height = below[rival + place] + 1
                place = up[place]
                while place >= 0:
                    if own[rival + place] >= height:
                        height = own[rival + place] + 1
                    place = up[place]
        layer[i] = height
        for w in range(3 * first[i], 3 * first[i + 1]):
            place = writes[w]
            if place >= 0:
                if own[mine + place] < height:
                    own[mine + place] = height
                while place >= 0 and below[mine + place] < height:
                    below[mine + place] = height
                    place = up[place]
    return 0
