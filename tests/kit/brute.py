"""Egress firewalls judged the long way, twice: rules one by one, and northbound rows by priority. Shares no code with
either: prefixes are compared as masks, matches are read back from their text, and everything is done for many flows.

``first_match`` is a linear scan compiled with a numba of its own. ``DatabaseRows`` holds what a database would: ACLs of
port groups and address sets, and decides as ``ls_out_acl`` does; that two rows of one priority contradict each other is
an error. Both take ``Flows``: triples of destination, protocol and port (0 where the protocol has none).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from ovnk_core.engine.engine import Engine
from ovnk_core.features.egress_firewall.rules import group_name
from ovnk_core.model.egress_firewall import FirewallRule
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER, PORT_GROUPS
from ovnk_core.nb.match import AddressSetRef, All, AnyOf, Is, Match, PortGroupRef, Test
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import ColumnId
from ovnk_core.terms.address import BITS, Address, Cidr, parse_address, parse_cidr

Array = npt.NDArray[Any]
NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
ICMP = {4: 1, 6: 58}
NONE, DROP, ALLOW = -1, 0, 1
HALF = (1 << 64) - 1
Flow = tuple[Address, str, int]


class Flows:
    """``family`` uint8[n]; ``high``, ``low`` uint64[n] (IPv4 in ``high``); ``protocol`` uint8[n]; ``port`` int32[n].

    ``places`` are the distinct destinations in order and ``rank`` int64[n] says which of them each flow goes to."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.flows = list(flows)
        self.places = sorted({address for address, _, _ in self.flows})
        rank = {address: at for at, address in enumerate(self.places)}
        self.rank = np.array([rank[address] for address, _, _ in self.flows], np.int64)
        words = [_words(address.family, address.value) for address in self.places]
        self.family = np.array([address.family for address in self.places], np.uint8)[self.rank]
        self.high = np.array([high for high, _ in words], np.uint64)[self.rank]
        self.low = np.array([low for _, low in words], np.uint64)[self.rank]
        numbers = [NUMBERS.get(protocol) or ICMP[address.family] for address, protocol, _ in self.flows]
        self.protocol = np.array(numbers, np.uint8)
        self.port = np.array([port for _, _, port in self.flows], np.int32)

    def __len__(self) -> int:
        return len(self.flows)

    def span(self, block: Cidr) -> tuple[int, int]:
        """Which of ``places`` lie in a prefix: from, to."""
        last = Address(block.family, block.last)
        return bisect_left(self.places, block.network), bisect_right(self.places, last)

    def inside(self, blocks: Iterable[Cidr]) -> Array:
        """bool by place: which destinations lie in any of the prefixes."""
        spans = np.array([self.span(block) for block in blocks], np.int64).reshape(-1, 2)
        steps = np.zeros(len(self.places) + 1, np.int64)
        np.add.at(steps, spans[:, 0], 1)
        np.add.at(steps, spans[:, 1], -1)
        found: Array = np.cumsum(steps)[:-1] > 0
        return found

    def arrays(self, family: int) -> tuple[Array, Array, Array, Array]:
        """(positions, addresses, protocols, ports) of one family, as ``find_many`` takes them."""
        at = np.flatnonzero(self.family == family)
        if family == 4:
            addresses: Array = self.high[at].astype(np.uint32)
        else:
            addresses = np.stack((self.high[at], self.low[at]), axis=1)
        return at, addresses, self.protocol[at], self.port[at].astype(np.uint16)


def _words(family: int, value: int) -> tuple[int, int]:
    return (value, 0) if family == 4 else (value >> 64, value & HALF)


# ------------------------------------------------------------------------------------------- rules one by one


