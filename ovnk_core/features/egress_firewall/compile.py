"""An ordered list of rules -> few northbound rows that say the same.

Rules of one verdict commute, so what must be kept of the order is only that a packet meets its first match before any
later match of the *other* verdict. ``kernels.layering`` gives each rule the lowest layer for which that holds, and
leaves out rules that no packet reaches. All rules of one layer, verdict and port list then share one row, whose
destinations are an address set: 8,000 plain /32 rules become a handful of rows, and one more is one address more.

A row's identity is what it says (verdict, ports, kind of destination) and its rank among the rows that say the same in
deeper layers; its priority comes from its layer. So an edit that pushes everything one layer down changes priorities
and moves no address. Layers are a function of the list: there are never more than rules, so the band holds them all.

With ACL logging each rule is a row of its own, so that the log can name it; its priority falls with its index.
Cost of an edit: about one pass over the list (splice, layering, grouping) and then what really changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from ovnk_core.engine.relation import RelationView
from ovnk_core.engine.table import SetTable
from ovnk_core.kernels.layering import ANY_PORT, Entry, Layering
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.egress_firewall import (
    MAX_RULES,
    Destination,
    DnsName,
    EgressFirewall,
    FirewallPort,
    FirewallRule,
    NodeSelector,
)
from ovnk_core.model.tables import CLUSTER, EGRESS_FIREWALL
from ovnk_core.nb.desired import MEMBER
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.terms.address import Cidr, Family, cidr
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import PROTOCOL_NUMBERS
from ovnk_core.terms.struct import Key
from ovnk_core.topology.logging import ACL_LOGGING
from ovnk_core.topology.place import CLUSTER_NETWORK

K = TypeVar("K")
V = TypeVar("V")
TOP_PRIORITY = 10_000
"""Of layer 0, or of rule 0 where each rule has a row; the band ends at 2001."""
EVERYTHING = (cidr("0.0.0.0/0"), cidr("::/0"))
NEVER_FILTERED = (cidr("224.0.0.0/4"), cidr("255.255.255.255/32"), cidr("ff00::/8"), cidr("fe80::/10"))
"""Multicast, broadcast and neighbour discovery, which never leave the cluster: without tiers a firewall row would kill
them, or open them between namespaces."""


class AddressesOf(Key, frozen=True, order=True, cache_hash=True):
    """The row's own address sets, one per family; ``is_wide``: they reach into what is never filtered."""

    families: tuple[Family, ...]
    is_wide: bool


class OneCidr(Key, frozen=True, order=True, cache_hash=True):
    """A single prefix, written into the match."""

    cidr: Cidr
    is_wide: bool


RowDestination = AddressesOf | OneCidr | DnsName | NodeSelector


class FirewallRow(Key, frozen=True, cache_hash=True):
    """One ACL: what it says, its ``label`` (identity within the namespace) and its priority. ``index`` is the rule's
    where the row is one rule's alone (logging), else -1."""

    allow: bool
    ports: tuple[FirewallPort, ...]
    to: RowDestination
    label: str
    priority: int
    index: int = -1


FIREWALL_ROW = SetTable[str, FirewallRow]("egress_firewall.row")
"""By namespace."""
DNS_NAME = SetTable[str, str]("egress_firewall.dns_name")
"""DNS names that must be known, under ``ALL``, counted by the firewalls that name them."""
NODE_SELECTOR = SetTable[str, NodeSelector]("egress_firewall.node_selector")
"""Node selectors in use, under ``ALL``, counted by the firewalls that use them."""
ALL = ""


def firewall_owner(namespace: str) -> ObjectRef:
    return ObjectRef("EgressFirewall", namespace, "default")


def address_set_row(namespace: str, label: str, family: Family) -> RowId:
    return RowId("Address_Set", firewall_owner(namespace), f"{label}/v{family}")


def never_filtered(network: ClusterNetwork) -> tuple[Cidr, ...]:
    """What no firewall row may match: pods' addresses, multicast, neighbour discovery (15.5.1: external hosts only)."""
    return tuple(sorted((*network.cidrs, *NEVER_FILTERED)))


def rules_in_force(firewall: EgressFirewall) -> tuple[FirewallRule, ...]:
    """The rules a firewall enforces: its own, or, where a refused one is stood in for, denial of everything."""
    return tuple(FirewallRule(False, all_of) for all_of in EVERYTHING) if firewall.blocked else firewall.rules


# ------------------------------------------------------------------------------------------- rules to rows

Rows = dict[FirewallRow, list[int]]
"""Row -> indexes of the rules it stands for, ascending."""
Alike = tuple[bool, tuple[FirewallPort, ...], str]
"""What rules of one row have in common: verdict, ports, and the kind of destination."""


