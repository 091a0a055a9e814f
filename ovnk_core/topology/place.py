"""Where a node sits: every address, name and MAC of its part of the topology, computed once.

A plain Kubernetes Node without OVN-Kubernetes' annotations works: what it does not say is assumed, and
``assumptions`` lists what was. Sources: OVN-Kubernetes' address conventions (docs/sources.md, topology).
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.model.cluster import DEFAULT_NODE_MTU_BYTES, JOIN, ClusterNetwork, effective_network
from ovnk_core.model.node import Node
from ovnk_core.model.tables import CLUSTER, INSTALL_DECISION, NETWORK, NETWORK_OPERATOR, NODE, NODE_DECISION
from ovnk_core.nb.naming import localnet_port
from ovnk_core.terms.address import Address, Cidr, Family, InterfaceAddress, mac_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value

ROUTER_OFFSET, MANAGEMENT_OFFSET, HYBRID_OFFSET = 1, 2, 3
"""Hosts of a node subnet that are taken: .1 the cluster router, .2 the node's management port, and with hybrid
networking .3 of the IPv4 subnet, the gateway to the hybrid overlay."""


class Settings(Value, frozen=True, kw_only=True):
    """What the operator of this control plane says, as opposed to the cluster. Always present, under ``CLUSTER``.

    ``node_prefix_bits``: link prefix lengths assumed for a node address that comes without one. ``has_dns_feed``: a
    resolver pushes what it answers, so that wildcard DNS names can be known. ``has_template_variables``: the
    northbound's schema has Chassis_Template_Var (OVN 22.12); without it every node port is a vip of every node.
    ``rebalances_egress_ips``: egress IPs are spread evenly after every change, which moves some that would have stayed.
    """

    node_prefix_bits: tuple[tuple[Family, int], ...] = ((4, 24), (6, 64))
    platform: str = ""
    has_dns_feed: bool = False
    has_template_variables: bool = True
    rebalances_egress_ips: bool = False

    def prefix(self, family: Family) -> int:
        return dict(self.node_prefix_bits)[family]


class NodePlace(Value, frozen=True, kw_only=True):
    """One entry per family in each tuple, IPv4 first; tuples may be shorter than the cluster's families.
    ``hybrid_gateway``: where the node's switch hands packets to the hybrid overlay, if the cluster has one."""

    name: str
    node_id: int
    chassis: str
    subnets: tuple[Cidr, ...]
    router: tuple[InterfaceAddress, ...]
    router_mac: str
    management: tuple[Address, ...]
    management_mac: str
    join: tuple[InterfaceAddress, ...]
    join_mac: str
    has_gateway: bool
    external: tuple[InterfaceAddress, ...]
    external_mac: str
    next_hops: tuple[Address, ...]
    localnet: str
    vlan: int
    hosts: tuple[Address, ...]
    gateway_mtu_bytes: int | None
    hybrid_gateway: Address | None = None


SETTINGS = Table[NamespacedName, Settings]("settings")
CLUSTER_NETWORK = Table[NamespacedName, ClusterNetwork]("cluster_network")
NODE_PLACE = Table[NamespacedName, NodePlace]("node_place")
NODE_MTU = SetTable[NamespacedName, int]("node_mtu")
"""Under ``CLUSTER``: every MTU in bytes that some node has."""
POD_MTU = Table[NamespacedName, int]("pod_mtu")
"""Under ``CLUSTER``: the MTU of pods in bytes."""


@rule(driver=SETTINGS, reads=(NETWORK, NETWORK_OPERATOR, INSTALL_DECISION), out=(CLUSTER_NETWORK,))
def cluster_network(read: Reader, key: NamespacedName, settings: Settings) -> Iterable[Output]:
    """Both Network kinds, and what was installed -> the one effective configuration."""
    installed = read(INSTALL_DECISION, CLUSTER)
    network = effective_network(read(NETWORK, CLUSTER), read(NETWORK_OPERATOR, CLUSTER), installed)
    yield CLUSTER_NETWORK.row(CLUSTER, network)


@rule(driver=NODE, out=(NODE_MTU,))
def node_mtu(read: Reader, key: NamespacedName, node: Node) -> Iterable[Output]:
    """A node -> its uplink's MTU."""
    yield NODE_MTU.member(CLUSTER, uplink_mtu(node))


