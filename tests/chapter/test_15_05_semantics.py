"""What 15.5 leaves open, as settled: what a firewall is never about, its neighbours, refusals, nodes, logging."""

from __future__ import annotations

import json

import pytest

from ovnk_core.features.egress_firewall.compile import firewall_owner
from ovnk_core.features.egress_firewall.rules import group_row
from ovnk_core.model.egress_firewall import MAX_RULES
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER
from ovnk_core.nb.match import text
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import ColumnId
from ovnk_core.nb.tables import Acl
from ovnk_core.terms.address import parse_address
from tests.kit.brute import DatabaseRows
from tests.kit.egress_firewall import (
    API,
    LAB,
    LAB_WEB,
    OTHER_NODE,
    OTHER_NODE_6,
    OWN_NODE,
    OWN_NODE_6,
    ROUTER,
    SHOP,
    World,
    answered,
    landscape,
    rules,
)
from tests.kit.manifest import namespace, policy

INTERNET, INTERNET_6 = "8.8.8.8", "2001:db8:ffff::9"
BOTH = (4, 6)
DENY_ALL, ALLOW_ALL = ("Deny 0.0.0.0/0", "Deny ::/0"), ("Allow 0.0.0.0/0", "Allow ::/0")
NEVER_FILTERED = (
    *("224.0.0.1", "224.0.0.251", "239.255.255.255", "255.255.255.255", "10.128.0.5", "10.131.255.255"),
    *("ff02::1", "ff02::fb", "ff05::1:3", "fe80::1", "febf:ffff::1", "fd01::5", "fd01:0:0:ffff::1"),
)
FILTERED = (
    *("223.255.255.255", "240.0.0.1", "255.255.255.254", "10.127.255.255", "10.132.0.0", "172.30.0.10"),
    *("100.64.0.2", "169.254.169.2", "192.0.2.11", "192.0.2.12", "fec0::1", "fe7f::1", "fd00:ffff::1", "fd02::1"),
)
WORDINGS = (DENY_ALL, ALLOW_ALL, ("Deny 0.0.0.0/1", "Deny 128.0.0.0/1", "Deny ::/1", "Deny 8000::/1"))


def firewall_acls(world: World, project: str = SHOP) -> list[Acl]:
    rows = world.cluster.engine.rows(ACLS)
    return [row for key, row in sorted(rows.items()) if key.owner == firewall_owner(project)]


# ------------------------------------------------------------------------------- never filtered


@pytest.mark.parametrize("lines", WORDINGS)
@pytest.mark.parametrize("target", NEVER_FILTERED)
def test_no_row_matches_what_is_never_filtered(target: str, lines: tuple[str, ...]) -> None:
    """Multicast, broadcast, neighbour discovery and pods: neither killed by Deny nor opened by Allow."""
    world = World(rules(*lines), families=BOTH)
    assert DatabaseRows.of_engine(world.cluster.engine).decide(SHOP, parse_address(target)) is None


@pytest.mark.parametrize("lines", WORDINGS)
@pytest.mark.parametrize("target", FILTERED)
def test_everything_else_is_matched(target: str, lines: tuple[str, ...]) -> None:
    world = World(rules(*lines), families=BOTH)
    found = DatabaseRows.of_engine(world.cluster.engine).decide(SHOP, parse_address(target))
    assert found == ("Allow" in lines[0])


def test_deny_all_leaves_the_cluster_alone() -> None:
    world = World(rules(*DENY_ALL), families=BOTH)
    assert all(world.allows(name) for name in (API, LAB_WEB, f"{ROUTER}/router"))
    management = {"n1": "10.128.0.2", "n2": "10.128.2.2"}
    assert all(world.allows(address) for address in management.values())


def test_every_cluster_network_is_left_alone() -> None:
    two = [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "10.200.0.0/16", "hostPrefix": 23}]
    base = landscape(4)
    base[0]["spec"]["clusterNetwork"] = two
    world = World(*base, rules("Deny 10.0.0.0/8"))
    rows = DatabaseRows.of_engine(world.cluster.engine)
    assert [rows.decide(SHOP, parse_address(text)) for text in ("10.200.9.9", "10.201.0.0")] == [None, False]


def test_a_rule_inside_the_cluster_network_matches_nothing() -> None:
    world = World(rules("Deny 10.128.0.0/16", "Allow 224.0.0.0/8", "Deny 10.128.2.3"))
    assert not firewall_acls(world)
    assert world.allows(API)


