"""Which rules of a firewall hide which: the names behind what ``kernels.layering`` only says of whole lists.

``Layering`` tells exactly which rules decide nothing. ``hiders`` then names earlier rules that together match all the
rule matches; ``idle_because`` finds live rules whose removal would change nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from ovnk_core.features.egress_firewall.compile import EVERYTHING, NOWHERE, Reach
from ovnk_core.kernels.layering import SHADOWED, Entry, layers
from ovnk_core.model.egress_firewall import Destination, DnsName, FirewallPort, FirewallRule
from ovnk_core.terms.address import Cidr, network_of

Span = tuple[int, int, int]
"""(family, first address, last address)."""
Atom = FirewallPort | None
"""One port, every port of a protocol (port 0), or None: every protocol."""
_FEW = 64
"""Destinations that are merged rather than walked past."""


class Overlaps:
    """An ordered list of rules, indexed by destination."""

    def __init__(self, rules: tuple[FirewallRule, ...], reach: Reach) -> None:
        self.rules, self.reach = rules, reach
        self._at: dict[Destination, list[int]] = {}
        self._by_port: dict[tuple[Destination, Atom], list[int]] = {}
        self._opaque: list[int] = []
        for index, rule in enumerate(rules):
            self._at.setdefault(rule.to, []).append(index)
            for atom in rule.ports or (None,):
                self._by_port.setdefault((rule.to, atom), []).append(index)
            if not isinstance(rule.to, Cidr):
                self._opaque.append(index)
        self._prefixes = sorted(to for to in self._at if isinstance(to, Cidr))
        self._lengths = sorted({(to.family, to.prefix) for to in self._prefixes})

    def shadowed(self) -> list[int]:
        """Indexes of rules that no packet is decided by, though they could match some if they stood alone."""
        exempt = [Entry(True, (block.family, block.value, block.prefix), ()) for block in self.reach.exempt]
        found = layers([*exempt, *map(self.reach.entry, self.rules)], self.reach.families)[len(exempt) :]
        hidden = {index for index, layer in enumerate(found) if layer == SHADOWED and self.is_somewhere(index)}
        hidden.update(index for index in self._opaque if self._alone(index) is not None)
        return sorted(hidden)

    def is_somewhere(self, index: int) -> bool:
        """Whether the rule's destination is subject to firewalls at all."""
        return self.reach.kinds[self.rules[index].to] != NOWHERE

    def hiders(self, index: int) -> tuple[int, ...]:
        """Earlier rules that match everything a shadowed rule matches: one that does alone, or the first ones that do
        together; empty when there are none. Cost: earlier overlapping rules x ports."""
        rule = self.rules[index]
        alone = self._alone(index)
        if alone is not None:
            return (alone,)
        found: set[int] = set()
        for atom in rule.ports or (None,):
            left = _Left(self._spans(rule.to))
            left.cut_all(_span(block) for block in self.reach.exempt)
            for other in sorted(self._overlapping(rule.to)):
                to = self.rules[other].to
                if other >= index or not left.spans:
                    break
                if isinstance(to, Cidr) and covers_atom(self.rules[other], atom) and left.cut(_span(to)):
                    found.add(other)
            if left.spans:
                return ()
        return tuple(sorted(found))

    def idle_because(self, index: int) -> tuple[int, ...] | None:
        """Why removing a live rule would change nothing: () when what it matches is allowed anyway, or the later rule
        of the same verdict that takes over; None when it would change something, or when that takes several rules to
        see.
        """
        rule = self.rules[index]
        for other in self._later(index):
            later = self.rules[other]
            if later.allow != rule.allow:
                return None
            if covers_ports(later, rule) and _holds(later.to, rule.to):
                return (other,)
        return () if rule.allow else None

    def _alone(self, index: int) -> int | None:
        """The first rule before this one that matches all it matches. A DNS name stands for more in a Deny than in an
        Allow, so an Allow does not hide a Deny of the same name."""
        rule = self.rules[index]
        for other in sorted(self._wider(rule.to)):
            if other >= index:
                break
            earlier = self.rules[other]
            is_narrower = isinstance(rule.to, DnsName) and earlier.allow and not rule.allow
            if covers_ports(earlier, rule) and not is_narrower:
                return other
        return None

    # ------------------------------------------------------------------ the index

    def _wider(self, to: Destination) -> set[int]:
        """Rules whose destination holds all of ``to``, its own among them."""
        found = set(self._at.get(to, ()))
        if isinstance(to, Cidr):
            for family, prefix in self._lengths:
                if family == to.family and prefix < to.prefix:
                    found.update(self._at.get(network_of(to.network, prefix), ()))
        return found

    def _overlapping(self, to: Destination) -> set[int]:
        """Rules whose destination could share an address with ``to``."""
        return {index for each in self._destinations(to) for index in self._at[each]}

    def _destinations(self, to: Destination) -> Iterator[Destination]:
        """Destinations that could share an address with ``to``; what names and nodes stand for is not known."""
        if not isinstance(to, Cidr):
            yield from self._at
            return
        yield from {self.rules[index].to for index in self._opaque}
        for family, prefix in self._lengths:
            wider = network_of(to.network, prefix) if family == to.family and prefix < to.prefix else to
            if wider is not to and wider in self._at:
                yield wider
        for each in self._prefixes[bisect_left(self._prefixes, to) :]:
            if not to.overlaps(each):
                break
            yield each

    def _later(self, index: int) -> Iterator[int]:
        """Rules after this one that could meet a packet of it, ascending. Few destinations are merged, of many the list
        is walked: a rule that overlaps many mostly meets a contradiction soon."""
        rule = self.rules[index]
        near = list(islice(self._destinations(rule.to), _FEW + 1))
        if len(near) > _FEW:
            found: Iterable[int] = range(index + 1, len(self.rules))
        else:
            lists = (places for each in near for places in self._places(each, rule.ports))
            found = merge(*(places[bisect_right(places, index) :] for places in lists))
        for other in found:
            later = self.rules[other]
            if ports_meet(later, rule) and _may_meet(later.to, rule.to):
                yield other

    def _places(self, to: Destination, ports: tuple[FirewallPort, ...]) -> Iterator[list[int]]:
        """Indexes of the rules on one destination that can meet these ports, and perhaps others."""
        if not ports or any(not each.port for each in ports):
            yield self._at[to]
            return
        atoms: set[Atom] = {None, *ports, *(FirewallPort(each.protocol) for each in ports)}
        yield from (self._by_port[to, atom] for atom in atoms if (to, atom) in self._by_port)

    def _spans(self, to: Destination) -> Iterator[Span]:
        if isinstance(to, Cidr):
            yield _span(to)
        else:
            yield from (_span(block) for block in EVERYTHING if block.family in self.reach.families)


