"""Findings and refused objects as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from ovnk_core.analysis.finding import CODES, Code, Finding
from ovnk_core.ingest.outcome import Refused
from ovnk_core.terms.name import ObjectRef

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


REFUSED = Code(severity="error", title="The object is refused", advice="Correct what the message names.")


def sarif(findings: Iterable[Finding], refused: Mapping[ObjectRef, Refused]) -> dict[str, Any]:
    """One run with every code's description and a result per reason of a refusal and per finding, in the order
    given."""
    known = {**CODES, "refused": REFUSED}
    codes = list(known)
    rules = [
        {
            "id": name,
            "shortDescription": {"text": code.title},
            "help": {"text": code.advice},
            "defaultConfiguration": {"level": code.severity},
        }
        for name, code in known.items()
    ]
    driver = {"name": "ovnk", "version": version("ovnk"), "rules": rules}
    told = [
        Finding(code="refused", severity="error", object=ref, text=str(error), source=error.source or each.source)
        for ref, each in refused.items()
        for error in each.errors
    ]
    results = [
        {
            "ruleId": each.code,
            "ruleIndex": codes.index(each.code),
            "level": each.severity,
            "message": {"text": each.text},
            "locations": [_location(each)],
        }
        for each in (*told, *findings)
    ]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _location(finding: Finding) -> dict[str, Any]:
    """``FILE:LINE`` or ``FILE#/json/pointer``, and the object by name. A pointer is a logical location of its own, as
    SARIF has regions for lines only."""
    shown = str(finding.object) if finding.rule is None else f"{finding.object} rule {finding.rule}"
    found: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": shown, "kind": "object"}]}
    file, _, line = finding.source.rpartition(":")
    if not file or not line.isdigit():
        file, _, pointer = finding.source.partition("#")
        line = ""
        if pointer:
            found["logicalLocations"].append({"fullyQualifiedName": pointer, "kind": "value"})
    if file:
        found["physicalLocation"] = {"artifactLocation": {"uri": quote(file)}}
        if line:
            found["physicalLocation"]["region"] = {"startLine": int(line)}
    return found
