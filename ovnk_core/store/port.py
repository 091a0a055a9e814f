"""The port to where a log is kept. Three backends, one contract suite (``tests/south``).

A backend knows nothing of objects: it keeps a base and the entries after it, appends when nobody else was faster, and
tells of entries that others appended. What the entries mean, and everything that reads, is ``history`` and above.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ovnk_core.store.entry import Base, Entry, Stored, StoreKey
from ovnk_core.terms.struct import Value


class Contents(Value, frozen=True, kw_only=True):
    """What a log holds when it is opened: the base, and the entries after it in order."""

    base: Base
    entries: tuple[Entry, ...] = ()


class Term(Value, frozen=True, kw_only=True):
    """A turn as the writer. ``epoch`` rises with every turn anybody has; ``holder`` names the server."""

    epoch: int
    holder: str


class Log(Protocol):
    """Lifecycle: ``open`` once, then anything, then ``close`` (idempotent). One loop, not thread-safe.

    Errors, all of ``ovnk_core.errors``: StoreUnavailable (nothing was changed), StoreUnknown (an append was sent and
    its outcome could not be found out in time; the next append or follow will tell), StoreFull (no room; nothing was
    changed), StoreCorrupt (cannot be read as a log; the message says what and where), QuotaError (larger than this
    backend can take; nothing was changed), Superseded (see ``append``).
    """

    @property
    def address(self) -> str:
        """``memory``, ``sqlite:PATH`` or ``etcd:HOST:PORT,...``, for messages."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether others may append too; where not, nobody has to ``follow``."""
        ...

    async def open(self) -> Contents:
        """Everything there is. Raises StoreUnavailable or StoreCorrupt."""
        ...

    async def append(self, entries: Sequence[Entry], *, term: Term | None = None) -> None:
        """Make ``entries`` (consecutive revisions) durable, all or none; they are when this returns.

        Raises Superseded when somebody else already took the first revision, or, with ``term``, when that turn is over:
        nothing was changed then, ``follow`` will bring what was. Never retried blindly: an append whose reply was lost
        is looked up by ``Entry.id``.
        """
        ...

    def follow(self, after: int) -> AsyncIterator[Entry]:
        """Entries with a revision above ``after``, ours and others', in order and without gaps, for ever.

        Lost connections are re-established and resumed from the last revision that was yielded. Raises StoreCorrupt
        when a revision is gone for good (compacted by somebody else before we read it).
        """
        ...

    async def compact(self, revision: int, items: dict[StoreKey, Stored | None]) -> None:
        """Move the base up to ``revision``: ``items`` are the keys that changed since the old base, as of ``revision``.

        May be cut short anywhere: the next ``open`` finds the same state. Entries up to ``revision`` may be dropped.
        A log that never had an entry begins at ``revision`` then, with these items: that is what an import does.
        """
        ...

    async def base(self) -> int:
        """The revision of the base now: whoever compacted, entries up to it need not be remembered any more."""
        ...

    async def campaign(self, holder: str) -> Term:
        """Wait for our turn as the writer; at once where there can be only one server. Cancel to give up."""
        ...

    async def lost(self, term: Term) -> None:
        """Returns when ``term`` is over or can no longer be proven to last, judged by a clock that never jumps; never,
        where there can be only one server."""
        ...

    async def resign(self, term: Term) -> None:
        """End our turn early, so that another server need not wait for it to run out."""
        ...

    async def writer(self) -> str:
        """The ``holder`` of the present turn, empty when nobody has it."""
        ...

    async def integrity(self) -> list[str]:
        """What the medium itself finds wrong below the entries, one line each: every page of a file, alarms of etcd."""
        ...

    async def close(self) -> None: ...
