"""``NativeNorthbound``: the port over a connection that is opened again whenever it is lost.

One background task owns the connection; it ends in ``close``. A transaction is compiled in slices, then handed to the
transport in one piece, so that neither a slow loop nor a cancellation can split it. What happens to it afterwards is
known only from the reply: a timeout or a lost connection is ``UnknownOutcome``, never a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from ovnk_core.errors import Rejected, SchemaMismatch, SouthError, UnknownOutcome, Unreachable
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.schema import DatabaseSchema, Row
from ovnk_core.northbound.changes import ChangeHub, ChangeStream
from ovnk_core.northbound.native.cluster import Cluster
from ovnk_core.northbound.native.monitor import ZERO_ID, Mirror
from ovnk_core.northbound.native.session import LOAD_GRACE_S, Connection, Liveness, Lost
from ovnk_core.northbound.native.tls import Tls
from ovnk_core.northbound.native.transact import Compiler
from ovnk_core.northbound.port import Receipt, check_lock_name

BACKOFF_S = (0.1, 2.0)
SLICE_S = 0.004
_MONITOR = "ovnk"


class NativeNorthbound:
    """``address``: one remote or several, comma separated: all are tried at once and the leader is used.

    ``tls`` is for ``ssl:`` remotes: certificate files, which each connection reads anew, or a context ready to use.
    """

    def __init__(
        self,
        address: str,
        *,
        database: str = "OVN_Northbound",
        liveness: Liveness | None = None,
        tls: Tls = None,
    ) -> None:
        self._address, self._database = address, database
        self._cluster = Cluster(address, database, liveness=liveness, tls=tls)
        self._hub = ChangeHub()
        self._mirror = Mirror(self._hub)
        self._tables: Mapping[str, Sequence[str]] = {}
        self._schema: DatabaseSchema | None = None
        self._connection: Connection | None = None
        self._ready = asyncio.Event()
        self._failure = "not connected"
        self._heard_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._lock, self._has_lock = "", False

    @property
    def address(self) -> str:
        return self._address

    @property
    def heard_s(self) -> float:
        return self._heard_s if self._connection is None else self._connection.heard_s

    @property
    def schema(self) -> DatabaseSchema:
        if self._schema is None:
            raise Unreachable(f"{self._address}: {self._failure}")
        return self._schema

    async def connect(self, tables: Mapping[str, Sequence[str]], *, timeout_s: float = 10.0) -> None:
        """See the port. Does not wait for a server that is not there: that is Unreachable at once."""
        self._tables = {table: tuple(columns) for table, columns in tables.items()}
        try:
            async with asyncio.timeout(timeout_s):
                await self._establish()
        except TimeoutError:
            raise Unreachable(f"{self._address}: not connected within {timeout_s:g} s") from None
        self._task = asyncio.create_task(self._maintain())

    async def close(self) -> None:
        self._failure = "closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        self._ready.clear()
        self._hub.close()

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._mirror.tables.get(table, {})

    def changes(self) -> ChangeStream:
        return self._hub.subscribe()

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        deadline = asyncio.get_running_loop().time() + timeout_s
        operations = tuple(operations)
        connection = await self._connected(deadline)
        compiler = Compiler(self.schema, self._lock)
        pause_at = time.perf_counter() + SLICE_S
        for operation in operations:
            compiler.add(operation)
            if time.perf_counter() > pause_at:
                await asyncio.sleep(0)
                pause_at = time.perf_counter() + SLICE_S
        parameters = compiler.encode(self._database)
        try:
            async with asyncio.timeout_at(deadline):
                reply = await connection.request("transact", parameters)
        except TimeoutError:
            raise UnknownOutcome(f"{self._address}: no reply within {timeout_s:g} s") from None
        except Lost as error:
            raise (UnknownOutcome if error.was_sent else Unreachable)(str(error)) from error
        return compiler.receipt(msgspec.json.decode(reply))

    async def lock(self, name: str) -> bool:
        check_lock_name(name, self._lock)
        connection = await self._connected(asyncio.get_running_loop().time() + 10.0)
        if not self._lock:
            self._lock = name
            try:
                await self._ask_lock(connection)
            except Lost as error:
                # The next connection asks again by itself.
                raise Unreachable(str(error)) from error
        return self._has_lock

    async def _connected(self, deadline: float) -> Connection:
        """The live connection, waiting for it until ``deadline``. Raises Unreachable."""
        if self._task is None:
            raise Unreachable(f"{self._address}: {self._failure}")
        if self._task.done() and not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    await self._ready.wait()
                    if self._connection is not None and not self._connection.closed.is_set():
                        return self._connection
                    # Lost a moment ago; the task that owns it has yet to notice.
                    await asyncio.sleep(0)
        except TimeoutError:
            raise Unreachable(f"{self._address}: {self._failure}") from None

    async def _maintain(self) -> None:
        """Own the connection: wait until it is lost, then open another one, less and less often."""
        backoff_s = BACKOFF_S[0]
        while True:
            if self._connection is not None:
                born = time.monotonic()
                await self._lose(self._connection)
                # One that failed at once counts as another failed attempt.
                if time.monotonic() - born > BACKOFF_S[0]:
                    backoff_s = 0.0
            await asyncio.sleep(backoff_s)
            backoff_s = min(max(backoff_s * 2, BACKOFF_S[0]), BACKOFF_S[1])
            try:
                await self._establish()
            except SouthError as error:
                self._failure = str(error)

    async def _lose(self, connection: Connection) -> None:
        """Wait until the connection is lost, and clear it away."""
        await connection.closed.wait()
        self._ready.clear()
        self._failure, self._has_lock, self._heard_s = connection.failure, False, connection.heard_s
        if connection.is_in_doubt:
            self._mirror.last_id = ZERO_ID
        await connection.close()
        self._connection = None

    async def _establish(self) -> None:
        """Open, learn the schema, take the lock again, load the mirror. Raises Unreachable or SchemaMismatch."""
        connection, schema, _ = await self._cluster.open(self._notified)
        try:
            requests = self._mirror.watch(schema, self._tables)
            self._schema = schema
            if self._lock:
                await self._ask_lock(connection)
            parameters = [self._database, _MONITOR, requests, self._mirror.last_id]
            await connection.request("monitor_cond_since", parameters, handler=self._mirror.load, grace_s=LOAD_GRACE_S)
        except Rejected as error:
            await connection.close()
            raise SchemaMismatch(f"{connection.remote}: {error}") from error
        except Lost as error:
            await connection.close()
            if connection.is_in_doubt:
                self._mirror.last_id = ZERO_ID
            raise Unreachable(str(error)) from error
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._ready.set()

    async def _ask_lock(self, connection: Connection) -> None:
        await connection.request("lock", [self._lock], handler=self._answered_lock)

    async def _answered_lock(self, reply: msgspec.Raw) -> None:
        # Inside the reader: a "locked" or "stolen" that follows the reply must have the last word.
        self._has_lock = bool(msgspec.json.decode(reply)["locked"])

    async def _notified(self, method: str, params: msgspec.Raw) -> None:
        match method:
            case "update3":
                await self._mirror.update(params)
            case "locked" | "stolen":
                self._has_lock = method == "locked"
            case "monitor_canceled":
                self._mirror.last_id = ZERO_ID
                if self._connection is not None:
                    self._connection.fail("the server canceled the monitor")
            case _:
                pass
