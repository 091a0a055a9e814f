"""What a room is: a network feature with its rules and its verdict."""

from __future__ import annotations

from ovnk_core.engine.graph import Node
from ovnk_core.terms.struct import Value


class Room(Value, frozen=True, kw_only=True):
    """``source``: where the feature is defined. ``rules``: what it adds to the pipeline."""

    name: str
    source: str
    rules: tuple[Node, ...]
