"""Manifests to messages and back, driven by the messages' descriptors.

A message has the shape of its manifest, and its JSON names are the manifest's field names, so both directions follow
from the descriptor: once for each message type they are compiled into closures. What is special stands in ``_SPECIAL``.

Of metadata the message holds what names, labels and dates an object. ``resourceVersion`` is ours (``r`` and digits) or
another API server's; a manifest has room for one, so of a message with both only ours is written. ``source`` is no
field of a manifest. Everything else survives the way there and back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from ovnk_api.v1.object_pb2 import Object

from ovnk_wire.fault import Step, WireError, path_text, show
from ovnk_wire.kinds import VERSION, Kind, kind_of, kind_of_manifest
from ovnk_wire.moment import read_time, write_time
from ovnk_wire.path import is_map

Unread = list[Any]
"""Fills up with the names of fields that a message lacks."""
Reader = Callable[[Any, Unread], Any]
"""A manifest's value -> what the constructor of a message takes; None for a value that is to be left out."""
Writer = Callable[[Any], Any]
"""A message's value -> a manifest's."""

_OURS = re.compile(r"r[0-9]+")
_META = "ovnk_api.v1.ObjectMeta"
_NO_MANIFEST_FIELDS = frozenset({"kubernetes", "source"})
"""Fields of ``ObjectMeta`` that a manifest has not."""
_UNKEPT_METADATA = frozenset(
    {
        "generateName",
        "selfLink",
        "generation",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "clusterName",
        "managedFields",
    }
)
"""What Kubernetes keeps about an object for its own use."""


def from_manifest(manifest: Mapping[str, Any]) -> tuple[Object, tuple[str, ...]]:
    """A manifest -> its object, and the paths of the fields that the API lacks (none for a lenient kind, none of
    status, which is the server's to write).

    An explicit null is an absent field. Raises WireError for the first value of a wrong type, for a kind that is not of
    the API, and for a version that is not served.
    """
    if not isinstance(manifest, Mapping):
        raise WireError("must be a mapping with apiVersion and kind", value=show(manifest))
    kind = _kind(manifest)
    unread: Unread = []
    read = _message_reader(kind.descriptor)
    body = read({key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}, unread)
    meta = body.setdefault("metadata", {})
    meta["kubernetes"] = {
        "group": kind.group,
        "version": VERSION,
        "kind": kind.kubernetes_kind,
        **meta.get("kubernetes", {}),
    }
    paths = () if kind.is_lenient or not unread else tuple(_unknown(kind.descriptor, manifest))
    return Object(**{kind.field: body}), paths


def to_manifest(item: Object) -> dict[str, Any]:
    """An object -> its manifest, in the order apiVersion, kind, metadata, spec, status; maps are sorted by key.

    Raises WireError for an object that is empty, or of a kind that is newer than this code, and for a time that no text
    can hold.
    """
    kind = kind_of(item)
    write = _message_writer(kind.descriptor)
    found: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.kubernetes_kind}
    found.update(write(getattr(item, kind.field)))
    return found


@cache
def single_fields(kind: Kind) -> tuple[str, ...]:
    """Paths of the fields that hold one value in manifests of a kind: ``metadata.name``, ``spec.nodeName``."""
    return tuple(_single_fields(kind.descriptor))


def _single_fields(descriptor: Descriptor) -> Iterator[str]:
    for name, field in _manifest_fields(descriptor).items():
        if field.is_repeated or is_map(field):
            continue
        if field.message_type is None or field.message_type.full_name in _OPAQUE:
            yield name
        else:
            yield from (f"{name}.{below}" for below in _single_fields(field.message_type))


def _kind(manifest: Mapping[str, Any]) -> Kind:
    version, name = manifest.get("apiVersion"), manifest.get("kind")
    for key, value in (("apiVersion", version), ("kind", name)):
        if not isinstance(value, str):
            raise WireError("must be text", value=show(value), steps=(key,))
    group, _, number = str(version).rpartition("/")
    kind = kind_of_manifest(group, str(name))
    if kind is None:
        raise WireError("unknown kind", value=show(f"{version} {name}"), steps=("kind",))
    if number != VERSION:
        fix = f"write {kind.api_version}"
        raise WireError("this version is not served", value=show(version), fix=fix, steps=("apiVersion",))
    return kind


# ------------------------------------------------------------------------------------------- manifest to message


