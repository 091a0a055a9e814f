"""EgressFirewall at the door, at random: nothing raises, nothing opens, nothing leaks into a match; and every way an
accepted firewall is written down reads back as the same firewall.
"""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import firewall_owner
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, FirewallRule, NodeSelector
from ovnk_core.model.manifest import manifest
from ovnk_core.model.record import firewall_record, joined_record
from ovnk_core.nb import match as m
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, PORT_GROUPS
from ovnk_core.nb.match_parse import parse
from ovnk_core.terms.address import Address, network_of
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import TRANSPORTS
from ovnk_core.topology.place import Settings
from tests.kit.egress_firewall import SHOP, landscape, rules
from tests.kit.manifest import accept, namespace
from tests.kit.questions import scaled
from tests.kit.shapes import SHAPES, firewall, shaped_firewall

KEY = NamespacedName(SHOP, "default")
GOOD = rules("Allow 1.2.3.0/24 TCP/80 443", "Deny www.example.com", "Allow nodes:zone=east UDP", "Deny 0.0.0.0/0")
GOOD["metadata"] |= {"labels": {"team": "red"}, "annotations": {"note": "text"}}
WORDS = (
    *("Allow", "Deny", "TCP", "0.0.0.0/0", "::/0", "10.0.0.1", "www.example.com", "*.example.com", "default", SHOP),
    *("cidrSelector", "dnsName", "nodeSelector", "ports", "port", "protocol", "to", "type", "egress", "matchLabels"),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WORDS)
