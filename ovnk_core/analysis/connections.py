"""Connections that open or close between two states of a cluster: an example of each kind, and the pods concerned.

Only pods that exist in both states are compared. Pods of a namespace that stand on one node and are isolated by the
same policies are asked once, for all. What could differ comes from ``firewall_points``: the changed rules of the
egress firewall and the blocks and ports of changed network policies; what does differ is asked of the trace, so the
way, own-node DNS and policies count. Policies between pods are asked for one pod per set of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ovnk_core.analysis.firewall_points import Edges, Point, Region, changed, regions
from ovnk_core.features.egress_firewall.compile import never_filtered
from ovnk_core.features.egress_firewall.verdict import Packet
from ovnk_core.features.network_policy.verdict import Direction
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.egress_firewall import FirewallPort
from ovnk_core.model.network_policy import NetworkPolicy, PolicyPort, PolicyRule
from ovnk_core.model.tables import NETWORK_POLICY
from ovnk_core.terms.address import Address, Cidr
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import PORT_MAX, Protocol
from ovnk_core.terms.struct import Value
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.question import Answer, Question, QuestionError, Step
from ovnk_core.trace.scene import Scene

MAX_POINTS = 200_000
"""Packets compared per namespace and direction; beyond, the comparison says that it is not complete."""


class Connection(Value, frozen=True, kw_only=True):
    """A kind of connection whose verdict changed: one of its packets, and in each state the step that decided.

    ``change``: opened or closed. ``pods``: in how many pods of ``namespace`` such connections start (egress) or end
    (ingress).
    """

    change: str
    namespace: str
    direction: Direction
    pods: int
    source: NamespacedName | Address
    target: NamespacedName | Address
    protocol: Protocol
    port: int | None
    before: Step
    after: Step


class Compared(Value, frozen=True, kw_only=True):
    """``is_complete`` False: a limit stopped the comparison, so there may be other kinds."""

    connections: tuple[Connection, ...]
    is_complete: bool


class _Alike(NamedTuple):
    """Pods that no rule can tell apart, by one of them."""

    sample: Endpoint
    pods: int


class Comparison:
    """Two states of one cluster."""

    def __init__(self, before: Scene, after: Scene) -> None:
        self.before, self.after = before, after
        self._tracers = FastTracer(before), FastTracer(after)
        self._found: dict[tuple[object, ...], Connection] = {}
        self.is_complete = True
        both = before.endpoints.keys() & after.endpoints.keys()
        self._by_namespace: dict[str, list[Endpoint]] = {}
        for key in sorted(both):
            self._by_namespace.setdefault(key.namespace, []).append(after.endpoints[key])
        self._policies = _changed_policies(before, after)

    def run(self) -> Compared:
        """Compare everything."""
        for namespace, pods in self._by_namespace.items():
            policies = [each for each in self._policies if each.namespace == namespace]
            self._outward(namespace, pods, policies)
            if policies:
                self._between(namespace, pods, policies)
        order = sorted(self._found.values(), key=lambda each: (each.namespace, each.direction, each.change))
        return Compared(connections=tuple(order), is_complete=self.is_complete)

    # ------------------------------------------------------------------ out of the cluster

    def _outward(self, namespace: str, pods: list[Endpoint], policies: list[NetworkPolicy]) -> None:
        old = regions(self.before.firewall(namespace), self.before)
        new = regions(self.after.firewall(namespace), self.after)
        blocks = [region for policy in policies for region in _blocks(policy, "Egress")]
        wanted = (*changed(old, new), *blocks)
        if not wanted:
            return
        edges = Edges((*old, *new, *blocks), (*never_filtered(self.before.network), *never_filtered(self.after.network)))
        points = self._limited(edges.points(wanted))
        if not policies:
            points = self._flipped(namespace, points)
        groups = self._alike(pods, "Egress")
        for point in points:
            for group in groups:
                self._ask("Egress", namespace, group, group.sample.key, point.address, point)

    def _flipped(self, namespace: str, points: Iterable[Point]) -> Iterator[Point]:
        """Points on which the two firewalls differ: with equal policies only those can change."""
        verdicts = [_verdicts(scene, tracer, namespace) for scene, tracer in zip(self._scenes, self._tracers, strict=True)]
        for point in points:
            packet = Packet(target=point.address, protocol=point.protocol, port=point.port)
            if verdicts[0](packet) != verdicts[1](packet):
                yield point

    @property
    def _scenes(self) -> tuple[Scene, Scene]:
        return self.before, self.after

    # ------------------------------------------------------------------ between pods

    def _between(self, namespace: str, pods: list[Endpoint], policies: list[NetworkPolicy]) -> None:
        peers = [group.sample for each in self._by_namespace.values() for group in self._alike(each, "Ingress")]
        for direction in ("Egress", "Ingress"):
            way: Direction = "Egress" if direction == "Egress" else "Ingress"
            ports = _ports_of(policies, way)
            for group in self._alike(pods, way):
                for peer in peers:
                    ends = (group.sample.key, peer.key) if way == "Egress" else (peer.key, group.sample.key)
                    for protocol, port in ports if ends[0] != ends[1] else ():
                        point = Point(peer.addresses[0], protocol, port)
                        self._ask(way, namespace, group, ends[0], ends[1], point)
        blocks = [region for policy in policies for region in _blocks(policy, "Ingress")]
        groups = self._alike(pods, "Ingress")
        for point in self._limited(Edges(blocks).points(blocks)):
            for group in groups:
                self._ask("Ingress", namespace, group, point.address, group.sample.key, point)

    # ------------------------------------------------------------------ asking

    def _limited(self, points: Iterator[Point]) -> Iterator[Point]:
        yield from islice(points, MAX_POINTS)
        if next(points, None) is not None:
            self.is_complete = False

    def _alike(self, pods: list[Endpoint], direction: Direction) -> list[_Alike]:
        """Pods of one namespace by node, labels and ports (which policies may read) or, outward, by policies."""
        found: dict[tuple[object, ...], list[Endpoint]] = {}
        for pod in pods:
            earlier = self.before.endpoints[pod.key]
            isolating = [
                tuple(scene.isolating(each, direction)) for scene, each in ((self.before, earlier), (self.after, pod))
            ]
            seen = (earlier.labels, pod.labels, earlier.ports, pod.ports) if self._policies else ()
            families = tuple(address.family for address in pod.addresses)
            found.setdefault((pod.node, earlier.node, families, *isolating, *seen), []).append(pod)
        return [_Alike(each[0], len(each)) for each in found.values()]

    def _ask(
        self,
        direction: Direction,
        namespace: str,
        group: _Alike,
        source: NamespacedName | Address,
        target: NamespacedName | Address,
        point: Point,
    ) -> None:
        """Ask both states, and note a kind of difference that was not seen before."""
        question = Question(source=source, target=target, protocol=point.protocol, port=point.port)
        try:
            old, new = (tracer.answer(question) for tracer in self._tracers)
        except QuestionError:
            return
        if old.verdict == new.verdict:
            return
        before, after = decider(old), decider(new)
        change = "opened" if new.verdict == "allow" else "closed"
        kind = (direction, namespace, change, before.object, before.rule, after.object, after.rule)
        known = self._found.get(kind)
        counted = self._counted.setdefault(kind, set())
        counted.add((group.sample.key, group.pods))
        if known is None:
            self._found[kind] = Connection(
                change=change,
                namespace=namespace,
                direction=direction,
                pods=0,
                source=source,
                target=target,
                protocol=point.protocol,
                port=point.port,
                before=before,
                after=after,
            )
