"""The log in memory: what is in force, what was in force, and what changed since.

One structure answers everything that is asked of the store. Items in force are kept sorted, so a page is a slice; the
changes since the last compaction are kept in order with what they replaced, so a page of an older revision is the
present one with those changes taken back, and a watch is a position in that list. Nothing is queued per watcher: a
thousand stalled ones cost nothing, and one that falls behind what is kept is told so.

Values are immutable and shared. Cost: get O(1); a page O(its size + changes since its revision); changes since a
revision O(log n) to find, O(1) each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sortedcontainers import SortedDict

from ovnk_core.errors import Compacted, StoreCorrupt
from ovnk_core.store.entry import Base, Entry, Stored, StoreKey
from ovnk_core.terms.struct import Value


class Edit(Value, frozen=True, kw_only=True, gc=False):
    """One change as it happened: what was there before, what is there after; None: nothing."""

    revision: int
    key: StoreKey
    before: Stored | None
    after: Stored | None


class History:
    """State by revision, from ``compacted`` to ``revision``."""

    def __init__(self, base: Base | None = None) -> None:
        base = base or Base()
        self.revision = self.compacted = base.revision
        self._items: SortedDict[StoreKey, Stored] = SortedDict(base.items)
        self._edits: list[Edit] = []
        self._revisions: list[int] = []
        self._ids: dict[int, str] = {}
        self._first = 0
        """Index of the oldest edit that is kept; those before it are dropped in bulk."""
        self._bytes = 0

    # ------------------------------------------------------------------ growing

    def advance(self, entry: Entry) -> tuple[Edit, ...]:
        """Take in the next entry -> its edits, without those that change nothing. Raises StoreCorrupt on a gap."""
        if entry.revision != self.revision + 1:
            raise StoreCorrupt(f"revision {entry.revision} follows {self.revision}")
        edits: list[Edit] = []
        for change in entry.changes:
            before = self._items.get(change.key)
            if change.value is None:
                if before is None:
                    continue
                del self._items[change.key]
                after = None
            else:
                created = entry.revision if before is None else before.created
                after = Stored(value=change.value, created=created, modified=entry.revision)
                self._items[change.key] = after
            edits.append(Edit(revision=entry.revision, key=change.key, before=before, after=after))
        self.revision = entry.revision
        self._ids[entry.revision] = entry.id
        self._edits.extend(edits)
        self._revisions.extend([entry.revision] * len(edits))
        self._bytes += sum(map(_size, edits))
        return tuple(edits)

    # ------------------------------------------------------------------ reading

    def get(self, key: StoreKey) -> Stored | None:
        """The item in force."""
        return self._items.get(key)

    def items(self, first: StoreKey, last: StoreKey) -> Iterator[tuple[StoreKey, Stored]]:
        """Items in force with ``first <= key < last``, in key order. Invalid after the next ``advance``."""
        for key in self._items.irange(first, last, inclusive=(True, False)):
            yield key, self._items[key]

    def entry_id(self, revision: int) -> str:
        """The id of the entry of a revision; empty where it is not remembered."""
        return self._ids.get(revision, "")

    def everything(self) -> Iterator[tuple[StoreKey, Stored]]:
        """All items in force, in key order. Invalid after the next ``advance``."""
        yield from self._items.items()

    def page(
        self, first: StoreKey, last: StoreKey, *, revision: int, limit: int
    ) -> tuple[list[tuple[StoreKey, Stored]], StoreKey | None]:
        """At most ``limit`` items of ``revision`` from ``first`` on, and the key to go on at (None: that was all).

        Raises Compacted.
        """
        undone = self._undone(first, last, revision)
        found = list(islice(_merged(self.items(first, last), undone, first), limit + 1))
        return (found[:limit], found[limit][0]) if len(found) > limit else (found, None)

    def walk(
        self, first: StoreKey, last: StoreKey, *, revision: int, skip: Callable[[StoreKey], StoreKey | None]
    ) -> Iterator[tuple[StoreKey, Stored]]:
        """Items of ``revision`` with ``first <= key < last``, in key order. ``skip`` says of a key that is to be passed
        over where to go on, and None of others; what lies between costs nothing. Invalid after the next ``advance``.

        Raises Compacted.
        """
        undone = self._undone(first, last, revision)
        begin: StoreKey | None = first
        while begin is not None:
            items, begin = _merged(self.items(begin, last), undone, begin), None
            for key, stored in items:
                if (begin := skip(key)) is not None:
                    break
                yield key, stored

    def _undone(self, first: StoreKey, last: StoreKey, revision: int) -> SortedDict[StoreKey, Stored | None]:
        """What the keys in range that changed since held at ``revision``."""
        undone: SortedDict[StoreKey, Stored | None] = SortedDict()
        for edit in self.since(revision):
            if first <= edit.key < last:
                undone.setdefault(edit.key, edit.before)
        return undone

    def since(self, revision: int) -> Iterator[Edit]:
        """Every edit after ``revision``, oldest first. Raises Compacted; a revision to come gives nothing."""
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)
        return self._edits_from(self.position(revision))

    def _edits_from(self, start: int) -> Iterator[Edit]:
        for index in range(start, len(self._edits)):
            yield self._edits[index]

    def position(self, revision: int) -> int:
        """Index of the first edit after ``revision``."""
        return bisect_right(self._revisions, revision, lo=self._first)

    def lag(self, revision: int) -> int:
        """How many edits a reader at ``revision`` has yet to see."""
        return len(self._edits) - self.position(revision)

    def batch(self, revision: int, limit: int) -> tuple[Edit, ...]:
        """The next edits after ``revision``: whole revisions, at least one, and no more edits than ``limit`` otherwise.

        Raises Compacted.
        """
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)
        start = self.position(revision)
        end = min(len(self._edits), start + limit)
        if end < len(self._edits):
            last = self._revisions[end - 1]
            if self._revisions[end] == last:
                cut = bisect_right(self._revisions, last - 1, lo=self._first)
                end = cut if cut > start else bisect_right(self._revisions, last, lo=self._first)
        return tuple(self._edits[start:end])

    # ------------------------------------------------------------------ forgetting

    @property
    def edits(self) -> int:
        """How many changes are kept."""
        return len(self._edits) - self._first

    @property
    def bytes(self) -> int:
        """Roughly what the kept changes hold on to."""
        return self._bytes

    def excess(self, *, edits: int, size: int) -> int:
        """The revision to compact to so that at most ``edits`` changes and ``size`` bytes stay; ``compacted`` if that
        is so already. The present revision is never compacted away."""
        if self.edits <= edits and self._bytes <= size:
            return self.compacted
        left, index = self._bytes, self._first
        while index < len(self._edits) and (len(self._edits) - index > edits or left > size):
            left -= _size(self._edits[index])
            index += 1
        return self._revisions[index - 1] if index > self._first else self.compacted

    def changed_until(self, revision: int) -> dict[StoreKey, Stored | None]:
        """Every key that changed since the last compaction, as of ``revision``: what a base has to take in."""
        found: dict[StoreKey, Stored | None] = {}
        for edit in islice(self._edits, self._first, self.position(revision)):
            found[edit.key] = edit.after
        return found

    def forget(self, revision: int) -> None:
        """Drop the changes up to ``revision``, which must not be above the present one."""
        end = self.position(revision)
        self._bytes -= sum(map(_size, islice(self._edits, self._first, end)))
        self._first, self.compacted = end, max(self.compacted, min(revision, self.revision))
        self._ids = {each: name for each, name in self._ids.items() if each > revision}
        if self._first > len(self._edits) // 2:
            del self._edits[: self._first]
            del self._revisions[: self._first]
            self._first = 0


def _size(edit: Edit) -> int:
    return 200 + (len(edit.before.value) if edit.before else 0)


def _merged(
    present: Iterable[tuple[StoreKey, Stored]], undone: SortedDict[StoreKey, Stored | None], first: StoreKey
) -> Iterator[tuple[StoreKey, Stored]]:
    """Present items, which begin at ``first``, with some replaced, removed or put back, still in key order."""
    back = (key for key in undone.irange(first) if undone[key] is not None)
    waiting = next(back, None)
    for key, stored in present:
        while waiting is not None and waiting < key:
            value = undone[waiting]
            assert value is not None
            yield waiting, value
            waiting = next(back, None)
        if key == waiting:
            waiting = next(back, None)
        if key not in undone:
            yield key, stored
        elif (old := undone[key]) is not None:
            yield key, old
    while waiting is not None:
        value = undone[waiting]
        assert value is not None
        yield waiting, value
        waiting = next(back, None)
