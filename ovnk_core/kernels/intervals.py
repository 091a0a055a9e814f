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

from collections.abc import MutableSequence, Sequence

from ovnk_core.kernels.jit import kernel

NONE = 0xFFFFFFFF
"""No rule; as a signed 32-bit integer it is -1."""
LOWEST = -(1 << 63)
DEPTH = 132
"""Prefixes that can enclose an address, ::/0 to /128, and a bottom."""
Ints = Sequence[int]
Outs = MutableSequence[int]


@kernel
def nest(entries: tuple[Ints, ...], tree: tuple[Outs, ...], bounds: tuple[Outs, ...]) -> tuple[int, int, int]:
    """Sorted entries -> (number of bounds, of classes, of live entries); the rest is written into the given columns.

    ``entries``: columns start high, start low, end high, end low, atom, rule; sorted by start, longer prefixes later.
    ``tree``: ``best`` [4 per class: the first rule without ports that applies to other protocols, TCP, UDP, SCTP],
    ``parent`` and ``last`` [per class: enclosing class; last class inside], ``class``, ``atom``, ``rule`` [per live
    entry: one about a single port that comes before ``best`` of its class; in order of class], and a scratch column of
    ``3 * DEPTH``. ``bounds``: high, low, class [2 * entries + 1]: from this address on, this class.
    """
    start_high, start_low, end_high, end_low, atoms, rules = entries
    best, parent, last, live_class, live_atom, live_rule, stack = tree
    bound_high, bound_low, bound_class = bounds
    bound_high[0] = bound_low[0] = LOWEST
    bound_class[0] = parent[0] = stack[0] = 0
    best[0] = best[1] = best[2] = best[3] = NONE
    count = len(rules)
    n_bounds = n_classes = 1
    n_live = depth = at = 0
    while True:
        high, low = stack[DEPTH + depth], stack[2 * DEPTH + depth]
        if depth > 0 and (high != LOWEST or low != LOWEST) and (
            at == count or high < start_high[at] or (high == start_high[at] and low <= start_low[at])
        ):  # the innermost prefix ends before the next one starts
            last[stack[depth]] = n_classes - 1
            depth -= 1
        elif at < count:
            high, low, outer, new = start_high[at], start_low[at], stack[depth], n_classes
            best_0, best_1, best_2, best_3 = (best[4 * outer], best[4 * outer + 1], best[4 * outer + 2], best[4 * outer + 3])
            after = at
            while after < count and (
                start_high[after] == high
                and start_low[after] == low
                and end_high[after] == end_high[at]
                and end_low[after] == end_low[at]
            ):
                atom, rule = atoms[after], rules[after]
                if atom == 0 or atom == 1:
                    best_1 = min(best_1, rule)
                if atom == 0 or atom == 2:
                    best_2 = min(best_2, rule)
                if atom == 0 or atom == 3:
                    best_3 = min(best_3, rule)
                if atom == 0:
                    best_0 = min(best_0, rule)
                after += 1
            best[4 * new], best[4 * new + 1], best[4 * new + 2], best[4 * new + 3] = best_0, best_1, best_2, best_3
            before = n_live
            for each in range(at, after):
                if atoms[each] > 3 and rules[each] < best[4 * new + (atoms[each] >> 16)]:
                    live_class[n_live], live_atom[n_live], live_rule[n_live] = new, atoms[each], rules[each]
                    n_live += 1
            depth += 1
            stack[depth], stack[DEPTH + depth], stack[2 * DEPTH + depth] = outer, end_high[at], end_low[at]
            if n_live > before or (
                best_0 < best[4 * outer]
                or best_1 < best[4 * outer + 1]
                or best_2 < best[4 * outer + 2]
                or best_3 < best[4 * outer + 3]
            ):
                stack[depth], parent[new] = new, outer
                n_classes += 1
            at = after
        else:
            break
        here = stack[depth]
        if bound_high[n_bounds - 1] == high and bound_low[n_bounds - 1] == low:
            n_bounds -= 1
        if n_bounds == 0 or bound_class[n_bounds - 1] != here:
            bound_high[n_bounds], bound_low[n_bounds], bound_class[n_bounds] = high, low, here
            n_bounds += 1
    for each in range(depth + 1):
        last[stack[each]] = n_classes - 1
    return n_bounds, n_classes, n_live


@kernel
def port_tables(live: tuple[Ints, ...], last: Ints, tables: tuple[Outs, ...]) -> tuple[int, int]:
    """Live entries sorted by atom, then class -> (number of tables, of intervals); the rest is written into ``tables``.

    ``live``: columns class, atom, rule; ``last``: of ``nest``. ``tables``: atom and first interval [per table, and one
    more], first class and rule [per interval, 2 * entries + tables], and a scratch column of ``2 * DEPTH``.
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
            depth += 1
            rule = min(rule, stack[DEPTH + depth - 1])
            stack[depth], stack[DEPTH + depth] = last[start], rule
        if starts[size - 1] == start:
            size -= 1
        if size == table_first[n_tables - 1] or values[size - 1] != rule:
            starts[size], values[size] = start, rule
            size += 1
    table_first[n_tables] = size
    return n_tables, size
