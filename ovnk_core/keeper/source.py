"""What a synchronised source states: its objects one by one, and once, that this is all of them.

A source of truth is taken as it is: a refused object does not hold up the others, its document is kept beside the last
accepted one, and it keeps its rows or fails closed. What a source no longer states is deleted only after it said that
it is complete, and never by surprise: more than a fifth of what it had, or everything, needs its consent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ovnk_core.admission import NETWORK_KINDS
from ovnk_core.errors import ObjectError, SchemaError
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import UNREADABLE, Item, Refused, fails_closed
from ovnk_core.keeper.document import (
    Fault,
    Kept,
    Manifest,
    as_kept,
    decode,
    encode,
    object_key,
    read_refused,
    refused_key,
    settled,
)
from ovnk_core.keeper.proposal import Outcome, Put, Result, View, index_of
from ovnk_core.reconcile.diff import PRUNE_LIMIT
from ovnk_core.store.entry import Change, StoreKey
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value


class Unreadable(Value, frozen=True, kw_only=True):
    """An object that the source holds and nobody can read beyond its name; ``faults`` say why, at least one."""

    ref: ObjectRef
    manifest: Manifest
    faults: tuple[Fault, ...]


class Rejected(Value, frozen=True, kw_only=True):
    """A refused object. ``index`` of the statement's puts, None for an unreadable one; ``may_be_anything``: as
    ``Refused.may_be_anything``."""

    ref: ObjectRef
    errors: tuple[ObjectError, ...]
    index: int | None = None
    may_be_anything: bool = False


class Judged(Value, frozen=True, kw_only=True):
    """What became of a statement: as ``Accepted``, and who was refused."""

    revision: int
    results: tuple[Result, ...]
    refused: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()


class Statement(Value, frozen=True, kw_only=True):
    """Objects of ``source`` as they are now, and others that it no longer has. Taken one by one: order within a
    statement has no meaning. ``make_uid`` and ``now`` as for ``Request``."""

    source: str
    puts: tuple[Put, ...] = ()
    gone: tuple[ObjectRef, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    author: str = ""
    make_uid: Callable[[], str]
    now: str

    @property
    def touches_network(self) -> bool:
        """As ``Request.touches_network``."""
        return any(put.manifest.get("kind") == "Network" for put in self.puts) or any(
            ref.kind in NETWORK_KINDS for ref in self.gone
        )

    def plan(self, view: View) -> StatementPlan:
        """Never raises on what an object says."""
        loaded = parse_objects((put.manifest for put in self.puts), source=self.source)
        faults = view.inadmissible(loaded.items)
        plan = StatementPlan()
        refused = list(loaded.refused)
        for item in loaded.items:
            if errors := self._foreign(view, item.ref):
                plan.refuse(Rejected(index=index_of(str(item.source)), ref=item.ref, errors=errors))
            elif errors := faults.get(item.ref, ()):
                stand_in = fails_closed(item.value)
                refused.append(Refused(ref=item.ref, errors=errors, stand_in=stand_in, source=str(item.source)))
            else:
                self._take(view, self.puts[index_of(str(item.source))], item, plan)
        for each in refused:
            self._refuse(view, each, plan)
        for unreadable in self.unreadable:
            self._keep_unreadable(view, unreadable, plan)
        for kind, _ in loaded.unknown:
            plan.warnings.append(f"{kind}: unknown kind, skipped")
        for ref in self.gone:
            plan.drop(view, ref, self.source)
        plan.warnings += [f"{warning.ref}: {warning.text}" for warning in loaded.warnings]
        return plan

    def _refuse(self, view: View, refused: Refused, plan: StatementPlan) -> None:
        """Keep the document that is refused beside the accepted one, with its reasons."""
        index = index_of(refused.source)
        plan.refuse(
            Rejected(index=index, ref=refused.ref, errors=refused.errors, may_be_anything=refused.may_be_anything)
        )
        if refused.ref.kind in UNREADABLE or self._foreign(view, refused.ref):
            return
        faults = tuple(
            Fault(reason=error.reason, path=error.path, value=error.value, fix=error.fix) for error in refused.errors
        )
        kept = Kept(manifest=dict(self.puts[index].manifest), source=self.source, faults=faults)
        plan.change(view, refused_key(refused.ref), encode(kept))
        plan.items[refused_key(refused.ref)] = refused

    def _keep_unreadable(self, view: View, unreadable: Unreadable, plan: StatementPlan) -> None:
        ref, key = unreadable.ref, refused_key(unreadable.ref)
        kept = Kept(manifest=unreadable.manifest, source=self.source, faults=unreadable.faults, is_unreadable=True)
        errors = self._foreign(view, ref)
        if not errors:
            plan.change(view, key, encode(kept))
            plan.items[key] = refused = read_refused(ref, encode(kept))
            errors = refused.errors
        plan.refuse(Rejected(ref=ref, errors=errors))

    def _foreign(self, view: View, ref: ObjectRef) -> tuple[ObjectError, ...]:
        kept = [stored for key in (object_key(ref), refused_key(ref)) if (stored := view.get(key)) is not None]
        owner = next((name for stored in kept if (name := decode(stored.value).source) not in ("", self.source)), "")
        if not owner:
            return ()
        fix = "let one source state it"
        reason = f"belongs to the source {owner!r}"
        return (SchemaError(reason, kind=ref.kind, name=str(ref.key), path="metadata.name", fix=fix),)

    def _take(self, view: View, put: Put, item: Item, plan: StatementPlan) -> None:
        key = object_key(item.ref)
        stored = view.get(key)
        before = decode(stored.value) if stored else None
        kept = Kept(
            manifest=settled(put.manifest, item, before, uid=self.make_uid(), now=self.now),
            source=self.source,
            kubernetes_version=put.kubernetes_version,
        )
        # The API server's version moves with every status update: alone it is no change.
        if before is not None and stored is not None and _is_same(before, kept):
            plan.results[item.ref] = Result(ref=item.ref, outcome="unchanged", revision=stored.modified)
        else:
            plan.change(view, key, encode(kept))
            plan.items[key] = as_kept(item, kept.manifest)
            outcome: Outcome = "changed" if stored else "created"
            plan.results[item.ref] = Result(ref=item.ref, outcome=outcome, revision=view.revision + 1)
        plan.change(view, refused_key(item.ref), None)


def _is_same(one: Kept, other: Kept) -> bool:
    return one.manifest == other.manifest and one.source == other.source


class StatementPlan:
    """A plan in the making; ``changes`` by key, later ones win."""

    def __init__(self) -> None:
        self.pending: dict[StoreKey, Change] = {}
        self.results: dict[ObjectRef, Result] = {}
        self.refused: list[Rejected] = []
        self.warnings: list[str] = []
        self.items: dict[StoreKey, Item | Refused] = {}

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(self.pending.values())

    def refuse(self, rejected: Rejected) -> None:
        self.refused.append(rejected)

    def change(self, view: View, key: StoreKey, value: bytes | None) -> None:
        """Nothing when the key holds that already."""
        stored = view.get(key)
        if (stored.value if stored else None) != value:
            self.pending[key] = Change(key=key, value=value)

    def drop(self, view: View, ref: ObjectRef, source: str) -> None:
        """An object is gone from its source; those of others stay."""
        for key in (object_key(ref), refused_key(ref)):
            stored = view.get(key)
            if stored is not None and decode(stored.value).source == source:
                self.pending[key] = Change(key=key, value=None)
                self.results[ref] = Result(ref=ref, outcome="deleted", revision=0)
        self.results.setdefault(ref, Result(ref=ref, outcome="absent", revision=0))

    def answer(self, revision: int) -> Judged:
        return Judged(
            revision=revision,
            results=tuple(self.results.values()),
            refused=tuple(self.refused),
            warnings=tuple(self.warnings),
        )


class SourceView(View, Protocol):
    """A state that also knows what sources own."""

    def of_source(self, source: str) -> frozenset[ObjectRef]: ...


class Pruned(Value, frozen=True, kw_only=True):
    """What became of ``objects`` that a source does not hold any more: gone, or (``is_done`` False) all of them stay,
    because of the limit that ``message`` tells of."""

    revision: int
    objects: int
    is_done: bool = True
    message: str = ""


class PrunePlan(Value, frozen=True, kw_only=True):
    """Deletions, or the reason why there are none."""

    objects: int
    changes: tuple[Change, ...] = ()
    items: dict[StoreKey, Item | Refused] = {}
    message: str = ""

    def answer(self, revision: int) -> Pruned:
        return Pruned(revision=revision, objects=self.objects, is_done=not self.message, message=self.message)


class Prune(Value, frozen=True, kw_only=True):
    """``source`` said it is complete: what it owns and did not state goes, and all of it or nothing does.

    ``has_unidentified``: it stated something refused that could be about any object, so nothing can be taken to be
    absent. ``may_drop`` raises for an object that whoever speaks for the source may not delete.
    """

    source: str
    stated: frozenset[ObjectRef]
    allow: bool = False
    has_unidentified: bool = False
    may_drop: Callable[[ObjectRef], None] = lambda ref: None
    author: str = ""
    touches_network: bool = True

    def plan(self, view: SourceView) -> PrunePlan:
        """Raises what ``may_drop`` raises."""
        owned = view.of_source(self.source)
        gone = sorted(owned - self.stated)
        if message := self._limit(len(gone), len(owned)):
            return PrunePlan(objects=len(gone), message=message)
        plan = StatementPlan()
        for ref in gone:
            self.may_drop(ref)
            plan.drop(view, ref, self.source)
        return PrunePlan(objects=len(gone), changes=plan.changes)

    def _limit(self, gone: int, owned: int) -> str:
        """Why nothing is deleted; empty if it may be."""
        if gone and self.has_unidentified:
            return "a refused object does not tell which one it is, so that any of these could be it"
        if not gone or self.allow:
            return ""
        if not self.stated:
            return f"the source {self.source!r} states no object, yet {gone} would be deleted; set allow_prune if meant"
        if gone > PRUNE_LIMIT * owned:
            return (
                f"{gone} of {owned} objects of the source {self.source!r} would be deleted, more than"
                f" {PRUNE_LIMIT:.0%}; set allow_prune if meant"
            )
        return ""
