"""From what is asked to what changes: a request planned against a state, without touching it.

A plan is a pure function of the request and of the state it is planned on. When the log says that somebody else was
faster, it is planned again on the newer state; nothing is ever committed on a guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from ovnk_core.admission import NETWORK_KINDS
from ovnk_core.errors import Exists, IdReused, NotFound, ObjectError, Outdated, Refusal, SchemaError
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Item, Loaded, Refused
from ovnk_core.keeper.document import (
    Kept,
    Manifest,
    as_kept,
    decode,
    encode,
    object_key,
    refused_key,
    settled,
    with_status,
)
from ovnk_core.model.tables import OBJECT_TABLES
from ovnk_core.store.entry import Change, Stored, StoreKey
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

Mode = Literal["apply", "create", "replace"]
Outcome = Literal["created", "changed", "unchanged", "deleted", "absent"]
REQUEST_TTL_S = 24 * 3600


class Put(Value, frozen=True, kw_only=True):
    """An object to be as ``manifest`` says. ``version``: the revision its present state must have been made at."""

    manifest: Mapping[str, Any]
    mode: Mode = "apply"
    version: int | None = None
    kubernetes_version: str = ""


class Drop(Value, frozen=True, kw_only=True):
    """An object to be gone; a namespace takes everything in it along."""

    ref: ObjectRef
    version: int | None = None
    may_be_absent: bool = False


class Result(Value, frozen=True, kw_only=True):
    """What became of one object; ``revision`` is that of its last change, 0 when it is gone."""

    ref: ObjectRef
    outcome: Outcome
    revision: int


class Accepted(Value, frozen=True, kw_only=True):
    """An accepted request: the revision from which on it holds, and one result per object it touched."""

    revision: int
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()


class Planned(Value, frozen=True, kw_only=True):
    """``items``: what the changed documents mean, so that nobody has to read them again. ``known``: the answer that the
    same request got before."""

    changes: tuple[Change, ...] = ()
    results: tuple[Result, ...] = ()
    warnings: tuple[str, ...] = ()
    items: dict[StoreKey, Item | Refused] = {}
    known: Accepted | None = None

    def answer(self, revision: int) -> Accepted:
        return self.known or Accepted(revision=revision, results=self.results, warnings=self.warnings)


class View(Protocol):
    """A state to plan on."""

    @property
    def revision(self) -> int: ...

    def get(self, key: StoreKey) -> Stored | None: ...

    def namespaced(self, namespace: str) -> Iterable[StoreKey]:
        """Keys of the objects of a namespace."""
        ...

    def inadmissible(self, items: Sequence[Item]) -> dict[ObjectRef, tuple[ObjectError, ...]]: ...


class Request(Value, frozen=True, kw_only=True):
    """Puts and drops that happen together or not at all. ``id``: the same id from the same author gets the same answer
    for a day, whatever happened to the first reply. ``make_uid`` and ``now`` are called once per new object."""

    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    author: str = ""
    id: str = ""
    make_uid: Callable[[], str]
    now: str

    @property
    def touches_network(self) -> bool:
        """Whether it must be planned alone: what a Network may say depends on the other one."""
        return any(put.manifest.get("kind") == "Network" for put in self.puts) or any(
            drop.ref.kind in NETWORK_KINDS for drop in self.drops
        )

    @property
    def digest(self) -> str:
        """The same for the same question."""
        puts = [[put.manifest, put.mode, put.version] for put in self.puts]
        drops = [[str(drop.ref), drop.version, drop.may_be_absent] for drop in self.drops]
        return sha256(msgspec.json.encode([puts, drops], order="sorted")).hexdigest()

    def plan(self, view: View) -> Planned:
        """Raises Refusal, NotFound, Exists, Outdated or IdReused; then nothing of it may happen."""
        if self.id and (known := remembered(self, view.get(request_key(self)))) is not None:
            return Planned(known=known)
        puts = [replace(put, manifest=with_status(put.manifest, view.get)) for put in self.puts]
        loaded = parse_objects(put.manifest for put in puts)
        _check(loaded, view)
        changes: dict[StoreKey, Change] = {}
        results: dict[ObjectRef, Result] = {}
        items: dict[StoreKey, Item | Refused] = {}
        for item in loaded.items:
            put = puts[index_of(str(item.source))]
            items[object_key(item.ref)] = self._put(view, put, item, changes=changes, results=results)
        for drop in self.drops:
            for result in _drop(view, drop, changes):
                results[result.ref] = result
        warnings = tuple(
            f"{warning.ref}: {warning.text}" if warning.ref else warning.text for warning in loaded.warnings
        )
        planned = Planned(
            changes=tuple(changes.values()), results=tuple(results.values()), warnings=warnings, items=items
        )
        if not self.id:
            return planned
        # Kept even when nothing changes: the same request must not undo tomorrow what somebody else did meanwhile.
        kept = remember(self, planned, revision=view.revision + 1, at_s=int(time.time()))
        return replace(planned, changes=(*planned.changes, kept))

    def _put(
        self, view: View, put: Put, item: Item, *, changes: dict[StoreKey, Change], results: dict[ObjectRef, Result]
    ) -> Item:
        """Returns the item as it will be kept."""
        key = object_key(item.ref)
        stored = view.get(key)
        _require(item.ref, stored, mode=put.mode, version=put.version)
        before = decode(stored.value) if stored else None
        kept = Kept(
            manifest=settled(put.manifest, item, before, uid=self.make_uid(), now=self.now),
            source=before.source if before else "",
            kubernetes_version=put.kubernetes_version or (before.kubernetes_version if before else ""),
        )
        value = encode(kept)
        withdrawn = view.get(refused_key(item.ref))
        if withdrawn is not None:
            changes[refused_key(item.ref)] = Change(key=refused_key(item.ref), value=None)
        if stored is not None and stored.value == value:
            results[item.ref] = Result(ref=item.ref, outcome="unchanged", revision=stored.modified)
        else:
            changes[key] = Change(key=key, value=value)
            outcome: Outcome = "changed" if stored else "created"
            results[item.ref] = Result(ref=item.ref, outcome=outcome, revision=view.revision + 1)
        return as_kept(item, kept.manifest)


def _check(loaded: Loaded, view: View) -> None:
    """Raises Refusal with everything that is wrong."""
    errors = [error for refused in loaded.refused for error in refused.errors]
    for kind, _ in loaded.unknown:
        errors.append(SchemaError("unknown kind", kind=kind, path="kind", fix=f"known: {', '.join(OBJECT_TABLES)}"))
    for ref in loaded.unbuilt:
        errors.append(SchemaError("this kind is not served yet", kind=ref.kind, name=str(ref.key), path="kind"))
    errors += [error for found in view.inadmissible(loaded.items).values() for error in found]
    if errors:
        raise Refusal(errors)


def _require(ref: ObjectRef, stored: Stored | None, *, mode: Mode, version: int | None) -> None:
    if mode == "create" and stored is not None:
        raise Exists(f"{ref} exists already")
    if stored is None and (mode == "replace" or version is not None):
        raise NotFound(f"{ref} does not exist")
    if stored is not None and version is not None and stored.modified != version:
        raise Outdated(f"{ref} was changed at revision {stored.modified}, after the {version} this edit is based on")


def _drop(view: View, drop: Drop, changes: dict[StoreKey, Change]) -> Iterable[Result]:
    key = object_key(drop.ref)
    stored = view.get(key)
    withdrawn = view.get(refused_key(drop.ref))
    if stored is None and withdrawn is None:
        if drop.may_be_absent:
            yield Result(ref=drop.ref, outcome="absent", revision=0)
            return
        raise NotFound(f"{drop.ref} does not exist")
    _require(drop.ref, stored or withdrawn, mode="apply", version=drop.version)
    keys = [key] if stored else []
    keys += [refused_key(drop.ref)] if withdrawn else []
    if drop.ref.kind == "Namespace":
        keys += view.namespaced(drop.ref.name)
    for each in keys:
        changes[each] = Change(key=each, value=None)
    for ref in dict.fromkeys(ObjectRef(each.kind, each.namespace, each.name) for each in keys):
        yield Result(ref=ref, outcome="deleted", revision=0)


def index_of(source: str) -> int:
    """Which object of a batch a source of ours names (``object#/3/spec/...``)."""
    return int(source.partition("#/")[2].partition("/")[0] or 0)


# ------------------------------------------------------------------------------------------------ request ids


class Remembered(Value, frozen=True, kw_only=True):
    """What is kept of a request with an id."""

    digest: str
    revision: int
    at_s: int
    results: tuple[tuple[str, str, str, str, int], ...] = ()
    warnings: tuple[str, ...] = ()

    def answer(self) -> Accepted:
        results = tuple(
            Result(ref=ObjectRef(kind, namespace, name), outcome=msgspec.convert(outcome, Outcome), revision=revision)
            for kind, namespace, name, outcome, revision in self.results
        )
        return Accepted(revision=self.revision, results=results, warnings=self.warnings)


def request_key(request: Request) -> StoreKey:
    return StoreKey("request", "", request.author, request.id)


def remember(request: Request, planned: Planned, *, revision: int, at_s: int) -> Change:
    """The change that makes a request's answer repeatable."""
    results = tuple((r.ref.kind, r.ref.namespace, r.ref.name, r.outcome, r.revision) for r in planned.results)
    kept = Remembered(digest=request.digest, revision=revision, at_s=at_s, results=results, warnings=planned.warnings)
    return Change(key=request_key(request), value=msgspec.json.encode(kept))


def remembered(request: Request, stored: Stored | None) -> Accepted | None:
    """The answer an earlier request of this id got. Raises IdReused when it asked something else."""
    if stored is None:
        return None
    kept = msgspec.json.decode(stored.value, type=Remembered)
    if kept.digest != request.digest:
        raise IdReused(f"the request_id {request.id!r} stands for another request; make a new one for each change")
    return kept.answer()


__all__ = ["Accepted", "Drop", "Manifest", "Planned", "Put", "Request", "Result", "View"]