def merged(rules: Sequence[FirewallRule], layers: Iterable[tuple[int, int]], reach: Reach) -> Rows:
    """Rules and (index, layer) pairs (negative: unreachable) -> rows that share everything but the destination."""
    found: dict[Alike, dict[int, list[int]]] = {}
    alike_of = reach.alike
    for index, layer in layers:
        if layer >= 0:
            by_layer = found.setdefault(alike_of[rules[index]], {})
            by_layer.setdefault(layer, []).append(index)
    rows: Rows = {}
    for alike, by_layer in found.items():
        for rank, layer in enumerate(sorted(by_layer, reverse=True)):
            indexes = by_layer[layer]
            to = _row_destination([rules[index].to for index in indexes], alike[2])
            rows[reach.row(alike, to, rank, TOP_PRIORITY - layer)] = indexes
    return rows


def one_each(rules: Sequence[FirewallRule], layers: Iterable[tuple[int, int]], reach: Reach) -> Rows:
    """Every reachable rule as a row of its own."""
    rows: Rows = {}
    for index, layer in layers:
        if layer >= 0:
            rule = rules[index]
            to = _row_destination([rule.to], reach.kinds[rule.to])
            rows[FirewallRow(rule.allow, rule.ports, to, f"rule/{index}", TOP_PRIORITY - index, index)] = [index]
    return rows


def _row_destination(found: Sequence[Destination], kind: str) -> RowDestination:
    first = found[0]
    if not isinstance(first, Cidr):
        return first
    if len(found) == 1:
        return OneCidr(first, kind == WIDE)
    families: set[Family] = {each.family for each in found if isinstance(each, Cidr)}
    return AddressesOf(tuple(sorted(families)), kind == WIDE)


# ------------------------------------------------------------------------------------------- what a rule can reach

NOWHERE, PLAIN, WIDE = "nowhere", "addresses", "wide"


class Reach:
    """What destinations mean in one cluster network: nothing, addresses apart from or across what is never filtered."""

    def __init__(self, network: ClusterNetwork) -> None:
        self.families = frozenset(network.families)
        self.exempt = never_filtered(network)
        self.kinds = _Memo(self.kind)
        self.alike = _Memo(self._alike)
        self._rows: dict[tuple[Alike, RowDestination, int, int], FirewallRow] = {}

    def kind(self, to: Destination) -> str:
        if isinstance(to, DnsName):
            return f"dns/{to.name}"
        if isinstance(to, NodeSelector):
            return f"nodes/{to.selector}"
        if to.family not in self.families or any(block.covers(to) for block in self.exempt):
            return NOWHERE
        return WIDE if any(block.overlaps(to) for block in self.exempt) else PLAIN

    def _alike(self, rule: FirewallRule) -> Alike:
        return rule.allow, rule.ports, self.kinds[rule.to]

    def row(self, alike: Alike, to: RowDestination, rank: int, priority: int) -> FirewallRow:
        """A row, the same object as long as it says the same: making and hashing thousands per edit is most of one."""
        key = (alike, to, rank, priority)
        found = self._rows.get(key)
        if found is None:
            if len(self._rows) > 4 * MAX_RULES:
                self._rows.clear()
            allow, ports, kind = alike
            said = ",".join(f"{each.protocol}:{each.port}" for each in ports) or "any"
            label = f"{'Allow' if allow else 'Deny'}/{said}/{kind}/{rank}"
            found = self._rows[key] = FirewallRow(allow, ports, to, label, priority)
        return found

    def entry(self, rule: FirewallRule) -> Entry:
        """The rule as the layering sees it: names and node selectors may stand for anything."""
        to = rule.to
        prefix = (to.family, to.value, to.prefix) if isinstance(to, Cidr) else None
        return Entry(rule.allow, prefix, _numbers(rule.ports))


class _Memo(dict[K, V]):
    """A function's answers, kept."""

    def __init__(self, function: Callable[[K], V]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: K) -> V:
        found = self[key] = self._function(key)
        return found


