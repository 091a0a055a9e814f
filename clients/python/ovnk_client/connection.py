"""One connection: a channel, a deadline for every call, and what is asked again after a failure.

A read may be repeated, and so may a change that carries a request id, because the server answers the same id with the
same answer. Both are: what is unavailable, for as long as the connection is patient; where the server says when to ask
again, until the deadline is over. Nothing else is repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from ovnk_client.channel import Tls, open_channel
from ovnk_client.errors import ClientError, DeadlineExceeded, Unavailable, Unreachable, Untrusted, error_of
from ovnk_client.handshake import tls_fault

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")
DEADLINE_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 3.0


class Backoff:
    """Pauses between attempts: each up to twice as long as the one before, at random so that clients spread out."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def pause_s(self, wanted_s: float | None = None) -> float:
        """The next pause in seconds, at least as long as the server wants it to be."""
        pause_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, LONGEST_PAUSE_S)
        return max(pause_s, wanted_s or 0.0)


class Connection:
    """Use as an async context manager.

    ``deadline_s`` bounds every call that answers once, with all its attempts; ``patience_s`` how long what is not
    available (the server itself, or what it needs) is tried within that (None: for all of it).
    """

    def __init__(
        self, address: str, *, tls: Tls | None = None, deadline_s: float = DEADLINE_S, patience_s: float | None = None
    ) -> None:
        self.address, self.deadline_s, self.patience_s = address, deadline_s, patience_s
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Raises ValueError for what is no address and OSError for a certificate that cannot be read. The server is
        first spoken to by the first call."""
        self._channel = open_channel(self.address, self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def within(self, deadline_s: float) -> Self:
        """The same connection with another deadline; not to be entered itself."""
        other = type(self)(self.address, tls=self._tls, deadline_s=deadline_s, patience_s=self.patience_s)
        other._channel = self._channel
        return other

    @property
    def channel(self) -> grpc.aio.Channel:
        """For stubs. Raises RuntimeError outside of ``async with``."""
        if self._channel is None:
            raise RuntimeError("use the client in an async with block")
        return self._channel

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Asked, Answered],
        request: Asked,
        *,
        repeats: bool = True,
        deadline_s: float | None = None,
    ) -> Answered:
        """One answer. ``repeats``: asking again can do no harm. Raises a ClientError."""
        now = asyncio.get_running_loop().time
        bound_s = self.deadline_s if deadline_s is None else deadline_s
        end_s, backoff, gives_up_s = now() + bound_s, Backoff(), now() + min(self.patience_s or bound_s, bound_s)
        before = ""
        while True:
            try:
                return await method(request, timeout=max(0.001, end_s - now()))
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure, self.address)
            if isinstance(error, DeadlineExceeded):
                text = f"{self.address}: no answer within {bound_s:g} s{before}"
                error = DeadlineExceeded(text, code=error.code)
            pause_s = backoff.pause_s(error.retry_after_s)
            limit_s = gives_up_s if isinstance(error, Unavailable) else end_s
            if not repeats or not is_passing(error) or now() + pause_s >= limit_s:
                raise await self.explained(error)
            before = f", before that: {error.message}"
            await asyncio.sleep(pause_s)

    async def explained(self, error: ClientError) -> ClientError:
        """The error, or what is wrong with a certificate, or the lack of one, where that is why nobody answers."""
        if type(error) is not Unreachable or self.address.startswith("unix:"):
            return error
        why = await tls_fault(self.address, self._tls)
        return Untrusted(f"{self.address}: {why}", code=error.code) if why else error

    async def stream(
        self, call: grpc.aio.UnaryStreamCall[Asked, Answered] | grpc.aio.StreamStreamCall[Asked, Answered]
    ) -> AsyncIterator[Answered]:
        """Every answer of a stream. Raises a ClientError."""
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as failure:
            raise await self.explained(error_of(failure, self.address)) from failure
        finally:
            call.cancel()


def is_passing(error: ClientError) -> bool:
    """Whether the same question may be answered later: nobody answered, or the server says when to ask again."""
    return isinstance(error, Unavailable) or error.retry_after_s is not None
