"""From what a caller has at hand to what a request holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.object_pb2 import Object
from ovnk_wire import Kind, WireError, find_kind, from_manifest, kind_named

from ovnk_client.errors import Refused, Violation

UNKNOWN_FIELD = "unknown field; remove it, or correct its name"
Given = Mapping[str, Any] | Message
"""An object: a manifest, an ``Object``, or the message of its kind (``Pod``, ``EgressFirewall``, ...)."""


def kind_named_by(word: str) -> Kind:
    """``pods``, ``po``, ``EgressFirewall``, ``networks.operator.openshift.io`` -> the kind. Raises Refused."""
    found = kind_named(word) or find_kind(word)
    if found is None:
        raise Refused(f"no kind is called {word!r}", code=grpc.StatusCode.INVALID_ARGUMENT)
    return found


def reference(kind: str, name: str, namespace: str = "") -> ObjectReference:
    """Names one object; of a kind with namespaces and without one given, the one in ``default``. Raises Refused."""
    found = kind_named_by(kind)
    return ObjectReference(
        kind=found.name, namespace=(namespace or "default") if found.is_namespaced else "", name=name
    )


def as_object(given: Given, index: int = 0) -> Object:
    """Raises Refused for a manifest that no message can hold, with ``index`` in its violations: what it says would be
    lost on the way, and a policy that says less than its author thinks protects less."""
    if isinstance(given, Object):
        return given
    if isinstance(given, Message):
        kind = kind_named(given.DESCRIPTOR.name)
        if kind is None:
            raise TypeError(f"{given.DESCRIPTOR.full_name} is no object")
        found = Object()
        getattr(found, kind.field).CopyFrom(given)
        return found
    try:
        found, unknown = from_manifest(given)
    except WireError as error:
        wrong = Violation(error.path, str(error).removeprefix(f"{error.path}: "), index, error.path)
        raise _refused([wrong]) from error
    if unknown:
        raise _refused(
            [Violation(path, "unknown field; remove it, or correct its name", index, path) for path in unknown]
        )
    return found


def as_objects(given: Given | Iterable[Given]) -> list[Object]:
    """One object or many. Raises Refused with the violations of all."""
    many = [given] if isinstance(given, Mapping | Message) else given
    found: list[Object] = []
    violations: list[Violation] = []
    for index, each in enumerate(many):
        try:
            found.append(as_object(each, index))
        except Refused as error:
            violations += error.violations
    if violations:
        raise _refused(violations)
    return found


def _refused(violations: Sequence[Violation]) -> Refused:
    shown = "; ".join(f"objects[{each.item}] {each.manifest_path}: {each.description}" for each in violations[:3])
    more = f" and {len(violations) - 3} more" if len(violations) > 3 else ""
    return Refused(f"{shown}{more}", code=grpc.StatusCode.INVALID_ARGUMENT, violations=violations)
