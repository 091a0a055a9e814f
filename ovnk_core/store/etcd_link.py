"""Requests to an etcd cluster: the only module that knows etcd's client package.

One channel per member, made at once and connected when used; requests go to the current member, and to the next one
after a failure. What etcd answers becomes one of four things: a result, an error that means nothing was changed
(StoreFull, QuotaError, StoreUnavailable), or, for what may not be sent twice, StoreUnknown. The package's own retries
and its reconnecting watch are not relied on: it is always told to try once.

Every request runs in a task of its own, and its caller waits for that task. grpc ends a cancelled request, and one on a
channel that was closed, with a bare CancelledError; let through, it would pass for a cancellation of the caller that no
cancel scope remembers to have asked for. The price is one task per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import grpc
from etcd3aio import EtcdError, EtcdPermissionDeniedError, EtcdUnauthenticatedError
from etcd3aio._protobuf import WatchRequest, WatchStub
from etcd3aio.kv import KVService, SortOrder
from etcd3aio.lease import LeaseService
from etcd3aio.maintenance import AlarmType, MaintenanceService

from ovnk_core.errors import QuotaError, StoreError, StoreFull, StoreUnavailable, StoreUnknown
from ovnk_core.store.address import EtcdTls
from ovnk_core.terms.struct import Value

__all__ = ["EtcdLink", "Outcome", "Outdated", "Page", "Record", "created_is", "delete", "get", "modified_is", "put"]

T = TypeVar("T")
Call = Callable[["Member", float], Coroutine[Any, Any, T]]
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
CONNECT_S = 1.0
"""How long one member is waited for before the next one is tried."""
POLL_S = 0.02
PAUSE_S = 0.05
GIVE_UP = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 6_000),  # etcd hangs up on who asks more often than every 5 s
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]
created_is = KVService.txn_compare_create_revision
put = KVService.txn_op_put
delete = KVService.txn_op_delete
get = KVService.txn_op_get


def modified_is(key: bytes, revision: int) -> Any:
    """The condition that ``key`` was last changed at etcd's ``revision``; 0: does not exist."""
    compare = created_is(key, 0)
    compare.target, compare.mod_revision = compare.MOD, revision
    return compare


class Record(Value, frozen=True, kw_only=True, gc=False):
    """A key of etcd with its value and etcd's own revisions; all zero when it does not exist."""

    key: bytes = b""
    value: bytes = b""
    created: int = 0
    modified: int = 0


class Page(Value, frozen=True, kw_only=True):
    """Keys of a range, in order, as of etcd's ``revision``."""

    records: tuple[Record, ...]
    revision: int
    has_more: bool


class Outcome(Value, frozen=True, kw_only=True):
    """Of a transaction: whether its conditions held, etcd's revision, and what its gets found (missing: empty)."""

    is_done: bool
    revision: int
    found: tuple[Record, ...] = ()


class Outdated(Exception):
    """The revision that was asked for is compacted by etcd: read again from the start."""


class Interrupted(Exception):
    """No answer: the request may or may not have been carried out."""