JSON = st.recursive(
    LEAVES,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from(WORDS), child, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a plain value, except what says which object it is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, each in inner:
        found += places(each, (*path, key))
    return found


IDENTITY = {("apiVersion",), ("kind",), ("metadata",), ("metadata", "name"), ("metadata", "namespace")}
PLACES = [path for path in places(GOOD) if path not in IDENTITY]


def changed(path: tuple[Any, ...], value: Any, how: str) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    owner: Any = raw
    for key in path[:-1]:
        owner = owner[key]
    if how == "replace":
        owner[path[-1]] = value
    elif how == "remove":
        del owner[path[-1]]
    elif isinstance(owner, list):
        owner.insert(path[-1], value)
    else:
        owner[f"{path[-1]}s" if not isinstance(value, str) else value] = value
    return raw


def in_force(cluster: Cluster, raw: Any) -> EgressFirewall:
    loaded = parse_objects([raw])
    assert all(error.reason and str(error).isprintable() for each in loaded.refused for error in each.errors)
    cluster.apply(loaded.items, (), loaded.refused)
    found = cluster.objects("EgressFirewall")[KEY]
    assert isinstance(found, EgressFirewall)
    return found


@given(st.sampled_from(PLACES), JSON, st.sampled_from(("replace", "remove", "insert")))
def test_any_value_at_any_place_is_accepted_or_blocks_or_changes_nothing(path: Any, value: Any, how: str) -> None:
    raw = changed(path, value, how)
    fresh, running = Cluster(), Cluster()
    running.apply(parse_objects([rules("Deny 0.0.0.0/0")]).items)
    before = running.objects("EgressFirewall")[KEY]
    first, second = in_force(fresh, raw), in_force(running, raw)
    if fresh.refused:
        assert first.blocked and not first.rules and second is before
    else:
        assert first == second and not first.blocked and len(first.rules) == len(raw["spec"]["egress"])


@given(JSON, JSON, JSON)
def test_any_value_where_the_object_is_named_never_raises(version: Any, kind: Any, meta: Any) -> None:
    for raw in ({**GOOD, "apiVersion": version}, {**GOOD, "kind": kind}, {**GOOD, "metadata": meta}):
        loaded = parse_objects([raw])
        cluster = Cluster()
        cluster.apply(loaded.items, (), loaded.refused)
    assert all(error.reason for each in loaded.refused for error in each.errors)


# ------------------------------------------------------------------------------- match text

NASTY = st.text(alphabet=st.sampled_from("ab1.-*_ \"'|&!=(){}$@,<>\\/\n\t\x00%;:éß☃"), max_size=24)
SEEDS = ('a" || 1 || "', "a.com) || (1", "x && ip4", "$set", "@group", "a.com}", "0", "1", "a.com\nip4", "ip4.dst")
NAMES = NASTY | st.sampled_from(SEEDS) | st.text(max_size=20)
TOKEN = re.compile(
    r"inport == @a\d+|ip[46]\.dst [=!]= (\$a\d+|[0-9a-f.:/]+|\{[0-9a-f.:/, ]+\})"
    r"|(tcp|udp|sctp)(\.dst == (\d+|\{[\d, ]+\}))?| && | \|\| |[()]"
)


@given(st.lists(NAMES, min_size=1, max_size=4), NAMES, NAMES, NAMES)
def test_nothing_a_user_writes_becomes_match_text(names: list[str], project: str, label: str, cidr: str) -> None:
    entries: list[dict[str, Any]] = [
        {"type": "Deny", "to": {"dnsName": name}, "ports": [{"port": 80}]} for name in names
    ]
    entries.append({"type": "Allow", "to": {"nodeSelector": {"matchLabels": {"zone": label}}}})
    entries.append({"type": "Deny", "to": {"cidrSelector": cidr}})
    cluster, entries[0]["ports"] = Cluster(settings=Settings(has_dns_feed=True)), [{"port": 80}]
    # Each alone and all together: what is accepted alone has rows of its own.
    raws = [firewall([each], f"p{at}") for at, each in enumerate(entries)] + [firewall(entries, project)]
    loaded = parse_objects([*landscape(4, 6), namespace(project), *raws])
    cluster.replace(loaded)
    engine = cluster.engine
    sets = {row.name for row in engine.rows(ADDRESS_SETS).values()}
    groups = {row.name for row in engine.rows(PORT_GROUPS).values()}
    projects = {item.ref.namespace for item in loaded.items if item.ref.kind == "EgressFirewall"}
    owners = {firewall_owner(each) for each in projects | {f"p{at}" for at in range(len(entries))}}
    for key, row in engine.rows(ACLS).items():
        if key.owner in owners:
            tree = parse(row.match)
            assert m.text(tree) == row.match
            assert not TOKEN.sub("", row.match), row.match
            used_sets, used_groups = m.references(tree)
            assert used_sets <= sets and used_groups <= groups and len(used_groups) == 1


# ------------------------------------------------------------------------------- round trips

V4 = st.builds(lambda value, bits: network_of(Address(4, value), bits), st.integers(0, 2**32 - 1), st.integers(0, 32))
V6 = st.builds(
    lambda value, bits: network_of(Address(6, value | 1 << 127), bits), st.integers(0, 2**127 - 1), st.integers(1, 128)
)
LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=2, max_size=4).map(lambda parts: DnsName(".".join(parts)))
SELECTORS = st.sampled_from([EVERYTHING, selector([requirement("zone", "In", ["east"])])]) | st.builds(
    lambda key, values: selector([requirement(key, "NotIn", values), requirement(key, "Exists")]),
    LABELS,
    st.lists(LABELS, min_size=1, max_size=3, unique=True),
)
NUMBERS = st.builds(FirewallPort, st.sampled_from(TRANSPORTS), st.integers(1, 65_535))
PORTS = st.lists(NUMBERS, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
WHOLE = st.lists(st.sampled_from(TRANSPORTS).map(FirewallPort), max_size=2, unique=True).map(lambda x: tuple(sorted(x)))
RULES = st.builds(FirewallRule, st.booleans(), V4 | V6 | HOSTS | st.builds(NodeSelector, SELECTORS), PORTS | WHOLE)
FIREWALLS = st.builds(
    lambda found, uid, labels: EgressFirewall(
        name="default", namespace=SHOP, uid=uid, labels=tuple(sorted(labels.items())), rules=tuple(found)
    ),
    st.lists(RULES, max_size=10),
    st.sampled_from(("", "0a1b-2c")),
    st.dictionaries(LABELS, LABELS, max_size=2),
)


@given(FIREWALLS)
def test_the_manifest_of_a_firewall_reads_back_as_it(item: EgressFirewall) -> None:
    assert accept(json.loads(json.dumps(manifest(item))), EgressFirewall) == item


@given(FIREWALLS)
def test_the_record_of_a_firewall_reads_back_as_it(item: EgressFirewall) -> None:
    texts = firewall_record(item)
    found = accept(json.loads(joined_record(texts)), EgressFirewall)
    assert found.rules == item.rules and (found.key, found.uid) == (item.key, item.uid)
    assert firewall_record(found).keys() - {""} == texts.keys() - {""}


@pytest.mark.parametrize("shape", SHAPES)
def test_editing_one_rule_rewrites_two_parts_and_the_head(shape: str) -> None:
    rng = random.Random(shape)
    pool = list(accept(shaped_firewall(shape, 2_000, 8, SHOP), EgressFirewall).rules)
    found = pool[:1_500]
    before = firewall_record(_with(found))
    assert max(map(len, before.values())) < 131_072
    for _ in range(scaled(8)):
        at = rng.randrange(len(found))
        if rng.random() < 0.5:
            found.insert(at, rng.choice(pool))
        else:
            del found[at]
        after = firewall_record(_with(found))
        assert accept(json.loads(joined_record(after)), EgressFirewall).rules == tuple(found)
        assert len(after.keys() - before.keys()) <= 2 and len(before.keys() - after.keys()) <= 2
        assert {key for key in before.keys() & after.keys() if before[key] != after[key]} <= {""}
        before = after


def _with(found: list[FirewallRule]) -> EgressFirewall:
    return EgressFirewall(name="default", namespace=SHOP, rules=tuple(found))


def test_a_damaged_record_is_no_record() -> None:
    texts = firewall_record(accept(shaped_firewall("nested", 500, 1, SHOP), EgressFirewall))
    assert joined_record(texts)
    for key in texts:
        for damage in ({}, {key: "["}, {key: "5"}, {key: "null"}):
            damaged = {name: text for name, text in texts.items() if name != key} | damage
            assert joined_record(damaged) == "", (key, damage)
