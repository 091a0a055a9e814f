"""JSON text -> one document. Stricter than Python's default: no repeated keys, NaN, infinities or lone surrogates."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ovnk_core.ingest.position import JsonPositions, Path, pointer_text
from ovnk_core.ingest.text import printable
from ovnk_core.ingest.yaml_reader import Document, Problem, Unreadable

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def looks_like_json(text: str) -> bool:
    """Whether text without a telling file name is to be tried as JSON."""
    return text[:4096].lstrip()[:1] in ("{", "[")


def read_json(text: str, file: str) -> Document | Unreadable:
    """One JSON text -> its document. Repeated keys are problems of the objects that hold them."""
    repeated: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(found)
        if len(mapping) != len(found):
            seen: set[str] = set()
            twice = [key for key, _ in found if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
            repeated[id(mapping)] = (mapping, twice)
        return mapping

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        extra = error.msg.startswith("Extra data")
        fix = "put several objects in one kind: List, or use YAML documents" if extra else ""
        return Unreadable(source=f"{file}:{error.lineno}", reason=f"not JSON: {printable(error.msg)}", fix=fix)
    except UnicodeEncodeError:
        return Unreadable(source=file, reason="not JSON: a \\u escape is half a surrogate pair")
    except RecursionError:
        return Unreadable(source=file, reason="nested too deeply")
    except ValueError as error:
        return Unreadable(source=file, reason=f"not JSON: {printable(str(error))}")
    problems = tuple(_problems(value, repeated)) if repeated else ()
    return Document(value=value, positions=JsonPositions(file, "", value), problems=problems)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """A number beyond the range of floats would be written back as Infinity, which is not JSON."""
    found = float(text)
    if math.isinf(found):
        raise ValueError("a number is out of range")
    return found


def _problems(root: Any, repeated: dict[int, tuple[dict[str, Any], list[str]]]) -> Iterator[Problem]:
    pending: list[tuple[Any, Path]] = [(root, ())]
    while pending:
        node, path = pending.pop()
        if isinstance(node, dict):
            for key in repeated.get(id(node), (node, []))[1][:100]:
                place = pointer_text((*path, key))
                reason = f"the key {printable(key)} appears twice, at {printable(place)}"
                yield Problem(path=(*path, key), reason=reason, fix="keep one of them")
            pending.extend((child, (*path, key)) for key, child in node.items())
        elif isinstance(node, list):
            pending.extend((child, (*path, index)) for index, child in enumerate(node))
