"""NetworkPolicy: every rule of the API server's validation and defaulting."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.errors import LimitError, SchemaError
from ovnk_core.model.network_policy import IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.terms.address import cidr
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from ovnk_core.terms.port import PortRange
from tests.kit.manifest import accept, accepted, assert_refused, policy, refuse


def parse(spec: Any) -> NetworkPolicy:
    return accept(policy(spec), NetworkPolicy)


def ingress(rule: Any) -> Any:
    return policy({"podSelector": {}, "ingress": [rule]})


def peer(value: Any) -> Any:
    return ingress({"from": [value]})


def port(value: Any) -> Any:
    return ingress({"ports": [value]})


TYPES = [
    ("absent", {}, (True, False)),
    ("empty", {"policyTypes": []}, (True, False)),
    ("null", {"policyTypes": None}, (True, False)),
    ("absent, egress empty", {"egress": []}, (True, False)),
    ("absent, egress null", {"egress": None}, (True, False)),
    ("absent, egress rules", {"egress": [{}]}, (True, True)),
    ("absent, ingress rules", {"ingress": [{}]}, (True, False)),
    ("ingress", {"policyTypes": ["Ingress"]}, (True, False)),
    ("egress", {"policyTypes": ["Egress"]}, (False, True)),
    ("both", {"policyTypes": ["Egress", "Ingress"]}, (True, True)),
    ("twice the same", {"policyTypes": ["Egress", "Egress"]}, (False, True)),
]


@pytest.mark.parametrize(("spec", "expected"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_policy_types_default(spec: Any, expected: tuple[bool, bool]) -> None:
    found = parse({"podSelector": {}, **spec})
    assert (found.is_ingress, found.is_egress) == expected


def test_missing_and_empty_rule_lists_are_equal() -> None:
    missing = parse({"podSelector": {}})
    assert missing == parse({"podSelector": {}, "ingress": [], "egress": []})
    assert missing == parse({"podSelector": {}, "ingress": None})
    assert missing.ingress == ()


def test_empty_rule_allows_everything_and_is_not_no_rule() -> None:
    assert parse({"podSelector": {}, "ingress": [{}]}).ingress == (PolicyRule(),)
    assert parse({"podSelector": {}, "ingress": [{"from": [], "ports": []}]}).ingress == (PolicyRule(),)


def test_rules_of_a_direction_not_in_policy_types_have_no_effect_and_are_said() -> None:
    loaded = accepted(policy({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}))
    value = loaded.items[0].value
    assert isinstance(value, NetworkPolicy)
    assert value.ingress == ()
    assert ["policyTypes does not hold Ingress" in warning.text for warning in loaded.warnings] == [True]


def test_missing_pod_selector_is_everything_and_is_said() -> None:
    loaded = accepted(policy({"policyTypes": ["Ingress"]}))
    value = loaded.items[0].value
    assert isinstance(value, NetworkPolicy)
    assert value.subject == EVERYTHING
    assert "selects every pod" in loaded.warnings[0].text
    assert accept(policy({"podSelector": {}}), NetworkPolicy).subject == EVERYTHING


def test_a_whole_policy() -> None:
    found = parse(
        {
            "podSelector": {
                "matchLabels": {"app": "db"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["b", "a", "a"]},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "new", "operator": "Exists", "values": []},
                    {"key": "zone", "operator": "NotIn", "values": ["x", ""]},
                ],
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.2.0/24", "172.17.1.0/24"]}},
                        {"namespaceSelector": {"matchLabels": {"project": "a"}}, "podSelector": {}},
                        {"podSelector": {"matchLabels": {"role": "front"}}},
                    ],
                    "ports": [{"protocol": "TCP", "port": 6379}, {"port": "http"}, {"protocol": "SCTP"}],
                }
            ],
            "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}], "ports": [{"port": 5000, "endPort": 6000}]}],
        }
    )
    assert found.subject == selector(
        [
            requirement("app", "In", ["db"]),
            requirement("tier", "In", ["a", "b"]),
            requirement("old", "DoesNotExist"),
            requirement("new", "Exists"),
            requirement("zone", "NotIn", ["x", ""]),
        ]
    )
    assert found.ingress == (
        PolicyRule(
            (
                Peer(block=IpBlock(cidr("172.17.0.0/16"), (cidr("172.17.1.0/24"), cidr("172.17.2.0/24")))),
                Peer(pods=EVERYTHING, namespaces=selector([requirement("project", "In", ["a"])])),
                Peer(pods=selector([requirement("role", "In", ["front"])])),
            ),
            (PolicyPort("TCP", PortRange(6379, 6379)), PolicyPort("TCP", None, "http"), PolicyPort("SCTP")),
        ),
    )
    assert found.egress == (
        PolicyRule((Peer(block=IpBlock(cidr("fd00::/8"))),), (PolicyPort("TCP", PortRange(5000, 6000)),)),
    )


PORTS = [
    ("nothing is every TCP port", {}, PolicyPort("TCP")),
    ("protocol alone", {"protocol": "UDP"}, PolicyPort("UDP")),
    ("null protocol", {"protocol": None, "port": 53}, PolicyPort("TCP", PortRange(53, 53))),
    ("lowest", {"port": 1}, PolicyPort("TCP", PortRange(1, 1))),
    ("highest", {"port": 65535}, PolicyPort("TCP", PortRange(65535, 65535))),
    ("endPort equal", {"port": 80, "endPort": 80}, PolicyPort("TCP", PortRange(80, 80))),
    ("whole range", {"port": 1, "endPort": 65535}, PolicyPort("TCP", PortRange(1, 65535))),
    ("name of 15", {"port": "a23456789012345"}, PolicyPort("TCP", None, "a23456789012345")),
    ("name with dash", {"port": "my-port-1"}, PolicyPort("TCP", None, "my-port-1")),
]


@pytest.mark.parametrize(("value", "expected"), [case[1:] for case in PORTS], ids=[case[0] for case in PORTS])
def test_port_accepted(value: Any, expected: PolicyPort) -> None:
    assert accept(port(value), NetworkPolicy).ingress[0].ports == (expected,)


BAD_PORTS = [
    ("port 0", {"port": 0}, ".port", "from 1 to 65535"),
    ("port 65536", {"port": 65536}, ".port", "from 1 to 65535"),
    ("port negative", {"port": -1}, ".port", "from 1 to 65535"),
    ("port true", {"port": True}, ".port", "whole number"),
    ("port 80.0", {"port": 80.0}, ".port", "whole number"),
    ("port list", {"port": [80]}, ".port", "whole number"),
    ("port digits as text", {"port": "80"}, ".port", "port name"),
    ("port name empty", {"port": ""}, ".port", "port name"),
    ("port name of 16", {"port": "a234567890123456"}, ".port", "port name"),
    ("port name upper case", {"port": "HTTP"}, ".port", "port name"),
    ("port name double dash", {"port": "a--b"}, ".port", "port name"),
    ("port name ends in dash", {"port": "a-"}, ".port", "port name"),
    ("port name newline", {"port": "http\n"}, ".port", "port name"),
    ("endPort below", {"port": 80, "endPort": 79}, ".endPort", "must not be below port 80"),
    ("endPort 65536", {"port": 80, "endPort": 65536}, ".endPort", "from 1 to 65535"),
    ("endPort text", {"port": 80, "endPort": "90"}, ".endPort", "whole number"),
    ("endPort beside a name", {"port": "http", "endPort": 90}, ".endPort", "needs a numeric port"),
    ("endPort alone", {"endPort": 90}, ".endPort", "without port"),
    ("protocol lower case", {"protocol": "tcp"}, ".protocol", "unknown protocol"),
    ("protocol ICMP", {"protocol": "ICMP"}, ".protocol", "unknown protocol"),
    ("protocol number", {"protocol": 6}, ".protocol", "must be text"),
    ("unknown field", {"ports": 80}, ".ports", "unknown field"),
    ("null entry", None, "", "may not be null"),
    ("text entry", "80", "", "must be a mapping"),
]


@pytest.mark.parametrize(
    ("value", "path", "reason"), [case[1:] for case in BAD_PORTS], ids=[case[0] for case in BAD_PORTS]
)
def test_port_refused(value: Any, path: str, reason: str) -> None:
    assert_refused(port(value), f"spec.ingress[0].ports[0]{path}", reason)


def block(text: Any, *holes: Any) -> Any:
    return {"ipBlock": {"cidr": text, "except": list(holes)}}


BAD_PEERS = [
    ("empty", {}, "", "must specify a peer"),
    ("all null", {"podSelector": None, "ipBlock": None}, "", "must specify a peer"),
    ("null", None, "", "may not be null"),
    ("text", "10.0.0.0/8", "", "must be a mapping"),
    ("block and pods", {**block("10.0.0.0/8"), "podSelector": {}}, ".ipBlock", "beside a selector"),
    ("block and namespaces", {**block("10.0.0.0/8"), "namespaceSelector": {}}, ".ipBlock", "beside a selector"),
    ("unknown field", {"podselector": {}}, ".podselector", "unknown field"),
    ("unknown field in block", {"ipBlock": {"cidr": "10.0.0.0/8", "excepts": []}}, ".ipBlock.excepts", "unknown field"),
    ("block text", {"ipBlock": "10.0.0.0/8"}, ".ipBlock", "must be a mapping"),
    ("block without cidr", {"ipBlock": {}}, ".ipBlock.cidr", "missing"),
    ("cidr bare address", block("10.0.0.1"), ".ipBlock.cidr", "no prefix length"),
    ("cidr empty", block(""), ".ipBlock.cidr", "no prefix length"),
    ("cidr number", block(10), ".ipBlock.cidr", "must be text"),
    ("cidr leading zeros", block("010.0.0.0/8"), ".ipBlock.cidr", "leading zeros"),
    ("cidr prefix leading zero", block("10.0.0.0/08"), ".ipBlock.cidr", "not a plain number"),
    ("cidr prefix 33", block("10.0.0.0/33"), ".ipBlock.cidr", "exceeds 32"),
    ("cidr prefix mask", block("10.0.0.0/255.0.0.0"), ".ipBlock.cidr", "not a plain number"),
    ("cidr prefix negative", block("10.0.0.0/-1"), ".ipBlock.cidr", "not a plain number"),
    ("cidr three octets", block("10.0.0/8"), ".ipBlock.cidr", "not an IP address"),
    ("cidr word", block("example.com/8"), ".ipBlock.cidr", "not an IP address"),
    ("cidr newline", block("10.0.0.0/8\n"), ".ipBlock.cidr", "not a plain number"),
    ("cidr space", block(" 10.0.0.0/8"), ".ipBlock.cidr", "not an IP address"),
    ("cidr mapped", block("::ffff:10.0.0.0/104"), ".ipBlock.cidr", "IPv4-mapped"),
    ("cidr mapped hex", block("::ffff:a00:0/104"), ".ipBlock.cidr", "IPv4-mapped"),
    ("cidr v4 in v6", block("64:ff9b::10.0.0.0/104"), ".ipBlock.cidr", "IPv4 notation"),
    ("cidr zone", block("fe80::%eth0/64"), ".ipBlock.cidr", "zone identifiers"),
    ("except outside", block("10.0.0.0/8", "11.0.0.0/16"), ".ipBlock.except[0]", "strictly inside 10.0.0.0/8"),
    ("except equal", block("10.0.0.0/8", "10.0.0.0/8"), ".ipBlock.except[0]", "strictly inside"),
    ("except wider", block("10.0.0.0/8", "0.0.0.0/0"), ".ipBlock.except[0]", "strictly inside"),
    ("except other family", block("10.0.0.0/8", "fd00::/64"), ".ipBlock.except[0]", "strictly inside"),
    ("except second", block("10.0.0.0/8", "10.1.0.0/16", "9.0.0.0/16"), ".ipBlock.except[1]", "strictly inside"),
    ("except malformed", block("10.0.0.0/8", "10.1.0.0"), ".ipBlock.except[0]", "no prefix length"),
    ("except null", block("10.0.0.0/8", None), ".ipBlock.except[0]", "must be text"),
    ("except text", {"ipBlock": {"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}}, ".ipBlock.except", "must be a list"),
]


@pytest.mark.parametrize(
    ("value", "path", "reason"), [case[1:] for case in BAD_PEERS], ids=[case[0] for case in BAD_PEERS]
)
def test_peer_refused(value: Any, path: str, reason: str) -> None:
    assert_refused(peer(value), f"spec.ingress[0].from[0]{path}", reason)


def test_host_bits_of_a_block_are_cleared_with_a_warning() -> None:
    loaded = accepted(peer(block("10.1.2.3/8", "10.9.9.9/16")))
    value = loaded.items[0].value
    assert isinstance(value, NetworkPolicy)
    assert value.ingress[0].peers[0].block == IpBlock(cidr("10.0.0.0/8"), (cidr("10.9.0.0/16"),))
    assert [warning.source for warning in loaded.warnings] == [
        "object#/0/spec/ingress/0/from/0/ipBlock/cidr",
        "object#/0/spec/ingress/0/from/0/ipBlock/except/0",
    ]


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/32", "2001:db8::1/128"])
def test_block_extremes(text: str) -> None:
    assert accept(peer(block(text)), NetworkPolicy).ingress[0].peers == (Peer(block=IpBlock(cidr(text))),)


def expression(*values: Any, key: Any = "a", operator: Any = "In") -> Any:
    return {"key": key, "operator": operator, "values": list(values)}


BAD_SELECTORS = [
    ("In without values", expression(), ".values", "at least one value"),
    ("NotIn without values", {"key": "a", "operator": "NotIn"}, ".values", "at least one value"),
    ("Exists with values", expression("x", operator="Exists"), ".values", "takes no values"),
    ("DoesNotExist with values", expression("x", operator="DoesNotExist"), ".values", "takes no values"),
    ("operator Equals", expression("x", operator="Equals"), ".operator", "must be In, NotIn"),
    ("operator lower case", expression("x", operator="in"), ".operator", "must be In, NotIn"),
    ("operator missing", {"key": "a", "values": ["x"]}, ".operator", "must be In, NotIn"),
    ("key missing", {"operator": "Exists"}, ".key", "not a label key"),
    ("key hostile", expression("x", key='a" || 1'), ".key", "not a label key"),
    ("value hostile", expression('x" || ip4 || "'), ".values[0]", "not a label value"),
    ("value too long", expression("x" * 64), ".values[0]", "longer than 63"),
    ("value number", expression(1), ".values[0]", "must be text"),
    ("value null", expression(None), ".values[0]", "must be text"),
    ("values text", {"key": "a", "operator": "Exists", "values": "x"}, ".values", "must be a list"),
    ("unknown field", {**expression("x"), "value": "x"}, ".value", "unknown field"),
]


@pytest.mark.parametrize(
    ("value", "path", "reason"), [case[1:] for case in BAD_SELECTORS], ids=[case[0] for case in BAD_SELECTORS]
)
def test_expression_refused(value: Any, path: str, reason: str) -> None:
    raw = policy({"podSelector": {"matchExpressions": [value]}})
    assert_refused(raw, f"spec.podSelector.matchExpressions[0]{path}", reason)


UNKNOWN = [
    ("top", policy(spce={}), "spce", "did you mean spec?"),
    ("metadata", policy(metadata={"label": {}}), "metadata.label", "did you mean labels?"),
    ("status", policy(status={"phase": "x"}), "status.phase", "conditions"),
    ("spec", policy({"podSelector": {}, "policytypes": []}), "spec.policytypes", "did you mean policyTypes?"),
    ("selector", policy({"podSelector": {"app": "web"}}), "spec.podSelector.app", "known here: match"),
    ("selector case", policy({"podSelector": {"matchlabels": {}}}), "spec.podSelector.matchlabels", "matchLabels?"),
    ("ingress rule with to", ingress({"to": []}), "spec.ingress[0].to", "known here: from, ports"),
    ("egress rule with from", policy({"egress": [{"from": []}]}), "spec.egress[0].from", "known here: ports, to"),
    ("hostile key", policy({"podSelector": {}, 'a"\n[31m': 1}), 'spec["a\\"\\n[31m"]', "known here"),
]


@pytest.mark.parametrize(("raw", "path", "fix"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_unknown_field_refused(raw: Any, path: str, fix: str) -> None:
    errors = refuse(raw).errors
    assert [(error.path, error.reason) for error in errors] == [(path, "unknown field")]
    assert fix in errors[0].fix


WRONG_TYPES = [
    ("spec list", policy([]), "spec", "must be a mapping"),
    ("spec text", policy("x"), "spec", "must be a mapping"),
    ("selector text", policy({"podSelector": "app=web"}), "spec.podSelector", "must be a mapping"),
    ("ingress mapping", policy({"podSelector": {}, "ingress": {}}), "spec.ingress", "must be a list"),
    ("ingress null entry", policy({"ingress": [None], "podSelector": {}}), "spec.ingress[0]", "may not be null"),
    ("from mapping", ingress({"from": {}}), "spec.ingress[0].from", "must be a list"),
    ("ports number", ingress({"ports": 80}), "spec.ingress[0].ports", "must be a list"),
    ("policyTypes text", policy({"podSelector": {}, "policyTypes": "Ingress"}), "spec.policyTypes", "must be a list"),
    ("policyTypes word", policy({"podSelector": {}, "policyTypes": ["ingress"]}), "spec.policyTypes[0]", "Ingress or"),
    ("policyTypes null", policy({"podSelector": {}, "policyTypes": [None]}), "spec.policyTypes[0]", "Ingress or"),
    ("policyTypes three", policy({"podSelector": {}, "policyTypes": ["Ingress"] * 3}), "spec.policyTypes", "two types"),
    ("annotation number", policy(metadata={"annotations": {"a": 1}}), "metadata.annotations.a", "must be text"),
]


@pytest.mark.parametrize(
    ("raw", "path", "reason"), [case[1:] for case in WRONG_TYPES], ids=[case[0] for case in WRONG_TYPES]
)
def test_wrong_type_refused(raw: Any, path: str, reason: str) -> None:
    assert_refused(raw, path, reason)


def test_usual_metadata_and_status_are_accepted() -> None:
    meta = {
        "uid": "0f2c-11",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2024-02-03T04:05:06Z",
        "managedFields": [{"fieldsV1": {"f:x": {}}}],
        "ownerReferences": [],
        "finalizers": [],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "labels": {"a": "b"},
    }
    found = accept(policy(metadata=meta, status={"conditions": []}), NetworkPolicy)
    assert (found.uid, found.created) == ("0f2c-11", "2024-02-03T04:05:06Z")


def test_every_problem_is_reported_at_once_with_its_class() -> None:
    raw = policy(
        {
            "podSelector": {"matchLabels": {"a": "b c"}},
            "policyTypes": ["Up"],
            "ingress": [{"ports": [{"port": 0}, {"port": "x_y"}]}],
            "egress": [{"to": [{}]}],
        }
    )
    found = {error.path: type(error) for error in refuse(raw).errors}
    assert found == {
        "spec.podSelector.matchLabels.a": SchemaError,
        "spec.policyTypes[0]": SchemaError,
        "spec.ingress[0].ports[0].port": LimitError,
        "spec.ingress[0].ports[1].port": SchemaError,
        "spec.egress[0].to[0]": SchemaError,
    }


def test_problems_of_one_object_are_bounded() -> None:
    errors = refuse(policy({"podSelector": {}, "ingress": [{"ports": [{"port": 0}] * 5000}]})).errors
    assert len(errors) == 101
    assert errors[-1].reason == "and 4900 more problems"
