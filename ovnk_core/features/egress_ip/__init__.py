"""EgressIP: what selected pods send to outside the cluster leaves by another node, with an address of the object.

Of the objects that select a pod the oldest counts that some node holds an address of (creationTimestamp, then name),
and the next one when it goes, or when no node holds it any more. A router policy sends the pod's packets to the
gateways of the nodes that hold the object's addresses, one connection to one of them; there a translation of the pod's
address alone outranks the one of the whole cluster network. Which node holds which address is a recorded decision
(``model.egress_ip``).

Packets to pods, nodes, gateways, Windows nodes' pods and groups are left alone by policies of higher priority; where
the pod's own node holds an address of the object, its translation there is for all destinations but nodes, too. A
connection from outside that a gateway hid behind its own address is answered to that address, which is one of those.
Where the client is kept (externalTrafficPolicy Local), what the endpoint sends from the port that was asked is left
alone, too.

The order in which a packet meets what could stop it is NetworkPolicy, load balancer, egress firewall, egress IP: a
firewall's Deny wins, and sees the pod's own address.
"""

from ovnk_core.features.egress_ip.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="egress_ip", source="15.9, 15.10", rules=RULES)
