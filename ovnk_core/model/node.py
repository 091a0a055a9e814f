"""A node, with whatever its annotations say about its place in OVN. Empty means: not said, we allocate or assume."""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress
from ovnk_core.terms.label import Labels

OS_LABEL, BUILD_LABEL, BUILD_2019 = "kubernetes.io/os", "node.kubernetes.io/windows-build", "10.0.17763"

NODE_MTU_ANNOTATION = "ovnk.dev/node-mtu"
"""MTU of the node's uplink in bytes, which an adapter writes; Kubernetes has no word for it."""


class Node(Declared, frozen=True, kw_only=True):
    """``internal`` are the InternalIP addresses of status (one per family is used), ``host_cidrs`` every address
    of the host. ``primary`` is node-primary-ifaddr; ``gateway_*`` come from l3-gateway-config.
    ``has_gateway`` is False when l3-gateway-config has mode "" (gateway disabled). ``hybrid_subnet`` is
    hybrid-overlay-node-subnet; ``mtu_bytes`` is ovnk.dev/node-mtu, that of the uplink;
    ``kernel`` is nodeInfo.kernelVersion, which names a Windows release by its build."""

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
    hybrid_subnet: Cidr | None = None
    mtu_bytes: int | None = None
    kernel: str = ""

    @property
    def is_windows(self) -> bool:
        """A Windows node has its subnet in the hybrid overlay, and nothing in OVN."""
        return (OS_LABEL, "windows") in self.labels

    @property
    def certified(self) -> str:
        """The chassis that its certificate for IPsec is made out to; empty for a Windows node, whose tunnels have no
        IPsec."""
        return "" if self.is_windows else self.chassis or self.name

    @property
    def is_windows_2019(self) -> bool:
        """Windows Server 2019 (build 17763), as its label or its kernel says."""
        return (BUILD_LABEL, BUILD_2019) in self.labels or f"{self.kernel}.".startswith(f"{BUILD_2019}.")
