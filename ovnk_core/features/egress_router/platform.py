"""What the platform below must allow, because a router adds an address and a MAC to its node's uplink (15.11.1.3).

The vSphere settings are lost in the printed text: that they are promiscuous mode, MAC address changes and forged
transmits follows from what macvlan needs (docs/sources.md).
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.topology.platform import CLOUDS, LAYER_2_PLATFORMS

Support = Literal["supported", "unsupported", "unknown"]

VSPHERE_SETTINGS = ("promiscuous mode", "MAC address changes", "forged transmits")


def support(platform: str) -> Support:
    """Whether macvlan works on a platform of Infrastructure; the manual names AWS, Azure and "any other cloud platform
    that does not support layer 2 manipulations" (15.11.1)."""
    if platform in ("", *LAYER_2_PLATFORMS):
        return "supported"
    return "unsupported" if platform in CLOUDS else "unknown"


def requirements(platform: str, plan: RouterPlan) -> tuple[str, ...]:
    """What must be done on the platform for one router, one sentence or command each. What is not known here stands in
    angle brackets."""
    match platform:
        case "OpenStack":
            address = plan.router.address.address
            return (
                f"openstack port set --allowed-address ip_address={address},mac_address=<mac_address> "
                "<neutron_port_uuid>",
            )
        case "oVirt":
            return ("select No Network Filter for the vNIC of the node",)
        case "VSphere":
            return tuple(f"on the host virtual switch, accept {each}" for each in VSPHERE_SETTINGS)
    if support(platform) == "unsupported":
        return (f"none helps: an egress router is not compatible with {platform}: macvlan needs layer 2 (15.11.1)",)
    return ()
