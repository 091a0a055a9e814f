"""One connection to an OVSDB server: requests and their replies, notifications, keepalive.

Everything received is handled in the order received, one message at a time, by one reader task: when the reply to a
transaction resolves, the updates the server sent before it are in the mirror. A request may name a handler that runs
inside the reader, before the next message is looked at; the reply to a monitor request needs that.
A connection is used until it fails and then thrown away; ``cluster`` opens the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from ovnk_core.errors import Rejected, Unreachable
from ovnk_core.northbound.native.jsonrpc import Envelope, Framer, decode_envelope, encode_message
from ovnk_core.northbound.native.monitor import breathe
from ovnk_core.northbound.native.tls import Tls, context_of, spoken
from ovnk_core.terms.struct import Value

READ_BYTES = 1 << 18
GRACE_BYTES_PER_S, LOAD_GRACE_S = 1 << 20, 60.0
"""A server at work on a big transaction, or on a first load, answers no probe: it is given a second more for each MiB
sent, and a minute for a load, before silence counts as death."""
Handler = Callable[[msgspec.Raw], Awaitable[Any]]
Notify = Callable[[str, msgspec.Raw], Awaitable[None]]


class Lost(Exception):
    """The connection failed; ``was_sent`` says whether the request it interrupted may have reached the server."""

    def __init__(self, reason: str, *, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__(reason)


class Liveness(Value, frozen=True, kw_only=True):
    """Seconds of silence before a probe, and seconds a probe may stay unanswered."""

    idle_s: float = 5.0
    dead_s: float = 5.0


async def open_stream(remote: str, tls: Tls) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``unix:PATH``, ``tcp:HOST:PORT`` or ``ssl:HOST:PORT`` -> streams. Raises Unreachable; ValueError on the text."""
    scheme, _, rest = remote.partition(":")
    try:
        if scheme == "unix":
            return await asyncio.open_unix_connection(rest, limit=1 << 20)
        host, _, port = rest.rpartition(":")
        if scheme not in ("tcp", "ssl") or not host or not port.isdigit():
            raise ValueError(f"a remote is unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, not {remote!r}")
        host, context, name = host.strip("[]"), None, None
        if scheme == "ssl":
            context, name = context_of(tls)
        return await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname=name or (host if context else None), limit=1 << 20
        )
    except OSError as error:
        raise Unreachable(f"{remote}: {spoken(error)}") from error


class Connection:
    """A live JSON-RPC connection with a reader and a keepalive task; ``close`` ends both."""

    def __init__(
        self,
        remote: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        notify: Notify,
        liveness: Liveness,
    ) -> None:
        self.remote = remote
        self.failure = ""
        self.heard_s = 0.0
        """When anything was last received, in Unix seconds; 0: nothing yet."""
        self.is_in_doubt = False
        self.closed = asyncio.Event()
        self._reader, self._writer = streams
        self._notify, self._liveness = notify, liveness
        self._next_id = 0
        self._pending: dict[int, tuple[asyncio.Future[Any], Handler | None, float]] = {}
        self._waiting_since: float | None = None
        self._is_unheard_tls = self._writer.get_extra_info("ssl_object") is not None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_alive())]

    async def request(
        self, method: str, params: Sequence[Any] | msgspec.Raw, *, handler: Handler | None = None, grace_s: float = 0.0
    ) -> Any:
        """Send one request -> its result (raw), or what ``handler`` made of it. ``grace_s``: the server may be silent
        for that much longer meanwhile.

        Raises Rejected (an error reply) or Lost. When cancelled, the reply is ignored later.
        """
        if self.closed.is_set():
            raise Lost(self.failure, was_sent=False)
        self._next_id += 1
        number = self._next_id
        payload = encode_message({"id": number, "method": method, "params": params})
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[number] = (future, handler, len(payload) / GRACE_BYTES_PER_S + grace_s)
        self._writer.write(payload)
        try:
            return await future
        finally:
            self._pending.pop(number, None)

    async def _read(self) -> None:
        framer, loop = Framer(), asyncio.get_running_loop()
        try:
            while True:
                self._waiting_since = loop.time()
                chunk = await self._reader.read(READ_BYTES)
                self._waiting_since = None
                if not chunk:
                    return self._end("the server closed the connection")
                self._is_unheard_tls, self.heard_s = False, time.time()
                for message in framer.feed(chunk):
                    await breathe(message)
                    envelope = decode_envelope(message)
                    await breathe(message)
                    await self._handle(envelope)
        except OSError as error:
            self._end(spoken(error))
        except Exception as error:
            # A message we cannot make sense of leaves the mirror in doubt: start over on a new connection.
            self.is_in_doubt = True
            self.fail(f"{type(error).__name__}: {error}")

    def _end(self, reason: str) -> None:
        # In TLS 1.3 a client is through before the server looks at its certificate, and its first request may
        # overtake the refusal: then all that is left is a broken pipe.
        self.fail(f"{reason}; perhaps the server does not accept our certificate" if self._is_unheard_tls else reason)

    async def _handle(self, message: Envelope) -> None:
        if message.method == "echo":
            self._writer.write(encode_message({"id": message.id, "result": message.params, "error": None}))
        elif message.method is not None:
            await self._notify(message.method, message.params)
        elif isinstance(message.id, int) and message.id in self._pending:
            future, handler, _ = self._pending[message.id]
            if message.error is not None:
                outcome: Any = _refusal(message.error)
            else:
                outcome = message.result if handler is None else await handler(message.result)
            if not future.done():
                if isinstance(outcome, Rejected):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    @property
    def _grace_s(self) -> float:
        """For how much longer the server may be silent, because of all that it has to do: an answer to one thing, such
        as an echo that came before, says nothing of the others."""
        return sum(grace_s for _, _, grace_s in self._pending.values())

    async def _keep_alive(self) -> None:
        loop, idle_s, dead_s = asyncio.get_running_loop(), self._liveness.idle_s, self._liveness.dead_s
        while not self.closed.is_set():
            since = self._waiting_since
            silent_s = loop.time() - since if since is not None else 0.0
            if silent_s < idle_s:
                await asyncio.sleep(idle_s - silent_s)
                continue
            self._writer.write(encode_message({"id": "echo", "method": "echo", "params": []}))
            probed = loop.time()
            # Looked at again after each sleep: a request sent meanwhile keeps the server busy and earns it more time.
            while (left_s := probed + dead_s + self._grace_s - loop.time()) > 0:
                await asyncio.sleep(left_s)
            for _ in range(3):
                # When the loop itself was held up, the answer may be there unread: let the reader have its turn.
                await asyncio.sleep(0)
            if self._waiting_since == since:
                self.fail(f"no answer for {idle_s + dead_s:g} s")

    def fail(self, reason: str) -> None:
        """Give the connection up: every request waiting for a reply ends with Lost. Idempotent."""
        if self.closed.is_set():
            return
        self.failure = f"{self.remote}: {reason}"
        self.closed.set()
        for future, _, _ in self._pending.values():
            if not future.done():
                future.set_exception(Lost(self.failure, was_sent=True))
        self._writer.transport.abort()

    async def close(self) -> None:
        self.fail("closed by us")
        for task in self._tasks:
            task.cancel()
        # gather, not a loop that suppresses CancelledError: that would swallow a cancellation of our caller, too.
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _refusal(error: Any) -> Rejected:
    if isinstance(error, dict):
        return Rejected(str(error.get("error", "error")), str(error.get("details", "")))
    return Rejected(str(error))
