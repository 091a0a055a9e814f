"""Pages and watches against the plainest model there is: a copy of everything at every revision."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.errors import Compacted
from ovnk_core.keeper.document import Kept, encode, object_key, ref_of
from ovnk_core.keeper.watching import Filter, Happening, KeptWatch, read_page
from ovnk_core.store.entry import Change, Entry, Stored, StoreKey
from ovnk_core.store.history import History
from ovnk_core.terms.label import requirement, selector
from ovnk_core.terms.name import ObjectRef

REFS = [ObjectRef("Pod", namespace, name) for namespace in ("a", "b") for name in ("w", "x", "y", "z")]
REFS += [ObjectRef("Namespace", "", name) for name in ("a", "b")]
OTHER = StoreKey("decision", "Pod", "a", "w")
FILTERS = [
    Filter(),
    Filter(kinds=("Pod",)),
    Filter(namespace="a"),
    Filter(kinds=("Pod",), namespace="b"),
    Filter(kinds=("Pod",), selector=selector([requirement("n", "In", ("0", "1"))])),
]
State = dict[StoreKey, Stored]


def document(ref: ObjectRef, label: int) -> bytes:
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": {"n": str(label)}}
    return encode(Kept(manifest={"kind": ref.kind, "metadata": metadata}))


changes = st.lists(st.tuples(st.sampled_from(REFS), st.none() | st.integers(0, 2)), min_size=1, max_size=6)
walks = st.lists(st.tuples(changes, st.booleans()), min_size=1, max_size=20)


def entry(revision: int, wanted: Any) -> Entry:
    edits, touches_other = wanted
    chosen = {object_key(ref): None if label is None else document(ref, label) for ref, label in edits}
    if touches_other:
        chosen[OTHER] = str(revision).encode()
    return Entry(revision=revision, changes=tuple(Change(key=key, value=value) for key, value in chosen.items()))


def advance(state: State, new: Entry) -> State:
    after = dict(state)
    for change in new.changes:
        before = after.pop(change.key, None)
        if change.value is not None:
            created = before.created if before else new.revision
            after[change.key] = Stored(value=change.value, created=created, modified=new.revision)
    return after


def play(walk: Any) -> tuple[History, list[State]]:
    """The history, and the state at every revision."""
    history, states = History(), [State()]
    for revision, wanted in enumerate(walk, 1):
        new = entry(revision, wanted)
        history.advance(new)
        states.append(advance(states[-1], new))
    return history, states


def listed(state: State, wanted: Filter) -> list[tuple[ObjectRef, int]]:
    found = [
        (ObjectRef(key.kind, key.namespace, key.name), stored)
        for key, stored in sorted(state.items())
        if key.space == "object"
    ]
    return [(ref, stored.modified) for ref, stored in found if wanted.holds(ref) and wanted.accepts(stored)]


@given(walks, st.sampled_from(FILTERS), st.integers(1, 5), st.data())
def test_every_page_of_a_list_shows_the_revision_of_the_first(
    walk: Any, wanted: Filter, limit: int, data: st.DataObject
) -> None:
    """However the reading and the writing are interleaved."""
    history, states = History(), [State()]
    pending = [entry(revision, each) for revision, each in enumerate(walk, 1)]
    for _ in range(data.draw(st.integers(0, len(pending)))):
        states.append(advance(states[-1], pending[0]))
        history.advance(pending.pop(0))
    at, found, token = history.revision, [], ""
    while True:
        page = read_page(history, wanted, limit=limit, token=token)
        assert page.revision == at
        assert len(page.objects) <= limit
        found += [(ref, stored.modified) for ref, stored in page.objects]
        token = page.token
        if not token:
            break
        if pending and data.draw(st.booleans()):
            history.advance(pending.pop(0))
    assert found == listed(states[at], wanted)


@given(walks, st.integers(0, 20))
def test_a_compacted_revision_cannot_be_read_and_a_kept_one_can(walk: Any, until: int) -> None:
    history, states = play(walk)
    history.forget(min(until, history.revision))
    for revision, state in enumerate(states):
        first, last = StoreKey("object", "", "", ""), StoreKey("object", "\x7f", "", "")
        if revision < history.compacted:
            with pytest.raises(Compacted):
                history.page(first, last, revision=revision, limit=100)
        else:
            items, _ = history.page(first, last, revision=revision, limit=100)
            assert dict(items) == {key: stored for key, stored in state.items() if key.space == "object"}


# ------------------------------------------------------------------------------------------- watches


class Feed:
    """A history that grows while watches read it."""

    def __init__(self) -> None:
        self.history = History()
        self.moved = anyio.Event()

    def advance(self, new: Entry) -> None:
        self.history.advance(new)
        self.moved.set()
        self.moved = anyio.Event()

    def watch(self, wanted: Filter, after: int | None) -> KeptWatch:
        return KeptWatch(
            self.history,
            wanted,
            moved=lambda: self.moved,
            in_force=lambda: self.history.revision,
            shown_in=lambda edit: (ref_of(edit.key),) if edit.key == OTHER else (),
            after=after,
            bookmark_s=0.0,
        )


def follow(known: dict[ObjectRef, int], event: Happening) -> None:
    """What a client believes after an event. Fails where the event makes no sense to it."""
    assert event.ref is not None
    assert event.stored is not None
    if event.type == "deleted":
        known.pop(event.ref, None)
    else:
        known[event.ref] = event.stored.modified


@given(walks, st.sampled_from(FILTERS), st.integers(0, 1 << 32))
def test_a_client_that_breaks_off_anywhere_and_resumes_knows_everything(walk: Any, wanted: Filter, seed: int) -> None:
    """One client, reconnecting at random places with the last resume revision it was told; at every bookmark it knows
    exactly the state of that revision, and revisions never go back but to repeat a broken one."""

    async def run() -> None:
        feed, states, chance = Feed(), [State()], random.Random(seed)
        pending = [entry(revision, each) for revision, each in enumerate(walk, 1)]
        known: dict[ObjectRef, int] = {}
        after: int | None = None
        is_listing = False
        while True:
            async with feed.watch(wanted, after) as events:
                if after is None:
                    known.clear()
                    is_listing = True
                reached = after or 0
                while True:
                    event = await anext(events)
                    assert event.type != "resync"
                    if event.type == "synced":
                        is_listing = False
                    elif event.ref is not None:
                        assert is_listing or event.revision >= reached
                        follow(known, event)
                    if not is_listing:
                        reached = event.revision
                        assert event.resume <= event.revision
                        assert event.resume >= (after or 0)
                        after = event.resume
                    if event.type in ("bookmark", "synced"):
                        assert known == dict(listed(states[event.revision], wanted))
                        if event.type == "bookmark" and not pending and event.revision == feed.history.revision:
                            return
                    if pending and chance.random() < 0.5:
                        states.append(advance(states[-1], pending[0]))
                        feed.advance(pending.pop(0))
                    if chance.random() < 0.2:
                        break

    asyncio.run(run())


@given(walks, st.sampled_from(FILTERS))
def test_events_of_a_watch_are_the_changes_each_once_in_order(walk: Any, wanted: Filter) -> None:
    async def run() -> list[tuple[int, str, ObjectRef]]:
        feed = Feed()
        found = []
        async with feed.watch(wanted, 0) as events:
            for revision, each in enumerate(walk, 1):
                feed.advance(entry(revision, each))
            while (event := await anext(events)).type != "bookmark":
                assert event.ref is not None
                found.append((event.revision, event.type, event.ref))
        return found

    expected = []
    history, states = play(walk)
    for revision in range(1, history.revision + 1):
        before, after = (dict(listed(states[at], wanted)) for at in (revision - 1, revision))
        for ref in before.keys() | after.keys():
            if before.get(ref) != after.get(ref):
                kind = "deleted" if ref not in after else "modified" if ref in before else "added"
                expected.append((revision, kind, ref))
        # A decision shows in its pod, unless the pod itself changed with it or since.
        pod, latest = ref_of(OTHER), dict(listed(states[-1], wanted))
        is_other = states[revision].get(OTHER) != states[revision - 1].get(OTHER)
        if is_other and latest.get(pod, revision) < revision:
            expected.append((revision, "modified", pod))
    found = asyncio.run(run())
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    assert sorted(found) == sorted(expected)
