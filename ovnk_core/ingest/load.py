"""The door: files or plain values in, ``Loaded`` out.

Nothing here raises on bad input: whatever cannot be accepted is ``Refused`` with its reasons, and never stops what
stands beside it. Objects of one name are settled here: equal ones count once; different ones, or one of which is
refused, are refused together with every source, because picking one of them would be a guess. A refused
NetworkPolicy leaves a fail-closed stand-in; of several it isolates what any of them would.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from ovnk_core.errors import ObjectError, SchemaError
from ovnk_core.ingest.document import DEFAULT_MAX_FILE_BYTES, FileReader, Progress, find
from ovnk_core.ingest.outcome import Item, Loaded, Refused, Skipped, StandIn, Warning, fails_closed
from ovnk_core.ingest.parse import flatten, parse_object
from ovnk_core.ingest.position import JsonPositions, SourceMap
from ovnk_core.ingest.report import MAX_PROBLEMS
from ovnk_core.ingest.yaml_reader import Document, Unreadable
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.terms.label import EVERYTHING
from ovnk_core.terms.name import ObjectRef

__all__ = ["Item", "Loaded", "Refused", "SourceMap", "Warning", "load", "parse_objects"]


def load(
    paths: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
    progress: Progress | None = None,
) -> Loaded:
    """Files, folders and ``-`` -> everything they declare.

    ``max_file_bytes`` holds for each file and for standard input; ``progress(done, total)`` hears bytes, about once a
    megabyte. Blocking. Source: Kubernetes manifests as kubectl reads them (YAML documents, JSON, lists).
    """
    started = time.perf_counter()
    ledger = _Ledger()
    found = find(paths)
    reader = FileReader(stdin=stdin, max_file_bytes=max_file_bytes, progress=progress)
    for unreadable in found.missing:
        ledger.refuse_file(unreadable)
    for folder in found.empty:
        ledger.warnings.append(Warning(ref=None, text="the folder holds no manifests", source=folder))
    for document in reader.documents(found.files):
        ledger.take(document)
    return ledger.close(seconds=time.perf_counter() - started, size=reader.done)


def parse_objects(raws: Iterable[Mapping[str, Any]], *, source: str = "object") -> Loaded:
    """Plain values, as a JSON decoder gives them -> everything they declare; sources are ``SOURCE#/INDEX/...``."""
    started = time.perf_counter()
    ledger = _Ledger()
    for index, raw in enumerate(raws):
        value = dict(raw) if isinstance(raw, Mapping) else raw
        ledger.take(Document(value=value, positions=JsonPositions(source, f"/{index}", value)))
    return ledger.close(seconds=time.perf_counter() - started, size=0)


class _Ledger:
    """Outcomes by reference, in order of first appearance."""

    def __init__(self) -> None:
        self.entries: dict[ObjectRef, Item | Refused] = {}
        self.warnings: list[Warning] = []
        self.unbuilt: set[ObjectRef] = set()
        self.unknown: Counter[str] = Counter()

    def take(self, document: Document | Unreadable) -> None:
        """Read one document, with everything a list in it holds."""
        for entry in flatten(document) if isinstance(document, Document) else [document]:
            if isinstance(entry, Unreadable):
                self.refuse_file(entry)
                continue
            parsed = parse_object(entry)
            if isinstance(parsed.outcome, Skipped):
                self._skip(parsed.outcome)
            elif self._record(parsed.outcome):
                self.warnings.extend(parsed.warnings)

    def refuse_file(self, unreadable: Unreadable) -> None:
        source = unreadable.source
        error = SchemaError(unreadable.reason, kind="File", fix=unreadable.fix, source=source)
        self._record(Refused(ref=ObjectRef("File", "", source), errors=(error,), source=source))

    def close(self, *, seconds: float, size: int) -> Loaded:
        return Loaded(
            items=tuple(entry for entry in self.entries.values() if isinstance(entry, Item)),
            refused=tuple(entry for entry in self.entries.values() if isinstance(entry, Refused)),
            warnings=tuple(self.warnings),
            unbuilt=tuple(sorted(self.unbuilt)),
            unknown=tuple(sorted(self.unknown.items())),
            seconds=seconds,
            bytes=size,
        )

    def _skip(self, skipped: Skipped) -> None:
        if skipped.ref is not None:
            self.unbuilt.add(skipped.ref)
        else:
            self.unknown[skipped.kind] += 1

    def _record(self, new: Item | Refused) -> bool:
        """Enter an outcome; answers False when it only repeats an accepted one."""
        old = self.entries.get(new.ref)
        if old is None:
            self.entries[new.ref] = new
            return True
        if isinstance(old, Item) and isinstance(new, Item) and old.value == new.value:
            return False
        self.entries[new.ref] = _clash(old, new)
        return True


def _clash(old: Item | Refused, new: Item | Refused) -> Refused:
    """Two declarations of one name that do not agree -> one refusal with the reasons and sources of both."""
    errors = list(old.errors) if isinstance(old, Refused) else [_twice(old, new)]
    if len(errors) < MAX_PROBLEMS:
        seen = set(map(str, errors))
        fresh = new.errors if isinstance(new, Refused) else (_twice(new, old),)
        errors.extend(error for error in fresh if str(error) not in seen)
    return Refused(
        ref=old.ref,
        errors=tuple(errors),
        stand_in=_widest(_closed(old), _closed(new)),
        source=str(old.source),
        is_identified=all(each.is_identified for each in (old, new) if isinstance(each, Refused)),
    )


def _twice(item: Item, other: Item | Refused) -> ObjectError:
    return SchemaError(
        f"declared more than once, differently: also at {other.source}",
        kind=item.ref.kind,
        name=str(item.ref.key),
        fix="keep one of them",
        source=str(item.source),
    )


def _closed(entry: Item | Refused) -> StandIn | None:
    if isinstance(entry, Refused):
        return entry.stand_in
    return fails_closed(entry.value, "declared more than once, differently")


def _widest(one: StandIn | None, two: StandIn | None) -> StandIn | None:
    """A stand-in that isolates whatever either isolates."""
    if not isinstance(one, NetworkPolicy) or not isinstance(two, NetworkPolicy):
        return one or two
    return msgspec.structs.replace(
        one,
        subject=one.subject if one.subject == two.subject else EVERYTHING,
        is_ingress=one.is_ingress or two.is_ingress,
        is_egress=one.is_egress or two.is_egress,
    )
