"""kubectl's JSONPath templates: ``{.items[*].metadata.name}``, filters, unions, slices, ``..``, range and end.

A template is text with expressions in braces. No library reads this dialect: what those of RFC 9535 take has no
braces, no range, and needs ``$``. Not taken: functions, and regular expressions in filters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

_TOKEN = re.compile(
    r"""(?P<deep>\.\.)
    | \.?(?P<star>\*)
    | \.(?P<dotted>(?:[^.\[\]{}\\\s]|\\.)+)
    | \[(?P<inside>\?\(.*?\)|(?:"[^"]*"|'[^']*'|[^\]"'])+)\]
    | (?P<bare>(?:[^.\[\]{}\\\s$@]|\\.)+)
    | (?P<root>[$@]\.?(?=$|\[|\.|[A-Za-z]))
    """,
    re.VERBOSE,
)
_FILTER = re.compile(
    r"\?\(\s*(?P<left>[^=!<>]+?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?\)", re.DOTALL
)
_SLICE = re.compile(r"(-?[0-9]*):(-?[0-9]*)(?::(-?[0-9]+))?")
Step = Callable[[Any], Iterable[Any]]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    ">": lambda left, right: bool(left > right),
    "<=": lambda left, right: bool(left <= right),
    ">=": lambda left, right: bool(left >= right),
}


class PathError(ValueError):
    """A template that cannot be read; says what and where."""


class _Text(NamedTuple):
    text: str


class _Path(NamedTuple):
    steps: tuple[Step, ...]


class _Range(NamedTuple):
    over: _Path
    body: tuple[Any, ...]


_Part = _Text | _Path | _Range


class Template:
    """A template that was read. Raises PathError where it cannot be."""

    def __init__(self, text: str) -> None:
        self._parts = _parts(text)

    def render(self, value: Any) -> str:
        """The template's text for a value; what is not there is left out."""
        return "".join(_rendered(self._parts, value))


def path(text: str) -> Callable[[Any], list[Any]]:
    """One expression, with or without braces and the dot in front -> what it picks from a value. Raises PathError."""
    bare = text.strip()
    bare = bare[1:-1] if bare.startswith("{") and bare.endswith("}") else bare
    steps = _path(bare).steps
    return lambda value: _pick(steps, value)


# ------------------------------------------------------------------------------------------- reading


def _parts(text: str) -> tuple[_Part, ...]:
    stack: list[tuple[_Path | None, list[_Part]]] = [(None, [])]
    at = 0
    while at < len(text):
        if text[at] != "{":
            end = text.find("{", at)
            end = len(text) if end < 0 else end
            stack[-1][1].append(_Text(text[at:end]))
            at = end
            continue
        end = _closing(text, at)
        inner, at = text[at + 1 : end].strip(), end + 1
        if inner.startswith("range ") or inner == "range":
            stack.append((_path(inner[5:].strip()), []))
        elif inner == "end":
            over, body = stack.pop()
            if over is None:
                raise PathError("{end} without {range}")
            stack[-1][1].append(_Range(over, tuple(body)))
        elif inner[:1] in ("'", '"'):
            stack[-1][1].append(_Text(_quoted(inner)))
        else:
            stack[-1][1].append(_path(inner))
    if len(stack) > 1:
        raise PathError("{range} without {end}")
    return tuple(stack[0][1])


def _closing(text: str, start: int) -> int:
    """Where the brace that opens at ``start`` closes; quotes may hold braces."""
    quote = ""
    for at in range(start + 1, len(text)):
        letter = text[at]
        if quote:
            quote = "" if letter == quote and text[at - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "}":
            return at
    raise PathError(f"{text[start:]}: the brace is not closed")


def _quoted(text: str) -> str:
    """A text in quotes, with the escapes of JSON."""
    if len(text) < 2 or text[-1] != text[0]:
        raise PathError(f"{text}: the quote is not closed")
    body = text[1:-1].replace("\\'", "'")
    try:
        found = json.loads(f'"{body}"' if text[0] == '"' else json.dumps(body).replace("\\\\", "\\"))
    except ValueError:
        raise PathError(f"{text}: not a text") from None
    return str(found)


def _path(text: str) -> _Path:
    steps: list[Step] = []
    at, is_deep = 0, False
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.end() == at:
            raise PathError(f"{text}: cannot be read from {text[at:]!r} on")
        at = found.end()
        if found["root"]:
            at -= found["root"].endswith(".")
            continue
        if found["deep"]:
            is_deep = True
            # What follows the two dots has none of its own.
            continue
        step = _step(found, text)
        steps.append(_everywhere(step) if is_deep else step)
        is_deep = False
    return _Path(tuple(steps))


def _step(found: re.Match[str], text: str) -> Step:
    if found["star"]:
        return _all
    name = found["dotted"] or found["bare"]
    if name is not None:
        return _member(re.sub(r"\\(.)", r"\1", name))
    inside = found["inside"].strip()
    if inside.startswith("?"):
        return _filter(inside)
    if inside == "*":
        return _all
    parts = re.findall(r"\"[^\"]*\"|'[^']*'|[^,]+", inside)
    steps = [_element(part.strip(), text) for part in parts if part.strip() not in ("", ",")]
    return lambda value: (each for step in steps for each in step(value))


def _element(part: str, text: str) -> Step:
    if part[0] in "\"'":
        return _member(part[1:-1])
    window = _SLICE.fullmatch(part)
    if window is not None:
        first, last, step = (int(each) if each else None for each in window.groups())
        return lambda value: value[slice(first, last, step)] if isinstance(value, list) else ()
    if not re.fullmatch(r"-?[0-9]+", part):
        return _member(part)
    index = int(part)
    return lambda value: value[index : index + 1 or None] if isinstance(value, list) else ()


def _member(name: str) -> Step:
    return lambda value: (value[name],) if isinstance(value, dict) and name in value else ()


def _all(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _everywhere(step: Step) -> Step:
    def walk(value: Any) -> Iterator[Any]:
        yield from step(value)
        for each in _all(value):
            yield from walk(each)

    return walk


def _filter(text: str) -> Step:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise PathError(f"[{text}]: write [?(@.NAME==VALUE)]")
    left, operator = _path(found["left"]).steps, found["operator"]
    if operator is None:
        return lambda value: (each for each in _all(value) if _pick(left, each))
    right, compare = _literal(found["right"]), _COMPARE[operator]

    def holds(each: Any) -> bool:
        picked = _pick(left, each)
        try:
            return bool(picked) and compare(picked[0], right)
        except TypeError:  # a text and a number have no order
            return False

    return lambda value: (each for each in _all(value) if holds(each))


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return _quoted(text)
    try:
        return json.loads(text)
    except ValueError:
        raise PathError(f"{text}: write a number, true, false, null or a text in quotes") from None


# ------------------------------------------------------------------------------------------- evaluating


def _pick(steps: tuple[Step, ...], value: Any) -> list[Any]:
    values = [value]
    for step in steps:
        values = [found for each in values for found in step(each)]
    return values


def _rendered(parts: tuple[_Part, ...], value: Any) -> Iterator[str]:
    for part in parts:
        match part:
            case _Text():
                yield part.text
            case _Path():
                yield " ".join(map(_shown, _pick(part.steps, value)))
            case _Range():
                for each in _pick(part.over.steps, value):
                    yield from _rendered(part.body, each)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
