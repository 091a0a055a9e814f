"""The judge of histories finds what it is there to find."""

from __future__ import annotations

import pytest

from ovnk_core.store.entry import Change, Entry, StoreKey
from ovnk_core.terms.name import ObjectRef
from tests.kit.histories import Seen, Write, judge_watch, judge_writes, truth_of

A, B = ObjectRef("Pod", "ns", "a"), ObjectRef("Pod", "ns", "b")


def _entry(revision: int, *changes: tuple[ObjectRef, bytes | None]) -> Entry:
    keys = [(StoreKey("object", ref.kind, ref.namespace, ref.name), value) for ref, value in changes]
    return Entry(revision=revision, changes=tuple(Change(key=key, value=value) for key, value in keys))


TRUTH = truth_of(
    [
        _entry(1, (A, b"1")),
        _entry(2, (A, b"2"), (B, b"1")),
        _entry(3, (B, None)),
        _entry(4, (A, b"4"), (B, b"2")),
        _entry(5, (A, None), (ObjectRef("Pod", "ns", "never"), None)),
    ]
)
SNAPSHOT = [
    Seen(type="opened", resume=-1),
    Seen(type="added", revision=2, ref=A),
    Seen(type="added", revision=2, ref=B),
    Seen(type="synced", revision=2),
]
CHANGES = [
    Seen(type="deleted", revision=3, resume=3, ref=B),
    Seen(type="modified", revision=4, resume=3, ref=A),
    Seen(type="added", revision=4, resume=4, ref=B),
    Seen(type="deleted", revision=5, resume=5, ref=A),
]
GOOD = [*SNAPSHOT, *CHANGES]


def test_a_good_record_has_no_fault() -> None:
    assert not judge_watch(GOOD, TRUTH, 5)
    resumed = [*GOOD[:5], Seen(type="opened", resume=3), *GOOD[5:]]
    assert not judge_watch(resumed, TRUTH, 5)
    again = [*GOOD[:5], Seen(type="resync", revision=5), Seen(type="opened", resume=-1)]
    again += [Seen(type="added", revision=4, ref=B), Seen(type="synced", revision=5)]
    assert not judge_watch(again, TRUTH, 5)


def test_what_a_later_snapshot_no_longer_shows_was_not_missed() -> None:
    """B was gone at revision 3, where a slow watcher began anew; what comes after is judged from there."""
    later = [Seen(type="resync", revision=3), Seen(type="opened", resume=-1)]
    later += [Seen(type="added", revision=2, ref=A), Seen(type="synced", revision=3)]
    assert not judge_watch([*SNAPSHOT, *later, *CHANGES[1:]], TRUTH, 5)
    for index in range(1, len(CHANGES)):
        missing = [*SNAPSHOT, *later, *CHANGES[1:index], *CHANGES[index + 1 :]]
        assert judge_watch(missing, TRUTH, 5), CHANGES[index]
    unheard = [*SNAPSHOT, *later, CHANGES[0], *CHANGES[1:]]
    assert judge_watch(unheard, TRUTH, 5), "the snapshot had told of it"


@pytest.mark.parametrize("index", range(len(CHANGES)))
def test_a_missing_change_is_found(index: int) -> None:
    assert judge_watch([*SNAPSHOT, *CHANGES[:index], *CHANGES[index + 1 :]], TRUTH, 5)


@pytest.mark.parametrize("index", range(len(CHANGES)))
def test_a_repeated_change_is_found(index: int) -> None:
    assert judge_watch([*SNAPSHOT, *CHANGES[: index + 1], *CHANGES[index:]], TRUTH, 5)


def test_a_swapped_pair_a_wrong_type_and_a_wrong_snapshot_are_found() -> None:
    assert judge_watch([*SNAPSHOT, CHANGES[1], CHANGES[0], *CHANGES[2:]], TRUTH, 5)
    assert judge_watch([*SNAPSHOT, Seen(type="modified", revision=3, ref=B), *CHANGES[1:]], TRUTH, 5)
    assert judge_watch([SNAPSHOT[0], SNAPSHOT[1], SNAPSHOT[3], *CHANGES], TRUTH, 5)
    assert judge_watch([*SNAPSHOT, *CHANGES[:2], Seen(type="bookmark", revision=3), *CHANGES[2:]], TRUTH, 5)


def _write(revision: int, begun_s: float, ended_s: float, based_on: int = 0) -> Write:
    return Write(writer=0, ref=A, begun_s=begun_s, ended_s=ended_s, revision=revision, based_on=based_on)


def test_writes_that_are_not_linearizable_are_found() -> None:
    assert not judge_writes([_write(1, 0, 3), _write(2, 1, 2, based_on=1), _write(4, 2.5, 4, based_on=2)], TRUTH)
    assert judge_writes([_write(2, 0, 1), _write(2, 0, 1)], TRUTH), "one revision for two"
    assert judge_writes([_write(3, 0, 1)], TRUTH), "not in the log"
    assert judge_writes([_write(4, 0, 1, based_on=1)], TRUTH), "a lost update"
    assert judge_writes([_write(2, 5, 6), _write(4, 0, 1)], TRUTH), "ended before an earlier one began"
