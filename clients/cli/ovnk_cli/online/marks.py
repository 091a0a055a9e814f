"""``label``, ``annotate``, ``patch`` and ``edit``: read an object, change it, and put it back if nobody was faster.

What goes back has no status: that is not the author's to state, and the server keeps the one it has.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import click
from ovnk_api.v1.diff_pb2 import Outcome
from ovnk_api.v1.object_service_pb2 import ApplyResponse
from ovnk_client import Client, Conflict
from ovnk_wire import Kind, WireError, from_manifest, to_manifest

from ovnk_cli.online.names import place_of, shown
from ovnk_cli.place import ServerSaid
from ovnk_core.terms.struct import Value

Manifest = dict[str, Any]
Change = Callable[[Manifest], Manifest]
ATTEMPTS = 5


async def modify(
    client: Client, kind: Kind, name: str, namespace: str | None, *, change: Change, is_dry: bool = False
) -> ApplyResponse:
    """Read, change, replace; again when somebody else was faster. Raises a ClientError, and what ``change`` raises."""
    attempt = 1
    while True:
        found = to_manifest(await client.get(kind.name, name, namespace=place_of(kind, namespace)))
        try:
            return await client.apply(change(stated(found)), mode="replace", validate_only=is_dry)
        except Conflict:
            if attempt == ATTEMPTS:
                raise
            attempt += 1


def stated(manifest: Manifest) -> Manifest:
    """What an author states of an object, with the version it is based on."""
    return {key: copy.deepcopy(value) for key, value in manifest.items() if key != "status"}


# ------------------------------------------------------------------------------------------- labels, annotations


class Marks(Value, frozen=True, kw_only=True):
    """Labels or annotations to set and to remove. ``field`` is ``labels`` or ``annotations``."""

    field: str
    set: dict[str, str]
    removed: tuple[str, ...] = ()
    overwrites: bool = False

    def change(self, manifest: Manifest) -> Manifest:
        """Raises ServerSaid for a value that may not be overwritten."""
        metadata = manifest["metadata"]
        marks = metadata.get(self.field) or {}
        for key, value in self.set.items():
            if not self.overwrites and marks.get(key, value) != value:
                raise ServerSaid(f"{key!r} already has the value {marks[key]!r}; give --overwrite to replace it", 1)
        kept = {key: value for key, value in {**marks, **self.set}.items() if key not in self.removed}
        return {**manifest, "metadata": {**metadata, self.field: kept}}

    def told(self, outcome: Outcome.ValueType) -> str:
        """What is said of an object."""
        word = "label" if self.field == "labels" else "annotate"
        done = f"{word}ed" if self.field == "labels" else f"{word}d"
        if outcome == Outcome.OUTCOME_UNCHANGED:
            return f"not {done}"
        return done if self.set or self.field != "labels" else f"un{done}"


def parse_marks(words: Sequence[str], field: str, *, overwrites: bool) -> tuple[list[str], Marks]:
    """``nodes n1 a=b c-`` -> what names objects, and the marks. Raises UsageError."""
    first = next((at for at, word in enumerate(words) if at and ("=" in word or word.endswith("-"))), len(words))
    names, changes = list(words[:first]), words[first:]
    if not changes:
        raise click.UsageError("give KEY=VALUE to set or KEY- to remove, after the names")
    found: dict[str, str] = {}
    removed: list[str] = []
    for word in changes:
        key, equals, value = word.partition("=")
        if equals:
            found[key] = value
        elif word.endswith("-"):
            removed.append(word.removesuffix("-"))
        else:
            raise click.UsageError(f"{word}: write KEY=VALUE or KEY-")
    both = sorted({*found} & {*removed})
    if both or "" in found or "" in removed:
        raise click.UsageError(f"{both[0]}: cannot be set and removed at once" if both else "a key is empty")
    return names, Marks(field=field, set=found, removed=tuple(removed), overwrites=overwrites)


# ------------------------------------------------------------------------------------------- patch


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386): null removes, mappings are merged, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def parse_patch(text: str) -> dict[str, Any]:
    """JSON or YAML -> a mapping. Raises UsageError."""
    import yaml

    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise click.UsageError(f"--patch: neither JSON nor YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise click.UsageError("--patch: must be a mapping")
    return found


def patched(patch: dict[str, Any]) -> Change:
    """Raises ServerSaid where the patch would turn the object into another one, or says what the API has no room for:
    of kinds that carry more than the network needs, that would be lost without a word."""

    def change(manifest: Manifest) -> Manifest:
        found: Manifest = merged(manifest, patch)
        for steps in (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")):
            if _at(found, steps) != _at(manifest, steps):
                raise ServerSaid(f"{'.'.join(steps)} cannot be patched: it names the object", 1)
        try:
            lost = _lost(patch, to_manifest(from_manifest(found)[0]))
        except WireError as error:
            raise ServerSaid(str(error), 1) from error
        if lost:
            raise ServerSaid(f"{lost}: this server does not keep such a field; nothing was changed", 1)
        return found

    return change


def _lost(patch: dict[str, Any], kept: Any, above: str = "") -> str:
    """The first field that a patch sets and that is not there; empty when all are."""
    for key, value in patch.items():
        if value is None or value == {}:
            continue
        if not isinstance(kept, dict) or key not in kept:
            return f"{above}{key}"
        if isinstance(value, dict) and (lost := _lost(value, kept[key], f"{above}{key}.")):
            return lost
    return ""


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def patch_told(kind: Kind, name: str, outcome: Outcome.ValueType) -> str:
    """``network.operator.openshift.io/cluster patched``."""
    unchanged = " (no change)" if outcome == Outcome.OUTCOME_UNCHANGED else ""
    return f"{shown(kind, name)} patched{unchanged}"
