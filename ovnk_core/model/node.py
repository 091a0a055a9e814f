"""A node, with whatever its annotations say about its place in OVN. Empty means: not said, we allocate or assume."""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress
from ovnk_core.terms.label import Labels


class Node(Declared, frozen=True, kw_only=True):
    """``internal`` are the InternalIP addresses of status (one per family is used), ``host_cidrs`` every address
    of the host. ``primary`` is node-primary-ifaddr; ``gateway_*`` come from l3-gateway-config.
    ``has_gateway`` is False when l3-gateway-config has mode "" (gateway disabled)."""

    labels: Labels = ()
    internal: tuple[Address, ...] = ()
    external: tuple[Address, ...] = ()
    host_cidrs: tuple[InterfaceAddress, ...] = ()
    subnets: tuple[Cidr, ...] = ()
    node_id: int | None = None
    join: tuple[InterfaceAddress, ...] = ()
    chassis: str = ""
    management_mac: str = ""
    primary: tuple[InterfaceAddress, ...] = ()
    has_gateway: bool = True
    gateway_mac: str = ""
    gateway_addresses: tuple[InterfaceAddress, ...] = ()
    gateway_next_hops: tuple[Address, ...] = ()
    gateway_interface: str = ""
    gateway_vlan: int = 0
    gateway_mtu_supported: bool = True
    is_ready: bool = True
