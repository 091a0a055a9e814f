"""What an egress firewall says happens to a packet. Plain and slow on purpose: this is the oracle the rows are held to.

Asked for packets of pods that leave the cluster's own networks, after load balancing. The first matching rule decides;
no match allows (15.5.1.2). DNS to the pod's own node passes whatever the rules say (15.5.1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Protocol as Interface
from typing import assert_never

from ovnk_core.features.egress_firewall.compile import never_filtered, rules_in_force
from ovnk_core.features.egress_firewall.rules import DNS_PORT
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallRule, NodeSelector, rule_text
from ovnk_core.terms.address import Address, Cidr
from ovnk_core.terms.port import Protocol
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NodePlace


class Names(Interface):
    """What destinations other than prefixes stand for at the moment."""

    def dns(self, name: str) -> DnsDecision | None: ...

    def addresses_of(self, selector: NodeSelector) -> Collection[Address]: ...


class Packet(Value, frozen=True, kw_only=True):
    """What a firewall looks at: the destination, the protocol, and the destination port where there is one."""

    target: Address
    protocol: Protocol
    port: int | None = None


class Judgement(Value, frozen=True, kw_only=True):
    """``rule`` is the index of the rule that decided, None when none matched. ``text`` is the whole explanation."""

    allowed: bool
    rule: int | None
    text: str


def is_subject(network: ClusterNetwork, target: Address) -> bool:
    """Whether a firewall is asked about packets to ``target`` at all."""
    return not any(block.contains(target) for block in never_filtered(network))


def is_own_node_dns(place: NodePlace, packet: Packet) -> bool:
    """DNS to an address of the pod's own node."""
    return packet.port == DNS_PORT and packet.protocol in ("tcp", "udp") and packet.target in place.hosts


def first_match(rules: Sequence[FirewallRule], packet: Packet, names: Names) -> int | None:
    """Index of the first rule that matches; None if none does. O(rules)."""
    found = (at for at, rule in enumerate(rules) if matches(rule, packet, names))
    return next(found, None)


def matches(rule: FirewallRule, packet: Packet, names: Names) -> bool:
    """Whether one rule is about a packet."""
    if not rule.covers_port(packet.protocol, packet.port):
        return False
    match rule.to:
        case Cidr():
            return rule.to.contains(packet.target)
        case DnsName(name):
            return packet.target in dns_addresses(names.dns(name), allow=rule.allow)
        case NodeSelector():
            return packet.target in names.addresses_of(rule.to)
        case _ as never:
            assert_never(never)


def dns_addresses(decision: DnsDecision | None, *, allow: bool) -> tuple[Address, ...]:
    """What a name stands for: for Deny rules it keeps more than for Allow rules, so that failing is failing closed."""
    if decision is None:
        return ()
    return decision.live if allow else decision.sticky


Find = Callable[[Packet], int | None]
"""A packet -> the index of the rule that matches it first, by whatever means."""


def judge(firewall: EgressFirewall, place: NodePlace | None, packet: Packet, names: Names, find: Find) -> Judgement:
    """Judge one packet of a pod on the node at ``place``."""
    if place is not None and is_own_node_dns(place, packet):
        text = f"DNS to {packet.target} on the pod's own node {place.name} is always allowed"
        return Judgement(allowed=True, rule=None, text=text)
    title = f"EgressFirewall {firewall.key}"
    rules = rules_in_force(firewall)
    index = find(packet)
    if index is None:
        text = f"none of the {len(rules):,} rules of {title} matches, and what no rule matches is allowed"
        return Judgement(allowed=True, rule=None, text=text)
    rule = rules[index]
    if firewall.blocked:
        text = f"{title} was refused and nothing leaves the namespace: {firewall.blocked}"
        return Judgement(allowed=False, rule=None, text=text)
    skipped = {0: "", 1: ", the rule before it does not match"}.get(index, f", {index:,} rules before it do not match")
    text = f"rule {index} of {title} ({rule_text(rule)}) decides{skipped}{_given(rule, packet, names)}"
    return Judgement(allowed=rule.allow, rule=index, text=text)


def _given(rule: FirewallRule, packet: Packet, names: Names) -> str:
    """Which answer gave a DNS name the packet's destination, and when; and why the rule still has what the name had."""
    if not isinstance(rule.to, DnsName):
        return ""
    name, address, decision = rule.to.name, packet.target, names.dns(rule.to.name) or DnsDecision()
    since_s, until_s = answered_between(decision, address)
    since = f" since {utc(since_s)}" if since_s is not None else ""
    if address not in decision.live:
        until = f" until {utc(until_s)}" if until_s is not None else ""
        return f"; {name} had {address}{since}{until}, and Deny rules keep it"
    end_s = dict(decision.leaving).get(address)
    if end_s is not None:
        return f"; {name} had {address}{since}, and rules keep it until {utc(end_s)}"
    return f"; {name} has {address}{since}"


def answered_since(decision: DnsDecision, address: Address) -> float | None:
    """Since when (Unix seconds) a name has had an address without interruption; None if its history does not say."""
    since_s, until_s = answered_between(decision, address)
    return since_s if until_s is None else None


def answered_between(decision: DnsDecision, address: Address) -> tuple[float | None, float | None]:
    """From when until when (Unix seconds) a name last had an address for Allow rules; None where its history does not
    say, and for the end of what has not ended."""
    since_s: float | None = None
    until_s: float | None = None
    for change in decision.history:
        if address in change.addresses:
            if since_s is None or until_s is not None:
                since_s, until_s = change.at_s, None
        elif since_s is not None and until_s is None:
            until_s = change.at_s
    return since_s, until_s


def utc(at_s: float) -> str:
    """Unix seconds as RFC 3339 with whole seconds."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
