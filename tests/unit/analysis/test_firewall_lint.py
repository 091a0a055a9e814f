"""Findings about egress firewalls: one test per code, and the order findings held to brute force on random lists."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from ovnk_core.analysis.finding import CODES, SEVERITIES, Finding
from ovnk_core.analysis.firewall.lint import lint_firewalls
from ovnk_core.analysis.firewall.overlap import Overlaps
from ovnk_core.features.egress_firewall.compile import Reach
from ovnk_core.features.egress_firewall.verdict import Packet, first_match, is_subject
from ovnk_core.model.egress_firewall import FirewallPort, FirewallRule
from ovnk_core.terms.address import BITS, Address, Cidr, network_of
from ovnk_core.terms.port import TRANSPORTS
from ovnk_core.trace.scene import Scene
from tests.kit.egress_firewall import SHOP, World, answered, rules
from tests.kit.manifest import node

ALLOW_ALL_BUT = "Deny 0.0.0.0/0"


def found(*lines: str, families: tuple[int, ...] = (4,), namespace: str = SHOP) -> dict[str, list[Finding]]:
    """Findings by code."""
    world = World(families=families)
    loaded = world.put(rules(*lines, namespace=namespace))
    by_code: dict[str, list[Finding]] = {}
    for each in lint_firewalls(world.cluster, loaded.warnings):
        by_code.setdefault(each.code, []).append(each)
    return by_code


def places(findings: Sequence[Finding]) -> list[tuple[int | None, tuple[int, ...]]]:
    return [(each.rule, each.hidden_by) for each in findings]


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        (["Allow 1.2.0.0/16", "Deny 1.2.3.0/24"], "shadowed", [(1, (0,))]),
        (["Allow 1.2.3.0/25", "Allow 1.2.3.128/25", "Deny 1.2.3.0/24"], "shadowed", [(2, (0, 1))]),
        (["Allow 1.2.3.0/24 TCP", "Deny 1.2.3.4 TCP/80"], "shadowed", [(1, (0,))]),
        (["Allow 1.2.3.4 TCP/80", "Allow 1.2.3.4 UDP/53", "Deny 1.2.3.4 TCP/80 UDP/53"], "shadowed", [(2, (0, 1))]),
        (["Deny 1.2.0.0/16", "Deny 1.2.3.0/24"], "redundant", [(1, (0,))]),
        (["Deny 1.2.3.0/24", "Deny 1.2.0.0/16"], "redundant", [(0, (1,))]),
        (["Deny 1.2.3.4", "Allow 1.2.3.0/24", "Deny 1.2.0.0/16"], "redundant", []),
        (["Allow 1.2.3.4", "Deny 9.9.9.9"], "redundant", [(0, ())]),
        (["Deny www.example.com", "Deny www.example.com TCP/80"], "redundant", [(1, (0,))]),
        (["Deny www.example.com", "Allow www.example.com TCP/80"], "shadowed", [(1, (0,))]),
        (["Allow www.example.com", "Deny www.example.com TCP/80"], "shadowed", []),
        (["Allow nodes:zone=east", "Deny nodes:zone=east"], "shadowed", [(1, (0,))]),
        (["Allow 0.0.0.0/0", "Deny www.example.com"], "shadowed", [(1, (0,))]),
        (["Deny 10.128.5.0/24", "Deny 224.0.0.5", "Deny 2001:db8::/32"], "unreachable", [(0, ()), (1, ()), (2, ())]),
        (["Allow 10.0.0.0/9", "Allow 10.128.0.0/9", "Deny 10.0.0.0/8"], "shadowed", [(2, (0, 1))]),
        (["Deny 10.128.0.0/15", "Allow 1.1.1.1"], "unreachable", [(0, ())]),
    ],
)  # fmt: skip
def test_rules_that_do_nothing(lines: list[str], code: str, expected: list[tuple[int, tuple[int, ...]]]) -> None:
    assert places(found(*lines).get(code, [])) == expected


def test_a_finding_names_the_rules_and_where_they_are_written() -> None:
    (each,) = found("Allow 1.2.0.0/16", "Deny 1.2.3.0/24 TCP/80")["shadowed"]
    assert each.text == (
        "rule 1 (Deny to 1.2.3.0/24 on TCP/80) decides nothing: rule 0 (Allow to 1.2.0.0/16) decides before it"
    )
    assert each.source.endswith("/spec/egress/1")
    assert (each.severity, each.object.namespace, each.object.name) == ("warning", SHOP, "default")


# ------------------------------------------------------------------------------------------- what pods need


def test_denying_everything_cuts_off_the_api_servers_unless_their_range_is_allowed() -> None:
    world = World()
    label = {"labels": {"node-role.kubernetes.io/master": ""}}
    master = node("master", {}, "203.0.113.5", metadata=label)
    world.put(master, rules("Allow 192.0.2.0/24", ALLOW_ALL_BUT))
    (each,) = [each for each in lint_firewalls(world.cluster) if each.code == "deny-cuts-api"]
    assert (each.rule, each.severity) == (1, "error")
    assert "203.0.113.5" in each.text
    world.put(rules("Allow 203.0.113.0/24 TCP/6443", ALLOW_ALL_BUT))
    assert not [each for each in lint_firewalls(world.cluster) if each.code == "deny-cuts-api"]


def test_without_labels_any_node_may_be_an_api_server() -> None:
    (each,) = found("Allow 1.2.3.0/24", ALLOW_ALL_BUT)["deny-cuts-api"]
    assert (each.rule, each.severity) == (1, "warning")
    assert "deny-cuts-api" not in found("Allow 192.0.2.0/24", ALLOW_ALL_BUT)


def test_denying_everything_cuts_off_dns_unless_a_server_is_named() -> None:
    assert [each.severity for each in found(ALLOW_ALL_BUT)["deny-cuts-dns"]] == ["note"]
    assert [each.severity for each in found("Allow www.example.com", ALLOW_ALL_BUT)["deny-cuts-dns"]] == ["warning"]
    assert "deny-cuts-dns" not in found("Allow 8.8.8.8 UDP/53 TCP/53", ALLOW_ALL_BUT)
    assert "deny-cuts-dns" not in found("Deny 1.2.3.4")


def test_join_network_and_nodes() -> None:
    denied = found(ALLOW_ALL_BUT)
    assert (denied["deny-cuts-join"][0].rule, denied["deny-cuts-node"][0].rule) == (0, 0)
    allowed = found("Allow 100.64.0.0/16", "Allow nodes:", ALLOW_ALL_BUT)
    assert "deny-cuts-join" not in allowed
    assert "deny-cuts-node" not in allowed


@pytest.mark.parametrize(
    ("lines", "families", "is_open"),
    [
        ([ALLOW_ALL_BUT], (4, 6), True),
        ([ALLOW_ALL_BUT, "Deny ::/0"], (4, 6), False),
        ([ALLOW_ALL_BUT], (4,), False),
        (["Deny 1.2.3.4"], (4, 6), False),
        (["Deny 0.0.0.0/0 TCP/80", "Allow 0.0.0.0/0"], (4, 6), False),
        (["Deny 0.0.0.0/1", "Deny 128.0.0.0/1"], (4, 6), True),
        (["Deny 0.0.0.0/1", "Deny 128.0.0.0/2"], (4, 6), False),
        ([ALLOW_ALL_BUT, "Deny ::/1", "Deny 8000::/1"], (4, 6), False),
        (["Allow 0.0.0.0/0", ALLOW_ALL_BUT], (4, 6), False),
    ],
)
def test_ipv6_left_open(lines: list[str], families: tuple[int, ...], is_open: bool) -> None:
    assert ("ipv6-open" in found(*lines, families=families)) == is_open


# ------------------------------------------------------------------------------------------- names, namespaces, text


def test_deny_by_name() -> None:
    denied = found("Deny www.example.com", "Allow never.example.net")
    assert places(denied["dns-pending"]) == [(0, ())]
    assert places(denied["deny-by-dns"]) == [(0, ())]
    world = World(dns={"www.example.com": answered("1.2.3.4")})
    world.put(rules("Deny www.example.com"))
    assert "dns-pending" not in {each.code for each in lint_firewalls(world.cluster)}


def test_deny_by_wildcard() -> None:
    world = World(has_dns_feed=True)
    world.put(rules("Deny *.example.com"))
    assert "wildcard-deny" in {each.code for each in lint_firewalls(world.cluster)}


def test_host_bits_name_the_rule() -> None:
    (each,) = found("Allow 1.2.3.4", "Deny 5.6.7.8/24")["host-bits"]
    assert (each.rule, each.text) == (1, "5.6.7.8/24 has host bits set, 5.6.7.0/24 is used")


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "openshift", "openshift-dns"])
def test_namespaces_of_the_platform(namespace: str) -> None:
    assert "system-namespace" in found("Deny 1.2.3.4", namespace=namespace)
    assert "system-namespace" not in found("Deny 1.2.3.4", namespace=f"my-{namespace}")


def test_routes_bypass_whatever_is_denied() -> None:
    assert places(found("Deny 1.2.3.4", "Deny 1.2.3.5")["route-bypass"]) == [(None, ())]
    assert "route-bypass" not in found("Allow 1.2.3.4")


def test_a_deny_that_decides_nothing_is_no_bypass() -> None:
    assert "route-bypass" not in found("Allow 1.2.0.0/16", "Deny 1.2.3.4")
    assert "route-bypass" not in found("Deny 10.128.5.0/24", "Deny 2001:db8::/32")


def test_ipv4_left_open() -> None:
    assert places(found("Deny ::/1", "Deny 8000::/1", families=(4, 6))["ipv4-open"]) == [(1, ())]
    assert "ipv4-open" not in found("Deny ::/0", families=(6,))


@pytest.mark.parametrize("code", ["deny-cuts-api", "deny-cuts-dns", "deny-cuts-node", "deny-cuts-join"])
def test_one_family_cut_off_is_told_by_name(code: str) -> None:
    for line, family in ((ALLOW_ALL_BUT, 4), ("Deny ::/0", 6)):
        (each,) = found(line, families=(4, 6))[code]
        assert f"over IPv{family}" in each.text
    both = found(ALLOW_ALL_BUT, "Deny ::/0", families=(4, 6))[code]
    assert sorted(each.rule for each in both if each.rule is not None) == [0, 1]
    assert "over IPv" not in found(ALLOW_ALL_BUT)[code][0].text


def test_denying_the_nodes_alone_leaves_dns_servers_elsewhere() -> None:
    assert "deny-cuts-dns" not in found("Deny nodes:")


def test_a_long_list_of_like_rules_is_judged() -> None:
    """Every rule is about everything on 20 of 200 ports; without the bound this is minutes (the suite's time limit)."""
    rng = random.Random(5)
    lines = [
        f"{'Deny' if index % 2 else 'Allow'} 0.0.0.0/0 "
        + " ".join(f"TCP/{port}" for port in rng.sample(range(1, 200), 20))
        for index in range(3_000)
    ]
    world = World()
    world.put(rules(*lines))
    codes = [each.code for each in lint_firewalls(world.cluster)]
    assert len(codes) > 2_900


def test_a_cut_search_says_that_there_is_more() -> None:
    narrow = [f"{'Deny' if index % 2 else 'Allow'} 1.{index >> 8}.{index & 255}.0/24" for index in range(2_560)]
    by_code = found(*narrow, "Deny 1.0.0.0/13", "Allow 1.8.0.0/15")
    cut, whole = (each for each in by_code["shadowed"] if each.rule is not None and each.rule >= len(narrow))
    assert "and more decide before it" in cut.text
    assert cut.hidden_by
    assert "and 508 more decide before it" in whole.text
    assert len(whole.hidden_by) == 512


def test_a_refused_firewall_is_not_judged() -> None:
    assert found("Deny 1.2.3.4/99") == {}


def test_severities_are_known_and_every_code_is_described() -> None:
    for name, code in CODES.items():
        assert code.severity in SEVERITIES, name
        assert code.title
        assert code.advice


# ------------------------------------------------------------------------------------------- random lists


ROOT = Cidr(4, 0xCB007100, 24)
PORTS = (80, 443)


def random_rules(rng: random.Random) -> tuple[FirewallRule, ...]:
    """Few prefixes around one /24 and the pods' network, so that they cover each other often."""
    made = []
    for _ in range(rng.randint(2, 9)):
        length = rng.choice((0, 23, 24, 25, 25, 26, 31, 32))
        base = rng.choice((ROOT.value, ROOT.value, ROOT.value + 128, ROOT.value + 64, 0x0A800000))
        ports = rng.choice(((), (), ((6, 80),), ((6, 0),), ((6, 80), (17, 443))))
        named = tuple(sorted(FirewallPort("TCP" if number == 6 else "UDP", port) for number, port in ports))
        made.append(FirewallRule(rng.random() < 0.5, network_of(Address(4, base), length), named))
    return tuple(made)


def packets(list_: Sequence[FirewallRule]) -> Iterator[Packet]:
    """Both edges of every prefix and their neighbours, every port in use and one that is not, ICMP."""
    edges = {0, (1 << 32) - 1}
    for rule in list_:
        assert isinstance(rule.to, Cidr)
        edges |= {rule.to.value - 1, rule.to.value, rule.to.last, rule.to.last + 1}
    for value in sorted(edge for edge in edges if 0 <= edge < 1 << BITS[4]):
        yield Packet(target=Address(4, value), protocol="icmp")
        for transport in TRANSPORTS:
            for port in (*PORTS, 9):
                protocol = "tcp" if transport == "TCP" else "udp" if transport == "UDP" else "sctp"
                yield Packet(target=Address(4, value), protocol=protocol, port=port)


@pytest.mark.parametrize("seed", range(60))
def test_order_findings_are_what_brute_force_says(seed: int) -> None:
    list_ = random_rules(random.Random(seed))
    scene = Scene(World().cluster)
    overlaps = Overlaps(list_, Reach(scene.network))
    asked = [packet for packet in packets(list_) if is_subject(scene.network, packet.target)]
    deciders = {first_match(list_, packet, scene) for packet in asked}
    shadowed = set(overlaps.shadowed())
    live = {index for index in range(len(list_)) if overlaps.is_somewhere(index)} - shadowed
    assert live == deciders - {None}
    for index in shadowed:
        hiders, is_all = overlaps.hiders(index)
        assert is_all
        assert all(hider < index for hider in hiders)
        alone = [list_[hider] for hider in hiders] + [list_[index]]
        assert all(first_match(alone, packet, scene) != len(hiders) for packet in asked)
    for index in live:
        if overlaps.idle_because(index) is not None:
            without = list_[:index] + list_[index + 1 :]
            assert all(verdict(list_, packet, scene) == verdict(without, packet, scene) for packet in asked)


def verdict(list_: Sequence[FirewallRule], packet: Packet, scene: Scene) -> bool:
    rule = first_match(list_, packet, scene)
    return rule is None or list_[rule].allow