# ------------------------------------------------------------------------------- what it is about


@pytest.mark.parametrize(
    "target", [OWN_NODE, OTHER_NODE, "100.64.0.77", "169.254.169.2", "172.30.0.10", OWN_NODE_6, OTHER_NODE_6, "fd02::7"]
)
def test_nodes_join_masquerade_and_service_addresses_are_external(target: str) -> None:
    world = World(rules(*DENY_ALL), families=BOTH)
    assert not world.allows(target, 80)
    assert world.decider(target, 80) == (1 if ":" in target else 0)


def test_host_network_pods_are_not_subject() -> None:
    world = World(rules("Deny 0.0.0.0/0"))
    assert not world.allows(INTERNET) and world.allows(INTERNET, source=f"{SHOP}/host")


def test_the_families_are_judged_apart() -> None:
    world = World(rules("Deny 0.0.0.0/0"), families=BOTH)
    assert not world.allows(INTERNET) and world.allows(INTERNET_6)
    assert not World(rules("Deny ::/0"), families=BOTH).allows(INTERNET_6)


def test_a_rule_of_a_family_the_cluster_has_not_is_accepted_and_idle() -> None:
    world = World(rules("Deny ::/0", "Deny 203.0.113.0/24"))
    assert len(firewall_acls(world)) == 1 and world.decider("203.0.113.9") == 1


@pytest.mark.parametrize(("lines", "passes"), [(("Deny 0.0.0.0/0",), False), (("Deny 0.0.0.0/0 TCP UDP SCTP",), True)])
def test_icmp_is_of_no_port(lines: tuple[str, ...], passes: bool) -> None:
    assert World(rules(*lines)).allows(INTERNET, None, "icmp") == passes


def test_a_port_without_a_protocol_is_that_port_of_each() -> None:
    loaded = World().put(rules("Deny 203.0.113.9 443"))
    assert [warning.text for warning in loaded.warnings] == [
        "spec.egress[0].ports[0]: no protocol: port 443 of TCP, UDP and SCTP is meant"
    ]


# ------------------------------------------------------------------------------- own-node DNS


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_only_the_own_nodes_port_53_passes(protocol: str) -> None:
    world = World(rules(*DENY_ALL), families=BOTH)
    assert world.allows(OWN_NODE, 53, protocol) and world.allows(OWN_NODE_6, 53, protocol)
    assert not world.allows(OTHER_NODE, 53, protocol) and not world.allows(OTHER_NODE_6, 53, protocol)
    assert not world.allows(OWN_NODE, 80, protocol) and not world.allows(OWN_NODE, 54, protocol)


def test_own_node_dns_is_of_tcp_and_udp_alone() -> None:
    world = World(rules("Deny 0.0.0.0/0"))
    assert not world.allows(OWN_NODE, 53, "sctp") and not world.allows(OWN_NODE, None, "icmp")


def test_the_dns_allowance_stands_whether_there_are_firewalls_or_not() -> None:
    rows = World().cluster.engine.rows(ACLS)
    found = [row for key, row in rows.items() if key.role == "own-node/dns"]
    assert len(found) == 2
    assert {(row.priority, row.action, row.direction) for row in found} == {(10_001, "allow-related", "to-lport")}


# ------------------------------------------------------------------------------- beside NetworkPolicy


ISOLATED = {"podSelector": {}, "policyTypes": ["Egress"]}


def test_a_firewalls_allow_does_not_override_a_policy() -> None:
    world = World(rules(*ALLOW_ALL), policy(ISOLATED, namespace=SHOP), families=BOTH)
    for target, port in ((INTERNET, 443), (INTERNET_6, 443), (OTHER_NODE, 53)):
        answer = world.ask(target, port)
        assert answer.verdict == "drop" and "isolated for egress" in answer.reason


def test_a_policys_allow_does_not_override_a_firewall() -> None:
    world = World(rules("Deny 203.0.113.0/24"), policy({**ISOLATED, "egress": [{}]}, namespace=SHOP))
    assert not world.allows("203.0.113.9") and world.allows(INTERNET)


