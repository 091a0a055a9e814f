"""Egress firewalls judged the long way, twice: rules one by one, and northbound rows by priority. Shares no code with
either: prefixes are compared as masks, matches are read back from their text, and everything is done for many flows.

``first_match`` is a linear scan compiled with a numba of its own. ``DatabaseRows`` holds what a database would: ACLs of
port groups and address sets, and decides as ``ls_out_acl`` does; that two rows of one priority contradict each other is
an error. Both take ``Flows``: triples of destination, protocol and port (0 where the protocol has none).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
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

    def __init__(self, places: Sequence[Address], rank: Array, protocol: Array, port: Array) -> None:
        self.places, self.rank, self.port = places, rank, port.astype(np.int32)
        words = np.array([_words(each.family, each.value) for each in places], np.uint64).reshape(-1, 2)
        self.family = np.array([each.family for each in places], np.uint8)[rank]
        self.high, self.low = words[rank, 0], words[rank, 1]
        icmp = np.where(self.family == 4, ICMP[4], ICMP[6])
        self.protocol = np.where(protocol == 0, icmp, protocol).astype(np.uint8)

    @classmethod
    def of(cls, flows: Iterable[Flow]) -> Flows:
        """From triples of destination, protocol and port."""
        flows = list(flows)
        places = sorted({address for address, _, _ in flows})
        at = {address: rank for rank, address in enumerate(places)}
        rank = np.array([at[address] for address, _, _ in flows], np.int64)
        protocol = np.array([NUMBERS.get(word, 0) for _, word, _ in flows], np.int64)
        return cls(places, rank, protocol, np.array([port for _, _, port in flows], np.int64))

    def __getitem__(self, at: int) -> Flow:
        """One flow as a triple."""
        words = {number: word for word, number in NUMBERS.items()}
        return self.places[self.rank[at]], words.get(int(self.protocol[at]), "icmp"), int(self.port[at])

    def __len__(self) -> int:
        return len(self.rank)

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
    blocks = np.array([_packed(each[1]) for each in entries], np.uint64).reshape(-1, 5)
    others = np.array([(each[0], each[2], each[3]) for each in entries], np.int32).reshape(-1, 3)
    found: Array = _scan(to.family, to.high, to.low, to.protocol, to.port, blocks, others)
    return found


@lru_cache(maxsize=1 << 17)
def _packed(block: Cidr) -> tuple[int, int, int, int, int]:
    """Family, both words of the network, both words of the mask."""
    bits = BITS[block.family]
    mask = (1 << bits) - (1 << bits - block.prefix)
    return (block.family, *_words(block.family, block.value), *_words(block.family, mask))


@njit(cache=True)
def _scan(family, high, low, protocol, port, blocks, others):  # type: ignore[no-untyped-def]
    found = np.full(len(family), -1, np.int32)
    for flow in range(len(family)):
        for at in range(len(others)):
            if (
                high[flow] & blocks[at, 3] == blocks[at, 1]
                and low[flow] & blocks[at, 4] == blocks[at, 2]
                and blocks[at, 0] == family[flow]
                and (others[at, 1] < 0 or others[at, 1] == protocol[flow])
                and (others[at, 2] < 0 or others[at, 2] == port[flow])
            ):
                found[flow] = others[at, 0]
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
        found = int(self.decide_many(namespace, Flows.of([(target, protocol, port)]))[0])
        return None if found == NONE else found == ALLOW

    def decide_many(self, namespace: str, flows: Flows) -> Array:
        """int8[n] of NONE, DROP and ALLOW."""
        verdicts = np.full(len(flows), NONE, np.int8)
        decided_at = np.full(len(flows), -1, np.int64)
        reading = _Reading(self.sets, group_name(namespace), flows)
        for row in self.of(namespace):
            verdict = {"allow": ALLOW, "allow-related": ALLOW, "drop": DROP}[row.action]
            at = reading.matching(_tree(row.match))
            contradicted = (decided_at[at] == row.priority) & (verdicts[at] != verdict)
            assert not contradicted.any(), f"{row} contradicts another row of its priority"
            fresh = at[verdicts[at] == NONE]
            verdicts[fresh] = verdict
            decided_at[fresh] = row.priority
        return verdicts


_tree = lru_cache(maxsize=1 << 14)(parse)


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
        for part in match.of if isinstance(match, All) else (match,):
            if not len(at):
                break
            at = at[self._holds(part, at)]
        return at

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
        found: Array
        match match:
            case All(parts):
                found = np.logical_and.reduce([self._holds(part, at) for part in parts])
            case AnyOf(parts):
                found = np.logical_or.reduce([self._holds(part, at) for part in parts])
            case Is(name):
                found = flows.protocol[at] == NUMBERS[name]
            case Test("inport", (PortGroupRef(name),), "=="):
                found = np.full(len(at), name == self.group)
            case Test("ip4.dst" | "ip6.dst" as field, terms, op):
                inside = self._inside.get(terms)
                if inside is None:
                    inside = self._inside[terms] = flows.inside(each for term in terms for each in self._blocks(term))
                found = (flows.family[at] == int(field[2])) & (inside[flows.rank[at]] == (op == "=="))
            case Test("tcp.dst" | "udp.dst" | "sctp.dst" as field, terms, "=="):
                found = np.logical_or.reduce([self._code[at] == _code(field, term) for term in terms])
            case _:
                raise AssertionError(f"a firewall's match says {match}")
        return found

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
