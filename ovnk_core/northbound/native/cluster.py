"""Which member of a cluster to talk to, and for how long.

Every server describes itself in a database of its own, ``_Server``: whether it leads its cluster, whether it reaches
the others, how far its log is. All remotes are dialled at once and each connection listens to that description; the
first member that is fit wins and the others are closed. An election is therefore waited out on open connections,
without polling. The winner is listened to further: a leader that steps down keeps its connections open, so we leave.

With several remotes only the leader is fit: its reads are current, and OVSDB locks, which every member keeps for
itself, exclude as long as all contenders ask the leader. A single remote is taken as it is given, a follower too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ovnk_core.errors import Rejected, SchemaMismatch, SouthError, Unreachable
from ovnk_core.nb.schema import DatabaseSchema, parse_schema
from ovnk_core.northbound.native.session import Connection, Liveness, Lost, Notify, open_stream
from ovnk_core.northbound.native.tls import Tls

PATIENCE_S = 1.0
"""A member that is not fit is listened to for so long, then all remotes are dialled again: one that was down when the
round began may lead by now."""

_SERVER = "_Server"
_COLUMNS = ("name", "leader", "connected", "cid", "index")


class Opened(NamedTuple):
    """A fit connection, the schema it serves, and the schema's raw JSON."""

    connection: Connection
    schema: DatabaseSchema
    raw: Any


class Cluster:
    """The remotes of one database; remembers how far the log was seen, so that nothing older is shown afterwards."""

    def __init__(self, address: str, database: str, *, liveness: Liveness | None = None, tls: Tls = None) -> None:
        self.address, self.database = address, database
        self.liveness, self.tls = liveness or Liveness(), tls
        self.remotes = tuple(remote.strip() for remote in address.split(",") if remote.strip())
        if not self.remotes:
            raise ValueError("no remote is given")
        self._seen: dict[str, int] = {}

    async def open(self, notify: Notify) -> Opened:
        """Dial all remotes -> the first fit one; ``notify`` gets what it sends.

        Raises SchemaMismatch when every server answered without the database (one that is still joining its cluster
        does that, too), else Unreachable with every reason.
        """
        tasks = [asyncio.create_task(Member(self, remote, notify).open()) for remote in self.remotes]
        waiting, failures = set(tasks), list[SouthError]()
        winner: asyncio.Task[Opened] | None = None
        try:
            while waiting and winner is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        winner = winner or task
                    elif isinstance(error, SouthError):
                        failures.append(error)
                    else:
                        raise error
            if winner is not None:
                return winner.result()
        finally:
            await _discard([task for task in tasks if task is not winner])
        if all(isinstance(error, SchemaMismatch) for error in failures):
            raise failures[0]
        raise Unreachable("; ".join(map(str, failures)))

    def judge(self, row: dict[str, Any]) -> str:
        """Why a member with this row of ``_Server`` is of no use; empty when it is fit.

        The log of a cluster only grows: a member behind what we saw would take the mirror back in time. A cluster
        made anew has another id and starts from nothing. A standalone server leads, is connected and has no log.
        """
        if not row["connected"]:
            return "the member is cut off from its cluster"
        if len(self.remotes) > 1 and not row["leader"]:
            return "the member is not the leader of its cluster"
        cid, index = str(row["cid"]), row["index"]
        if isinstance(index, int):
            if index < self._seen.get(cid, 0):
                return "the member is behind what was seen before"
            self._seen[cid] = index
        return ""


async def _discard(losers: Sequence[asyncio.Task[Opened]]) -> None:
    """Cancel the attempts that lost and close what they had opened."""
    for task in losers:
        task.cancel()
    for outcome in await asyncio.gather(*losers, return_exceptions=True):
        if isinstance(outcome, Opened):
            await outcome.connection.close()


class Member:
    """One remote, from dialling until its connection fails."""

    def __init__(self, cluster: Cluster, remote: str, notify: Notify) -> None:
        self._cluster, self._remote, self._notify = cluster, remote, notify
        self._connection: Connection | None = None
        self._misfit = ""
        self._fit = asyncio.Event()

    async def open(self) -> Opened:
        """Dial and wait until the member is fit. Raises SchemaMismatch or Unreachable."""
        liveness, database = self._cluster.liveness, self._cluster.database
        try:
            async with asyncio.timeout(liveness.idle_s + liveness.dead_s):
                streams = await open_stream(self._remote, self._cluster.tls)
        except TimeoutError:
            raise Unreachable(f"{self._remote}: no answer for {liveness.idle_s + liveness.dead_s:g} s") from None
        self._connection = connection = Connection(self._remote, streams, self._notified, liveness)
        try:
            raw = msgspec.json.decode(await connection.request("get_schema", [database]))
            await self._become_fit(connection)
            return Opened(connection, parse_schema(raw), raw)
        except Rejected as error:
            await connection.close()
            raise SchemaMismatch(f"{self._remote} does not serve {database}: {error.error}") from error
        except Lost as error:
            await connection.close()
            raise Unreachable(str(error)) from error
        except BaseException:
            await connection.close()
            raise

    async def _become_fit(self, connection: Connection) -> None:
        request = [_SERVER, "member", {"Database": [{"columns": list(_COLUMNS)}]}]
        try:
            await connection.request("monitor", request, handler=self._described)
        except Rejected:
            # Servers before 2.9 have no such database, nor clusters.
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._fit.wait()
        except TimeoutError:
            raise Unreachable(connection.failure or f"{self._remote}: {self._misfit}") from None

    async def _notified(self, method: str, params: msgspec.Raw) -> None:
        if method == "update":
            await self._described(msgspec.json.decode(params, type=tuple[Any, msgspec.Raw])[1])
        else:
            await self._notify(method, params)

    async def _described(self, tables: msgspec.Raw) -> None:
        """Take what the member says of itself: the first time, and whenever it changes."""
        for update in msgspec.json.decode(tables).get("Database", {}).values():
            row = update.get("new")
            if row is None or row["name"] != self._cluster.database:
                continue
            self._misfit = self._cluster.judge(row)
            if not self._misfit:
                self._fit.set()
            elif self._fit.is_set() and self._connection is not None:
                self._connection.fail(self._misfit)
