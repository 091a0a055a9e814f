"""Recorded decisions: choices that depend on history, kept as input rows.

Rules state what they want, ``allocate`` proposes, the accepted proposal is recorded here and honoured for ever
after. That keeps the law: rows are a function of the objects and of these.
"""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value


class NodeDecision(Value, frozen=True, kw_only=True, gc=False):
    """A node's subnets (at most one per clusterNetwork family) and its id (2..5000; join address = join base + id)."""

    subnets: tuple[Cidr, ...] = ()
    node_id: int = 0


class PodDecision(Value, frozen=True, kw_only=True, gc=False):
    """A pod's addresses (at most one per family), its MAC, and the node they were given on."""

    addresses: tuple[Address, ...] = ()
    mac: str = ""
    node: str = ""


class Decisions(Value, frozen=True, kw_only=True):
    """Everything recorded, as one value that can be saved to a file or read back from the northbound.

    ``nodes`` by node name, ``pods`` by ``NS/NAME``; ``accepted``: the last accepted version of objects.
    """

    nodes: dict[str, NodeDecision] = {}
    pods: dict[str, PodDecision] = {}
    accepted: dict[ObjectRef, Declared] = {}
