"""Turns sorted prefixes into intervals of addresses and of classes. Kernels over indices alone: lists or arrays.

Prefixes nest or are disjoint, so they form a tree. Every prefix that changes anything gets a *class*, numbered in the
order of its first address with the enclosing prefix first; class 0 is "no prefix at all". Two facts carry the rest:

* all addresses whose innermost effective prefix is the same are answered alike, so an address is looked up once, to
  its class, and everything after that is the same for IPv4 and IPv6;
* the classes inside a prefix are consecutive, so "this rule about a port applies below this prefix" is an interval of
  classes, and a table per port is a sorted list of such intervals: memory is linear in the number of entries.

An *entry* is one prefix of one rule with one *atom*: 0 for every protocol, 1..3 for every port of TCP, UDP or SCTP,
``kind << 16 | port`` for one port. Addresses are pairs of signed 64-bit integers, high and low half, each less 2^63,
so that signed comparison orders them; an IPv4 address is the upper half of ``high``. The end of a prefix is the first
address after it; it wraps around to ``LOWEST`` where the address space ends.
"""

from __future__ import annotations

from typing import Protocol

from ovnk_core.kernels.jit import kernel

NONE = 0xFFFFFFFF
"""No rule; as a signed 32-bit integer it is -1."""
LOWEST = -(1 << 63)
DEPTH = 132
"""Prefixes that can enclose an address, ::/0 to /128, and a bottom."""


class Ints(Protocol):
    """A list or an int64 array that is read."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: int, /) -> int: ...


class Outs(Ints, Protocol):
    """A list or an int64 array that is written."""

    def __setitem__(self, at: int, value: int, /) -> None: ...


@kernel
def nest(prefixes: tuple[Ints, ...], tree: tuple[Outs, ...], bounds: tuple[Outs, ...]) -> tuple[int, int]:
    """Sorted prefixes [n] -> (number of bounds, of nodes); the rest is written into the given columns.

    ``prefixes``: start high, start low, end high, end low; sorted by start, longer prefixes later. Equal ones are one
    *node*; node 0 is the whole space. ``tree``: node of each prefix [n], node around each node [n + 1], scratch
    [3 * DEPTH]. ``bounds``: high, low, node [2 * n + 1]: from this address on, this is the innermost node.
    """
    start_high, start_low, end_high, end_low = prefixes
    node_of, around, stack = tree
    bound_high, bound_low, bound_node = bounds
    bound_high[0] = bound_low[0] = LOWEST
    bound_node[0] = around[0] = stack[0] = depth = at = 0
    count, n_bounds, n_nodes = len(start_high), 1, 1
    while True:
        high, low = stack[DEPTH + depth], stack[2 * DEPTH + depth]
        is_last = high == LOWEST and low == LOWEST  # it ends where the address space ends: nothing comes after it
        if (
            depth > 0
            and not is_last
            and (at == count or high < start_high[at] or (high == start_high[at] and low <= start_low[at]))
        ):
            depth -= 1
        elif at < count:
            first, high, low = at, start_high[at], start_low[at]
            around[n_nodes] = stack[depth]
            depth += 1
            stack[depth], stack[DEPTH + depth], stack[2 * DEPTH + depth] = n_nodes, end_high[at], end_low[at]
            while at < count and (
                start_high[at] == high
                and start_low[at] == low
                and end_high[at] == end_high[first]
                and end_low[at] == end_low[first]
            ):
                node_of[at] = n_nodes
                at += 1
            n_nodes += 1
        else:
            return n_bounds, n_nodes
        if bound_high[n_bounds - 1] == high and bound_low[n_bounds - 1] == low:
            n_bounds -= 1
        bound_high[n_bounds], bound_low[n_bounds], bound_node[n_bounds] = high, low, stack[depth]
        n_bounds += 1


@kernel
def classify(entries: tuple[Ints, ...], around: Ints, classes: tuple[Outs, ...]) -> tuple[int, int]:
    """Entries sorted by node, nodes -> (number of classes, of live entries); the rest is written into ``classes``.

    ``entries``: node, atom, rule [n]. ``around``: of ``nest``, cut to the number of nodes. ``classes``: class of each
    node; ``best`` [4 per class: the first rule without ports for other protocols, TCP, UDP and SCTP]; the class around
    each class; the last class inside each; class, atom and rule of each live entry: one about a single port that comes
    before ``best`` of its class. A node that has no better rule and no live entry is of the class around it.
    """
    nodes, atoms, rules = entries
    class_of, best, outer, last, live_class, live_atom, live_rule = classes
    class_of[0] = outer[0] = last[0] = n_live = at = 0
    for kind in range(4):
        best[kind] = NONE
    new = 1
    for node in range(1, len(around)):
        parent = class_of[around[node]]
        for kind in range(4):
            best[4 * new + kind] = best[4 * parent + kind]
        first = at
        while at < len(nodes) and nodes[at] == node:
            atom = atoms[at]
            for kind in range(4):
                if (atom == 0 or atom == kind) and rules[at] < best[4 * new + kind]:
                    best[4 * new + kind] = rules[at]
            at += 1
        before = n_live
        for each in range(first, at):
            if atoms[each] > 3 and rules[each] < best[4 * new + (atoms[each] >> 16)]:
                live_class[n_live], live_atom[n_live], live_rule[n_live] = new, atoms[each], rules[each]
                n_live += 1
        is_new = n_live > before
        for kind in range(4):
            is_new = is_new or best[4 * new + kind] < best[4 * parent + kind]
        class_of[node] = parent
        if is_new:
            class_of[node], outer[new], last[new] = new, parent, new
            new += 1
    for each in range(new - 1, 0, -1):
        last[outer[each]] = max(last[outer[each]], last[each])
    return new, n_live


@kernel
def port_tables(live: tuple[Ints, ...], last: Ints, tables: tuple[Outs, ...]) -> tuple[int, int]:
    """Live entries sorted by atom, then class -> (number of tables, of intervals); the rest is written to ``tables``.

    ``live``: columns class, atom, rule [n]; ``last``: of ``classify``. ``tables``: atom and first interval [per table,
    and one more], first class and rule [per interval, up to 3 * n], scratch [2 * DEPTH].
    Table t covers every class: its interval i holds from ``starts[i]`` up to the next interval's start.
    """
    live_class, live_atom, live_rule = live
    table_atom, table_first, starts, values, stack = tables
    count = len(live_class)
    n_tables = size = depth = at = 0
    while at < count or depth > 0:
        if depth > 0 and (at == count or live_atom[at] != table_atom[n_tables - 1] or stack[depth] < live_class[at]):
            start = stack[depth] + 1
            depth -= 1
            rule = stack[DEPTH + depth]
        else:
            start, rule = live_class[at], live_rule[at]
            if n_tables == 0 or live_atom[at] != table_atom[n_tables - 1]:
                table_atom[n_tables], table_first[n_tables] = live_atom[at], size
                n_tables += 1
                starts[size], values[size], stack[DEPTH] = 0, NONE, NONE
                size += 1
            at += 1
            rule = min(rule, stack[DEPTH + depth])
            if (
                depth == 0 or stack[depth] != last[start]
            ):  # what ends together needs one place: so many repeats may come
                depth += 1
            stack[depth], stack[DEPTH + depth] = last[start], rule
        if starts[size - 1] == start:
            size -= 1
        if size == table_first[n_tables - 1] or values[size - 1] != rule:
            starts[size], values[size] = start, rule
            size += 1
    table_first[n_tables] = size
    return n_tables, size