class Member:
    """One server of the cluster."""

    def __init__(self, endpoint: str, credentials: Any) -> None:
        self.endpoint = endpoint
        self.channel = (
            grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
        )
        self.kv = KVService(self.channel, max_attempts=1)
        self.lease = LeaseService(self.channel, max_attempts=1)
        # The package's own watch never ends the task that feeds it when the connection breaks.
        self.watch = WatchStub(self.channel).Watch
        self.maintenance = MaintenanceService(self.channel, max_attempts=1)

    async def is_ready(self, timeout_s: float) -> bool:
        """Connect if need be. Polled while there is no connection: waiting for a change cannot be given up cleanly."""
        deadline = time.monotonic() + timeout_s
        while (state := self.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state in GIVE_UP or time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True


class EtcdLink:
    """The members ``endpoints`` (``HOST:PORT``). ``timeout_s``: for how long one request is tried, on all of them."""

    def __init__(self, endpoints: Sequence[str], tls: EtcdTls | None, timeout_s: float) -> None:
        self.address, self._endpoints, self._tls = f"etcd:{','.join(endpoints)}", tuple(endpoints), tls
        self.timeout_s = timeout_s
        self._members: tuple[Member, ...] = ()
        self._current = 0

    @property
    def is_closed(self) -> bool:
        return not self._members

    async def open(self) -> None:
        """Make the channels. Raises StoreUnavailable when a TLS file cannot be read."""
        credentials = None
        if self._tls is not None:
            try:
                ca, cert, key = (
                    Path(name).read_bytes() if name else None for name in (self._tls.ca, self._tls.cert, self._tls.key)
                )
            except OSError as error:
                raise StoreUnavailable(f"{self.address}: {error.filename}: {error.strerror}") from error
            credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
        self._members = tuple(Member(endpoint, credentials) for endpoint in self._endpoints)

    async def close(self) -> None:
        """Idempotent. Requests under way end with StoreUnavailable."""
        members, self._members = self._members, ()
        for member in members:
            await member.channel.close()

    # ------------------------------------------------------------------ trying

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """Everything that is asked within, together, is tried for as long as one request would be."""
        token = _deadline.set(self._until())
        try:
            yield
        finally:
            _deadline.reset(token)

    def _until(self) -> float:
        return min(_deadline.get(), time.monotonic() + self.timeout_s)

    @property
    def is_late(self) -> bool:
        """Whether the time of the ``in_time`` around us is over."""
        return time.monotonic() >= _deadline.get()

    async def _ready(self, deadline: float) -> Member:
        while True:
            if not self._members:
                raise StoreUnavailable(f"{self.address}: the log is not open")
            member = self._members[self._current % len(self._members)]
            left = deadline - time.monotonic()
            if await member.is_ready(min(CONNECT_S, max(left, 0.0))):
                return member
            if left <= 0:
                raise StoreUnavailable(f"{self.address}: no member can be reached")
            self._current += 1
            await asyncio.sleep(POLL_S)

    async def _attempt(self, member: Member, call: Call[T], deadline: float) -> T:
        """One try. Raises Interrupted when its outcome is unknown, a StoreError when nothing was changed."""
        timeout_s = min(max(self.timeout_s / 2, 0.5), max(deadline - time.monotonic(), 0.01))
        try:
            return await _alone(call(member, timeout_s), timeout_s)
        except (EtcdError, grpc.RpcError, grpc.aio.UsageError, TimeoutError) as error:
            self._current += 1
            raise self._translated(error, member) from error

    def _translated(self, error: Exception, member: Member) -> Exception:
        cause = error if isinstance(error, grpc.RpcError) else error.__cause__
        code = cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
        text = (cause.details() if isinstance(cause, grpc.aio.AioRpcError) else "") or str(error)
        message = f"etcd:{member.endpoint}: {text or type(error).__name__}"
        if isinstance(error, EtcdPermissionDeniedError | EtcdUnauthenticatedError):
            return StoreUnavailable(message)
        codes = grpc.StatusCode
        if code is codes.RESOURCE_EXHAUSTED:
            if "space exceeded" in text:
                return StoreFull(message)
            return QuotaError(message) if "larger than max" in text else StoreUnavailable(message)
        if code is codes.INVALID_ARGUMENT and "too large" in text:
            return QuotaError(message)
        if code is codes.OUT_OF_RANGE and "compacted" in text:
            return Outdated(message)
        if code in (codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION, codes.NOT_FOUND, codes.OUT_OF_RANGE):
            return StoreUnavailable(message)
        return Interrupted(message)

    async def _repeat(self, call: Call[T]) -> T:
        """Try until there is an answer; for what may be carried out twice. Raises StoreError or Outdated."""
        deadline = self._until()
        while True:
            member = await self._ready(deadline)
            try:
                return await self._attempt(member, call, deadline)
            except Interrupted as error:
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(f"{self.address}: no answer in {self.timeout_s:g} s ({error})") from error
            await asyncio.sleep(PAUSE_S)

    # ------------------------------------------------------------------ keys

    async def get(self, key: bytes) -> Record:
        """The present value, as the majority has it."""
        found = (await self.page(key, b"", limit=1)).records
        return found[0] if found else Record()

    async def page(
        self, first: bytes, end: bytes, *, limit: int, revision: int = 0, is_keys_only: bool = False
    ) -> Page:
        """At most ``limit`` keys of [first, end) in order (``end`` empty: that key alone), as of etcd's ``revision``
        (0: the present). Raises Outdated."""
        answer = await self._repeat(
            lambda member, timeout_s: member.kv.get(
                first,
                end or None,
                revision=revision,
                limit=limit,
                sort_order=SortOrder.ASCEND,
                keys_only=is_keys_only,
                timeout=timeout_s,
            )
        )
        return Page(records=_records(answer.kvs), revision=answer.header.revision, has_more=answer.more)

    async def transact(
        self, conditions: Sequence[Any], then: Sequence[Any], otherwise: Sequence[Any] = (), *, is_repeatable: bool
    ) -> Outcome:
        """All of ``then`` when every condition holds, else ``otherwise``.

        ``is_repeatable``: carrying it out twice does no harm, so it is tried until there is an answer. Else it is sent
        once. Raises StoreUnavailable (not sent), StoreUnknown (sent, no answer), StoreFull, QuotaError.
        """

        async def call(member: Member, timeout_s: float) -> Any:
            return await member.kv.txn(conditions, then, otherwise, timeout=timeout_s)

        if is_repeatable:
            answer = await self._repeat(call)
        else:
            deadline = self._until()
            member = await self._ready(deadline)
            try:
                answer = await self._attempt(member, call, deadline)
            except Interrupted as error:
                raise StoreUnknown(f"{self.address}: sent, but no answer came ({error})") from error
        found = [
            (*_records(each.response_range.kvs), Record())[0]
            for each in answer.responses
            if each.HasField("response_range")
        ]
        return Outcome(is_done=answer.succeeded, revision=answer.header.revision, found=tuple(found))

    async def watch(self, key: bytes, timeout_s: float) -> AsyncGenerator[None, None]:
        """One item when the watch is in place, then one per change of ``key``; ends after ``timeout_s`` or an error."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(TimeoutError, StoreError):
            member = await self._ready(deadline)
            call = member.watch()
            try:
                wanted = WatchRequest(create_request={"key": key})
                await _alone(call.write(wanted), deadline - time.monotonic())
                while await _alone(call.read(), deadline - time.monotonic()) is not grpc.aio.EOF:
                    yield
            except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError, Interrupted):
                self._current += 1
            finally:
                call.cancel()

    # ------------------------------------------------------------------ leases and alarms

    async def grant(self, seconds: int) -> int:
        """A new lease -> its id. A second one, when a reply was lost, runs out by itself."""
        answer = await self._repeat(lambda member, timeout_s: member.lease.grant(seconds, timeout=timeout_s))
        return int(answer.ID)

    async def revoke(self, lease: int) -> None:
        """End a lease and drop its keys."""
        await self._repeat(lambda member, timeout_s: member.lease.revoke(lease, timeout=timeout_s))

    async def keep_alive(self, lease: int) -> int:
        """Prolong a lease -> the seconds it now has; 0 or less: it is gone."""

        async def call(member: Member, timeout_s: float) -> int:
            stream = member.lease.keep_alive(lease)
            try:
                async for answer in stream:
                    return int(answer.TTL)
            finally:
                stream.cancel()
            raise TimeoutError

        return await self._repeat(call)

    async def alarms(self) -> list[str]:
        """Alarms that members raised: no space, damaged data."""
        answer = await self._repeat(lambda member, timeout_s: member.maintenance.alarms(timeout=timeout_s))
        return [f"etcd member {each.memberID:x} raised {AlarmType(each.alarm).name}" for each in answer.alarms]


async def _alone(request: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """What ``request`` answers, or what it raises; TimeoutError; Interrupted when grpc cancelled it."""
    task = asyncio.ensure_future(request)
    task.add_done_callback(_is_heard)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(timeout_s, 0.0))
        if not done:
            raise TimeoutError(f"no answer in {timeout_s:g} s")
        if task.cancelled():
            raise Interrupted("the connection was closed")
        return task.result()
    finally:
        task.cancel()


def _is_heard(task: asyncio.Task[Any]) -> None:
    """What becomes of a request that nobody waits for any more is nobody's business."""
    if not task.cancelled():
        task.exception()


def _records(kvs: Sequence[Any]) -> tuple[Record, ...]:
    return tuple(Record(key=kv.key, value=kv.value, created=kv.create_revision, modified=kv.mod_revision) for kv in kvs)
