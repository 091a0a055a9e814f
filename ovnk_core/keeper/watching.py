"""Reading what is kept: pages of one snapshot, and watches without gaps.

Both read the history, never the engine. A watch is a position in it: it is sent a snapshot, ``synced``, then every
change in revision order, each once. A reader that falls too far behind is told to start over and holds nothing up.

A watch also tells of a change that shows in an object's status only, such as the address that was decided for a pod:
``modified``, at the revision of that change. Statuses are of the moment of reading, so where the object itself changed
later, that later event tells both.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import msgspec

from ovnk_core.errors import Compacted, InFuture, NotFound, SchemaError, StoreUnavailable
from ovnk_core.keeper.document import decode, object_key, ref_of
from ovnk_core.model.tables import OBJECT_TABLES
from ovnk_core.store.entry import Space, Stored, StoreKey
from ovnk_core.store.history import Edit, History
from ovnk_core.terms.label import EVERYTHING, LabelSelector
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

MAX_LAG = 10_000
"""Changes a watch may fall behind before it has to start over."""
SLICE = 500
"""Objects looked at before the loop gets a turn; also the least a page looks at."""
CATCH_UP_S = 5.0
"""How long to wait for a revision that another server told of."""
Visible = Callable[[ObjectRef], bool]
"""Whether a reader may know of an object: the same for all objects of a kind in a namespace."""


class FieldTest(Value, frozen=True, kw_only=True):
    """Whether the field at a dotted ``path`` has this ``text``, or (``is_equal`` False) another; absent is empty."""

    path: str
    text: str
    is_equal: bool = True

    def holds(self, manifest: Mapping[str, Any]) -> bool:
        return (_field(manifest, self.path) == self.text) is self.is_equal


class Filter(Value, frozen=True, kw_only=True):
    """Which objects: ``kinds`` and ``name`` empty for all, ``namespace`` None for all. ``spaces``: accepted ones,
    refused ones, or one after the other. ``shown``: tests of the objects as they are answered, which whoever answers
    has to make; here they are part of the question."""

    kinds: tuple[str, ...] = ()
    namespace: str | None = None
    name: str = ""
    selector: LabelSelector = EVERYTHING
    fields: tuple[FieldTest, ...] = ()
    shown: tuple[FieldTest, ...] = ()
    spaces: tuple[Space, ...] = ("object",)

    def checked(self) -> Self:
        """Itself. Raises NotFound for a kind there is not."""
        unknown = [kind for kind in self.kinds if kind not in OBJECT_TABLES]
        if unknown:
            raise NotFound(f"no kind {', '.join(unknown)}; known: {', '.join(OBJECT_TABLES)}")
        return self

    def holds(self, ref: ObjectRef) -> bool:
        """By name alone."""
        is_there = (not self.kinds or ref.kind in self.kinds) and self.namespace in (None, ref.namespace)
        return is_there and self.name in ("", ref.name)

    def accepts(self, stored: Stored) -> bool:
        """By content alone, which is not read where nothing is asked of it."""
        if not self.selector.requirements and not self.fields:
            return True
        manifest = decode(stored.value).manifest
        if not self.selector.matches(manifest["metadata"].get("labels") or {}):
            return False
        return all(test.holds(manifest) for test in self.fields)

    def ranges(self) -> Iterator[tuple[StoreKey, StoreKey]]:
        """Where such objects are kept, in the order they are listed."""
        for space in self.spaces:
            for kind in sorted(self.kinds or OBJECT_TABLES):
                if self.namespace is None:
                    yield StoreKey(space, kind, "", ""), StoreKey(space, kind + "\0", "", "")
                else:
                    name = self.namespace
                    yield StoreKey(space, kind, name, ""), StoreKey(space, kind, name + "\0", "")


def _field(manifest: Mapping[str, Any], path: str) -> str:
    found: Any = manifest
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, bool):
        return str(found).lower()
    return found if isinstance(found, str) else str(found) if isinstance(found, int | float) else ""


# ------------------------------------------------------------------------------------------------ pages


class Page(Value, frozen=True, kw_only=True):
    """Objects of one revision; ``token`` continues, empty at the end. A page may be short, even empty, and go on."""

    revision: int
    objects: tuple[tuple[ObjectRef, Stored], ...]
    token: str = ""


class _Token(Value, frozen=True, kw_only=True):
    """``key``: of the last object that was looked at, which its reader may know of: anybody can read a token."""

    revision: int
    key: StoreKey
    asked: str


def read_page(history: History, wanted: Filter, *, limit: int, token: str = "", visible: Visible | None = None) -> Page:
    """The next at most ``limit`` objects. Looks at a bounded number of those that are ``visible``, so a rare match may
    take several pages. Others cost nothing but a step for each of their namespaces, and no page ends at one.

    Raises SchemaError for a token that is not ours or of another question, Compacted for one that is too old, and
    StoreUnavailable for one of a revision that has not arrived here yet.
    """
    asked = _fingerprint(wanted)
    start = _read_token(token, asked) if token else None
    revision = start.revision if start else history.revision
    if revision > history.revision:
        raise StoreUnavailable(f"revision {revision} has not arrived at this server, which is at {history.revision}")
    found: list[tuple[ObjectRef, Stored]] = []
    budget, at = max(4 * limit, SLICE), start.key if start else None
    for key, stored in _known(history, wanted, revision=revision, after=at, visible=visible):
        ref = ref_of(key)
        is_match = wanted.holds(ref) and wanted.accepts(stored)
        if not budget or (is_match and len(found) == limit):
            assert at is not None
            return _page(revision, found, at, asked)
        if is_match:
            found.append((ref, stored))
        budget, at = budget - 1, key
    return Page(revision=revision, objects=tuple(found))


def _known(
    history: History, wanted: Filter, *, revision: int, after: StoreKey | None, visible: Visible | None
) -> Iterator[tuple[StoreKey, Stored]]:
    """Objects in the ranges of a filter that a reader may know of."""

    def skip(key: StoreKey) -> StoreKey | None:
        is_known = visible is None or visible(ref_of(key))
        return None if is_known else StoreKey(key.space, key.kind, key.namespace + "\0", "")

    for first, last in wanted.ranges():
        begin = (
            first
            if after is None
            else max(first, StoreKey(after.space, after.kind, after.namespace, after.name + "\0"))
        )
        if begin < last:
            yield from history.walk(begin, last, revision=revision, skip=skip)


def _page(revision: int, found: list[tuple[ObjectRef, Stored]], at: StoreKey, asked: str) -> Page:
    token = _Token(revision=revision, key=at, asked=asked)
    text = urlsafe_b64encode(msgspec.json.encode(token)).decode()
    return Page(revision=revision, objects=tuple(found), token=text)


def _read_token(text: str, asked: str) -> _Token:
    try:
        token = msgspec.json.decode(urlsafe_b64decode(text.encode()), type=_Token)
    except ValueError:
        token = None
    if token is None or token.asked != asked:
        fix = "take the token of the page before, and ask the same question"
        raise SchemaError("not a token of this list", path="page_token", value=text[:40], fix=fix)
    return token


def _fingerprint(wanted: Filter) -> str:
    return sha256(msgspec.json.encode(wanted)).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ watches


class Happening(Value, frozen=True, kw_only=True, gc=False):
    """One event of a watch. ``resume``: the revision to resume at after this event; of several changes of one revision
    only the last has that revision, so that a break in the middle repeats some rather than losing one.

    ``deleted`` carries the last state; ``synced`` how many objects the snapshot had. ``resync``: too far behind; it is
    the last event.
    """

    type: Literal["added", "modified", "deleted", "bookmark", "synced", "resync"]
    revision: int
    resume: int
    ref: ObjectRef | None = None
    stored: Stored | None = None
    objects: int = 0


class KeptWatch:
    """An asynchronous iterator of ``Happening``, to be entered: ``async with keeper.watch(...) as events``.

    ``after`` resumes after a revision instead of a snapshot; one outside the history raises Compacted or InFuture on
    entering. A bookmark comes when nothing else did for ``bookmark_s`` seconds. ``in_force`` gives the revision up to
    which the history is in force, beyond which nothing is told, and ``moved`` an event that is set when it rises.
    ``shown_in`` names other objects in whose status an edit shows. Cancelling a wait loses nothing; nothing is queued
    for a reader that does not come.
    """

    def __init__(
        self,
        history: History,
        wanted: Filter,
        *,
        moved: Callable[[], anyio.Event],
        in_force: Callable[[], int],
        shown_in: Callable[[Edit], Iterable[ObjectRef]] = lambda edit: (),
        after: int | None = None,
        visible: Visible | None = None,
        bookmark_s: float = 10.0,
    ) -> None:
        self._history, self._wanted, self._moved = history, wanted, moved
        self._in_force, self._shown_in = in_force, shown_in
        self._visible, self._bookmark_s = visible, bookmark_s
        self._after = after
        self._position = 0
        self._ready: deque[Happening] = deque()
        self._snapshot: Iterator[tuple[StoreKey, StoreKey]] | None = None
        self._rest: tuple[StoreKey, StoreKey] | None = None
        self._objects = 0
        self._is_over = False

    async def __aenter__(self) -> Self:
        if self._after is None:
            self._snapshot, self._position = self._wanted.ranges(), self._in_force()
        else:
            await self._arrive(self._after)
            self._position = self._after
        # Whoever resumes far back is not late yet.
        self._most = MAX_LAG + self.lag
        self._deadline = anyio.current_time() + self._bookmark_s
        return self

    async def _arrive(self, revision: int) -> None:
        """Wait for what another server may have shown already. Raises Compacted or InFuture."""
        with anyio.move_on_after(CATCH_UP_S):
            while self._history.revision < revision:
                await self._moved().wait()
        if revision > self._history.revision:
            raise InFuture(revision, self._history.revision)
        if revision < self._history.compacted:
            raise Compacted(revision, self._history.compacted)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._is_over = True
        self._ready.clear()

    def __aiter__(self) -> Self:
        return self

    @property
    def lag(self) -> int:
        """Changes that this watch is behind."""
        return self._history.lag(self._position)

    async def __anext__(self) -> Happening:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            if self._position < self._history.compacted or self.lag > self._most:
                self._end()
            elif self._snapshot is not None:
                self._list()
                await anyio.sleep(0)
            elif self._position >= self._in_force():
                moved = self._moved()
                with anyio.move_on_at(self._deadline) as waiting:
                    await moved.wait()
                if waiting.cancelled_caught:
                    self._ready.append(Happening(type="bookmark", revision=self._position, resume=self._position))
                # Whoever waited for news is not late, however much came at once.
                self._most = MAX_LAG + self.lag
            else:
                self._read()
                await anyio.sleep(0)
        self._deadline = anyio.current_time() + self._bookmark_s
        return self._ready.popleft()

    def _end(self) -> None:
        self._is_over = True
        self._ready.append(Happening(type="resync", revision=self._history.revision, resume=0))

    def _sees(self, ref: ObjectRef) -> bool:
        return self._wanted.holds(ref) and (self._visible is None or self._visible(ref))

    def _list(self) -> None:
        """The next objects of the snapshot. Resuming before its end would skip the rest: resume 0 starts over."""
        assert self._snapshot is not None
        found = self._rest or next(self._snapshot, None)
        if found is None:
            self._snapshot = None
            self._ready.append(
                Happening(type="synced", revision=self._position, resume=self._position, objects=self._objects)
            )
            return
        first, last = found
        items, after = self._history.page(first, last, revision=self._position, limit=SLICE)
        self._rest = None if after is None else (after, last)
        for key, stored in items:
            ref = ref_of(key)
            if self._sees(ref) and self._wanted.accepts(stored):
                self._objects += 1
                self._ready.append(Happening(type="added", revision=stored.modified, resume=0, ref=ref, stored=stored))

    def _read(self) -> None:
        newest = self._in_force()
        edits = [edit for edit in self._history.batch(self._position, SLICE) if edit.revision <= newest]
        # One event for each object of a revision, however many of its edits show in it.
        events = {(event.revision, event.ref): event for edit in edits for event in self._events(edit)}
        before = self._position
        for event, after in pairwise((*events.values(), None)):
            assert event is not None
            is_last = after is None or after.revision != event.revision
            if is_last:
                before = event.revision
            self._ready.append(msgspec.structs.replace(event, resume=before))
        self._position = edits[-1].revision if edits else newest

    def _events(self, edit: Edit) -> Iterator[Happening]:
        if edit.key.space == "object" and (event := self._changed(edit)) is not None:
            yield event
        for ref in self._shown_in(edit):
            stored = self._history.get(object_key(ref))
            # A change of the object itself, with this one or after it, has an event of its own.
            is_told = stored is None or stored.modified >= edit.revision
            if stored is not None and not is_told and self._sees(ref) and self._wanted.accepts(stored):
                yield Happening(type="modified", revision=edit.revision, resume=0, ref=ref, stored=stored)

    def _changed(self, edit: Edit) -> Happening | None:
        ref = ref_of(edit.key)
        if not self._sees(ref):
            return None
        was = edit.before is not None and self._wanted.accepts(edit.before)
        is_now = edit.after is not None and self._wanted.accepts(edit.after)
        if not was and not is_now:
            return None
        kind: Literal["added", "modified", "deleted"] = "deleted" if not is_now else "modified" if was else "added"
        stored = edit.after if is_now else edit.before
        return Happening(type=kind, revision=edit.revision, resume=0, ref=ref, stored=stored)
