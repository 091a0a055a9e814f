"""Fetching objects: by name, or whole lists by selectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from ovnk_client import Client, NotFound
from ovnk_wire import Kind, to_manifest

from ovnk_cli.online.names import Wanted, place_of, shown
from ovnk_core.terms.struct import Value


class Selection(Value, frozen=True, kw_only=True):
    """Which objects of a kind: ``namespace`` None for the default one, unless ``is_everywhere``."""

    namespace: str | None = None
    is_everywhere: bool = False
    labels: str = ""
    fields: str = ""

    def listed_in(self, kind: Kind) -> str:
        """What a list of the kind asks for; empty for every namespace."""
        return "" if self.is_everywhere else place_of(kind, self.namespace)


class Fetched(Value, frozen=True, kw_only=True):
    """Objects of one kind as manifests; ``missing`` are the names of those that are not there."""

    kind: Kind
    manifests: tuple[dict[str, Any], ...]
    missing: tuple[str, ...] = ()


async def fetch(client: Client, wanted: Sequence[Wanted], selection: Selection) -> list[Fetched]:
    """Everything that is wanted, kind by kind. Raises ClientError for anything but NotFound, UsageError for names
    together with selectors."""
    found = []
    for each in wanted:
        if each.names:
            check_names(selection)
            found.append(await _by_name(client, each, selection))
        else:
            objects = client.objects(
                each.kind.name,
                namespace=selection.listed_in(each.kind),
                labels=selection.labels,
                fields=selection.fields,
            )
            found.append(Fetched(kind=each.kind, manifests=tuple([to_manifest(item) async for item in objects])))
    return found


def check_names(selection: Selection) -> None:
    """Raises UsageError for what a name excludes."""
    if selection.labels or selection.fields:
        raise click.UsageError("a name already says which object; leave out the selector")
    if selection.is_everywhere:
        raise click.UsageError("a name is looked up in one namespace; leave out -A")


async def _by_name(client: Client, wanted: Wanted, selection: Selection) -> Fetched:
    manifests, missing = [], []
    for name in wanted.names:
        place = place_of(wanted.kind, selection.namespace)
        try:
            manifests.append(to_manifest(await client.get(wanted.kind.name, name, namespace=place)))
        except NotFound:
            missing.append(name)
    return Fetched(kind=wanted.kind, manifests=tuple(manifests), missing=tuple(missing))


def missing_text(kind: Kind, name: str, namespace: str | None) -> str:
    """What is said about an object that is not there."""
    where = f" in namespace {place_of(kind, namespace)}" if kind.is_namespaced else ""
    return f"{shown(kind, name)} not found{where}"
