"""Boundary points of an egress firewall: where the verdict of a packet changes, one address or one port further; and
what a plain first match over the rules makes of them in a cluster as it is now.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import never_filtered, rules_in_force
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import EgressFirewall, FirewallRule, NodeSelector
from ovnk_core.terms.address import BITS, Address, Cidr
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.scene import Scene
from tests.kit.brute import NONE, Array, Flow, Flows, first_match
from tests.kit.egress_firewall import SHOP, landscape
from tests.kit.random_policy import Manifest

UNRELATED = ("tcp", 31337), ("udp", 53), ("icmp", 0)
CODES = tuple((word, port) for word in ("tcp", "udp", "sctp") for port in (52, 53, 80, 81, 443, 444, 8080))


def cluster_with(*manifests: Manifest, dns: Mapping[str, DnsDecision] | None = None, check: bool = False) -> Cluster:
    cluster = Cluster(check=check)
    for batch in (landscape(4, 6), manifests):
        loaded = parse_objects(batch)
        assert not loaded.refused, loaded.refused[0].errors[:3]
        cluster.apply(loaded.items)
    cluster.decide_dns(dns or {})
    return cluster


def rules_of(cluster: Cluster) -> tuple[FirewallRule, ...]:
    """The rules in force for the project; none where it has no firewall."""
    found = cluster.objects("EgressFirewall").get(NamespacedName(SHOP, "default"))
    return rules_in_force(found) if isinstance(found, EgressFirewall) else ()


def meaning(cluster: Cluster) -> Callable[[FirewallRule], Iterable[Cidr]]:
    """What rules' destinations stand for now."""
    scene = Scene(cluster)

    def blocks(rule: FirewallRule) -> Iterable[Cidr]:
        if isinstance(rule.to, Cidr):
            return (rule.to,)
        if isinstance(rule.to, NodeSelector):
            return [address.host for address in scene.addresses_of(rule.to)]
        decision = scene.dns(rule.to.name) or DnsDecision()
        return [address.host for address in (decision.live if rule.allow else decision.sticky)]

    return blocks


def expected(cluster: Cluster, flows: Flows) -> Array:
    """int8[n]: the verdict of the first rule that matches, NONE where none does."""
    rules = rules_of(cluster)
    verdicts = np.array([*(rule.allow for rule in rules), NONE], np.int8)
    found: Array = verdicts[first_match(rules, meaning(cluster), never_filtered(cluster.network), flows)]
    return found


def edges(block: Cidr) -> Iterator[Address]:
    """First and last address, and the neighbours just outside."""
    for value in (block.value - 1, block.value, block.last, block.last + 1):
        if 0 <= value < 1 << BITS[block.family]:
            yield Address(block.family, value)


def corners(cluster: Cluster, rng: random.Random, rules: Iterable[FirewallRule] | None = None) -> list[Flow]:
    """Of every rule: the edges of its destination with one of its ports, each of its ports and the neighbours of one
    with one of its addresses, another protocol and a foreign port. Of what is never filtered: its edges."""
    found: dict[Flow, None] = {}
    rules, blocks_of = rules_of(cluster) if rules is None else tuple(rules), meaning(cluster)
    named = [(each.protocol.lower(), each.port or 7) for rule in rules for each in rule.ports] or list(UNRELATED)
    for block in never_filtered(cluster.network):
        found.update(((address, *rng.choice((*UNRELATED, *named))), None) for address in edges(block))
    for rule in rules:
        own = [(each.protocol.lower(), each.port or 7) for each in rule.ports] or [rng.choice(named)]
        protocol, port = rng.choice(own)
        near = [(protocol, min(max(port + step, 1), 65535)) for step in (-1, 1)]
        near.append((rng.choice(("tcp", "udp", "sctp")), port))
        for block in blocks_of(rule):
            found.update(((address, *rng.choice(own)), None) for address in edges(block))
            inside = Address(block.family, rng.randint(block.value, block.last))
            found.update(((inside, *pair), None) for pair in (*own, *near, rng.choice((*UNRELATED, rng.choice(named)))))
    return list(found)


def every_corner(cluster: Cluster) -> list[Flow]:
    """All edges of all destinations, with all ports anybody names, their neighbours, and ICMP."""
    rules, blocks_of = rules_of(cluster), meaning(cluster)
    places = {edge for rule in rules for block in blocks_of(rule) for edge in edges(block)}
    places |= {edge for block in never_filtered(cluster.network) for edge in edges(block)}
    return [(place, *code) for place in sorted(places) for code in (*CODES, ("icmp", 0))]
