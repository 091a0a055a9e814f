"""Findings as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from ovnk_core.analysis.finding import CODES, Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    """One run with every code's description and a result per finding, in the order given."""
    codes = list(CODES)
    rules = [
        {
            "id": name,
            "shortDescription": {"text": code.title},
            "help": {"text": code.advice},
            "defaultConfiguration": {"level": code.severity},
        }
        for name, code in CODES.items()
    ]
    driver = {"name": "ovnk", "version": version("ovnk"), "rules": rules}
    results = [
        {
            "ruleId": each.code,
            "ruleIndex": codes.index(each.code),
            "level": each.severity,
            "message": {"text": each.text},
            "locations": [_location(each)],
        }
        for each in findings
    ]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _location(finding: Finding) -> dict[str, Any]:
    """``FILE:LINE`` or ``FILE#/json/pointer``, and the object by name."""
    shown = str(finding.object) if finding.rule is None else f"{finding.object} rule {finding.rule}"
    found: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": shown, "kind": "object"}]}
    file, _, line = finding.source.rpartition(":")
    if not file or not line.isdigit():
        file, line = finding.source.partition("#")[0], ""
    if file:
        found["physicalLocation"] = {"artifactLocation": {"uri": quote(file)}}
        if line:
            found["physicalLocation"]["region"] = {"startLine": int(line)}
    return found
