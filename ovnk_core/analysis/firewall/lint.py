"""What is wrong, useless or dangerous in egress firewalls that were accepted. Every finding is proven from the objects.

Rules are judged as lists: which never decide (``overlap``), and what the list as a whole denies that a pod
needs. A firewall that was refused is not judged: ``validate`` says why it was refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ovnk_core.analysis.finding import CODES, Finding, Severity
from ovnk_core.analysis.firewall.overlap import Hiders, Overlaps, covers_atom
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import Reach
from ovnk_core.features.egress_firewall.verdict import Packet, first_match
from ovnk_core.ingest.outcome import Warning
from ovnk_core.model.cluster import JOIN
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, FirewallRule, rule_text
from ovnk_core.model.tables import EGRESS_FIREWALL, NODE, cluster_key
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.port import TRANSPORTS, Protocol
from ovnk_core.trace.scene import Scene

SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "openshift")
SYSTEM_PREFIX = "openshift-"
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
"""Labels of the nodes that run API servers."""
API_PORT, DNS_PORT, ANY_TCP_PORT = 6443, 53, 10_250
SHOWN = 4
_RULE_OF_PATH = re.compile(r"spec\.egress\[([0-9]+)\]")
_HOST_BITS = "has host bits set"


def lint_firewalls(cluster: Cluster, warnings: Iterable[Warning] = (), *, has_feed: bool = True) -> tuple[Finding, ...]:
    """All findings about the egress firewalls in force, by namespace and rule. ``warnings``: of the load.

    Cost: a few passes over each list, and for each rule a bounded search for those that hide it or take over: 8,000
    rules take one to seven seconds, whatever they say. ``has_feed`` False: nobody answers wildcard names.
    """
    scene = Scene(cluster)
    found: list[Finding] = []
    for _, firewall in sorted(cluster.engine.rows(EGRESS_FIREWALL).items()):
        if not firewall.blocked:
            found += _Judge(scene, firewall, has_feed=has_feed).findings()
    found += _host_bits(cluster, warnings)
    return tuple(sorted(found, key=_place))


def _place(finding: Finding) -> tuple[ObjectRef, int, str, str]:
    return finding.object, -1 if finding.rule is None else finding.rule, finding.code, finding.text


def _host_bits(cluster: Cluster, warnings: Iterable[Warning]) -> Iterator[Finding]:
    """The reader's warnings of this kind, with the rule they are about."""
    for each in warnings:
        if each.ref is None or each.ref.kind != "EgressFirewall" or _HOST_BITS not in each.text:
            continue
        rule = _RULE_OF_PATH.match(each.text)
        if rule is not None and cluster.engine.rows(EGRESS_FIREWALL).get(each.ref.key) is not None:
            text = each.text.partition(": ")[2]
            yield Finding(
                code="host-bits",
                severity=CODES["host-bits"].severity,
                object=each.ref,
                rule=int(rule[1]),
                source=each.source,
                text=text,
            )


