"""Paths -> documents: finding files, reading them within limits, choosing the reader.

``.json`` is JSON, ``.yaml`` and ``.yml`` are YAML; other names and standard input are JSON when they begin like it
and parse as it, else YAML. Folders are walked in name order, hidden entries left out. Symbolic links to files are
followed, to folders not, so a loop cannot trap the walk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ovnk_core.ingest.json_reader import looks_like_json, read_json
from ovnk_core.ingest.text import PATH_LENGTH, printable
from ovnk_core.ingest.yaml_reader import Document, Unreadable, YamlReader
from ovnk_core.terms.struct import Value

DEFAULT_MAX_FILE_BYTES = 64 << 20
SUFFIXES = (".json", ".yaml", ".yml")
STDIN_NAME = "<stdin>"
Progress = Callable[[int, int], None]


class Found(Value, frozen=True, kw_only=True):
    """The files behind the given paths, in order, each once; ``missing`` are paths that give none, with the reason."""

    files: tuple[str, ...] = ()
    missing: tuple[Unreadable, ...] = ()
    empty: tuple[str, ...] = ()


def find(paths: Sequence[str]) -> Found:
    """Files, folders (recursive) and ``-`` -> the files to read."""
    files: dict[str, None] = {}
    missing: list[Unreadable] = []
    empty: list[str] = []
    for path in paths:
        place = Path(path)
        if path == "-" or (place.exists() and not place.is_dir()):
            files[path] = None
        elif place.is_dir():
            inside = list(_walk(path, missing))
            files.update(dict.fromkeys(inside))
            if not inside:
                empty.append(path)
        else:
            missing.append(Unreadable(source=printable(path, PATH_LENGTH), reason="no such file or folder"))
    return Found(files=tuple(files), missing=tuple(missing), empty=tuple(empty))


def _walk(folder: str, missing: list[Unreadable]) -> Iterator[str]:
    def fault(error: OSError) -> None:
        missing.append(
            Unreadable(source=printable(str(error.filename), PATH_LENGTH), reason=f"cannot be read: {error.strerror}")
        )

    for root, folders, names in os.walk(folder, onerror=fault):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield str(Path(root, name))


class FileReader:
    """Reads found files one after the other and counts bytes. ``total`` grows when standard input is read."""

    def __init__(self, *, stdin: BinaryIO | None, max_file_bytes: int, progress: Progress | None) -> None:
        self._stdin, self._max, self._progress = stdin, max_file_bytes, progress
        self.done = self.total = 0

    def documents(self, files: Iterable[str]) -> Iterator[Document | Unreadable]:
        """Every document of ``files``; what cannot be read comes as ``Unreadable`` in its place."""
        files = list(files)
        sizes = {path: _size(path) for path in files}
        self.total = sum(sizes.values())
        for path in files:
            name = STDIN_NAME if path == "-" else path
            data = self._read(path, name)
            if isinstance(data, Unreadable):
                self.total -= sizes[path]
                yield data
                continue
            self.total += len(data) - sizes[path]
            yield from self._decode(data, name)
            self.done += len(data)
            self._tell(0)

    def _read(self, path: str, name: str) -> bytes | Unreadable:
        try:
            if path == "-":
                data = self._stdin.read(self._max + 1) if self._stdin is not None else b""
            else:
                with Path(path).open("rb") as file:
                    data = file.read(self._max + 1)
        except OSError as error:
            return Unreadable(source=printable(name, PATH_LENGTH), reason=f"cannot be read: {error.strerror or error}")
        if len(data) > self._max:
            reason = f"larger than the limit of {self._max} bytes"
            return Unreadable(
                source=printable(name, PATH_LENGTH), reason=reason, fix="split it, or raise --max-file-bytes"
            )
        return data

    def _decode(self, data: bytes, name: str) -> Iterator[Document | Unreadable]:
        shown = printable(name, PATH_LENGTH)
        data = data.removeprefix(b"\xef\xbb\xbf")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})"
            yield Unreadable(source=f"{shown}:{line}", reason=reason, fix="save the file as UTF-8")
            return
        suffix = Path(name).suffix.lower()
        if suffix == ".json" or (suffix not in SUFFIXES and looks_like_json(text)):
            answer = read_json(text, shown)
            if suffix == ".json" or isinstance(answer, Document):
                yield answer
                return
        del text
        yield from YamlReader(data, shown, self._tell)

    def _tell(self, within: int) -> None:
        if self._progress is not None:
            self._progress(min(self.done + within, self.total), self.total)


def _size(path: str) -> int:
    try:
        place = Path(path)
        return place.stat().st_size if path != "-" and place.is_file() else 0
    except OSError:
        return 0
