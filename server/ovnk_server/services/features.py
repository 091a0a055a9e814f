"""The features of the plug-in as the manual compares them, and which of them are here.

Source: 15.1.2, table 15.1 (the rows and what it says of OVN-Kubernetes).
"""

from __future__ import annotations

from ovnk_core.pipeline import ROOMS
from ovnk_core.terms.struct import Value


class Feature(Value, frozen=True, kw_only=True):
    """One row: ``room`` is the room that provides it, or will. ``is_partial``: the plug-in itself has parts of it."""

    name: str
    room: str
    note: str = ""
    is_partial: bool = False

    @property
    def is_built(self) -> bool:
        return any(room.name == self.room for room in ROOMS)


FEATURES: tuple[Feature, ...] = (
    Feature(name="Egress IPs", room="egress_ip"),
    Feature(name="Egress firewall", room="egress_firewall"),
    Feature(name="Egress router", room="egress_router", note="redirect mode only", is_partial=True),
    Feature(name="IPsec encryption", room="ipsec"),
    Feature(name="Kubernetes network policy", room="network_policy"),
    Feature(name="Multicast", room="multicast"),
)
"""In the order of the table."""
