"""Which rule decides: compiled classifiers, the objects and the flows against a linear scan (``tests.kit.brute``).

A million flows at the borders of rules of every shape and size, both families, by the classifiers; some thousands of
them, in clusters with such firewalls, by all three engines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.classify import FirewallClassifier
from ovnk_core.features.egress_firewall.compile import never_filtered
from ovnk_core.features.egress_firewall.verdict import Packet
from ovnk_core.flows.table import FlowTable
from ovnk_core.model.egress_firewall import EgressFirewall, FirewallRule
from ovnk_core.terms.address import FAMILIES, Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit.brute import NUMBERS, Array, Flow, Flows, first_match
from tests.kit.corners import cluster_with, corners, edges, meaning, rules_of
from tests.kit.egress_firewall import OWN_NODE, OWN_NODE_6, OWN_SECOND, SHOP
from tests.kit.questions import scaled
from tests.kit.random_firewall import FirewallMaker
from tests.kit.random_policy import Manifest
from tests.kit.shapes import SHAPES, firewall, shaped_firewall

WEB, KEY = NamespacedName(SHOP, "web"), NamespacedName(SHOP, "default")
OWN = (OWN_NODE, OWN_NODE_6, OWN_SECOND)
PLACES = ("203.0.113.9", "10.128.0.9", "192.0.2.11", "224.0.0.9", "2001:db8::9", "fd01::9", "8.8.8.8")
FLOWS = 1_000_000
CASES = (
    *((shape, 8_000) for shape in ("hosts", "nested", "realistic", "realistic6")),
    *((shape, 2_000) for shape in ("dense", "ports", "half", "hosts6")),
    *((shape, count) for shape in sorted(SHAPES) for count in (10, 150)),
    *((shape, 700) for shape in ("realistic", "nested", "realistic6", "half")),
)


def firewall_of(cluster: Cluster) -> EgressFirewall:
    found = cluster.objects("EgressFirewall")[KEY]
    assert isinstance(found, EgressFirewall)
    return found


def drawn(rules: Sequence[FirewallRule], cluster: Cluster, count: int, seed: int) -> Flows:
    """``count`` flows to the edges of rules' prefixes: on one of the rule's own ports, next to one, or on another's."""
    rng = np.random.default_rng(seed)
    blocks = [*(block for rule in rules for block in meaning(cluster)(rule)), *never_filtered(cluster.network)]
    owners = [index for index, rule in enumerate(rules) for _ in meaning(cluster)(rule)]
    owners += [0] * (len(blocks) - len(owners))
    pairs = [[(NUMBERS[each.protocol.lower()], each.port or 7) for each in rule.ports] for rule in rules]
    named = np.array([pair for own in pairs for pair in own] or [(6, 443), (17, 53), (0, 0)], np.int64)
    own = np.array([pairs[owner][seed % len(pairs[owner])] if pairs[owner] else (-1, -1) for owner in owners], np.int64)
    places = sorted({edge for block in blocks for edge in edges(block)})
    at = {place: rank for rank, place in enumerate(places)}
    borders = [[at[edge] for edge in edges(block)] for block in blocks]
    table = np.array([[*found, *found, *found][:4] for found in borders], np.int64)
    chosen = rng.integers(len(blocks), size=count)
    code = np.where((own[chosen, :1] >= 0) & (rng.random((count, 1)) < 0.6), own[chosen], rng.choice(named, size=count))
    port = np.clip(code[:, 1] + rng.choice((0, 0, 0, 0, 1, -1), size=count), 0, 65_535)
    protocol = np.where(rng.random(count) < 0.05, 0, code[:, 0])
    return Flows(places, table[chosen, rng.integers(4, size=count)], protocol, np.where(protocol == 0, 0, port))


def by_scan(cluster: Cluster, flows: Flows) -> Array:
    return first_match(rules_of(cluster), meaning(cluster), never_filtered(cluster.network), flows)


