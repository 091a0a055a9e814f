"""The input tables: what the user declared, and what was decided. Everything else is derived from these."""

from __future__ import annotations

from typing import Any

from ovnk_core.engine.table import Table
from ovnk_core.model.cluster import Infrastructure, InstallDecision, Network, NetworkOperator
from ovnk_core.model.decision import DnsDecision, NodeDecision, PodDecision, ServiceDecision
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.egress_ip import EgressIP, EgressIPDecision, NodeHealth
from ovnk_core.model.egress_router import NetworkAttachmentDefinition
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.node import Node
from ovnk_core.model.pod import Pod
from ovnk_core.model.service import Endpoints, EndpointSlice, Service
from ovnk_core.terms.name import NamespacedName

NETWORK = Table[NamespacedName, Network]("network")
NETWORK_OPERATOR = Table[NamespacedName, NetworkOperator]("network_operator")
INFRASTRUCTURE = Table[NamespacedName, Infrastructure]("infrastructure")
NODE = Table[NamespacedName, Node]("node")
NAMESPACE = Table[NamespacedName, Namespace]("namespace")
POD = Table[NamespacedName, Pod]("pod")
NETWORK_POLICY = Table[NamespacedName, NetworkPolicy]("network_policy")
EGRESS_FIREWALL = Table[NamespacedName, EgressFirewall]("egress_firewall")
SERVICE = Table[NamespacedName, Service]("service")
ENDPOINT_SLICE = Table[NamespacedName, EndpointSlice]("endpoint_slice")
ENDPOINTS = Table[NamespacedName, Endpoints]("endpoints")
EGRESS_IP = Table[NamespacedName, EgressIP]("egress_ip")
NETWORK_ATTACHMENT = Table[NamespacedName, NetworkAttachmentDefinition]("network_attachment")
INSTALL_DECISION = Table[NamespacedName, InstallDecision]("install_decision")
"""Under ``CLUSTER``; absent while the cluster has no node."""
NODE_DECISION = Table[NamespacedName, NodeDecision]("node_decision")
POD_DECISION = Table[NamespacedName, PodDecision]("pod_decision")
SERVICE_DECISION = Table[NamespacedName, ServiceDecision]("service_decision")
EGRESS_IP_DECISION = Table[NamespacedName, EgressIPDecision]("egress_ip_decision")
NODE_HEALTH = Table[NamespacedName, NodeHealth]("node_health")
DNS_DECISION = Table[str, DnsDecision]("dns_decision")
"""By DNS name, as ``DnsName`` writes it."""

DECISION_TABLES: tuple[Table[Any, Any], ...] = (
    INSTALL_DECISION,
    NODE_DECISION,
    POD_DECISION,
    SERVICE_DECISION,
    EGRESS_IP_DECISION,
    NODE_HEALTH,
    DNS_DECISION,
)

CLUSTER = NamespacedName("", "cluster")
"""The name of cluster-wide singletons (Network, Infrastructure)."""

OBJECT_TABLES: dict[str, Table[NamespacedName, Any]] = {
    "Network": NETWORK,
    "NetworkOperator": NETWORK_OPERATOR,
    "Infrastructure": INFRASTRUCTURE,
    "Node": NODE,
    "Namespace": NAMESPACE,
    "Pod": POD,
    "NetworkPolicy": NETWORK_POLICY,
    "EgressFirewall": EGRESS_FIREWALL,
    "Service": SERVICE,
    "EndpointSlice": ENDPOINT_SLICE,
    "Endpoints": ENDPOINTS,
    "EgressIP": EGRESS_IP,
    "NetworkAttachmentDefinition": NETWORK_ATTACHMENT,
}
"""Declared kinds and their tables."""


def cluster_key(name: str) -> NamespacedName:
    """Key of a cluster-scoped object."""
    return NamespacedName("", name)
