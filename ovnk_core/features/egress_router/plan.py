"""What the plug-in does inside a router pod: its routing table and its translation, as data and as text.

The table is the one of 15.12.3, which leaves out the routes to the cluster's and the Services' networks by the first
interface; without them no reply would find back to a client on another node, so they are told apart, not forgotten.
The ruleset differs from the plug-in's in three ways: it replaces itself when loaded again, only what is for the pod's
own address is redirected, and a port behind an IPv6 address is in brackets, without which nft refuses it.
"""

from __future__ import annotations

from ovnk_core.model.egress_router import EgressRouter, Redirect
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.terms.struct import Value

INNER = "eth0"
"""The pod's interface on the cluster network."""
TABLE = "egress_cni"
_LINK_METRIC, _ROUTE_METRIC = 256, 1024
"""What Linux puts on IPv6 routes of an address, and on others."""


class RouterPlan(Value, frozen=True, kw_only=True):
    """One router pod. ``network``: of the definition. ``interface``: the second one. ``inner``: the pod's address on
    the cluster network, of the router's family. ``inside``: what is reached by the first interface."""

    pod: NamespacedName
    node: str
    network: NamespacedName
    interface: str
    router: EgressRouter
    inner: InterfaceAddress
    inner_gateway: Address
    inside: tuple[Cidr, ...]

    def keeps(self, target: Address) -> bool:
        """Whether the pod itself reaches an address by the cluster network."""
        return any(block.contains(target) for block in (*self.inside, self.inner.subnet))


def redirect_of(plan: RouterPlan, protocol: Protocol, port: int | None) -> Redirect | None:
    """The first destination that takes a connection to the pod; None: it ends at the pod itself."""
    for each in plan.router.redirects:
        if each.protocol is None or (each.protocol.lower() == protocol and each.port == port):
            return each
    return None


def routing_table(plan: RouterPlan) -> tuple[str, ...]:
    """``ip route`` in the pod, as 15.12.3 prints it (``ip -6 route`` for IPv6)."""
    router, interface = plan.router, plan.interface
    hop = f"{router.gateway} dev {interface}"
    if router.address.family == 6:
        links = ((router.address.subnet, interface), (plan.inner.subnet, INNER))
        tail = f"metric {_ROUTE_METRIC} pref medium"
        lines = [(block, f"{block} dev {dev} proto kernel metric {_LINK_METRIC} pref medium") for block, dev in links]
        lines.append((router.gateway.host, f"{hop} {tail}"))
        return *(text for _, text in sorted(lines)), f"default via {hop} {tail}"
    lines = [(each.subnet, _link(each, dev)) for each, dev in ((router.address, interface), (plan.inner, INNER))]
    lines.append((router.gateway.host, hop))
    return f"default via {hop}", *(text for _, text in sorted(lines))


def _link(interface: InterfaceAddress, device: str) -> str:
    return f"{interface.subnet} dev {device} proto kernel scope link src {interface.address}"


def cluster_routes(plan: RouterPlan) -> tuple[str, ...]:
    """The pod's routes to the cluster's and the Services' networks, which 15.12.3 does not print."""
    return tuple(f"{block} via {plan.inner_gateway} dev {INNER}" for block in plan.inside)


def nft_ruleset(plan: RouterPlan) -> str:
    """What ``nft -f`` loads in the pod's network namespace."""
    router = plan.router
    family = "ip" if router.address.family == 4 else "ip6"
    lines = [
        f"table {family} {TABLE}",
        f"delete table {family} {TABLE}",
        f"table {family} {TABLE} {{",
        "\tchain prerouting {",
        "\t\ttype nat hook prerouting priority dstnat; policy accept;",
        *(f'\t\tiifname "{INNER}" {family} daddr {plan.inner.address} {_dnat(each)}' for each in router.redirects),
        "\t}",
        "\tchain postrouting {",
        "\t\ttype nat hook postrouting priority srcnat; policy accept;",
        f'\t\toifname "{plan.interface}" snat to {router.address.address}',
        "\t}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dnat(redirect: Redirect) -> str:
    address = redirect.address
    if redirect.protocol is None:
        return f"dnat to {address}"
    target = str(address)
    if redirect.target_port:
        target = f"[{address}]:{redirect.target_port}" if address.family == 6 else f"{address}:{redirect.target_port}"
    return f"{redirect.protocol.lower()} dport {redirect.port} dnat to {target}"
