"""The authorisation file: what rules allow, which files are refused, and what a change of the file does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from ovnk_server.access import VERBS, Verb
from ovnk_server.authorisation import MAX_ANSWERS, Authorisation, AuthorisationError, Rule, RulePolicy, parse

TEAM = Rule(
    identities=("spiffe://x/team-a/*", "spiffe://x/ci"),
    verbs=("get", "list"),
    kinds=("EgressFirewall", "Network*"),
    namespaces=("team-a", "lab-*"),
)
ADMIN = Rule(identities=("spiffe://x/admin",), verbs=("*",))
POLICY = RulePolicy((TEAM, ADMIN))


@pytest.mark.parametrize(
    ("identity", "verb", "kind", "namespace", "is_allowed"),
    [
        ("spiffe://x/ci", "get", "EgressFirewall", "team-a", True),
        ("spiffe://x/team-a/bob", "list", "NetworkPolicy", "lab-1", True),
        ("spiffe://x/team-a/", "list", "NetworkPolicy", "lab-", True),
        ("spiffe://x/team-a", "list", "NetworkPolicy", "lab-1", False),
        ("spiffe://x/cix", "get", "EgressFirewall", "team-a", False),
        ("spiffe://x/ci", "apply", "EgressFirewall", "team-a", False),
        ("spiffe://x/ci", "get", "Pod", "team-a", False),
        ("spiffe://x/ci", "get", "EgressFirewall", "team-ab", False),
        ("spiffe://x/ci", "get", "EgressFirewall", "", False),
        ("spiffe://x/ci", "get", "", "team-a", False),
        ("spiffe://x/admin", "admin", "", "", True),
        ("spiffe://x/admin", "delete", "Pod", "kube-system", True),
        ("", "get", "EgressFirewall", "team-a", False),
        ("local", "get", "EgressFirewall", "team-a", False),
    ],
)
def test_only_what_a_rule_allows_is_allowed(
    identity: str, verb: str, kind: str, namespace: str, is_allowed: bool
) -> None:
    for _ in range(2):  # the second answer is remembered
        assert POLICY.allows(identity, cast(Verb, verb), kind, namespace) is is_allowed


def test_without_a_file_the_sockets_identity_alone_may_do_everything() -> None:
    policy = Authorisation("", "local").policy
    assert all(policy.allows("local", verb, "Pod", "shop") for verb in VERBS)
    assert not any(policy.allows("spiffe://x/admin", verb, "Pod", "shop") for verb in VERBS)


def test_remembering_answers_is_bounded() -> None:
    policy = RulePolicy((ADMIN,))
    for number in range(MAX_ANSWERS + 10):
        policy.allows("spiffe://x/admin", "get", "Pod", str(number))
    policy.allows("spiffe://x/admin", "get", "Pod", "x" * 1_000_000)
    assert len(policy._answers) <= MAX_ANSWERS
    assert max(len(each[3]) for each in policy._answers) < 1_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[rule]]", "is not TOML|missing required field"),
        ("[[rule", "is not TOML"),
        ("[[rule]]\nidentities = ['a']\nverbs = ['fly']", "rule 1: verb 'fly'; known: get, list"),
        ("[[rule]]\nidentities = []\nverbs = ['get']", "rule 1: identities: is empty"),
        ("[[rule]]\nidentities = ['a*b']\nverbs = ['get']", r"rule 1: identities: 'a\*b'"),
        ("[[rule]]\nidentities = ['*']\nverbs = ['get']", "alone is everybody"),
        ("[[rule]]\nidentities = ['a']\nverbs = ['get']\nnamespace = ['x']", "unknown field `namespace`"),
        ("[[rules]]\nidentities = ['a']\nverbs = ['get']", "unknown field `rules`"),
        ("[[rule]]\nidentities = 'a'\nverbs = ['get']", "Expected `array`"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, told: str) -> None:
    with pytest.raises(AuthorisationError, match=told) as caught:
        parse(text, "rules.toml")
    assert str(caught.value).startswith("rules.toml: ")


def test_an_empty_file_allows_nothing() -> None:
    assert not parse("", "rules.toml").allows("local", "get", "Pod", "shop")


GET = "[[rule]]\nidentities = ['ann']\nverbs = ['get']\n"


def test_a_change_is_in_force_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "rules.toml", list[str]()
    path.write_text(GET)
    found = Authorisation(str(path), "local", told.append)
    assert found.policy.allows("ann", "get", "Pod", "shop") and not found.refresh()

    path.write_text(GET.replace("get", "list"))
    os.utime(path, ns=(1, 1))
    assert found.refresh() and not found.policy.allows("ann", "get", "Pod", "shop")

    path.write_text("[[rule")
    assert not found.refresh() and not found.refresh()
    assert found.policy.allows("ann", "list", "Pod", "shop")
    path.unlink()
    assert not found.refresh() and found.policy.allows("ann", "list", "Pod", "shop")
    assert len(told) == 3 and "stays in force" in told[1] and "No such file" in told[2]

    path.write_text(GET)
    assert found.refresh() and found.policy.allows("ann", "get", "Pod", "shop")


def test_a_rewritten_file_that_says_the_same_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GET)
    found = Authorisation(str(path), "local")
    path.write_text(GET + "# a comment\n")
    assert not found.refresh()


def test_a_server_does_not_begin_with_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(AuthorisationError, match="No such file"):
        Authorisation(str(tmp_path / "none.toml"), "local")


def test_sources_bound_who_may_sync_and_nothing_else() -> None:
    adapter = Rule(identities=("spiffe://x/a",), verbs=("sync", "get"), namespaces=("a",), sources=("kube-a", "lab-*"))
    policy = RulePolicy((adapter, TEAM, ADMIN))
    assert policy.allows("spiffe://x/a", "sync", "Pod", "a", "kube-a")
    assert policy.allows("spiffe://x/a", "sync", "Pod", "a", "lab-1")
    assert not policy.allows("spiffe://x/a", "sync", "Pod", "a", "kube-b")
    assert not policy.allows("spiffe://x/a", "sync", "Pod", "b", "kube-a")
    assert policy.allows("spiffe://x/a", "get", "Pod", "a")
    assert policy.allows("spiffe://x/admin", "sync", "Pod", "a", "kube-b")
    assert policy.names("spiffe://x/a", "kube-a")
    assert not policy.names("spiffe://x/a", "kube-b")
    assert policy.names("spiffe://x/ci")
    assert not policy.names("spiffe://x/ci", "kube-a"), "it may not sync"
    assert not policy.names("spiffe://x/nobody")