def first_match(
    rules: Sequence[FirewallRule],
    stands_for: Callable[[FirewallRule], Iterable[Cidr]],
    exempt: Iterable[Cidr],
    to: Flows,
) -> Array:
    """Index of the first rule that matches each flow -> int32[n]; -1 for none, and for destinations in ``exempt``."""
    entries = [(-1, block, -1, -1) for block in exempt]
    for index, rule in enumerate(rules):
        pairs = [(NUMBERS[each.protocol.lower()], each.port or -1) for each in rule.ports] or [(-1, -1)]
        entries += [(index, block, *pair) for block in stands_for(rule) for pair in pairs]
    masks = [_words(each[1].family, _mask(each[1])) for each in entries]
    words = [_words(each[1].family, each[1].value) for each in entries]
    return _scan(
        *(to.family, to.high, to.low, to.protocol, to.port),
        np.array([each[1].family for each in entries], np.uint8),
        np.array([word[0] for word in words], np.uint64),
        np.array([word[1] for word in words], np.uint64),
        np.array([mask[0] for mask in masks], np.uint64),
        np.array([mask[1] for mask in masks], np.uint64),
        np.array([each[2] for each in entries], np.int32),
        np.array([each[3] for each in entries], np.int32),
        np.array([each[0] for each in entries], np.int32),
    )


def _mask(block: Cidr) -> int:
    bits = BITS[block.family]
    return (1 << bits) - (1 << bits - block.prefix)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]
    family, high, low, protocol, port, families, highs, lows, high_masks, low_masks, protocols, ports, indexes
):
    found = np.full(len(family), -1, np.int32)
    for flow in range(len(family)):
        for at in range(len(indexes)):
            if (
                high[flow] & high_masks[at] == highs[at]
                and low[flow] & low_masks[at] == lows[at]
                and families[at] == family[flow]
                and (protocols[at] < 0 or protocols[at] == protocol[flow])
                and (ports[at] < 0 or ports[at] == port[flow])
            ):
                found[flow] = indexes[at]
                break
    return found


# ------------------------------------------------------------------------------------------- rows by priority


class Row(NamedTuple):
    """One ACL as the database holds it."""

    priority: int
    action: str
    match: str


