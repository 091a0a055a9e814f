"""15.8, removing an egress firewall: all restrictions of the project go, and nothing else."""

from __future__ import annotations

import pytest

from ovnk_core.features.egress_firewall.compile import firewall_owner
from ovnk_core.features.egress_firewall.rules import group_name
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, GLOBAL_KEYS, PORT_GROUPS
from tests.kit.egress_firewall import LAB, LAB_WEB, OWN_NODE, SHOP, World, answered, rules
from tests.kit.manifest import policy
from tests.kit.walk import assert_same_rows, desired_rows

LINES = ("Allow 203.0.113.9", "Deny www.example.com", "Deny nodes:zone=east", "Deny 0.0.0.0/0 TCP", "Deny 8.0.0.0/8")
DNS = {"www.example.com": answered("198.51.100.7")}
FORBIDDEN = ("8.8.8.8", "198.51.100.7", OWN_NODE, "172.16.1.1")


def test_15_8_1_the_name_is_found_and_after_deleting_it_is_not() -> None:
    world = World(rules(*LINES))
    assert [key.name for key in world.cluster.objects("EgressFirewall")] == ["default"]
    world.delete(SHOP)
    assert not world.cluster.objects("EgressFirewall")


def test_15_8_removing_removes_all_restrictions() -> None:
    world = World(rules(*LINES), dns=DNS)
    assert not any(world.allows(target, 80) for target in FORBIDDEN)
    world.delete(SHOP)
    assert all(world.allows(target, 80) for target in FORBIDDEN)
    assert world.allows("8.8.8.8", 53, "udp") and world.allows("8.8.8.8", None, "icmp")


def test_15_8_live_connections_are_free_too() -> None:
    world = World(rules(*LINES))
    assert world.ask("8.8.8.8", state="established").verdict == "drop"
    world.delete(SHOP)
    assert world.ask("8.8.8.8", state="established").verdict == "allow"


def test_15_8_nothing_of_it_stays_in_the_northbound() -> None:
    world, never = World(rules(*LINES), dns=DNS), World(dns=DNS)
    assert desired_rows(world.cluster) != desired_rows(never.cluster)
    world.delete(SHOP)
    assert_same_rows(world.cluster, never.cluster, "after removal")
    engine = world.cluster.engine
    assert not any(key.owner == firewall_owner(SHOP) for key in (*engine.rows(ACLS), *engine.rows(ADDRESS_SETS)))
    assert group_name(SHOP) not in {row.name for row in engine.rows(PORT_GROUPS).values()}
    assert not any("EgressFirewall" in key for key in engine.rows(GLOBAL_KEYS))


def test_15_8_other_projects_keep_theirs_and_the_names_they_share() -> None:
    world = World(rules(*LINES), rules(*LINES, namespace=LAB), dns=DNS)
    world.delete(SHOP)
    assert world.allows("198.51.100.7", 80) and not world.allows("198.51.100.7", 80, source=LAB_WEB)
    assert not world.allows(OWN_NODE, 80, source=LAB_WEB) and not world.allows("8.8.8.8", source=LAB_WEB)


def test_15_8_network_policies_stay() -> None:
    world = World(rules(*LINES), policy({"podSelector": {}, "policyTypes": ["Egress"]}, namespace=SHOP))
    world.delete(SHOP)
    answer = world.ask("8.8.8.8")
    assert answer.verdict == "drop" and "isolated for egress" in answer.reason


@pytest.mark.parametrize("broken", [rules("Deny 300.0.0.0/8"), rules(*["Allow 0.0.0.0/0"] * 8_001)])
def test_15_8_removing_a_refused_firewall_unblocks_the_project(broken: dict[str, object]) -> None:
    world = World(broken)
    assert not world.allows("8.8.8.8")
    world.delete(SHOP)
    assert world.allows("8.8.8.8") and not world.cluster.refused
    assert not world.cluster.objects("EgressFirewall")


def test_15_8_a_firewall_can_be_created_anew() -> None:
    world = World(rules(*LINES))
    world.delete(SHOP)
    world.put(rules("Deny 203.0.113.0/24"))
    assert not world.allows("203.0.113.9") and world.allows("8.8.8.8")
