"""Recorded decisions: choices that depend on history, kept as input rows.

Rules state what they want, ``allocate`` proposes, the accepted proposal is recorded here and honoured for ever
after. That keeps the law: rows are a function of the objects and of these.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr, Family
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


DnsOutcome = Literal["answer", "nxdomain", "nodata", "servfail", "refused", "timeout", "unreachable", "malformed"]
DNS_FAILURES: frozenset[DnsOutcome] = frozenset(("servfail", "refused", "timeout", "unreachable", "malformed"))
"""Outcomes that say nothing about the name."""
DNS_CAUSES = ("answer", "nxdomain", "nodata", "expired", "pushed")
MAX_DNS_ADDRESSES = 1_024
"""Per name, in each of ``live`` and ``sticky``."""
MAX_DNS_HISTORY = 32


class DnsAnswer(Value, frozen=True, kw_only=True, gc=False):
    """What was heard about a name: an input event of the core, from a resolver or pushed by a feed.

    ``addresses`` are complete, not an addition. ``family`` None speaks for both families, as a feed does. ``ttl_s`` in
    seconds, unclamped; ``reason``: why there is no answer, or what of it is not used.
    """

    name: str
    outcome: DnsOutcome = "answer"
    addresses: tuple[Address, ...] = ()
    ttl_s: float = 0.0
    family: Family | None = None
    reason: str = ""


class DnsChange(Value, frozen=True, kw_only=True, gc=False):
    """From ``at_s`` (Unix seconds, UTC) on, the name had ``addresses`` for Allow rules; ``cause`` says what was heard:
    answer, nxdomain, nodata, expired (a grace period ended), pushed."""

    at_s: float
    cause: str
    addresses: tuple[Address, ...] = ()


class DnsDecision(Value, frozen=True, kw_only=True, gc=False):
    """What a DNS name stands for. ``live`` for Allow rules, ``sticky`` for Deny rules (both sorted, all families).

    ``answer`` is the last answer alone; ``live`` holds it plus addresses in their grace period; ``sticky`` also keeps
    the last answer after the name was denied to exist. ``history`` is oldest first and bounded.
    """

    live: tuple[Address, ...] = ()
    sticky: tuple[Address, ...] = ()
    answer: tuple[Address, ...] = ()
    history: tuple[DnsChange, ...] = ()


class Decisions(Value, frozen=True, kw_only=True):
    """Everything recorded, as one value that can be saved to a file or read back from the northbound.

    ``nodes`` by node name, ``pods`` by ``NS/NAME``, ``dns`` by DNS name; ``accepted``: last accepted versions.
    """

    nodes: dict[str, NodeDecision] = {}
    pods: dict[str, PodDecision] = {}
    dns: dict[str, DnsDecision] = {}
    accepted: dict[ObjectRef, Declared] = {}
