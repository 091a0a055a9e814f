"""Whether a server would store a value: type, spelling, enum, range, length, number of members.

Each function raises Rejected, without an operation index, with the error an ovsdb-server gives.
"""

from __future__ import annotations

import re
from typing import assert_never

from ovnk_core.errors import Rejected
from ovnk_core.nb.schema import Column, Datum

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "uuid": (str,),
    "integer": (int,),
    "real": (float, int),
    "boolean": (bool,),
}


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def check_datum(column: Column, datum: Datum) -> None:
    """Raises Rejected when ``datum`` is not a canonical value that the server would store in ``column``."""
    match column.shape:
        case "map":
            check_map(column, datum)
        case "set":
            if not isinstance(datum, frozenset) or len(datum) < column.at_least:
                raise Rejected("syntax error", f"{column.name} is a set of {column.at_least} or more, not {datum!r}")
            for atom in datum:
                check_atom(column.key, atom)
                check_limits(column, atom)
        case "one" | "optional":
            if datum is not None or column.shape == "one":
                check_atom(column.key, datum)
                check_limits(column, datum)
        case _ as never:
            assert_never(never)


def check_map(column: Column, datum: object) -> None:
    if not isinstance(datum, dict) or (datum and column.shape != "map"):
        raise Rejected("syntax error", f"{column.name}: not a map")
    for key, value in datum.items():
        check_atom(column.key, key)
        check_atom(column.value, value)


def check_atom(kind: str, atom: object) -> None:
    """Type and spelling of one atom."""
    if not isinstance(atom, _PYTHON[kind]) or (isinstance(atom, bool) and kind != "boolean"):
        raise Rejected("syntax error", f"expected {kind}, not {atom!r}")
    if isinstance(atom, str):
        if kind == "uuid" and not is_uuid(atom):
            raise Rejected("syntax error", f"{atom!r} is not a uuid")
        if "\0" in atom:
            raise Rejected("syntax error", "text holds a NUL")
        if not atom.isascii() and any("\ud800" <= letter <= "\udfff" for letter in atom):
            raise Rejected("syntax error", "text holds a lone surrogate")


def check_limits(column: Column, atom: object) -> None:
    """Enum, range and length of one atom."""
    if column.enum and atom not in column.enum:
        raise Rejected("constraint violation", f"{column.name}: {atom!r} is not one of {', '.join(column.enum)}")
    if isinstance(atom, int):
        if column.lowest is not None and atom < column.lowest:
            raise Rejected("constraint violation", f"{column.name}: {atom} is below {column.lowest}")
        if column.highest is not None and atom > column.highest:
            raise Rejected("constraint violation", f"{column.name}: {atom} is above {column.highest}")
    if isinstance(atom, str) and column.longest is not None and len(atom) > column.longest:
        raise Rejected("constraint violation", f"{column.name}: more than {column.longest} characters")
