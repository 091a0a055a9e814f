"""EgressFirewall at the door: what is accepted and as what, what is refused and in which words. No mistake opens.

Sources: 15.5.1.1 and 15.5.2 of the manual; docs/sources.md, egress firewall. Edge cases of addresses, ports and DNS
names follow what two readers of one text may read differently.
"""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.errors import LimitError
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.model.egress_firewall import (
    MAX_RULES,
    Destination,
    DnsName,
    EgressFirewall,
    FirewallPort,
    FirewallRule,
    NodeSelector,
)
from ovnk_core.terms.address import cidr
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from ovnk_core.terms.port import TRANSPORTS
from ovnk_core.topology.place import Settings
from tests.kit.egress_firewall import SHOP, rule, rules
from tests.kit.manifest import accept, accepted, refuse
from tests.kit.shapes import firewall

Raw = dict[str, Any]
TO, PORTS, TYPE = "spec.egress[0].to", "spec.egress[0].ports", "spec.egress[0].type"
CIDR, DNS, NODES = f"{TO}.cidrSelector", f"{TO}.dnsName", f"{TO}.nodeSelector"


def with_rule(entry: Any) -> Raw:
    return firewall([entry], SHOP)


def with_to(to: Any) -> Raw:
    return with_rule({"type": "Deny", "to": to})


def with_ports(*ports: Any) -> Raw:
    return with_rule({"type": "Deny", "to": {"cidrSelector": "1.2.3.0/24"}, "ports": list(ports)})


def only_rule(raw: Raw) -> FirewallRule:
    (found,) = accept(raw, EgressFirewall).rules
    return found


# ------------------------------------------------------------------------------- accepted


