"""The allocation loop: after every change of objects, which decisions must be recorded, changed or dropped.

Decisions are inputs to the rules, so this runs between transactions: look at the objects, propose, record. What is
recorded is honoured; nothing that exists moves because a neighbour came or went.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnk_core.allocate.egress_ip import EgressIPAllocator
from ovnk_core.allocate.nodes import NodeAllocator
from ovnk_core.allocate.pods import PodAllocator, address_held
from ovnk_core.allocate.services import ServiceAllocator
from ovnk_core.errors import Mention, ObjectError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import Decisions, NodeDecision, PodDecision, ServiceDecision
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.model.pod import Pod
from ovnk_core.model.service import Service
from ovnk_core.model.tables import cluster_key
from ovnk_core.nb.naming import localnet_port
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import host_addresses


class Settled(Value, frozen=True, kw_only=True):
    """Decisions that changed (None: dropped) and who could not be served. Unlisted means unchanged."""

    nodes: dict[NamespacedName, NodeDecision | None]
    pods: dict[NamespacedName, PodDecision | None]
    services: dict[NamespacedName, ServiceDecision | None] = {}
    egress_ips: dict[NamespacedName, EgressIPDecision | None] = {}
    health: dict[NamespacedName, NodeHealth | None] = {}
    errors: dict[ObjectRef, ObjectError]


class Allocator:
    """Keeps pools in step with the objects. ``recorded`` decisions are reserved before anything is given out."""

    def __init__(self, network: ClusterNetwork, recorded: Decisions) -> None:
        self._nodes, self._pods = NodeAllocator(network), PodAllocator(network)
        self._node_decisions = {cluster_key(name): each for name, each in recorded.nodes.items()}
        self._pod_decisions = {NamespacedName(*key.split("/", 1)): each for key, each in recorded.pods.items()}
        for key, node in sorted(self._node_decisions.items()):
            self._nodes.reserve(key.name, node)
        for pod_key, pod in sorted(self._pod_decisions.items()):
            home = self._node_decisions.get(cluster_key(pod.node))
            if home is not None:
                self._pods.reserve(pod_key, pod, home)
        services = {NamespacedName(*key.split("/", 1)): each for key, each in recorded.services.items()}
        self._services, self._network = ServiceAllocator(network, services), network
        egress_ips = {cluster_key(name): each for name, each in recorded.egress_ips.items()}
        self.egress_ips = EgressIPAllocator(network, egress_ips)
        self._waiting_nodes: set[NamespacedName] = set()
        self._waiting_pods: set[NamespacedName] = set()
        self._pods_on: dict[str, set[NamespacedName]] = {}
        self._node_of: dict[NamespacedName, str] = {}
        self._errors: dict[ObjectRef, ObjectError] = {}

    @property
    def errors(self) -> dict[ObjectRef, ObjectError]:
        """Who waits, and why."""
        return {**self._errors, **self._services.errors}

    def settle_services(
        self,
        nodes: Mapping[NamespacedName, Node],
        services: Mapping[NamespacedName, Service],
        *,
        changed_nodes: Iterable[NamespacedName],
        changed_services: Iterable[NamespacedName],
    ) -> dict[NamespacedName, ServiceDecision | None]:
        """Serve the Services that changed and those that wait; decisions that changed. Nodes matter for their own
        addresses alone, on which node ports are served."""
        moved = [
            self._services.move(key, host_addresses(nodes[key], self._network) if key in nodes else ())
            for key in changed_nodes
        ]
        return self._services.settle(services, changed_services, has_moved=any(moved))

    def settle(
        self,
        nodes: Mapping[NamespacedName, Node],
        pods: Mapping[NamespacedName, Pod],
        *,
        changed_nodes: Iterable[NamespacedName],
        changed_pods: Iterable[NamespacedName],
    ) -> Settled:
        """Serve what changed and what is still waiting. Releases come first, then nodes, then pods, by name.

        A pod whose ``placement`` is what it was need not be listed. Cost: O(listed + waiting + pods of changed nodes).
        """
        node_changes: dict[NamespacedName, NodeDecision | None] = {}
        pod_changes: dict[NamespacedName, PodDecision | None] = {}
        touched_pods = set(changed_pods) | self._waiting_pods
        touched_nodes = set(changed_nodes) | self._waiting_nodes
        if not touched_pods and not touched_nodes:
            return Settled(nodes={}, pods={}, errors=self.errors)
        for key in touched_pods:
            self._track(key, pods.get(key))
        for key in touched_nodes:
            if key not in nodes:
                self._drop_node(key, node_changes)
                touched_pods |= self._pods_on.get(key.name, set())
        for pod_key in sorted(touched_pods):
            if not _wants_address(pods.get(pod_key)):
                self._drop_pod(pod_key, pod_changes)
        for key in sorted(touched_nodes & nodes.keys(), key=lambda key: (not nodes[key].subnets, key)):
            if self._settle_node(nodes[key], node_changes):
                touched_pods |= self._pods_on.get(key.name, set())
            touched_pods.add(_namesake(nodes[key]))
        wanting = [pods[key] for key in touched_pods if _wants_address(pods.get(key))]
        for pod in sorted(wanting, key=_precedence):
            rival = nodes.get(cluster_key(pod.name))
            home = nodes.get(cluster_key(pod.node))
            if home is not None and home.is_windows:
                # Its addresses are its node's to give out.
                self._drop_pod(pod.key, pod_changes)
            elif rival is not None and _namesake(rival) == pod.key:
                self._refuse_pod(pod, _name_taken(pod, rival), pod_changes)
            else:
                self._settle_pod(pod, pods, pod_changes)
        return Settled(nodes=node_changes, pods=pod_changes, errors=self.errors)

    @property
    def has_nodes(self) -> bool:
        """Whether any node is served: the cluster is installed."""
        return bool(self._node_decisions)

    def has_place(self, node: NamespacedName) -> bool:
        """Whether a node is served, so that it has a gateway router."""
        return node in self._node_decisions

    def missing_from(
        self,
        nodes: Mapping[NamespacedName, NodeDecision],
        pods: Mapping[NamespacedName, PodDecision],
        services: Mapping[NamespacedName, ServiceDecision],
        egress_ips: Mapping[NamespacedName, EgressIPDecision],
    ) -> Settled:
        """Decisions held here that the tables do not show yet (recorded ones, on first use)."""
        return Settled(
            nodes={key: each for key, each in self._node_decisions.items() if nodes.get(key) != each},
            pods={key: each for key, each in self._pod_decisions.items() if pods.get(key) != each},
            services={key: each for key, each in self._services.decisions.items() if services.get(key) != each},
            egress_ips={key: e for key, e in self.egress_ips.decisions.items() if egress_ips.get(key) != e},
            errors={},
        )

    def _track(self, key: NamespacedName, pod: Pod | None) -> None:
        old = self._node_of.pop(key, None)
        if old is not None:
            self._pods_on[old].discard(key)
        if pod is not None and pod.node:
            self._node_of[key] = pod.node
            self._pods_on.setdefault(pod.node, set()).add(key)

    def _drop_node(self, key: NamespacedName, changes: dict[NamespacedName, NodeDecision | None]) -> None:
        self._nodes.release(key.name)
        self._waiting_nodes.discard(key)
        self._errors.pop(ObjectRef("Node", "", key.name), None)
        if self._node_decisions.pop(key, None) is not None:
            changes[key] = None

    def _drop_pod(self, key: NamespacedName, changes: dict[NamespacedName, PodDecision | None]) -> None:
        self._pods.release(key)
        self._waiting_pods.discard(key)
        self._errors.pop(ObjectRef("Pod", key.namespace, key.name), None)
        if self._pod_decisions.pop(key, None) is not None:
            changes[key] = None

    def _settle_node(self, node: Node, changes: dict[NamespacedName, NodeDecision | None]) -> bool:
        ref, recorded = ObjectRef("Node", "", node.name), self._node_decisions.get(node.key)
        try:
            decision = self._nodes.settle(node, recorded)
        except ObjectError as error:
            self._drop_node(node.key, changes)
            self._errors[ref] = error
            self._waiting_nodes.add(node.key)
            return True
        self._waiting_nodes.discard(node.key)
        self._errors.pop(ref, None)
        if decision == recorded:
            return False
        self._node_decisions[node.key] = changes[node.key] = decision
        return True

    def _settle_pod(
        self, pod: Pod, pods: Mapping[NamespacedName, Pod], changes: dict[NamespacedName, PodDecision | None]
    ) -> None:
        ref = ObjectRef("Pod", pod.namespace, pod.name)
        home = self._node_decisions.get(cluster_key(pod.node))
        if home is None:
            self._drop_pod(pod.key, changes)
            self._waiting_pods.add(pod.key)
            return
        self._evict_older(pod, home, pods, changes)
        recorded = self._pod_decisions.get(pod.key)
        try:
            decision = self._pods.settle(pod, home, recorded)
        except ObjectError as error:
            self._refuse_pod(pod, error, changes)
            return
        self._waiting_pods.discard(pod.key)
        self._errors.pop(ref, None)
        if decision != recorded:
            self._pod_decisions[pod.key] = changes[pod.key] = decision

    def _refuse_pod(self, pod: Pod, error: ObjectError, changes: dict[NamespacedName, PodDecision | None]) -> None:
        self._drop_pod(pod.key, changes)
        self._errors[ObjectRef("Pod", pod.namespace, pod.name)] = error
        self._waiting_pods.add(pod.key)

    def _evict_older(
        self,
        pod: Pod,
        home: NodeDecision,
        pods: Mapping[NamespacedName, Pod],
        changes: dict[NamespacedName, PodDecision | None],
    ) -> None:
        """An address that both pods carry belongs to the newer one; one that we gave away stays where it is."""
        for address in pod.addresses:
            holder = self._pods.holder(address, home)
            if holder is None or holder == pod.key:
                continue
            other = pods.get(holder)
            if other is None or not _wants_address(other):
                self._drop_pod(holder, changes)
            elif address in other.addresses and _precedence(pod) < _precedence(other):
                self._drop_pod(holder, changes)
                self._waiting_pods.add(holder)
                error = address_held(holder, address, pod.key, is_newer=True)
                self._errors[ObjectRef("Pod", holder.namespace, holder.name)] = error


def _namesake(node: Node) -> NamespacedName:
    """The one pod whose port would be called like the node's uplink port (``br-ex_<node>``). Port names are unique in
    the northbound, so letting it in would let one tenant stop every transaction."""
    namespace, _, name = localnet_port(node.name, node.gateway_interface).partition("_")
    return NamespacedName(namespace, name)


def _name_taken(pod: Pod, node: Node) -> ObjectError:
    other = Mention("Node", "", node.name)
    return ObjectError(
        f"its port would be called like the uplink port of {other.text}",
        kind="Pod",
        name=str(pod.key),
        path="metadata.name",
        value=pod.name,
        fix="rename the pod or its namespace",
        mentions=(other,),
    )


def placement(pod: Pod | None) -> object:
    """All that allocation reads of a pod: while this stays what it was, so does the pod's decision."""
    return pod and (pod.node, pod.addresses, pod.mac, pod.created, _wants_address(pod))


def _wants_address(pod: Pod | None) -> bool:
    return pod is not None and bool(pod.node) and not pod.is_host_network and not pod.is_completed


def _precedence(pod: Pod) -> tuple[bool, tuple[int, ...], NamespacedName]:
    """Pods that carry addresses first, the newest of them first; then by name."""
    newest = tuple(-ord(letter) for letter in pod.created) if pod.addresses else ()
    return (not pod.addresses, newest, pod.key)
