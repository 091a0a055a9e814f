"""What nodes and pods are told of their place: annotations for an adapter to write back, and per-node settings.

OVN-Kubernetes' agents on the nodes configure themselves from these annotations. UDP ports of the tunnels and the MTU
have no northbound column: each chassis sets them itself, so they are outputs, too. So are the egress IPs a node holds:
whoever keeps addresses on its interface, or tells the network around it, follows them here.
Source: OVN-Kubernetes' annotation formats; 15.15 for the hybrid overlay, 15.9 for egress IPs (docs/sources.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.model.cluster import JOIN, MASQUERADE
from ovnk_core.model.decision import PodDecision
from ovnk_core.model.egress_ip import EgressIPDecision
from ovnk_core.model.node import Node
from ovnk_core.model.tables import CLUSTER, EGRESS_IP_DECISION, NODE, NODE_DECISION, POD_DECISION, cluster_key
from ovnk_core.nb.row import Pairs, pairs_of
from ovnk_core.terms.address import Address, Cidr, Family, mac_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, POD_MTU, ROUTER_OFFSET, NodePlace

PREFIX = "k8s.ovn.org/"
HAIRPIN_OFFSET = 5
"""Host of the masquerade range that a pod's own Service calls it from."""


class Told(Value, frozen=True, kw_only=True, gc=False):
    """What one node or pod is told. ``annotations``: sorted, those we own; the rest of the object's are not ours.
    Ports and MTU of nodes only; None: the node has no such tunnel. ``egress_ips``: what a node holds, sorted."""

    annotations: Pairs
    geneve_port: int | None = None
    vxlan_port: int | None = None
    mtu_bytes: int | None = None
    egress_ips: tuple[Address, ...] = ()


EGRESS_HELD = SetTable[NamespacedName, Address]("egress_held")
"""By node: the egress IPs it holds."""
NODE_TOLD = Table[NamespacedName, Told]("node_told")
POD_TOLD = Table[NamespacedName, Told]("pod_told")
TOLD: Mapping[str, Table[NamespacedName, Told]] = {"Node": NODE_TOLD, "Pod": POD_TOLD}
"""By kind of the object."""


@rule(driver=EGRESS_IP_DECISION, out=(EGRESS_HELD,))
def egress_held(read: Reader, key: NamespacedName, decision: EgressIPDecision) -> Iterable[Output]:
    """Where an object's addresses are -> what each node holds. One that is being withdrawn is no longer its node's."""
    for each in decision.assignments:
        yield EGRESS_HELD.member(cluster_key(each.node), each.address)


@rule(driver=NODE, reads=(NODE_DECISION, NODE_PLACE, CLUSTER_NETWORK, POD_MTU, EGRESS_HELD), out=(NODE_TOLD,))
def node_told(read: Reader, key: NamespacedName, node: Node) -> Iterable[Output]:
    """A node with a subnet -> what it is told. A Windows node has no Geneve tunnels."""
    network, decision, place = read(CLUSTER_NETWORK, CLUSTER), read(NODE_DECISION, key), read(NODE_PLACE, key)
    mtu_bytes = read(POD_MTU, CLUSTER)
    if network is None or decision is None:
        return
    vxlan_port = network.hybrid.vxlan_port if network.hybrid else None
    if place is not None:
        told = Told(
            annotations=_noted(_of_linux(place)),
            geneve_port=network.geneve_port,
            vxlan_port=vxlan_port,
            mtu_bytes=mtu_bytes,
            egress_ips=tuple(sorted(read(EGRESS_HELD, key))),
        )
        yield NODE_TOLD.row(key, told)
    elif node.is_windows and decision.subnets:
        notes = {"hybrid-overlay-node-subnet": str(decision.subnets[0])}
        yield NODE_TOLD.row(key, Told(annotations=_noted(notes), vxlan_port=vxlan_port, mtu_bytes=mtu_bytes))


@rule(driver=POD_DECISION, reads=(NODE_DECISION, CLUSTER_NETWORK), out=(POD_TOLD,))
def pod_told(read: Reader, key: NamespacedName, pod: PodDecision) -> Iterable[Output]:
    """A pod with addresses -> what it is told: addresses, MAC, gateway, and routes to everything inside the cluster, so
    that a pod whose default route is another network's still reaches it."""
    network, decision = read(CLUSTER_NETWORK, CLUSTER), read(NODE_DECISION, cluster_key(pod.node))
    if network is None or decision is None:
        return
    places = [
        f"{address}/{subnet.prefix}"
        for address in pod.addresses
        for subnet in decision.subnets
        if subnet.contains(address)
    ]
    gateways, routes = _ways(network.cidrs, network.service, decision.subnets)
    told: dict[str, Any] = {
        "ip_addresses": places,
        "mac_address": pod.mac,
        "gateway_ips": gateways,
        "routes": routes,
    }
    if len(places) == 1 and len(gateways) == 1:
        # What readers of one family look for.
        told |= {"ip_address": places[0], "gateway_ip": gateways[0]}
    yield POD_TOLD.row(key, Told(annotations=_noted({"pod-networks": {"default": told | {"role": "primary"}}})))


def _of_linux(place: NodePlace) -> dict[str, Any]:
    notes: dict[str, Any] = {
        "node-subnets": {"default": list(map(str, place.subnets))},
        "node-id": str(place.node_id),
        "node-gateway-router-lrp-ifaddr": {f"ipv{each.family}": str(each) for each in place.join},
        "node-mgmt-port-mac-address": place.management_mac,
    }
    if place.hybrid_gateway is not None:
        notes["hybrid-overlay-distributed-router-gateway-mac"] = mac_of(place.hybrid_gateway)
        notes["hybrid-overlay-distributed-router-gateway-ip"] = str(place.hybrid_gateway)
    return notes


@lru_cache(maxsize=4_096)
def _ways(
    cluster: tuple[Cidr, ...], service: tuple[Cidr, ...], subnets: tuple[Cidr, ...]
) -> tuple[tuple[str, ...], msgspec.Raw]:
    """The gateways of a node's pods, and their routes as JSON: made once for all pods of the node."""
    routes = []
    for subnet in subnets:
        gateway = str(subnet.at(ROUTER_OFFSET))
        inside = cluster_ranges((*cluster, *service), subnet.family)
        routes += [{"dest": str(block), "nextHop": gateway} for block in inside]
    return tuple(str(subnet.at(ROUTER_OFFSET)) for subnet in subnets), msgspec.Raw(msgspec.json.encode(routes))


def cluster_ranges(networks: tuple[Cidr, ...], family: Family) -> tuple[Cidr, ...]:
    """What a pod reaches by the cluster network whatever its default route: ``networks`` of the cluster and of
    Services, itself through a Service, and gateways, in one family."""
    inside = (block for block in networks if block.family == family)
    return (*inside, MASQUERADE[family].at(HAIRPIN_OFFSET).host, JOIN[family])


def _noted(notes: Mapping[str, Any]) -> Pairs:
    """Annotations: text as it is, anything else as JSON."""
    return pairs_of(
        {
            f"{PREFIX}{key}": value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for key, value in notes.items()
        }
    )
