"""The one base for frozen values.

Everything that travels through the engine is a msgspec struct: immutable, compared and hashed by value, several
times faster to make than a frozen dataclass. ``Value`` is for objects with named fields, ``Key`` for small
positional keys that are hashed far more often than made (their hash is cached).
Constructors do not validate: validation lives at the door (``ingest``).

``gc=False`` on what exists in numbers (every key; objects, rows, endpoints) keeps it off the garbage collector's lists,
which a loaded cluster would otherwise walk again and again: a third of a cold load. It is for values made of text,
numbers, tuples and each other, which cannot be part of a cycle; never for one that holds an exception or a dict.
"""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every immutable value; subclasses repeat ``frozen=True, kw_only=True``."""


class Key(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """Base of every key; positional, ordered, with a cached hash."""
