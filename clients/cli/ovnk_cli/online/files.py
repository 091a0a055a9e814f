"""Manifests from files for a server: checked here first, so that what is wrong is told with FILE:LINE."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from ovnk_api.v1.object_pb2 import Object
from ovnk_client import ClientError, Violation
from ovnk_wire import WireError, from_manifest
from ovnk_wire.kinds import Kind, kind_of_manifest

from ovnk_cli.output import say
from ovnk_cli.place import DEFAULT_NAMESPACE, ServerSaid, exit_code_of, message_of
from ovnk_core.ingest.document import DEFAULT_MAX_FILE_BYTES, FileReader, find
from ovnk_core.ingest.outcome import Item, Refused
from ovnk_core.ingest.parse import flatten, parse_object
from ovnk_core.ingest.position import Positions
from ovnk_core.ingest.yaml_reader import Document, Unreadable
from ovnk_core.terms.struct import Value

_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|\[\"(?P<quoted>(?:[^\"\\]|\\.)*)\"\]|\.?(?P<name>[^.\[\]]+)")


class Stated(Value, frozen=True, kw_only=True):
    """One object of a file. ``item`` is what goes to the server, ``positions`` where its fields stand."""

    kind: Kind
    manifest: dict[str, Any]
    item: Object
    positions: Positions

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace", ""))


def read_files(
    paths: Sequence[str],
    namespace: str | None,
    *,
    is_preset: bool = False,
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
) -> list[Stated]:
    """Everything the files state, with ``namespace`` where an object names none. One that names another contradicts it,
    unless it is preset (by the environment).

    Tells every mistake on stderr. Raises UsageError for no files or no objects, and exits with 1 for mistakes: nothing
    is sent then.
    """
    if not paths:
        raise click.UsageError("give -f PATH")
    lines: list[str] = []
    found: list[Stated] = []
    for entry in _documents(paths, max_file_bytes):
        if isinstance(entry, Unreadable):
            lines.append(f"{entry.source}: {entry.reason}" + (f"; {entry.fix}" if entry.fix else ""))
            continue
        stated = _stated(entry, namespace, lines, is_preset=is_preset)
        if stated is not None:
            found.append(stated)
    for line in lines:
        say(f"error: {line}")
    if lines:
        raise click.exceptions.Exit(1)
    if not found:
        raise click.UsageError(f"{', '.join(paths)}: no objects")
    return found


def _documents(paths: Sequence[str], max_file_bytes: int) -> Iterator[Document | Unreadable]:
    files = find(paths)
    yield from files.missing
    reader = FileReader(stdin=sys.stdin.buffer, max_file_bytes=max_file_bytes, progress=None)
    for document in reader.documents(files.files):
        yield from flatten(document) if isinstance(document, Document) else [document]


def _stated(document: Document, namespace: str | None, lines: list[str], *, is_preset: bool) -> Stated | None:
    parsed = parse_object(document)
    for warning in parsed.warnings:
        say(f"warning: {warning.source}: {warning.text}")
    outcome = parsed.outcome
    if isinstance(outcome, Refused):
        found = [error for error in outcome.errors if not _is_left_out(document.value, error.path)]
        lines += map(str, found)
        if found:
            return None
    elif not isinstance(outcome, Item):
        lines.append(f"{document.positions.at('kind')}: {outcome.kind}: this kind is not served yet")
        return None
    manifest, positions = document.value, document.positions
    group, _, _ = str(manifest["apiVersion"]).rpartition("/")
    kind = kind_of_manifest(group, str(manifest["kind"]))
    assert kind is not None, "what ingest accepts is a kind of the API"
    try:
        manifest = _placed(kind, manifest, namespace, is_preset=is_preset)
        item, unknown = from_manifest(manifest)
    except WireError as error:
        lines.append(f"{positions.at(*error.steps)}: {error}")
        return None
    except ValueError as error:
        lines.append(f"{positions.at('metadata', 'namespace')}: {error}")
        return None
    lines += (f"{place(positions, path)}: {kind.name} {path}: unknown field" for path in unknown)
    return Stated(kind=kind, manifest=manifest, item=item, positions=positions)


def _is_left_out(manifest: Any, path: str) -> bool:
    """Whether an error is about a status that the file does not state: the server may know one."""
    return path.split(".")[0] == "status" and isinstance(manifest, dict) and "status" not in manifest


def _placed(kind: Kind, manifest: dict[str, Any], namespace: str | None, *, is_preset: bool) -> dict[str, Any]:
    """The manifest with its namespace written out. Raises ValueError where -n contradicts it."""
    if not kind.is_namespaced:
        return manifest
    stated = manifest["metadata"].get("namespace")
    if stated and namespace and stated != namespace and not is_preset:
        raise ValueError(f"the object is in namespace {stated}, and -n says {namespace}; leave one of them out")
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": stated or namespace or DEFAULT_NAMESPACE}}


# ------------------------------------------------------------------------------------------- errors, back to lines


def place(positions: Positions, path: str) -> str:
    """Where the field of a manifest path stands: ``FILE:LINE``."""
    steps: list[str | int] = []
    for found in _STEP.finditer(path):
        steps.append(int(found["index"]) if found["index"] else found["quoted"] or found["name"])
    return positions.at(*steps)


def located(error: ClientError, stated: Sequence[Stated]) -> ServerSaid:
    """What a server says of objects of files, with the places of what it complains about."""
    if not error.violations:
        return ServerSaid(message_of(error), exit_code_of(error))
    lines = [_line(each, stated) for each in error.violations]
    return ServerSaid("\n".join(["the server refuses this; nothing was changed", *lines]), exit_code_of(error))


def _line(violation: Violation, stated: Sequence[Stated]) -> str:
    if violation.item is None or violation.item >= len(stated):
        return f"  {violation.field}: {violation.description}" if violation.field else f"  {violation.description}"
    about = stated[violation.item]
    where = place(about.positions, violation.manifest_path)
    return f"  {where}: {about.kind.name} {about.name} {violation.manifest_path}: {violation.description}"
