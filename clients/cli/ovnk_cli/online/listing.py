"""``get`` on a server: tables, documents, and the same while they change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from ovnk_client import Client, WatchEvent
from ovnk_wire import Kind, body_of, kind_of, to_manifest

from ovnk_cli.form import emit_objects, sort_key
from ovnk_cli.online.columns import Column, Manifest, at, columns_of, pairs
from ovnk_cli.online.names import Wanted, shown
from ovnk_cli.online.read import Fetched, Selection, fetch, missing_text
from ovnk_cli.online.waiting import with_waiting
from ovnk_cli.output import aligned, say
from ovnk_core.terms.struct import Value


class Look(Value, frozen=True, kw_only=True):
    """How objects are shown."""

    output: str = "table"
    sort_by: str | None = None
    has_labels: bool = False
    has_headers: bool = True
    ignores_missing: bool = False
    is_watched: bool = False
    is_watch_only: bool = False


async def show(client: Client, wanted: Sequence[Wanted], selection: Selection, look: Look) -> int:
    """Print what is there, then what changes if that is asked for; the exit status."""
    if look.is_watched:
        return await _follow(client, wanted, selection, look)
    found = await fetch(client, wanted, selection)
    code = _tell_missing(found, selection, look)
    if look.output not in ("table", "wide", "name"):
        items = _sorted([item for each in found for item in each.manifests], look)
        if items or not code:
            emit_objects(items, look.output, is_one=sum(len(each.names) for each in wanted) == 1)
        return code
    is_mixed = len(found) > 1
    printed = False
    for each in found:
        if not each.manifests:
            continue
        if printed and look.output != "name":
            click.echo()
        printed = True
        lines = Lines(each.kind, selection, look, is_prefixed=is_mixed)
        told = each if look.output == "name" else await with_waiting(client, each, selection)
        for line in lines.all(_sorted(told.manifests, look)):
            click.echo(line)
    if not printed and not code and look.output != "name":
        say(_nothing(wanted, selection))
    return code


def _tell_missing(found: Iterable[Fetched], selection: Selection, look: Look) -> int:
    missing = [(each.kind, name) for each in found for name in each.missing]
    if look.ignores_missing:
        return 0
    for kind, name in missing:
        say(f"ovnk: {missing_text(kind, name, selection.namespace)}")
    return 1 if missing else 0


def _nothing(wanted: Sequence[Wanted], selection: Selection) -> str:
    places = [place for each in wanted if (place := selection.listed_in(each.kind))]
    return "nothing found" + (f" in namespace {places[0]}" if places else "")


def _sorted(manifests: Sequence[dict[str, Any]], look: Look) -> list[dict[str, Any]]:
    return sorted(manifests, key=sort_key(look.sort_by)) if look.sort_by else list(manifests)


class Lines:
    """Lines of one kind. Widths are kept, so that what comes later stands below what came first."""

    def __init__(self, kind: Kind, selection: Selection, look: Look, *, is_prefixed: bool = False) -> None:
        self._kind, self._look, self._is_prefixed = kind, look, is_prefixed
        self._has_namespace = kind.is_namespaced and selection.is_everywhere
        self._columns: tuple[Column, ...] = tuple(
            each for each in columns_of(kind.name) if look.output == "wide" or not each.is_wide
        )
        self._widths: list[int] = []
        self._is_headed = not look.has_headers

    def all(self, manifests: Sequence[Manifest]) -> list[str]:
        """The lines of some objects, with the head if it was not printed yet."""
        if self._look.output == "name":
            return [shown(self._kind, str(at(each, "metadata", "name"))) for each in manifests]
        cells = [self._cells(each) for each in manifests]
        if not self._is_headed:
            self._is_headed = True
            cells.insert(0, self._head())
        lines, self._widths = aligned(cells, self._widths)
        return lines

    def _head(self) -> list[str]:
        labels = ["LABELS"] if self._look.has_labels else []
        return [*(["NAMESPACE"] if self._has_namespace else []), "NAME", *(c.title for c in self._columns), *labels]

    def _cells(self, manifest: Manifest) -> list[str]:
        name = str(at(manifest, "metadata", "name"))
        place = [str(at(manifest, "metadata", "namespace") or "")] if self._has_namespace else []
        labels = [pairs(at(manifest, "metadata", "labels"))] if self._look.has_labels else []
        title = shown(self._kind, name) if self._is_prefixed else name
        return [*place, title, *(each.read(manifest) for each in self._columns), *labels]


# ------------------------------------------------------------------------------------------- following


async def _follow(client: Client, wanted: Sequence[Wanted], selection: Selection, look: Look) -> int:
    """Print objects and then every change of them, until interrupted."""
    (one,) = wanted if len(wanted) == 1 else (None,)
    if one is None:
        raise click.UsageError("--watch follows one kind; ovnk watch follows several")
    lines = Lines(one.kind, selection, look)
    if look.sort_by:
        raise click.UsageError("--watch shows objects as they change; leave out --sort-by")
    first: list[dict[str, Any]] = []
    is_synced = False
    async with watching(client, wanted, selection, is_initial=not look.is_watch_only) as events:
        async for event in events:
            if event.type == "resync":
                say("note: changes may have been missed; everything is listed anew")
                is_synced, first = False, []
            elif event.type == "synced":
                is_synced = True
                _print(lines, first, look)
            elif event.object is not None and is_meant(event, one.names):
                manifest = to_manifest(event.object)
                if not is_synced and not look.is_watch_only:
                    first.append(manifest)
                else:
                    _print(lines, [manifest], look)
    return 0


def watching(client: Client, wanted: Sequence[Wanted], selection: Selection, *, is_initial: bool = True) -> Any:
    """A watch over what is wanted. Raises UsageError for what a watch cannot select by."""
    if selection.fields:
        raise click.UsageError("a watch selects by labels and names; leave out --field-selector")
    kinds = [each.kind for each in wanted]
    namespace = ""
    if not selection.is_everywhere and any(kind.is_namespaced for kind in kinds):
        if not all(kind.is_namespaced for kind in kinds):
            raise click.UsageError("kinds with and without namespaces cannot be followed together; give -A")
        namespace = selection.listed_in(next(kind for kind in kinds if kind.is_namespaced))
    return client.watch(
        [kind.name for kind in kinds], namespace=namespace, labels=selection.labels, sends_initial=is_initial
    )


def is_meant(event: WatchEvent, names: Sequence[str]) -> bool:
    """Whether an event is about one of the names; no name means all."""
    assert event.object is not None
    return not names or body_of(event.object).metadata.name in names  # type: ignore[attr-defined]


def _print(lines: Lines, manifests: Sequence[dict[str, Any]], look: Look) -> None:
    if look.output in ("table", "wide", "name"):
        for line in lines.all(manifests):
            click.echo(line)
    else:
        for each in manifests:
            emit_objects([each], look.output, is_one=True)


async def follow_events(client: Client, wanted: Sequence[Wanted], selection: Selection, *, output: str) -> int:
    """``ovnk watch``: every event of several kinds, a line or a JSON document each."""
    if output == "table":
        click.echo(f"{'EVENT':<10}{'REVISION':<10}{'NAMESPACE':<20}OBJECT")
    async with watching(client, wanted, selection) as events:
        async for event in events:
            names = () if event.object is None else _names(wanted, kind_of(event.object))
            if event.object is not None and not is_meant(event, names):
                continue
            click.echo(_line(event) if output == "table" else json.dumps(_document(event), ensure_ascii=False))
    return 0


def _names(wanted: Sequence[Wanted], kind: Kind) -> tuple[str, ...]:
    return next((each.names for each in wanted if each.kind is kind), ())


def _line(event: WatchEvent) -> str:
    head = f"{event.type:<9} {event.revision:<9} "
    if event.object is None:
        return head.rstrip()
    meta: Any = body_of(event.object).metadata  # type: ignore[attr-defined]
    return f"{head}{meta.namespace:<19} {shown(kind_of(event.object), meta.name)}"


def _document(event: WatchEvent) -> dict[str, Any]:
    found: dict[str, Any] = {
        "apiVersion": "ovnk/v1",
        "type": event.type,
        "revision": event.revision,
        "resume_revision": event.resume_revision,
    }
    return found if event.object is None else found | {"object": to_manifest(event.object)}
