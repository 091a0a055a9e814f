"""The one writer to a northbound: carries the difference between the core's rows and the mirror, and nothing else.

``flush`` sends one transaction or none. The first flush, and every one after a doubt (lost reply, reconnect, foreign
change of our rows), compares everything; the others only what engine deltas named. A reply that never came is
*unknown*, not failed: the next flush reads back by comparing with the mirror.
"""

from __future__ import annotations

from typing import Any

from ovnk_core.allocate.egress_ip import Leaving
from ovnk_core.cluster import Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.errors import TurnLost
from ovnk_core.failpoint import failpoint
from ovnk_core.nb.desired import DESIRED, MEMBER
from ovnk_core.nb.operation import BumpConfig, Delete, Insert, Mutate, Operation, RequireTurn, TakeTurn, turn_of
from ovnk_core.nb.row import REVISION_KEY, ColumnId, RowId
from ovnk_core.nb.schema import Row
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Changes, Northbound, Receipt
from ovnk_core.reconcile import diff
from ovnk_core.reconcile.columns import GLOBAL_TABLE, atoms, is_encryption_lost, owner_of
from ovnk_core.terms.struct import Value

_UNGUARDED_NAMES = ("Logical_Switch", "Logical_Router")


class Flushed(Value, frozen=True, kw_only=True):
    """One flush: operations by verb, and whose rows are there after it."""

    operations: dict[str, int]
    rows_owned: int
    rows_foreign: int


