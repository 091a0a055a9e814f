"""Services: addresses and ports that stand for a set of endpoints. Chapter 15.1.3; Kubernetes API, Service v1.

One load balancer per Service, protocol and audience. Cluster IPs, external IPs and load-balancer addresses that mean
the same everywhere are one row for all nodes; node ports are one row whose addresses are template variables of each
chassis; what differs from node to node (traffic policy Local, endpoints on the host network, and node ports where
there are no templates) has rows of the nodes that differ, and one row for all others. The
cost model is ADR 0012.

A port without endpoints is rejected. With policy Local a node without endpoints of its own rejects too, whatever other
nodes have, and the client's address reaches the endpoint; otherwise the gateway's join address does. Inside the
cluster every external address and node port of the own node reaches all endpoints. A pod that reaches itself through
its Service does so as 169.254.169.5 (fd69::5), which every NetworkPolicy lets in.

``endpoints``: which endpoints a port has, the same code for rows and for verdicts. ``layout``: who gets which vips.
``rules``: the rows. Headless and ExternalName Services, and those without a decision, have none.
"""

from ovnk_core.features.room import Room
from ovnk_core.features.services.endpoints import plain_endpoints, slice_endpoints
from ovnk_core.features.services.rules import (
    answering_pods,
    chassis_nodes,
    chassis_variables,
    hairpin,
    node_front,
    service_load_balancers,
)

ROOM = Room(
    name="services",
    source="15.1.3",
    rules=(
        slice_endpoints,
        plain_endpoints,
        node_front,
        chassis_nodes,
        chassis_variables,
        service_load_balancers,
        answering_pods,
        hairpin,
    ),
)
