"""The cluster as a packet meets it: who has which address, and where the two ends of a question stand.

Read-only indexes over one engine revision, made once and used for many questions.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_ip.verdict import Exit, exits, that_counts
from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.features.network_policy.verdict import Direction, Party, isolating
from ovnk_core.flows.routing import LINK_LOCAL
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.model.cluster import JOIN, special_kind
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.egress_firewall import EgressFirewall, NodeSelector
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.model.namespace import labels_of
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.pod import Pod
from ovnk_core.model.tables import (
    DNS_DECISION,
    EGRESS_FIREWALL,
    EGRESS_IP,
    EGRESS_IP_DECISION,
    NAMESPACE,
    NETWORK_ATTACHMENT,
    NETWORK_POLICY,
    NODE,
    NODE_DECISION,
    POD,
    cluster_key,
)
from ovnk_core.terms.address import FAMILIES, Address, Cidr, Family
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.answering import ANSWERING
from ovnk_core.topology.place import NODE_PLACE, NodePlace, host_addresses
from ovnk_core.trace.question import Question, QuestionError, ServiceTarget
from ovnk_core.trace.services import Doors

Kind = Literal["pod", "node", "external", "group", "windows", "nobody"]

_INSIDE = frozenset(("pod", "node"))


class End(Value, frozen=True, kw_only=True):
    """One end of a packet. ``node`` is set for pods and nodes; ``is_management`` for a node's .2 address.

    ``group``: multicast and broadcast. ``windows``: in the subnet of a Windows node, which is ``node``. ``nobody``: an
    address inside the cluster, or one that is never forwarded, that nobody has.
    """

    kind: Kind
    address: Address
    endpoint: Endpoint | None = None
    node: str = ""
    is_management: bool = False
    label: str = ""


class Ends(Value, frozen=True, kw_only=True):
    """``is_chosen``: the target is the endpoint that OVN chose for a connection to a Service, which ``asker`` asked
    for: ``source``, or who is behind its address."""

    source: End
    target: End
    is_chosen: bool = False
    asker: End | None = None


class Scene:
    """``unbuilt``: objects of kinds that are known but not built, which could change verdicts."""

    def __init__(self, cluster: Cluster, unbuilt: tuple[ObjectRef, ...] = ()) -> None:
        self.cluster, self.unbuilt = cluster, unbuilt
        self.revision = cluster.engine.revision
        self.network = cluster.network
        self._selected: dict[NodeSelector, frozenset[Address]] = {}
        self._egress_ips: dict[NamespacedName, EgressIP | None] = {}
        self._isolating: dict[tuple[NamespacedName, Direction], list[NetworkPolicy]] = {}

    @cached_property
    def endpoints(self) -> dict[NamespacedName, Endpoint]:
        return dict(self.cluster.engine.rows(ENDPOINT))

    @cached_property
    def places(self) -> dict[str, NodePlace]:
        return {key.name: place for key, place in self.cluster.engine.rows(NODE_PLACE).items()}

    @cached_property
    def by_address(self) -> dict[Address, Endpoint]:
        return {address: endpoint for endpoint in self.endpoints.values() for address in endpoint.addresses}

    @cached_property
    def hosts(self) -> dict[Address, tuple[str, ...]]:
        """Host address -> nodes by name; several nodes may state one address (an ExternalIP of a translator)."""
        found: dict[Address, tuple[str, ...]] = {}
        for name in sorted(self.places):
            for address in self.places[name].hosts:
                found[address] = (*found.get(address, ()), name)
        return found

    @cached_property
    def management(self) -> dict[Address, str]:
        return {address: name for name, place in self.places.items() for address in place.management}

    @cached_property
    def windows(self) -> dict[str, tuple[Cidr, ...]]:
        """Windows nodes and their subnets of the hybrid overlay."""
        rows = self.cluster.engine.rows
        decisions = rows(NODE_DECISION)
        return {
            key.name: decisions[key].subnets
            for key, node in sorted(rows(NODE).items())
            if node.is_windows and key in decisions
        }

    def _windows_node(self, address: Address) -> str:
        """The Windows node whose subnet holds an address, or an empty text."""
        if not self.network.holds_hybrid(address):
            return ""
        found = (name for name, subnets in self.windows.items() if any(each.contains(address) for each in subnets))
        return next(found, "")

    def firewall(self, namespace: str) -> EgressFirewall | None:
        """The egress firewall in force for a namespace."""
        return self.cluster.engine.rows(EGRESS_FIREWALL).get(NamespacedName(namespace, FIREWALL_NAME))

    def dns(self, name: str) -> DnsDecision | None:
        """What a DNS name stands for."""
        return self.cluster.engine.rows(DNS_DECISION).get(name)

    def addresses_of(self, selector: NodeSelector) -> frozenset[Address]:
        """Every address of the nodes a selector matches."""
        found = self._selected.get(selector)
        if found is None:
            nodes = self.cluster.engine.rows(NODE)
            found = self._selected[selector] = frozenset(
                address
                for name, place in self.places.items()
                if selector.selector.matches(dict(nodes[cluster_key(name)].labels))
                for address in place.hosts
            )
        return found

    @cached_property
    def _policies(self) -> dict[str, list[NetworkPolicy]]:
        found: dict[str, list[NetworkPolicy]] = {}
        for policy in self.cluster.engine.rows(NETWORK_POLICY).values():
            found.setdefault(policy.namespace, []).append(policy)
        return found

    def isolating(self, pod: Endpoint, direction: Direction) -> list[NetworkPolicy]:
        """Policies that select a pod for a direction, by name."""
        key = (pod.key, direction)
        found = self._isolating.get(key)
        if found is None:
            found = self._isolating[key] = isolating(self._policies.get(pod.key.namespace, ()), pod, direction)
        return found

    def party(self, end: End) -> Party:
        """An end as policies see it."""
        labels = self.namespace_labels(end.endpoint.key.namespace) if end.endpoint else ()
        return Party(address=end.address, endpoint=end.endpoint, namespace_labels=labels)

    def namespace_labels(self, name: str) -> Labels | None:
        return labels_of(name, self.cluster.engine.rows(NAMESPACE).get(cluster_key(name)))

    @cached_property
    def routers(self) -> dict[NamespacedName, RouterPlan]:
        """Egress router pods."""
        return dict(self.cluster.engine.rows(ROUTER_PLAN))

    def missing_network(self, pod: NamespacedName) -> NamespacedName | None:
        """The first secondary network of a pod that nobody declares."""
        rows = self.cluster.engine.rows
        named = (NamespacedName(each.namespace, each.network) for each in rows(POD)[pod].attachments)
        return next((each for each in named if each not in rows(NETWORK_ATTACHMENT)), None)

    def bypass(self, ends: Ends) -> RouterPlan | None:
        """The plan of a router pod whose own packet leaves by its second interface, so that OVN never sees it. One that
        it sent to a Service is OVN's, whichever endpoint was chosen."""
        if ends.is_chosen:
            return None
        source, target = ends.source, ends.target
        plan = self.routers.get(source.endpoint.key) if source.endpoint is not None else None
        if plan is None or target.kind not in ("external", "node") or plan.keeps(target.address):
            return None
        return plan if target.address.family == plan.router.address.family else None

    @cached_property
    def every_host(self) -> frozenset[Address]:
        """Addresses of all nodes, Windows nodes and those without subnets included."""
        nodes = self.cluster.engine.rows(NODE).values()
        return frozenset(address for node in nodes for address in host_addresses(node, self.network))

    def egress_ip(self, pod: Endpoint) -> EgressIP | None:
        """Of the EgressIPs that select a pod the one that counts."""
        if pod.key not in self._egress_ips:
            rows = self.cluster.engine.rows
            items = ((item, rows(EGRESS_IP_DECISION).get(key)) for key, item in rows(EGRESS_IP).items())
            self._egress_ips[pod.key] = that_counts(items, pod, self.namespace_labels(pod.key.namespace))
        return self._egress_ips[pod.key]

    @cached_property
    def egress_ip_of(self) -> dict[Address, tuple[str, str]]:
        """The EgressIP and the node of every address that is on one."""
        decided = self.cluster.engine.rows(EGRESS_IP_DECISION)
        return {each.address: (key.name, each.node) for key, one in decided.items() for each in one.assignments}

    def answers(self, pod: Address, question: Question) -> bool:
        """Whether a pod's packet comes from a port at which it answers clients whose address is kept."""
        found = self.cluster.engine.members(ANSWERING, pod)
        return any((each.protocol.lower(), each.port) == (question.protocol, question.port) for each in found)

    def exits(self, egress_ip: str, family: Family) -> tuple[Exit, ...]:
        """Where packets that an EgressIP takes may leave."""
        decision = self.cluster.engine.rows(EGRESS_IP_DECISION).get(cluster_key(egress_ip))
        return exits(decision, family, self.places.get)

    @cached_property
    def doors(self) -> Doors:
        """Where Services are reached."""
        return Doors(self.cluster, self.hosts)

    # ------------------------------------------------------------------ from question to ends

    def resolved(self, question: Question) -> Question:
        """A question about a Service by name, as one about its address; any other as it is. Raises QuestionError."""
        if not isinstance(question.target, ServiceTarget):
            return question
        return self.doors.resolved(question, self._families("from", question.source))

    def ends(self, question: Question) -> Ends:
        """Both ends of a resolved question in one address family, IPv4 first where both have a choice.

        Raises QuestionError.
        """
        asked = question.target
        assert not isinstance(asked, ServiceTarget), "resolved before"
        families = [
            family
            for family in FAMILIES
            if family in self._families("from", question.source) and family in self._families("to", asked)
        ]
        if not families:
            raise QuestionError("to", str(asked), f"shares no address family with {question.source}")
        source = self._end("from", question.source, families[0])
        near = source.node if source.kind == "pod" else ""
        target = self._end("to", asked, families[0], near)
        if source.kind == "node" and not source.is_management and target.kind == "pod":
            source = self._as_management(source)
        is_inside = bool(_INSIDE & {source.kind, target.kind}) or {source.kind, target.kind} == {"windows"}
        is_windows = source.kind == "windows"
        if not is_inside and (is_windows or self.doors.at(question, target.address, ()) is None):
            what = f"neither this nor {question.source} is a pod or a node"
            if is_windows:
                what = f"{question.source} is on a Windows node, whose packets to others do not pass OVN"
            reason = f"{what}: the cluster is not on the way"
            raise QuestionError("to", str(asked), reason)
        return Ends(source=source, target=target)

    def _families(self, field: str, who: NamespacedName | Address) -> tuple[Family, ...]:
        if isinstance(who, Address):
            return (who.family,)
        return tuple(address.family for address in self._addresses(field, who))

    def _addresses(self, field: str, who: NamespacedName) -> tuple[Address, ...]:
        endpoint = self.endpoints.get(who)
        if endpoint is not None:
            return endpoint.addresses
        pod = self.cluster.engine.rows(POD).get(who)
        if pod is None:
            refused = self.cluster.refused.get(ObjectRef("Pod", who.namespace, who.name))
            raise QuestionError(
                field, str(who), f"the pod is refused: {refused.errors[0]}" if refused else "no such pod"
            )
        if pod.is_host_network and pod.node in self.places:
            return self._node_addresses(self.places[pod.node])
        if pod.node in self.windows and not pod.is_completed:
            found = tuple(address for address in pod.addresses if self._windows_node(address))
            if found:
                return found
            reason = "the pod is on a Windows node, and its status names no address of that node's"
            raise QuestionError(field, str(who), reason)
        raise QuestionError(field, str(who), self._why_no_port(pod))

    def _why_no_port(self, pod: Pod) -> str:
        if pod.is_completed:
            return "the pod is completed and has no address any more"
        if not pod.node:
            return "the pod is not scheduled to a node"
        if pod.node not in self.places:
            return f"the pod is on node {pod.node}, which is not known"
        error = next((e for e in self.cluster.errors if (e.kind, e.name) == ("Pod", str(pod.key))), None)
        return f"the pod has no address: {error.reason}" if error else "the pod has no address"

    @staticmethod
    def _node_addresses(place: NodePlace) -> tuple[Address, ...]:
        uplink = tuple(interface.address for interface in place.external)
        return uplink or place.hosts

    def _end(self, field: str, who: NamespacedName | Address, family: Family, near: str = "") -> End:
        if isinstance(who, Address):
            return self.end_of_address(who, near)
        endpoint = self.endpoints.get(who)
        if endpoint is not None:
            address = endpoint.address(family)
            assert address is not None
            return End(kind="pod", address=address, endpoint=endpoint, node=endpoint.node, label=f"pod {who}")
        address = next(a for a in self._addresses(field, who) if a.family == family)
        if self._windows_node(address):
            return self.end_of_address(address, near)
        node = self.cluster.engine.rows(POD)[who].node
        return End(kind="node", address=address, node=node, label=f"host-network pod {who} (node {node})")

    def end_of_address(self, address: Address, near: str) -> End:
        """``near``: the node of the pod that asks. It reaches its own node at an address that other nodes state too;
        anybody else takes a shared address for one outside, because nobody knows which node answers."""
        endpoint = self.by_address.get(address)
        if endpoint is not None:
            label = f"pod {endpoint.key}"
            return End(kind="pod", address=address, endpoint=endpoint, node=endpoint.node, label=label)
        if address in self.management:
            node = self.management[address]
            return End(kind="node", address=address, node=node, is_management=True, label=f"node {node}")
        owners = self.hosts.get(address, ())
        if near in owners or len(owners) == 1:
            node = near if near in owners else owners[0]
            return End(kind="node", address=address, node=node, label=f"node {node}")
        if windows := self._windows_node(address):
            return End(kind="windows", address=address, node=windows, label=f"{address} on Windows node {windows}")
        if special_kind(address) in ("multicast", "broadcast"):
            return End(kind="group", address=address, label=str(address))
        is_inside = self.network.holds(address) or self.network.holds_hybrid(address)
        if is_inside or JOIN[address.family].contains(address) or is_never_forwarded(address):
            return End(kind="nobody", address=address, label=str(address))
        return End(kind="external", address=address, label=str(address))

    def _as_management(self, end: End) -> End:
        """A node reaches pods from its management address."""
        place = self.places[end.node]
        address = next((a for a in place.management if a.family == end.address.family), end.address)
        return End(kind="node", address=address, node=end.node, is_management=True, label=end.label)


def is_never_forwarded(address: Address) -> bool:
    """Whether OVN's routers forward nothing to an address: IPv4's loopback and unspecified ranges (lr_in_ip_input),
    IPv6's link (connected on every port, and nobody's there). They do forward to ``::`` and ``::1``."""
    if address.family == 4:
        return special_kind(address) in ("loopback", "unspecified")
    return LINK_LOCAL.contains(address)
