"""One change to one northbound row, as data: what reconcile orders and drivers send.

Several servers may hold the same desired rows while only one of them may write. Whose turn it is stands in the
northbound itself, as a number that only grows, and each transaction of the writer demands its own number there: a
writer that slept through its end is refused by the database, whatever it still believes. An OVSDB lock cannot do this:
locks are kept per server, and a transaction forwarded to another member of a cluster is not checked there.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovnk_core.errors import SouthError
from ovnk_core.nb.schema import Atom, Row
from ovnk_core.terms.struct import Value

WRITER_KEY = "ovnk-writer"
"""The key of NB_Global.external_ids that holds the turn: the writer's epoch in decimal. Not a row key of reconcile."""


class Insert(Value, frozen=True, kw_only=True):
    """A new row with our uuid; columns not named take the schema's default."""

    table: str
    uuid: str
    columns: Row


class Update(Value, frozen=True, kw_only=True):
    """Overwrite the named columns of one row."""

    table: str
    uuid: str
    columns: Row


class Mutate(Value, frozen=True, kw_only=True):
    """Add to and remove from one set column, or set and remove keys of one map column, of one row.

    Sets: ``insert`` and ``delete``. Maps: ``keys`` to set (existing ones are replaced) and ``drop`` to remove.
    """

    table: str
    uuid: str
    column: str
    insert: frozenset[Atom] = frozenset()
    delete: frozenset[Atom] = frozenset()
    keys: dict[str, str] = {}
    drop: frozenset[str] = frozenset()


class Delete(Value, frozen=True, kw_only=True):
    table: str
    uuid: str


class BumpConfig(Value, frozen=True, kw_only=True):
    """Increment NB_Global.nb_cfg: a request that northd and the chassis acknowledge in sb_cfg and hv_cfg."""


class RequireTurn(Value, frozen=True, kw_only=True):
    """Commit the transaction only while it is the turn of ``epoch``, else TurnLost. Belongs in front of the others."""

    epoch: int


class TakeTurn(Value, frozen=True, kw_only=True):
    """Make it the turn of ``epoch`` if it still is that of ``previous`` (None: of nobody yet), else TurnLost.

    Where it is nobody's, asking a second time for the same epoch succeeds, as a reply may have been lost.
    """

    epoch: int
    previous: int | None


Operation = Insert | Update | Mutate | Delete | BumpConfig | RequireTurn | TakeTurn


def turn_of(rows: Mapping[str, Row]) -> int | None:
    """Whose turn it is by the rows of NB_Global; None while nobody took one.

    Raises SouthError when the key holds something else than an epoch: then only a person can say who may write.
    """
    for row in rows.values():
        ids = row.get("external_ids")
        if isinstance(ids, dict) and (text := ids.get(WRITER_KEY)) is not None:
            try:
                return int(str(text))
            except ValueError:
                reason = f"NB_Global external_ids:{WRITER_KEY} is {text!r}, not an epoch; remove the key"
                raise SouthError(reason) from None
    return None
