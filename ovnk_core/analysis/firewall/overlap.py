"""Which rules of a firewall hide which: the names behind what ``kernels.layering`` only says of whole lists.

``Layering`` tells exactly which rules decide nothing. ``hiders`` then names earlier rules that together match all the
rule matches; ``idle_because`` finds live rules whose removal would change nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import NamedTuple

from ovnk_core.features.egress_firewall.compile import EVERYTHING, NOWHERE, Reach
from ovnk_core.kernels.layering import SHADOWED, Entry, layers
from ovnk_core.model.egress_firewall import Destination, DnsName, FirewallPort, FirewallRule
from ovnk_core.terms.address import Cidr, Family, network_of

Span = tuple[int, int, int]
"""(family, first address, last address)."""
Atom = FirewallPort | None
"""One port, every port of a protocol (port 0), or None: every protocol."""
_FEW = 64
"""Destinations that are merged rather than walked past."""
_STEPS = 2_000
"""Other rules that one rule is compared with at most, so that no list takes more than seconds."""


class Hiders(NamedTuple):
    """Earlier rules that decide before a shadowed one, ascending. ``is_all`` False: there may be more."""

    rules: tuple[int, ...]
    is_all: bool = True


class Overlaps:
    """An ordered list of rules, indexed by destination."""

    def __init__(self, rules: tuple[FirewallRule, ...], reach: Reach) -> None:
        self.rules, self.reach = rules, reach
        self._at: dict[Destination, list[int]] = {}
        self._by_port: dict[tuple[Destination, Atom], list[int]] = {}
        self._opaque: list[int] = []
        self._ports = [frozenset(rule.ports) for rule in rules]
        self._whole = [frozenset(each.protocol for each in ports if not each.port) for ports in self._ports]
        for index, rule in enumerate(rules):
            self._at.setdefault(rule.to, []).append(index)
            for atom in self._ports[index] or (None,):
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

    def hiders(self, index: int) -> Hiders:
        """Earlier rules that match everything a shadowed rule matches: one that does alone, or the first ones that do
        together; none when there are none."""
        rule = self.rules[index]
        alone = self._alone(index)
        if alone is not None:
            return Hiders((alone,))
        found: set[int] = set()
        most = _STEPS // max(1, len(rule.ports))
        near = list(islice(self._destinations(rule.to), most + 1))
        is_all, steps = len(near) <= most, _STEPS
        filtered = _Left(self._spans(rule.to))
        filtered.cut_all(_span(block) for block in self.reach.exempt)
        for atom in rule.ports or (None,):
            left = _Left(filtered.spans)
            for other in merge(*self._about(near[:most], atom)):
                if other >= index or not left.spans or not steps:
                    break
                steps -= 1
                to = self.rules[other].to
                if isinstance(to, Cidr) and left.cut(_span(to)):
                    found.add(other)
            if left.spans and is_all and steps:
                return Hiders(())
            is_all = is_all and not left.spans
        return Hiders(tuple(sorted(found)), is_all)

    def idle_because(self, index: int) -> tuple[int, ...] | None:
        """Why removing a live rule would change nothing: () when what it matches is allowed anyway, or the later rule
        of the same verdict that takes over; None when it would change something, or when that takes several rules or
        ``_STEPS`` of them to see.
        """
        rule = self.rules[index]
        for step, other in enumerate(self._later(index)):
            later = self.rules[other]
            if step == _STEPS:
                return None
            if self._meets(other, index):
                if later.allow != rule.allow:
                    return None
                if self._covers(other, index) and _holds(later.to, rule.to):
                    return (other,)
        return () if rule.allow else None

    def together(self, indexes: Iterable[int], family: Family, atom: Atom) -> tuple[int, ...]:
        """Those of some rules that are about the atom for every filtered address of a family together, ascending and
        the widest first; none while an address is left."""
        wanted = ((to.prefix, each) for each in indexes if isinstance(to := self.rules[each].to, Cidr))
        left = _Left(_span(block) for block in EVERYTHING if block.family == family)
        left.cut_all(_span(block) for block in self.reach.exempt)
        found: list[int] = []
        for _, index in sorted(wanted):
            to = self.rules[index].to
            if isinstance(to, Cidr) and covers_atom(self.rules[index], atom) and left.cut(_span(to)):
                found.append(index)
        return () if left.spans else tuple(sorted(found))

    def _alone(self, index: int) -> int | None:
        """The first rule before this one that matches all it matches, among the first ``_STEPS`` that could. A DNS name
        stands for more in a Deny than in an Allow, so an Allow does not hide a Deny of the same name."""
        rule = self.rules[index]
        rarest = min(rule.ports or (None,), key=lambda atom: len(self._by_port[rule.to, atom]))
        for other in islice(merge(*self._about(self._wider(rule.to), rarest)), _STEPS):
            if other >= index:
                break
            is_narrower = isinstance(rule.to, DnsName) and self.rules[other].allow and not rule.allow
            if not is_narrower and self._covers(other, index):
                return other
        return None

    # ------------------------------------------------------------------ ports of two rules

    def _covers(self, one: int, other: int) -> bool:
        """Whether ``one`` is about every protocol and port that ``other`` is about."""
        if not self._ports[one] or not self._ports[other]:
            return not self._ports[one]
        if self._ports[other] <= self._ports[one]:
            return True
        whole = self._whole[one]
        return bool(whole) and all(each.protocol in whole for each in self._ports[other] - self._ports[one])

    def _meets(self, one: int, other: int) -> bool:
        """Whether some packet's protocol, port and address could be in both."""
        first, second = self._ports[one], self._ports[other]
        if first and second and first.isdisjoint(second):
            whole, other_whole = self._whole[one], self._whole[other]
            if not any(each.protocol in whole for each in second) and not any(
                each.protocol in other_whole for each in first
            ):
                return False
        return _may_meet(self.rules[one].to, self.rules[other].to)

    # ------------------------------------------------------------------ the index

    def _wider(self, to: Destination) -> Iterator[Destination]:
        """Destinations in use that hold all of ``to``, its own among them."""
        yield to
        if isinstance(to, Cidr):
            for family, prefix in self._lengths:
                if family == to.family and prefix < to.prefix and (wider := network_of(to.network, prefix)) in self._at:
                    yield wider

    def _about(self, destinations: Iterable[Destination], atom: Atom) -> Iterator[list[int]]:
        """Indexes, ascending, of the rules on any of the destinations that are about every packet of an atom."""
        atoms: set[Atom] = {None} if atom is None else {None, atom, FirewallPort(atom.protocol)}
        for to in destinations:
            yield from (self._by_port[to, each] for each in atoms if (to, each) in self._by_port)

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

    def _later(self, index: int) -> Iterable[int]:
        """Rules after this one, ascending, all that could meet a packet of it among them. Few destinations are merged,
        of many the list is walked: a rule that overlaps many mostly meets a contradiction soon."""
        rule = self.rules[index]
        near = list(islice(self._destinations(rule.to), _FEW + 1))
        if len(near) > _FEW:
            return range(index + 1, len(self.rules))
        return merge(*(_after(places, index) for each in near for places in self._places(each, rule.ports)))

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


def _after(places: list[int], index: int) -> Iterator[int]:
    return (places[at] for at in range(bisect_right(places, index), len(places)))


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
