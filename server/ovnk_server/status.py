"""Errors as clients see them: a gRPC code, a sentence, and google.rpc details for programs.

``DETAILS`` is the whole table. What is not in it is ours and stays with us: the client gets INTERNAL and a number that
is also in the log, never a stack trace, a path or a value.

Details travel in a trailer, and clients take 8 KiB of trailers by default: a status is cut to ``MAX_BYTES``, violations
first, and then says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode
from ovnk_api.v1.meta_pb2 import FieldViolation

from ovnk_core import errors as core
from ovnk_core.terms.struct import Value
from ovnk_server import faults
from ovnk_server.access import PermissionDenied
from ovnk_server.convert import violations

DOMAIN = "ovnk.dev"
MAX_BYTES, MAX_MESSAGE, FRAME_BYTES = 4_096, 512, 100
TRAILER = "grpc-status-details-bin"


class Outcome(Value, frozen=True, kw_only=True):
    """How errors of one class are told: ``reason`` is for programs and never changes."""

    code: StatusCode
    reason: str


def _outcome(code: StatusCode, reason: str) -> Outcome:
    return Outcome(code=code, reason=reason)


DETAILS: dict[type[BaseException], Outcome] = {
    core.Refusal: _outcome(StatusCode.INVALID_ARGUMENT, "REFUSED"),
    core.ObjectError: _outcome(StatusCode.INVALID_ARGUMENT, "REFUSED"),
    core.SchemaError: _outcome(StatusCode.INVALID_ARGUMENT, "SCHEMA"),
    core.LimitError: _outcome(StatusCode.INVALID_ARGUMENT, "LIMIT"),
    core.TransitionError: _outcome(StatusCode.FAILED_PRECONDITION, "TRANSITION"),
    core.CapacityError: _outcome(StatusCode.RESOURCE_EXHAUSTED, "CAPACITY"),
    core.NotFound: _outcome(StatusCode.NOT_FOUND, "NOT_FOUND"),
    core.Exists: _outcome(StatusCode.ALREADY_EXISTS, "EXISTS"),
    core.Outdated: _outcome(StatusCode.ABORTED, "VERSION_MISMATCH"),
    core.Contended: _outcome(StatusCode.ABORTED, "CONTENTION"),
    core.Conflict: _outcome(StatusCode.ABORTED, "CONFLICT"),
    core.IdReused: _outcome(StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED"),
    core.Unreachable: _outcome(StatusCode.UNAVAILABLE, "NORTHBOUND_UNREACHABLE"),
    core.UnknownOutcome: _outcome(StatusCode.UNAVAILABLE, "NORTHBOUND_OUTCOME_UNKNOWN"),
    core.TurnLost: _outcome(StatusCode.UNAVAILABLE, "TURN_LOST"),
    core.Rejected: _outcome(StatusCode.FAILED_PRECONDITION, "NORTHBOUND_REJECTED"),
    core.SchemaMismatch: _outcome(StatusCode.FAILED_PRECONDITION, "NORTHBOUND_SCHEMA"),
    core.SouthError: _outcome(StatusCode.UNAVAILABLE, "NORTHBOUND"),
    core.StoreUnavailable: _outcome(StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    core.StoreUnknown: _outcome(StatusCode.UNAVAILABLE, "STORE_OUTCOME_UNKNOWN"),
    core.StoreFull: _outcome(StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
    core.StoreCorrupt: _outcome(StatusCode.DATA_LOSS, "STORE_CORRUPT"),
    core.QuotaError: _outcome(StatusCode.RESOURCE_EXHAUSTED, "STORE_QUOTA"),
    core.Superseded: _outcome(StatusCode.ABORTED, "SUPERSEDED"),
    core.Compacted: _outcome(StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED"),
    core.InFuture: _outcome(StatusCode.OUT_OF_RANGE, "REVISION_IN_FUTURE"),
    core.StoreError: _outcome(StatusCode.UNAVAILABLE, "STORE"),
    core.NotWriter: _outcome(StatusCode.FAILED_PRECONDITION, "NOT_WRITER"),
    core.GuardError: _outcome(StatusCode.FAILED_PRECONDITION, "GUARD"),
    PermissionDenied: _outcome(StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    faults.PolicyChanged: _outcome(StatusCode.PERMISSION_DENIED, "POLICY_CHANGED"),
    faults.StreamEnded: _outcome(StatusCode.ABORTED, "STREAM_ENDED"),
    faults.Unauthenticated: _outcome(StatusCode.UNAUTHENTICATED, "NO_IDENTITY"),
    faults.NotReady: _outcome(StatusCode.UNAVAILABLE, "NOT_READY"),
    faults.ReadOnly: _outcome(StatusCode.FAILED_PRECONDITION, "READ_ONLY"),
    faults.TooManyCalls: _outcome(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS"),
    faults.TooLarge: _outcome(StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    faults.Malformed: _outcome(StatusCode.INVALID_ARGUMENT, "MALFORMED"),
    TimeoutError: _outcome(StatusCode.DEADLINE_EXCEEDED, "NOT_IN_TIME"),
}
"""By class; a subclass is told as its nearest ancestor here."""
INTERNAL = _outcome(StatusCode.INTERNAL, "INTERNAL")


def outcome_of(error: BaseException) -> Outcome:
    """How an error is told; ``INTERNAL`` for what is ours."""
    for ancestor in type(error).__mro__:
        if ancestor in DETAILS:
            return DETAILS[ancestor]
    return INTERNAL


def alone(error: BaseException) -> BaseException:
    """What a group of exceptions amounts to: its first leaf, or the first that is ours, which outweighs all others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [alone(each) for each in error.exceptions]
    return next((leaf for leaf in leaves if outcome_of(leaf) is INTERNAL), leaves[0])


