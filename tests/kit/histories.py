"""Recorded client histories, and what is wrong with them.

The truth is the log of the store: which key changed at which revision. A watcher's record is judged against it: nothing
missing, nothing twice, nothing out of order, whatever broke in between. Writers' records are judged for linearizability
per object: every success has a revision of its own, a success that was seen before another began came first in the log,
and a read-modify-write was based on the very state it replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ovnk_core.store.entry import Entry
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value


class Seen(Value, frozen=True, kw_only=True):
    """One event as a watcher got it. ``type``: added, modified, deleted, synced, bookmark, resync, or ``opened`` where
    the watcher (re)connected: then ``resume`` is the revision it asked to go on after, -1 for a snapshot."""

    type: str
    revision: int = 0
    resume: int = 0
    ref: ObjectRef | None = None


class Write(Value, frozen=True, kw_only=True):
    """One acknowledged change of one object. Times are seconds of one clock; ``based_on`` is the revision of the state
    that was read, 0 for none."""

    writer: int
    ref: ObjectRef
    begun_s: float
    ended_s: float
    revision: int
    based_on: int = 0


Truth = dict[ObjectRef, list[tuple[int, bool]]]
"""By object: (revision, whether it is there after), in order."""


def truth_of(entries: Iterable[Entry]) -> Truth:
    """The log's changes of objects, without those that change nothing."""
    found: Truth = defaultdict(list)
    values: dict[ObjectRef, bytes | None] = {}
    for entry in entries:
        for change in entry.changes:
            if change.key.space != "object":
                continue
            ref = ObjectRef(change.key.kind, change.key.namespace, change.key.name)
            if change.value is None and values.get(ref) is None:
                continue
            values[ref] = change.value
            found[ref].append((entry.revision, change.value is not None))
    return dict(found)


def judge_watch(seen: Sequence[Seen], truth: Truth, until: int) -> list[str]:
    """What is wrong with one watcher's record, given that it watched all objects up to revision ``until``."""
    faults: list[str] = []
    state: dict[ObjectRef, int] = {}
    listed = 0
    expected = {ref: list(changes) for ref, changes in truth.items()}
    position, is_snapshot, snapshot = 0, False, set[ObjectRef]()
    asked = -1
    for event in seen:
        match event.type:
            case "opened":
                asked, is_snapshot = event.resume, event.resume < 0
                snapshot = set()
                position = max(asked, 0)
            case "added" | "modified" | "deleted" if is_snapshot:
                assert event.ref is not None
                if event.type != "added":
                    faults.append(f"{event.type} {event.ref} within a snapshot")
                snapshot.add(event.ref)
                state[event.ref] = event.revision
            case "synced":
                faults += _judge_snapshot(snapshot, state, truth, event.revision)
                is_snapshot, position, listed = False, event.revision, event.revision
                state = {ref: state[ref] for ref in snapshot}
            case "added" | "modified" | "deleted":
                assert event.ref is not None
                faults += _judge_change(event, state.get(event.ref, listed), expected, position)
                position = event.revision
                state[event.ref] = event.revision
            case "bookmark":
                if event.revision < position:
                    faults.append(f"bookmark {event.revision} after {position}")
                position = event.revision
            case "resync":
                state = {}
            case _:
                faults.append(f"unknown event {event.type}")
    return faults + _judge_end(state, listed, truth, until)


def _judge_snapshot(snapshot: set[ObjectRef], state: dict[ObjectRef, int], truth: Truth, revision: int) -> list[str]:
    faults: list[str] = []
    for ref, changes in truth.items():
        last = [change for change in changes if change[0] <= revision][-1:]
        is_there = bool(last and last[0][1])
        if is_there != (ref in snapshot):
            faults.append(f"snapshot at {revision}: {ref} {'missing' if is_there else 'should not be there'}")
        elif is_there and state[ref] != last[0][0]:
            faults.append(f"snapshot at {revision}: {ref} is of {state[ref]}, not {last[0][0]}")
    return faults


def _judge_change(event: Seen, known: int, expected: Truth, position: int) -> list[str]:
    """``known``: the object's revision this watcher had; of what a snapshot did not show, the snapshot's."""
    assert event.ref is not None
    faults: list[str] = []
    if event.revision < position:
        faults.append(f"{event.ref}: revision {event.revision} after {position}")
    following = [change for change in expected.get(event.ref, ()) if change[0] > known]
    if event.revision <= known:
        faults.append(f"{event.ref}: revision {event.revision} twice (had {known})")
    elif not following or following[0][0] != event.revision:
        wanted = following[0][0] if following else "nothing"
        faults.append(f"{event.ref}: {event.revision} came, {wanted} was next after {known}")
    elif following[0][1] == (event.type == "deleted"):
        faults.append(f"{event.ref}: {event.type} at {event.revision} is not what happened")
    return faults


def _judge_end(state: dict[ObjectRef, int], listed: int, truth: Truth, until: int) -> list[str]:
    faults: list[str] = []
    for ref, changes in truth.items():
        last = next((revision for revision, _ in reversed(changes) if revision <= until), 0)
        known = state.get(ref, listed)
        if last > known:
            faults.append(f"{ref}: the change of {last} never came (had {known})")
    return faults


def judge_writes(writes: Sequence[Write], truth: Truth) -> list[str]:
    """What is wrong with acknowledged writes, object by object."""
    faults: list[str] = []
    by_ref: dict[ObjectRef, list[Write]] = defaultdict(list)
    for write in writes:
        by_ref[write.ref].append(write)
    for ref, own in by_ref.items():
        own.sort(key=lambda write: write.revision)
        history = [revision for revision, _ in truth.get(ref, ())]
        latest_begin = 0.0
        for before, write in zip((None, *own), own, strict=False):
            if before is not None and before.revision == write.revision:
                faults.append(f"{ref}: two writers got revision {write.revision}")
            if write.revision not in history:
                faults.append(f"{ref}: acknowledged revision {write.revision} is not in the log")
                continue
            index = history.index(write.revision)
            replaced = history[index - 1] if index else 0
            if write.based_on and write.based_on != replaced:
                faults.append(f"{ref}: {write.revision} was based on {write.based_on} but replaced {replaced}")
            if write.ended_s < latest_begin:
                faults.append(f"{ref}: {write.revision} had ended before an earlier revision began")
            latest_begin = max(latest_begin, write.begun_s)
    return faults
