"""One change to one northbound row, as data: what reconcile orders and drivers send."""

from __future__ import annotations

from ovnk_core.nb.schema import Atom, Row
from ovnk_core.terms.struct import Value


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


Operation = Insert | Update | Mutate | Delete | BumpConfig
