"""Selectors as users type them: ``app=web,tier in (a, b),!legacy`` for labels, ``spec.nodeName!=n1`` for fields.

Source: Kubernetes' text form of label selectors (sets and equality); of field selectors equality alone.
"""

from __future__ import annotations

import re

from ovnk_wire import Kind, single_fields

from ovnk_core.errors import SchemaError
from ovnk_core.ingest.metadata import label_key_fault, label_value_fault
from ovnk_core.ingest.text import show
from ovnk_core.keeper.watching import FieldTest
from ovnk_core.terms.label import LabelSelector, Operator, Requirement, requirement, selector

MAX_LENGTH = 4_096
_PART = re.compile(
    r"""\s* (?: ! \s* (?P<absent>[^\s=!,()]+)
          | (?P<key>[^\s=!,()]+) \s*
            (?: (?P<sign>==|!=|=) \s* (?P<value>[^\s=!,()]*)
              | \s (?P<word>in|notin) \s* \( (?P<values>[^()]*) \) )?
        ) \s* (?:,|$)""",
    re.VERBOSE,
)
_FILLED_IN = ("status.", "metadata.resourceVersion", "spec.clusterIP")
"""Fields of which the kept object does not tell all."""
_FIELD = re.compile(r"\s*(?P<path>[A-Za-z0-9_.-]+)\s*(?P<sign>==|!=|=)\s*(?P<value>[^,]*?)\s*(?:,|$)")


def read_label_selector(text: str) -> LabelSelector:
    """Text -> selector; an empty one selects everything. Raises SchemaError."""
    found: list[Requirement] = []
    for part in _parts(_PART, text, "label_selector", "write key=value, key!=value, key in (a, b), key or !key"):
        found.append(_requirement(part))
    return selector(found)


def _requirement(part: re.Match[str]) -> Requirement:
    key = part["absent"] or part["key"]
    operator: Operator = "DoesNotExist" if part["absent"] else "Exists"
    values: list[str] = []
    if part["sign"]:
        operator, values = ("NotIn" if part["sign"] == "!=" else "In"), [part["value"]]
    elif part["word"]:
        operator = "In" if part["word"] == "in" else "NotIn"
        values = [value.strip() for value in part["values"].split(",")]
    faults = [label_key_fault(key), *map(label_value_fault, values)]
    for fault, what in zip(faults, (key, *values), strict=True):
        if fault:
            raise SchemaError(fault, path="label_selector", value=show(what))
    return requirement(key, operator, values)


def read_field_selector(text: str, kind: Kind) -> tuple[tuple[FieldTest, ...], tuple[FieldTest, ...]]:
    """Text -> tests of manifest fields, all of which must hold: of the object as it is kept, and of what the server
    fills in when it answers. Raises SchemaError, also for a field that the kind has not: nothing would ever have it."""
    fix = "write path=value or path!=value, as metadata.name=web"
    kept, shown = list[FieldTest](), list[FieldTest]()
    for part in _parts(_FIELD, text, "field_selector", fix):
        path = part["path"]
        if path not in single_fields(kind):
            known = ", ".join(single_fields(kind))
            reason = f"is no field of a {kind.name} that holds one value"
            raise SchemaError(reason, path="field_selector", value=show(path), fix=f"there are {known}")
        test = FieldTest(path=path, text=part["value"], is_equal=part["sign"] != "!=")
        (shown if path.startswith(_FILLED_IN) else kept).append(test)
    return tuple(kept), tuple(shown)


def _parts(pattern: re.Pattern[str], text: str, field: str, fix: str) -> list[re.Match[str]]:
    if len(text) > MAX_LENGTH:
        raise SchemaError(f"longer than {MAX_LENGTH:,} characters", path=field, value=show(text))
    found: list[re.Match[str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        part = pattern.match(text, at, end)
        if part is None or (part.end() == end and text[end - 1] == ","):
            raise SchemaError("cannot be read", path=field, value=show(text[at:]), fix=fix)
        found.append(part)
        at = part.end()
    return found
