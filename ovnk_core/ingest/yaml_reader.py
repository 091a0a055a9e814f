"""YAML bytes -> plain documents with a line for every field.

The C parser's events are composed here, once, into plain dicts and lists: a node tree of the same file would cost
ten times the memory, and would be walked a second time. Aliases share one value and are paid for in nodes, so a
bomb is refused before it explodes. Merge keys (``<<``) work as in kubectl: own keys win, then the first merged.

What is wrong with one field (a repeated key, a foreign tag) is a ``Problem`` of the object that holds it. What makes
a document unreadable ends that document only: the file is cut at its ``---`` lines, which YAML allows nowhere but
between documents (kubectl cuts it the same way), and every part has a parser of its own.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from yaml import events as ev
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs hide it

from ovnk_core.ingest.position import Path, Positions, YamlPositions, count_nodes
from ovnk_core.ingest.text import plain_scalar, printable
from ovnk_core.terms.struct import Value

MAX_DEPTH = 100
MAX_ALIAS_NODES = 1_000_000
MAX_UNREADABLE_DOCUMENTS = 1000
MAX_PROBLEMS = 100
_MEMO_SIZE = 1 << 16
_PROGRESS_STEP = 1 << 20
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    f"{_CORE}null": (type(None),),
    f"{_CORE}bool": (bool,),
    f"{_CORE}int": (int,),
    f"{_CORE}float": (float, int),
}
_DIRECTIVES = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\n)*%[^\n]*\n(?:[ \t]*(?:[#%][^\n]*)?\n)*")
_MARKER = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)


class Problem(Value, frozen=True, kw_only=True):
    """One field that was read but may not stand as it is; ``path`` from the document's root, ``line`` 1-based."""

    path: Path
    reason: str
    fix: str = ""
    line: int = 0


class Document(Value, frozen=True, kw_only=True):
    """One document: a plain value, a way to place its fields, and the problems found while reading."""

    value: Any
    positions: Positions
    problems: tuple[Problem, ...] = ()


class Unreadable(Value, frozen=True, kw_only=True):
    """Text that gives no object; ``source`` is the place."""

    source: str
    reason: str
    fix: str = ""


class DocumentFault(Exception):
    """Ends one document; ``line`` counts from 0 within the part."""

    def __init__(self, reason: str, line: int, fix: str = "") -> None:
        self.reason, self.line, self.fix = reason, line, fix
        super().__init__(reason)


class _Frame:
    """An open mapping or sequence. In a mapping ``key`` None means that a key is expected next."""

    __slots__ = ("anchor", "container", "is_merge", "is_repeat", "is_sequence", "key", "line", "merges", "start")

    def __init__(self, container: Any, start: int, anchor: str | None) -> None:
        self.container, self.start, self.anchor = container, start, anchor
        self.is_sequence = type(container) is list
        self.key: str | None = None
        self.line = 0
        self.is_repeat = self.is_merge = False
        self.merges: list[tuple[Any, int]] = []


