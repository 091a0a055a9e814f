"""Where two versions of an egress firewall could differ: one packet for every way they can treat one.

A packet that matches no rule that was added, removed or moved meets the same first match in both versions: the rules
that stayed kept their order. So only packets of changed rules matter. Inside a changed rule's prefix the edges of all
prefixes of both versions cut the addresses into intervals no rule can tell apart, and the first address of each stands
for all of it; of the ports those that some rule over that address names, and one that none names. That is exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ovnk_core.features.egress_firewall.compile import rules_in_force
from ovnk_core.features.egress_firewall.verdict import Names, dns_addresses
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, FirewallRule
from ovnk_core.terms.address import Address, Cidr, network_of
from ovnk_core.terms.port import PORT_MAX, TRANSPORTS, Protocol, Transport

WORDS: dict[Transport, Protocol] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
Ports = tuple[FirewallPort, ...]


class Point(NamedTuple):
    """A packet's destination; ``port`` None for icmp."""

    address: Address
    protocol: Protocol
    port: int | None


class Region(NamedTuple):
    """Destinations and ports (empty: every protocol) some rule is about; ``allow`` is its verdict."""

    allow: bool
    prefixes: tuple[Cidr, ...]
    ports: Ports


def regions(firewall: EgressFirewall | None, names: Names) -> tuple[Region, ...]:
    """A firewall's rules with what names and nodes stand for now; none without a firewall."""
    rules = rules_in_force(firewall) if firewall is not None else ()
    return tuple(Region(rule.allow, _prefixes(rule, names), rule.ports) for rule in rules)


def _prefixes(rule: FirewallRule, names: Names) -> tuple[Cidr, ...]:
    if isinstance(rule.to, Cidr):
        return (rule.to,)
    if isinstance(rule.to, DnsName):
        found: Iterable[Address] = dns_addresses(names.dns(rule.to.name), allow=rule.allow)
    else:
        found = names.addresses_of(rule.to)
    return tuple(sorted(address.host for address in found))


def kept(before: Sequence[object], after: Sequence[object]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Two lists of hashable items -> (pairs of indexes that stayed in order, pairs that moved).

    Equal items are paired first with first; of the pairs as many as possible stay (a longest increasing subsequence).
    Items in no pair were removed, or added. O(n log n).
    """
    places: dict[object, list[int]] = {}
    for index in reversed(range(len(after))):
        places.setdefault(after[index], []).append(index)
    pairs = [(at, places[item].pop()) for at, item in enumerate(before) if places.get(item)]
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for number, (_, index) in enumerate(pairs):
        at = bisect_left(ends, index)
        previous.append(tails[at - 1] if at else -1)
        tails[at : at + 1], ends[at : at + 1] = [number], [index]
    chain = set()
    number = tails[-1] if tails else -1
    while number >= 0:
        chain.add(number)
        number = previous[number]
    return [pairs[each] for each in sorted(chain)], [pair for each, pair in enumerate(pairs) if each not in chain]


def changed(before: Sequence[Region], after: Sequence[Region]) -> tuple[Region, ...]:
    """Regions of every rule that did not stay in its place among the others."""
    stayed, _ = kept(before, after)
    old, new = {pair[0] for pair in stayed}, {pair[1] for pair in stayed}
    gone = (region for index, region in enumerate(before) if index not in old)
    come = (region for index, region in enumerate(after) if index not in new)
    return tuple(dict.fromkeys((*gone, *come)))


class Edges:
    """All regions of both versions, to cut changed ones along. ``more``: prefixes to cut along besides."""

    def __init__(self, known: Iterable[Region], more: Iterable[Cidr] = ()) -> None:
        self._ports: dict[Cidr, set[FirewallPort]] = {prefix: set() for prefix in more}
        for region in known:
            for prefix in region.prefixes:
                self._ports.setdefault(prefix, set()).update(region.ports)
        self._lengths = sorted({(prefix.family, prefix.prefix) for prefix in self._ports})
        edges = {edge for prefix in self._ports for edge in ((prefix.family, prefix.value), _after(prefix))}
        self._edges = sorted(edges)

    def points(self, wanted: Iterable[Region]) -> Iterator[Point]:
        """One packet for each way the known regions can treat those of ``wanted``, without repetition."""
        seen: set[Point] = set()
        for region in wanted:
            for prefix in region.prefixes:
                for address in self._starts(prefix):
                    for point in _combined(address, region.ports, self._named(address)):
                        if point not in seen:
                            seen.add(point)
                            yield point

    def _starts(self, prefix: Cidr) -> list[Address]:
        """The first address of every interval that the edges cut a prefix into."""
        first = bisect_right(self._edges, (prefix.family, prefix.value))
        last = bisect_right(self._edges, (prefix.family, prefix.last))
        return [prefix.network, *(Address(prefix.family, value) for _, value in self._edges[first:last])]

    def _named(self, address: Address) -> set[FirewallPort]:
        """Ports that any region over an address names."""
        found: set[FirewallPort] = set()
        for family, length in self._lengths:
            if family == address.family:
                found |= self._ports.get(network_of(address, length), set())
        return found


def _after(prefix: Cidr) -> tuple[int, int]:
    return prefix.family, prefix.last + 1


def _combined(address: Address, ports: Ports, named: set[FirewallPort]) -> Iterator[Point]:
    """Every protocol and port of a region that matters at an address."""
    asked = {each for each in ports if each.port}
    whole = {each.protocol for each in ports if not each.port} if ports else set(TRANSPORTS)
    for protocol in sorted(whole):
        numbers = {each.port for each in named if each.protocol == protocol and each.port}
        other = next((port for port in range(1, PORT_MAX + 1) if port not in numbers), PORT_MAX)
        asked |= {FirewallPort(protocol, port) for port in (*numbers, other)}
    for each in sorted(asked, key=lambda each: (TRANSPORTS.index(each.protocol), each.port)):
        yield Point(address, WORDS[each.protocol], each.port)
    if not ports:
        yield Point(address, "icmp", None)
