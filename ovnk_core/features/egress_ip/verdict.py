"""What EgressIP objects say about a packet that a pod sends. Plain on purpose: this is the oracle the rows are held to.

Source: 15.9, OVN-Kubernetes for what is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.cluster import JOIN, LINK, ClusterNetwork, special_kind
from ovnk_core.model.egress_ip import EgressIP, EgressIPDecision
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.label import Labels
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NodePlace


class Exit(Value, frozen=True, kw_only=True):
    """A node that a packet leaves by, and the source address it has then."""

    node: str
    address: Address


Precedence = tuple[bool, bool, str, str]


def precedence(item: EgressIP, decision: EgressIPDecision | None) -> Precedence:
    """Of the objects that select a pod the least counts: a placed one, the oldest, by name where the time is the same.
    One that no node holds serves nobody, and would send its pods out as their nodes."""
    return decision is None or not decision.is_placed, not item.created, item.created, item.name


def that_counts(
    items: Iterable[tuple[EgressIP, EgressIPDecision | None]], pod: Endpoint, namespace: Labels | None
) -> EgressIP | None:
    """Of the objects that select a pod the one that counts; ``namespace``: the labels of the pod's, None where they are
    unknown, which no selector matches."""
    if namespace is None:
        return None
    around, own = dict(namespace), dict(pod.labels)
    selecting = (each for each in items if each[0].namespaces.matches(around) and each[0].pods.matches(own))
    found = min(selecting, key=lambda each: precedence(*each), default=None)
    return found[0] if found is not None else None


def why_kept(network: ClusterNetwork, target: Address, hosts: Container[Address]) -> str:
    """What a destination is that no egress IP is used for; empty: it is used. ``hosts``: addresses of every node."""
    if target in hosts:
        return "nodes, nor for what runs on their network, as router pods do (15.9.1)"
    if network.holds(target):
        return "pods, nor for Services that pods answer, as router pods do (15.9.1)"
    if network.holds_hybrid(target):
        return "pods on Windows nodes"
    if special_kind(target) in ("multicast", "broadcast"):
        return "groups"
    if LINK.contains(target):
        return "addresses of a link"
    return "gateways" if JOIN[target.family].contains(target) else ""


def exits(
    decision: EgressIPDecision | None, family: Family, place: Callable[[str], NodePlace | None]
) -> tuple[Exit, ...]:
    """Where an object's packets of one family may leave, sorted by address; each connection draws one of them."""
    found = decision.assignments if decision is not None else ()
    return tuple(
        Exit(node=each.node, address=each.address)
        for each in sorted(found, key=lambda each: each.address)
        if each.address.family == family
        and (at := place(each.node)) is not None
        and at.has_gateway
        and any(interface.family == family for interface in at.join)
    )
