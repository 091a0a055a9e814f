"""Boundary-seeking questions about a cluster: where verdicts change, one address or one port further.

Ends: pods, node addresses, management addresses, and the first and last address of every ipBlock and ``except`` with
their neighbours just outside. Ports: every number, range edge and resolved port name of every policy, one less, one
more, and one that nobody names. Questions that cannot be asked (other family, no such end) are left out.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping

from ovnk_core.cluster import Cluster
from ovnk_core.features.network_policy.selections import peer_selection, subject_selection
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.indexes.selection import PodSelection
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.model.cluster import JOIN
from ovnk_core.model.decision import Decisions, DnsDecision
from ovnk_core.model.egress_firewall import Destination, DnsName, FirewallPort
from ovnk_core.model.network_policy import NetworkPolicy, PolicyPort, PolicyRule
from ovnk_core.model.tables import EGRESS_FIREWALL, NETWORK_POLICY, POD, SERVICE, SERVICE_DECISION
from ovnk_core.terms.address import Address, Cidr, parse_address
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Protocol
from ovnk_core.topology.place import NODE_PLACE, Settings
from ovnk_core.trace.question import Question, QuestionError
from ovnk_core.trace.scene import Scene
from tests.kit.random_policy import Manifest

UNRELATED_PORT = 31337
OUTSIDE = ("203.0.113.9", "198.51.100.200", "2001:db8:ffff::9")
ODD = {
    4: (
        *("0.0.0.0", "0.0.0.1", "127.0.0.1", "224.0.0.251", "239.255.0.1", "240.0.0.1", "255.255.255.255"),
        *(
            "169.254.1.1",
            "169.254.169.2",
            "169.254.169.4",
            "169.254.169.5",
            "169.254.169.254",
            "100.64.77.7",
            "100.88.0.1",
        ),
    ),
    6: ("::", "::1", "ff02::fb", "ff05::1:3", "fe80::1", "fe90::1", "fd69::2", "fd69::5", "fd97::1", "fc00::1"),
}
"""Addresses that are special somewhere: to a host, to a router, or to OVN-Kubernetes."""
End = NamespacedName | Address


def scaled(count: int) -> int:
    """A random count under ``TEST_SCALE`` (1 unless set)."""
    return max(1, round(count * float(os.environ.get("TEST_SCALE", "1"))))


def load(manifests: Iterable[Manifest]) -> Loaded:
    """Manifests that must all be accepted."""
    loaded = parse_objects(manifests)
    assert not loaded.refused, [str(error) for refused in loaded.refused for error in refused.errors]
    return loaded


def cluster_of(
    manifests: Iterable[Manifest],
    *,
    check: bool = False,
    dns: Mapping[str, DnsDecision] | None = None,
    settings: Settings | None = None,
) -> Cluster:
    cluster = Cluster(check=check, decisions=Decisions(dns=dict(dns or {})), settings=settings)
    cluster.replace(load(manifests))
    return cluster


class Questioner:
    """Draws questions about one cluster as it is now."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.rng, self.scene = rng, Scene(cluster)
        engine = cluster.engine
        self.families = self.scene.network.families
        self.endpoints: list[Endpoint] = [row for _, row in sorted(engine.rows(ENDPOINT).items())]
        self.policies: list[NetworkPolicy] = [row for _, row in sorted(engine.rows(NETWORK_POLICY).items())]
        self._targets = [
            (policy, direction, rule)
            for policy in self.policies
            for direction, rules in (("Ingress", policy.ingress), ("Egress", policy.egress))
            for rule in rules
        ]
        self.hosts = [key for key, pod in sorted(engine.rows(POD).items()) if pod.is_host_network]
        places = [place for _, place in sorted(engine.rows(NODE_PLACE).items())]
        self.nodes = [address for place in places for address in (*place.hosts, *place.management)]
        self.edges = sorted({edge for block in self._blocks() for edge in edges(block)})
        self.outside = [parse_address(text) for text in OUTSIDE]
        self.outside += [subnet.at(5) for subnets in self.scene.windows.values() for subnet in subnets]
        routers = [interface.address for place in places for interface in place.router]
        links = [interface.subnet for place in places for interface in (*place.external, *place.router)]
        broadcasts = [link.at(link.size - 1) for link in links if link.family == 4]
        joined = [interface.address for place in places for interface in place.join]
        self.firewalls = [row for _, row in sorted(engine.rows(EGRESS_FIREWALL).items())]
        self._avoid = {*routers, *broadcasts, *joined, *(JOIN[family].at(1) for family in (4, 6))}
        self.odd = [*routers, *broadcasts, *joined]
        self.odd += [parse_address(text) for family in self.families for text in ODD[family]]

    def _blocks(self) -> Iterator[Cidr]:
        for _, _, rule in self._targets:
            for peer in rule.peers:
                if peer.block is not None:
                    yield from (peer.block.cidr, *peer.block.excepts)

    def draw(self, count: int) -> Iterator[Question]:
        """At most ``count`` different questions that can be asked; none without a pod."""
        if not self.endpoints:
            return
        seen: set[Question] = set()
        for _ in range(count * 4):
            question = self._one()
            if question is None or question in seen or not self.can_ask(question):
                continue
            seen.add(question)
            yield question
            if len(seen) == count:
                return

    def can_ask(self, question: Question) -> bool:
        """Whether both ends are there and routers do not answer by themselves."""
        try:
            ends = self.scene.ends(question)
        except QuestionError:
            return False
        if ends.target.address in self._avoid:
            return False  # routers answer echoes to themselves, which is no forwarding
        if JOIN[6].contains(ends.target.address):
            return False  # ovn-trace 23.03 did not come back from a free one; why is not known, our drop is unconfirmed
        return "pod" in (ends.source.kind, ends.target.kind) and ends.source.endpoint is not ends.target.endpoint

    def _one(self) -> Question | None:
        if self.firewalls and self.rng.random() < 0.35:
            return self._leaving()
        return self._aimed() if self._targets and self.rng.random() < 0.6 else self._wild()

    def leaving(self, count: int) -> Iterator[Question]:
        """At most ``count`` questions about packets that leave namespaces with firewalls."""
        for _ in range(count):
            question = self._leaving()
            if question is not None:
                yield question

    def serving(self, count: int) -> Iterator[Question]:
        """At most ``count`` different questions to Services, from pods, nodes and outside, at every kind of address."""
        doors = list(self._doors())
        seen: set[Question] = set()
        for _ in range(count * 4 if doors else 0):
            target, protocol, port = self.rng.choice(doors)
            source = self._other(self.rng.choice(("pod", "pod", "pod", "node", "outside", "outside")))
            port += self.rng.choice((0, 0, 0, 0, 0, 1))
            question = source and Question(source=source, target=target, protocol=protocol, port=port)
            if question is None or question in seen or not self._can_serve(question):
                continue
            seen.add(question)
            yield question
            if len(seen) == count:
                return

    def _doors(self) -> Iterator[tuple[Address, Protocol, int]]:
        rows = self.scene.cluster.engine.rows
        for key, decision in sorted(rows(SERVICE_DECISION).items()):
            service = rows(SERVICE)[key]
            for port in service.ports:
                for address in (*decision.cluster_ips, *service.external_ips, *service.load_balancer_ips):
                    yield address, _lower(port.protocol), port.port
            for each in decision.node_ports:
                for address in self.nodes:
                    yield address, _lower(each.protocol), each.node_port

    def _can_serve(self, question: Question) -> bool:
        try:
            ends = self.scene.ends(question)
        except QuestionError:
            return False
        return ends.source.kind != "nobody" and not ends.target.is_management

    def _leaving(self) -> Question | None:
        """A pod of a namespace with a firewall, to the border of one of its rules."""
        rng = self.rng
        firewall = rng.choice(self.firewalls)
        pods = [each for each in self.endpoints if each.key.namespace == firewall.namespace]
        if not pods or not firewall.rules:
            return None
        rule = rng.choice(firewall.rules)
        targets = list(self._stands_for(rule.to))
        if not targets or rng.random() < 0.1:
            targets = [*self.nodes, *self.outside]
        protocol, port = self._near(rule.ports)
        target = rng.choice(targets)
        return Question(source=rng.choice(pods).key, target=target, protocol=protocol, port=port)

    def _stands_for(self, to: Destination) -> Iterator[Address]:
        if isinstance(to, Cidr):
            yield from edges(to)
        elif isinstance(to, DnsName):
            decision = self.scene.dns(to.name)
            for address in decision.sticky if decision is not None else ():
                yield from edges(address.host)
        else:
            yield from self.nodes

    def _near(self, ports: tuple[FirewallPort, ...]) -> tuple[Protocol, int | None]:
        """A port one entry names, its neighbour, or nothing like it; DNS now and then, because of the own node."""
        rng = self.rng
        if rng.random() < 0.1:
            return "icmp", None
        if rng.random() < 0.15:
            return rng.choice(("tcp", "udp")), 53
        if not ports or rng.random() < 0.1:
            return rng.choice(("tcp", "udp", "sctp")), rng.choice((80, UNRELATED_PORT))
        each = rng.choice(ports)
        return _lower(each.protocol), (each.port or UNRELATED_PORT) + rng.choice((0, 0, 0, 1))

    def _wild(self) -> Question | None:
        """Any pod with anything, on a port near one that some rule names."""
        rng = self.rng
        pod: End = self._name(rng.choice(self.endpoints))
        other = self._other(rng.choice(("pod", "pod", "pod", "node", "edge", "edge", "host", "outside", "odd")))
        if other is None:
            return None
        source, target = (pod, other) if rng.random() < 0.5 else (other, pod)
        ports = [port for _, _, rule in rng.sample(self._targets, min(3, len(self._targets))) for port in rule.ports]
        return self._question(source, target, ports)

    def _aimed(self) -> Question | None:
        """A pod that one rule protects, a peer on the rule's border, and a port on the rule's border."""
        rng = self.rng
        policy, direction, rule = rng.choice(self._targets)
        subjects = [each for each in self.endpoints if _is_picked(subject_selection(policy), each, ())]
        if not subjects:
            return None
        subject, peer = self._name(rng.choice(subjects)), self._peer(policy.namespace, rule)
        if peer is None:
            return None
        source, target = (peer, subject) if direction == "Ingress" else (subject, peer)
        return self._question(source, target, list(rule.ports))

    def _peer(self, namespace: str, rule: PolicyRule) -> End | None:
        rng = self.rng
        if not rule.peers or rng.random() < 0.1:
            return self._other(rng.choice(("pod", "node", "outside")))
        peer = rng.choice(rule.peers)
        if peer.block is None:
            selection = peer_selection(namespace, peer)
            labels = self.scene.namespace_labels
            inside = [each for each in self.endpoints if _is_picked(selection, each, labels(each.key.namespace))]
            return self._name(rng.choice(inside)) if inside else self._other("pod")
        cidrs = (peer.block.cidr, *peer.block.excepts)
        known = [*self.nodes, *(address for each in self.endpoints for address in each.addresses)]
        near: list[End] = [address for address in known if peer.block.cidr.contains(address)]
        border: list[End] = [address for cidr in cidrs for address in edges(cidr)]
        pool = near if near and (not border or rng.random() < 0.4) else border
        return rng.choice(pool) if pool else None

    def _question(self, source: End, target: End, ports: list[PolicyPort]) -> Question:
        rng = self.rng
        protocol: Protocol = rng.choice(("tcp", "tcp", "udp", "sctp", "icmp"))
        if protocol == "icmp" and (not ports or rng.random() < 0.3):
            return Question(source=source, target=target, protocol="icmp")
        found = [each for port in ports for each in self._border(port, target)]
        if found and rng.random() < 0.9:
            named, number = rng.choice(found)
            return Question(source=source, target=target, protocol=named if rng.random() < 0.9 else "tcp", port=number)
        protocol = "tcp" if protocol == "icmp" else protocol
        return Question(source=source, target=target, protocol=protocol, port=rng.choice((80, UNRELATED_PORT)))

    def _border(self, port: PolicyPort, target: End) -> Iterator[tuple[Protocol, int]]:
        """Ports where one entry of a rule begins and ends to match; a name is looked up on the target."""
        protocol = _lower(port.protocol)
        if port.ports is not None:
            numbers = {edge + step for edge in (port.ports.first, port.ports.last) for step in (-1, 0, 1)}
            yield from ((protocol, number) for number in sorted(numbers) if PORT_MIN <= number <= PORT_MAX)
        elif not port.name:
            yield protocol, UNRELATED_PORT
        else:
            endpoint = (
                self.scene.by_address.get(target) if isinstance(target, Address) else self.scene.endpoints.get(target)
            )
            for named in endpoint.ports if endpoint is not None else ():
                yield _lower(named.protocol), named.number

    def _name(self, endpoint: Endpoint) -> End:
        """A pod by name, or (so that both families are met) by one of its addresses."""
        return endpoint.key if self.rng.random() < 0.3 else self.rng.choice(endpoint.addresses)

    def _other(self, kind: str) -> End | None:
        pools: dict[str, list[End]] = {
            "node": [*self.nodes],
            "edge": [*self.edges],
            "host": [*self.hosts],
            "outside": [*self.outside],
            "odd": [*self.odd],
        }
        if kind == "pod" and self.endpoints:
            return self._name(self.rng.choice(self.endpoints))
        pool = pools.get(kind, [])
        return self.rng.choice(pool) if pool else None


def _is_picked(selection: PodSelection, endpoint: Endpoint, labels: Labels) -> bool:
    return selection.sees(endpoint.key.namespace, labels) and selection.pods.matches(dict(endpoint.labels))


def edges(block: Cidr) -> Iterator[Address]:
    """First and last address of a prefix, and the neighbours just outside."""
    for value in (block.value - 1, block.value, block.value + 1, block.last - 1, block.last, block.last + 1):
        if 0 <= value < 1 << (32 if block.family == 4 else 128):
            yield Address(block.family, value)


def _lower(protocol: str) -> Protocol:
    return {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}[protocol]  # type: ignore[return-value]
