"""NetworkPolicy (networking.k8s.io/v1): which pods may talk to which, and on what ports.

Complete: ingress and egress; pod, namespace and combined selectors; ipBlock with except; numbers, ranges and names
of ports; TCP, UDP and SCTP; dual stack. Allow lists are ORed; a pod that any policy selects for a direction is
isolated in it. Traffic between a pod and its own node always passes. Host-network pods are never subjects and
never match selectors: they look like their node, and only ipBlock compares with a node.

A policy that was refused and has no accepted version isolates its subjects and allows nothing (fail closed).
"""

from ovnk_core.features.network_policy.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="network_policy", source="networking.k8s.io/v1; 15.1.1", rules=RULES)
