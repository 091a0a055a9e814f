"""Pods that no policy can tell apart are one class, and policies judge classes.

So the verdicts between all pods of a large cluster cost what its policies distinguish, not the square of its pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ovnk_core.features.network_policy.verdict import Direction, Party, judge
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.network_policy import IpBlock, NetworkPolicy
from ovnk_core.model.pod import ContainerPort
from ovnk_core.model.tables import NETWORK_POLICY
from ovnk_core.terms.address import FAMILIES, Address, Cidr, Family
from ovnk_core.terms.label import Labels
from ovnk_core.terms.port import Protocol
from ovnk_core.trace.scene import Scene


class Likeness(NamedTuple):
    """All that policies see of a pod; pods with equal likenesses get equal verdicts. ``labels``: of the keys that some
    selector names. ``blocks``: per family, which of the policies' prefixes hold its address."""

    namespace: str
    labels: Labels
    ports: tuple[ContainerPort, ...]
    blocks: tuple[tuple[Family, frozenset[Cidr]], ...]


class Classes:
    """``of``: the number of each pod's class; ``samples``: one pod of each class."""

    def __init__(self, scene: Scene, pods: Iterable[Endpoint]) -> None:
        policies = tuple(scene.cluster.engine.rows(NETWORK_POLICY).values())
        self._keys, self._cidrs = frozenset(_label_keys(policies)), _prefixes(policies)
        self._numbers: dict[Likeness, int] = {}
        self.samples: list[Endpoint] = []
        self.of = {pod.key: self._number(pod) for pod in pods}

    def _number(self, pod: Endpoint) -> int:
        likeness = Likeness(
            namespace=pod.key.namespace,
            labels=tuple((key, value) for key, value in pod.labels if key in self._keys),
            ports=pod.ports,
            blocks=tuple((address.family, self._holding(address)) for address in pod.addresses),
        )
        number = self._numbers.setdefault(likeness, len(self._numbers))
        if number == len(self.samples):
            self.samples.append(pod)
        return number

    def _holding(self, address: Address) -> frozenset[Cidr]:
        return frozenset(block for block in self._cidrs if block.contains(address))


def _label_keys(policies: Iterable[NetworkPolicy]) -> Iterator[str]:
    """Keys of pod labels that any selector asks for."""
    for policy in policies:
        selectors = [policy.subject]
        peers = (peer for rule in (*policy.ingress, *policy.egress) for peer in rule.peers)
        selectors += [peer.pods for peer in peers if peer.pods is not None]
        yield from (requirement.key for selector in selectors for requirement in selector.requirements)


def _prefixes(policies: Iterable[NetworkPolicy]) -> frozenset[Cidr]:
    return frozenset(
        cidr
        for policy in policies
        for rule in (*policy.ingress, *policy.egress)
        for peer in rule.peers
        for cidr in _of_block(peer.block)
    )


def _of_block(block: IpBlock | None) -> tuple[Cidr, ...]:
    return () if block is None else (block.cidr, *block.excepts)


class Judged:
    """Judgements between classes. What policies say of a subject depends on which of them isolate it, for ingress also
    on its named ports; so subjects that share those share one judgement per peer."""

    def __init__(self, scene: Scene, samples: list[Endpoint], protocol: Protocol, port: int | None) -> None:
        self._scene, self._samples, self._protocol, self._port = scene, samples, protocol, port
        self._families = [{address.family for address in pod.addresses} for pod in samples]
        self._subjects: dict[tuple[object, ...], int] = {}
        self._numbers = {
            direction: [self._subject(pod, direction) for pod in samples] for direction in ("Ingress", "Egress")
        }
        self._found: dict[tuple[int, int, Family], bool] = {}

    def _subject(self, pod: Endpoint, direction: Direction) -> int:
        selecting = tuple(policy.key for policy in self._scene.isolating(pod, direction))
        ports = pod.ports if direction == "Ingress" and selecting else ()
        return self._subjects.setdefault((direction, selecting, ports), len(self._subjects))

    def verdict(self, source: int, target: int) -> str:
        """From one class to another; ``none`` where they share no address family."""
        shared = self._families[source] & self._families[target]
        if not shared:
            return "none"
        family = next(each for each in FAMILIES if each in shared)
        return "allow" if self.passes(source, target, family) else "drop"

    def passes(self, source: int, target: int, family: Family) -> bool:
        """Whether policies let a connection of one family through: the way between two pods is always open."""
        return self._allows("Egress", source, target, family) and self._allows("Ingress", target, source, family)

    def _allows(self, direction: Direction, subject: int, peer: int, family: Family) -> bool:
        key = (self._numbers[direction][subject], peer, family)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._judge(direction, self._samples[subject], self._samples[peer], family)
        return found

    def _judge(self, direction: Direction, subject: Endpoint, peer: Endpoint, family: Family) -> bool:
        selecting = self._scene.isolating(subject, direction)
        if not selecting:
            return True
        address = peer.address(family)
        assert address is not None
        labels = self._scene.namespace_labels(peer.key.namespace)
        party = Party(address=address, endpoint=peer, namespace_labels=labels)
        return judge(selecting, direction, subject, party, self._protocol, self._port).allowed
