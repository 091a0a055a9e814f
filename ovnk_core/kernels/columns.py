"""Rules as a caller writes them, checked and flattened into columns of entries, without numpy.

An entry is one prefix of one rule with one atom (``intervals``). Columns are ``array.array``: a splice copies memory,
and numpy reads them in place. Each family has its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

ANY_PORT = -1
KINDS = {6: 1, 17: 2, 132: 3}
"""Protocols with ports -> the number an atom knows them by; every other protocol is 0."""
WIDTHS = {4: 32, 6: 128}
HALF = 1 << 63
LOW_64 = (1 << 64) - 1

Ints = Sequence[int]


class Prefix(NamedTuple):
    """The addresses of ``family`` (4 or 6) that begin like ``network``, in ``length`` bits; its other bits are 0."""

    family: int
    network: int
    length: int


class Rule(NamedTuple):
    """Any of ``prefixes``, to any of ``ports``.

    ``prefixes``: () matches nothing. ``ports``: pairs of IP protocol number (6, 17 or 132) and port (0..65535, or
    ``ANY_PORT`` for every port of that protocol); () matches every protocol, with or without ports.
    """

    prefixes: tuple[Prefix, ...]
    ports: tuple[tuple[int, int], ...] = ()


class Columns:
    """The entries of one family, in order of rules. ``counts`` [per rule]; ``high``, ``low``, ``length``, ``atom``
    [per entry]: the network as ``intervals`` wants it, its length, and the atom."""

    __slots__ = ("atom", "counts", "family", "high", "length", "low")

    def __init__(
        self, family: int, networks: Ints = (), lengths: Ints = (), atoms: Ints = (), counts: Ints = ()
    ) -> None:
        self.family = family
        if family == 4:
            self.high = array("q", [(each << 32) - HALF for each in networks])
            self.low = array("q", [-HALF]) * len(self.high)
        else:
            self.high = array("q", [(each >> 64) - HALF for each in networks])
            self.low = array("q", [(each & LOW_64) - HALF for each in networks])
        self.length, self.atom, self.counts = array("B", lengths), array("i", atoms), array("i", counts)

    def __len__(self) -> int:
        return len(self.atom)

    @property
    def nbytes(self) -> int:
        return sum(len(each) * each.itemsize for each in (self.counts, self.high, self.low, self.length, self.atom))

    def spliced(self, start: int, stop: int, new: Columns) -> Columns:
        """These columns with the rules ``start:stop`` replaced by those of ``new``; linear, but only copies memory."""
        first = sum(self.counts[:start])
        after = first + sum(self.counts[start:stop])
        made = Columns(self.family)
        made.counts = self.counts[:start] + new.counts + self.counts[stop:]
        made.high = self.high[:first] + new.high + self.high[after:]
        made.low = self.low[:first] + new.low + self.low[after:]
        made.length = self.length[:first] + new.length + self.length[after:]
        made.atom = self.atom[:first] + new.atom + self.atom[after:]
        return made


def flatten(rules: Sequence[Rule]) -> dict[int, Columns]:
    """Rules -> columns per family; ValueError with the place, the value and the reason for the first bad rule.

    The one loop over rules in plain Python: it decides what compiling costs, so it fills lists, not arrays.
    """
    atoms_of: dict[tuple[tuple[int, int], ...], list[int]] = {(): [0]}
    host_bits = {family: [(1 << width - length) - 1 for length in range(width + 1)] for family, width in WIDTHS.items()}
    networks: dict[int, list[int]] = {4: [], 6: []}
    lengths: dict[int, list[int]] = {4: [], 6: []}
    atoms_in: dict[int, list[int]] = {4: [], 6: []}
    counts: dict[int, list[int]] = {4: [0] * len(rules), 6: [0] * len(rules)}
    for number, (prefixes, ports) in enumerate(rules):
        atoms = atoms_of.get(ports)
        if atoms is None:
            atoms = atoms_of[ports] = [_atom(number, *pair) for pair in ports]
        for position, (family, network, length) in enumerate(prefixes):
            if (
                family not in WIDTHS
                or not 0 <= length <= WIDTHS[family]
                or (network & host_bits[family][length] or not 0 <= network <= host_bits[family][0])
            ):
                raise ValueError(f"rules[{number}].prefixes[{position}]{_reason(family, network, length)}")
            if len(atoms) == 1:
                networks[family].append(network)
                lengths[family].append(length)
                counts[family][number] += 1
            else:
                networks[family] += [network] * len(atoms)
                lengths[family] += [length] * len(atoms)
                counts[family][number] += len(atoms)
            atoms_in[family] += atoms
    return {
        family: Columns(family, networks[family], lengths[family], atoms_in[family], counts[family])
        for family in WIDTHS
    }


def _atom(number: int, protocol: int, port: int) -> int:
    kind = KINDS.get(protocol)
    if kind is None:
        raise ValueError(f"rules[{number}].ports: protocol {protocol} has no ports; 6, 17 and 132 have")
    if port == ANY_PORT:
        return kind
    if not 0 <= port <= 65535:
        raise ValueError(f"rules[{number}].ports: port {port} is not in 0..65535, nor ANY_PORT (-1)")
    return kind << 16 | port


def _reason(family: int, network: int, length: int) -> str:
    width = WIDTHS.get(family)
    if width is None:
        return f".family: {family} is neither 4 nor 6"
    if not 0 <= length <= width:
        return f".length: {length} is not in 0..{width}"
    if not 0 <= network < 1 << width:
        return f".network: {network} does not fit {width} bits"
    return f".network: {network:#x} has bits set after the first {length}"
