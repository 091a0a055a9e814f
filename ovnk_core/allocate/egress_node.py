"""What egress IPs are to a node, and a node to them: may it hold any, and which.

Source: manual 15.9.1.1 (platforms), 15.9.1.4 (conditions), 15.9.3 (the label).
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import (
    Settings,
    assumes_next_hops,
    assumes_prefix,
    external_addresses,
    host_addresses,
    next_hops,
)

SUPPORTED_PLATFORMS = ("", "None", "BareMetal", "VSphere")
"""Of Infrastructure (15.9.1.1); a cluster that says nothing is taken to run on bare metal."""


ASSUMED = "assumed without k8s.ovn.org/node-primary-ifaddr (--node-prefix)"
"""Said of a prefix that no node states."""


class EgressNode(Value, frozen=True, kw_only=True):
    """``subnets``: of its primary interface, one per family, and none where the node may hold no egress IP;
    ``assumed``: families of those whose prefix nobody states. ``taken``: what is nobody's egress IP whether it may
    hold any or not, and what each is to the node: its own, and those without which it is cut off, since OVN would
    answer for them."""

    subnets: tuple[Cidr, ...] = ()
    assumed: tuple[Family, ...] = ()
    taken: tuple[tuple[Address, str], ...] = ()

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
    external = external_addresses(node, settings)
    own = [each for each in external if not network.why_not_a_host(each.address)]
    doubt = ", assumed without k8s.ovn.org/l3-gateway-config," if assumes_next_hops(node) else ""
    taken = dict.fromkeys(next_hops(node, external), f"the next hop{doubt}")
    assumed = tuple(each.address.family for each in own if assumes_prefix(node, each.address))
    for each in own:
        doubt = f", {ASSUMED}," if each.address.family in assumed else ""
        taken |= _ends(each.subnet, f"the subnet{doubt}")
    taken |= dict.fromkeys(host_addresses(node, network), "an address")
    if why_unfit(node, health):
        return EgressNode(taken=tuple(sorted(taken.items())))
    links = tuple(each.subnet for each in own)
    return EgressNode(subnets=links, assumed=assumed, taken=tuple(sorted(taken.items())))


def _ends(link: Cidr, name: str) -> dict[Address, str]:
    """Addresses of a link that no host has; the last of IPv6 is an ordinary one. Of a link of two both are hosts."""
    last = link.at(link.size - 1)
    if link.size <= 2:
        return {}
    first = {link.network: f"the network address of {name}"}
    return first | ({last: f"the broadcast address of {name}"} if link.family == 4 else {})
