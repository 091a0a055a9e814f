"""``balanced`` against every possible state of small cases: as even as can be, with the fewest moves."""

from __future__ import annotations

import random
from itertools import product

import pytest

from ovnk_core.allocate import balance
from ovnk_core.allocate.balance import balanced
from tests.kit.questions import scaled

Case = tuple[dict[str, int], list[int], list[str], list[list[str]]]


def a_case(rng: random.Random) -> Case:
    """Loads that sit still, groups, where each item is, and where it may be."""
    nodes = [f"n{at}" for at in range(rng.randint(1, 4))]
    groups, at, choices = list[int](), list[str](), list[list[str]]()
    for _ in range(rng.randint(0, 6)):
        group = rng.randrange(4)
        free = [node for node in nodes if all((group, node) != pair for pair in zip(groups, at, strict=True))]
        may = sorted(rng.sample(nodes, rng.randint(1, len(nodes))))
        fitting = [node for node in may if node in free]
        if fitting:
            groups.append(group)
            at.append(rng.choice(fitting[:2]))
            choices.append(may)
    return {node: rng.choice((0, 0, 0, 1, 3)) for node in nodes}, groups, at, choices


def cost(case: Case, state: tuple[str, ...]) -> tuple[int, int]:
    still, _, at, _ = case
    loads = {node: still[node] + state.count(node) for node in still}
    return sum(load * load for load in loads.values()), sum(a != b for a, b in zip(state, at, strict=True))


@pytest.mark.parametrize("seed", range(scaled(20)))
def test_it_is_the_best_of_all_states(seed: int) -> None:
    rng, moved = random.Random(seed), 0
    for _ in range(40):
        case = still, groups, at, choices = a_case(rng)
        loads = {node: still[node] + at.count(node) for node in still}
        found = balanced(loads, groups, at, choices)
        state = tuple(found.get(item, node) for item, node in enumerate(at))
        assert all(node in choices[item] for item, node in enumerate(state)), case
        assert all(state[item] != at[item] for item in found), case
        assert len(set(zip(groups, state, strict=True))) == len(state), case
        best = min(
            cost(case, other) for other in product(*choices) if len(set(zip(groups, other, strict=True))) == len(other)
        )
        assert cost(case, state) == best, case
        moved += len(found)
    assert moved, "nothing ever moved"


def test_labels_that_came_late_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 objects of two addresses on the first two of 100 nodes: counting shows that the result is the best."""

    def search(edges: object) -> list[object]:
        raise AssertionError("cycles were looked for")

    monkeypatch.setattr(balance, "_negative_cycle", search)
    nodes = [f"n{at:03}" for at in range(100)]
    groups, at = [item // 2 for item in range(2_000)], [nodes[item % 2] for item in range(2_000)]
    loads = {node: 1_000 if node in nodes[:2] else 0 for node in nodes}
    found = balanced(loads, groups, at, [nodes] * 2_000)
    state = [found.get(item, node) for item, node in enumerate(at)]
    assert {state.count(node) for node in nodes} == {20} and len(found) == 2_000 - 2 * 20
    assert len(set(zip(groups, state, strict=True))) == 2_000
