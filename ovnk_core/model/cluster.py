"""The cluster's network configuration: what the two Network kinds say, and what they mean together.

``Network`` (config.openshift.io) holds addresses, ``NetworkOperator`` (operator.openshift.io) the same addresses
once more plus the OVN-Kubernetes settings. ``ClusterNetwork`` is the one value the rest of the house reads.
"""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Cidr, Family, cidr
from ovnk_core.terms.struct import Value


class ClusterNetworkEntry(Value, frozen=True, kw_only=True):
    """One clusterNetwork entry: each node gets a subnet of ``host_prefix_bits`` out of ``cidr``."""

    cidr: Cidr
    host_prefix_bits: int


# Ranges OVN-Kubernetes keeps for itself (ovn-kubernetes docs; 15.2.1.1 names 100.64.0.0/16).
JOIN: dict[Family, Cidr] = {4: cidr("100.64.0.0/16"), 6: cidr("fd98::/64")}
TRANSIT: dict[Family, Cidr] = {4: cidr("100.88.0.0/16"), 6: cidr("fd97::/64")}
MASQUERADE: dict[Family, Cidr] = {4: cidr("169.254.169.0/29"), 6: cidr("fd69::/125")}
RESERVED: tuple[tuple[str, Cidr], ...] = (
    *((f"join range (IPv{family})", JOIN[family]) for family in JOIN),
    *((f"transit range (IPv{family})", TRANSIT[family]) for family in TRANSIT),
    *((f"masquerade range (IPv{family})", MASQUERADE[family]) for family in MASQUERADE),
)
# Addresses that no host answers to for others, by what they are for (RFC 6890; RFC 4291).
SPECIAL: tuple[tuple[str, Cidr], ...] = (
    ("unspecified", cidr("0.0.0.0/8")),
    ("loopback", cidr("127.0.0.0/8")),
    ("multicast", cidr("224.0.0.0/4")),
    ("broadcast", cidr("255.255.255.255/32")),
    ("unspecified", cidr("::/128")),
    ("loopback", cidr("::1/128")),
    ("link-local", cidr("fe80::/10")),
    ("multicast", cidr("ff00::/8")),
)
LINK = cidr("fe80::/64")
"""Connected on every port of every router: one that was sent it by another would send it back, and so on."""
DEFAULT_CLUSTER_NETWORK = (ClusterNetworkEntry(cidr=cidr("10.128.0.0/14"), host_prefix_bits=23),)
DEFAULT_SERVICE_NETWORK = (cidr("172.30.0.0/16"),)
DEFAULT_GENEVE_PORT, DEFAULT_VXLAN_PORT = 6081, 4789
DEFAULT_NODE_MTU_BYTES = 1500
"""Of a node that does not say its own."""
OVERLAY_BYTES, IPSEC_BYTES = 100, 46
"""What the MTU of pods is smaller than that of nodes: always, and what IPsec adds (15.2.2)."""


class HybridOverlay(Value, frozen=True, kw_only=True):
    """The additional overlay network of Windows nodes (15.15, IPv4 only): each gets a subnet out of ``entries``, and
    Linux nodes reach it through VXLAN on ``vxlan_port``."""

    entries: tuple[ClusterNetworkEntry, ...]
    vxlan_port: int = DEFAULT_VXLAN_PORT

    @property
    def has_custom_port(self) -> bool:
        return self.vxlan_port != DEFAULT_VXLAN_PORT

    @property
    def cidrs(self) -> tuple[Cidr, ...]:
        return tuple(entry.cidr for entry in self.entries)


class InstallDecision(Value, frozen=True, kw_only=True):
    """What a cluster was installed with and cannot be changed later (15.15.1): a recorded decision, made with the
    first node's and forgotten with the last one's. ``hybrid`` None: without hybrid networking. ``has_ipsec``: traffic
    between nodes is encrypted (15.4)."""

    hybrid: HybridOverlay | None = None
    has_ipsec: bool = False


class Network(Declared, frozen=True, kw_only=True):
    """config.openshift.io Network. Empty tuples: not said."""

    cluster_network: tuple[ClusterNetworkEntry, ...] = ()
    service_network: tuple[Cidr, ...] = ()
    network_type: str = "OVNKubernetes"


