"""Namespace. Unknown fields are ignored: it carries far more than the network needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ovnk_core.ingest.metadata import Metadata, annotation_path, read_annotation
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.text import show
from ovnk_core.model.namespace import MULTICAST, NAME_LABEL, Namespace

ACL_LOGGING = "k8s.ovn.org/acl-logging"
SEVERITIES = ("alert", "warning", "notice", "info", "debug")


def parse_namespace(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Namespace:
    """v1 Namespace -> the model. The label with its own name is always there, as the API server puts it."""
    labels = dict(meta.labels)
    if labels.get(NAME_LABEL, meta.name) != meta.name:
        report.warn(("metadata", "labels", NAME_LABEL), "is set to the namespace's name, as the API server does")
    labels[NAME_LABEL] = meta.name
    allow, deny = _acl_logging(report, meta)
    return Namespace(
        name=meta.name,
        uid=meta.uid,
        created=meta.created,
        labels=tuple(sorted(labels.items())),
        log_allow=allow,
        log_deny=deny,
        is_multicast=_is_multicast(report, meta),
    )


def _is_multicast(report: Report, meta: Metadata) -> bool:
    """Only the exact text ``true`` turns multicast on, as in OVN-Kubernetes: what looks like it does not."""
    text = read_annotation(report, meta, MULTICAST)
    if isinstance(meta.annotations.get(MULTICAST), str) and text not in ("true", "false"):
        report.warn(annotation_path(MULTICAST), f'{show(text)} is not "true", multicast is off')
    return text == "true"


def _acl_logging(report: Report, meta: Metadata) -> tuple[str, str]:
    """(allow, deny) severities. What is malformed turns logging off with a warning, as in OVN-Kubernetes."""
    path = annotation_path(ACL_LOGGING)
    text = read_annotation(report, meta, ACL_LOGGING)
    if not text:
        return "", ""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raw = None
    if not isinstance(raw, dict):
        report.warn(path, "not a JSON object, logging is off")
        return "", ""
    found = {}
    for key in ("allow", "deny"):
        value = raw.get(key) or ""
        if value and value not in SEVERITIES:
            report.warn(
                (*path, key), f"{show(value)} is not a severity ({', '.join(SEVERITIES)}), logging is off for it"
            )
            value = ""
        found[key] = value
    return found["allow"], found["deny"]
