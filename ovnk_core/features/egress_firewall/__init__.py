"""EgressFirewall (k8s.ovn.org/v1): what pods of a namespace may reach outside the cluster. Chapter 15.5 to 15.8.

One object per namespace, named ``default``, of at most 8,000 ordered rules; the first that matches decides, and what
none matches is allowed. Rules name a prefix, a DNS name or nodes, and optionally ports. Never filtered: pods' own
networks, multicast, neighbour discovery, and DNS to the pods' own node. Host-network pods are not subject.

A firewall that was refused keeps its accepted version; without one nothing leaves its namespace (15.5.1.1: "may cause
all external network traffic to be dropped").
"""

from ovnk_core.features.egress_firewall.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="egress_firewall", source="15.5-15.8", rules=RULES)
