"""Where a field stands in its file: ``FILE:LINE`` for YAML, ``FILE#/json/pointer`` for JSON.

Two lives. While an object is being parsed its ``Positions`` can place every field: YAML keeps one unsigned int per
node, in document order, and finds a field by walking the plain value next to it. Once parsed, ``keep`` reduces that
to a ``SourceMap``: the object's own line, and for kinds whose parts are quoted later (a policy's rules and peers, an
annotation of a namespace) the lines of those parts.
"""

from __future__ import annotations

from array import array
from typing import Any, Protocol

import msgspec

from ovnk_core.ingest.text import NAME_LENGTH, SHOWN_LENGTH, show
from ovnk_core.terms.struct import Value

Step = str | int
Path = tuple[Step, ...]

# spec.ingress[0].from[1] is the deepest part a reason ever quotes.
KEPT_DEPTH = 5


class SourceMap(Value, frozen=True, kw_only=True):
    """What is kept of an object's position. ``line`` 0 means JSON, where ``pointer`` is the object's own."""

    file: str
    line: int = 0
    pointer: str = ""
    lines: dict[Path, int] = msgspec.field(default_factory=dict)

    def at(self, *path: Step) -> str:
        """The place of a field, or for YAML of the nearest enclosing part that is known."""
        if not self.line:
            return f"{self.file}#{self.pointer}{pointer_text(path)}"
        for end in range(len(path), 0, -1):
            line = self.lines.get(path[:end])
            if line is not None:
                return f"{self.file}:{line}"
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return self.at()


class Positions(Protocol):
    """Places every field of one object while its plain value is at hand."""

    def at(self, *path: Step) -> str: ...

    def elements(self, key: str) -> list[Positions]: ...

    def keep(self, *, parts: bool, fields: tuple[Path, ...] = ()) -> SourceMap: ...


class JsonPositions:
    """Pointers need no record: they are the path itself, cut where the value ends."""

    __slots__ = ("_value", "file", "pointer")

    def __init__(self, file: str, pointer: str, value: Any) -> None:
        self.file, self.pointer, self._value = file, pointer, value

    def at(self, *path: Step) -> str:
        node, known = self._value, 0
        for step in path:
            if not _has(node, step) or not _is_quotable(step):
                break
            node, known = node[step], known + 1
        return f"{self.file}#{self.pointer}{pointer_text(path[:known])}"

    def elements(self, key: str) -> list[Positions]:
        """Positions of every entry of the list at ``key``."""
        below = f"{self.pointer}{pointer_text((key,))}"
        return [JsonPositions(self.file, f"{below}/{at}", entry) for at, entry in enumerate(self._value[key])]

    def keep(self, *, parts: bool, fields: tuple[Path, ...] = ()) -> SourceMap:
        return SourceMap(file=self.file, pointer=self.pointer)


class YamlPositions:
    """``lines[start:]`` holds one 1-based line per node of ``value``, parents before children, in document order."""

    __slots__ = ("_value", "file", "lines", "start")

    def __init__(self, file: str, lines: array[int], start: int, value: Any) -> None:
        self.file, self.lines, self.start, self._value = file, lines, start, value

    def at(self, *path: Step) -> str:
        return f"{self.file}:{self._line(path)}"

    def _line(self, path: Path) -> int:
        """The line of a field, or of the nearest enclosing part that is there."""
        node, index = self._value, self.start
        for step in path:
            if not _has(node, step):
                break
            index += 1
            for key, child in _children(node):
                if key == step:
                    break
                index += count_nodes(child)
            node = node[step]
        return self.lines[index]

    def elements(self, key: str) -> list[Positions]:
        """Positions of every entry of the list at ``key``; one walk over everything before and in it."""
        index = self.start + 1
        for name, child in self._value.items():
            if name == key:
                break
            index += count_nodes(child)
        index, found = index + 1, list[Positions]()
        for entry in self._value[key]:
            found.append(YamlPositions(self.file, self.lines, index, entry))
            index += count_nodes(entry)
        return found

    def keep(self, *, parts: bool, fields: tuple[Path, ...] = ()) -> SourceMap:
        found = {field: self._line(field) for field in fields}
        if parts:
            self._collect(self._value, (), self.start, found)
        return SourceMap(file=self.file, line=self.lines[self.start], lines=found)

    def _collect(self, node: Any, path: Path, index: int, found: dict[Path, int]) -> int:
        """Record the parts below ``node``; answer the index after its last descendant."""
        if path:
            found[path] = self.lines[index]
        index += 1
        for key, child in _children(node):
            below = (*path, key)
            # An entry of a list is a part, whatever it holds; a plain field is told by the part it is in.
            is_part = isinstance(key, int) or isinstance(child, dict | list)
            if len(below) > KEPT_DEPTH or not is_part or below == ("metadata",):
                index += count_nodes(child)
            else:
                index = self._collect(child, below, index, found)
        return index


def count_nodes(value: Any) -> int:
    """Nodes of a plain value: itself and everything below. The reader bounds both depth and total."""
    if isinstance(value, dict):
        return 1 + sum(map(count_nodes, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count_nodes, value))
    return 1


def path_text(path: Path) -> str:
    """As a user writes it: ``spec.ingress[0].ports[1].port``, ``metadata.annotations["a.b/c"]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif len(step) <= SHOWN_LENGTH and step.isascii() and step.replace("-", "").replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f"[{show(step)}]"
    return text


def pointer_text(path: Path) -> str:
    """RFC 6901."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _is_quotable(step: Step) -> bool:
    """Whether a step may stand in a pointer; a key that is too long or not printable ends it, at its owner."""
    return isinstance(step, int) or (len(step) <= NAME_LENGTH and step.isprintable())


def _has(node: Any, step: Step) -> bool:
    if isinstance(node, dict):
        return step in node
    return isinstance(node, list) and isinstance(step, int) and 0 <= step < len(node)


def _children(node: Any) -> list[tuple[Step, Any]]:
    if isinstance(node, dict):
        return list(node.items())
    return list(enumerate(node)) if isinstance(node, list) else []