class DatabaseRows:
    """``acls``: by name of their port group. ``sets``: elements by name of their address set."""

    def __init__(self, acls: Mapping[str, Sequence[Row]], sets: Mapping[str, Iterable[str]]) -> None:
        self.acls, self.sets = acls, sets

    @classmethod
    def of_engine(cls, engine: Engine) -> DatabaseRows:
        """What an engine wants a database to hold."""
        rows = engine.rows(ACLS)
        acls = {
            group.name: [
                Row(rows[acl].priority, rows[acl].action, rows[acl].match)
                for acl in engine.members(MEMBER, ColumnId(key, "acls"))
            ]
            for key, group in engine.rows(PORT_GROUPS).items()
        }
        sets = {
            row.name: [str(each) for each in engine.members(MEMBER, ColumnId(key, "addresses"))]
            for key, row in engine.rows(ADDRESS_SETS).items()
        }
        return cls(acls, sets)

    @classmethod
    def of_database(cls, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> DatabaseRows:
        """What a database holds: table -> uuid -> columns."""
        acls = {
            group["name"]: [
                Row(acl["priority"], acl["action"], acl["match"])
                for acl in (tables["ACL"][uuid] for uuid in group["acls"])
            ]
            for group in tables["Port_Group"].values()
        }
        return cls(acls, {row["name"]: row["addresses"] for row in tables["Address_Set"].values()})

    def of(self, namespace: str) -> list[Row]:
        """Rows of a namespace's group, highest priority first."""
        return sorted(self.acls.get(group_name(namespace), ()), reverse=True)

    def decide(self, namespace: str, target: Address, protocol: str = "tcp", port: int = 443) -> bool | None:
        """What the rows do to one packet; None where none matches."""
        found = int(self.decide_many(namespace, Flows([(target, protocol, port)]))[0])
        return None if found == NONE else found == ALLOW

    def decide_many(self, namespace: str, flows: Flows) -> Array:
        """int8[n] of NONE, DROP and ALLOW."""
        verdicts = np.full(len(flows), NONE, np.int8)
        decided_at = np.full(len(flows), -1, np.int64)
        reading = _Reading(self.sets, group_name(namespace), flows)
        for row in self.of(namespace):
            verdict = {"allow": ALLOW, "allow-related": ALLOW, "drop": DROP}[row.action]
            at = reading.matching(parse(row.match))
            contradicted = (decided_at[at] == row.priority) & (verdicts[at] != verdict)
            assert not contradicted.any(), f"{row} contradicts another row of its priority"
            fresh = at[verdicts[at] == NONE]
            verdicts[fresh] = verdict
            decided_at[fresh] = row.priority
        return verdicts


class _Reading:
    """Matches evaluated for many flows: few are looked at where a port or a prefix leaves few."""

    def __init__(self, sets: Mapping[str, Iterable[str]], group: str, flows: Flows) -> None:
        self.sets, self.group, self.flows = sets, group, flows
        self._everything = np.arange(len(flows))
        self._by_place = np.argsort(flows.rank, kind="stable")
        self._starts = np.searchsorted(flows.rank[self._by_place], np.arange(len(flows.places) + 1))
        self._code = flows.protocol.astype(np.int64) << 16 | flows.port
        self._by_code = np.argsort(self._code, kind="stable")
        self._codes = self._code[self._by_code]
        self._inside: dict[tuple[object, ...], Array] = {}

    def matching(self, match: Match) -> Array:
        """Positions of the flows for which it holds."""
        at = self._candidates(match)
        return at[self._holds(match, at)]

    def _candidates(self, match: Match) -> Array:
        """Positions outside of which it does not hold."""
        match match:
            case All(parts):
                return min((self._candidates(part) for part in parts), key=len)
            case AnyOf(parts):
                return np.unique(np.concatenate([self._candidates(part) for part in parts]))
            case Test("tcp.dst" | "udp.dst" | "sctp.dst" as field, terms, "=="):
                codes = [_code(field, term) for term in terms]
                starts, stops = (np.searchsorted(self._codes, codes, side) for side in ("left", "right"))
                return np.concatenate([self._by_code[a:b] for a, b in zip(starts, stops, strict=True)])
            case Test("ip4.dst" | "ip6.dst", (Cidr() as block,), "=="):
                first, last = self.flows.span(block)
                return self._by_place[self._starts[first] : self._starts[last]]
            case _:
                return self._everything

    def _holds(self, match: Match, at: Array) -> Array:
        flows = self.flows
        match match:
            case All(parts):
                return np.logical_and.reduce([self._holds(part, at) for part in parts])
            case AnyOf(parts):
                return np.logical_or.reduce([self._holds(part, at) for part in parts])
            case Is(name):
                return flows.protocol[at] == NUMBERS[name]
            case Test("inport", (PortGroupRef(name),), "=="):
                return np.full(len(at), name == self.group)
            case Test("ip4.dst" | "ip6.dst" as field, terms, op):
                inside = self._inside.get(terms)
                if inside is None:
                    inside = self._inside[terms] = flows.inside(each for term in terms for each in self._blocks(term))
                return (flows.family[at] == int(field[2])) & (inside[flows.rank[at]] == (op == "=="))
            case Test("tcp.dst" | "udp.dst" | "sctp.dst" as field, terms, "=="):
                return np.logical_or.reduce([self._code[at] == _code(field, term) for term in terms])
            case _:
                raise AssertionError(f"a firewall's match says {match}")

    def _blocks(self, term: object) -> list[Cidr]:
        if isinstance(term, AddressSetRef):
            return [block(text) for text in self.sets[term.name]]
        assert isinstance(term, Cidr)
        return [term]


def _code(field: str, port: object) -> int:
    assert isinstance(port, int)
    return NUMBERS[field.removesuffix(".dst")] << 16 | port


def block(text: str) -> Cidr:
    """An address or prefix as text -> prefix."""
    return parse_cidr(text)[0] if "/" in text else parse_address(text).host
