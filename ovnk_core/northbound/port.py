"""The one port to a northbound database.

A driver keeps a *mirror* of the tables we name at connect and carries transactions. It knows nothing of owners,
features or ordering: ``reconcile`` decides what to send. Three drivers implement it, one contract suite
(``tests/south``) holds them to this page.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from ovnk_core.nb.operation import Operation
from ovnk_core.nb.schema import DatabaseSchema, Row
from ovnk_core.terms.struct import Value

LOCK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_lock_name(name: str, held: str) -> None:
    """Raises ValueError: a server answers a name that is no RFC 7047 <id> with an error some clients never notice."""
    if not LOCK_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not an RFC 7047 <id>")
    if held not in ("", name):
        raise ValueError(f"this connection already asked for the lock {held!r}")


class Receipt(Value, frozen=True, kw_only=True):
    """What a committed transaction did. ``nb_cfg`` is set when it bumped NB_Global.nb_cfg."""

    operations: int
    nb_cfg: int | None = None


MISSING_ROW = "missing row"
"""``Rejected.error`` of an Update, Mutate or Delete whose row is not there (or of anything that needs NB_Global)."""

Changes = dict[str, dict[str, Row | None]]
"""table -> uuid -> the row as it was before the change (None: it did not exist). The new row is in ``rows``."""


class Northbound(Protocol):
    """Lifecycle: ``connect`` once, then anything, then ``close`` (idempotent). Not thread-safe; one loop."""

    @property
    def address(self) -> str:
        """``unix:PATH``, ``tcp:HOST:PORT``, ``ssl:HOST:PORT``, several of them with commas, or ``memory``.

        Several are the members of one cluster: the leader is talked to, and followed when it changes.
        """
        ...

    @property
    def heard_s(self) -> float:
        """When anything at all was last received from the server, in Unix seconds; valid after ``connect``."""
        ...

    @property
    def schema(self) -> DatabaseSchema:
        """The server's schema; valid after ``connect``."""
        ...

    async def connect(self, tables: Mapping[str, Sequence[str]], *, timeout_s: float = 10.0) -> None:
        """Connect and mirror ``tables`` (table -> columns; those the server's schema lacks are left out).

        Returns when the initial content is in the mirror. Raises Unreachable (nothing there, or not in time) or
        SchemaMismatch (not an OVN_Northbound server). Afterwards a lost connection is re-established by itself.
        """
        ...

    async def close(self) -> None: ...

    def rows(self, table: str) -> Mapping[str, Row]:
        """The mirror of one table by uuid; live, read-only. Empty for a table that is not mirrored."""
        ...

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        """Commit all operations in one transaction, or none.

        When it returns, ``rows`` shows the result. Raises Rejected or TurnLost (nothing changed), Unreachable (not
        sent) or UnknownOutcome (sent, no reply: it may have been committed; read back once the mirror is current).
        In a cluster a transaction of unknown outcome may still be on its way between two members when it is read back:
        then it shows later, as a change, and what was sent again is refused for its "duplicate uuid".
        An empty sequence writes nothing but is still a round trip: when it returns, the mirror is current.
        """
        ...

    def changes(self) -> AsyncIterator[Changes]:
        """Every change of the mirror from now on, ours and others', one item per update the server sent.

        After a reconnect the difference between the old and the new content arrives as one item.
        """
        ...

    async def lock(self, name: str) -> bool:
        """Ask for an OVSDB lock (RFC 7047 4.1.8); True when we own it. ``name`` must be an RFC 7047 <id>.

        From then on every transaction asserts the lock: without it, Rejected ("not owner"). Asking again tells
        whether we own it by now; after a reconnect it is asked for anew. A lock lives in one server, not in its
        cluster: it spares two writers the work, and only ``RequireTurn`` keeps the wrong one out.
        Raises ValueError (name), Unreachable.
        """
        ...
