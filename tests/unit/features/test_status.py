"""A firewall's status: OVN-Kubernetes' texts, and what each condition says and when."""

from __future__ import annotations

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.status import (
    APPLIED,
    NOT_APPLIED,
    FirewallStatus,
    firewall_status,
    status_manifest,
)
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL
from ovnk_core.terms.name import NamespacedName, ObjectRef
from tests.kit.egress_firewall import SHOP, World, answered, rules
from tests.kit.shapes import firewall


def status(cluster: Cluster, name: str = "default") -> FirewallStatus:
    key = NamespacedName(SHOP, name)
    refused = cluster.refused.get(ObjectRef("EgressFirewall", SHOP, name))
    return firewall_status(
        cluster.engine.rows(EGRESS_FIREWALL).get(key),
        refused.errors if refused is not None else (),
        lambda asked: cluster.engine.rows(DNS_DECISION).get(asked),
    )


def holding(found: FirewallStatus) -> dict[str, str]:
    """Conditions that hold, with their reasons."""
    return {each.type: each.reason for each in found.conditions if each.holds}


def test_accepted_rules_are_applied() -> None:
    found = status(World(rules("Deny 1.2.3.4")).cluster)
    assert (found.text, found.messages) == (APPLIED, ())
    assert APPLIED == "EgressFirewall Rules applied"
    assert holding(found) == {"Ready": "RulesApplied"}


def test_refused_without_a_version_before_is_blocked() -> None:
    found = status(World(rules("Deny 1.2.3.4/99")).cluster)
    assert found.text == NOT_APPLIED == "EgressFirewall Rules not correctly applied"
    assert holding(found) == {"Blocked": "NothingAccepted"}
    assert "spec.egress[0].to.cidrSelector" in found.messages[0]
    assert "1.2.3.4/99" in next(each for each in found.conditions if each.type == "Blocked").message


def test_refused_with_a_version_before_is_stale() -> None:
    world = World(rules("Deny 1.2.3.4", "Deny 1.2.3.5"))
    world.put(rules("Deny 1.2.3.4/99"))
    found = status(world.cluster)
    assert (found.text, holding(found)) == (NOT_APPLIED, {"Stale": "LastAcceptedEnforced"})
    assert "with 2 rules, is enforced" in next(each for each in found.conditions if each.type == "Stale").message
    world.put(rules("Deny 1.2.3.6"))
    assert holding(status(world.cluster)) == {"Ready": "RulesApplied"}


def test_too_many_rules_say_how_many() -> None:
    entry = {"type": "Deny", "to": {"cidrSelector": "1.2.3.4/32"}}
    found = status(World(firewall([entry] * 8_001, SHOP)).cluster)
    assert (found.text, holding(found)) == (NOT_APPLIED, {"Blocked": "NothingAccepted"})
    assert "8,001" in found.messages[0]


def test_another_name_is_refused_and_blocks_nothing() -> None:
    other = rules("Deny 1.2.3.4") | {"metadata": {"name": "other", "namespace": SHOP}}
    found = status(World(other).cluster, "other")
    assert (found.text, holding(found)) == (NOT_APPLIED, {})


def test_names_without_an_answer_are_named_with_their_rule() -> None:
    world = World(rules("Allow 1.2.3.4", "Deny www.example.com", "Allow db.example.com"))
    found = status(world.cluster)
    assert found.text == APPLIED
    assert holding(found) == {"Ready": "RulesApplied", "DNSPending": "NeverAnswered"}
    assert found.messages == (
        "rule 1 (Deny to www.example.com) denies nothing yet: the name was never answered",
        "rule 2 (Allow to db.example.com) allows nothing yet: the name was never answered",
    )
    world.learn(www_example_com=answered("203.0.113.9"), db_example_com=answered("203.0.113.8"))
    assert holding(status(world.cluster)) == {"Ready": "RulesApplied"}


def test_a_name_that_went_away_still_denies_but_allows_nothing() -> None:
    gone = answered(sticky=["203.0.113.9"])
    world = World(rules("Deny www.example.com", "Allow www.example.com"), dns={"www.example.com": gone})
    (message,) = status(world.cluster).messages
    assert message == "rule 1 (Allow to www.example.com) allows nothing yet: the name has no address"


def test_the_manifest_form_holds_every_condition() -> None:
    found = status_manifest(status(World(rules("Deny 1.2.3.4")).cluster))
    assert found["status"] == APPLIED
    assert [(each["type"], each["status"]) for each in found["conditions"]] == [
        ("Ready", "True"),
        ("DNSPending", "False"),
        ("Blocked", "False"),
        ("Stale", "False"),
    ]
