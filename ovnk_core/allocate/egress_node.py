"""What egress IPs are to a node, and a node to them: may it hold any, and which.

Source: manual 15.9.1.1 (platforms), 15.9.1.4 (conditions), 15.9.3 (the label).
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.terms.address import Address, Cidr
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import Settings, external_addresses, host_addresses

SUPPORTED_PLATFORMS = ("", "None", "BareMetal", "VSphere")
"""Of Infrastructure (15.9.1.1); a cluster that says nothing is taken to run on bare metal."""


class EgressNode(Value, frozen=True, kw_only=True):
    """``subnets``: of its primary interface, one per family, and none where the node may hold no egress IP.
    ``hosts``: its own addresses, which are nobody's egress IP whether it may hold any or not."""

    subnets: tuple[Cidr, ...] = ()
    hosts: tuple[Address, ...] = ()

    def takes(self, address: Address) -> bool:
        return any(subnet.contains(address) for subnet in self.subnets)


Unfit = Literal["NotLabelled", "NoGateway", "NotReady", "Unreachable", "Drained"]


def why_unfit(node: Node, health: NodeHealth) -> Unfit | None:
    """Why a node may hold no egress IP: what is said of it first, then what is heard of it. None: it may."""
    if not any(key == ASSIGNABLE_LABEL for key, _ in node.labels):
        return "NotLabelled"
    if not node.has_gateway or node.is_windows:
        return "NoGateway"
    if not node.is_ready:
        return "NotReady"
    if not health.is_reachable:
        return "Unreachable"
    return "Drained" if health.is_drained else None


def egress_node(node: Node, health: NodeHealth, network: ClusterNetwork, settings: Settings) -> EgressNode:
    """A node as the allocator sees it."""
    uplink = (each for each in external_addresses(node, settings) if not network.why_not_a_host(each.address))
    subnets = () if why_unfit(node, health) else tuple(each.subnet for each in uplink)
    return EgressNode(subnets=subnets, hosts=host_addresses(node, network))
