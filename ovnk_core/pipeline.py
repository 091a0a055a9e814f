"""THE wiring page: every rule and relation of the house, from declared objects to desired northbound rows.

 objects         [Network] [NetworkOperator] [Node] [Namespace] [Pod] [NetworkPolicy] [EgressFirewall]   floor 0, inputs
 decisions       [NodeDecision] [PodDecision] [DnsDecision]     settings  [Settings]     (allocate writes decisions)
                     |               |                               |
 derived basics      |          (endpoint)                    (cluster_network)
                     |               |                               |
                (node_place) <-------|-------------------------------+
                     |               |
 multicast  Namespace, endpoint -> (multicast_namespace) (snooping_node) (relay): which switches snoop
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
                     +--> (hybrid_port) (hybrid_routes)
             Node -> (node_mtu) -> (pod_mtu) --> node_place       cluster_network -> (ipsec_switch)
                            Namespace -> (multicast_namespace) -> (namespace_multicast) (cluster_multicast)
    Service -> (answering_pods) -> answering
    EndpointSlice, Endpoints -> (slice_endpoints) (plain_endpoints) -> service.backend --v
         node_place -> (node_front) -> service.front, service.slot ---> Service -> (service_load_balancers)
                    +> (chassis_nodes) -> (chassis_variables)           (hairpin)
    EgressIP -> (egress_ip) --> selection.want, selection.by_pod_want --> <Selection> --> selection.by_pod
         EgressIPDecision, node_place -> (egress_gates) -> egress_ip.gates ---v               |
                            (kept_packets) (node_addresses)   answering -> (served_pod) <-----+
                            egress_ip.node_ips <--+   (other_addresses) <- egress_ip.not_nodes.want <--+
    (endpoint) -> attached_pod, NetworkAttachmentDefinition -> (router_plan): no row, for OVN ends at a router pod
                     +--> (node_told) (pod_told): annotations and settings for nodes and pods, next to the northbound
    EgressIPDecision -> (egress_held) --^
 northbound       [nb.*] one table per schema table            nb.member.binding --> <Members> --> nb.member

(rule) is a pure function run once per driver row, <Relation> is hand-written and set-valued. ``ovnk graph`` prints
the graph as it is; a golden test keeps it reviewed.
"""

from __future__ import annotations

from ovnk_core.engine.graph import Node
from ovnk_core.features import (
    egress_firewall,
    egress_ip,
    egress_router,
    hybrid_overlay,
    ipsec,
    multicast,
    network_policy,
    services,
)
from ovnk_core.features.room import Room
from ovnk_core.indexes.endpoint import endpoint
from ovnk_core.indexes.projection import Members, PortNumbers
from ovnk_core.indexes.selection import Selection
from ovnk_core.topology.annotations import egress_held, node_told, pod_told
from ovnk_core.topology.cluster import cluster_groups, cluster_router, control_plane_policing
from ovnk_core.topology.gateway import gateway_nat, gateway_router, gateway_routes, node_policies
from ovnk_core.topology.logging import acl_logging
from ovnk_core.topology.multicast import multicast_namespace, relay, snooping_node
from ovnk_core.topology.place import cluster_network, node_mtu, node_place, pod_mtu
from ovnk_core.topology.record import (
    egress_ip_decision_record,
    egress_ip_record,
    health_record,
    install_record,
    namespace_record,
    network_record,
    operator_record,
    windows_record,
)
from ovnk_core.topology.switch import node_switch, own_node, pod_port

BASICS: tuple[Node, ...] = (
    cluster_network,
    endpoint,
    node_mtu,
    pod_mtu,
    node_place,
    acl_logging,
    multicast_namespace,
    snooping_node,
    relay,
)
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
    windows_record,
    install_record,
    egress_ip_record,
    egress_ip_decision_record,
    health_record,
    egress_held,
    node_told,
    pod_told,
)
ROOMS: tuple[Room, ...] = (
    network_policy.ROOM,
    egress_firewall.ROOM,
    hybrid_overlay.ROOM,
    ipsec.ROOM,
    multicast.ROOM,
    services.ROOM,
    egress_ip.ROOM,
    egress_router.ROOM,
)
"""The only list of rooms."""

PIPELINE: tuple[Node, ...] = (*BASICS, *INDEXES, *TOPOLOGY, *(rule for room in ROOMS for rule in room.rules))