def _may_meet(one: Destination, other: Destination) -> bool:
    return not isinstance(one, Cidr) or not isinstance(other, Cidr) or one.overlaps(other)


def _holds(one: Destination, other: Destination) -> bool:
    """Whether every address of ``other`` is one of ``one``."""
    return one == other or (isinstance(one, Cidr) and isinstance(other, Cidr) and one.covers(other))


def _span(block: Cidr) -> Span:
    return block.family, block.value, block.last


class _Left:
    """Addresses not yet cut off, as sorted spans that do not touch each other's insides."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = sorted(spans)

    def cut_all(self, spans: Iterable[Span]) -> None:
        for span in spans:
            self.cut(span)

    def cut(self, span: Span) -> bool:
        """Take a span away; whether anything of it was left."""
        family, first, last = span
        at = bisect_left(self.spans, (family, first, -1))
        if at and self.spans[at - 1][0] == family and self.spans[at - 1][2] >= first:
            at -= 1
        stop = at
        while stop < len(self.spans) and self.spans[stop][0] == family and self.spans[stop][1] <= last:
            stop += 1
        taken = self.spans[at:stop]
        del self.spans[at:stop]
        for _, start, end in taken:
            if start < first:
                insort(self.spans, (family, start, first - 1))
            if end > last:
                insort(self.spans, (family, last + 1, end))
        return bool(taken)


# ------------------------------------------------------------------------------------------- ports


def covers_atom(rule: FirewallRule, atom: Atom) -> bool:
    """Whether the rule is about every packet of the atom."""
    if not rule.ports:
        return True
    return atom is not None and any(each == atom or each == FirewallPort(atom.protocol) for each in rule.ports)


def covers_ports(one: FirewallRule, other: FirewallRule) -> bool:
    """Whether ``one`` is about every protocol and port that ``other`` is about."""
    return all(covers_atom(one, atom) for atom in other.ports or (None,))


def ports_meet(one: FirewallRule, other: FirewallRule) -> bool:
    """Whether some packet's protocol and port are in both."""
    if not one.ports or not other.ports:
        return True
    return any(
        a.protocol == b.protocol and (a.port == b.port or not a.port or not b.port)
        for a in one.ports
        for b in other.ports
    )