class YamlReader:
    """Iterate to get ``Document`` and ``Unreadable`` in file order; ``advance`` hears how many bytes are done."""

    def __init__(self, data: bytes, file: str, advance: Callable[[int], None] | None = None) -> None:
        self.data, self.file, self.advance = data, file, advance
        self.alias_nodes = 0
        self.memo: dict[str, Any] = {}
        self.keys: dict[str, str] = {}
        self._reported = 0

    def __iter__(self) -> Iterator[Document | Unreadable]:
        line = failures = 0
        for start, end in self._parts():
            part = self.data[start:end]
            if failures >= MAX_UNREADABLE_DOCUMENTS:
                reason = "too many unreadable documents, the rest was not read"
                yield Unreadable(source=f"{self.file}:{line + 1}", reason=reason)
                return
            try:
                yield from self._documents(part, start, line)
            except DocumentFault as fault:
                failures += 1
                source = f"{self.file}:{line + fault.line + 1}"
                yield Unreadable(source=source, reason=fault.reason, fix=fault.fix)
            except yaml.YAMLError as error:
                failures += 1
                within, reason = _explain(error, part)
                yield Unreadable(source=f"{self.file}:{line + within + 1}", reason=reason)
            line += part.count(b"\n")
            self._report(end)

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Byte ranges from one document marker to the next. Directives stay with the document they introduce."""
        start = 0
        for match in _MARKER.finditer(self.data):
            end = match.start()
            if end > start and not _DIRECTIVES.fullmatch(self.data, start, end):
                yield start, end
                start = end
        yield start, len(self.data)

    def _documents(self, part: bytes, offset: int, line: int) -> Iterator[Document]:
        next_event: Callable[[], Any] = CParser(part).get_event
        while (event := next_event()) is not None:
            if type(event) is not ev.DocumentStartEvent:
                continue
            builder = _Builder(self, line)
            self._build(builder, next_event, offset)
            if builder.root is not None:
                positions = YamlPositions(self.file, builder.lines, 0, builder.root)
                yield Document(value=builder.root, positions=positions, problems=tuple(builder.problems))

    def _build(self, builder: _Builder, next_event: Callable[[], Any], offset: int) -> None:
        scalar, count = builder.scalar, 0
        while True:
            event = next_event()
            kind = type(event)
            if kind is ev.ScalarEvent:
                scalar(event)
            elif kind is ev.MappingStartEvent:
                builder.open(event, {})
            elif kind is ev.SequenceStartEvent:
                builder.open(event, [])
            elif kind is ev.AliasEvent:
                builder.alias(event)
            elif kind is ev.DocumentEndEvent:
                return
            else:
                builder.close()
            count += 1
            if not count & 0xFFFF:
                # The parser counts characters; with other than ASCII text that is a little behind.
                self._report(offset + event.start_mark.index)

    def _report(self, done: int) -> None:
        if self.advance is not None and done - self._reported >= _PROGRESS_STEP:
            self._reported = done
            self.advance(done)


class _Builder:
    """Events of one document -> ``root``, ``lines`` (one per node, in order) and ``problems``."""

    def __init__(self, reader: YamlReader, base: int) -> None:
        self.reader, self.base, self.memo = reader, base + 1, reader.memo
        self.root: Any = None
        self.lines: array[int] = array("I")
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.stack: list[_Frame] = []
        self.frame: _Frame | None = None

    def scalar(self, event: Any) -> None:
        frame = self.frame
        if frame is not None and not frame.is_sequence:
            if frame.key is None:
                self._key(frame, event.value, event, is_plain=event.implicit[0])
                return
            line = frame.line
        else:
            line = event.start_mark.line + self.base
        if event.tag is not None:
            value = self._tagged(event)
        elif event.implicit[0]:
            value = self._plain(event.value)
        else:
            value = event.value
        self.lines.append(line)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        self._put(value, len(self.lines) - 1)

    def open(self, event: Any, container: Any) -> None:
        frame = self.frame
        line = event.start_mark.line
        if frame is not None and not frame.is_sequence and frame.key is None:
            raise DocumentFault("a mapping key must be text", line, "write the key as plain or quoted text")
        if len(self.stack) >= MAX_DEPTH:
            raise DocumentFault(f"nested deeper than {MAX_DEPTH} levels", line)
        wanted = f"{_CORE}map" if type(container) is dict else f"{_CORE}seq"
        if event.tag not in (None, "!", wanted):
            self._problem(f"the YAML tag {printable(event.tag)} is not supported", "remove the tag", line + self.base)
        at_key = frame is not None and not frame.is_sequence
        self.lines.append(frame.line if frame is not None and at_key else line + self.base)
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)
        self.frame = _Frame(container, len(self.lines) - 1, event.anchor)
        self.stack.append(self.frame)

    def close(self) -> None:
        frame = self.stack.pop()
        for value, line in frame.merges:
            self._merge(frame, value, line)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = (frame.container, len(self.lines) - frame.start)
        self.frame = self.stack[-1] if self.stack else None
        self._put(frame.container, frame.start)

    def alias(self, event: Any) -> None:
        line, frame = event.start_mark.line, self.frame
        known = self.anchors.get(event.anchor)
        if known is None:
            name = printable(event.anchor)
            raise DocumentFault(f"the alias *{name} names no anchor before it, or one that contains it", line)
        value, size = known
        if frame is not None and not frame.is_sequence and frame.key is None:
            if not isinstance(value, str):
                raise DocumentFault("a mapping key must be text", line, "write the key as plain or quoted text")
            self._key(frame, value, event, is_plain=False)
            return
        self._pay(size, line)
        at = frame.line if frame is not None and not frame.is_sequence else line + self.base
        self.lines.extend(array("I", (at,)) * size)
        self._put(value, len(self.lines) - size)

    def _key(self, frame: _Frame, text: str, event: Any, *, is_plain: bool) -> None:
        frame.line = event.start_mark.line + self.base
        keys = self.reader.keys
        frame.key = keys.setdefault(text, text) if len(keys) < _MEMO_SIZE else text
        frame.is_merge = is_plain and text == "<<"
        frame.is_repeat = text in frame.container
        if frame.is_repeat:
            first_line = self._line_of(frame, text)
            reason = f"the key {printable(text)} appears twice, on lines {first_line} and {frame.line}"
            self._problem(reason, "keep one of them", frame.line)

    def _line_of(self, frame: _Frame, text: str) -> int:
        index = frame.start + 1
        for key, child in frame.container.items():
            if key == text:
                break
            index += count_nodes(child)
        return self.lines[index]

    def _put(self, value: Any, start: int) -> None:
        """Hand a finished value to its parent; ``start`` is its index in ``lines``."""
        frame = self.frame
        if frame is None:
            self.root = value
        elif frame.is_sequence:
            frame.container.append(value)
        else:
            if frame.is_merge:
                frame.merges.append((value, frame.line))
                del self.lines[start:]
            elif frame.is_repeat:
                del self.lines[start:]
            else:
                frame.container[frame.key] = value
            frame.key = None

    def _merge(self, frame: _Frame, value: Any, line: int) -> None:
        sources = value if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                self._problem("a merge key (<<) needs a mapping or a list of mappings", "name an anchor", line)
                continue
            for key, child in source.items():
                if key not in frame.container:
                    size = count_nodes(child)
                    self._pay(size, line - self.base)
                    frame.container[key] = child
                    self.lines.extend(array("I", (line,)) * size)

    def _pay(self, nodes: int, line: int) -> None:
        self.reader.alias_nodes += nodes
        if self.reader.alias_nodes > MAX_ALIAS_NODES:
            raise DocumentFault(f"aliases expand to more than {MAX_ALIAS_NODES} nodes", line, "write the values out")

    def _plain(self, text: str) -> Any:
        try:
            return self.memo[text]
        except KeyError:
            value = plain_scalar(text)
            if len(self.memo) < _MEMO_SIZE:
                self.memo[text] = value
            return value

    def _tagged(self, event: Any) -> Any:
        tag, text, line = event.tag, event.value, event.start_mark.line + self.base
        if tag in ("!", f"{_CORE}str"):
            return text
        if tag not in _SCALAR_TAGS:
            self._problem(f"the YAML tag {printable(tag)} is not supported", "remove the tag", line)
            return text
        value = plain_scalar(text)
        if type(value) not in _SCALAR_TAGS[tag]:
            self._problem(f"the value is not a {tag.removeprefix(_CORE)}", "remove the tag", line)
        return value

    def _problem(self, reason: str, fix: str, line: int) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            return
        path = [len(frame.container) if frame.is_sequence else frame.key or "" for frame in self.stack]
        path = path[:-1] if path and path[-1] == "" else path
        self.problems.append(Problem(path=tuple(path), reason=reason, fix=fix, line=line))


def _explain(error: yaml.YAMLError, part: bytes) -> tuple[int, str]:
    """(0-based line, reason) of what the C parser says."""
    if isinstance(error, yaml.reader.ReaderError):
        return part.count(b"\n", 0, error.position), f"not YAML: {printable(str(error.reason))}"
    if isinstance(error, yaml.MarkedYAMLError):
        mark: Any = error.problem_mark or error.context_mark
        text = " ".join(word for word in (error.context, error.problem) if word)
        return mark.line if mark else 0, f"not YAML: {printable(text)}"
    return 0, f"not YAML: {printable(str(error))}"
