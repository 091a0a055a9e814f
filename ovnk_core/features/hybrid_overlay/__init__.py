"""Hybrid networking (15.15): the way between pods of OVN and pods on Windows nodes, through a VXLAN overlay.

A Windows node has a subnet of the hybrid range and nothing in OVN; its pods are no endpoints, hence an ``ipBlock`` is
the way to name them in a NetworkPolicy. Every Linux node has a gateway to the hybrid overlay, host .3 of its IPv4
subnet: a port of the node's switch (``int-<node>``) behind which something outside OVN wraps packets in VXLAN. Rows of
this room route the hybrid range to the gateway of the node that a packet comes from.

What the rows cannot say, ports of the tunnels and what a node is told of its place, are outputs
(``topology.annotations``). That the configuration is of installation time is ``Cluster``'s to enforce, by a recorded
decision (``InstallDecision``).
"""

from ovnk_core.features.hybrid_overlay.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="hybrid_overlay", source="15.15", rules=RULES)
