"""Names, labels and selectors as the Kubernetes API server validates them.

This is also what keeps hostile text out of match expressions: no name, label key or label value that passes here
holds a quote, a space, an operator or a control character. Every pattern is used with ``fullmatch``, because ``$``
accepts a trailing newline.
Source: Kubernetes apimachinery validation (RFC 1123 labels and subdomains, qualified names, IANA service names).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from ovnk_core.errors import LimitError, ObjectError, SchemaError
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.terms.label import LabelSelector, Operator, Requirement, requirement, selector
from ovnk_core.terms.struct import Value

OBJECT_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")
METADATA_FIELDS = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "clusterName",
    "managedFields",
)
LABEL_LENGTH, SUBDOMAIN_LENGTH, PORT_NAME_LENGTH = 63, 253, 15
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TOKEN = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.:@]*[A-Za-z0-9])?")
_UTC_SECONDS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_OPERATORS: dict[str, Operator] = {
    "In": "In",
    "NotIn": "NotIn",
    "Exists": "Exists",
    "DoesNotExist": "DoesNotExist",
}
MISSING = msgspec.UNSET


class Metadata(Value, frozen=True, kw_only=True):
    """The parts of metadata that a parser uses."""

    name: str
    namespace: str = ""
    uid: str = ""
    created: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    annotations: dict[str, Any] = msgspec.field(default_factory=dict)


def is_label_name(text: str) -> bool:
    return len(text) <= LABEL_LENGTH and _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    return len(text) <= SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(text) is not None


def is_port_name(text: str) -> bool:
    """IANA service name: 1..15 lower-case letters, digits and single inner dashes, with at least one letter."""
    fits = len(text) <= PORT_NAME_LENGTH and _PORT_NAME.fullmatch(text) is not None
    return fits and any(character.isalpha() for character in text)


def is_mac(text: str) -> bool:
    """Six octets in lower-case hex."""
    return _MAC.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Text that may become an option or an interface name: no quotes, spaces or control characters."""
    return len(text) <= SUBDOMAIN_LENGTH and _TOKEN.fullmatch(text) is not None


def label_key_fault(text: str) -> str:
    """Why ``text`` is not a label key; empty when it is."""
    return _key_fault(text) if len(text) <= SUBDOMAIN_LENGTH + 1 + LABEL_LENGTH else "longer than 253/63 characters"


