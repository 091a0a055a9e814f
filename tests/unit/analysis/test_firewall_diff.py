"""What an edit changes: lists, connections (held to brute force) and rows (held to the reconcile itself)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest

from ovnk_core.analysis.connections import Connection
from ovnk_core.analysis.diff import ClusterDiff, diff_clusters, edited
from ovnk_core.analysis.firewall.points import kept
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.question import Question
from ovnk_core.trace.scene import Scene
from tests.kit.egress_firewall import LAB, OTHER_NODE, OWN_NODE, SHOP, landscape, rules
from tests.kit.manifest import policy

NB = parse_schema(SCHEMA)
Manifest = dict[str, Any]


def cluster(*manifests: Manifest) -> Cluster:
    made = Cluster(check=True)
    made.replace(parse_objects([*landscape(4), *manifests]))
    return made


def diff(before: Sequence[Manifest], after: Sequence[Manifest]) -> ClusterDiff:
    old = cluster(*before)
    return diff_clusters(old, edited(old, parse_objects([*landscape(4), *after])), NB)


def changes(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, int | None, int | None]]:
    return [(each.change, each.before, each.after) for each in diff([rules(*before)], [rules(*after)]).rules]


def connections(before: Sequence[str], after: Sequence[str]) -> tuple[Connection, ...]:
    return diff([rules(*before)], [rules(*after)]).connections


# ------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize("seed", range(200))
def test_as_many_rules_stay_as_can(seed: int) -> None:
    rng = random.Random(seed)
    before, after = ([rng.choice("abcde") for _ in range(rng.randint(0, 6))] for _ in range(2))
    stayed, moved = kept(before, after)
    pairs = sorted((*stayed, *moved))
    assert all(before[one] == after[two] for one, two in pairs)
    assert len({one for one, _ in pairs}) == len({two for _, two in pairs}) == len(pairs)
    assert len(pairs) == sum(min(before.count(each), after.count(each)) for each in "abcde")
    assert all(one[1] < two[1] for one, two in pairwise(stayed))
    longest = max(
        size
        for size in range(len(pairs) + 1)
        for chosen in combinations(pairs, size)
        if all(one[1] < two[1] for one, two in pairwise(chosen))
    )
    assert len(stayed) == longest


def test_added_removed_and_moved() -> None:
    assert changes(["Allow 1.1.1.1", "Deny 2.2.2.2"], ["Deny 2.2.2.2", "Deny 3.3.3.3"]) == [
        ("removed", 0, None),
        ("added", None, 1),
    ]
    before = ["Allow 1.1.1.1", "Deny 2.2.2.2", "Deny 3.3.3.3"]
    assert changes(before, [*before[1:], before[0]]) == [("moved", 0, 2)]


def test_dead_and_alive() -> None:
    found = diff([rules("Deny 1.1.1.1")], [rules("Allow 1.1.0.0/16", "Deny 1.1.1.1")]).rules
    assert [(each.change, each.before, each.after, each.hidden_by) for each in found] == [
        ("added", None, 0, ()),
        ("dead", 0, 1, (0,)),
    ]
    assert found[1].source.endswith("/spec/egress/1")
    assert changes(["Allow 1.1.0.0/16", "Deny 1.1.1.1"], ["Deny 1.1.1.1"]) == [("removed", 0, None), ("alive", 1, 0)]


def test_the_same_differs_in_nothing() -> None:
    assert diff([rules("Deny 1.1.1.1")], [rules("Deny 1.1.1.1")]).is_empty
    assert diff([], []).is_empty


# ------------------------------------------------------------------------------------------- connections


def test_an_example_names_the_rules_on_both_sides_and_the_pods() -> None:
    (each,) = connections(["Allow 1.1.1.0/24 TCP/443", "Deny 0.0.0.0/0"], ["Deny 0.0.0.0/0"])
    assert (each.change, each.namespace, each.direction, each.pods) == ("closed", SHOP, "Egress", 2)
    assert (str(each.target), each.protocol, each.port) == ("1.1.1.0", "tcp", 443)
    assert (each.before.rule, each.after.rule) == (0, 0)
    assert (each.before.verdict, each.after.verdict) == ("allow", "drop")


def test_a_rule_that_changes_nothing_opens_and_closes_nothing() -> None:
    found = diff([rules("Deny 1.1.0.0/16")], [rules("Deny 1.1.0.0/16", "Deny 1.1.1.1")])
    assert [each.change for each in found.rules] == ["added", "dead"]
    assert found.connections == ()


def test_a_policy_that_denies_anyway_leaves_nothing_to_open() -> None:
    sealed = policy({"podSelector": {}, "policyTypes": ["Egress"]}, "sealed", SHOP)
    assert not diff([sealed, rules("Deny 0.0.0.0/0")], [sealed]).connections
    assert diff([rules("Deny 0.0.0.0/0")], []).connections


def test_dns_to_the_pods_own_node_never_closes() -> None:
    found = connections([], [f"Deny {OWN_NODE} UDP/53"])
    assert [(each.change, each.pods, str(each.source)) for each in found] == [("closed", 1, f"{SHOP}/api")]
    assert len(connections([], [f"Deny {OTHER_NODE} UDP/54"])) == 1


def test_policies_between_pods_and_to_blocks() -> None:
    block = {"to": [{"ipBlock": {"cidr": "1.1.0.0/16", "except": ["1.1.1.0/24"]}}], "ports": [{"port": 443}]}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [block]}
    wider = {**spec, "egress": [{**block, "to": [{"ipBlock": {"cidr": "1.1.0.0/16"}}]}]}
    found = diff([policy(spec, "p", SHOP)], [policy(wider, "p", SHOP)]).connections
    assert [(each.change, str(each.target), each.port, each.pods) for each in found] == [("opened", "1.1.1.0", 443, 2)]
    closed = diff([], [policy({"podSelector": {}}, "p", SHOP)]).connections
    assert {(each.change, each.direction) for each in closed} == {("closed", "Ingress")}
    assert any(each.source == NamespacedName(LAB, "web") for each in closed)


LISTS = (
    "Allow 1.1.1.0/24", "Deny 1.1.0.0/16", "Deny 0.0.0.0/0", "Allow 1.1.1.128/25 TCP/443", "Deny 1.1.1.7 TCP",
    "Allow 0.0.0.0/0 UDP/53", "Deny 100.64.0.0/16", "Allow nodes:", "Deny 1.1.1.0/24 TCP/80 UDP", "Deny 10.0.0.0/8",
)  # fmt: skip
TARGETS = ("1.1.1.0", "1.1.1.7", "1.1.1.8", "1.1.1.128", "1.1.2.0", "1.2.0.0", "9.9.9.9", "100.64.0.9", "10.9.9.9")
ASKED = [(protocol, port) for protocol in ("tcp", "udp") for port in (53, 80, 443, 9)]


@pytest.mark.parametrize("seed", range(40))
def test_connections_are_what_brute_force_says(seed: int) -> None:
    rng = random.Random(seed)
    lists = [rng.sample(LISTS, rng.randint(0, 5)) for _ in range(2)]
    old = cluster(rules(*lists[0]))
    new = edited(old, parse_objects([*landscape(4), rules(*lists[1])]))
    found = diff_clusters(old, new, NB).connections
    tracers = [FastTracer(Scene(each)) for each in (old, new)]

    def verdicts(pod: str, target: str, protocol: Any, port: int | None) -> tuple[str, str]:
        asked = Question(source=NamespacedName(SHOP, pod), target=parse_address(target), protocol=protocol, port=port)
        one, two = (tracer.answer(asked).verdict for tracer in tracers)
        return one, two

    for each in found:
        assert isinstance(each.source, NamespacedName)
        one, two = verdicts(each.source.name, str(each.target), each.protocol, each.port)
        assert (one, two) == (("drop", "allow") if each.change == "opened" else ("allow", "drop"))
    flips = {
        ("opened" if two == "allow" else "closed", pod)
        for pod in ("web", "api")
        for target in (*TARGETS, OWN_NODE, OTHER_NODE)
        for protocol, port in (*ASKED, ("icmp", None))
        for one, two in [verdicts(pod, target, protocol, port)]
        if one != two
    }
    assert {change for change, _ in flips} <= {each.change for each in found}
    if not found:
        assert not flips


# ------------------------------------------------------------------------------------------- rows


def test_rows_are_those_of_the_transaction_that_would_follow() -> None:
    before = ["Allow 1.1.1.1", "Allow 1.1.1.2", "Deny 0.0.0.0/0"]
    found = diff([rules(*before)], [rules("Allow 1.1.1.3", *before)])
    assert ("Address_Set", "mutate") in {(each.table, each.verb) for each in found.rows}
    assert not [each for each in found.rows if each.table == "ACL"]
    gone = diff([rules("Deny 1.1.1.1")], [])
    assert {("ACL", "delete"), ("Port_Group", "delete")} <= {(each.table, each.verb) for each in gone.rows}


def test_a_refused_edit_changes_no_rule_and_no_connection() -> None:
    found = diff([rules("Deny 1.1.1.1")], [rules("Deny 1.1.1.1/99")])
    assert found.is_empty
