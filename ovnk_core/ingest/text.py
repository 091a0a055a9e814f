"""Scalars: which plain text of YAML is a number or a truth value, and how any value is shown in an error.

Only JSON's own scalars resolve. YAML 1.1's other readings (``on``, ``010``, ``22:22``, ``1_000``, dates) turn labels
and ports into something their author did not write, so they stay text; an empty value is null, as everywhere.
"""

from __future__ import annotations

import json
import re
from typing import Any

SHOWN_LENGTH = 80
# Longer than any name the API takes and any path a file system does.
NAME_LENGTH, PATH_LENGTH = 320, 4096
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "null": None, "true": True, "false": False}
# Python refuses to read longer decimal numbers, and no field holds one.
_LONGEST_NUMBER = 400


def plain_scalar(text: str) -> Any:
    """Unquoted YAML text -> None, bool, int, float or the text itself, by JSON's grammar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def show(value: Any) -> str:
    """A value as an error prints it: one line, bounded, control characters escaped, containers only named."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return '"' + printable(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    if isinstance(value, int):
        return str(value) if value.bit_length() < 256 else "a very large number"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else type(value).__name__


def printable(text: str, length: int = SHOWN_LENGTH) -> str:
    """Text that is safe in a terminal and in a report: bounded, what is not printable escaped."""
    cut = text if len(text) <= length else text[:length] + "..."
    if cut.isprintable():
        return cut
    return "".join(character if character.isprintable() else _escaped(character) for character in cut)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
