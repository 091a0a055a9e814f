"""Boundary-seeking questions about a cluster: where verdicts change, one address or one port further.

Ends: pods, node addresses, management addresses, and the first and last address of every ipBlock and ``except`` with
their neighbours just outside. Ports: every number, range edge and resolved port name of every policy, one less, one
more, and one that nobody names. Questions that cannot be asked (other family, no such end) are left out.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator

from ovnk_core.cluster import Cluster
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.model.cluster import JOIN, MASQUERADE
from ovnk_core.model.network_policy import NetworkPolicy, PolicyRule
from ovnk_core.model.tables import NETWORK_POLICY, POD
from ovnk_core.terms.address import Address, Cidr, cidr, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Protocol
from ovnk_core.topology.place import NODE_PLACE
from ovnk_core.trace.question import Question, QuestionError
from ovnk_core.trace.scene import Scene
from tests.kit.random_cluster import Manifest

UNRELATED_PORT = 31337
OUTSIDE = ("203.0.113.9", "198.51.100.200", "2001:db8:ffff::9")
End = NamespacedName | Address


def scaled(count: int) -> int:
    """A random count under ``TEST_SCALE`` (1 unless set)."""
    return max(1, round(count * float(os.environ.get("TEST_SCALE", "1"))))


def load(manifests: Iterable[Manifest]) -> Loaded:
    """Manifests that must all be accepted."""
    loaded = parse_objects(manifests)
    assert not loaded.refused, [str(error) for refused in loaded.refused for error in refused.errors]
    return loaded


def cluster_of(manifests: Iterable[Manifest], *, check: bool = False) -> Cluster:
    cluster = Cluster(check=check)
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
        self.hosts = [key for key, pod in sorted(engine.rows(POD).items()) if pod.is_host_network]
        places = [place for _, place in sorted(engine.rows(NODE_PLACE).items())]
        self.nodes = [address for place in places for address in (*place.hosts, *place.management)]
        self.edges = sorted({edge for block in self._blocks() for edge in edges(block)})
        self.outside = [parse_address(text) for text in OUTSIDE]
        reserved = [*(JOIN[f] for f in (4, 6)), *(MASQUERADE[f] for f in (4, 6))]
        routers = [interface.address for place in places for interface in place.router]
        links = [interface.subnet for place in places for interface in (*place.external, *place.router)]
        broadcasts = [link.at(link.size - 1) for link in links if link.family == 4]
        self._avoid = {*routers, *broadcasts, *(range_.at(1) for range_ in reserved)}

    def _rules(self) -> Iterator[tuple[NetworkPolicy, PolicyRule]]:
        for policy in self.policies:
            for rule in (*policy.ingress, *policy.egress):
                yield policy, rule

    def _blocks(self) -> Iterator[Cidr]:
        for _, rule in self._rules():
            for peer in rule.peers:
                if peer.block is not None:
                    yield from (peer.block.cidr, *peer.block.excepts)

    def draw(self, count: int) -> Iterator[Question]:
        """At most ``count`` different questions that can be asked of this cluster; pods come first, if there are any."""
        if not self.endpoints:
            return
        seen: set[Question] = set()
        for _ in range(count * 4):
            question = self._one()
            if question is None or question in seen or not self._can_ask(question):
                continue
            seen.add(question)
            yield question
            if len(seen) == count:
                return

    def _can_ask(self, question: Question) -> bool:
        try:
            ends = self.scene.ends(question)
        except QuestionError:
            return False
        both = (ends.source, ends.target)
        if any(end.address in self._avoid or end.kind == "nobody" for end in both):
            return False
        return "pod" in (ends.source.kind, ends.target.kind) and ends.source.endpoint is not ends.target.endpoint

    def _one(self) -> Question | None:
        rng = self.rng
        pod: End = self._name(rng.choice(self.endpoints))
        kind = rng.choice(("pod", "pod", "pod", "node", "edge", "edge", "host", "outside"))
        other = self._other(kind)
        if other is None:
            return None
        source, target = (pod, other) if rng.random() < 0.5 else (other, pod)
        protocol: Protocol = rng.choice(("tcp", "tcp", "udp", "sctp", "icmp"))
        if protocol == "icmp":
            return Question(source=source, target=target, protocol="icmp")
        policy_protocol, port = self._port(target)
        return Question(source=source, target=target, protocol=policy_protocol or protocol, port=port)

    def _name(self, endpoint: Endpoint) -> End:
        """A pod by name, or (so that both families are met) by one of its addresses."""
        return endpoint.key if self.rng.random() < 0.3 else self.rng.choice(endpoint.addresses)

    def _other(self, kind: str) -> End | None:
        pools: dict[str, list[End]] = {
            "node": [*self.nodes],
            "edge": [*self.edges],
            "host": [*self.hosts],
            "outside": [*self.outside],
        }
        if kind == "pod":
            return self._name(self.rng.choice(self.endpoints))
        return self.rng.choice(pools[kind]) if pools[kind] else None

    def _port(self, target: End) -> tuple[Protocol | None, int]:
        """A port near one that some rule or the target itself names."""
        rng = self.rng
        found: list[tuple[Protocol, int]] = []
        endpoint = self.scene.endpoints.get(target) if isinstance(target, NamespacedName) else None
        if isinstance(target, Address):
            endpoint = self.scene.by_address.get(target)
        if endpoint is not None and endpoint.ports and rng.random() < 0.4:
            named = rng.choice(endpoint.ports)
            return _lower(named.protocol), named.number
        for _, rule in rng.sample(list(self._rules()), min(3, sum(1 for _ in self._rules()))):
            for port in rule.ports:
                if port.ports is not None:
                    edges_ = (port.ports.first, port.ports.last)
                    found += [(_lower(port.protocol), edge + step) for edge in edges_ for step in (-1, 0, 0, 1)]
        legal = [(protocol, number) for protocol, number in found if PORT_MIN <= number <= PORT_MAX]
        if legal and rng.random() < 0.85:
            protocol, number = rng.choice(legal)
            return (protocol if rng.random() < 0.9 else None), number
        return None, rng.choice((80, UNRELATED_PORT))


def edges(block: Cidr) -> Iterator[Address]:
    """First and last address of a prefix, and the neighbours just outside, as far as a packet may carry them."""
    for value in (block.value - 1, block.value, block.value + 1, block.last - 1, block.last, block.last + 1):
        address = Address(block.family, value)
        if 0 <= value < 1 << (32 if block.family == 4 else 128) and is_unicast(address):
            yield address


_ODD = [
    *map(cidr, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "169.254.0.0/16")),
    *map(cidr, ("::/8", "fe80::/10", "ff00::/8")),
]


def is_unicast(address: Address) -> bool:
    """Not multicast, loopback, link-local or unspecified: those are not forwarded, whatever a policy says."""
    return not any(block.contains(address) for block in _ODD)


def _lower(protocol: str) -> Protocol:
    return {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}[protocol]  # type: ignore[return-value]
