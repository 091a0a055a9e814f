"""Multicast: off by default, on for the pods of a namespace that opts in, never between namespaces.

A namespace opts in with the annotation ``k8s.ovn.org/multicast-enabled: "true"``, exactly. Deny rows stand always, on
every node switch and in both directions; a namespace that opts in gets a group of its pods, a set of their addresses
and two rows that allow. They outrank every NetworkPolicy and are below every egress firewall, which never matches
multicast: neither has a say. Where switches snoop and whether the router relays: ``topology.multicast``.

The rows are about IPv4 groups, and about IPv6 groups that are not permanent (flag T, RFC 4291 2.7) or reach beyond a
link. Permanent groups of a link carry neighbour discovery: they pass every row of this room, never leave a switch, and
are ordinary packets to NetworkPolicy.
"""

from ovnk_core.features.multicast.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="multicast", source="15.13, 15.14", rules=RULES)
