"""Which hops of a packet are encrypted in a cluster with IPsec, and who says so: 15.4.1 of the manual, or we."""

from __future__ import annotations

from typing import Literal

from ovnk_core.terms.struct import Value

Party = Literal["pod", "host", "outside"]
"""An end of the packet: a pod of the cluster network, a node or pod of the host network, anything else."""
OURS = "not in 15.4.1"


class Protection(Value, frozen=True, kw_only=True):
    """``text`` says why, with its source."""

    is_encrypted: bool
    text: str


def judge(source: Party, target: Party, transport: str) -> Protection:
    """One hop of a packet between two ends; ``transport``: local, geneve, vxlan or underlay.

    A reply is a packet of its own: that of a host to a pod goes to the host, so it is clear, as 15.4.1 has it for pods
    to the host network. Source: 15.4.1; where that is silent the text says so.
    """
    match transport:
        case "local" if source == target == "pod":
            return _clear("between pods on the same node (15.4.1)")
        case "local":
            return _clear(f"it does not leave the node ({OURS})")
        case "vxlan":
            return _clear(f"the VXLAN tunnels of the hybrid overlay have no IPsec ({OURS})")
        case "geneve" if target == "outside":
            return _sealed(f"through the tunnel to the egress node ({OURS})")
        case "geneve" if target == "pod" and source == "pod":
            return _sealed("between pods on different nodes (15.4.1)")
        case "geneve" if target == "pod" and source == "host":
            return _sealed("from the host network to a pod (15.4.1)")
        case "geneve" if target == "pod":
            return _sealed(f"between nodes, to a pod ({OURS})")
    if source == "pod" and target == "host":
        return _clear("from a pod to the host network (15.4.1)")
    if source == target == "host":
        return _clear("between hosts (15.4.1)")
    return _clear(f"outside of the tunnels between nodes ({OURS})")


def _sealed(text: str) -> Protection:
    return Protection(is_encrypted=True, text=text)


def _clear(text: str) -> Protection:
    return Protection(is_encrypted=False, text=text)
