"""THE wiring page: every rule and relation of the house, from declared objects to desired northbound rows.

 objects         [Network] [NetworkOperator] [Node] [Namespace] [Pod] [NetworkPolicy] [EgressFirewall]   floor 0, inputs
 decisions       [NodeDecision] [PodDecision] [DnsDecision]     settings  [Settings]     (allocate writes decisions)
                     |               |                               |
 derived basics      |          (endpoint)                    (cluster_network)
                     |               |                               |
                (node_place) <-------|-------------------------------+
                     |               |
 topology   (node_switch) (own_node) (pod_port) (gateway_*) (node_policies)   (cluster_router) (cluster_groups) (copp)
                     |               |
 rooms               |    NetworkPolicy -> (policy) --> selection.want --> <Selection> --> selection
                     |                        |                               |               |
                     |                        +--> port_number.want --> <PortNumbers> --> port_number
                     |                        +--> network_policy.rule --> (rule_acls) (isolation) (peer_address_set)
                     |      Namespace -> (acl_logging) -> acl_logging ---^
                     |                                        v
                     |    EgressFirewall -> (firewall)   <FirewallRows> --> egress_firewall.row --> (firewall_acl)
                     |                                        +--> dns_name, node_selector --> (dns_sets) (node_sets)
                     +--> (node_addresses) (own_node_dns)
 northbound       [nb.*] one table per schema table            nb.member.binding --> <Members> --> nb.member

(rule) is a pure function run once per driver row, <Relation> is hand-written and set-valued. ``ovnk graph`` prints
the graph as it is; a golden test keeps it reviewed.
"""

from __future__ import annotations

from ovnk_core.engine.graph import Node
from ovnk_core.features import egress_firewall, network_policy
from ovnk_core.features.room import Room
from ovnk_core.indexes.endpoint import endpoint
from ovnk_core.indexes.projection import Members, PortNumbers
from ovnk_core.indexes.selection import Selection
from ovnk_core.topology.cluster import cluster_groups, cluster_router, control_plane_policing
from ovnk_core.topology.gateway import gateway_nat, gateway_router, gateway_routes, node_policies
from ovnk_core.topology.logging import acl_logging
from ovnk_core.topology.place import cluster_network, node_place
from ovnk_core.topology.record import namespace_record, network_record, operator_record
from ovnk_core.topology.switch import node_switch, own_node, pod_port

BASICS: tuple[Node, ...] = (cluster_network, endpoint, node_place, acl_logging)
INDEXES: tuple[Node, ...] = (Selection, PortNumbers, Members)
TOPOLOGY: tuple[Node, ...] = (
    cluster_router,
    cluster_groups,
    control_plane_policing,
    node_switch,
    own_node,
    pod_port,
    gateway_router,
    gateway_routes,
    gateway_nat,
    node_policies,
    namespace_record,
    network_record,
    operator_record,
)
ROOMS: tuple[Room, ...] = (network_policy.ROOM, egress_firewall.ROOM)
"""The only list of rooms."""

PIPELINE: tuple[Node, ...] = (*BASICS, *INDEXES, *TOPOLOGY, *(rule for room in ROOMS for rule in room.rules))
