"""Which objects are meant: ``pods``, ``pod web db``, ``pod/web ns/shop``, ``pods,netpol``, as kubectl takes them."""

from __future__ import annotations

from collections.abc import Sequence

import click
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_wire import KINDS, Kind, find_kind

from ovnk_cli.place import DEFAULT_NAMESPACE
from ovnk_core.terms.struct import Value


class Wanted(Value, frozen=True, kw_only=True):
    """One kind, and the names of it; no name means all of them."""

    kind: Kind
    names: tuple[str, ...] = ()


def kind_meant(word: str) -> Kind:
    """Raises UsageError for a word that names no kind. A group may be cut short: ``network.config``."""
    found = find_kind(word) or _by_short_group(word)
    if found is None:
        known = ", ".join(sorted(kind.resource for kind in KINDS))
        raise click.UsageError(f"{word}: no such kind; known: {known}")
    return found


def _by_short_group(word: str) -> Kind | None:
    name, _, group = word.partition(".")
    for kind in KINDS:
        if group and kind.group.startswith(group.lower()) and find_kind(f"{name}.{kind.group}") is kind:
            return kind
    return None


def wanted(words: Sequence[str]) -> list[Wanted]:
    """What the words of a command mean, in their order. Raises UsageError."""
    if any("/" in word for word in words):
        found: dict[str, list[str]] = {}
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not name:
                raise click.UsageError(f"{word}: write TYPE/NAME for each, or TYPE NAME...")
            found.setdefault(kind_meant(kind).name, []).append(name)
        return [Wanted(kind=kind_meant(kind), names=tuple(dict.fromkeys(names))) for kind, names in found.items()]
    kinds = [kind_meant(word) for word in words[0].split(",") if word]
    names = tuple(dict.fromkeys(words[1:]))
    return [Wanted(kind=kind, names=names) for kind in dict.fromkeys(kinds)]


def place_of(kind: Kind, namespace: str | None) -> str:
    """The namespace of an object that was named without one."""
    return (namespace or DEFAULT_NAMESPACE) if kind.is_namespaced else ""


def title(kind: Kind) -> str:
    """``pod``, ``egressfirewall.k8s.ovn.org``: how messages call a kind."""
    word = kind.kubernetes_kind.lower()
    return f"{word}.{kind.group}" if kind.group else word


def shown(kind: Kind, name: str) -> str:
    """``pod/web``, ``egressfirewall.k8s.ovn.org/default``."""
    return f"{title(kind)}/{name}"


def shown_reference(reference: ObjectReference) -> str:
    return shown(kind_meant(reference.kind), reference.name)
