"""What all messages have in common with the core: references, versions, times, outcomes, what is wrong with a field.

Requests become arguments of the core here, or a SchemaError that names the field; nothing is decided here. The shape of
objects themselves is ``ovnk_wire``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ovnk_api.v1 import diff_pb2, meta_pb2, object_pb2, object_service_pb2
from ovnk_wire import WireError, kind_named, kind_of, to_manifest, unknown_field, wire_path

from ovnk_core.errors import ObjectError, SchemaError
from ovnk_core.ingest.parse import DEFAULT_NAMESPACE
from ovnk_core.ingest.text import show
from ovnk_core.keeper.proposal import Drop, Mode, Outcome, Put, Result, index_of
from ovnk_core.terms.name import ObjectRef

MAX_ITEMS = 5_000
"""Objects of one request."""
DEFAULT_PAGE, MAX_PAGE = 500, 5_000
MAX_ID = 128
"""Characters of a request_id."""
_VERSION = re.compile(r"r([0-9]{1,18})")
_BATCH = re.compile(r"object#/[0-9]+")
_MODES: dict[int, Mode] = {
    object_service_pb2.APPLY_MODE_UNSPECIFIED: "apply",
    object_service_pb2.APPLY_MODE_APPLY: "apply",
    object_service_pb2.APPLY_MODE_CREATE_ONLY: "create",
    object_service_pb2.APPLY_MODE_REPLACE_ONLY: "replace",
}
OUTCOMES: dict[Outcome, diff_pb2.Outcome.ValueType] = {
    "created": diff_pb2.OUTCOME_CREATED,
    "changed": diff_pb2.OUTCOME_CHANGED,
    "unchanged": diff_pb2.OUTCOME_UNCHANGED,
    "deleted": diff_pb2.OUTCOME_DELETED,
    "absent": diff_pb2.OUTCOME_ABSENT,
}

# ------------------------------------------------------------------------------------------- names


def reference(ref: ObjectRef) -> meta_pb2.ObjectReference:
    return meta_pb2.ObjectReference(kind=ref.kind, namespace=ref.namespace, name=ref.name)


def read_reference(message: meta_pb2.ObjectReference, field: str) -> ObjectRef:
    """The object that a reference names, its namespace written out. Raises SchemaError naming a field below
    ``field``."""
    kind = kind_named(message.kind)
    if kind is None:
        raise SchemaError("no such kind", path=f"{field}.kind", value=show(message.kind), fix="name a message type")
    if not message.name:
        raise SchemaError("missing", path=f"{field}.name", fix=f"name the {kind.name}")
    if not kind.is_namespaced and message.namespace:
        raise SchemaError("the kind has no namespace", path=f"{field}.namespace", value=show(message.namespace))
    namespace = (message.namespace or DEFAULT_NAMESPACE) if kind.is_namespaced else ""
    return ObjectRef(kind.name, namespace, message.name)


def read_kind(name: str, field: str = "kind") -> str:
    """The name of a kind there is. Raises SchemaError."""
    if kind_named(name) is None:
        raise SchemaError("no such kind", path=field, value=show(name), fix="name a message type")
    return name


def subject_of(item: object_pb2.Object, field: str) -> ObjectRef:
    """What an object says it is. Raises SchemaError for one without content."""
    try:
        kind = kind_of(item)
    except WireError as error:
        raise SchemaError(error.reason, path=field) from None
    meta = getattr(item, kind.field).metadata
    return ObjectRef(kind.name, (meta.namespace or DEFAULT_NAMESPACE) if kind.is_namespaced else "", meta.name)


def unknown_fault(message: Message, field: str = "") -> SchemaError | None:
    """What is wrong with a message, at ``field`` of a request, that holds something unknown: carried out without it,
    the request would mean something else."""
    found = unknown_field(message)
    if found is None:
        return None
    path = ".".join(filter(None, (field, found[0])))
    reason, fix = "a field that this server does not know", "leave it out, or ask a server that knows it"
    return SchemaError(reason, path=path, value=f"field number {found[1]}", fix=fix)


# ------------------------------------------------------------------------------------------- objects to change


def read_object(item: object_pb2.Object, index: int = 0, *, etag: str = "", mode: int = 0) -> Put:
    """An object to put; ``index`` is its place in the request. Raises SchemaError."""
    kind = kind_of(item)
    meta = getattr(item, kind.field).metadata
    try:
        manifest = to_manifest(item)
    except WireError as error:
        source = f"object#/{index}"
        raise SchemaError(
            error.reason, kind=kind.name, path=error.path, value=error.value, fix=error.fix, source=source
        ) from None
    if mode not in _MODES:
        raise SchemaError("no such mode", path=f"items[{index}].mode", value=str(mode))
    stated = read_version(meta.resource_version, "metadata.resourceVersion", kind=kind.name, source=f"object#/{index}")
    wanted = read_version(etag, f"items[{index}].etag")
    if stated is not None and wanted is not None and stated != wanted:
        raise SchemaError("contradicts metadata.resource_version", path=f"items[{index}].etag", value=show(etag))
    return Put(
        manifest=manifest,
        mode=_MODES[mode],
        version=stated if wanted is None else wanted,
        kubernetes_version=meta.kubernetes.resource_version,
    )


def read_version(text: str, path: str, *, kind: str = "", source: str = "") -> int | None:
    """A resource_version of ours -> its revision; None for an empty one. Raises SchemaError."""
    if not text:
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        fix = "give back what the server sent, or leave it out"
        reason = "not a resource version of this server"
        raise SchemaError(reason, kind=kind, path=path, value=show(text), fix=fix, source=source)
    return int(found[1])


def version(revision: int) -> str:
    """The resource_version of an object whose last change is ``revision``; empty when it is gone."""
    return f"r{revision}" if revision else ""


def read_drops(items: Sequence[object_service_pb2.DeleteItem], *, may_be_absent: bool) -> tuple[Drop, ...]:
    """Objects to delete. Raises SchemaError."""
    return tuple(
        Drop(
            ref=read_reference(item.reference, f"items[{index}].reference"),
            version=read_version(item.resource_version, f"items[{index}].resource_version"),
            may_be_absent=may_be_absent,
        )
        for index, item in enumerate(items)
    )


def check_items(refs: Sequence[ObjectRef], field: str = "items") -> None:
    """Raises SchemaError for too many objects, none, or one that is there twice."""
    if not refs:
        raise SchemaError("holds no object", path=field)
    if len(refs) > MAX_ITEMS:
        raise SchemaError(f"may hold at most {MAX_ITEMS:,} objects", path=field, value=f"{len(refs):,}")
    seen: set[ObjectRef] = set()
    for index, ref in enumerate(refs):
        if ref in seen:
            raise SchemaError("is in the request more than once", path=f"{field}[{index}]", value=show(str(ref)))
        seen.add(ref)


def results(
    found: Iterable[Result], order: Sequence[ObjectRef], warnings: Sequence[str] = ()
) -> list[object_service_pb2.ObjectResult]:
    """One result for each of ``order``, then those of objects that went along."""
    by_ref = {result.ref: result for result in found}
    rest = [ref for ref in by_ref if ref not in set(order)]
    return [_result(by_ref[ref], warnings) for ref in (*order, *rest) if ref in by_ref]


def _result(result: Result, warnings: Sequence[str]) -> object_service_pb2.ObjectResult:
    head = f"{result.ref}: "
    return object_service_pb2.ObjectResult(
        reference=reference(result.ref),
        resource_version=version(result.revision),
        outcome=OUTCOMES[result.outcome],
        warnings=[text.removeprefix(head) for text in warnings if text.startswith(head)],
    )


def request_id(request: Any) -> str:
    """The id under which an answer is remembered, empty for none. Raises SchemaError."""
    text: str = request.request_id
    if len(text) > MAX_ID or not (text.isascii() and text.isprintable()):
        reason = f"must be at most {MAX_ID} printable ASCII characters"
        raise SchemaError(reason, path="request_id", value=show(text), fix="send a UUID, for instance")
    return "" if request.validate_only else text


# ------------------------------------------------------------------------------------------- pages and times


def page_size(asked: int) -> int:
    """At most so many of a list. Raises SchemaError for less than none."""
    if asked < 0:
        raise SchemaError("must not be negative", path="page_size", value=str(asked))
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def timestamp(at_s: float | None) -> Timestamp | None:
    """Unix seconds as a message; None stays unset."""
    if at_s is None:
        return None
    nanos = round(at_s * 1_000) * 1_000_000
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def seconds(owner: Message, field: str) -> float | None:
    """A duration or time field in seconds; None when it is unset."""
    if not owner.HasField(field):
        return None
    value: Duration | Timestamp = getattr(owner, field)
    return value.seconds + value.nanos / 1e9


# ------------------------------------------------------------------------------------------- what is wrong


def violations(errors: Iterable[ObjectError], item: str = "items[{}].object") -> list[meta_pb2.FieldViolation]:
    """What is wrong with a request, by field. ``item`` is the request's path of its object of an index.

    An error about an object has a source ``object#/INDEX/...`` and a manifest's path; any other has the path of a field
    of the request.
    """
    found: list[meta_pb2.FieldViolation] = []
    for error in errors:
        if _BATCH.match(error.source):
            found += field_violations(error.kind, (error,), item.format(index_of(error.source)))
        else:
            found.append(_violation(error, error.path, ""))
    return found


def field_violations(kind: str, errors: Iterable[ObjectError], item: str) -> list[meta_pb2.FieldViolation]:
    """What is wrong with an object that a request holds at ``item``."""
    known = kind_named(kind)
    return [
        _violation(
            error,
            ".".join(filter(None, (item, known.field if known else "", wire_path(known, error.path) if known else ""))),
            error.path,
        )
        for error in errors
    ]


def _violation(error: ObjectError, field: str, manifest_path: str) -> meta_pb2.FieldViolation:
    return meta_pb2.FieldViolation(
        field=field, manifest_path=manifest_path, value=error.value, reason=error.reason, fix=error.fix
    )