def status_of(error: BaseException, request_id: str) -> status_pb2.Status:
    """An error -> its status. ``request_id`` is what the log knows the call by."""
    outcome = outcome_of(error)
    if outcome is INTERNAL:
        text = f"internal error; the server's log tells more under {request_id}"
        return _packed(outcome, text, (_info(outcome, {"request_id": request_id}),))
    if isinstance(error, core.Refusal):
        outcome = _of_refusal(error)
    text = _text(error) or "not in time"
    details = (_info(outcome, _facts(error, request_id)), *_more(error, text))
    return _packed(outcome, text, details, violations(_object_errors(error)))


def _text(error: BaseException) -> str:
    """Without the places where we keep a request's objects; violations name its fields."""
    if isinstance(error, core.Refusal):
        return str(core.Refusal([each.at("") for each in error.errors]))
    return str(error.at("") if isinstance(error, core.ObjectError) else error)


def _object_errors(error: BaseException) -> tuple[core.ObjectError, ...]:
    if isinstance(error, core.Refusal):
        return error.errors
    return (error,) if isinstance(error, core.ObjectError) else ()


def _of_refusal(error: core.Refusal) -> Outcome:
    """Several errors of one kind are told as that kind."""
    found = {outcome_of(each).code: outcome_of(each) for each in error.errors}
    return next(iter(found.values())) if len(found) == 1 else DETAILS[core.Refusal]


def _facts(error: BaseException, request_id: str) -> dict[str, str]:
    facts = {"request_id": request_id}
    if isinstance(error, core.Compacted):
        facts |= {"revision": str(error.revision), "oldest": str(error.oldest)}
    if isinstance(error, core.InFuture):
        facts |= {"revision": str(error.revision), "newest": str(error.newest)}
    if isinstance(error, core.NotWriter):
        facts["writer"] = error.holder
    return facts


def _more(error: BaseException, text: str) -> Iterator[Message]:
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(round(retry_after_s * 1_000))
        yield info
    subject = error.errors[0] if isinstance(error, core.Refusal) and error.errors else error
    text = text[:MAX_MESSAGE]
    if isinstance(subject, core.LimitError | core.CapacityError):
        violation = error_details_pb2.QuotaFailure.Violation(subject=_subject(subject), description=subject.reason)
        yield error_details_pb2.QuotaFailure(violations=[violation])
    elif isinstance(error, core.StoreFull | core.QuotaError | faults.TooManyCalls | faults.TooLarge):
        what = "store" if isinstance(error, core.StoreError) else "caller"
        yield error_details_pb2.QuotaFailure(
            violations=[error_details_pb2.QuotaFailure.Violation(subject=what, description=text)]
        )
    elif outcome_of(subject).code is StatusCode.FAILED_PRECONDITION:
        violation_ = error_details_pb2.PreconditionFailure.Violation(
            type=outcome_of(subject).reason, subject=_subject(subject), description=text
        )
        yield error_details_pb2.PreconditionFailure(violations=[violation_])


def _subject(error: BaseException) -> str:
    return f"{error.kind} {error.name}".strip() if isinstance(error, core.ObjectError) else "request"


def _info(outcome: Outcome, facts: dict[str, str]) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=outcome.reason, domain=DOMAIN, metadata=facts)
    return info


def _packed(
    outcome: Outcome, text: str, details: Sequence[Message], found: Sequence[FieldViolation] = ()
) -> status_pb2.Status:
    number = code_pb2.Code.Value(outcome.code.name)
    status = status_pb2.Status(code=number, message=text[:MAX_MESSAGE])
    for detail in details:
        status.details.add().Pack(detail)
    if found:
        request = error_details_pb2.BadRequest()
        room = MAX_BYTES - status.ByteSize()
        for index, each in enumerate(found):
            violation = request.field_violations.add(field=each.field[:MAX_MESSAGE], description=_described(each))
            room -= violation.ByteSize() + FRAME_BYTES
            if room < 0:
                # The first is kept whatever it takes: a status without any would be of no use.
                del request.field_violations[max(index, 1) :]
                request.field_violations.add(description=f"{len(found)} in all; these are the first")
                break
        status.details.add().Pack(request)
    return status


def _described(violation: FieldViolation) -> str:
    got = f" (got {violation.value})" if violation.value else ""
    return f"{violation.reason}{got}{'; ' if violation.fix else ''}{violation.fix}"[:MAX_MESSAGE]