def _numbers(ports: tuple[FirewallPort, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((PROTOCOL_NUMBERS[each.protocol], each.port or ANY_PORT) for each in ports)


# ------------------------------------------------------------------------------------------- incrementally


class Compiled:
    """One firewall's rows, kept so that the next version of its list costs only what differs."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.rules: tuple[FirewallRule, ...] = ()
        self.rows: Rows = {}
        self._kept: tuple[FirewallRule, ...] = ()
        self._layering = Layering(reach.families, ())

    def update(self, rules: tuple[FirewallRule, ...], *, is_logged: bool) -> None:
        """Take over a new version of the list. Rules that can match nothing take no part."""
        kinds = self.reach.kinds
        positions = [at for at, rule in enumerate(rules) if kinds[rule.to] != NOWHERE]
        kept = rules if len(positions) == len(rules) else tuple(rules[at] for at in positions)
        start, stop, end = _changed(self._kept, kept)
        self._layering.splice(start, stop, [self.reach.entry(rule) for rule in kept[start:end]])
        self.rules, self._kept = rules, kept
        layers = zip(positions, self._layering.layers(), strict=True)
        self.rows = (one_each if is_logged else merged)(rules, layers, self.reach)

    def members(self) -> Iterator[tuple[str, Family, set[Cidr]]]:
        """(label, family, prefixes) of every address set."""
        for row, indexes in self.rows.items():
            if isinstance(row.to, AddressesOf):
                found = [to for index in indexes if isinstance(to := self.rules[index].to, Cidr)]
                for family in row.to.families:
                    yield row.label, family, {to for to in found if to.family == family}


def _changed(old: Sequence[FirewallRule], new: Sequence[FirewallRule]) -> tuple[int, int, int]:
    """(start, stop in ``old``, stop in ``new``) of the part that differs."""
    shorter = min(len(old), len(new))
    start = next((at for at in range(shorter) if old[at] is not new[at] and old[at] != new[at]), shorter)
    back = 0
    while back < shorter - start:
        one, two = old[-1 - back], new[-1 - back]
        if one is not two and one != two:
            break
        back += 1
    return start, len(old) - back, len(new) - back


class FirewallRows:
    """Firewalls -> rows, members of their address sets, and the names and node selectors they need."""

    name = "egress_firewall.compile"
    inputs = (EGRESS_FIREWALL, CLUSTER_NETWORK, ACL_LOGGING)
    out = (FIREWALL_ROW, MEMBER, DNS_NAME, NODE_SELECTOR)

    def __init__(self) -> None:
        self._compiled: dict[NamespacedName, Compiled] = {}
        self._emitted: dict[NamespacedName, _Emission] = {}

    def rebuild(self, view: RelationView) -> None:
        self._compiled, self._emitted = {}, {}
        for key in view.rows(EGRESS_FIREWALL):
            self._settle(view, key)

    def step(self, view: RelationView) -> None:
        if view.changes(CLUSTER_NETWORK):
            self._compiled.clear()
            stale = {*view.rows(EGRESS_FIREWALL), *self._emitted}
        else:
            stale = set(view.changes(EGRESS_FIREWALL))
            logged = view.changes(ACL_LOGGING)
            stale |= {key for key in self._emitted if key.namespace in logged}
        for key in sorted(stale):
            self._settle(view, key)

    def _settle(self, view: RelationView, key: NamespacedName) -> None:
        """Bring one firewall's output from what it was to what it must be."""
        before = self._emitted.get(key, _Emission())
        after = self._emission(view, key)
        for emit, this, other in ((view.remove, before, after), (view.add, after, before)):
            for row in this.rows - other.rows:
                emit(FIREWALL_ROW, key.namespace, row)
            for column, members in this.members.items():
                for member in members - other.members.get(column, set()):
                    emit(MEMBER, column, member.match_text())
            for name in this.names - other.names:
                emit(DNS_NAME, ALL, name)
            for selector in this.selectors - other.selectors:
                emit(NODE_SELECTOR, ALL, selector)
        if after.rows:
            self._emitted[key] = after
        else:
            self._emitted.pop(key, None)

    def _emission(self, view: RelationView, key: NamespacedName) -> _Emission:
        firewall = view.rows(EGRESS_FIREWALL).get(key)
        network = view.rows(CLUSTER_NETWORK).get(CLUSTER)
        if firewall is None or network is None:
            self._compiled.pop(key, None)
            return _Emission()
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = Compiled(Reach(network))
        compiled.update(rules_in_force(firewall), is_logged=key.namespace in view.rows(ACL_LOGGING))
        members = {
            ColumnId(address_set_row(key.namespace, label, family), "addresses"): found
            for label, family, found in compiled.members()
        }
        return _Emission(compiled.rows, members)


class _Emission:
    """What one firewall has put into the output tables."""

    def __init__(self, rows: Iterable[FirewallRow] = (), members: Mapping[ColumnId, set[Cidr]] | None = None) -> None:
        self.rows = frozenset(rows)
        self.members: Mapping[ColumnId, set[Cidr]] = members or {}
        to = {row.to for row in self.rows}
        self.names = {each.name for each in to if isinstance(each, DnsName)}
        self.selectors = {each for each in to if isinstance(each, NodeSelector)}