class Prepared(Value, frozen=True, kw_only=True):
    """One transaction to be sent. ``leaving``: egress IPs that no row holds any more once it is committed."""

    operations: tuple[Operation, ...]
    leaving: Leaving = {}
    flushed: Flushed


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
        self.turn: int | None = None
        """Epoch of our turn; every transaction is fenced with it."""

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
        return diff.full(self._desired, self._actual(), adopt=self._adopt)

    def prepare(self) -> Prepared:
        """What is missing, as of now; ``send`` sends it. Raises Conflict or GuardError, and changes nothing."""
        before = self._count_owned() if self._is_in_doubt else self._owned
        operations = self._collect()
        difference = diff.Difference(operations=operations, rows_owned=self._owned, rows_foreign=self._foreign)
        if any(isinstance(operation, Delete) for operation in operations):
            objects = self._cluster.count() + len(self._cluster.refused)
            diff.guard(difference, rows_before=before, objects=objects, allow_prune=self.allow_prune)
        self._pending.clear()
        # Set before anything is sent, so that a doubt that arises meanwhile survives.
        self._is_in_doubt = self._cluster.keeps_everything
        flushed = Flushed(operations=difference.count(), rows_owned=self._owned, rows_foreign=self._foreign)
        return Prepared(operations=operations, flushed=flushed, leaving=self._cluster.leaving)

    async def send(self, prepared: Prepared) -> Flushed:
        """One transaction or none. Raises a SouthError; nothing was changed then, or in doubt. The cluster may change
        meanwhile."""
        if prepared.operations:
            try:
                failpoint("writer.before_transact")
                await self._transact(prepared.operations, self._timeout_s)
                failpoint("writer.after_transact")
            except BaseException:
                self.doubt()
                raise
        return prepared.flushed

    async def flush(self) -> Flushed:
        """Send what is missing. Raises Conflict, GuardError or a SouthError."""
        return await self.send(self.prepare())

    async def _transact(self, operations: tuple[Operation, ...], timeout_s: float) -> Receipt:
        fence = () if self.turn is None else (RequireTurn(epoch=self.turn),)
        return await self._northbound.transact((*fence, *operations), timeout_s=timeout_s)

    async def take_turn(self, epoch: int) -> None:
        """Fence off whoever wrote before: from now on only transactions of ``epoch`` are taken.

        Raises TurnLost when a later turn has begun, or a SouthError.
        """
        previous = turn_of(self._northbound.rows(GLOBAL_TABLE))
        if previous is not None and previous > epoch:
            raise TurnLost(epoch)
        if previous != epoch:
            await self._northbound.transact((TakeTurn(epoch=epoch, previous=previous),), timeout_s=self._timeout_s)
        self.turn = epoch
        self.doubt()

    def _collect(self) -> tuple[Operation, ...]:
        if not self._is_in_doubt and not self._cluster.keeps_everything:
            operations = diff.incremental(self._desired, self._pending, self._actual())
            # Names in these tables are not unique for the server: only the full comparison sees a foreign holder.
            if not any(isinstance(each, Insert) and each.table in _UNGUARDED_NAMES for each in operations):
                self._owned = self._desired.count()
                return operations
        found = self.difference()
        self._owned, self._foreign = found.rows_owned, found.rows_foreign
        return found.operations

    async def bump(self, timeout_s: float, mark: str = "") -> int:
        """Ask northd and the chassis to acknowledge everything so far; the number they will show. ``mark``: the
        revision of the intent store that this is, for other servers to see."""
        failpoint("writer.before_bump")
        receipt = await self._transact((BumpConfig(), *self._marked(mark)), timeout_s)
        assert receipt.nb_cfg is not None
        return receipt.nb_cfg

    def _marked(self, mark: str) -> tuple[Operation, ...]:
        if not mark:
            return ()
        keys = {REVISION_KEY: mark}
        found = self._northbound.rows(GLOBAL_TABLE)
        return tuple(Mutate(table=GLOBAL_TABLE, uuid=uuid, column="external_ids", keys=keys) for uuid in found)

    async def purge(self) -> dict[str, int]:
        """Remove exactly our rows; operations by verb."""
        operations = diff.purge(self._actual())
        if operations:
            await self._northbound.transact(operations, timeout_s=self._timeout_s)
        mutated = sum(isinstance(operation, Mutate) for operation in operations)
        deleted = sum(isinstance(operation, Delete) for operation in operations)
        return {"insert": 0, "update": 0, "mutate": mutated, "delete": deleted}

    def drifted(self, changes: Changes) -> bool:
        """Whether rows of ours that just changed are not what we want, and no flush is going to make them so.

        Our own commits come back as changes too, while further applies may be waiting: what those name is no drift.
        """
        if GLOBAL_TABLE in changes and is_encryption_lost(self._northbound.rows(GLOBAL_TABLE)):
            return True
        return any(
            self._differs(table, uuid, old)
            for table, rows in changes.items()
            if table in TABLES
            for uuid, old in rows.items()
        )

    def _differs(self, table: str, uuid: str, old: Row | None) -> bool:
        current = self._northbound.rows(table).get(uuid)
        shown = old if current is None else current
        # A row that lost its owner key was ours all the same.
        row_id = (shown and owner_of(table, uuid, shown)) or (old and owner_of(table, uuid, old))
        if not row_id:
            return False
        wanted = self._desired.find(row_id)
        if current is None or wanted is None or row_id.uuid != uuid:
            return (current is None) != (wanted is None) and not self._is_pending(row_id)
        scalars = self._desired.columns.scalars(row_id, wanted)
        changed = [name for name, value in current.items() if old is None or old.get(name) != value]
        if any(name in scalars and scalars[name] != current[name] for name in changed):
            return not self._is_pending(row_id)
        columns = (ColumnId(row_id, name) for name in changed if name in TABLES[table].sets)
        return any(current[column.column] != self._expected(column) for column in columns)

    def _is_pending(self, row_id: RowId) -> bool:
        return any(row_id in delta.rows(DESIRED[row_id.table]) for delta in self._pending)

    def _expected(self, column: ColumnId) -> frozenset[Any]:
        """What a set column holds before the pending deltas are sent: newest first, each is taken back."""
        found = set(self._desired.members().get(column, ()))
        for delta in reversed(self._pending):
            appeared, vanished = delta.sets(MEMBER).get(column, (set(), set()))
            found -= appeared
            found |= vanished
        return atoms(found)

    def _actual(self) -> diff.Actual:
        return {table: self._northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}

    def _count_owned(self) -> int:
        return len(diff.owned_rows(self._actual()))
