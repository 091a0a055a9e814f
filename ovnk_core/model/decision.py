"""Recorded decisions: choices that depend on history, kept as input rows.

Rules state what they want, ``allocate`` proposes, the accepted proposal is recorded here and honoured for ever
after. That keeps the law: rows are a function of the objects and of these.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.model.cluster import InstallDecision
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.port import Transport
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


class NodePort(Value, frozen=True, kw_only=True, gc=False):
    """The node port of one port of a Service, which ``protocol`` and ``port`` tell from the others."""

    protocol: Transport
    port: int
    node_port: int


class ServiceDecision(Value, frozen=True, kw_only=True, gc=False):
    """What a Service is reached at: the cluster IPs (at most one per family) and node ports that it states and nobody
    else has, or that it was given. A Service without is served nowhere."""

    cluster_ips: tuple[Address, ...] = ()
    node_ports: tuple[NodePort, ...] = ()


DnsOutcome = Literal["answer", "nxdomain", "nodata", "servfail", "refused", "timeout", "unreachable", "malformed"]
DNS_FAILURES: frozenset[DnsOutcome] = frozenset(("servfail", "refused", "timeout", "unreachable", "malformed"))
"""Outcomes that say nothing about the name."""
DENIALS = 2
"""So many in a row make a name one that does not exist."""
DNS_CAUSES = ("answer", "nxdomain", "nodata", "expired", "pushed")
MAX_DNS_ADDRESSES = 1_024
"""Per name, in each of ``live`` and ``sticky``."""
MAX_DNS_HISTORY = 128
"""Changes per name: two hours of a pool that rotates every minute. The record holds fewer when they do not fit in
``manifest.MAX_DNS_TEXT``."""


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
    """From ``at_s`` (whole Unix seconds, UTC) on, the name had ``addresses`` for Allow rules; ``cause`` says what was
    heard: answer, nxdomain, nodata, expired (a grace period ended), pushed.

    Whole seconds, rounded down, so that a time that was shown is a time that can be asked for; of several changes in
    one second the last is what is found.
    """

    at_s: int
    cause: str
    addresses: tuple[Address, ...] = ()


class DnsDecision(Value, frozen=True, kw_only=True, gc=False):
    """What a DNS name stands for. ``live`` for Allow rules, ``sticky`` for Deny rules (both sorted, all families).

    ``answer`` is the last answer alone; ``live`` holds it plus addresses in their grace period; ``sticky`` also keeps
    the last answer after the name was denied to exist. ``leaving``: when the grace period of an address ends (whole
    Unix seconds), sorted by address. ``denials`` (0 to 2): how often in a row the name was denied to exist. ``history``
    is oldest first, at most ``MAX_DNS_HISTORY`` changes; when it is full the oldest is dropped.
    """

    live: tuple[Address, ...] = ()
    sticky: tuple[Address, ...] = ()
    answer: tuple[Address, ...] = ()
    leaving: tuple[tuple[Address, int], ...] = ()
    denials: int = 0
    history: tuple[DnsChange, ...] = ()


class Decisions(Value, frozen=True, kw_only=True):
    """Everything recorded, as one value that can be saved to a file or read back from the northbound.

    ``install``: what the cluster was installed with; None while it has no node. ``nodes`` and ``health`` by node name,
    ``pods`` and ``services`` by ``NS/NAME``, ``egress_ips`` by name, ``dns`` by DNS name; ``accepted``: last accepted
    versions.
    """

    install: InstallDecision | None = None
    nodes: dict[str, NodeDecision] = {}
    pods: dict[str, PodDecision] = {}
    dns: dict[str, DnsDecision] = {}
    services: dict[str, ServiceDecision] = {}
    egress_ips: dict[str, EgressIPDecision] = {}
    health: dict[str, NodeHealth] = {}
    accepted: dict[ObjectRef, Declared] = {}
