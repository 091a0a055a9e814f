"""Endpoints: the pods that have a port on the cluster network right now.

A pod is an endpoint when it is scheduled to a node we know, is not on the host network, is not completed and has
recorded addresses. Host-network pods are never endpoints: no selector picks them (NetworkPolicy API: they are
indistinguishable from their node).
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, Table
from ovnk_core.model.egress_router import Attachment
from ovnk_core.model.pod import ContainerPort, Pod
from ovnk_core.model.tables import NODE_DECISION, POD, POD_DECISION, cluster_key
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value


class Endpoint(Value, frozen=True, kw_only=True, gc=False):
    """Where a pod is and what it answers to."""

    key: NamespacedName
    node: str
    labels: Labels
    addresses: tuple[Address, ...]
    mac: str
    uid: str
    ports: tuple[ContainerPort, ...]

    def address(self, family: Family) -> Address | None:
        return next((address for address in self.addresses if address.family == family), None)


class AttachedPod(Value, frozen=True, kw_only=True, gc=False):
    """An endpoint that asks for secondary networks."""

    node: str
    addresses: tuple[Address, ...]
    attachments: tuple[Attachment, ...]


ENDPOINT = Table[NamespacedName, Endpoint]("endpoint")
ATTACHED_POD = Table[NamespacedName, AttachedPod]("attached_pod")
"""The few that do: without a row, an ordinary pod costs the egress router's rules nothing."""


@rule(driver=POD, reads=(POD_DECISION, NODE_DECISION), out=(ENDPOINT, ATTACHED_POD))
def endpoint(read: Reader, key: NamespacedName, pod: Pod) -> Iterable[Output]:
    """A running pod with recorded addresses on a known node -> its endpoint, and its secondary networks."""
    if pod.is_host_network or pod.is_completed or not pod.node:
        return
    decision = read(POD_DECISION, key)
    if decision is None or decision.node != pod.node or read(NODE_DECISION, cluster_key(pod.node)) is None:
        return
    yield ENDPOINT.row(
        key,
        Endpoint(
            key=key,
            node=pod.node,
            labels=pod.labels,
            addresses=decision.addresses,
            mac=decision.mac,
            uid=pod.uid,
            ports=pod.ports,
        ),
    )
    if pod.attachments:
        attached = AttachedPod(node=pod.node, addresses=decision.addresses, attachments=pod.attachments)
        yield ATTACHED_POD.row(key, attached)
