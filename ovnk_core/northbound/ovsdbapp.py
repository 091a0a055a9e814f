"""``OvsdbappNorthbound``: the port over an ovsdbapp connection, for users who already hold one.

ovsdbapp runs python-ovs' IDL in a thread of its own; everything that touches the IDL happens there, transactions as
jobs of its queue. The rows of a transaction are sent as raw operations of the IDL's transaction, compiled as for the
native driver: the row objects of the IDL drop values they cannot convert with a log line, never delete rows of non-root
tables, and cannot tell a refusal from a lost reply. The IDL still keeps the replica, asserts the lock and reconnects.
For the writer's turn this matters most: ``verify`` of a row object would compare the whole external_ids map with the
replica, so any other key that changed meanwhile would look like a lost turn. The raw ``wait`` names one key.
No class of ovsdbapp that stores its connection on the class is used, so two northbounds can coexist.

Limits: one item of ``changes`` may hold several updates; the IDL's poller is select(2), so file descriptors above 1023
break it; loading is an order of magnitude slower than the native driver's.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio.to_thread
import msgspec
import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.timeval
from ovsdbapp.backend.ovs_idl import connection as ovsdbapp_connection
from ovsdbapp.backend.ovs_idl import idlutils

from ovnk_core.errors import Rejected, SouthError, UnknownOutcome, Unreachable
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.schema import DatabaseSchema, Row, decode, default, parse_schema
from ovnk_core.northbound.changes import ChangeHub, ChangeStream, replace
from ovnk_core.northbound.native.cluster import Cluster
from ovnk_core.northbound.native.monitor import Staged, Watched, watched
from ovnk_core.northbound.native.transact import Compiler
from ovnk_core.northbound.port import Receipt, check_lock_name

BACKOFF_MS = (100, 2000)
PROBE_MS = 5000
QUEUE_S = 30.0


class OvsdbappNorthbound:
    """On an ``address``, or on an ovsdbapp ``Connection`` that somebody else started and will stop.

    Of a foreign connection the mirror shows the tables and columns that its IDL was registered for.
    """

    def __init__(self, address: str = "", *, connection: Any = None, database: str = "OVN_Northbound") -> None:
        if bool(address) == (connection is not None):
            raise ValueError("give either an address or a connection")
        self._address = address or str(connection.idl.session_name())
        self._database = database
        self._connection, self._is_ours = connection, connection is None
        self._schema: DatabaseSchema | None = None
        self._hub = ChangeHub()
        self._mirror: dict[str, dict[str, Row]] = {}
        self._tap: _Tap | None = None
        self._lock = ""

    @property
    def address(self) -> str:
        return self._address

    @property
    def heard_s(self) -> float:
        # The session's own clock, monotonic milliseconds; what it sends at once does not count there.
        silent_ms = ovs.timeval.msec() - self._connection.idl._session.reconnect.last_activity
        return float(time.time() - silent_ms / 1000)

    @property
    def schema(self) -> DatabaseSchema:
        if self._schema is None:
            raise Unreachable(f"{self._address}: not connected")
        return self._schema

    async def connect(self, tables: Mapping[str, Sequence[str]], *, timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        if self._is_ours:
            raw = await self._probe(timeout_s)
            self._schema = parse_schema(raw)
            of = watched(self._schema, tables)
            self._connection = _connection(self._address, raw, of)
        else:
            self._schema = parse_schema(self._connection.idl._db.to_json())
            of = watched(self._schema, tables)
        self._mirror = {table: {} for table in of}
        loop = asyncio.get_running_loop()
        self._tap = _Tap(self._connection.idl, of, lambda *args: _post(loop, self._take, *args))
        try:
            await anyio.to_thread.run_sync(self._start, self._tap, deadline)
        except BaseException:
            await self.close()
            raise
        await asyncio.sleep(0)

    async def _probe(self, timeout_s: float) -> Any:
        """The server's schema, by a short connection of our own: the IDL would retry a wrong address for ever."""

        async def ignore(method: str, params: Any) -> None:
            del method, params

        try:
            async with asyncio.timeout(timeout_s):
                connection, _, raw = await Cluster(self._address, self._database).open(ignore)
        except TimeoutError:
            raise Unreachable(f"{self._address}: not connected within {timeout_s:g} s") from None
        await connection.close()
        return raw

    def _start(self, tap: _Tap, deadline: float) -> None:
        connection = self._connection
        with connection.lock:
            tap.install()
        if self._is_ours:
            connection.timeout = max(deadline - time.monotonic(), 0.1)
            try:
                connection.start()
            except Exception as error:  # ovsdbapp raises bare exceptions of no type of its own here
                raise Unreachable(f"{self._address}: {error}") from error
            connection.timeout = QUEUE_S
        while not tap.is_current:
            if time.monotonic() > deadline:
                raise Unreachable(f"{self._address}: no content in time")
            with connection.lock:
                tap.flush()
            time.sleep(0 if tap.is_current else 0.005)

    def _take(self, staged: Staged, is_reset: bool) -> None:
        self._hub.publish(replace(self._mirror, staged, is_reset=is_reset))

    async def close(self) -> None:
        tap, self._tap = self._tap, None
        if tap is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._stop, tap)
        self._hub.close()

    def _stop(self, tap: _Tap) -> None:
        with self._connection.lock:
            tap.remove()
        if self._is_ours and not self._connection.stop(timeout=10):
            raise Unreachable(f"{self._address}: the connection's thread does not end")

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._mirror.get(table, {})

    def changes(self) -> ChangeStream:
        return self._hub.subscribe()

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        compiler = Compiler(self.schema)
        for operation in tuple(operations):
            compiler.add(operation)
        wire = [msgspec.json.decode(encoded) for encoded in compiler.encoded]
        job = _Commit(self._connection.idl, wire, timeout_s)
        return compiler.receipt(await self._run(job))

    async def lock(self, name: str) -> bool:
        check_lock_name(name, self._lock)
        self._lock = name
        return bool(await self._run(_Lock(self._connection.idl, name, 10.0)))

    async def _run(self, job: _Job) -> Any:
        """Have the connection's thread run ``job``. Raises its SouthError, Unreachable or UnknownOutcome."""
        if self._tap is None:
            raise Unreachable(f"{self._address}: not connected")
        outcome = await anyio.to_thread.run_sync(self._submit, job)
        # The mirror's updates were posted to the loop before this result was: let them through first.
        await asyncio.sleep(0)
        if isinstance(outcome, SouthError):
            raise outcome
        return outcome

    def _submit(self, job: _Job) -> Any:
        try:
            # As queue_txn does, but no longer than our own caller waits.
            self._connection.txns.put(job, timeout=max(job.deadline - time.monotonic(), 0.001))
            outcome = job.results.get(timeout=max(job.deadline - time.monotonic(), 0) + 1.0)
        except (queue.Empty, queue.Full):
            return job.give_up(self._address)
        if isinstance(outcome, idlutils.ExceptionResult):
            raise outcome.ex
        return outcome


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> None:
    # The loop may be gone while the thread still winds down.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