@lru_cache(maxsize=1 << 14)
def _key_fault(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return "the part before / is not a DNS subdomain"
    if len(name) > LABEL_LENGTH:
        return f"the name is longer than {LABEL_LENGTH} characters"
    if not _QUALIFIED.fullmatch(name):
        return "the name must be letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
    return ""


def label_value_fault(text: str) -> str:
    """Why ``text`` is not a label value; empty when it is."""
    if len(text) > LABEL_LENGTH:
        return f"longer than {LABEL_LENGTH} characters"
    if text and not _QUALIFIED.fullmatch(text):
        return "must be letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
    return ""


def read_metadata(report: Report, raw: Mapping[str, Any], name: str, namespace: str) -> Metadata:
    """metadata of an object whose name and namespace are already known (``parse``)."""
    path: Path = ("metadata",)
    meta = report.mapping(raw, (), "metadata")
    uid = report.text(meta, path, "uid")
    if uid and not is_token(uid):
        report.refuse((*path, "uid"), "must be letters, digits and -_.:@ only, at most 253", value=uid)
    labels = read_labels(report, meta, path, "labels")
    return Metadata(
        name=name,
        namespace=namespace,
        uid=uid,
        created=_created(report, meta, path),
        labels=tuple(sorted(labels.items())),
        annotations=report.mapping(meta, path, "annotations"),
    )


def _created(report: Report, meta: Mapping[str, Any], path: Path) -> str:
    """creationTimestamp as UTC with whole seconds, the form in which text order is time order."""
    text = report.text(meta, path, "creationTimestamp")
    if not text:
        return ""
    if _UTC_SECONDS.fullmatch(text):
        return text
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None or "T" not in text.upper():
            raise ValueError("no time zone")
        return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        report.refuse(
            (*path, "creationTimestamp"), "not an RFC 3339 time", value=text, fix="write 2006-01-02T15:04:05Z"
        )
        return ""


def read_labels(report: Report, owner: Mapping[str, Any], path: Path, key: str) -> dict[str, str]:
    """A label map with every key and value checked; wrong entries are left out."""
    found: dict[str, str] = {}
    for name, value in report.mapping(owner, path, key).items():
        below = (*path, key, str(name))
        if not isinstance(name, str):
            report.refuse(below, "a label key must be text", value=name)
            continue
        fault = label_key_fault(name)
        if fault:
            report.refuse(below, f"not a label key: {fault}", error=_error_for(fault))
            continue
        text = report.as_text(value, below)
        fault = label_value_fault(text)
        if fault:
            report.refuse(below, f"not a label value: {fault}", value=value, error=_error_for(fault))
        elif isinstance(value, str):
            found[name] = text
    return found


def _error_for(fault: str) -> type[ObjectError]:
    return LimitError if "longer" in fault else SchemaError


def read_selector(report: Report, owner: Mapping[str, Any], path: Path, key: str) -> LabelSelector | None:
    """A label selector; None when the field is absent. Only used by kinds that refuse unknown fields."""
    if owner.get(key) is None:
        return None
    at = (*path, key)
    raw = report.mapping(owner, path, key)
    report.known(raw, at, ("matchLabels", "matchExpressions"))
    needs = [requirement(name, "In", (value,)) for name, value in read_labels(report, raw, at, "matchLabels").items()]
    for index, entry in enumerate(report.items(raw, at, "matchExpressions")):
        found = _expression(report, entry, (*at, "matchExpressions", index))
        if found is not None:
            needs.append(found)
    return selector(needs)


def _expression(report: Report, entry: Any, path: Path) -> Requirement | None:
    raw = report.as_mapping(entry, path)
    if not isinstance(entry, dict):
        return None
    report.known(raw, path, ("key", "operator", "values"))
    key = report.text(raw, path, "key")
    fault = label_key_fault(key)
    if fault and (isinstance(raw.get("key"), str) or raw.get("key") is None):
        report.refuse((*path, "key"), f"not a label key: {fault}", value=key)
    word = report.text(raw, path, "operator")
    operator = _OPERATORS.get(word)
    if operator is None:
        report.refuse((*path, "operator"), "must be In, NotIn, Exists or DoesNotExist", value=raw.get("operator"))
        return None
    values = [
        _expression_value(report, value, (*path, "values", index))
        for index, value in enumerate(report.items(raw, path, "values"))
    ]
    if operator in ("In", "NotIn") and not values:
        report.refuse((*path, "values"), f"{operator} needs at least one value")
    if operator in ("Exists", "DoesNotExist") and values:
        report.refuse((*path, "values"), f"{operator} takes no values", fix="remove values")
    return requirement(key, operator, values)


def _expression_value(report: Report, value: Any, path: Path) -> str:
    text = report.as_text(value, path)
    fault = label_value_fault(text)
    if fault:
        report.refuse(path, f"not a label value: {fault}", value=value)
    return text


def read_annotation(report: Report, meta: Metadata, key: str) -> str | None:
    """An annotation's text; None when absent."""
    value = meta.annotations.get(key)
    return None if value is None else report.as_text(value, annotation_path(key))


def read_json_annotation(report: Report, meta: Metadata, key: str) -> Any:
    """An annotation that holds JSON, decoded; ``MISSING`` when absent, empty or refused."""
    text = read_annotation(report, meta, key)
    if not text:
        return MISSING
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        report.refuse(annotation_path(key), f"not JSON: {error}", value=text)
        return MISSING


def annotation_path(key: str) -> Path:
    return ("metadata", "annotations", key)


def read_mac(report: Report, value: Any, path: Path) -> str:
    """A MAC in lower case; empty when refused."""
    text = report.as_text(value, path).lower()
    if isinstance(value, str) and not is_mac(text):
        report.refuse(path, "not a MAC address", value=value, fix="write six hex octets, as 0a:58:0a:80:00:05")
        return ""
    return text
