"""What loading gives back: accepted items, refused objects with every reason, warnings, and what was skipped."""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.errors import ObjectError
from ovnk_core.ingest.position import SourceMap
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.object import Declared
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

StandIn = NetworkPolicy | EgressFirewall


def fails_closed(item: Declared, reason: str = "refused") -> StandIn | None:
    """What stands in for a refused object with nothing accepted before it; None where absence is closed enough."""
    if isinstance(item, NetworkPolicy):
        return replace(item, ingress=(), egress=(), blocked=reason)
    if isinstance(item, EgressFirewall):
        return replace(item, rules=(), blocked=reason)
    return None


UNREADABLE = ("File", "Object")
"""Kinds of refused input that could hold anything."""


class StatedAssignment(Value, frozen=True, kw_only=True):
    """What the status of an EgressIP says of one address, as written; ``place`` is the field, ``source`` its line."""

    address: str
    node: str
    place: str
    source: str


class Item(Value, frozen=True, kw_only=True):
    """One accepted object and where it was declared. ``stated``: what its status says, which is no part of it."""

    ref: ObjectRef
    value: Declared
    source: SourceMap
    stated: tuple[StatedAssignment, ...] = ()


class Refused(Value, frozen=True, kw_only=True):
    """One refused object. ``stand_in`` fails closed: a NetworkPolicy that isolates its subjects and allows nothing, an
    EgressFirewall that lets nothing out.

    Its name is the policy's own when that is a valid name, else one derived from it. Kind ``File`` is text that
    could not be read as objects at all, ``Object`` a document whose kind is missing or unreadable. ``is_identified``:
    its name and namespace are those of the object it is about; a misspelt one could be about any.
    """

    ref: ObjectRef
    errors: tuple[ObjectError, ...]
    stand_in: StandIn | None = None
    source: str = ""
    is_identified: bool = True

    @property
    def may_be_anything(self) -> bool:
        """Whether nobody can tell which object it was meant to be, so that none may be taken to be absent."""
        return not self.is_identified or self.ref.kind in UNREADABLE


class Warning(Value, frozen=True, kw_only=True):
    """Something accepted that its author should know; ``ref`` None: it concerns the input as a whole."""

    ref: ObjectRef | None
    text: str
    source: str


class Skipped(Value, frozen=True, kw_only=True):
    """A kind we do not read. ``ref`` is set when the kind could change a verdict once it is built."""

    kind: str
    ref: ObjectRef | None = None


class Loaded(Value, frozen=True, kw_only=True):
    """Everything one load found, in order of appearance; ``unbuilt`` and ``unknown`` are sorted.

    ``unknown`` counts objects per ``apiVersion kind``. ``bytes`` is what was read, ``seconds`` wall time.
    """

    items: tuple[Item, ...] = ()
    refused: tuple[Refused, ...] = ()
    warnings: tuple[Warning, ...] = ()
    unbuilt: tuple[ObjectRef, ...] = ()
    unknown: tuple[tuple[str, int], ...] = ()
    seconds: float = 0.0
    bytes: int = 0
