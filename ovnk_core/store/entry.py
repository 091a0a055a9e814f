"""The words of the intent store: keys, changes, entries.

Everything that must survive a crash is a key and its value, and every change of it is part of one *entry* of the log.
An entry is visible as a whole or not at all; its revision is one more than that of the entry before it. The state at a
revision is what the entries up to it lead to, so pages, watches and replicas all read the same thing.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.terms.struct import Key, Value

Space = Literal["object", "refused", "decision", "request", "meta"]
"""``object``: the accepted document of an object; ``refused``: a document that a source states and we refuse;
``decision``: what was decided for a node, pod or DNS name; ``request``: what became of one; ``meta``: the rest."""
SPACES: tuple[Space, ...] = ("object", "refused", "decision", "request", "meta")


class StoreKey(Key, frozen=True, order=True, cache_hash=True):
    """Where a value lives. ``kind`` as the model names it; ``namespace`` empty for what is not namespaced."""

    space: Space
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.space}/{self.kind}/{self.namespace}/{self.name}"


class Change(Value, frozen=True, kw_only=True, gc=False):
    """One key gets a value, or (None) goes."""

    key: StoreKey
    value: bytes | None


class Entry(Value, frozen=True, kw_only=True, gc=False):
    """One commit. ``revision`` counts from 1 without gaps; ``at_s`` is Unix time for people, never used for order;
    ``author`` is the identity that asked for it, empty for our own decisions; ``id`` is unique, so that whoever lost
    the reply to an append can tell from the log whether it was theirs that landed."""

    revision: int
    changes: tuple[Change, ...]
    at_s: int = 0
    author: str = ""
    id: str = ""


class Stored(Value, frozen=True, kw_only=True, gc=False):
    """A value in force, with the revisions of its creation and of its last change."""

    value: bytes
    created: int
    modified: int


class Base(Value, frozen=True, kw_only=True):
    """The compacted part of a log: every item as of ``revision``, which is 0 for an empty one."""

    revision: int = 0
    items: dict[StoreKey, Stored] = {}
