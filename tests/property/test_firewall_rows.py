"""Compiled rows say what the list of rules says: on the boundary points of every prefix and port, for lists of every
shape and size, merged and (with logging) one row per rule; and they are few.

Both sides are judged by ``tests.kit.brute``: a linear first match over the rules, and the rows by priority.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import Compiled, Reach, firewall_owner
from ovnk_core.ingest.outcome import Item
from ovnk_core.ingest.position import SourceMap
from ovnk_core.kernels.layering import warm
from ovnk_core.model.cluster import ClusterNetwork, ClusterNetworkEntry
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, FirewallRule, NodeSelector
from ovnk_core.nb.desired import ACLS
from ovnk_core.terms.address import BITS, Cidr, network_of, parse_address
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.port import TRANSPORTS
from tests.kit.brute import DatabaseRows, Flow, Flows
from tests.kit.corners import cluster_with, corners, every_corner, expected
from tests.kit.egress_firewall import SHOP, answered
from tests.kit.manifest import namespace
from tests.kit.questions import scaled
from tests.kit.random_policy import Manifest
from tests.kit.shapes import SHAPES, firewall, shaped_firewall

LOGGED = namespace(SHOP, metadata={"annotations": {"k8s.ovn.org/acl-logging": '{"allow":"info","deny":"alert"}'}})
REF = ObjectRef("EgressFirewall", SHOP, "default")
UNRELATED = ("tcp", 31337), ("udp", 53), ("icmp", 0)


def assert_rows_say_what_rules_say(cluster: Cluster, corners: Iterable[Flow], note: str) -> int:
    """How many rows there are."""
    rows, flows = DatabaseRows.of_engine(cluster.engine), Flows.of(corners)
    wanted, found = expected(cluster, flows), rows.decide_many(SHOP, flows)
    wrong = np.flatnonzero(found != wanted)
    shown = [(*map(str, flows[at]), int(found[at]), int(wanted[at])) for at in wrong[:3]]
    assert not len(wrong), f"{note}: {len(wrong)} of {len(flows)} flows: {shown}"
    return len(rows.of(SHOP))


# ------------------------------------------------------------------------------- shapes

ROWS = {
    "hosts": (8_000, 3, 911),
    "dense": (4_000, 3, 1_000),
    "nested": (8_000, 42, 949),
    "ports": (2_000, 2_000, 1_000),
    "half": (4_000, 2_808, 946),
    "realistic": (8_000, 1_028, 834),
    "hosts6": (4_000, 3, 1_000),
    "realistic6": (4_000, 787, 941),
}
"""Rules, rows of them merged, and rows of 1,000 rules with logging: what is shadowed or never filtered has none. A
change here is a change of the compiler."""


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_large_lists(shape: str) -> None:
    warm()
    count, rows, _ = ROWS[shape]
    cluster = cluster_with(shaped_firewall(shape, count, 3, SHOP))
    assert assert_rows_say_what_rules_say(cluster, corners(cluster, random.Random(shape)), shape) == rows


@pytest.mark.parametrize("shape", SHAPES)
def test_one_row_per_reachable_rule_with_logging(shape: str) -> None:
    cluster = cluster_with(shaped_firewall(shape, 1_000, 4, SHOP), LOGGED)
    found = assert_rows_say_what_rules_say(cluster, corners(cluster, random.Random(shape)), shape)
    for key, row in cluster.engine.rows(ACLS).items():
        if key.owner == firewall_owner(SHOP):
            assert row.priority == 10_000 - int(dict(row.external_ids)["rule-index"])
    assert found == ROWS[shape][2]


@pytest.mark.parametrize("seed", range(scaled(6)))
def test_rows_of_lists_of_any_size(seed: int) -> None:
    rng = random.Random(seed)
    shape, count = rng.choice(sorted(SHAPES)), rng.choice((10, 30, 100, 300, 1_000))
    for extra in ((), (LOGGED,)):
        cluster = cluster_with(shaped_firewall(shape, count, seed, SHOP), *extra)
        assert_rows_say_what_rules_say(cluster, corners(cluster, rng), f"seed {seed}: {count} of {shape}")


@pytest.mark.parametrize("seed", range(100, 100 + scaled(4)))
def test_rows_of_mixed_shapes(seed: int) -> None:
    """Shapes interleaved, both families in one list: layers of one meet layers of the other."""
    rng = random.Random(seed)
    entries: list[Manifest] = []
    for shape in rng.sample(sorted(SHAPES), 3):
        entries += shaped_firewall(shape, 150, seed, SHOP)["spec"]["egress"][:-1]
    rng.shuffle(entries)
    cluster = cluster_with(firewall(entries, SHOP))
    assert_rows_say_what_rules_say(cluster, corners(cluster, rng), f"seed {seed}")


# ------------------------------------------------------------------------------- small lists, exhaustively

NAMES = ("www.example.com", "db.example.com", "never.example.net")
ANSWERS = {
    NAMES[0]: answered("203.0.113.9", "203.0.113.130", "2001:db8::9", sticky=("203.0.113.10",)),
    NAMES[1]: answered("203.0.113.9", "10.128.0.9", "10.20.0.1"),
}
AROUND = (
    *("0.0.0.0", "203.0.113.9", "203.0.113.128", "10.128.0.9", "10.132.0.0", "192.0.2.11", "224.0.0.9", "128.0.0.0"),
    *("2001:db8::9", "2001:db8::11", "fd01::9", "fe80::1", "ff02::1", "8000::"),
)
LENGTHS = {4: (0, 1, 4, 8, 14, 24, 25, 30, 31, 32), 6: (0, 1, 8, 10, 48, 64, 126, 127, 128)}


@st.composite
def prefixes(draw: st.DrawFn) -> Cidr:
    address = parse_address(draw(st.sampled_from(AROUND)))
    return network_of(address, draw(st.sampled_from(LENGTHS[address.family])))


PORTS = st.builds(FirewallPort, st.sampled_from(TRANSPORTS), st.sampled_from((0, 53, 80, 81, 443)))
NODES = st.sampled_from([EVERYTHING, selector([requirement("zone", "In", ["east"])])]).map(NodeSelector)
TARGETS = st.one_of(prefixes(), prefixes(), prefixes(), st.builds(DnsName, st.sampled_from(NAMES)), NODES)
RULES = st.builds(
    FirewallRule, st.booleans(), TARGETS, st.lists(PORTS, max_size=3).map(lambda p: tuple(sorted(set(p))))
)


@given(st.lists(RULES, max_size=12), st.booleans())
def test_small_lists_on_every_corner(rules: list[FirewallRule], is_logged: bool) -> None:
    cluster = SMALL[is_logged]
    item = EgressFirewall(name="default", namespace=SHOP, rules=tuple(rules))
    cluster.apply([Item(ref=REF, value=item, source=SourceMap(file="test"))])
    assert_rows_say_what_rules_say(cluster, every_corner(cluster), "small")


SMALL = {False: cluster_with(dns=ANSWERS), True: cluster_with(LOGGED, dns=ANSWERS)}
"""Kept from example to example: what was before must not matter."""


@given(st.lists(RULES, max_size=8), st.lists(prefixes(), min_size=1, max_size=3))
def test_every_cluster_network_is_left_alone(rules: list[FirewallRule], networks: list[Cidr]) -> None:
    """The compiler alone, in networks of any prefix: no row reaches into them."""
    entries = tuple(ClusterNetworkEntry(cidr=each, host_prefix_bits=BITS[each.family]) for each in networks)
    network = ClusterNetwork(entries=entries)
    compiled = Compiled(Reach(network))
    compiled.update(tuple(rules), is_logged=False)
    for row, indexes in compiled.rows.items():
        assert indexes == sorted(indexes)
        assert {rules[index].allow for index in indexes} == {row.allow}
        for index in indexes:
            to = rules[index].to
            assert not isinstance(to, Cidr) or not any(each.covers(to) for each in networks)
            assert not isinstance(to, Cidr) or to.family in network.families
