"""The selection index against plain evaluation, under random edits; its promises about sharing and forgetting."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, Table
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.indexes.selection import BY_POD_WANT, SELECTED, SELECTED_BY, SELECTION_WANT, PodSelection, Selection
from ovnk_core.model.namespace import NAME_LABEL, Namespace
from ovnk_core.model.tables import NAMESPACE, cluster_key
from ovnk_core.terms.label import EVERYTHING, LabelSelector, Requirement, labels, requirement, selector
from ovnk_core.terms.name import NamespacedName

NAMESPACES = ("a", "b", "c")
KEYS = ("app", "tier", "odd")
VALUES = ("x", "y", "z")
FORMS: dict[str, Requirement] = {
    "in one": requirement("app", "In", ["x"]),
    "in two": requirement("app", "In", ["x", "y"]),
    "not in": requirement("app", "NotIn", ["x", "z"]),
    "exists": requirement("tier", "Exists"),
    "does not exist": requirement("tier", "DoesNotExist"),
    "nobody has it": requirement("ghost", "Exists"),
    "in, never seen": requirement("app", "In", ["never"]),
}
PODS: list[LabelSelector] = [
    EVERYTHING,
    *(selector([form]) for form in FORMS.values()),
    selector([FORMS["in two"], FORMS["exists"]]),
    selector([FORMS["not in"], FORMS["does not exist"]]),
    selector([requirement("app", "In", ["x", "y"]), requirement("app", "NotIn", ["y"])]),
]
WIDE: list[LabelSelector] = [
    EVERYTHING,
    selector([requirement("team", "In", ["red"])]),
    selector([requirement("team", "NotIn", ["red"])]),
    selector([requirement("team", "DoesNotExist")]),
    selector([requirement(NAME_LABEL, "In", ["b"])]),
]
SELECTIONS = [PodSelection(namespace=name, pods=pods) for name in NAMESPACES for pods in PODS]
SELECTIONS += [PodSelection(namespaces=wide, pods=pods) for wide in WIDE for pods in PODS]

WANTED = Table[str, tuple[PodSelection, ...]]("wanted")


@rule(driver=WANTED, out=(SELECTION_WANT, BY_POD_WANT))
def want(read: Reader, key: str, selections: tuple[PodSelection, ...]) -> Iterable[Output]:
    """Of four requesters one asks what selects a pod, too."""
    for each in selections:
        yield SELECTION_WANT.member(each, key)
        if key == "policy-3":
            yield BY_POD_WANT.member(each, key)


class Walk:
    """Random endpoints, namespaces and requesters, and what plain evaluation says about them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.engine = Engine((want, Selection), check=True)

    def step(self) -> None:
        with self.engine.transaction() as txn:
            for _ in range(self.random.choice((1, 1, 1, 2, 5))):
                self._edit(txn)

    def _edit(self, txn: Any) -> None:
        rng = self.random
        kind = rng.random()
        if kind < 0.6:
            key = NamespacedName(rng.choice(NAMESPACES), f"pod-{rng.randrange(8)}")
            if rng.random() < 0.25:
                txn.delete(ENDPOINT, key)
            else:
                txn.put(ENDPOINT, key, endpoint(key, {k: rng.choice(VALUES) for k in KEYS if rng.random() < 0.6}))
        elif kind < 0.8:
            name = rng.choice(NAMESPACES)
            if rng.random() < 0.4:
                txn.delete(NAMESPACE, cluster_key(name))
            else:
                team = {"team": rng.choice(("red", "blue"))} if rng.random() < 0.7 else {}
                txn.put(NAMESPACE, cluster_key(name), Namespace(name=name, labels=labels({NAME_LABEL: name, **team})))
        elif rng.random() < 0.3:
            txn.delete(WANTED, f"policy-{rng.randrange(4)}")
        else:
            txn.put(WANTED, f"policy-{rng.randrange(4)}", tuple(rng.sample(SELECTIONS, rng.randint(0, 12))))

    def expected(self) -> dict[PodSelection, set[NamespacedName]]:
        """Every wanted selection that picks anybody -> whom, straight from the API's definition."""
        declared = {key.name: dict(row.labels) for key, row in self.engine.rows(NAMESPACE).items()}
        found: dict[PodSelection, set[NamespacedName]] = {}
        for wanted in self.engine.sets(SELECTION_WANT):
            for key, row in self.engine.rows(ENDPOINT).items():
                of = declared.get(key.namespace, {NAME_LABEL: key.namespace})
                sees = (
                    wanted.namespace == key.namespace if wanted.namespaces is None else accepts(wanted.namespaces, of)
                )
                if sees and accepts(wanted.pods, dict(row.labels)):
                    found.setdefault(wanted, set()).add(key)
        return found

    def actual(self) -> dict[PodSelection, set[NamespacedName]]:
        return {key: set(elements) for key, elements in self.engine.sets(SELECTED).items()}

    def expected_by_pod(self) -> dict[NamespacedName, set[PodSelection]]:
        """The same the other way round, of selections that were asked for so."""
        found: dict[NamespacedName, set[PodSelection]] = {}
        for selection, pods in self.expected().items():
            for pod in pods if self.engine.members(BY_POD_WANT, selection) else ():
                found.setdefault(pod, set()).add(selection)
        return found

    def actual_by_pod(self) -> dict[NamespacedName, set[PodSelection]]:
        return {key: set(elements) for key, elements in self.engine.sets(SELECTED_BY).items()}


