"""What a refused NetworkPolicy leaves behind: a stand-in that isolates, never less than the policy would have."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from tests.kit.manifest import accept, complaints, network, policy, refuse

SUBJECT = {"matchLabels": {"app": "web"}}
WEB = selector([requirement("app", "In", ["web"])])
BAD_RULE = {"ingress": [{"ports": [{"port": 0}]}]}
STAND_INS = [
    ("subject read, default types", {"podSelector": SUBJECT, **BAD_RULE}, WEB, True, False),
    ("egress only", {"podSelector": SUBJECT, "policyTypes": ["Egress"], "egress": [{"to": [{}]}]}, WEB, False, True),
    ("types read", {"podSelector": SUBJECT, "policyTypes": ["Egress"], **BAD_RULE}, WEB, False, True),
    ("types unreadable", {"podSelector": SUBJECT, "policyTypes": ["egress"]}, WEB, True, True),
    ("types not a list", {"podSelector": SUBJECT, "policyTypes": "Ingress"}, WEB, True, True),
    ("types misspelt", {"podSelector": SUBJECT, "policyType": ["Egress"]}, WEB, True, True),
    ("egress unreadable", {"podSelector": SUBJECT, "egress": "all"}, WEB, True, True),
    ("subject unreadable", {"podSelector": {"matchLabels": {"app": 5}}}, EVERYTHING, True, False),
    ("subject half readable", {"podSelector": {**SUBJECT, "matchExpression": []}}, EVERYTHING, True, False),
    ("subject misspelt", {"podselector": SUBJECT, "policyTypes": ["Ingress"]}, EVERYTHING, True, False),
    ("spec unreadable", [], EVERYTHING, True, True),
]


@pytest.mark.parametrize(
    ("spec", "subject", "is_ingress", "is_egress"),
    [case[1:] for case in STAND_INS],
    ids=[case[0] for case in STAND_INS],
)
def test_a_refused_policy_fails_closed(spec: Any, subject: Any, is_ingress: bool, is_egress: bool) -> None:
    closed = refuse(policy(spec)).stand_in
    assert closed is not None
    assert (closed.namespace, closed.name) == ("shop", "p")
    assert (closed.subject, closed.is_ingress, closed.is_egress) == (subject, is_ingress, is_egress)
    assert closed.ingress == closed.egress == ()
    assert closed.blocked


def test_many_problems_leave_nothing_readable() -> None:
    closed = refuse(policy({"podSelector": SUBJECT, "ingress": [{"ports": [{"port": 0}] * 200}]})).stand_in
    assert closed is not None
    assert (closed.subject, closed.is_ingress, closed.is_egress) == (EVERYTHING, True, True)


@pytest.mark.parametrize("name", ['a"b', "a\nb", "A", "a b", "a" * 254, "-a", "a.", "a..b", "a/b", "", 7, None, "ü"])
def test_a_policy_with_a_bad_name_is_refused_and_still_isolates(name: Any) -> None:
    refused = refuse(policy({"podSelector": SUBJECT}, name=name))
    assert [error.path for error in refused.errors] == ["metadata.name"]
    closed = refused.stand_in
    assert closed is not None
    assert (closed.subject, closed.namespace) == (WEB, "shop")
    assert closed.name == "unnamed" or closed.name.startswith("invalid-")
    assert refused.ref.key == closed.key


@pytest.mark.parametrize("namespace", ['a"b', "A", "a.b", "a" * 64, 7])
def test_a_policy_with_a_bad_namespace_has_no_stand_in(namespace: Any) -> None:
    refused = refuse(policy(namespace=namespace))
    assert [error.path for error in refused.errors] == ["metadata.namespace"]
    assert refused.stand_in is None


@pytest.mark.parametrize("kind", ["Networkpolicy", "networkpolicy", "NETWORKPOLICY"])
@pytest.mark.parametrize("version", ["networking.k8s.io/v1", "extensions/v1beta1", None])
def test_a_policy_whose_kind_is_misspelt_isolates(kind: str, version: str | None) -> None:
    refused = refuse(policy({"podSelector": SUBJECT}) | {"kind": kind, "apiVersion": version})
    assert refused.ref.kind == "NetworkPolicy"
    assert "did you mean NetworkPolicy?" in [error.fix for error in refused.errors]
    assert refused.stand_in is not None
    assert refused.stand_in.subject == WEB


@pytest.mark.parametrize(
    "version", ["networking.k8s.io/v1beta1", "extensions/v1beta1", "v1", "networking.k8s.io", None, 1]
)
def test_a_policy_of_another_version_is_refused_not_skipped(version: Any) -> None:
    raw = policy()
    raw["apiVersion"] = version
    refused = refuse(raw)
    assert [(error.path, error.fix) for error in refused.errors] == [("apiVersion", "write networking.k8s.io/v1")]
    assert refused.stand_in is not None


def test_only_policies_have_stand_ins() -> None:
    assert refuse(network({"clusterNetwork": "x"})).stand_in is None


def test_a_policy_without_namespace_lives_in_default() -> None:
    assert accept(policy(namespace=""), NetworkPolicy).namespace == "default"


def test_huge_names_stay_readable_in_errors() -> None:
    refused = refuse(policy(name="x" * (64 << 10)))
    assert len(str(refused.errors[0])) < 600
    assert complaints(policy(name="x" * (64 << 10)))[0][0] == "metadata.name"