@cache
def _message_reader(descriptor: Descriptor) -> Reader:
    if descriptor.full_name in _SPECIAL:
        return _SPECIAL[descriptor.full_name][0](descriptor)
    return _mapping_reader(descriptor)


def _mapping_reader(descriptor: Descriptor, unkept: frozenset[str] = frozenset()) -> Reader:
    """``unkept``: fields of a manifest that the message has no room for, and that are no mistake."""
    fields = {name: (field.name, _field_reader(field)) for name, field in _manifest_fields(descriptor).items()}

    def read(raw: Any, unread: Unread) -> dict[str, Any]:
        if type(raw) is not dict:
            raise WireError("must be a mapping", value=show(raw))
        found: dict[str, Any] = {}
        for key, value in raw.items():
            known = fields.get(key)
            if known is None:
                if key not in unkept:
                    unread.append(key)
            elif value is not None:
                try:
                    converted = known[1](value, unread)
                except WireError as error:
                    raise error.under(key) from None
                if converted is not None:
                    found[known[0]] = converted
        return found

    return read


def _manifest_fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields of a message that a manifest has, by the name it gives them."""
    hidden = _NO_MANIFEST_FIELDS if descriptor.full_name == _META else ()
    return {field.json_name: field for field in descriptor.fields if field.json_name not in hidden}


def _field_reader(field: FieldDescriptor) -> Reader:
    if is_map(field):
        return _read_map
    one = _SCALARS[field.cpp_type] if field.message_type is None else _message_reader(field.message_type)
    return _list_reader(one) if field.is_repeated else one


def _list_reader(one: Reader) -> Reader:
    def read(raw: Any, unread: Unread) -> list[Any]:
        if type(raw) is not list:
            raise WireError("must be a list", value=show(raw))
        found: list[Any] = []
        for value in raw:
            try:
                if value is None:
                    raise WireError("an entry may not be null", fix="remove it")
                found.append(one(value, unread))
            except WireError as error:
                raise error.under(len(found)) from None
        return found

    return read


def _read_map(raw: Any, unread: Unread) -> dict[str, str]:
    if type(raw) is not dict:
        raise WireError("must be a mapping", value=show(raw))
    for key, value in raw.items():
        if type(key) is not str:
            raise WireError("a key must be text", value=show(key))
        try:
            _read_text(key, unread)
            _read_text(value, unread)
        except WireError as error:
            raise error.under(key) from None
    return raw


def _read_text(raw: Any, unread: Unread) -> str:
    if type(raw) is not str:
        fix = f"write {show(str(raw))}" if type(raw) is int and raw.bit_length() < 256 else ""
        raise WireError("must be text", value=show(raw), fix='write "true" or "false"' if type(raw) is bool else fix)
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise WireError("holds half a character", value=show(raw)) from None
    return raw


def _read_flag(raw: Any, unread: Unread) -> bool:
    if type(raw) is not bool:
        raise WireError("must be true or false", value=show(raw))
    return raw


def _number_reader(bits: int) -> Reader:
    limit = 1 << (bits - 1)

    def read(raw: Any, unread: Unread) -> int:
        if type(raw) is not int:
            raise WireError("must be a whole number", value=show(raw))
        if not -limit <= raw < limit:
            raise WireError(f"must be from {-limit} to {limit - 1}", value=show(raw))
        return raw

    return read


def _unknown(descriptor: Descriptor, raw: Any, steps: tuple[Step, ...] = ()) -> list[str]:
    """Paths of the fields of a manifest that was read, but that its message lacks."""
    fields = _manifest_fields(descriptor)
    spared = _UNKEPT_METADATA if descriptor.full_name == _META else () if steps else ("apiVersion", "kind", "status")
    found: list[str] = []
    for key, value in raw.items():
        if key in spared or (key in fields and value is None):
            continue
        field = fields.get(key)
        if field is None:
            found.append(path_text((*steps, str(key))))
        elif field.message_type is not None and not is_map(field):
            for index, entry in enumerate(value if field.is_repeated else [value]):
                if isinstance(entry, dict) and field.message_type.full_name not in _OPAQUE:
                    below = (*steps, key, index) if field.is_repeated else (*steps, key)
                    found.extend(_unknown(field.message_type, entry, below))
    return found


# ------------------------------------------------------------------------------------------- message to manifest


@cache
def _message_writer(descriptor: Descriptor) -> Writer:
    if descriptor.full_name in _SPECIAL:
        return _SPECIAL[descriptor.full_name][1](descriptor)
    return _mapping_writer(descriptor)


def _mapping_writer(descriptor: Descriptor) -> Writer:
    fields = {field.number: (name, _field_writer(field)) for name, field in _manifest_fields(descriptor).items()}

    def write(message: Message) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field, value in message.ListFields():
            known = fields.get(field.number)
            if known is not None:
                key, convert = known
                found[key] = value if convert is None else convert(value)
        return found

    return write


def _field_writer(field: FieldDescriptor) -> Writer | None:
    """None for a value that is written as it is."""
    if field.message_type is None:
        return list if field.is_repeated else None
    if is_map(field):
        return _write_map
    one = _message_writer(field.message_type)
    return (lambda values: [one(value) for value in values]) if field.is_repeated else one


def _write_map(values: Mapping[str, str]) -> dict[str, str]:
    return {key: values[key] for key in sorted(values)}


# ------------------------------------------------------------------------------------------- what is special


def _metadata_reader(descriptor: Descriptor) -> Reader:
    read_all = _mapping_reader(descriptor, _UNKEPT_METADATA)

    def read(raw: Any, unread: Unread) -> dict[str, Any]:
        found: dict[str, Any] = read_all(raw, unread)
        version = found.get("resource_version", "")
        if version and not _OURS.fullmatch(version):
            del found["resource_version"]
            found["kubernetes"] = {"resource_version": version}
        return found

    return read


def _metadata_writer(descriptor: Descriptor) -> Writer:
    write_all = _mapping_writer(descriptor)

    def write(message: Any) -> dict[str, Any]:
        found: dict[str, Any] = write_all(message)
        if "resourceVersion" not in found and message.kubernetes.resource_version:
            found["resourceVersion"] = message.kubernetes.resource_version
        return found

    return write


def _int_or_string_reader(descriptor: Descriptor) -> Reader:
    number = _number_reader(32)

    def read(raw: Any, unread: Unread) -> dict[str, Any]:
        if type(raw) is str:
            return {"text": _read_text(raw, unread)}
        if type(raw) is int:
            return {"number": number(raw, unread)}
        raise WireError("must be a whole number or text", value=show(raw))

    return read


def _int_or_string_writer(descriptor: Descriptor) -> Writer:
    def write(message: Any) -> int | str:
        # Neither is a mistake; as null it would stand for every port.
        found: int | str = getattr(message, message.WhichOneof("value") or "text")
        return found

    return write


def _time_reader(descriptor: Descriptor) -> Reader:
    def read(raw: Any, unread: Unread) -> dict[str, int] | None:
        text = _read_text(raw, unread)
        return read_time(text) if text else None

    return read


def _firewall_spec_reader(descriptor: Descriptor) -> Reader:
    """A spec without ``egress`` is a mistake, not a firewall without rules: it is left out whole, so that whoever
    accepts the object finds nothing there."""
    read_all = _mapping_reader(descriptor)

    def read(raw: Any, unread: Unread) -> dict[str, Any] | None:
        found: dict[str, Any] = read_all(raw, unread)
        return found if "egress" in found else None

    return read


def _firewall_spec_writer(descriptor: Descriptor) -> Writer:
    write_all = _mapping_writer(descriptor)
    return lambda message: {"egress": [], **write_all(message)}


_SPECIAL: dict[str, tuple[Callable[[Descriptor], Reader], Callable[[Descriptor], Writer]]] = {
    _META: (_metadata_reader, _metadata_writer),
    "ovnk_api.v1.IntOrString": (_int_or_string_reader, _int_or_string_writer),
    "ovnk_api.v1.EgressFirewallSpec": (_firewall_spec_reader, _firewall_spec_writer),
    "google.protobuf.Timestamp": (_time_reader, lambda descriptor: write_time),
}
_OPAQUE = frozenset({"ovnk_api.v1.IntOrString", "google.protobuf.Timestamp"})
"""Messages that a manifest writes as one value."""

_SCALARS: dict[int, Reader] = {
    FieldDescriptor.CPPTYPE_STRING: _read_text,
    FieldDescriptor.CPPTYPE_BOOL: _read_flag,
    FieldDescriptor.CPPTYPE_INT32: _number_reader(32),
    FieldDescriptor.CPPTYPE_INT64: _number_reader(64),
}
