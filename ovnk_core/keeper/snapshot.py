"""Copies of the cluster that nobody changes, for questions that take longer than the event loop may be held up.

A copy costs as much as loading the cluster, in a thread; whoever asks at one revision shares it, and what was derived
from it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import anyio
import anyio.to_thread

from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import DatabaseSchema
from ovnk_core.reconcile.diff import Actual, Desired, full, owned_rows
from ovnk_core.store.history import History

T = TypeVar("T")


class Snapshot:
    """The cluster as of ``revision``. To be read in worker threads, by several at once."""

    def __init__(self, revision: int, cluster: Cluster) -> None:
        self.revision, self.cluster = revision, cluster
        self.lock = threading.RLock()
        """For what is derived and keeps notes of its own."""
        self._derived: dict[str, Any] = {}

    def once(self, name: str, derive: Callable[[Cluster], T]) -> T:
        """What ``derive`` makes of the cluster, made when it is first asked for under this name."""
        with self.lock:
            if name not in self._derived:
                self._derived[name] = derive(self.cluster)
            return cast(T, self._derived[name])


class Snapshots:
    """Makes snapshots of ``plane``; ``lock`` is held while a state is read."""

    def __init__(self, plane: ControlPlane, history: History, lock: anyio.Lock) -> None:
        self._plane, self._history, self._lock = plane, history, lock
        self._newest: tuple[int, Snapshot] | None = None
        self._making = anyio.Lock(fast_acquire=True)

    async def latest(self) -> Snapshot:
        """Of everything that is in force now."""
        async with self._making:
            async with self._lock:
                mark, revision = self._plane.revision, self._history.revision
                if self._newest is not None and self._newest[0] == mark:
                    return self._newest[1]
                build = self._plane.cluster.copying()
            # Two at a time would be one too many for the memory.
            self._newest = None
            self._newest = mark, Snapshot(revision, await anyio.to_thread.run_sync(build))
            return self._newest[1]

    async def changed(self, before: Snapshot, meaning: Meaning) -> Cluster:
        """A copy to which ``meaning`` happened, on the server whose turn it would be."""

        def make() -> Cluster:
            twin = before.cluster.copy()
            twin.is_deciding = True
            twin.apply(meaning.put.values(), meaning.gone, meaning.refused.values())
            return twin

        return await anyio.to_thread.run_sync(make)


class Pending(NamedTuple):
    """Operations that lead the northbound to ``revision``; ``owners`` of the rows they are about, by uuid, where that
    can be told."""

    revision: int
    operations: tuple[Operation, ...]
    owners: dict[str, RowId]


def missing(snapshot: Snapshot, actual: Actual, schema: DatabaseSchema, *, adopt: bool) -> Pending:
    """What separates the rows of a database from those of a snapshot. Raises Conflict. For worker threads.

    Nothing at all while the network configuration is refused: no row can be derived without it.
    """
    if snapshot.cluster.keeps_everything:
        return Pending(snapshot.revision, (), {})
    desired = Desired(snapshot.cluster.engine, schema)
    operations = full(desired, actual, adopt=adopt).operations
    owners = owned_rows(actual) | {row_id.uuid: row_id for row_id, _ in desired.rows()}
    return Pending(snapshot.revision, operations, owners)