def _connection(address: str, raw_schema: Any, of: Mapping[str, Watched]) -> Any:
    helper = ovs.db.idl.SchemaHelper(schema_json=raw_schema)
    for table, columns in of.items():
        helper.register_columns(table, list(columns.columns))
    idl = ovsdbapp_connection.OvsdbIdl(address, helper, probe_interval=PROBE_MS, leader_only="," in address)
    idl._session.reconnect.set_backoff(*BACKOFF_MS)
    return ovsdbapp_connection.Connection(idl, QUEUE_S)


class _Tap:
    """Follows an IDL from inside its thread: after each ``run`` the rows that changed go to ``post``.

    After a reconnect the IDL may have dropped rows without a word, so the whole content is posted instead.
    """

    def __init__(self, idl: Any, of: Mapping[str, Watched], post: Callable[[Staged, bool], None]) -> None:
        self.is_current = False
        self._idl, self._of, self._post = idl, of, post
        self._pending: dict[tuple[str, str], Any] = {}
        self._seqno: int | None = None
        self._run, self._notify = idl.run, idl.notify
        self._replaced = {name: vars(idl)[name] for name in ("run", "notify") if name in vars(idl)}

    def install(self) -> None:
        self._idl.run, self._idl.notify = self.run, self.notify

    def remove(self) -> None:
        # Both were set on the instance; without them the methods of its class show again.
        for name in ("run", "notify"):
            vars(self._idl).pop(name, None)
        vars(self._idl).update(self._replaced)

    def run(self) -> Any:
        changed = self._run()
        self.flush()
        return changed

    def notify(self, event: Any, row: Any, updates: Any = None) -> None:
        self._pending[row._table.name, str(row.uuid)] = None if event == ovs.db.idl.ROW_DELETE else row
        self._notify(event, row, updates)

    def flush(self) -> None:
        if self._idl.state != self._idl.IDL_S_MONITORING:
            return
        staged: Staged = {}
        if is_reset := self._seqno != self._idl._last_seqno:
            self._seqno = self._idl._last_seqno
            for table in self._of:
                rows = self._idl.tables[table].rows
                staged[table] = {str(uuid): self._row(table, rows[uuid]) for uuid in list(rows)}
        else:
            for (table, uuid), row in self._pending.items():
                if table in self._of:
                    staged.setdefault(table, {})[uuid] = None if row is None else self._row(table, row)
        self._pending.clear()
        if staged or is_reset:
            self._post(staged, is_reset)
        self.is_current = True

    def _row(self, table: str, row: Any) -> Row:
        columns = self._of[table].columns
        return {
            name: decode(column, row._data[name].to_json()) if name in row._data else default(column)
            for name, column in columns.items()
        }


