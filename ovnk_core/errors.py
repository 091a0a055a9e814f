"""Every error the library raises, as one tree.

OvnkError
├─ ObjectError            the caller's object; has .kind .name .path .value .reason .fix .source
│  ├─ SchemaError         shape or type of a field
│  ├─ LimitError          a number the manual or the API caps
│  ├─ TransitionError     not allowed after installation
│  └─ CapacityError       subnets or addresses exhausted, for this object
├─ Refusal                a request, for the object errors it carries
├─ NotFound, Exists       no such object; one too many
├─ Conflict               a name held by somebody else
│  ├─ Outdated            an edit that is based on an older state
│  └─ Contended           others were faster every time
├─ IdReused               a request id that stands for another request already
├─ SouthError             the northbound database
│  ├─ Unreachable         no connection, or none in time
│  ├─ Rejected            the server refused one operation of a transaction
│  ├─ TurnLost            another writer has the turn; nothing was changed
│  ├─ UnknownOutcome      a transaction was sent and its reply never came
│  └─ SchemaMismatch      the server's schema lacks a table or column we need
├─ StoreError             the intent store
│  ├─ StoreUnavailable    not reachable, or its file may not be written; nothing was changed
│  ├─ StoreUnknown        an append was sent and nobody could say in time what became of it
│  ├─ StoreFull           no room left; nothing was changed
│  ├─ StoreCorrupt        what is there cannot be read as a log
│  ├─ QuotaError          larger than the store can take; nothing was changed
│  ├─ Superseded          somebody else was faster, or our turn as the writer is over
│  ├─ Compacted           a revision older than the history that is kept
│  └─ InFuture            a revision that no commit has had yet
├─ NotWriter              another server has the turn, and only that one can do it
├─ GuardError             a safety limit stopped a write (mass delete, empty input)
└─ BugError               ours: RuleFault, FloorError, KeyClash, Divergence

Rules never catch. Raise at the door, handle in the shell, translate at the edge; nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class OvnkError(Exception):
    """Root of the tree. ``is_usage``: the question was wrong, nothing else is."""

    is_usage = False


class Mention(NamedTuple):
    """Another object that a reason names, and the words it is named by: ``pod team-a/web``."""

    kind: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.word} {place}{self.name}"

    @property
    def word(self) -> str:
        """What sentences call its kind."""
        return self.kind.lower() if self.kind in ("Pod", "Node", "Namespace") else self.kind


class ObjectError(OvnkError):
    """One thing wrong with one declared object.

    ``path`` is the field path as a user writes it (``spec.ingress[0].ports[1].port``), ``source`` is where
    the field stands (``FILE:LINE`` or ``FILE#/json/pointer``). ``reason`` says what is wrong and ``fix`` what
    to write instead; ``value`` is the offending text, cut to a readable length. ``mentions``: the other objects that
    ``reason`` names, so that whoever may not know of them can be told without.
    """

    def __init__(
        self,
        reason: str,
        *,
        kind: str = "",
        name: str = "",
        path: str = "",
        value: str = "",
        fix: str = "",
        source: str = "",
        mentions: tuple[Mention, ...] = (),
    ) -> None:
        self.kind, self.name, self.path = kind, name, path
        self.value, self.reason, self.fix, self.source, self.mentions = value, reason, fix, source, mentions
        super().__init__(str(self))

    def at(self, source: str) -> ObjectError:
        """The same error with the place it is written at."""
        return type(self)(
            self.reason,
            kind=self.kind,
            name=self.name,
            path=self.path,
            value=self.value,
            fix=self.fix,
            source=source,
            mentions=self.mentions,
        )

    @property
    def text(self) -> str:
        """What is wrong where and what to do, without whose fault it is."""
        return self._told(self.path)

    def _told(self, *head: str) -> str:
        got = f" (got {self.value})" if self.value else ""
        fix = f"; {self.fix}" if self.fix else ""
        return "".join(f"{part}: " for part in head if part) + f"{self.reason}{got}{fix}"

    def __str__(self) -> str:
        return self._told(self.source, " ".join(part for part in (self.kind, self.name, self.path) if part))


class SchemaError(ObjectError):
    """Shape or type of a field."""


class LimitError(ObjectError):
    """A number the manual or the API caps."""


class TransitionError(ObjectError):
    """A change that is not allowed after installation."""


class CapacityError(ObjectError):
    """Subnets or addresses are exhausted for this object; others keep working."""


class NotFound(OvnkError):
    """No such object."""


class Exists(OvnkError):
    """An object that was to be created is there already."""


class Refusal(OvnkError):
    """A request that cannot be accepted: ``errors`` are all the reasons. Nothing was changed."""

    def __init__(self, errors: Sequence[ObjectError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, self.errors[:3])) + (" ..." if len(self.errors) > 3 else ""))


class Conflict(OvnkError):
    """A name is held by somebody else."""


class Outdated(Conflict):
    """An edit is based on a version that is not the present one."""


class Contended(Conflict):
    """Others were faster every time. Nothing was changed."""

    retry_after_s = 0.0


class IdReused(OvnkError):
    """A request id stands for another request already: to try again cannot help."""


class SouthError(OvnkError):
    """The northbound database. ``retry_after_s`` is None when a retry cannot help."""

    retry_after_s: float | None = None


class Unreachable(SouthError):
    """No connection, or none in time."""

    retry_after_s = 1.0


class UnknownOutcome(SouthError):
    """A transaction was sent and its reply never came: resolve it by reading back."""

    retry_after_s = 0.0


class Rejected(SouthError):
    """The server refused an operation; ``operation`` is its index, None when the commit itself failed."""

    def __init__(self, error: str, details: str = "", operation: int | None = None) -> None:
        self.error, self.details, self.operation = error, details, operation
        at = "" if operation is None else f" (operation {operation})"
        super().__init__(f"northbound refused the transaction{at}: {error}" + (f": {details}" if details else ""))


class TurnLost(SouthError):
    """It is not the turn of ``epoch`` (any more): another writer took over. Nothing was changed."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"northbound refused the transaction: it is not the turn of writer epoch {epoch}")


class SchemaMismatch(SouthError):
    """The server does not serve OVN_Northbound, or its schema lacks what we need."""


class StoreError(OvnkError):
    """The intent store. ``retry_after_s`` is None when a retry cannot help."""

    retry_after_s: float | None = None


class StoreUnavailable(StoreError):
    """Not reachable, or not writable. Nothing was changed."""

    retry_after_s = 1.0


class StoreUnknown(StoreError):
    """An append was sent and its outcome is not known yet; a request id makes asking again safe."""

    retry_after_s = 1.0


class StoreFull(StoreError):
    """No room left. Nothing was changed."""

    retry_after_s = 30.0


class StoreCorrupt(StoreError):
    """What is there cannot be read as a log; the message says what and where."""


class QuotaError(StoreError):
    """Larger than the store can take. Nothing was changed."""


class Superseded(StoreError):
    """Somebody else was faster, or our turn as the writer is over. Nothing was changed."""

    retry_after_s = 0.0


class Compacted(StoreError):
    """A revision older than ``oldest``, the first that is kept. Whoever asked has to start from a snapshot."""

    def __init__(self, revision: int, oldest: int) -> None:
        self.revision, self.oldest = revision, oldest
        super().__init__(f"revision {revision} is compacted; the oldest that is kept is {oldest}")


class InFuture(StoreError):
    """A revision newer than ``newest``: of a store that was put back, or of another one. Whoever asked has to start
    from a snapshot."""

    def __init__(self, revision: int, newest: int) -> None:
        self.revision, self.newest = revision, newest
        super().__init__(f"there is no revision {revision} yet; the newest is {newest}")


class NotWriter(OvnkError):
    """Only the server whose turn it is can do it; ``holder`` names that one, empty while nobody has the turn."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"ask the server {holder!r}, whose turn it is" if holder else "no server has the turn now")


class GuardError(OvnkError):
    """A safety limit stopped a write; the message names the flag that lifts it."""


class BugError(OvnkError):
    """Ours. The process is unhealthy when one of these is seen."""


class RuleFault(BugError):
    """A rule raised; names the rule and its driver key."""


class FloorError(BugError):
    """A rule read a table it did not declare."""


class KeyClash(BugError):
    """Two drivers wrote the same key."""


class Divergence(BugError):
    """Incremental state differs from a state built from scratch."""
