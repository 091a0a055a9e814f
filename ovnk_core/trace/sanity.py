"""What every router refuses before it routes: northd's fixed drops of ``lr_in_ip_input``, as data.

Only drops that depend on addresses are here; the rest of that stage answers ARP, echoes and expired packets, which no
question is about. Source: ovn-northd(8) "Ingress Table 3: IP Input", OVN 23.03, as written to the southbound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovnk_core.nb.match import Match, equals
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.tables import LogicalRouterPort
from ovnk_core.terms.address import Cidr, parse_interface

LR_IN_IP_INPUT = "lr_in_ip_input"

FIXED: tuple[tuple[Match, str], ...] = (
    (
        parse(
            "ip4.src == 224.0.0.0/4 || ip4.src == 255.255.255.255 || ip4.src == 127.0.0.0/8 || ip4.src == 0.0.0.0/8"
            " || ip4.dst == 127.0.0.0/8 || ip4.dst == 0.0.0.0/8"
        ),
        "a loopback, unspecified, multicast or broadcast address where none may be",
    ),
    (parse("ip4.dst == 224.0.0.0/4 || ip6.dst == ff00::/8"), "multicast"),
    (parse("eth.bcast"), "broadcast"),
)
"""(match, what it is), on every router. Multicast sources of IPv6 are not looked at."""


def own_sources(ports: Iterable[LogicalRouterPort]) -> Iterator[tuple[Match, str]]:
    """One router's ports -> the drop of packets that claim to come from it, or from a link's broadcast. IPv4 only."""
    for port in ports:
        for text in port.networks:
            interface = parse_interface(text)
            if interface.family == 4:
                broadcast = Cidr(4, interface.subnet.last, 32)
                yield equals("ip4.src", interface.address.host, broadcast), "a source that is the router itself"