def test_dns_beyond_the_node_is_still_the_policys_business() -> None:
    only_web = {**ISOLATED, "egress": [{"ports": [{"port": 443}]}]}
    world = World(rules("Allow 203.0.113.53 UDP/53", "Deny 0.0.0.0/0"), policy(only_web, namespace=SHOP))
    assert not world.allows("203.0.113.53", 53, "udp") and world.allows(OWN_NODE, 53, "udp")


def test_allow_all_opens_nothing_to_another_namespace() -> None:
    closed = policy({"podSelector": {}, "ingress": []}, namespace=LAB)
    world = World(rules(*ALLOW_ALL), closed, families=BOTH)
    assert not world.allows(LAB_WEB) and world.allows(API)


# ------------------------------------------------------------------------------- connections


def test_an_edit_applies_to_live_connections() -> None:
    world = World()
    assert world.ask(INTERNET, state="established").verdict == "allow"
    world.put(rules("Deny 0.0.0.0/0"))
    assert world.ask(INTERNET, state="established").verdict == "drop"


@pytest.mark.parametrize("peer", [INTERNET, OTHER_NODE])
def test_replies_of_inbound_connections_pass(peer: str) -> None:
    world = World(rules("Deny 0.0.0.0/0"))
    assert world.ask(peer, state="reply").verdict == "allow"


# ------------------------------------------------------------------------------- node selectors


def test_a_node_selector_is_every_address_of_its_nodes() -> None:
    world = World(rules("Deny nodes:zone=east"), families=BOTH)
    assert not any(world.allows(text, 80) for text in (OWN_NODE, OWN_NODE_6, "198.51.100.11"))
    assert world.allows(OTHER_NODE, 80) and world.allows(OTHER_NODE_6, 80) and world.allows(INTERNET)


def test_an_empty_node_selector_is_every_node() -> None:
    world = World(rules("Allow nodes:", "Deny 0.0.0.0/0"))
    assert world.allows(OWN_NODE, 80) and world.allows(OTHER_NODE, 80) and not world.allows("192.0.2.13", 80)


def test_a_node_that_is_relabelled_or_gone_is_no_longer_meant() -> None:
    world = World(rules("Deny nodes:zone=west"))
    assert not world.allows(OTHER_NODE, 80)
    west = next(each for each in landscape(4) if each["metadata"]["name"] == "n2")
    west["metadata"]["labels"] = {"zone": "north"}
    world.put(west)
    assert world.allows(OTHER_NODE, 80)


# ------------------------------------------------------------------------------- refusals


def too_many() -> dict[str, object]:
    return rules(*["Allow 0.0.0.0/0"] * (MAX_RULES + 1))


def misspelt() -> dict[str, object]:
    broken = rules("Allow 0.0.0.0/0")
    broken["spec"]["egress"][0]["port"] = broken["spec"]["egress"][0].pop("ports", [])
    return broken


