"""15.7, editing an egress firewall: what was there is got out, changed, and replaced."""

from __future__ import annotations

import copy
import json

import yaml

from ovnk_core.model.manifest import manifest
from ovnk_core.terms.name import NamespacedName
from tests.kit.egress_firewall import LAB, LAB_WEB, SHOP, World, answered, rules

BEFORE = ("Allow 203.0.113.9 TCP/443 UDP", "Deny www.example.com 80", "Allow nodes:zone=east", "Deny 0.0.0.0/0")
KEY = NamespacedName(SHOP, "default")


def saved(world: World) -> dict[str, object]:
    """The copy of the procedure: the object as YAML, read back."""
    found = yaml.safe_load(yaml.safe_dump(manifest(world.cluster.objects("EgressFirewall")[KEY])))
    assert isinstance(found, dict)
    return found


def test_15_7_1_the_name_of_the_projects_firewall_can_be_found() -> None:
    world = World(rules(*BEFORE))
    assert [key.name for key in world.cluster.objects("EgressFirewall") if key.namespace == SHOP] == ["default"]


def test_15_7_1_a_copy_says_what_the_object_says() -> None:
    world = World(rules(*BEFORE))
    copied, accepted = saved(world), world.cluster.objects("EgressFirewall")[KEY]
    loaded = world.put(copied)
    assert not loaded.refused and loaded.items[0].value == accepted
    assert json.loads(json.dumps(copied)) == copied


def test_15_7_1_replacing_with_the_unchanged_copy_changes_nothing() -> None:
    world = World(rules(*BEFORE))
    revision = world.cluster.engine.revision
    world.put(saved(world))
    assert world.cluster.engine.revision == revision


def test_15_7_1_the_replaced_rules_are_enforced_and_the_old_are_not() -> None:
    world = World(rules(*BEFORE), dns={"www.example.com": answered("8.8.8.8")})
    assert world.allows("203.0.113.9") and not world.allows("8.8.4.4")
    edited = copy.deepcopy(saved(world))
    edited["spec"]["egress"][0]["type"] = "Deny"  # type: ignore[index]
    edited["spec"]["egress"][3]["to"]["cidrSelector"] = "8.8.8.0/24"  # type: ignore[index]
    world.put(edited)
    assert not world.allows("203.0.113.9") and world.allows("203.0.113.9", 80) and world.allows("8.8.4.4")
    assert world.decider("8.8.8.8", 80) == 1 and world.decider("8.8.8.8", 443) == 3


def test_15_7_1_rules_can_be_added_moved_and_removed() -> None:
    world = World(rules("Deny 203.0.113.0/24"))
    world.put(rules("Allow 203.0.113.9", "Deny 203.0.113.0/24"))
    assert world.allows("203.0.113.9") and not world.allows("203.0.113.10")
    world.put(rules("Deny 203.0.113.0/24", "Allow 203.0.113.9"))
    assert not world.allows("203.0.113.9")
    world.put(rules("Allow 203.0.113.9"))
    assert world.allows("203.0.113.9") and world.allows("203.0.113.10")


def test_15_7_1_an_edit_in_one_project_is_none_in_another() -> None:
    world = World(rules("Deny 203.0.113.0/24"), rules("Deny 203.0.113.0/24", namespace=LAB))
    world.put(rules("Allow 203.0.113.0/24"))
    assert world.allows("203.0.113.9") and not world.allows("203.0.113.9", source=LAB_WEB)


def test_15_7_1_the_file_is_for_the_same_object() -> None:
    """A replaced object keeps its name; another name is not an edit of it."""
    world = World(rules("Deny 203.0.113.0/24"))
    other = saved(world) | {"metadata": {"name": "other", "namespace": SHOP}}
    world.put(other)
    assert list(world.cluster.objects("EgressFirewall")) == [KEY] and not world.allows("203.0.113.9")