class _Judge:
    """One firewall in one state of the cluster."""

    def __init__(self, scene: Scene, firewall: EgressFirewall, *, has_feed: bool) -> None:
        self.scene, self.firewall, self.rules, self.has_feed = scene, firewall, firewall.rules, has_feed
        self.families = scene.network.families
        self._texts: dict[int, str] = {}
        self.ref = ObjectRef("EgressFirewall", firewall.namespace, firewall.name)
        self.overlaps = Overlaps(firewall.rules, Reach(scene.network))
        self.shadowed = frozenset(self.overlaps.shadowed())
        self.denies = tuple(
            index
            for index, rule in enumerate(self.rules)
            if not rule.allow and index not in self.shadowed and self.overlaps.is_somewhere(index)
        )

    def findings(self) -> Iterator[Finding]:
        """Everything about this firewall."""
        yield from self._order()
        yield from self._names()
        yield from self._needs()
        yield from self._whole()

    def _finding(
        self,
        code: str,
        rule: int | None,
        text: str,
        *,
        by: tuple[int, ...] = (),
        severity: Severity | None = None,
    ) -> Finding:
        where = self.scene.cluster.sources.get(self.ref)
        path = () if rule is None else ("spec", "egress", rule)
        return Finding(
            code=code,
            severity=severity or CODES[code].severity,
            object=self.ref,
            rule=rule,
            source=where.at(*path) if where is not None else "",
            text=text,
            hidden_by=by,
        )

    def _said(self, index: int) -> str:
        if index not in self._texts:
            self._texts[index] = f"rule {index} ({rule_text(self.rules[index])})"
        return self._texts[index]

    # ------------------------------------------------------------------ rules that decide nothing

    def _order(self) -> Iterator[Finding]:
        for index, rule in enumerate(self.rules):
            if index in self.shadowed:
                hiders = self.overlaps.hiders(index)
                is_hidden = hiders.rules or not hiders.is_all
                yield self._hidden(index, rule, hiders) if is_hidden else self._unreachable(index, rule)
            elif not self.overlaps.is_somewhere(index):
                yield self._unreachable(index, rule)
            else:
                why = self.overlaps.idle_because(index)
                if why is not None:
                    after = f"{self._said(why[0])} says the same of it" if why else "no later rule denies any of it"
                    yield self._finding("redundant", index, f"{self._said(index)} changes nothing: {after}", by=why)

    def _hidden(self, index: int, rule: FirewallRule, hiders: Hiders) -> Finding:
        is_other = any(self.rules[other].allow != rule.allow for other in hiders.rules)
        text = f"{self._said(index)} decides nothing: {self._named(hiders)} before it"
        text += ", the same way" if not is_other and hiders.is_all else ""
        return self._finding("shadowed" if is_other else "redundant", index, text, by=hiders.rules)

    def _named(self, hiders: Hiders) -> str:
        rules = hiders.rules
        names = ", ".join(map(self._said, rules[:SHOWN])) or "earlier rules"
        if not hiders.is_all:
            return f"{names} and more decide"
        names += f" and {len(rules) - SHOWN} more" if len(rules) > SHOWN else ""
        return f"{names} {'decides' if len(rules) == 1 else 'decide'}"

    def _unreachable(self, index: int, rule: FirewallRule) -> Finding:
        why = "all of it lies in what no firewall filters"
        if isinstance(rule.to, Cidr) and rule.to.family not in self.scene.network.families:
            why = f"the cluster has no IPv{rule.to.family}"
        for block in self.overlaps.reach.exempt:
            if isinstance(rule.to, Cidr) and block.covers(rule.to):
                what = "the pods' own network" if block in self.scene.network.cidrs else "multicast and broadcast in"
                why = f"it lies in {what} {block}, which no firewall filters"
        return self._finding("unreachable", index, f"{self._said(index)} matches nothing: {why}")

    # ------------------------------------------------------------------ DNS names

    def _names(self) -> Iterator[Finding]:
        for index, rule in enumerate(self.rules):
            if not isinstance(rule.to, DnsName):
                continue
            name = rule.to.name
            if rule.to.is_wildcard and not self.has_feed:
                text = f"{self._said(index)} needs a resolver feed; without one the whole firewall is refused"
                yield self._finding("wildcard-needs-feed", index, text)
            if rule.allow:
                continue
            decision = self.scene.dns(name)
            if rule.to.is_wildcard:
                text = f"{self._said(index)} denies only those names below it that were heard of"
                yield self._finding("wildcard-deny", index, text)
            if decision is None or not decision.sticky:
                text = f"{self._said(index)} matches nothing: {name} has no answer yet"
                yield self._finding("dns-pending", index, text)
            text = f"{self._said(index)} misses addresses that a pod hears of {name} before we do"
            yield self._finding("deny-by-dns", index, text)

    # ------------------------------------------------------------------ what pods need

    def _needs(self) -> Iterator[Finding]:
        yield from self._api_servers()
        yield from self._dns_servers()
        hosts = sorted(self.scene.hosts)
        yield from self._cut("deny-cuts-node", "nodes' own addresses", hosts, "tcp", ANY_TCP_PORT)
        joins = [JOIN[family].at(1) for family in self.families]
        joins += [interface.address for place in self.scene.places.values() for interface in place.join]
        yield from self._cut("deny-cuts-join", "the join network", sorted(set(joins)), "tcp", ANY_TCP_PORT)

    def _over(self, family: Family) -> str:
        """Names the family where there are two."""
        return f" over IPv{family}" if len(self.families) > 1 else ""

    def _cut(self, code: str, what: str, targets: list[Address], protocol: Protocol, port: int) -> Iterator[Finding]:
        """A finding per family and rule that denies some of the targets."""
        for family in self.families:
            of_family = [address for address in targets if address.family == family]
            for index, denied in sorted(self._deniers(of_family, protocol, port).items()):
                text = f"{self._said(index)} cuts off {what}{self._over(family)} ({_some(denied)})"
                yield self._finding(code, index, text)

    def _deniers(self, targets: Iterable[Address], protocol: Protocol, port: int) -> dict[int, list[Address]]:
        """Rule -> targets it denies."""
        found: dict[int, list[Address]] = {}
        for address in targets:
            rule = first_match(self.rules, Packet(target=address, protocol=protocol, port=port), self.scene)
            if rule is not None and not self.rules[rule].allow:
                found.setdefault(rule, []).append(address)
        return found

    def _api_servers(self) -> Iterator[Finding]:
        """The nodes labelled as control plane; where none is, any node could be one; without nodes, any address."""
        nodes = self.scene.cluster.engine.rows(NODE)
        servers: set[Address] = set()
        for name, place in self.scene.places.items():
            labels = dict(nodes[cluster_key(name)].labels)
            if any(label in labels for label in CONTROL_PLANE):
                servers.update(place.hosts)
        if servers:
            yield from self._cut("deny-cuts-api", f"the API servers, TCP {API_PORT}", sorted(servers), "tcp", API_PORT)
            return
        for family in self.families:
            for index in self._deny_everywhere(family, "tcp", API_PORT):
                servers_text = f"the API servers, TCP {API_PORT}, whichever of the nodes they are"
                text = f"{self._said(index)} cuts off {servers_text}{self._over(family)}"
                yield self._finding("deny-cuts-api", index, text, severity="warning")

    def _dns_servers(self) -> Iterator[Finding]:
        """Only if no rule that may decide allows DNS by naming its port: that would be a server we do not know."""
        atom = FirewallPort("UDP", DNS_PORT)
        for index, rule in enumerate(self.rules):
            if rule.allow and rule.ports and covers_atom(rule, atom) and index not in self.shadowed:
                return
        severity: Severity = "warning" if any(isinstance(rule.to, DnsName) for rule in self.rules) else "note"
        for family in self.families:
            if not self._deny_everywhere(family, "udp", DNS_PORT):
                continue
            for index in self._ends(family, atom):
                server = "no DNS server outside the cluster but their own node"
                text = f"{self._said(index)} leaves pods {server}{self._over(family)}"
                yield self._finding("deny-cuts-dns", index, text, severity=severity)

    def _deny_everywhere(self, family: Family, protocol: Protocol, port: int) -> tuple[int, ...]:
        """The rules that together deny a port of every node; of every address with no exception, while no node is
        known. None while one is reachable."""
        hosts = sorted(address for address in self.scene.hosts if address.family == family)
        if self.scene.hosts:
            deniers = self._deniers(hosts, protocol, port)
            return tuple(sorted(deniers)) if sum(map(len, deniers.values())) == len(hosts) else ()
        atom = next(FirewallPort(each, port) for each in TRANSPORTS if each.lower() == protocol)
        for index, rule in enumerate(self.rules):
            is_near = not isinstance(rule.to, Cidr) or rule.to.family == family
            if rule.allow and is_near and covers_atom(rule, atom) and index not in self.shadowed:
                return ()
        return self._ends(family, atom)

    # ------------------------------------------------------------------ the list as a whole

    def _ends(self, family: Family, atom: FirewallPort | None) -> tuple[int, ...]:
        """The Deny rules that leave of a whole family only what rules before them allow."""
        return self.overlaps.together(self.denies, family, atom)

    def _whole(self) -> Iterator[Finding]:
        namespace = self.firewall.namespace
        if namespace in SYSTEM_NAMESPACES or namespace.startswith(SYSTEM_PREFIX):
            yield self._finding("system-namespace", None, f"{namespace} is a namespace of the platform")
        if self.denies:
            text = f"users who may create Routes can reach what {self.firewall.key} denies"
            yield self._finding("route-bypass", None, text)
        if len(self.families) < 2:
            return
        ends = {family: self._ends(family, None) for family in self.families}
        for family, other in (self.families, self.families[::-1]):
            if ends[family] and not ends[other]:
                said = " and ".join(map(self._said, ends[family][:SHOWN]))
                said += f" and {len(ends[family]) - SHOWN} more" if len(ends[family]) > SHOWN else ""
                text = f"{said}: all of IPv{family} is denied, and IPv{other} stays open"
                yield self._finding(f"ipv{other}-open", ends[family][-1], text)


def _some(addresses: list[Address]) -> str:
    shown = ", ".join(map(str, addresses[:SHOWN]))
    return shown + (f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else "")