BROKEN = {
    "8,001 rules": too_many(),
    "misspelt field": misspelt(),
    "bad prefix": rules("Allow 300.0.0.0/8"),
    "wildcard": rules("Allow *.example.com"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_refused_edit_keeps_the_accepted_version(broken: dict[str, object]) -> None:
    world = World(rules("Deny 203.0.113.0/24"))
    before = firewall_acls(world)
    world.put(broken)
    assert world.cluster.refused and firewall_acls(world) == before
    assert not world.allows("203.0.113.9") and world.allows(INTERNET)
    world.put(rules("Deny 8.8.8.8"))
    assert not world.cluster.refused and world.allows("203.0.113.9") and not world.allows(INTERNET)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_refused_with_nothing_accepted_before_blocks_the_namespace(broken: dict[str, object]) -> None:
    world = World(broken, families=BOTH)
    assert not any(world.allows(target) for target in (INTERNET, INTERNET_6, OTHER_NODE))
    assert world.allows(API) and world.allows(OWN_NODE, 53, "udp") and world.allows(INTERNET, source=LAB_WEB)
    assert {(row.action, row.priority) for row in firewall_acls(world)} == {("drop", 10_000)}
    world.put(rules("Deny 8.8.8.8"))
    assert world.allows(INTERNET_6) and not world.allows(INTERNET)


def test_wildcards_are_accepted_where_a_feed_answers_them() -> None:
    answers = {"*.example.com": answered("203.0.113.9")}
    world = World(rules("Deny *.example.com"), dns=answers, has_dns_feed=True)
    assert not world.cluster.refused and not world.allows("203.0.113.9")


def test_sticky_answers_are_for_deny_and_live_ones_for_allow() -> None:
    """A name that vanished: what was denied stays denied, what was allowed is allowed no longer."""
    gone = {"www.example.com": answered(sticky=("203.0.113.9",))}
    assert not World(rules("Deny www.example.com"), dns=gone).allows("203.0.113.9")
    assert not World(rules("Allow www.example.com", "Deny 0.0.0.0/0"), dns=gone).allows("203.0.113.9")


# ------------------------------------------------------------------------------- rows and logging


LINES = ("Allow 203.0.113.9", "Allow 203.0.113.10", "Deny 203.0.113.0/24 TCP/80", "Deny 203.0.113.0/25 TCP/80")


def logging(**levels: str) -> dict[str, object]:
    return namespace(SHOP, metadata={"annotations": {"k8s.ovn.org/acl-logging": json.dumps(levels)}})


def test_rows_stand_at_the_way_out_of_the_pods_switch() -> None:
    world = World(rules(*LINES))
    for row in firewall_acls(world):
        assert (row.direction, row.tier, row.log, row.severity, row.name) == ("to-lport", 2, False, None, f"EF:{SHOP}")
        assert row.action in ("allow", "drop") and row.match.startswith("inport == @a")
    owned = world.cluster.engine.members(MEMBER, ColumnId(group_row(SHOP), "acls"))
    assert len(owned) == len(firewall_acls(world)) == 2, "two allowed hosts share a row, the shadowed rule has none"


def test_logged_rules_have_rows_of_their_own() -> None:
    world = World(rules(*LINES))
    world.put(logging(allow="info", deny="alert"))
    found = {str(row.name): row for row in firewall_acls(world)}
    assert sorted(found) == [f"EF:{SHOP}:{index}" for index in range(3)]
    for index, row in ((index, found[f"EF:{SHOP}:{index}"]) for index in range(3)):
        assert row.priority == 10_000 - index and dict(row.external_ids)["rule-index"] == str(index)
        assert (row.log, row.severity) == (True, "info" if index < 2 else "alert")
    assert [world.decider(host, 80) for host in ("203.0.113.9", "203.0.113.10", "203.0.113.11")] == [0, 1, 2]


@pytest.mark.parametrize(("levels", "logged"), [({"allow": "info"}, {"allow"}), ({"deny": "debug"}, {"drop"})])
def test_each_verdict_is_logged_as_asked(levels: dict[str, str], logged: set[str]) -> None:
    world = World(rules(*LINES), logging(**levels))
    assert {row.action for row in firewall_acls(world) if row.log} == logged
    assert all((row.severity is not None) == row.log for row in firewall_acls(world))


def test_logging_off_again_merges_again() -> None:
    world = World(rules(*LINES))
    before = firewall_acls(world)
    world.put(logging(allow="info"))
    world.put(namespace(SHOP))
    assert firewall_acls(world) == before


@pytest.mark.parametrize("is_logged", [False, True])
def test_names_of_long_namespaces_do_not_collide(is_logged: bool) -> None:
    projects = [f"{'x' * 60}-{letter}a" for letter in "ab"]
    worlds = World(*(rules("Deny 203.0.113.0/24", "Deny 8.8.8.8", namespace=name) for name in projects))
    if is_logged:
        note = {"k8s.ovn.org/acl-logging": '{"deny":"info"}'}
        worlds.put(*(namespace(name, metadata={"annotations": note}) for name in projects))
    engine = worlds.cluster.engine
    assert len({row.match for row in engine.rows(ACLS).values() if "203.0.113" in row.match}) == 2 * is_logged
    groups = {row.match.split()[2] for name in projects for row in firewall_acls(worlds, name)}
    names = [row.name for row in engine.rows(ADDRESS_SETS).values()]
    assert len(groups) == 2 and len(names) == len(set(names))
    assert all(len(row.name or "") <= 63 for name in projects for row in firewall_acls(worlds, name))


def test_every_match_is_read_back_as_it_was_meant() -> None:
    dns = {"www.example.com": answered("203.0.113.9")}
    world = World(rules(*LINES, "Deny www.example.com 443", "Allow nodes:zone=east UDP"), families=BOTH, dns=dns)
    for row in firewall_acls(world):
        assert text(parse(row.match)) == row.match
