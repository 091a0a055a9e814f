"""Egress router: a pod that sends what it is asked for to outside destinations, from a reserved source address.

The definition of a secondary network holds an egress router's configuration; a pod that names it by annotation gets a
second interface with the reserved address, on the link of its node's uplink. What others send to the pod's cluster
address is redirected there. OVN ends at the pod: the room adds no northbound row. What it makes is each router pod's
plan, that is what the plug-in on the node does: routes, translation, and what the platform below must allow.

Redirect mode only (15.11.1.1). A pod whose definition is missing waits under Multus with its containers uncreated; here
it is a pod like any other and no router, and lint says so.
"""

from ovnk_core.features.egress_router.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="egress_router", source="15.11, 15.12", rules=RULES)
