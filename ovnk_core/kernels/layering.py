"""How few layers an ordered list of firewall rules needs, and which of its rules can never decide anything.

A list is decided by its first match. Many rules commute, though: to write a list as few OVN rows it is enough to know
which rules must be asked before which. This module answers two things per rule ("entry"): is it *shadowed*, that is,
does an earlier entry match whatever it matches; and if not, its *layer*. Making rows of it is somebody else's work.

    layer(i) = 1 + the highest layer among the earlier entries of the other verdict that are not shadowed and overlap i
    layer(i) = 0 if there are none

**Asking the layers in ascending order, and within a layer in any order, gives every packet the verdict of its first
match.** Proof. Let f be the first match of a packet and m another match of it that is not shadowed. f is not shadowed,
because it decides this packet. m comes later in the list and overlaps f (in this packet). If m has the other verdict,
then layer(m) > layer(f) by definition. So every match asked before f, or together with f in its layer, has f's verdict.
Shadowed entries may be left out: each packet has its first match among the others. An entry that matches nothing at the
moment (an empty opaque set) does no harm, as the proof is per packet.

An *opaque* entry (``prefix`` None) has a destination that is not known here or changes: a DNS name, the nodes a
selector picks. Its layer must hold for any content, so it overlaps every address and covers none; it is shadowed only
when the whole address space of ``families`` is covered for all its ports. An entry whose family is not in ``families``
is shadowed.

Shadowing is exact per (address, protocol, port), jointly over all earlier entries, with one exception: a protocol is
not taken to be covered by naming its 65,536 ports one by one, nor everything by naming all 256 protocols. Such an
entry keeps a row it would not need; no verdict depends on it.

How. The distinct prefixes form a tree, numbered in preorder; an entry is covered where the earliest entry of a table
on the way to the root is earlier. There is one table for entries of every protocol, one per protocol, and one per
(protocol, port). The wide tables are filled per node; an exact table only has intervals between the edges of its own
prefixes, and asks a range maximum whether the wider tables leave it anything there. Layers are then found in list
order: an entry asks the nodes above and below its own, in its own and overlapping tables, for the highest layer of the
other verdict.

Cost. With e entries, a atoms ((protocol, port) pairs), p protocols and d the depth of nesting (at most 33 and 129):
time O(e log e + a d + p e log e), memory O(a + e log e + p e). ``Layering.splice`` costs the new entries plus moving
columns; ``Layering.layers`` starts from the columns every time: the answer has no history. Up to ``PLAIN_LIMIT``
entries plus atoms, and as long as nobody called ``warm``, the passes run as plain Python and neither numpy nor numba is
imported. That is fifty times slower (8,000 entries: 0.1 to 0.5 s), and still less than what a program that asks once
would wait for numba; one that lives long warms up beside its work and asks for edits in milliseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple, ParamSpec, cast

from ovnk_core.kernels import layering_passes as passes
from ovnk_core.kernels.jit import Kernel
from ovnk_core.kernels.layering_passes import Column

P = ParamSpec("P")

ANY_PORT = -1
SHADOWED = -1
PLAIN_LIMIT = 1200  # entries + atoms: 200 rules of five ports

_BITS = {4: 32, 6: 128}
_LOW_HALF = (1 << 64) - 1
_NOWHERE = (0, 0, 0, 0, 0, 0)
_EVERY_PROTOCOL = ((ANY_PORT, ANY_PORT),)


class Entry(NamedTuple):
    """One rule of an ordered list.

    ``prefix``: (family 4 or 6, network as an int without host bits, length), or None for an opaque destination.
    ``ports``: (protocol 0..255, port 0..65535 or ``ANY_PORT``) pairs; empty means every protocol.
    """

    allow: bool
    prefix: tuple[int, int, int] | None
    ports: tuple[tuple[int, int], ...]


def layers(entries: Sequence[Entry], families: frozenset[int]) -> list[int]:
    """The layer of every entry, or ``SHADOWED``.

    Shape: n entries -> n ints, each ``SHADOWED`` (-1) or 0..n-1. ``families``: the address families packets can have,
    a subset of {4, 6}. Raises ValueError for a bad prefix, protocol, port or family. Cost: see the module.
    """
    return Layering(families, entries).layers()


@cache
def warm() -> None:
    """Load numba and the compiled passes (0.7 s; compiling them, once per machine, takes 5 s). May run in a thread."""
    Layering(frozenset(_BITS), [Entry(True, (4, 0, 0), ((6, 80),)), Entry(False, (6, 0, 0), ())])._layers(_Compiled())


def is_warm() -> bool:
    """Whether large lists are answered by the compiled passes."""
    return bool(warm.cache_info().currsize)


class Layering:
    """A list of entries that is edited by slices and asked for its layers; mutable, for one owner and one thread.

    It holds the list as columns, so an edit does not read the other entries again. A refused edit changes nothing.
    """

    def __init__(self, families: frozenset[int], entries: Sequence[Entry]) -> None:
        """``families`` and ``entries`` as for :func:`layers`; raises ValueError as it does."""
        if not families <= _BITS.keys():
            raise ValueError(f"families: only 4 and 6 exist, not {sorted(families - _BITS.keys())}")
        self._families = families
        self._entries: list[Entry] = []
        self._clear()
        self.splice(0, 0, entries)

    def __len__(self) -> int:
        return len(self._entries)

    def splice(self, start: int, stop: int, entries: Sequence[Entry]) -> None:
        """Replace entries ``start`` to ``stop - 1`` by any number of others.

        Raises ValueError for a bad entry, IndexError unless 0 <= start <= stop <= len.
        """
        if not 0 <= start <= stop <= len(self._entries):
            raise IndexError(f"splice: {start}..{stop} is not within 0..{len(self._entries)}")
        families = self._families
        placed = [_NOWHERE if entry[1] is None else _placed(entry[1], families) for entry in entries]
        pairs = [
            (entry[2] or _EVERY_PROTOCOL) if entry[1] is None or entry[1][0] in families else () for entry in entries
        ]
        atoms = [self._number[pair] for ports in pairs for pair in ports]
        first = sum(self._count[:start])
        last = first + sum(self._count[start:stop])
        columns = zip(*placed, strict=True) if placed else [()] * len(self._prefixes)
        for column, new in zip(self._prefixes, columns, strict=True):
            column[start:stop] = array(column.typecode, new)
        self._table[first:last] = array("i", atoms)
        self._count[start:stop] = array("i", map(len, pairs))
        self._allow[start:stop] = array("b", [entry[0] for entry in entries])
        self._entries[start:stop] = entries
        if len(self._number) > 2 * len(self._table) + 64:  # most numbers are of tables that no entry names any more
            entries, self._entries = self._entries, []
            self._clear()
            self.splice(0, 0, entries)

    def layers(self) -> list[int]:
        """The layer of every entry, or ``SHADOWED``: what :func:`layers` says of the whole list."""
        is_small = len(self._entries) + len(self._table) <= PLAIN_LIMIT
        return self._layers(_Plain() if is_small or not is_warm() else _Compiled())

    def _clear(self) -> None:
        roots = [_placed((family, 0, 0), self._families) for family in sorted(self._families)]
        columns = zip(*roots, strict=True) if roots else [()] * len(_NOWHERE)
        self._prefixes = [array(code, column) for code, column in zip("bQQQQh", columns, strict=True)]
        self._allow = array("b")
        self._count = array("i")
        self._table = array("i")
        self._number = _TableNumbers()

    def _layers(self, form: _Plain | _Compiled) -> list[int]:
        entries, filled = len(self._entries), form.filled
        prefixes = passes.Prefixes(*map(form.column, self._prefixes))
        order = form.order(prefixes)
        room = len(order) + 1
        tree = passes.Tree(filled(len(order), 0), filled(room, 0), filled(room, 0), filled(room, 0))
        count = form.run(passes.grow, order, prefixes, tree)
        atoms = passes.Atoms(
            first=form.column(array("i", accumulate(self._count, initial=0))),
            table=form.column(self._table),
            entry=filled(len(self._table), 0),
            slot=filled(len(self._table), 0),
            protocol=form.column(self._number.protocol),
            begin=filled(len(self._number.protocol) + 2, 0),
            member=filled(len(self._table), 0),
        )
        form.run(passes.gather, order, atoms)
        dense = len(self._number.dense) + 1
        found = passes.Cover(
            filled(count, 0), filled(dense * count, entries), filled(dense * count, -1), filled(entries, 0)
        )
        form.run(passes.mark_open, count, prefixes.length, tree, filled(129, 0), found.opened)
        form.run(passes.cover, count, tree, atoms, found)
        up = filled(2 * dense * count + len(self._table), 0)
        log2, node, winner, slot = (filled(count + 1, 0) for _ in range(4))
        work = passes.Sweep(filled(count * count.bit_length(), 0), log2, node, winner, slot, up)
        places = 2 * dense * count
        for protocol in range(1, dense):
            form.run(passes.raise_peaks, protocol, count, found, work)
            places = form.run(passes.sweep, protocol, places, tree, atoms, found, work)
        tracks = passes.Tracks(filled(3 * len(self._table), -1), filled(3 * len(self._table), -1), up)
        form.run(passes.route, dense, count, tree, atoms, tracks)
        heights = passes.Heights(filled(2 * len(up), -1), filled(2 * len(up), -1))
        layer = filled(entries, SHADOWED)
        form.run(passes.stack, atoms.first, form.column(self._allow), found.live, tracks, heights, layer)
        return form.listed(layer)


class _TableNumbers(dict[tuple[int, int], int]):
    """(protocol, port) -> number of its table as the passes want it, given out at first sight.

    ``dense``: the number of a protocol's dense table; ``protocol``: that number, per exact table.
    """

    def __init__(self) -> None:
        super().__init__({_EVERY_PROTOCOL[0]: -1})
        self.dense: dict[int, int] = {}
        self.protocol = array("i")

    def __missing__(self, pair: tuple[int, int]) -> int:
        protocol, port = pair
        if not 0 <= protocol <= 255:
            raise ValueError(f"ports: protocol {protocol} is not 0..255")
        if not ANY_PORT <= port <= 65535:
            raise ValueError(f"ports: port {port} is neither 0..65535 nor ANY_PORT")
        dense = self.dense.setdefault(protocol, len(self.dense) + 1)
        number = -1 - dense if port == ANY_PORT else len(self.protocol)
        if number >= 0:
            self.protocol.append(dense)
        self[pair] = number
        return number


class _Plain:
    """The passes as Python: lists as columns."""

    def column(self, values: array[int]) -> Column:
        return values.tolist()

    def filled(self, size: int, value: int) -> Column:
        return [value] * size

    def order(self, prefixes: passes.Prefixes) -> Column:
        keys = list(zip(prefixes.family, prefixes.high, prefixes.low, prefixes.length, strict=True))
        return sorted(range(len(keys)), key=keys.__getitem__)

    def run(self, kernel: Kernel[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
        return kernel.py_func(*args, **kwargs)

    def listed(self, column: Column) -> list[int]:
        return list(column)


class _Compiled:
    """The passes compiled: numpy arrays as columns, int32 unless they hold halves of addresses."""

    def __init__(self) -> None:
        import numpy

        self._numpy = numpy

    def column(self, values: array[int]) -> Column:
        return cast(Column, self._numpy.array(values))  # arrays lack only insert and delete, which no pass uses

    def filled(self, size: int, value: int) -> Column:
        return cast(Column, self._numpy.full(size, value, self._numpy.int32))  # as above

    def order(self, prefixes: passes.Prefixes) -> Column:
        keys = (prefixes.length, prefixes.low, prefixes.high, prefixes.family)
        return cast(Column, self._numpy.lexsort(keys))  # as above

    def run(self, kernel: Kernel[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
        return kernel(*args, **kwargs)

    def listed(self, column: Column) -> list[int]:
        numbers: list[int] = self._numpy.asarray(column).tolist()
        return numbers


def _placed(prefix: tuple[int, int, int], families: frozenset[int]) -> tuple[int, int, int, int, int, int]:
    """(family, first address high and low half, last address high and low half, length)."""
    family, network, length = prefix
    bits = _BITS.get(family, -1)
    if not 0 <= length <= bits:
        raise ValueError(f"prefix: {prefix} is neither an IPv4 nor an IPv6 prefix")
    host = (1 << (bits - length)) - 1
    if network & host or network >> bits:
        raise ValueError(f"prefix: {prefix} has bits outside its network part")
    if family not in families:
        return _NOWHERE
    last = network | host
    return family, network >> 64, network & _LOW_HALF, last >> 64, last & _LOW_HALF, length
