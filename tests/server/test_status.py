"""Every error of the tree as a status: code, reason, details; and nothing of ours that leaks."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from ovnk_server import faults
from ovnk_server.access import PermissionDenied
from ovnk_server.faults import NotReady, TooManyCalls
from ovnk_server.status import MAX_BYTES, alone, status_of

from ovnk_core import errors
from ovnk_core.errors import BugError, LimitError, ObjectError, OvnkError, Refusal, SchemaError, TransitionError

EXPECTED: dict[type[BaseException], tuple[str, str]] = {
    errors.ObjectError: ("INVALID_ARGUMENT", "REFUSED"),
    errors.SchemaError: ("INVALID_ARGUMENT", "SCHEMA"),
    errors.LimitError: ("INVALID_ARGUMENT", "LIMIT"),
    errors.TransitionError: ("FAILED_PRECONDITION", "TRANSITION"),
    errors.CapacityError: ("RESOURCE_EXHAUSTED", "CAPACITY"),
    errors.Refusal: ("INVALID_ARGUMENT", "REFUSED"),
    errors.NotFound: ("NOT_FOUND", "NOT_FOUND"),
    errors.Exists: ("ALREADY_EXISTS", "EXISTS"),
    errors.Conflict: ("ABORTED", "CONFLICT"),
    errors.Outdated: ("ABORTED", "VERSION_MISMATCH"),
    errors.Contended: ("ABORTED", "CONTENTION"),
    errors.IdReused: ("FAILED_PRECONDITION", "REQUEST_ID_REUSED"),
    errors.SouthError: ("UNAVAILABLE", "NORTHBOUND"),
    errors.Unreachable: ("UNAVAILABLE", "NORTHBOUND_UNREACHABLE"),
    errors.UnknownOutcome: ("UNAVAILABLE", "NORTHBOUND_OUTCOME_UNKNOWN"),
    errors.TurnLost: ("UNAVAILABLE", "TURN_LOST"),
    errors.Rejected: ("FAILED_PRECONDITION", "NORTHBOUND_REJECTED"),
    errors.SchemaMismatch: ("FAILED_PRECONDITION", "NORTHBOUND_SCHEMA"),
    errors.StoreError: ("UNAVAILABLE", "STORE"),
    errors.StoreUnavailable: ("UNAVAILABLE", "STORE_UNAVAILABLE"),
    errors.StoreUnknown: ("UNAVAILABLE", "STORE_OUTCOME_UNKNOWN"),
    errors.StoreFull: ("RESOURCE_EXHAUSTED", "STORE_FULL"),
    errors.StoreCorrupt: ("DATA_LOSS", "STORE_CORRUPT"),
    errors.QuotaError: ("RESOURCE_EXHAUSTED", "STORE_QUOTA"),
    errors.Superseded: ("ABORTED", "SUPERSEDED"),
    errors.Compacted: ("OUT_OF_RANGE", "REVISION_COMPACTED"),
    errors.InFuture: ("OUT_OF_RANGE", "REVISION_IN_FUTURE"),
    errors.NotWriter: ("FAILED_PRECONDITION", "NOT_WRITER"),
    errors.GuardError: ("FAILED_PRECONDITION", "GUARD"),
    errors.BugError: ("INTERNAL", "INTERNAL"),
    PermissionDenied: ("PERMISSION_DENIED", "PERMISSION_DENIED"),
    faults.PolicyChanged: ("PERMISSION_DENIED", "POLICY_CHANGED"),
    faults.Unauthenticated: ("UNAUTHENTICATED", "NO_IDENTITY"),
    faults.NotReady: ("UNAVAILABLE", "NOT_READY"),
    faults.ReadOnly: ("FAILED_PRECONDITION", "READ_ONLY"),
    faults.TooManyCalls: ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS"),
    faults.TooLarge: ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"),
    faults.Malformed: ("INVALID_ARGUMENT", "MALFORMED"),
    faults.StreamEnded: ("ABORTED", "STREAM_ENDED"),
    TimeoutError: ("DEADLINE_EXCEEDED", "NOT_IN_TIME"),
    ValueError: ("INTERNAL", "INTERNAL"),
}
MADE: dict[type[BaseException], BaseException] = {
    errors.Refusal: Refusal([SchemaError("bad", path="a"), TransitionError("fixed", path="b")]),
    errors.Rejected: errors.Rejected("constraint violation"),
    errors.TurnLost: errors.TurnLost(7),
    errors.Compacted: errors.Compacted(3, 5),
    errors.InFuture: errors.InFuture(9, 5),
    faults.TooManyCalls: TooManyCalls("ann", retry_after_s=0.25),
    faults.TooLarge: faults.TooLarge(5_000_000, 4_000_000),
}


def _leaves(root: type[BaseException]) -> set[type[BaseException]]:
    return {root, *(leaf for each in root.__subclasses__() for leaf in _leaves(each))}


def test_every_error_of_the_core_is_in_the_table() -> None:
    bugs = _leaves(BugError)
    ours = {each for each in _leaves(OvnkError) if each.__module__ in ("ovnk_core.errors", "ovnk_server.faults")}
    missing = ours - bugs - {OvnkError} - EXPECTED.keys()
    assert {each.__name__ for each in missing} == set()


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_the_table(kind: type[BaseException]) -> None:
    error = MADE.get(kind) or kind("what is wrong")
    status = status_of(error, "call-1")
    code, reason = EXPECTED[kind]
    assert code_pb2.Code.Name(status.code) == code
    info = _detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, info.metadata["request_id"]) == (reason, "ovnk.dev", "call-1")


def _detail(status: Any, kind: type[Message]) -> Any:
    found = kind()
    for detail in status.details:
        if detail.Unpack(found):
            return found
    return None


def test_a_refusal_names_the_fields_of_the_request() -> None:
    first = SchemaError(
        "must be a CIDR",
        kind="EgressFirewall",
        path="spec.egress[41].to.cidrSelector",
        value='"x"',
        source="object#/3/spec",
    )
    status = status_of(Refusal([first, SchemaError("missing", path="page_token", fix="give it")]), "c")
    found = _detail(status, error_details_pb2.BadRequest).field_violations
    assert found[0].field == "items[3].object.egress_firewall.spec.egress[41].to.cidr_selector"
    assert found[0].description == 'must be a CIDR (got "x")'
    assert (found[1].field, found[1].description) == ("page_token", "missing; give it")


@pytest.mark.parametrize("text", ["x", "ü" * 3_000])
def test_a_status_fits_into_the_trailers_clients_take(text: str) -> None:
    many = [SchemaError(text * 40, path=f"spec.egress[{index}]", source=f"object#/{index}") for index in range(500)]
    status = status_of(Refusal(many), "c")
    assert status.ByteSize() <= MAX_BYTES + 2_048
    violations = _detail(status, error_details_pb2.BadRequest).field_violations
    assert violations[0].field and violations[-1].description == "500 in all; these are the first"


def test_errors_of_one_kind_are_told_as_that_kind() -> None:
    status = status_of(Refusal([LimitError("at most 8,000 rules", kind="EgressFirewall", name="shop/default")]), "c")
    quota = _detail(status, error_details_pb2.QuotaFailure).violations[0]
    assert (quota.subject, quota.description) == ("EgressFirewall shop/default", "at most 8,000 rules")
    assert _detail(status, error_details_pb2.ErrorInfo).reason == "LIMIT"
    fixed = status_of(Refusal([TransitionError("is fixed", kind="Network", name="cluster")]), "c")
    assert code_pb2.Code.Name(fixed.code) == "FAILED_PRECONDITION"
    assert _detail(fixed, error_details_pb2.PreconditionFailure).violations[0].type == "TRANSITION"


def test_when_to_try_again() -> None:
    for error, seconds in ((NotReady("starting"), 1.0), (TooManyCalls("a", retry_after_s=0.25), 0.25)):
        delay = _detail(status_of(error, "c"), error_details_pb2.RetryInfo).retry_delay
        assert delay.ToMilliseconds() == seconds * 1_000
    assert _detail(status_of(errors.StoreCorrupt("gone"), "c"), error_details_pb2.RetryInfo) is None


def test_what_is_ours_stays_with_us() -> None:
    secret = "/var/lib/ovnk: row 7 of shop/web"
    for error in (KeyError(secret), BugError(secret), RuntimeError(secret)):
        status = status_of(error, "call-1")
        assert b"shop" not in status.SerializeToString() and b"Traceback" not in status.SerializeToString()
        assert "call-1" in status.message


def test_a_group_is_told_as_its_worst() -> None:
    denied, bug = PermissionDenied("no"), KeyError("x")
    assert alone(ExceptionGroup("", [ExceptionGroup("", [denied])])) is denied
    assert alone(ExceptionGroup("", [denied, bug])) is bug
    assert alone(denied) is denied


def test_compacted_says_from_where_on() -> None:
    facts = _detail(status_of(errors.Compacted(3, 5), "c"), error_details_pb2.ErrorInfo).metadata
    assert (facts["revision"], facts["oldest"]) == ("3", "5")


def test_an_object_error_alone_is_a_refusal() -> None:
    status = status_of(ObjectError("bad", path="kind"), "c")
    assert _detail(status, error_details_pb2.BadRequest).field_violations[0].field == "kind"
