"""Looks batches up in an arena: addresses to records, then records, protocols and ports to rules.

The loops have no branches that depend on data where that can be had, because a wrong guess costs more than a load from
the second cache: searches take a fixed number of steps, and flows that need a port are gathered, block by block, and
looked up in a loop of their own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.arena import (
    BOUNDS,
    BUCKETS,
    CHUNK,
    EXACT_ROWS,
    FIRST,
    HASH,
    HASH_2,
    INDEX,
    KINDS_AT,
    NO_PORTS,
    PORTS,
    SLOT_SHIFT,
    SLOTS,
    STEPS,
    TABLES,
    WIDTH_SHIFT,
    Words,
)
from ovnk_core.kernels.jit import kernel

BLOCK = 1_024
U32 = npt.NDArray[np.uint32]
U = np.uint64
ZERO, ONE, TWO, THREE, FIVE, HALF = U(0), U(1), U(2), U(3), U(5), U(32)
FLAG, PLACE = U(31), U(CHUNK - 1)
KIND_BITS, RULE_BITS, FIVE_BITS, LOW_32, RULE_MASK = U(18), U(24), U(31), U(0xFFFFFFFF), U(0xFFFFFF)
MIX, MIX_2, BIT_AT, WORD_AT = U(HASH), U(HASH_2), U(26), U(31)


@kernel
def records_4(arena: Words, addresses: U32, records: U32) -> None:
    """IPv4 addresses [n] -> places of records [n]."""
    words, root = arena.view(np.uint32), arena[INDEX] * TWO
    for i in range(len(addresses)):
        address = U(addresses[i])
        place = U(words[root + (address >> U(16))])
        place = U(words[(place & PLACE) + ((address >> U(11)) & ((place >> FLAG) * U(31)))])
        place = U(words[(place & PLACE) + ((address >> U(6)) & ((place >> FLAG) * U(31)))])
        records[i] = words[(place & PLACE) + (address & ((place >> FLAG) * U(63)))]


@kernel
def records_6(arena: Words, addresses: Words, records: U32) -> None:
    """IPv6 addresses [n, 2], upper and lower half -> places of records [n]."""
    starts, index, bounds = arena.view(np.uint32), arena[INDEX] * TWO, arena[BOUNDS]
    first, shift, last, steps = arena[FIRST], arena[WIDTH_SHIFT], arena[BUCKETS] - TWO, arena[STEPS]
    for i in range(len(addresses)):
        high, low = addresses[i, 0], addresses[i, 1]
        bucket = (min((max(high, first) - first) >> shift, last) + ONE) * U(high >= first)
        at = bounds + U(starts[index + bucket]) * THREE
        step = ONE << steps
        while step > ONE:
            step >>= ONE
            other = at + step * THREE
            is_before = (arena[other] < high) | ((arena[other] == high) & (arena[other + ONE] <= low))
            at += step * THREE * U(is_before)
        records[i] = arena[at + TWO]


@kernel
def decide(
    arena: Words, protocols: npt.NDArray[np.uint8], ports: npt.NDArray[np.uint16], rules: U32, scratch: U32
) -> None:
    """``rules`` [n]: in, the place of each flow's record; out, its rule, all ones for none. ``scratch``: [3, block]."""
    words, kinds = arena.view(np.uint32), arena.view(np.uint8)[8 * KINDS_AT : 8 * KINDS_AT + 256]
    kept, kept_record, kept_atom = scratch
    if arena[PORTS] == U(NO_PORTS):
        for flow in range(len(rules)):
            rules[flow] = words[U(rules[flow]) + ONE + U(kinds[protocols[flow]])]
        return
    for start in range(0, len(rules), len(kept)):
        n_kept = ZERO
        for flow in range(start, min(start + len(kept), len(rules))):
            place, kind = U(rules[flow]), U(kinds[protocols[flow]])
            rules[flow] = words[place + ONE + kind]
            atom = kind << U(16) | U(ports[flow])
            kept[n_kept], kept_record[n_kept], kept_atom[n_kept] = flow, place >> THREE, atom
            bits = words[place + FIVE + ((atom * MIX >> WORD_AT) & ONE)]
            n_kept += U(bits >> ((atom * MIX >> BIT_AT) & FIVE_BITS)) & ONE
        if arena[PORTS] == U(EXACT_ROWS):
            slots, shift = arena[SLOTS], arena[SLOT_SHIFT]
            last = (ONE << (HALF - shift)) - ONE
            for each in range(n_kept):
                here, atom = U(kept_record[each]), U(kept_atom[each])
                slot = ((atom * MIX + here * MIX_2) & LOW_32) >> shift
                word = arena[slots + slot]
                while word >> RULE_BITS != (here << KIND_BITS | atom) and word != ZERO:
                    slot = (slot + ONE) & last
                    word = arena[slots + slot]
                if word != ZERO:
                    rules[kept[each]] = word & RULE_MASK
        else:
            slots, shift, tables = arena[SLOTS], arena[SLOT_SHIFT], arena[TABLES]
            last = (ONE << (HALF - shift)) - ONE
            for each in range(n_kept):
                here, atom = U(kept_record[each]), U(kept_atom[each])
                slot = ((atom * MIX) & LOW_32) >> shift
                while arena[slots + slot * TWO] != atom and arena[slots + slot * TWO] != ZERO:
                    slot = (slot + ONE) & last
                if arena[slots + slot * TWO] == atom:
                    place = arena[slots + slot * TWO + ONE]
                    at, size, wanted = tables + (place >> HALF), place & LOW_32, here << HALF | LOW_32
                    while size > ONE:
                        half = size >> ONE
                        at += half * U(arena[at + half] <= wanted)
                        size -= half
                    rules[kept[each]] = min(U(rules[kept[each]]), arena[at] & LOW_32)


def match(
    arena: Words, addresses: U32 | Words, protocols: npt.NDArray[np.uint8], ports: npt.NDArray[np.uint16]
) -> npt.NDArray[np.int32]:
    """Flows [n] -> rules [n], -1 for none; the arrays are checked by the caller."""
    rules = np.empty(len(addresses), np.uint32)
    if addresses.dtype == np.uint32:
        records_4(arena, np.ascontiguousarray(addresses, np.uint32), rules)
    else:
        records_6(arena, np.ascontiguousarray(addresses, np.uint64), rules)
    scratch = np.empty((3, BLOCK), np.uint32)
    decide(arena, np.ascontiguousarray(protocols), np.ascontiguousarray(ports), rules, scratch)
    return rules.view(np.int32)
