"""What is recorded of objects that have no row of their own: keys of NB_Global's external_ids.

The network's configuration, the labels of namespaces, Windows nodes, what the cluster was installed with, EgressIPs
(which need not have rows) and the health of nodes: without them a restart that finds the object refused, or its file
unreadable, could only guess.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.cluster import InstallDecision, Network, NetworkOperator
from ovnk_core.model.egress_ip import EgressIP, EgressIPDecision, NodeHealth
from ovnk_core.model.manifest import egress_ip_text, health_text, install_text, manifest_text, node_text
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.node import Node
from ovnk_core.model.tables import (
    EGRESS_IP,
    EGRESS_IP_DECISION,
    INSTALL_DECISION,
    NAMESPACE,
    NETWORK,
    NETWORK_OPERATOR,
    NODE,
    NODE_DECISION,
    NODE_HEALTH,
)
from ovnk_core.nb.desired import GLOBAL_KEYS
from ovnk_core.nb.row import ACCEPTED_KEY, EGRESS_IP_KEY, HEALTH_KEY, INSTALL_KEY, WINDOWS_KEY
from ovnk_core.terms.name import NamespacedName


@rule(driver=NAMESPACE, out=(GLOBAL_KEYS,))
def namespace_record(read: Reader, key: NamespacedName, item: Namespace) -> Iterable[Output]:
    """An accepted namespace -> its record."""
    if not item.is_blocked:
        yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/Namespace/{key.name}", manifest_text(item))


@rule(driver=NETWORK, out=(GLOBAL_KEYS,))
def network_record(read: Reader, key: NamespacedName, item: Network) -> Iterable[Output]:
    """The accepted Network (config.openshift.io) -> its record."""
    yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/Network/{key.name}", manifest_text(item))


@rule(driver=NETWORK_OPERATOR, out=(GLOBAL_KEYS,))
def operator_record(read: Reader, key: NamespacedName, item: NetworkOperator) -> Iterable[Output]:
    """The accepted Network (operator.openshift.io) -> its record."""
    yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/NetworkOperator/{key.name}", manifest_text(item))


@rule(driver=NODE, reads=(NODE_DECISION,), out=(GLOBAL_KEYS,))
def windows_record(read: Reader, key: NamespacedName, node: Node) -> Iterable[Output]:
    """A Windows node with a subnet -> its record and its decision's: it has no switch to keep them."""
    decision = read(NODE_DECISION, key)
    if node.is_windows and decision is not None:
        yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/Node/{key.name}", manifest_text(node))
        yield GLOBAL_KEYS.row(f"{WINDOWS_KEY}/{key.name}", node_text(decision))


@rule(driver=INSTALL_DECISION, out=(GLOBAL_KEYS,))
def install_record(read: Reader, key: NamespacedName, decision: InstallDecision) -> Iterable[Output]:
    """What the cluster was installed with -> its record."""
    yield GLOBAL_KEYS.row(INSTALL_KEY, install_text(decision))


@rule(driver=EGRESS_IP, out=(GLOBAL_KEYS,))
def egress_ip_record(read: Reader, key: NamespacedName, item: EgressIP) -> Iterable[Output]:
    """An accepted EgressIP -> its record."""
    yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/EgressIP/{key.name}", manifest_text(item))


@rule(driver=EGRESS_IP_DECISION, out=(GLOBAL_KEYS,))
def egress_ip_decision_record(read: Reader, key: NamespacedName, decision: EgressIPDecision) -> Iterable[Output]:
    """Where the addresses of an EgressIP are, or were a moment ago -> the record."""
    yield GLOBAL_KEYS.row(f"{EGRESS_IP_KEY}/{key.name}", egress_ip_text(decision))


@rule(driver=NODE_HEALTH, out=(GLOBAL_KEYS,))
def health_record(read: Reader, key: NamespacedName, health: NodeHealth) -> Iterable[Output]:
    """What was reported of a node -> its record."""
    yield GLOBAL_KEYS.row(f"{HEALTH_KEY}/{key.name}", health_text(health))
