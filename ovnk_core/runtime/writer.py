"""The one writer to a northbound: carries the difference between the core's rows and the mirror, and nothing else.

``flush`` sends one transaction or none. The first flush, and every one after a doubt (lost reply, reconnect, foreign
change of our rows), compares everything; the others only what engine deltas named. A reply that never came is
*unknown*, not failed: the next flush reads back by comparing with the mirror.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.cluster import Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import SouthError
from ovnk_core.nb.operation import BumpConfig, Delete, Insert, Mutate, Operation
from ovnk_core.nb.schema import Row
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Changes, Northbound
from ovnk_core.reconcile import diff
from ovnk_core.reconcile.columns import GLOBAL_TABLE, owner_of
from ovnk_core.terms.struct import Value

_UNGUARDED_NAMES = ("Logical_Switch", "Logical_Router")


class Flushed(Value, frozen=True, kw_only=True):
    """One flush: operations by verb, and whose rows are there after it."""

    operations: dict[str, int]
    rows_owned: int
    rows_foreign: int


class Writer:
    """Not concurrent: the control plane calls it from one task at a time."""

    def __init__(
        self, cluster: Cluster, northbound: Northbound, *, adopt: bool, allow_prune: bool, timeout_s: float = 30.0
    ) -> None:
        self._cluster, self._northbound = cluster, northbound
        self._adopt, self.allow_prune, self._timeout_s = adopt, allow_prune, timeout_s
        self._desired = diff.Desired(cluster.engine, northbound.schema)
        self._pending: list[Delta] = []
        self._is_in_doubt = True
        self._owned = self._foreign = 0
        self.repairs = 0

    def note(self, delta: Delta) -> None:
        """Remember what an apply changed."""
        if delta and not self._is_in_doubt:
            self._pending.append(delta)

    def doubt(self) -> None:
        """Compare everything next time."""
        self._is_in_doubt = True
        self._pending.clear()

    def difference(self) -> diff.Difference:
        """Everything that would have to change, compared in full. Raises Conflict.

        Nothing at all while the network configuration is refused: no row can be derived without it.
        """
        if self._cluster.keeps_everything:
            owned = diff.owned_rows(self._actual())
            return diff.Difference(operations=(), rows_owned=len(owned), rows_foreign=0)
        return diff.full(self._desired, self._actual(), kept=self._cluster.kept, adopt=self._adopt)

    async def flush(self) -> Flushed:
        """Send what is missing. Raises Conflict, GuardError or a SouthError; nothing was changed then, or in doubt."""
        before = self._count_owned() if self._is_in_doubt else self._owned
        operations = self._collect()
        difference = diff.Difference(operations=operations, rows_owned=self._owned, rows_foreign=self._foreign)
        objects = self._cluster.count() + len(self._cluster.refused)
        diff.guard(difference, rows_before=before, objects=objects, allow_prune=self.allow_prune)
        if operations:
            try:
                await self._northbound.transact(operations, timeout_s=self._timeout_s)
            except SouthError:
                self.doubt()
                raise
        self._pending.clear()
        self._is_in_doubt = False
        return Flushed(operations=difference.count(), rows_owned=self._owned, rows_foreign=self._foreign)

    def _collect(self) -> tuple[Operation, ...]:
        if not self._is_in_doubt and not self._cluster.kept and not self._cluster.keeps_everything:
            operations = diff.incremental(self._desired, self._pending, self._actual())
            # Names in these tables are not unique for the server: only the full comparison sees a foreign holder.
            if not any(isinstance(each, Insert) and each.table in _UNGUARDED_NAMES for each in operations):
                self._owned = self._desired.count()
                return operations
        found = self.difference()
        self._owned, self._foreign = found.rows_owned, found.rows_foreign
        return found.operations

    async def bump(self, timeout_s: float) -> int:
        """Ask northd and the chassis to acknowledge everything so far; the number they will show."""
        receipt = await self._northbound.transact((BumpConfig(),), timeout_s=timeout_s)
        assert receipt.nb_cfg is not None
        return receipt.nb_cfg

    async def purge(self) -> dict[str, int]:
        """Remove exactly our rows; operations by verb."""
        operations = list(diff.purge(self._actual()))
        operations += self._own_global_keys()
        if operations:
            await self._northbound.transact(operations)
        mutated = sum(isinstance(operation, Mutate) for operation in operations)
        deleted = sum(isinstance(operation, Delete) for operation in operations)
        return {"insert": 0, "update": 0, "mutate": mutated, "delete": deleted}

    def _own_global_keys(self) -> Iterable[Operation]:
        for uuid, row in self._northbound.rows(GLOBAL_TABLE).items():
            ids = row.get("external_ids")
            keys = map(str, ids) if isinstance(ids, dict) else ()
            ours = frozenset(key for key in keys if key.startswith("ovnk-"))
            if ours:
                yield Mutate(table=GLOBAL_TABLE, uuid=uuid, column="external_ids", drop=ours)

    def drifted(self, changes: Changes) -> bool:
        """Whether the mirror now differs from what we want in a row of ours that just changed."""
        for table, rows in changes.items():
            if table in TABLES:
                now = self._northbound.rows(table)
                for uuid, old in rows.items():
                    if any(self._differs(table, uuid, row) for row in (old, now.get(uuid)) if row is not None):
                        return True
        return False

    def _differs(self, table: str, uuid: str, row: Row) -> bool:
        owner = owner_of(table, uuid, row)
        if owner is None:
            return False
        current, wanted = self._northbound.rows(table).get(uuid), self._desired.row(owner)
        if current is None or wanted is None or owner.uuid != uuid:
            return (current is None) != (wanted is None)
        return any(current.get(name) != value for name, value in wanted.items())

    def _actual(self) -> diff.Actual:
        return {table: self._northbound.rows(table) for table in TABLES}

    def _count_owned(self) -> int:
        return len(diff.owned_rows(self._actual()))
