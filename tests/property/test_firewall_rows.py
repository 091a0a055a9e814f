"""Compiled rows say what the list of rules says: on the boundary points of every prefix and port, for lists of every
shape and size, merged and (with logging) one row per rule; and they are few.

Both sides are judged by ``tests.kit.brute``: a linear first match over the rules, and the rows by priority.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import Compiled, Reach, never_filtered
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.cluster import ClusterNetwork, ClusterNetworkEntry
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, FirewallRule, NodeSelector
from ovnk_core.terms.address import BITS, Address, Cidr, cidr, network_of
from ovnk_core.terms.label import EVERYTHING
from ovnk_core.terms.port import TRANSPORTS
from ovnk_core.trace.scene import Scene
from tests.kit.brute import ALLOW, DROP, NONE, DatabaseRows, Flow, Flows, first_match
from tests.kit.egress import SHOP, landscape
from tests.kit.manifest import namespace
from tests.kit.questions import scaled
from tests.kit.random_policy import Manifest
from tests.kit.shapes import SHAPES, firewall, shaped_firewall

LOGGED = namespace(SHOP, metadata={"annotations": {"k8s.ovn.org/acl-logging": '{"allow":"info","deny":"alert"}'}})
UNRELATED = ("tcp", 31337), ("udp", 53), ("icmp", 0)


def cluster_with(*manifests: Manifest, dns: dict[str, DnsDecision] | None = None, check: bool = False) -> Cluster:
    cluster = Cluster(check=check)
    for batch in (landscape(4, 6), manifests):
        loaded = parse_objects(batch)
        assert not loaded.refused, loaded.refused[0].errors[:3]
        cluster.apply(loaded.items)
    cluster.decide_dns(dns or {})
    return cluster


def rules_of(cluster: Cluster) -> tuple[FirewallRule, ...]:
    (found,) = cluster.objects("EgressFirewall").values()
    assert isinstance(found, EgressFirewall)
    return found.rules


def blocks_of(cluster: Cluster, rule: FirewallRule) -> Iterable[Cidr]:
    """What a rule's destination stands for now."""
    if isinstance(rule.to, Cidr):
        return (rule.to,)
    scene = Scene(cluster)
    if isinstance(rule.to, NodeSelector):
        return [address.host for address in scene.addresses_of(rule.to)]
    decision = scene.dns(rule.to.name) or DnsDecision()
    return [address.host for address in (decision.live if rule.allow else decision.sticky)]


def edges(block: Cidr) -> Iterator[Address]:
    """First and last address, and the neighbours just outside."""
    for value in (block.value - 1, block.value, block.last, block.last + 1):
        if 0 <= value < 1 << BITS[block.family]:
            yield Address(block.family, value)


def corners(cluster: Cluster, rng: random.Random) -> Flows:
    """Of every rule: the edges of its destination with one of its ports, each of its ports and the neighbours of one
    with one of its addresses, another protocol and a foreign port. Of what is never filtered: its edges."""
    found: dict[Flow, None] = {}
    rules = rules_of(cluster)
    named = [(each.protocol.lower(), each.port or 7) for rule in rules for each in rule.ports] or list(UNRELATED)
    for block in never_filtered(cluster.network):
        found.update(((address, *rng.choice((*UNRELATED, *named))), None) for address in edges(block))
    for rule in rules:
        own = [(each.protocol.lower(), each.port or 7) for each in rule.ports] or [rng.choice(named)]
        protocol, port = rng.choice(own)
        near = [(protocol, min(max(port + step, 1), 65535)) for step in (-1, 1)]
        near.append((rng.choice(("tcp", "udp", "sctp")), port))
        for block in blocks_of(cluster, rule):
            found.update(((address, *rng.choice(own)), None) for address in edges(block))
            inside = Address(block.family, rng.randint(block.value, block.last))
            found.update(((inside, *pair), None) for pair in (*own, *near, rng.choice((*UNRELATED, rng.choice(named)))))
    return Flows(found)


def assert_rows_say_what_rules_say(cluster: Cluster, flows: Flows, note: str) -> int:
    """How many rows there are."""
    rows, rules = DatabaseRows.of_engine(cluster.engine), rules_of(cluster)
    verdicts = np.array([*(rule.allow for rule in rules), NONE], np.int8)
    exempt = never_filtered(cluster.network)
    wanted = verdicts[first_match(rules, lambda rule: blocks_of(cluster, rule), exempt, flows)]
    found = rows.decide_many(SHOP, flows)
    wrong = np.flatnonzero(found != wanted)
    shown = [(str(flows.flows[at][0]), *flows.flows[at][1:], int(found[at]), int(wanted[at])) for at in wrong[:3]]
    assert not len(wrong), f"{note}: {len(wrong)} of {len(flows)} flows: {shown}"
    assert {DROP, ALLOW} & set(np.unique(found).tolist()) or not rules, f"{note}: nothing was decided"
    return len(rows.of(SHOP))


# ------------------------------------------------------------------------------- shapes

# Rows of 8,000 and of 2,000 rules, both families of the cluster counted; a change here is a change of the compiler.
ROWS = {
    "hosts": (3, 3),
    "dense": (3, 3),
    "nested": (42, 0),
    "ports": (7_999, 0),
    "half": (5_632, 0),
    "realistic": (1_028, 0),
    "hosts6": (3, 3),
    "realistic6": (1_462, 0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_the_largest_lists(shape: str) -> None:
    cluster = cluster_with(shaped_firewall(shape, 8_000, 3, SHOP))
    rows = assert_rows_say_what_rules_say(cluster, corners(cluster, random.Random(shape)), shape)
    print(rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_row_per_reachable_rule_with_logging(shape: str) -> None:
    cluster = cluster_with(shaped_firewall(shape, 2_000, 4, SHOP), LOGGED)
    rows = assert_rows_say_what_rules_say(cluster, corners(cluster, random.Random(shape)), shape)
    print(rows)
