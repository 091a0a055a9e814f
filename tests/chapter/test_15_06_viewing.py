"""15.6, viewing an egress firewall: names of all projects, and the rules as the manual's listing shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from ovnk_core.model.egress_firewall import rule_text
from ovnk_core.terms.name import NamespacedName
from tests.cli.command import ovnk
from tests.kit.egress_firewall import LAB, ROUTER, SHOP, World, landscape, rules

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


# ------------------------------------------------------------------------------- the command


def manifests(folder: Path, *objects: dict[str, object]) -> str:
    path = folder / "firewalls.yaml"
    path.write_text(yaml.safe_dump_all([*landscape(4), *objects]))
    return str(path)


def test_15_6_1_get_egressfirewall_lists_all_namespaces(tmp_path: Path) -> None:
    path = manifests(tmp_path, *(rules("Deny 0.0.0.0/0", namespace=name) for name in (SHOP, LAB)))
    ran = ovnk("get", "egressfirewall", "-f", path)
    assert ran.code == 0, ran.err
    assert [line.split()[:2] for line in ran.out.splitlines()[1:]] == [[SHOP, "default"], [LAB, "default"]]


def test_15_6_1_describe_egressfirewall_prints_the_manuals_lines(tmp_path: Path) -> None:
    """The example output, line by line; what comes after it is not in the manual."""
    shown = rules("Allow 1.2.3.0/24", "Allow www.example.com", "Deny 0.0.0.0/0")
    created = datetime.now(UTC) - timedelta(minutes=20, seconds=20)
    shown["metadata"]["creationTimestamp"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    other = rules("Deny 9.9.9.9", namespace=LAB)
    ran = ovnk("describe", "egressfirewall", "default", "-n", SHOP, "-f", manifests(tmp_path, shown, other))
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[:9] == [
        "Name:\t\tdefault",
        "Namespace:\tproject1",
        "Created:\t20 minutes ago",
        "Labels:\t\t<none>",
        "Annotations:\t<none>",
        *(f"Rule:\t\t{line}" for line in SHOWN),
        "Status:\t\tEgressFirewall Rules applied",
    ]
    assert "9.9.9.9" not in ran.out


def test_15_6_1_the_status_of_a_refused_firewall_says_so(tmp_path: Path) -> None:
    ran = ovnk("describe", "egressfirewall", "-f", manifests(tmp_path, rules("Deny 300.0.0.0/8")))
    assert ran.code == 1
    assert "Status:\t\tEgressFirewall Rules not correctly applied" in ran.out.splitlines()
    assert "not an IP address" in ran.out and "Condition:\tBlocked=True (NothingAccepted)" in ran.out
