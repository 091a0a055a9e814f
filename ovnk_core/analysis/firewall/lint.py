"""What is wrong, useless or dangerous in egress firewalls that were accepted. Every finding is proven from the objects.

Rules are judged as lists: which never decide (``overlap``), and what the list as a whole denies that a pod
needs. A firewall that was refused is not judged: ``validate`` says why it was refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ovnk_core.analysis.finding import CODES, Finding, Severity
from ovnk_core.analysis.firewall.overlap import Overlaps, covers_atom
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import EVERYTHING, Reach
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


def lint_firewalls(cluster: Cluster, warnings: Iterable[Warning] = ()) -> tuple[Finding, ...]:
    """All findings about the egress firewalls in force, by namespace and rule. ``warnings``: of the load.

    Cost: a few passes over each list; a list of 8,000 rules takes about a second.
    """
    scene = Scene(cluster)
    found: list[Finding] = []
    for _, firewall in sorted(cluster.engine.rows(EGRESS_FIREWALL).items()):
        if not firewall.blocked:
            found += _Judge(scene, firewall).findings()
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

    def __init__(self, scene: Scene, firewall: EgressFirewall) -> None:
        self.scene, self.firewall, self.rules = scene, firewall, firewall.rules
        self.ref = ObjectRef("EgressFirewall", firewall.namespace, firewall.name)
        self.overlaps = Overlaps(firewall.rules, Reach(scene.network))
        self.shadowed = frozenset(self.overlaps.shadowed())

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
        return f"rule {index} ({rule_text(self.rules[index])})"

    # ------------------------------------------------------------------ rules that decide nothing

    def _order(self) -> Iterator[Finding]:
        for index, rule in enumerate(self.rules):
            if index in self.shadowed:
                hiders = self.overlaps.hiders(index)
                yield self._hidden(index, rule, hiders) if hiders else self._unreachable(index, rule)
            elif not self.overlaps.is_somewhere(index):
                yield self._unreachable(index, rule)
            else:
                why = self.overlaps.idle_because(index)
                if why is not None:
                    after = f"{self._said(why[0])} says the same of it" if why else "no later rule denies any of it"
                    yield self._finding("redundant", index, f"{self._said(index)} changes nothing: {after}", by=why)

    def _hidden(self, index: int, rule: FirewallRule, hiders: tuple[int, ...]) -> Finding:
        is_same = all(self.rules[other].allow == rule.allow for other in hiders)
        names = ", ".join(map(self._said, hiders[:SHOWN]))
        names += f" and {len(hiders) - SHOWN} more" if len(hiders) > SHOWN else ""
        verb = "decide" if len(hiders) > 1 else "decides"
        text = f"{self._said(index)} decides nothing: {names} {verb} before it" + (", the same way" if is_same else "")
        return self._finding("redundant" if is_same else "shadowed", index, text, by=hiders)

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
            if rule.allow or not isinstance(rule.to, DnsName):
                continue
            name = rule.to.name
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
        joins = [JOIN[family].at(1) for family in self.scene.network.families]
        joins += [interface.address for place in self.scene.places.values() for interface in place.join]
        yield from self._cut("deny-cuts-join", "the join network", sorted(set(joins)), "tcp", ANY_TCP_PORT)

    def _cut(self, code: str, what: str, targets: list[Address], protocol: Protocol, port: int) -> Iterator[Finding]:
        """A finding per rule that denies some of the targets."""
        for index, denied in sorted(self._deniers(targets, protocol, port).items()):
            text = f"{self._said(index)} cuts off {what} ({_some(denied)})"
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
        """The nodes labelled as control plane; where none is, any node could be one."""
        nodes = self.scene.cluster.engine.rows(NODE)
        servers: set[Address] = set()
        for name, place in self.scene.places.items():
            labels = dict(nodes[cluster_key(name)].labels)
            if any(label in labels for label in CONTROL_PLANE):
                servers.update(place.hosts)
        if servers:
            yield from self._cut("deny-cuts-api", f"the API servers, TCP {API_PORT}", sorted(servers), "tcp", API_PORT)
            return
        for index in self._deny_everywhere("tcp", API_PORT):
            text = f"{self._said(index)} cuts off the API servers, TCP {API_PORT}, whichever of the nodes they are"
            yield self._finding("deny-cuts-api", index, text, severity="warning")

    def _dns_servers(self) -> Iterator[Finding]:
        """Only if no rule that may decide allows DNS by naming its port: that would be a server we do not know."""
        atom = FirewallPort("UDP", DNS_PORT)
        for index, rule in enumerate(self.rules):
            if rule.allow and rule.ports and covers_atom(rule, atom) and index not in self.shadowed:
                return
        severity: Severity = "warning" if any(isinstance(rule.to, DnsName) for rule in self.rules) else "note"
        for index in self._deny_everywhere("udp", DNS_PORT):
            text = f"{self._said(index)} leaves pods no DNS server outside the cluster but their own node"
            yield self._finding("deny-cuts-dns", index, text, severity=severity)

    def _deny_everywhere(self, protocol: Protocol, port: int) -> list[int]:
        """The rules that together deny a port of every node; of every address, while no node is known."""
        hosts = sorted(self.scene.hosts)
        if hosts:
            deniers = self._deniers(hosts, protocol, port)
            return sorted(deniers) if sum(map(len, deniers.values())) == len(hosts) else []
        atom = next(FirewallPort(each, port) for each in TRANSPORTS if each.lower() == protocol)
        last = self._last_word(self.scene.network.families[0], atom)
        allowed = any(rule.allow and covers_atom(rule, atom) for rule in self.rules[:last])
        return [] if last is None or allowed else [last]

    # ------------------------------------------------------------------ the list as a whole

    def _last_word(self, family: Family, atom: FirewallPort | None) -> int | None:
        """The Deny that is about every address of a family, if one decides anything."""
        everything = next(block for block in EVERYTHING if block.family == family)
        for index, rule in enumerate(self.rules):
            is_last = rule.to == everything and not rule.allow and covers_atom(rule, atom)
            if is_last and index not in self.shadowed:
                return index
        return None

    def _whole(self) -> Iterator[Finding]:
        namespace = self.firewall.namespace
        if namespace in SYSTEM_NAMESPACES or namespace.startswith(SYSTEM_PREFIX):
            yield self._finding("system-namespace", None, f"{namespace} is a namespace of the platform")
        if any(not rule.allow for rule in self.rules):
            text = f"users who may create Routes can reach what {self.firewall.key} denies"
            yield self._finding("route-bypass", None, text)
        four, six = self._last_word(4, None), self._last_word(6, None)
        if set(self.scene.network.families) == {4, 6} and four is not None and six is None:
            yield self._finding("ipv6-open", four, f"{self._said(four)} ends IPv4, and no rule ends IPv6: ::/0 is open")


def _some(addresses: list[Address]) -> str:
    shown = ", ".join(map(str, addresses[:SHOWN]))
    return shown + (f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else "")
