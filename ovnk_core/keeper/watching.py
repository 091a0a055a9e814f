"""Reading what is kept: pages of one snapshot, and watches without gaps.

Both read the history, never the engine. A watch is a position in it: it is sent a snapshot, ``synced``, then every
change in revision order, each once. A reader that falls too far behind is told to start over and holds nothing up.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import msgspec

from ovnk_core.errors import Compacted, NotFound, SchemaError, StoreUnavailable
from ovnk_core.keeper.document import decode, ref_of
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
"""Whether a reader may know of an object."""


class FieldTest(Value, frozen=True, kw_only=True):
    """Whether the field at a dotted ``path`` has this ``text``, or (``is_equal`` False) another; absent is empty."""

    path: str
    text: str
    is_equal: bool = True

    def holds(self, manifest: Mapping[str, Any]) -> bool:
        return (_field(manifest, self.path) == self.text) is self.is_equal


class Filter(Value, frozen=True, kw_only=True):
    """Which objects: ``kinds`` empty for all, ``namespace`` None for all. ``spaces``: accepted ones, refused ones, or
    one after the other."""

    kinds: tuple[str, ...] = ()
    namespace: str | None = None
    selector: LabelSelector = EVERYTHING
    fields: tuple[FieldTest, ...] = ()
    spaces: tuple[Space, ...] = ("object",)

    def checked(self) -> Self:
        """Itself. Raises NotFound for a kind there is not."""
        unknown = [kind for kind in self.kinds if kind not in OBJECT_TABLES]
        if unknown:
            raise NotFound(f"no kind {', '.join(unknown)}; known: {', '.join(OBJECT_TABLES)}")
        return self

    def holds(self, ref: ObjectRef) -> bool:
        """By name alone."""
        return (not self.kinds or ref.kind in self.kinds) and self.namespace in (None, ref.namespace)

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
    revision: int
    key: StoreKey
    asked: str


def read_page(history: History, wanted: Filter, *, limit: int, token: str = "", visible: Visible | None = None) -> Page:
    """The next at most ``limit`` objects. Looks at a bounded number of them, so a rare match may take several pages.

    Raises SchemaError for a token that is not ours or of another question, Compacted for one that is too old, and
    StoreUnavailable for one of a revision that has not arrived here yet.
    """
    asked = _fingerprint(wanted)
    start = _read_token(token, asked) if token else None
    revision = start.revision if start else history.revision
    if revision > history.revision:
        raise StoreUnavailable(f"revision {revision} has not arrived at this server, which is at {history.revision}")
    found: list[tuple[ObjectRef, Stored]] = []
    budget = max(4 * limit, SLICE)
    for first, last in wanted.ranges():
        begin = first
        if start is not None:
            if start.key >= last:
                continue
            begin = max(first, start.key)
        items, after = history.page(begin, last, revision=revision, limit=budget)
        for key, stored in items:
            ref = ref_of(key)
            if (visible is None or visible(ref)) and wanted.accepts(stored):
                if len(found) == limit:
                    return _page(revision, found, key, asked)
                found.append((ref, stored))
        budget -= len(items)
        if after is not None:
            return _page(revision, found, after, asked)
        if budget <= 0:
            return _page(revision, found, last, asked)
    return Page(revision=revision, objects=tuple(found))


def _page(revision: int, found: list[tuple[ObjectRef, Stored]], key: StoreKey, asked: str) -> Page:
    token = _Token(revision=revision, key=key, asked=asked)
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

    ``after`` resumes after a revision instead of a snapshot; one outside the history raises Compacted on entering. A
    bookmark comes when nothing else did for ``bookmark_s`` seconds. ``moved`` gives an event that is set when the
    history moves. Cancelling a wait loses nothing; nothing is queued for a reader that does not come.
    """

    def __init__(
        self,
        history: History,
        wanted: Filter,
        *,
        moved: Callable[[], anyio.Event],
        after: int | None = None,
        visible: Visible | None = None,
        bookmark_s: float = 10.0,
    ) -> None:
        self._history, self._wanted, self._moved = history, wanted, moved
        self._visible, self._bookmark_s = visible, bookmark_s
        self._after = after
        self._position = 0
        self._ready: deque[Happening] = deque()
        self._snapshot: Iterator[tuple[StoreKey, StoreKey]] | None = None
        self._rest: tuple[StoreKey, StoreKey] | None = None
        self._objects = 0
        self._is_over = False

    async def __aenter__(self) -> Self:
        history = self._history
        if self._after is None:
            self._snapshot, self._position = self._wanted.ranges(), history.revision
        else:
            await self._arrive(self._after)
            self._position = self._after
        # Whoever resumes far back is not late yet.
        self._most = MAX_LAG + self.lag
        self._deadline = anyio.current_time() + self._bookmark_s
        return self

    async def _arrive(self, revision: int) -> None:
        """Wait for what another server may have shown already. Raises Compacted."""
        with anyio.move_on_after(CATCH_UP_S):
            while self._history.revision < revision:
                await self._moved().wait()
        if not self._history.compacted <= revision <= self._history.revision:
            raise Compacted(revision, self._history.compacted, self._history.revision)

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
            elif self._position >= self._history.revision:
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
        history = self._history
        edits = history.batch(self._position, SLICE)
        before = self._position
        events = [event for edit in edits if (event := self._event(edit)) is not None]
        for event, after in pairwise((*events, None)):
            assert event is not None
            is_last = after is None or after.revision != event.revision
            if is_last:
                before = event.revision
            self._ready.append(msgspec.structs.replace(event, resume=before))
        self._position = edits[-1].revision if edits else history.revision

    def _event(self, edit: Edit) -> Happening | None:
        if edit.key.space != "object":
            return None
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
