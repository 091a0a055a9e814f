"""Every error a call can raise, as one tree, and how a failed call becomes one of them.

ClientError              has .code .message .reason .details .retry_after_s
├─ Unavailable           it cannot be done now; nothing is known to have changed
│  └─ Unreachable        nobody answers there
│     └─ Untrusted       one side does not accept the other's certificate
├─ DeadlineExceeded      not in time
├─ Denied                not allowed
│  └─ Unidentified       the certificate does not say who is asking
├─ NotFound, Exists      no such object; one too many
├─ Conflict              somebody else was faster, or the precondition does not hold
├─ Refused               what was asked is wrong; has .violations
├─ Expired               what was known is no base to go on from: list or watch anew
├─ QuotaExceeded         larger or more than the server takes
├─ Unimplemented         the server is older than this client
└─ ServerFault           a mistake of the server's; its log says more

Each message says what happened and, where that is not plain, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from ovnk_wire import KINDS, manifest_path

DETAILS_KEY = "grpc-status-details-bin"
_ITEM = re.compile(r"items\[(?P<index>[0-9]+)\]\.object\.(?P<field>[a-z_]+)(?:\.(?P<path>.*))?", re.DOTALL)
_FIELD_KINDS = {kind.field: kind for kind in KINDS}


class Violation(NamedTuple):
    """One thing wrong with one field. ``field`` is its path in the request; ``item`` says which object of the request
    it is about (None: about none) and ``manifest_path`` which field of its manifest; ``description`` what is wrong."""

    field: str
    description: str
    item: int | None = None
    manifest_path: str = ""


class ClientError(Exception):
    """Root of the tree. ``code`` is the gRPC status, ``reason`` one word for programs (ErrorInfo), ``details`` what
    comes with it, ``retry_after_s`` when the server wants to be asked again (None: it does not say)."""

    advice = ""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        details: dict[str, str] | None = None,
        retry_after_s: float | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        self.message, self.code, self.reason = message, code, reason
        self.details, self.retry_after_s = details or {}, retry_after_s
        self.violations = tuple(violations)
        super().__init__(f"{message}; {self.advice}" if self.advice else message)


class Unavailable(ClientError):
    """It cannot be done now; who answered says why."""


class Unreachable(Unavailable):
    """Nobody answers there."""

    advice = "is the server running, and is this its address?"


class Untrusted(Unreachable):
    """One side does not accept the other's certificate."""

    advice = ""


class DeadlineExceeded(ClientError):
    """Not in time. A change may have been made all the same: the same request_id tells."""

    advice = "ask with a longer deadline; a change may have been made all the same, so look before repeating it"


class Denied(ClientError):
    """Not allowed."""

    advice = "ask who runs the server for a rule in its authorisation file"


class Unidentified(Denied):
    """The certificate does not say who is asking; the message says what it lacks."""

    advice = ""


class NotFound(ClientError):
    """No such object."""


class Exists(ClientError):
    """An object that was to be created is there already."""

    advice = "apply or replace changes it"


class Conflict(ClientError):
    """Somebody else was faster, or the precondition does not hold."""

    advice = "read it again and repeat the change on what is there now"


class Refused(ClientError):
    """What was asked is wrong; ``violations`` say where."""


class Expired(ClientError):
    """What was known is no base to go on from: a revision or page that is not kept any more, or has never been, or what
    the caller may do has changed meanwhile."""

    advice = "list or watch anew"


class QuotaExceeded(ClientError):
    """Larger or more than the server takes."""

    advice = "send less at a time"


class Unimplemented(ClientError):
    """The server is older than this client."""

    advice = "the server is older than this client, or another program"


class ServerFault(ClientError):
    """A mistake of the server's."""

    advice = "the server's log says more"


_CLASSES: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Unidentified,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Exists,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.OUT_OF_RANGE: Expired,
    grpc.StatusCode.RESOURCE_EXHAUSTED: QuotaExceeded,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.CANCELLED: Unavailable,
}

_CLASSES_BY_REASON: dict[str, type[ClientError]] = {"POLICY_CHANGED": Expired}
"""Where the reason says more than the code does."""
_BROKEN = ("RST_STREAM", "Stream removed", "GOAWAY")


def error_of(failure: grpc.aio.AioRpcError, address: str) -> ClientError:
    """A failed call -> its error. ``address`` is named where nothing else says who failed."""
    code = failure.code()
    made = _CLASSES.get(code, ServerFault)
    message = failure.details() or code.name
    status = _status(failure)
    if status is None:
        # A stream that broke is told as a fault by some versions of gRPC.
        is_broken = made is ServerFault and any(word in message for word in _BROKEN)
        made = Unreachable if is_broken or made is Unavailable else made
        return made(f"{address}: {message}", code=code)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    has_info = _unpack(status.details, info)
    found = _CLASSES_BY_REASON.get(info.reason, made)(
        status.message or message,
        code=code,
        reason=info.reason,
        details=dict(info.metadata) if has_info else {},
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if _unpack(status.details, retry) else None,
        violations=_violations(status.details),
    )
    found.__cause__ = failure
    return found


def _status(failure: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in failure.trailing_metadata():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _unpack(details: Sequence[AnyMessage], into: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> bool:
    return any(each.Unpack(into) for each in details)


def _violations(details: Sequence[AnyMessage]) -> list[Violation]:
    """What is wrong with fields; of limits and preconditions only where no field is named."""
    bad = error_details_pb2.BadRequest()
    if any(each.Unpack(bad) for each in details):
        return [violation(entry.field, entry.description) for entry in bad.field_violations]
    found: list[Violation] = []
    for each in details:
        for kind in (error_details_pb2.QuotaFailure, error_details_pb2.PreconditionFailure):
            failure = kind()
            if each.Unpack(failure):
                found += [violation(entry.subject, entry.description) for entry in failure.violations]
    return found


def violation(field: str, description: str) -> Violation:
    """A violation by the path of its field in the request."""
    match = _ITEM.fullmatch(field)
    if match is None:
        return Violation(field, description)
    kind, path = _FIELD_KINDS.get(match["field"]), match["path"] or ""
    return Violation(field, description, int(match["index"]), manifest_path(kind, path) if kind else path)