def endpoint(key: NamespacedName, of: dict[str, str]) -> Endpoint:
    return Endpoint(key=key, node="n", labels=labels(of), addresses=(), mac="", uid="", ports=())


def accepts(wanted: LabelSelector, of: dict[str, str]) -> bool:
    """Kubernetes' words, spelled out apart from the code under test."""
    for each in wanted.requirements:
        has = each.key in of
        verdict = {
            "In": has and of.get(each.key) in each.values,
            "NotIn": not has or of[each.key] not in each.values,
            "Exists": has,
            "DoesNotExist": not has,
        }[each.operator]
        if not verdict:
            return False
    return True


@pytest.mark.parametrize("seed", range(12))
def test_selection_is_plain_evaluation_after_every_edit(seed: int) -> None:
    walk = Walk(seed)
    for step in range(120):
        walk.step()
        assert walk.actual() == walk.expected(), f"seed {seed}, step {step}"
        assert walk.actual_by_pod() == walk.expected_by_pod(), f"seed {seed}, step {step}"


@pytest.mark.parametrize("seed", range(4))
def test_rebuild_equals_incremental(seed: int) -> None:
    walk = Walk(100 + seed)
    for step in range(60):
        walk.step()
        if step % 10 == 9:
            walk.engine.verify()
            assert not walk.engine.rebuild(), f"seed {seed}, step {step}"
            assert walk.actual() == walk.expected()
            assert walk.actual_by_pod() == walk.expected_by_pod()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", [None, *VALUES])
@pytest.mark.parametrize("after", [None, *VALUES])
def test_every_form_follows_every_change_of_a_value(form: str, before: str | None, after: str | None) -> None:
    """The index looks only at selectors that name the old or the new value: none may be missed."""
    asked, engine = FORMS[form], Engine((want, Selection))
    selection, key = PodSelection(namespace="a", pods=selector([asked])), NamespacedName("a", "pod")
    with engine.transaction() as txn:
        txn.put(WANTED, "policy", (selection,))
        txn.put(ENDPOINT, key, endpoint(key, {} if before is None else {asked.key: before}))
    with engine.transaction() as txn:
        txn.put(ENDPOINT, key, endpoint(key, {} if after is None else {asked.key: after}))
    assert (key in engine.members(SELECTED, selection)) == accepts(
        selection.pods, {} if after is None else {asked.key: after}
    )
    was = accepts(selection.pods, {} if before is None else {asked.key: before})
    assert bool(txn.delta.sets(SELECTED)) == (was != (key in engine.members(SELECTED, selection)))


def test_a_selection_lives_as_long_as_anyone_asks_for_it() -> None:
    engine, key = Engine((want, Selection)), NamespacedName("a", "pod")
    selection = PodSelection(namespace="a", pods=selector([FORMS["in one"]]))
    with engine.transaction() as txn:
        txn.put(ENDPOINT, key, endpoint(key, {"app": "x"}))
        txn.put(WANTED, "one", (selection,))
        txn.put(WANTED, "two", (selection,))
    assert dict(engine.members(SELECTED, selection)) == {key: 1}, "asked twice, answered once"
    with engine.transaction() as txn:
        txn.delete(WANTED, "one")
    assert dict(engine.members(SELECTED, selection)) == {key: 1}
    assert not txn.delta.sets(SELECTED)
    with engine.transaction() as txn:
        txn.delete(WANTED, "two")
    assert selection not in engine.sets(SELECTED)


def test_absent_and_empty_namespace_selectors_differ() -> None:
    engine = Engine((want, Selection))
    own, every = PodSelection(namespace="a"), PodSelection(namespaces=EVERYTHING)
    keys = [NamespacedName(name, "pod") for name in NAMESPACES]
    with engine.transaction() as txn:
        txn.put(WANTED, "policy", (own, every))
        for key in keys:
            txn.put(ENDPOINT, key, endpoint(key, {}))
    assert set(engine.members(SELECTED, own)) == {keys[0]}
    assert set(engine.members(SELECTED, every)) == set(keys)


def test_what_comes_and_goes_leaves_nothing_behind() -> None:
    """Every rollout brings a ``pod-template-hash`` that is never seen again, every tenant a namespace."""
    made: list[Selection] = []

    class Watched(Selection):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    engine = Engine((want, Watched))
    sizes: list[dict[str, int]] = []
    for number in range(5):
        name = f"tenant-{number}"
        selections = tuple(PodSelection(namespace=name, pods=pods) for pods in PODS)
        keys = [NamespacedName(name, f"pod-{each}") for each in range(3)]
        with engine.transaction() as txn:
            txn.put(NAMESPACE, cluster_key(name), Namespace(name=name, labels=labels({NAME_LABEL: name})))
            txn.put(WANTED, name, selections)
            for key in keys:
                txn.put(ENDPOINT, key, endpoint(key, {"app": "x", "hash": f"{number}-{key.name}"}))
        with engine.transaction() as txn:
            txn.delete(NAMESPACE, cluster_key(name))
            txn.delete(WANTED, name)
            for key in keys:
                txn.delete(ENDPOINT, key)
        state = {**vars(made[-1]), **vars(made[-1]._postings)}
        sizes.append({name: len(value) for name, value in state.items() if isinstance(value, dict | list | set)})
    assert sizes[0] == sizes[-1]
    assert sum(sizes[-1].values()) == 2 * len(keys), "three numbers ready to be given out again"
