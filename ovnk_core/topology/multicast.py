"""Where multicast is on: the namespaces that opted in, the switches that snoop for them, whether the router relays.

A switch snoops (and asks who listens) only while its node hosts a pod of such a namespace, and the cluster router
relays only while such a switch exists: queriers that nobody needs flood every switch of a cluster with their questions.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.tables import NAMESPACE, cluster_key
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import NODE_PLACE, NodePlace

MULTICAST_NAMESPACE = Table[str, bool]("multicast.namespace")
"""Namespaces that opted in, always with True; absent means off."""
SNOOPING_NODE = SetTable[str, str]("multicast.node")
"""Node -> ``ON`` while it hosts a pod of such a namespace. One element, so that its second pod changes nothing."""
RELAY = SetTable[str, str]("multicast.relay")
"""``ON`` -> ``ON`` while some switch snoops."""
ON = "on"


@rule(driver=NAMESPACE, out=(MULTICAST_NAMESPACE,))
def multicast_namespace(read: Reader, key: NamespacedName, item: Namespace) -> Iterable[Output]:
    """A namespace that opted in, so that its other edits touch nothing."""
    if item.is_multicast:
        yield MULTICAST_NAMESPACE.row(key.name, True)


@rule(driver=ENDPOINT, reads=(MULTICAST_NAMESPACE,), out=(SNOOPING_NODE,))
def snooping_node(read: Reader, key: NamespacedName, pod: Endpoint) -> Iterable[Output]:
    """A pod of a namespace that opted in -> its node's switch snoops."""
    if read(MULTICAST_NAMESPACE, key.namespace):
        yield SNOOPING_NODE.member(pod.node, ON)


@rule(driver=SNOOPING_NODE, reads=(NODE_PLACE,), out=(RELAY,))
def relay(read: Reader, key: tuple[str, str], row: None) -> Iterable[Output]:
    """A switch that snoops -> the cluster router relays."""
    if read(NODE_PLACE, cluster_key(key[0])) is not None:
        yield RELAY.member(ON, ON)


def snooping_config(place: NodePlace) -> dict[str, str]:
    """Keys of a snooping switch's other_config: it snoops, and asks in its router's name, in each family it has."""
    config = {"mcast_snoop": "true", "mcast_querier": "true", "mcast_eth_src": place.router_mac}
    for interface in place.router:
        v4 = interface.family == 4
        config["mcast_ip4_src" if v4 else "mcast_ip6_src"] = str(interface.address) if v4 else link_local(place)
    return config


def link_local(place: NodePlace) -> str:
    """The address that the router's port gives itself on the link, from its MAC (RFC 4291, appendix A)."""
    octets = [int(octet, 16) for octet in place.router_mac.split(":")]
    interface = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(Address(6, (0xFE80 << 112) + int.from_bytes(interface, "big")))
