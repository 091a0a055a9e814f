"""k8s.ovn.org/v1 EgressFirewall: an ordered list of rules on what leaves a namespace. The first match decides.

Source: 15.5.2 of the manual. What the text leaves open is settled in docs/sources.md, egress firewall.
"""

from __future__ import annotations

from typing import assert_never

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import BITS, Cidr
from ovnk_core.terms.label import Labels, LabelSelector
from ovnk_core.terms.port import TRANSPORTS, Protocol, Transport
from ovnk_core.terms.struct import Key

MAX_RULES = 8_000
NAME = "default"
"""The only name an EgressFirewall may have: one per namespace."""


class FirewallPort(Key, frozen=True, order=True, cache_hash=True):
    """One destination port of one protocol; ``port`` 0 is every port of the protocol."""

    protocol: Transport
    port: int = 0


class NodeSelector(Key, frozen=True, cache_hash=True):
    """Every address of the nodes whose labels match."""

    selector: LabelSelector


class DnsName(Key, frozen=True, order=True, cache_hash=True):
    """A DNS name as lower-case A-labels, without the final dot; ``*.`` in front stands for one label."""

    name: str

    @property
    def is_wildcard(self) -> bool:
        return self.name.startswith("*.")


Destination = Cidr | DnsName | NodeSelector


class FirewallRule(Key, frozen=True, cache_hash=True):
    """One rule. Empty ``ports``: every protocol, ICMP included."""

    allow: bool
    to: Destination
    ports: tuple[FirewallPort, ...] = ()

    @property
    def verdict(self) -> str:
        return "Allow" if self.allow else "Deny"

    def covers_port(self, protocol: Protocol, port: int | None) -> bool:
        """Whether the rule is about packets of this protocol to this port (None: the protocol has no ports)."""
        if not self.ports:
            return True
        return any(each.protocol.lower() == protocol and each.port in (0, port) for each in self.ports)


class EgressFirewall(Declared, frozen=True, kw_only=True):
    """At most ``MAX_RULES`` rules. ``labels`` and ``annotations`` are only shown. ``blocked`` is the reason when a
    refused object with nothing accepted before it is stood in for: nothing leaves the namespace then, except DNS to
    the pods' own nodes (15.5.1.1)."""

    labels: Labels = ()
    annotations: Labels = ()
    rules: tuple[FirewallRule, ...] = ()
    blocked: str = ""


def destination_text(to: Destination) -> str:
    """As the manual's listing shows it (15.6.1): ``1.2.3.0/24``, ``www.example.com``."""
    match to:
        case Cidr():
            return to.match_text() if to.prefix == BITS[to.family] else str(to)
        case DnsName(name):
            return name
        case NodeSelector(selector):
            return f"nodes {selector}"
        case _ as never:
            assert_never(never)


def ports_text(ports: tuple[FirewallPort, ...]) -> str:
    """``TCP/80, UDP`` or an empty text; the same port on every protocol is written once, alone."""
    left = list(dict.fromkeys(ports))
    words: list[str] = []
    for each in tuple(left):
        if each in left and each.port and all(FirewallPort(protocol, each.port) in left for protocol in TRANSPORTS):
            left = [other for other in left if other.port != each.port]
            words.append(str(each.port))
        elif each in left:
            left.remove(each)
            words.append(f"{each.protocol}/{each.port}" if each.port else each.protocol)
    return ", ".join(words)


def rule_text(rule: FirewallRule) -> str:
    """``Allow to 1.2.3.0/24``, with its ports where it has any."""
    ports = ports_text(rule.ports)
    return f"{rule.verdict} to {destination_text(rule.to)}" + (f" on {ports}" if ports else "")
