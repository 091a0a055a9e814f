"""A label selector back into manifest form (``manifest``)."""

from __future__ import annotations

from typing import Any

from ovnk_core.terms.label import LabelSelector


def selector_manifest(selector: LabelSelector) -> dict[str, Any]:
    """Single-value In requirements as matchLabels where keys allow, everything else as matchExpressions."""
    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1 and requirement.key not in labels:
            labels[requirement.key] = requirement.values[0]
            continue
        values = {"values": list(requirement.values)} if requirement.values else {}
        expressions.append({"key": requirement.key, "operator": requirement.operator, **values})
    found: dict[str, Any] = {"matchLabels": labels} if labels else {}
    return found | ({"matchExpressions": expressions} if expressions else {})
