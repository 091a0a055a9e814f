"""A firewall as a compiled classifier: the same answers as ``verdict.first_match``, fast enough for millions of flows.

Rules on DNS names and nodes are resolved when the classifier is made, so it is good for one state of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, assert_never

from ovnk_core.features.egress_firewall.compile import never_filtered, rules_in_force
from ovnk_core.features.egress_firewall.verdict import Names, Packet, dns_addresses
from ovnk_core.kernels.classifier import ANY_PORT, NONE, Classifier, Prefix, Rule
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallRule, NodeSelector
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.port import PROTOCOL_NUMBERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ICMP_NUMBERS: dict[int, int] = {4: 1, 6: 58}


class FirewallClassifier:
    """One firewall in one state of the cluster. Rule 0 of the classifier stands for what is never filtered."""

    def __init__(self, firewall: EgressFirewall, network: ClusterNetwork, names: Names) -> None:
        self.rules = rules_in_force(firewall)
        exempt = Rule(tuple(map(_prefix, never_filtered(network))))
        self._classifier = Classifier.compile([exempt, *(_compiled(rule, names) for rule in self.rules)])

    def find(self, packet: Packet) -> int | None:
        """Index of the first matching rule; None if none matches or the destination is never filtered."""
        number = protocol_number(packet.protocol, packet.target.family)
        found = self._classifier.match(packet.target.family, packet.target.value, number, packet.port or 0)
        return found - 1 if found > 0 else None

    def find_many(
        self,
        family: Family,
        addresses: NDArray[np.uint32] | NDArray[np.uint64],
        protocols: NDArray[np.uint8],
        ports: NDArray[np.uint16],
    ) -> NDArray[np.int32]:
        """Index of the first matching rule per flow, -1 where ``find`` says None.

        Shapes: IPv4 ``addresses`` uint32[n], IPv6 uint64[n, 2] (high and low half); ``protocols`` uint8[n] as IANA
        numbers them; ``ports`` uint16[n], 0 where the protocol has none. Raises ValueError for other shapes or dtypes.
        """
        import numpy as np

        found = self._classifier.match_many(family, addresses, protocols, ports)
        rules: NDArray[np.int32] = np.maximum(found - np.int32(1), np.int32(NONE))
        return rules


def protocol_number(protocol: str, family: int) -> int:
    """``tcp``, ``udp``, ``sctp`` or ``icmp`` -> the IP protocol number."""
    return PROTOCOL_NUMBERS.get(protocol.upper()) or ICMP_NUMBERS[family]


def _compiled(rule: FirewallRule, names: Names) -> Rule:
    ports = tuple((PROTOCOL_NUMBERS[each.protocol], each.port or ANY_PORT) for each in rule.ports)
    match rule.to:
        case Cidr():
            return Rule((_prefix(rule.to),), ports)
        case DnsName(name):
            return Rule(_hosts(dns_addresses(names.dns(name), allow=rule.allow)), ports)
        case NodeSelector():
            return Rule(_hosts(names.addresses_of(rule.to)), ports)
        case _ as never:
            assert_never(never)


def _prefix(cidr: Cidr) -> Prefix:
    return Prefix(cidr.family, cidr.value, cidr.prefix)


def _hosts(addresses: Iterable[Address]) -> tuple[Prefix, ...]:
    return tuple(sorted(_prefix(address.host) for address in addresses))