@pytest.mark.parametrize(("shape", "count"), CASES)
def test_a_million_flows_by_classifiers(shape: str, count: int) -> None:
    cluster = cluster_with(shaped_firewall(shape, count, count + 1, SHOP))
    flows = drawn(rules_of(cluster), cluster, scaled(FLOWS // len(CASES) + 1), count)
    classifier = FirewallClassifier(firewall_of(cluster), cluster.network, Scene(cluster))
    wanted = by_scan(cluster, flows)
    found = np.full(len(flows), -2, np.int32)
    for family in FAMILIES:
        at, *columns = flows.arrays(family)
        found[at] = classifier.find_many(family, *columns)
    wrong = np.flatnonzero(found != wanted)
    shown = [(*map(str, flows[each]), int(found[each]), int(wanted[each])) for each in wrong[:3]]
    assert not len(wrong), f"{shape}, {count} rules: {len(wrong)} flows: {shown}"
    assert len(np.unique(wanted)) > min(count, 500) // 3, "the flows meet many rules"
    for each in range(0, len(flows), len(flows) // 300):
        assert classifier.find(_packet(flows[each])) == (int(wanted[each]) if wanted[each] >= 0 else None)


def _packet(flow: Flow) -> Packet:
    address, protocol, port = flow
    return Packet(target=address, protocol=protocol, port=None if protocol == "icmp" else port)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- all engines

ASKED, ASKED_AT_NIGHT = 22_000, 1_000_000
CLUSTERS = 40
SMALL = ((10, 25, 60) * 14)[: CLUSTERS - 2]


def small_firewall(count: int, seed: int) -> Manifest:
    """A third of a shape, a third of another, and a third of whatever the random maker thinks of."""
    rng = random.Random(seed)
    maker = FirewallMaker(rng, lambda: (4, 6), lambda: rng.choice(PLACES))
    entries = [maker.rule() for _ in range(count // 3)]
    for shape in rng.sample(sorted(SHAPES), 2):
        entries += shaped_firewall(shape, count // 3, seed, SHOP)["spec"]["egress"][:-1]
    rng.shuffle(entries)
    entries += [{"type": "Deny", "to": {"cidrSelector": rng.choice(("0.0.0.0/0", "::/0", "0.0.0.0/1"))}}]
    return firewall(entries, SHOP)


def asked(flows: Sequence[Flow], rng: random.Random, count: int) -> Iterator[Flow]:
    """Questions need a port above 0; own-node DNS is nobody's rule."""
    usable = [flow for flow in flows if flow[2] or flow[1] == "icmp"]
    yield from rng.choices(usable, k=count)


def decider(answer: Answer) -> int | None:
    found = [step for step in answer.steps if step.object is not None and step.object.kind == "EgressFirewall"]
    return found[0].rule if found else None


def compare(cluster: Cluster, flows: Sequence[Flow], note: str) -> int:
    """How many flows a rule decided."""
    tracer = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    wanted, rules = by_scan(cluster, Flows.of(flows)), rules_of(cluster)
    decided = 0
    for (target, protocol, port), rule in zip(flows, wanted.tolist(), strict=True):
        if str(target) in OWN and port == 53 and protocol in ("tcp", "udp"):
            continue
        packet = _packet((target, protocol, port))
        question = Question(source=WEB, target=target, protocol=packet.protocol, port=packet.port)
        answer = tracer.ask(question, "all")
        assert decider(answer) == (rule if rule >= 0 else None), f"{note}: {question}: {answer.reason}, scan {rule}"
        assert rule < 0 or rules[rule].allow or answer.verdict == "drop", f"{note}: {question}: {answer.reason}"
        decided += rule >= 0
    return decided


@pytest.mark.parametrize("seed", range(len(SMALL)))
def test_thousands_of_flows_by_all_engines(seed: int) -> None:
    rng = random.Random(seed)
    maker = FirewallMaker(rng, lambda: (4, 6), lambda: rng.choice(PLACES))
    cluster = cluster_with(small_firewall(SMALL[seed], seed), dns=maker.answers())
    total = ASKED_AT_NIGHT if scaled(1) >= 20 else scaled(ASKED)
    flows = list(asked(corners(cluster, rng), rng, total // CLUSTERS))
    assert compare(cluster, flows, f"seed {seed}") > len(flows) // 4


@pytest.mark.parametrize(("shape", "count"), [("realistic", 1_000), ("realistic6", 700), ("hosts", 8_000)])
def test_large_lists_by_all_engines(shape: str, count: int) -> None:
    rng = random.Random(shape)
    cluster = cluster_with(shaped_firewall(shape, count, 5, SHOP))
    flows = list(asked(corners(cluster, rng), rng, scaled(120 if count < 8_000 else 40)))
    assert compare(cluster, flows, shape) > len(flows) // 2


def test_a_classifier_of_answers_and_nodes() -> None:
    """DNS names and node selectors stand for what they stand for when the classifier is made."""
    rng = random.Random(3)
    maker = FirewallMaker(rng, lambda: (4, 6), lambda: rng.choice(PLACES))
    entries = [{"type": "Deny", "to": {"dnsName": "www.example.com"}}, {"type": "Allow", "to": {"nodeSelector": {}}}]
    cluster = cluster_with(firewall(entries, SHOP), dns=maker.answers())
    flows = drawn(rules_of(cluster), cluster, 2_000, 3)
    classifier = FirewallClassifier(firewall_of(cluster), cluster.network, Scene(cluster))
    for family in FAMILIES:
        at, *columns = flows.arrays(family)
        assert np.array_equal(classifier.find_many(family, *columns), by_scan(cluster, flows)[at])
    assert classifier.find(Packet(target=Address(4, 1), protocol="icmp")) is None