@rule(driver=CLUSTER_NETWORK, reads=(NODE_MTU,), out=(POD_MTU,))
def pod_mtu(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """The MTU of pods: as stated, else what the smallest node carries."""
    stated, nodes = network.mtu_bytes, read(NODE_MTU, CLUSTER)
    default = network.pod_mtu(min(nodes, default=DEFAULT_NODE_MTU_BYTES))
    yield POD_MTU.row(CLUSTER, default if stated is None else stated)


def uplink_mtu(node: Node) -> int:
    """MTU in bytes of the network between nodes at this one."""
    return DEFAULT_NODE_MTU_BYTES if node.mtu_bytes is None else node.mtu_bytes


@rule(driver=NODE, reads=(NODE_DECISION, CLUSTER_NETWORK, SETTINGS, POD_MTU), out=(NODE_PLACE,))
def node_place(read: Reader, key: NamespacedName, node: Node) -> Iterable[Output]:
    """A node with recorded subnets -> its place. A node without has none yet, and no rows; a Windows node never."""
    decision, network, settings = read(NODE_DECISION, key), read(CLUSTER_NETWORK, CLUSTER), read(SETTINGS, CLUSTER)
    if decision is None or not decision.subnets or network is None or settings is None or node.is_windows:
        return
    router = tuple(InterfaceAddress(subnet.at(ROUTER_OFFSET), subnet.prefix) for subnet in decision.subnets)
    management = tuple(subnet.at(MANAGEMENT_OFFSET) for subnet in decision.subnets)
    join = node.join or tuple(
        InterfaceAddress(JOIN[family].at(decision.node_id), JOIN[family].prefix) for family in network.families
    )
    external = tuple(
        interface for interface in external_addresses(node, settings) if not network.why_not_a_host(interface.address)
    )
    yield NODE_PLACE.row(
        key,
        NodePlace(
            name=node.name,
            node_id=decision.node_id,
            chassis=node.chassis or node.name,
            subnets=decision.subnets,
            router=router,
            router_mac=mac_of(router[0].address),
            management=management,
            management_mac=node.management_mac or mac_of(management[0]),
            join=join,
            join_mac=mac_of(join[0].address),
            has_gateway=node.has_gateway and bool(external),
            external=external,
            external_mac=node.gateway_mac or (mac_of(external[0].address) if external else ""),
            next_hops=next_hops(node, external),
            localnet=localnet_port(node.name, node.gateway_interface),
            vlan=node.gateway_vlan,
            hosts=host_addresses(node, network),
            gateway_mtu_bytes=read(POD_MTU, CLUSTER) if node.gateway_mtu_supported else None,
            hybrid_gateway=_hybrid_gateway(decision.subnets) if network.hybrid else None,
        ),
    )


def _hybrid_gateway(subnets: tuple[Cidr, ...]) -> Address | None:
    return next((subnet.at(HYBRID_OFFSET) for subnet in subnets if subnet.family == 4), None)


def external_addresses(node: Node, settings: Settings) -> tuple[InterfaceAddress, ...]:
    """Address and link prefix of the node's uplink, one per family."""
    if node.gateway_addresses or node.primary:
        return node.gateway_addresses or node.primary
    known = {interface.address: interface.prefix for interface in node.host_cidrs}
    return tuple(
        InterfaceAddress(address, known.get(address) or settings.prefix(address.family)) for address in node.internal
    )


def assumes_prefix(node: Node, address: Address) -> bool:
    """Whether nothing says how long the link prefix of an uplink address is (``Settings.node_prefix_bits``)."""
    is_stated = bool(node.gateway_addresses or node.primary)
    return not is_stated and all(interface.address != address for interface in node.host_cidrs)


def assumes_next_hops(node: Node) -> bool:
    """Whether nothing says which routers the uplink has."""
    return not (node.gateway_next_hops or node.gateway_addresses)


def next_hops(node: Node, external: tuple[InterfaceAddress, ...]) -> tuple[Address, ...]:
    """The uplink's routers: as annotated, else the first host of each link that is not the node itself.

    An annotated gateway without next hops is legal (no default route); a plain node always gets one, because
    without a default route OVN drops everything outbound.
    """
    if not assumes_next_hops(node):
        families = {interface.family for interface in external}
        return tuple(hop for hop in node.gateway_next_hops if hop.family in families)
    return tuple(_first_other_host(interface) for interface in external)


def _first_other_host(interface: InterfaceAddress) -> Address:
    first = interface.subnet.network + 1
    return first if first != interface.address else first + 1


def host_addresses(node: Node, network: ClusterNetwork) -> tuple[Address, ...]:
    """Every address the node answers to, sorted, without duplicates.

    Only addresses that can be a host's: one that belongs to pods, services or OVN itself would exempt whoever has it
    from the policies of this node's pods.
    """
    return tuple(address for address in _stated(node) if not network.why_not_a_host(address))


def not_hosts(node: Node, network: ClusterNetwork) -> tuple[str, ...]:
    """Addresses the node states that are left out, and why; one sentence each."""
    found = ((address, network.why_not_a_host(address)) for address in _stated(node))
    return tuple(f"address {address} {why} and is not taken for the node's own" for address, why in found if why)


def other_subnets(node: Node, network: ClusterNetwork) -> tuple[str, ...]:
    """Subnets the node states that no range of its kind holds, so that it is given another; one sentence each."""
    ranges, where = network.cidrs, "clusterNetwork"
    stated, key = node.subnets, "node-subnets"
    if node.is_windows:
        ranges, where = network.hybrid.cidrs if network.hybrid else (), "hybridClusterNetwork"
        stated, key = (node.hybrid_subnet,) if node.hybrid_subnet else (), "hybrid-overlay-node-subnet"
    return tuple(
        f"subnet {subnet} of k8s.ovn.org/{key} does not lie in {where}: the node is given another"
        for subnet in stated
        if not any(block.covers(subnet) for block in ranges)
    )


def _stated(node: Node) -> tuple[Address, ...]:
    uplink = (interface.address for interface in (*node.gateway_addresses, *node.primary, *node.host_cidrs))
    return tuple(sorted({*node.internal, *node.external, *uplink}))


def assumptions(node: Node) -> tuple[str, ...]:
    """What we assume because the node does not say it; one sentence each, reported once as a warning."""
    found: list[str] = []
    if not node.chassis:
        found.append("no k8s.ovn.org/node-chassis-id: the chassis is taken to be called like the node")
    if not node.has_gateway:
        return tuple(found)
    if any(assumes_prefix(node, address) for address in node.internal):
        found.append("no k8s.ovn.org/node-primary-ifaddr: the link prefix is assumed (--node-prefix)")
    if assumes_next_hops(node):
        found.append("no k8s.ovn.org/l3-gateway-config: next hop is taken to be the first host of the link")
    if not node.gateway_mac:
        found.append("no gateway MAC: derived from the node's address")
    return tuple(found)
