"""Transport protocols and port ranges."""

from __future__ import annotations

from typing import Literal

from ovnk_core.terms.struct import Key

Transport = Literal["TCP", "UDP", "SCTP"]
TRANSPORTS: tuple[Transport, ...] = ("TCP", "UDP", "SCTP")
Protocol = Literal["tcp", "udp", "sctp", "icmp"]
PROTOCOL_NUMBERS: dict[str, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""As IANA assigns them."""
PORT_MIN, PORT_MAX = 1, 65535


class PortRange(Key, frozen=True, order=True, cache_hash=True):
    """Inclusive range of ports; a single port has ``first == last``."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last
