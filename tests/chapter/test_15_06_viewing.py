"""15.6, viewing an egress firewall: names of all projects, and the rules as the manual's listing shows them."""

from __future__ import annotations

import pytest

from ovnk_core.model.egress_firewall import rule_text
from ovnk_core.terms.name import NamespacedName
from tests.kit.egress import LAB, ROUTER, SHOP, World, rules

SHOWN = ("Allow to 1.2.3.0/24", "Allow to www.example.com", "Deny to 0.0.0.0/0")


def test_15_6_1_the_names_of_the_firewalls_of_all_namespaces() -> None:
    world = World(*(rules("Deny 0.0.0.0/0", namespace=name) for name in (SHOP, LAB, ROUTER)))
    found = sorted(world.cluster.objects("EgressFirewall"))
    assert found == [NamespacedName(name, "default") for name in (ROUTER, SHOP, LAB)]


def test_15_6_1_each_rule_is_one_line_in_order() -> None:
    world = World(rules("Allow 1.2.3.0/24", "Allow www.example.com", "Deny 0.0.0.0/0"))
    firewall = world.cluster.objects("EgressFirewall")[NamespacedName(SHOP, "default")]
    assert tuple(map(rule_text, firewall.rules)) == SHOWN


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Deny 172.16.1.1 TCP/80 443", "Deny to 172.16.1.1 on 443, TCP/80"),
        ("Deny 172.16.1.1/32 UDP", "Deny to 172.16.1.1 on UDP"),
        ("Allow 2001:DB8::/32 SCTP/9 TCP/9 UDP/9", "Allow to 2001:db8::/32 on 9"),
        ("Allow WWW.Example.COM. TCP/443", "Allow to www.example.com on TCP/443"),
        ("Deny nodes:zone=east", "Deny to nodes zone=east"),
    ],
)
def test_15_6_1_ports_and_other_destinations_are_shown(line: str, shown: str) -> None:
    world = World(rules(line), families=(4, 6))
    (found,) = world.cluster.objects("EgressFirewall")[NamespacedName(SHOP, "default")].rules
    assert rule_text(found) == shown


def test_15_6_1_the_trace_shows_the_rule_as_the_listing_does() -> None:
    world = World(rules("Allow 1.2.3.0/24", "Allow www.example.com", "Deny 0.0.0.0/0"))
    assert (
        f"rule 2 of EgressFirewall {SHOP}/default ({SHOWN[2]}) decides, 2 rules before it"
        in world.ask("8.8.8.8").reason
    )
