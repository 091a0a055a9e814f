"""The law: rows after any walk of edits are the rows of a fresh start on the same objects and decisions.

Random walks with the five expanders of Felix (each changes how the same edits arrive, never what they say), twins of
both engines after every step while the cluster is small, and processes with different hash seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.kit.questions import scaled
from tests.kit.random_cluster import Edit, RandomCluster, split, squash
from tests.kit.walk import Walker, assert_same_rows

SMALL_ROWS, EVERY = 200, 50
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", range(scaled(8)))
def test_every_step_equals_a_twin_from_scratch(seed: int) -> None:
    made = RandomCluster(seed, pods=(0, 4), policies=(0, 3), has_egress_routers=True)
    walker = Walker(made.manifests())
    for step in range(120):
        edit = made.reconfigure() if step % 37 == 36 else made.mutate()
        walker.apply(edit)
        if walker.size <= SMALL_ROWS or step % EVERY == EVERY - 1:
            _verify(walker, f"seed {seed}, step {step}, {edit}")
    _verify(walker, f"seed {seed}, end")
    _assert_fresh_start_agrees(walker, made, f"seed {seed}")


@pytest.mark.parametrize("seed", range(100, 100 + scaled(4)))
def test_long_walks_of_large_clusters(seed: int) -> None:
    made = RandomCluster(seed, has_egress_routers=True)
    walker = Walker(made.manifests(), check=False)
    for step in range(200):
        walker.apply(made.mutate())
        if step % EVERY == EVERY - 1:
            _verify(walker, f"seed {seed}, step {step}")
    _assert_fresh_start_agrees(walker, made, f"seed {seed}")


def _verify(walker: Walker, note: str) -> None:
    try:
        walker.verify()
    except Exception as error:
        raise AssertionError(f"{note}: {error}") from error


def _assert_fresh_start_agrees(walker: Walker, made: RandomCluster, note: str) -> None:
    """Objects and decisions alone: a restart that has both gives the same rows and decides nothing anew."""
    fresh = Walker(made.manifests(), decisions=walker.cluster.decisions)
    assert fresh.cluster.decisions == walker.cluster.decisions, note
    assert_same_rows(walker.cluster, fresh.cluster, note)


# ------------------------------------------------------------------------------------------- expanders


def _reversed_order(edits: Sequence[Edit]) -> list[Edit]:
    """The last word on each object, told backwards."""
    return list(reversed(split(squash(edits))))


def _duplicated(edits: Sequence[Edit]) -> list[Edit]:
    return [each for edit in edits for each in (edit, edit)]


def _split(edits: Sequence[Edit]) -> list[Edit]:
    return [step for edit in edits for step in split(edit)]


def _squashed(edits: Sequence[Edit]) -> list[Edit]:
    return [squash(edits)]


def _with_empties(edits: Sequence[Edit]) -> list[Edit]:
    return [each for edit in edits for each in (Edit(), edit, Edit())]


EXPANDERS: tuple[Callable[[Sequence[Edit]], list[Edit]], ...] = (
    _reversed_order,
    _duplicated,
    _split,
    _squashed,
    _with_empties,
)


@pytest.mark.parametrize("expand", EXPANDERS, ids=lambda expand: expand.__name__.strip("_"))
@pytest.mark.parametrize("seed", range(200, 200 + scaled(5)))
def test_how_edits_arrive_does_not_matter(seed: int, expand: Callable[[Sequence[Edit]], list[Edit]]) -> None:
    """Objects carry their addresses here: left to be decided, who comes first may be given another one. Services may
    state the same address and port: which of them has it does not depend on who came first."""
    note = f"seed {seed}, {expand.__name__}"
    made = RandomCluster(seed, pods=(3, 20), policies=(0, 8), is_pinned=True, has_egress_routers=True)
    edits = [Edit(put=tuple(made.manifests())), *(made.mutate() for _ in range(40))]
    plain, expanded = Walker(), Walker()
    for edit in edits:
        plain.apply(edit)
    for edit in expand(edits):
        expanded.apply(edit)
    assert {error.kind for error in plain.cluster.errors} <= {"Service"}, note
    assert plain.cluster.problems.keys() == expanded.cluster.problems.keys(), note
    _verify(expanded, note)
    assert_same_rows(plain.cluster, expanded.cluster, note)


@pytest.mark.parametrize("seed", range(250, 250 + scaled(4)))
def test_a_walk_with_refused_policies_survives_a_restart(seed: int) -> None:
    """Which version of a refused policy is in force is a decision; with it a fresh start gives the same rows."""
    made = RandomCluster(seed, pods=(3, 20), policies=(2, 8), has_egress_routers=True)
    walker = Walker(made.manifests())
    for step in range(60):
        walker.apply(made.spoil() if step % 5 == 4 else made.mutate())
    assert walker.cluster.refused, f"seed {seed}: nothing was refused"
    _verify(walker, f"seed {seed}")
    _assert_fresh_start_agrees(walker, made, f"seed {seed}")


# ------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("seed", range(300, 300 + scaled(2)))
def test_hash_seeds_do_not_matter(seed: int) -> None:
    """Two processes whose sets and dicts iterate differently print the same rows and flows."""
    program = (
        "from tests.kit.random_cluster import RandomCluster\n"
        "from tests.kit.walk import Walker, digest\n"
        f"made = RandomCluster({seed}, has_egress_routers=True)\n"
        "walker = Walker(made.manifests(), check=False)\n"
        "for _ in range(30): walker.apply(made.mutate())\n"
        "print(digest(walker))\n"
    )
    digests = set()
    for hash_seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1, f"seed {seed}"