DESTINATIONS: tuple[tuple[Raw, Destination, str], ...] = (
    ({"cidrSelector": "1.2.3.0/24"}, cidr("1.2.3.0/24"), ""),
    ({"cidrSelector": "0.0.0.0/0"}, cidr("0.0.0.0/0"), ""),
    ({"cidrSelector": "172.16.1.1"}, cidr("172.16.1.1/32"), ""),
    ({"cidrSelector": "2001:DB8::1"}, cidr("2001:db8::1/128"), ""),
    ({"cidrSelector": "2001:db8:0:0::/64"}, cidr("2001:db8::/64"), ""),
    ({"cidrSelector": "10.0.0.1/24"}, cidr("10.0.0.0/24"), "10.0.0.1/24 has host bits set, 10.0.0.0/24 is used"),
    ({"cidrSelector": "fd00::1/8"}, cidr("fd00::/8"), "fd00::1/8 has host bits set, fd00::/8 is used"),
    ({"cidrSelector": "1.2.3.4/32", "dnsName": None}, cidr("1.2.3.4/32"), ""),
    ({"dnsName": "www.example.com"}, DnsName("www.example.com"), ""),
    ({"dnsName": "WWW.Example.COM."}, DnsName("www.example.com"), ""),
    ({"dnsName": "Bücher.example"}, DnsName("xn--bcher-kva.example"), ""),
    ({"dnsName": "Faß.de"}, DnsName("xn--fa-hia.de"), ""),
    ({"dnsName": "XN--BCHER-KVA.example"}, DnsName("xn--bcher-kva.example"), ""),
    ({"dnsName": "example。com"}, DnsName("example.com"), ""),
    ({"dnsName": "*.Example.com"}, DnsName("*.example.com"), ""),
    ({"dnsName": "3com.com"}, DnsName("3com.com"), ""),
    ({"dnsName": "registry"}, DnsName("registry"), "registry is a single label and asked as it stands"),
    ({"nodeSelector": {}}, NodeSelector(EVERYTHING), ""),
    (
        {"nodeSelector": {"matchLabels": {"zone": "east"}}},
        NodeSelector(selector([requirement("zone", "In", ["east"])])),
        "",
    ),
    (
        {"nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}},
        NodeSelector(selector([requirement("zone", "Exists")])),
        "",
    ),
)


@pytest.mark.parametrize(("to", "meant", "warning"), DESTINATIONS)
def test_destinations(to: Raw, meant: Destination, warning: str) -> None:
    assert only_rule(with_to(to)) == FirewallRule(False, meant)
    found = [each.text for each in accepted(with_to(to)).warnings]
    assert len(found) == bool(warning) and all(warning in text and text.startswith(TO) for text in found)


def port(protocol: str, number: int = 0) -> FirewallPort:
    return FirewallPort(protocol, number)  # type: ignore[arg-type]


GOOD_PORTS: tuple[tuple[list[Raw], tuple[FirewallPort, ...], str], ...] = (
    ([{"protocol": "TCP", "port": 80}], (port("TCP", 80),), ""),
    ([{"protocol": "TCP"}], (port("TCP"),), ""),
    ([{"protocol": "SCTP", "port": 65535}, {"protocol": "UDP", "port": 1}], (port("SCTP", 65535), port("UDP", 1)), ""),
    ([{"port": 443}], tuple(sorted(port(each, 443) for each in TRANSPORTS)), "port 443 of TCP, UDP and SCTP is meant"),
    ([{"port": 443, "protocol": None}], tuple(sorted(port(each, 443) for each in TRANSPORTS)), "no protocol"),
    ([{"protocol": "TCP", "port": 80}] * 2, (port("TCP", 80),), ""),
    ([{"protocol": "TCP", "port": 80}, {"protocol": "TCP"}], (port("TCP"),), ""),
    ([], (), "an empty list is no list"),
)


@pytest.mark.parametrize(("ports", "meant", "warning"), GOOD_PORTS)
def test_ports(ports: list[Raw], meant: tuple[FirewallPort, ...], warning: str) -> None:
    assert only_rule(with_ports(*ports)).ports == meant
    found = [each.text for each in accepted(with_ports(*ports)).warnings]
    assert len(found) == bool(warning) and all(warning in text for text in found)


def test_rules_keep_their_order_and_verdicts() -> None:
    lines = ("Allow 1.2.3.0/24", "Deny www.example.com TCP/80", "Allow nodes:zone=east 53", "Deny 0.0.0.0/0")
    found = accept(rules(*lines), EgressFirewall)
    assert found.rules == tuple(only_rule(with_rule(rule(line))) for line in lines)
    assert [each.allow for each in found.rules] == [True, False, True, False]
    assert (found.namespace, found.name, found.blocked) == (SHOP, "default", "")


def test_the_status_is_not_read() -> None:
    raw = rules("Deny 0.0.0.0/0") | {"status": {"status": "EgressFirewall Rules applied", "messages": None}}
    assert accept(raw, EgressFirewall) == accept(rules("Deny 0.0.0.0/0"), EgressFirewall)


def test_no_rules() -> None:
    loaded = accepted(firewall([], SHOP))
    assert [each.text for each in loaded.warnings] == ["spec.egress: no rules: nothing is restricted"]


@pytest.mark.parametrize("entry", [rule("Deny 1.2.3.4"), rule("Deny 1.2.3.4 TCP/80"), rule("Deny a.example.com")])
def test_8000_rules_pass_and_8001_do_not(entry: Raw) -> None:
    assert len(accept(firewall([entry] * MAX_RULES, SHOP), EgressFirewall).rules) == MAX_RULES
    (error,) = refuse(firewall([entry] * (MAX_RULES + 1), SHOP)).errors
    assert isinstance(error, LimitError)
    assert (error.path, error.reason) == ("spec.egress", "8,001 rules, and a firewall may have 8,000")
    assert error.fix.startswith("remove 1; until then the last accepted version stays enforced; without one, nothing")


# ------------------------------------------------------------------------------- refused

MAPPED = "IPv4-mapped IPv6 addresses are not allowed, because readers disagree about their family"
ZEROS = "leading zeros are not allowed, because readers disagree about octal"
ONE_OF = "must hold exactly one of cidrSelector, dnsName and nodeSelector"
EVERYTHING_FIX = 'write "cidrSelector: 0.0.0.0/0" for everything'
EITHER, BOUNDS = "write NETWORK/PREFIX, or one address", "must be from 1 to 65535"
LABELS = "each label must be 1-63 letters, digits and inner dashes"
WILDCARD = "a wildcard stands for the first label alone: *.example.com"
LENGTH, PLAIN = "write NETWORK/PREFIX", "the prefix length is not a plain number"

# What the rule says, the path of the one error, its reason, and the fix.
BAD_CIDRS = (
    *((text, ZEROS, EITHER) for text in ("010.0.0.1", "10.0.0.01")),
    ("010.0.0.0/8", ZEROS, LENGTH),
    *((text, MAPPED, LENGTH) for text in ("::ffff:10.0.0.1/128", "::ffff:0:0/96", "::FFFF:a00:1/128")),
    ("::ffff:10.0.0.1", MAPPED, EITHER),
    ("fe80::1%eth0/64", "zone identifiers are not allowed", LENGTH),
    ("::1.2.3.4", "IPv4 notation inside an IPv6 address is not allowed", EITHER),
    ("10.0.0.0/33", "the prefix length exceeds 32", LENGTH),
    ("::/129", "the prefix length exceeds 128", LENGTH),
    *((f"10.0.0.1/{text}", PLAIN, LENGTH) for text in ("024", "-1", "", "\u0662", " 8", "+8", "255.0.0.0")),
    *(
        (text, "not an IP address", EITHER)
        for text in ("", "10.0.0", " 10.0.0.1", "10.0.0.1\n", "\u0661.2.3.4", "0x0a.0.0.1")
    ),
    ("a:b::g", "not an IPv6 address", EITHER),
)
BAD_NAMES = (
    *((text, "the name is empty") for text in ("", ".")),
    *((text, WILDCARD) for text in ("*", "*.", "a.*.example.com", "*a.example.com", "**.example.com", "*.*.com")),
    *((text, LABELS) for text in ("a..b", ".a", "a b.example.com", "-a.com", "a-.com", "_srv.example.com", "a.com..")),
    *(
        (text, LABELS)
        for text in (f"{'x' * 64}.com", 'a" || 1', "a\nb.com", "a.com\x00", "a/b.com", "a:80", "$set", "@g")
    ),
    *((text, "longer than 253 characters") for text in (".".join(["x" * 60] * 5), "a" * 3_000, f"*.{'a.' * 126}a")),
    *((text, "looks like an address: use cidrSelector") for text in ("1.2.3.4", "example.123", "１.２.３.４", "127.1")),  # noqa: RUF001
    *((text, "not a name in IDNA 2008") for text in ("☃.example", "xn--☃.com", "xn--a.com", "\ud800.com", "xn--.com")),
)
BAD_DESTINATIONS: tuple[tuple[Any, str, str, str], ...] = (
    *((to, TO, ONE_OF, EVERYTHING_FIX) for to in ({}, None, {"cidrSelector": None}, {"nodeSelector": None})),
    ({"cidrSelector": "1.2.3.4", "dnsName": "a.b"}, TO, ONE_OF, "make 2 rules of it"),
    ({"cidrSelector": "1.2.3.4", "dnsName": "a.b", "nodeSelector": {}}, TO, ONE_OF, "make 3 rules of it"),
    *((to, TO, "must be a mapping", "") for to in ([], "0.0.0.0/0", 5, True)),
    ({"dnsname": "a.b"}, f"{TO}.dnsname", "unknown field", "did you mean dnsName?"),
    (
        {"cidrSelector": "1.2.3.4", "x": 1},
        f"{TO}.x",
        "unknown field",
        "known here: cidrSelector, dnsName, nodeSelector",
    ),
    ({"cidrSelector": 5}, CIDR, "must be text", 'write "5"'),
    ({"cidrSelector": ["1.2.3.4"]}, CIDR, "must be text", ""),
    ({"dnsName": ["a.b"]}, DNS, "must be text", ""),
    ({"nodeSelector": []}, NODES, "must be a mapping", ""),
    ({"nodeSelector": {"matchLabel": {}}}, f"{NODES}.matchLabel", "unknown field", "did you mean matchLabels?"),
    ({"nodeSelector": {"matchLabels": {"a": 5}}}, f"{NODES}.matchLabels.a", "must be text", 'write "5"'),
)
BAD_PORTS: tuple[tuple[Any, str, str, str], ...] = (
    (None, f"{PORTS}[0]", "an entry may not be null", "leave ports out for every protocol"),
    ({}, f"{PORTS}[0]", "names neither a port nor a protocol", "leave ports out for every protocol"),
    *(({"port": at, "protocol": "TCP"}, f"{PORTS}[0].port", BOUNDS, "") for at in (0, -1, 65_536, 1 << 70)),
    *(({"port": at}, f"{PORTS}[0].port", "must be a whole number", "") for at in ("80", 80.0, True, [80])),
    ({"port": 80, "protocol": "tcp"}, f"{PORTS}[0].protocol", "unknown protocol tcp", "write TCP"),
    ({"port": 80, "protocol": "ICMP"}, f"{PORTS}[0].protocol", "unknown protocol ICMP", "write TCP, UDP or SCTP"),
    ({"port": 80, "protocol": 6}, f"{PORTS}[0].protocol", "must be text", 'write "6"'),
    ({"port": 80, "protocol": "TCP", "endPort": 90}, f"{PORTS}[0].endPort", "unknown field", "did you mean port?"),
    *((each, f"{PORTS}[0]", "must be a mapping", "") for each in ("80", 80, ["TCP", 80])),
)
BAD_RULES: tuple[tuple[Any, str, str, str], ...] = (
    (None, "spec.egress[0]", "an entry may not be null", "remove it"),
    *((each, "spec.egress[0]", "must be a mapping", "") for each in (5, "Deny", [], True)),
    ({"to": {"cidrSelector": "1.2.3.4"}}, TYPE, "must be Allow or Deny", "write Allow or Deny"),
    ({"type": "allow", "to": {"cidrSelector": "1.2.3.4"}}, TYPE, "must be Allow or Deny", "write Allow"),
    ({"type": "AllowX", "to": {"cidrSelector": "1.2.3.4"}}, TYPE, "must be Allow or Deny", "write Allow or Deny"),
    ({"type": "Deny"}, TO, ONE_OF, EVERYTHING_FIX),
    ({**rule("Deny 1.2.3.4"), "port": 80}, "spec.egress[0].port", "unknown field", "did you mean ports?"),
    ({**rule("Deny 1.2.3.4"), "ports": {}}, PORTS, "must be a list", ""),
)
BAD_SPECS: tuple[tuple[Any, str, str, str], ...] = (
    *(
        (spec, "spec.egress", "missing", "list the rules; [] restricts nothing")
        for spec in (None, {}, {"egress": None})
    ),
    ([], "spec", "must be a mapping", ""),
    ({"egress": {}}, "spec.egress", "must be a list", ""),
    ({"egress": [], "ingress": []}, "spec.ingress", "unknown field", "did you mean egress?"),
)
BAD = (
    *((with_to({"cidrSelector": text}), CIDR, reason, fix) for text, reason, fix in BAD_CIDRS),
    *((with_to({"dnsName": text}), DNS, reason, "") for text, reason in BAD_NAMES),
    *((with_to(to), *rest) for to, *rest in BAD_DESTINATIONS),
    *((with_ports(each), *rest) for each, *rest in BAD_PORTS),
    *((with_rule(entry), *rest) for entry, *rest in BAD_RULES),
    *((firewall([], SHOP) | {"spec": spec}, *rest) for spec, *rest in BAD_SPECS),
    (rules("Deny 1.2.3.4") | {"Spec": {}}, "Spec", "unknown field", "did you mean spec?"),
    (rules("Deny 1.2.3.4") | {"kind": "egressFirewall"}, "kind", "unknown kind", "did you mean EgressFirewall?"),
    *(
        (
            rules("Deny 1.2.3.4") | {"apiVersion": version},
            "apiVersion",
            "this version is not served",
            "write k8s.ovn.org/v1",
        )
        for version in ("k8s.ovn.org/v1beta1", "v1", "k8s.ovn.org", "", None, "K8S.ovn.org/v1")
    ),
)


@pytest.mark.parametrize(("raw", "path", "reason", "fix"), BAD)
def test_refused_with_path_reason_and_fix_and_blocked(raw: Raw, path: str, reason: str, fix: str) -> None:
    refused = refuse(raw)
    assert [(error.path, error.fix) for error in refused.errors] == [(path, fix)]
    assert refused.errors[0].reason.startswith(reason) and refused.errors[0].source
    closed = refused.stand_in
    assert isinstance(closed, EgressFirewall)
    assert (closed.namespace, closed.name, closed.rules) == (SHOP, "default", ())
    assert closed.blocked.startswith(f"{path}: {reason}")


def test_every_problem_is_told_at_once() -> None:
    entries: list[Any] = [rule("Allow 300.0.0.0/8"), None, {"type": "deny", "to": {}}]
    raw = firewall(entries, SHOP)
    assert [error.path for error in refuse(raw).errors] == [
        "spec.egress[0].to.cidrSelector",
        "spec.egress[1]",
        "spec.egress[2].type",
        "spec.egress[2].to",
    ]


@pytest.mark.parametrize("name", ["other", "Default", "default.", "", None, 5, "a b"])
def test_a_firewall_of_another_name_blocks_nothing(name: Any) -> None:
    raw = rules("Deny 0.0.0.0/0")
    raw["metadata"]["name"] = name
    refused = refuse(raw)
    assert refused.stand_in is None and refused.errors[0].path == "metadata.name"


@pytest.mark.parametrize("project", ["Shop", "a/b", "a b", 5, ["a"], "x" * 64])
def test_a_firewall_of_no_namespace_blocks_nothing(project: Any) -> None:
    raw = rules("Deny 0.0.0.0/0")
    raw["metadata"]["namespace"] = project
    refused = refuse(raw)
    assert refused.stand_in is None and refused.errors[-1].path == "metadata.namespace"


@pytest.mark.parametrize("has_dns_feed", [False, True])
def test_wildcards_need_a_feed(has_dns_feed: bool) -> None:
    loaded = accepted(rules("Allow a.example.com", "Deny *.example.com"))
    cluster = Cluster(settings=Settings(has_dns_feed=has_dns_feed))
    cluster.replace(loaded)
    errors = cluster.errors
    assert len(errors) == (not has_dns_feed)
    for error in errors:
        assert (error.path, error.value) == ("spec.egress[1].to.dnsName", "*.example.com")
        assert "cannot be asked of a DNS server" in error.reason and error.fix == "name the hosts one by one"
        assert error.source == "object#/0/spec/egress/1/to/dnsName"


@pytest.mark.parametrize("text", ["a.example.com", "*.example.com", "xn--bcher-kva.example"])
def test_what_a_name_became_is_read_as_itself(text: str) -> None:
    assert dns_name(text) == DnsName(text) == dns_name(dns_name(text).name)


def test_two_that_differ_are_both_refused_and_block() -> None:
    loaded = parse_objects([rules("Deny 1.2.3.4"), rules("Allow 0.0.0.0/0")])
    (refused,) = loaded.refused
    assert not loaded.items and isinstance(refused.stand_in, EgressFirewall) and refused.stand_in.blocked
    same = parse_objects([rules("Deny 1.2.3.4"), rules("Deny 1.2.3.4/32")])
    assert len(same.items) == 1 and not same.refused
