"""Everything that happens around a handler: who calls, may the call begin, how long may it take, what is told of it.

A handler gets its request, finds the caller in ``access.caller()`` and raises what the core raises; here that becomes
a status. A request that is too large or no message at all never reaches it.

Streams have no end of their own. When the server stops, or a changed policy answers otherwise anything that a stream
asked of it, the stream is cancelled and its client told why. Also where it now allows more: what a stream passed over
is behind it. What it asks from then on is answered by the new policy.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ovnk_core.errors import OvnkError
from ovnk_server.access import Caller, PermissionDenied, Policy, Verb, enter
from ovnk_server.admission import Admission
from ovnk_server.audit import Audit, SyncAudit
from ovnk_server.authorisation import Authorisation
from ovnk_server.convert import unknown_fault
from ovnk_server.faults import Malformed, NotReady, PolicyChanged, ReadOnly, TooLarge
from ovnk_server.identity import identity_of, is_tls
from ovnk_server.methods import Method, method_of
from ovnk_server.settings import ServerSettings
from ovnk_server.status import INTERNAL, TRAILER, alone, outcome_of, status_of
from ovnk_server.telemetry import Telemetry

Behaviour = Callable[[Any, Any], Any]
"""A handler of any of the four kinds."""


class Arrived:
    """One request message as it came: the message, or why it cannot be used, and for changes its SHA-256."""

    __slots__ = ("digest", "error", "message")

    def __init__(self, message: Any, *, error: OvnkError | None = None, digest: bytes = b"") -> None:
        self.message, self.error, self.digest = message, error, digest

    def read(self) -> Any:
        """The message. Raises TooLarge or Malformed."""
        if self.error is not None:
            raise self.error
        return self.message


class Call:
    """One call that is being served."""

    def __init__(self, method: Method, peer: str) -> None:
        self.method, self.name, self.peer = method, method.name, peer
        self.identity = ""
        self.begun_s = time.monotonic()
        self.task = asyncio.current_task()
        self.end: OvnkError | None = None
        """Why the server ends it."""
        self.following: Following | None = None
        """What a stream asked of the policy."""
        self.audit: SyncAudit | None = None
        self.arrived: Arrived | None = None
        self.response: Any = None
        """The only one, or the last one of a stream."""
        self.failure: BaseException | None = None
        self.code = "CANCELLED"

    @property
    def seconds(self) -> float | None:
        """Since it began; None for a stream, whose length says nothing."""
        return None if self.method.pace == "stream" else time.monotonic() - self.begun_s

    def stay(self) -> None:
        """Take back the cancellation of ``finish``: there is a status to be sent yet."""
        assert self.task is not None
        self.task.uncancel()

    def fail(self, failure: BaseException) -> None:
        """It ends with ``failure``."""
        self.failure, self.code = failure, outcome_of(failure).code.name

    def finish(self, why: OvnkError) -> None:
        """End it from outside; its client is told ``why``."""
        if self.end is None and self.task is not None:
            self.end = why
            self.task.cancel()


MAX_REMEMBERED = 16_384
"""Answers that are remembered for one stream. One that asked about more, by names it chose, ends with any change."""


class Following:
    """The policy in force at each moment, for a call that may outlive the one it began under; remembers its answers."""

    def __init__(self, authorisation: Authorisation) -> None:
        self._authorisation = authorisation
        self._allowed: dict[tuple[str, Verb, str, str, str], bool] = {}
        self._named: dict[tuple[str, str], bool] = {}

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str, source: str = "") -> bool:
        asked = identity, verb, kind, namespace, source
        found = self._authorisation.policy.allows(*asked)
        if len(self._allowed) < MAX_REMEMBERED:
            self._allowed[asked] = found
        return found

    def names(self, identity: str, source: str = "") -> bool:
        found = self._named[identity, source] = self._authorisation.policy.names(identity, source)
        return found

    def is_outdated(self) -> bool:
        """Whether any answer would be another one now."""
        policy = self._authorisation.policy
        # Worker threads ask as well: copied in one step.
        return (
            len(self._allowed) >= MAX_REMEMBERED
            or any(policy.allows(*asked) != found for asked, found in tuple(self._allowed.items()))
            or any(policy.names(*asked) != found for asked, found in tuple(self._named.items()))
        )


class Gate(grpc.aio.ServerInterceptor):
    """Around every handler. ``closed`` says why nothing is answered now; None: everything is."""

    def __init__(self, settings: ServerSettings, authorisation: Authorisation, telemetry: Telemetry) -> None:
        self._settings, self._authorisation, self._telemetry = settings, authorisation, telemetry
        limits = settings.limits
        self._admission = Admission(rate=limits.calls_per_second, at_once=limits.calls_per_identity)
        self._paces = {"call": limits.call_s, "batch": limits.batch_s, "stream": None}
        self._wrapped: dict[str, Any] = {}
        self._streams: set[Call] = set()
        self._audit = Audit()
        self.closed: NotReady | None = NotReady("the server is starting")

    # ------------------------------------------------------------------ from outside

    def close(self, why: NotReady) -> None:
        """Answer nothing any more, and end the streams."""
        self.closed = why
        for call in tuple(self._streams):
            call.finish(why)

    def policy_changed(self) -> None:
        """End streams that were told anything else than the policy says now."""
        for call in tuple(self._streams):
            if call.following is not None and call.following.is_outdated():
                call.finish(PolicyChanged("what this call may do has changed; ask anew, from the beginning"))

    # ------------------------------------------------------------------ before the handler

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        path = handler_call_details.method
        if (known := self._wrapped.get(path)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is not None:
            handler = self._wrapped[path] = self._wrap(path, handler)
        elif self.closed is not None and method_of(path, is_stream=False).is_ours:
            # Services are added when there is something to ask.
            handler = self._wrap(path, grpc.unary_unary_rpc_method_handler(_nobody))
        return handler

    def _wrap(self, path: str, handler: Any) -> Any:
        """Every handler becomes one that takes a stream: a client that begins a call and sends no request would hold a
        handler of a single request for ever, and there is no other place to end that."""
        method = method_of(path, is_stream=handler.request_streaming or handler.response_streaming)
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(
            self._served(method, behaviour, is_request_stream=handler.request_streaming),
            request_deserializer=self._reader(method, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _reader(self, method: Method, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Arrived]:
        limits = self._settings.limits
        most = limits.large_message_bytes if method.is_large else limits.message_bytes

        def read(data: bytes) -> Arrived:
            if len(data) > most:
                return Arrived(None, error=TooLarge(len(data), most))
            digest = hashlib.sha256(data).digest() if method.is_change else b""
            try:
                message: Any = data if parse is None else parse(data)
            except DecodeError:
                return Arrived(None, error=Malformed("the request is not the message that this method takes"))
            fault = None if method.is_judging else unknown_fault(message)
            return Arrived(message, error=fault, digest=digest)

        return read

    def _admit(self, call: Call, context: Any) -> None:
        """Who calls, and whether the call may begin. Raises what the service refuses."""
        properties = context.auth_context()
        method, settings = call.method, self._settings
        identity = identity_of(properties, settings.socket.identity)
        if method.is_reflection and is_tls(properties) and not settings.reflection:
            raise PermissionDenied("reflection is not answered on TCP (reflection)")
        if not method.is_open and self.closed is not None:
            raise self.closed
        self._admission.enter(identity)
        call.identity = identity
        is_stream = method.pace == "stream"
        policy: Policy = self._authorisation.policy
        if is_stream:
            policy = call.following = Following(self._authorisation)
            self._streams.add(call)
        who = Caller(identity=identity, policy=policy)
        if method.needs_rule:
            who.require_rule()
        enter(who)

    def _check(self, call: Call, request: Any) -> None:
        if call.method.is_change and self._settings.read_only and not getattr(request, "validate_only", False):
            raise ReadOnly("this server takes no changes (read_only)")

    # ------------------------------------------------------------------ around the handler

    def _served(self, method: Method, behaviour: Behaviour, *, is_request_stream: bool) -> Behaviour:
        is_generator = inspect.isasyncgenfunction(behaviour)

        async def invoke(call: Call, requests: AsyncIterator[Arrived], context: Any) -> None:
            async with asyncio.timeout(self._settings.limits.arrival_s) as limit:
                if is_request_stream:
                    self._check(call, None)
                    if method.is_change:
                        call.audit = self._audit.stream(call)
                    asked: Any = _read(requests, call)
                else:
                    call.arrived = await anext(requests, None) or Arrived(None, error=Malformed("there is no request"))
                    asked = call.arrived.read()
                    self._check(call, asked)
                limit.reschedule(self._deadline(method))
                if not is_generator:
                    call.response = await behaviour(asked, context)
                    return
                async with aclosing(behaviour(asked, context)) as answers:
                    async for each in answers:
                        await context.write(each)
                        call.response = each
                        if call.audit is not None:
                            call.audit.answered(each)

        async def served(requests: AsyncIterator[Arrived], context: Any) -> Any:
            call = Call(method, context.peer())
            with self._telemetry.call(call, context) as observed:
                try:
                    self._admit(call, context)
                    await invoke(call, requests, context)
                except asyncio.CancelledError:
                    if call.end is None:
                        raise
                    call.fail(call.end)
                    call.stay()
                except grpc.aio.AbortError:
                    call.code = context.code().name
                    raise
                except (Exception, BaseExceptionGroup) as error:
                    call.fail(alone(error))
                else:
                    call.code = "OK"
                finally:
                    observed.ended(call.code, call.response, call.seconds)
                    self._left(call)
            if call.failure is not None:
                await _abort(call, context, self._telemetry)
            return None if is_generator else call.response

        return served

    def _deadline(self, method: Method) -> float | None:
        pace_s = self._paces[method.pace]
        return None if pace_s is None else asyncio.get_running_loop().time() + pace_s

    def _left(self, call: Call) -> None:
        self._streams.discard(call)
        if call.audit is not None:
            call.audit.ended(call.code)
        elif call.arrived is not None and call.arrived.digest:
            self._audit.unary(
                call, call.arrived.message, call.arrived.digest, outcome=call.code, response=call.response
            )
        if call.identity:
            self._admission.leave(call.identity)


async def _read(requests: AsyncIterator[Arrived], call: Call) -> AsyncIterator[Any]:
    async for arrived in requests:
        request = arrived.read()
        if call.audit is not None:
            call.audit.stated(request, arrived.digest)
        yield request


async def _abort(call: Call, context: Any, telemetry: Telemetry) -> None:
    """End the call with the status of its failure; what is ours is logged, not told."""
    failure, call_id = call.failure, secrets.token_hex(8)
    assert failure is not None
    if outcome_of(failure) is INTERNAL:
        telemetry.bug(call, call_id, failure)
    status = status_of(failure, call_id)
    await context.abort(_CODES[status.code], status.message, ((TRAILER, status.SerializeToString()),))


_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def _nobody(request: Any, context: Any) -> Any:
    raise NotReady("the server is starting")