class NetworkOperator(Declared, frozen=True, kw_only=True):
    """operator.openshift.io Network. None: not said."""

    cluster_network: tuple[ClusterNetworkEntry, ...] = ()
    service_network: tuple[Cidr, ...] = ()
    network_type: str = "OVNKubernetes"
    mtu_bytes: int | None = None
    geneve_port: int | None = None
    hybrid: HybridOverlay | None = None
    has_ipsec: bool = False


class Infrastructure(Declared, frozen=True, kw_only=True):
    """config.openshift.io Infrastructure: the platform type (``BareMetal``, ``VSphere``, ``AWS``, ...)."""

    platform: str = ""


class ClusterNetwork(Value, frozen=True, kw_only=True):
    """The one effective configuration. ``mtu_bytes`` of pods as stated; None: it follows the nodes (``pod_mtu``)."""

    entries: tuple[ClusterNetworkEntry, ...] = DEFAULT_CLUSTER_NETWORK
    service: tuple[Cidr, ...] = DEFAULT_SERVICE_NETWORK
    mtu_bytes: int | None = None
    geneve_port: int = DEFAULT_GENEVE_PORT
    hybrid: HybridOverlay | None = None
    has_ipsec: bool = False

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(sorted({entry.cidr.family for entry in self.entries}))

    @property
    def cidrs(self) -> tuple[Cidr, ...]:
        return tuple(entry.cidr for entry in self.entries)

    def pod_mtu(self, node_mtu_bytes: int) -> int:
        """The largest MTU of pods in bytes, of which the smallest node with its own MTU carries everything."""
        return node_mtu_bytes - OVERLAY_BYTES - (IPSEC_BYTES if self.has_ipsec else 0)

    def join_router(self, family: Family) -> Address:
        """Address of ovn_cluster_router on the join switch: the first host of the join range."""
        return JOIN[family].at(1)

    def holds(self, address: Address) -> bool:
        return any(entry.cidr.contains(address) for entry in self.entries)

    def holds_hybrid(self, address: Address) -> bool:
        """Whether an address is a Windows node's to give out."""
        return self.hybrid is not None and any(block.contains(address) for block in self.hybrid.cidrs)

    def why_not_a_host(self, address: Address) -> str:
        """What an address belongs to that can never be a node's own, or an empty text."""
        ranges = (
            *(("clusterNetwork", entry.cidr) for entry in self.entries),
            *(("serviceNetwork", block) for block in self.service),
            *(("hybridClusterNetwork", block) for block in (self.hybrid.cidrs if self.hybrid else ())),
            *RESERVED,
        )
        for name, block in ranges:
            if block.contains(address):
                return f"lies in {name} {block}" if name.endswith("Network") else f"lies in the {name}"
        kind = special_kind(address)
        return f"is {address_of_kind(kind)}" if kind else ""


def address_of_kind(kind: str) -> str:
    """``a loopback address``, ``an unspecified address`` and so on."""
    return f"{'an' if kind == 'unspecified' else 'a'} {kind} address"


def special_kind(address: Address) -> str:
    """``loopback``, ``multicast`` and so on (``SPECIAL``), or an empty text for an ordinary address."""
    return next((kind for kind, block in SPECIAL if block.contains(address)), "")


def effective_network(
    config: Network | None, operator: NetworkOperator | None, installed: InstallDecision | None = None
) -> ClusterNetwork:
    """Merge the two kinds: config.openshift.io wins for addresses, the operator adds the rest. What the cluster was
    installed with stays whatever the operator's object says now, also when that is gone."""
    entries = (config.cluster_network if config else ()) or (operator.cluster_network if operator else ())
    service = (config.service_network if config else ()) or (operator.service_network if operator else ())
    port = operator.geneve_port if operator else None
    return ClusterNetwork(
        entries=entries or DEFAULT_CLUSTER_NETWORK,
        service=service or DEFAULT_SERVICE_NETWORK,
        mtu_bytes=operator.mtu_bytes if operator else None,
        geneve_port=DEFAULT_GENEVE_PORT if port is None else port,
        hybrid=installed.hybrid if installed else operator.hybrid if operator else None,
        has_ipsec=installed.has_ipsec if installed else operator is not None and operator.has_ipsec,
    )
