"""First match over (destination, protocol, port): which rule of an ordered list decides a flow.

    from ovnk_core.kernels.classifier import ANY_PORT, Classifier, Prefix, Rule

    rules = [Rule((Prefix(4, 0xC0000200, 24),), ((6, 443),)), Rule((Prefix(4, 0, 0),))]
    Classifier.compile(rules).match(4, 0xC0000207, 6, 443)  # 0: 192.0.2.0/24, TCP 443

A classifier never changes; ``splice`` makes another one. It answers exactly what trying the rules one by one answers,
in memory linear in the number of entries (prefixes times ports, summed over rules). Single questions need neither
numpy nor numba: sorted lists and ``bisect``. Batches read a packed arena; the first one imports numba and loads or
compiles its kernels. Both forms are built when first asked for, per family, and kept.

Threads: a classifier may be shared; two threads that build at the same time do the same work twice, with equal results.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovnk_core.kernels.columns import ANY_PORT, KINDS, WIDTHS, Columns, Prefix, Rule, flatten
from ovnk_core.kernels.intervals import NONE as NO_RULE
from ovnk_core.kernels.lists import Lists, lists_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ANY_PORT", "NONE", "Classifier", "Prefix", "Rule"]

NONE = -1
"""What is answered where no rule matches."""


class Classifier:
    """An ordered list of rules, compiled; ``Classifier.compile`` makes one.

    ``rules``: as given. ``len()``: their number. ``nbytes``: of columns and arenas made so far.
    """

    __slots__ = ("_arenas", "_columns", "_lists", "rules")

    def __init__(self, rules: tuple[Rule, ...], columns: dict[int, Columns]) -> None:
        self.rules = rules
        self._columns = columns
        self._lists: dict[int, Lists] = {}
        self._arenas: dict[int, npt.NDArray[np.uint64]] = {}

    @classmethod
    def compile(cls, rules: Sequence[Rule]) -> Classifier:
        """Rules in order of precedence, at most 2 ** 24 -> classifier.

        Raises ValueError naming place, value and reason: a family other than 4 and 6, a length beyond its width, a
        network with host bits, a protocol without ports, a port outside 0..65535.
        """
        if len(rules) > 1 << 24:
            raise ValueError(f"rules: {len(rules)} are more than 2 ** 24")
        return cls(tuple(rules), flatten(rules))

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def nbytes(self) -> int:
        columns = sum(each.nbytes for each in self._columns.values())
        return columns + sum(each.nbytes for each in self._arenas.values())

    def splice(self, start: int, stop: int, rules: Sequence[Rule]) -> Classifier:
        """``rules[start:stop]`` replaced by ``rules`` -> a new classifier; this one stays as it is.

        Only the new rules are read. The forms for questions are built anew when asked for, not here.
        Raises ValueError for a bad rule, as ``compile`` does, or unless 0 <= start <= stop <= len().
        """
        if not 0 <= start <= stop <= len(self.rules):
            raise ValueError(f"start, stop: {start}, {stop} do not cut {len(self.rules)} rules")
        new = flatten(rules)
        columns = {family: each.spliced(start, stop, new[family]) for family, each in self._columns.items()}
        return Classifier(self.rules[:start] + tuple(rules) + self.rules[stop:], columns)

    def match(self, family: int, address: int, protocol: int, port: int) -> int:
        """The first rule that matches one flow, or ``NONE``; about 1 us, without numpy and numba.

        ``port`` counts only for protocols 6, 17 and 132. Raises ValueError for an argument out of range.
        """
        lists = self._lists.get(family)
        if lists is None:
            lists = self._lists_of(family)
        highest, bounds, places, best, table_of, firsts, starts, rules = lists
        if not 0 <= address <= highest or protocol & -256 or port & -65536:
            raise ValueError(_out_of_range(family, address, protocol, port))
        place = places[bisect_right(bounds, address) - 1]
        if protocol not in KINDS:
            rule = best[place]
        else:
            kind = KINDS[protocol]
            rule = best[place + kind]
            table = table_of.get(kind << 16 | port)
            if table is not None:
                other = rules[bisect_right(starts, place, firsts[table], firsts[table + 1]) - 1]
                if other < rule:
                    return other
        return rule if rule != NO_RULE else NONE

    def match_many(
        self,
        family: int,
        addresses: npt.NDArray[np.uint32] | npt.NDArray[np.uint64],
        protocols: npt.NDArray[np.uint8],
        ports: npt.NDArray[np.uint16],
    ) -> npt.NDArray[np.int32]:
        """``match`` of n flows of one family -> int32 [n].

        ``addresses``: family 4: uint32 [n], the first address byte most significant; family 6: uint64 [n, 2], upper and
        lower half. ``protocols``: uint8 [n]. ``ports``: uint16 [n]. Raises ValueError for another dtype or shape.
        """

        from ovnk_core.kernels import arena, batch

        _check_arrays(family, addresses, protocols, ports)
        packed = self._arenas.get(family)
        if packed is None:
            packed = self._arenas[family] = arena.pack(self._columns[family], family)
        return batch.match(packed, addresses, protocols, ports)

    def _lists_of(self, family: int) -> Lists:
        if family not in WIDTHS:
            raise ValueError(f"family: {family} is neither 4 nor 6")
        lists = self._lists[family] = lists_of(self._columns[family], family)
        return lists


def _out_of_range(family: int, address: int, protocol: int, port: int) -> str:
    if not 0 <= protocol <= 255:
        return f"protocol: {protocol} is not in 0..255"
    if not 0 <= port <= 65535:
        return f"port: {port} is not in 0..65535"
    return f"address: {address} does not fit {WIDTHS[family]} bits"


def _check_arrays(family: int, addresses: object, protocols: object, ports: object) -> None:
    import numpy as np

    if family not in WIDTHS:
        raise ValueError(f"family: {family} is neither 4 nor 6")
    wanted = {
        "addresses": (addresses, np.uint32 if family == 4 else np.uint64, 1 if family == 4 else 2),
        "protocols": (protocols, np.uint8, 1),
        "ports": (ports, np.uint16, 1),
    }
    count = -1
    for name, (array, dtype, dimensions) in wanted.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name}: {type(array).__name__} is not a numpy array")
        if array.dtype != dtype:
            raise ValueError(f"{name}: dtype {array.dtype} is not {np.dtype(dtype)}")
        if array.ndim != dimensions or (dimensions == 2 and array.shape[1] != 2):
            raise ValueError(f"{name}: shape {array.shape} is not {'[n, 2]' if dimensions == 2 else '[n]'}")
        if count not in (-1, len(array)):
            raise ValueError(f"{name}: {len(array)} items, but addresses has {count}")
        count = len(array)