class _Job(ABC):
    """Work for the connection's thread; ovsdbapp calls ``do_commit`` and puts what it returns into ``results``."""

    def __init__(self, idl: Any, timeout_s: float) -> None:
        self.results: queue.Queue[Any] = queue.Queue(1)
        self.deadline = time.monotonic() + timeout_s
        self.idl = idl
        self._timeout_s = timeout_s
        self._mutex = threading.Lock()
        self._is_started = self._is_abandoned = False

    def do_commit(self) -> Any:
        with self._mutex:
            if self._is_abandoned:
                return None
            self._is_started = True
        while self.idl.state != self.idl.IDL_S_MONITORING:
            if time.monotonic() >= self.deadline:
                return Unreachable(f"{self.idl.session_name()}: not connected")
            self.pump()
        return self.work()

    @abstractmethod
    def work(self) -> Any:
        """Do it; the result, or the error to raise in the caller."""

    def give_up(self, address: str) -> SouthError:
        """Nobody waits any more. Not started means never sent."""
        with self._mutex:
            self._is_abandoned = True
            if not self._is_started:
                return Unreachable(f"{address}: not sent within {self._timeout_s:g} s")
        return UnknownOutcome(f"{address}: no reply within {self._timeout_s:g} s")

    def pump(self) -> None:
        """One turn of the IDL, waiting for news but not beyond the deadline."""
        poller = ovs.poller.Poller()
        self.idl.wait(poller)
        poller.timer_wait(max(0, min(50, int((self.deadline - time.monotonic()) * 1000))))
        poller.block()
        self.idl.run()


class _Transaction(ovs.db.idl.Transaction):  # type: ignore[misc]  # python-ovs ships no types
    """Keeps the reply, of which the IDL keeps a summary only."""

    reply: Any = None

    def _process_reply(self, msg: Any) -> None:
        self.reply = msg
        super()._process_reply(msg)


class _Commit(_Job):
    def __init__(self, idl: Any, wire: Sequence[dict[str, Any]], timeout_s: float) -> None:
        super().__init__(idl, timeout_s)
        self._wire = wire

    def work(self) -> Any:
        """The results of the operations, or a SouthError."""
        while True:
            transaction = _Transaction(self.idl)
            # The IDL sends nothing at all without an operation; a comment changes nothing and comes back.
            for operation in self._wire or [{"op": "comment", "comment": "barrier"}]:
                transaction.add_op(operation)
            status = transaction.commit()
            if status == transaction.NOT_LOCKED:
                return Rejected("not owner", f"the lock {self.idl.lock_name} is held by another client")
            if status == transaction.INCOMPLETE:
                break
            # Not sent, because the connection turned out to be lost.
            if time.monotonic() >= self.deadline:
                return Unreachable(f"{self.idl.session_name()}: not connected")
            self.pump()
        seqno = self.idl._session.get_seqno()
        while transaction.commit() == transaction.INCOMPLETE:
            is_lost = not self.idl._session.is_connected() or self.idl._session.get_seqno() != seqno
            if is_lost or time.monotonic() >= self.deadline:
                self.idl._outstanding_txns.pop(transaction._request_id, None)
                transaction.abort()
                break
            self.pump()
        reply = transaction.reply
        if reply is None:
            return UnknownOutcome(f"{self.idl.session_name()}: no reply within {self._timeout_s:g} s")
        if reply.type == ovs.jsonrpc.Message.T_ERROR:
            return Rejected(str(reply.error))
        asserted = 1 if self.idl.lock_name else 0
        if asserted and reply.result and reply.result[0].get("error"):
            return Rejected("not owner", f"the lock {self.idl.lock_name} is held by another client")
        return reply.result[asserted:]


class _Lock(_Job):
    def __init__(self, idl: Any, name: str, timeout_s: float) -> None:
        super().__init__(idl, timeout_s)
        self._name = name

    def work(self) -> Any:
        self.idl.set_lock(self._name)
        while not self.idl.has_lock and not self.idl.is_lock_contended and time.monotonic() < self.deadline:
            self.pump()
        return bool(self.idl.has_lock)
