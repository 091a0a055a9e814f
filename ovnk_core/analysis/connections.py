"""Connections that open or close between two states of a cluster: an example of each kind, and the pods concerned.

Only pods that exist in both states are compared; of pods that nothing tells apart one is asked, for all. Out of the
cluster, what could differ comes from ``firewall.points``: the changed rules of the egress firewall, and the blocks and
ports of changed network policies. Between pods, every pod of a namespace with changed policies is asked about one pod
of each kind, on the ports those policies name. What does differ the trace decides, so the way, DNS to a pod's own node
and all policies count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from ovnk_core.analysis.firewall.points import Edges, Point, Region, changed, regions
from ovnk_core.features.egress_firewall.compile import never_filtered
from ovnk_core.features.egress_firewall.verdict import Packet
from ovnk_core.features.network_policy.verdict import Direction
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.egress_firewall import FirewallPort
from ovnk_core.model.network_policy import NetworkPolicy, PolicyPort, PolicyRule
from ovnk_core.model.tables import NETWORK_POLICY
from ovnk_core.terms.address import Address, Cidr, cidr
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Protocol
from ovnk_core.terms.struct import Value
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.question import Answer, Question, QuestionError, Step
from ovnk_core.trace.scene import Scene

MAX_POINTS = 400_000
"""Packets compared per namespace and direction; beyond, the comparison says that it is not complete."""
ANYWHERE = {4: cidr("0.0.0.0/0"), 6: cidr("::/0")}
_WORDS: tuple[Direction, ...] = ("Egress", "Ingress")

Party = NamespacedName | Address


class Connection(Value, frozen=True, kw_only=True):
    """A kind of connection whose verdict changed: one of its packets, and in each state the step that decided. Kinds
    differ in these steps, and in the namespace of the other end.

    ``change``: opened or closed. ``pods``: in how many pods of ``namespace`` such connections start (Egress) or end
    (Ingress).
    """

    change: str
    namespace: str
    direction: Direction
    pods: int
    source: Party
    target: Party
    protocol: Protocol
    port: int | None
    before: Step
    after: Step


class Compared(Value, frozen=True, kw_only=True):
    """``is_complete`` False: a limit stopped the comparison, so there may be other kinds."""

    connections: tuple[Connection, ...]
    is_complete: bool


class _Alike(NamedTuple):
    """Pods that nothing here tells apart, by one of them."""

    sample: Endpoint
    pods: int


def compare_connections(before: Scene, after: Scene) -> Compared:
    """Everything that opens or closes. Cost: with equal policies two look-ups per packet and one question for each kind
    of pod that differs; with changed policies every packet is asked of every kind of pod."""
    return _Comparison(before, after).run()


class _Comparison:
    def __init__(self, before: Scene, after: Scene) -> None:
        self.before, self.after = self._scenes = before, after
        self._tracers = FastTracer(before), FastTracer(after)
        self._found: dict[tuple[object, ...], tuple[Connection, dict[NamespacedName, int]]] = {}
        self._is_complete = True
        self._pods: dict[str, list[Endpoint]] = {}
        for key in sorted(before.endpoints.keys() & after.endpoints.keys()):
            self._pods.setdefault(key.namespace, []).append(after.endpoints[key])
        self._policies = _changed_policies(before, after)

    def run(self) -> Compared:
        for namespace, pods in self._pods.items():
            policies = [each for each in self._policies if each.namespace == namespace]
            self._outward(namespace, pods, policies)
            if policies:
                self._inward(pods, policies)
                self._between(pods, policies)
        found = [replace(example, pods=sum(counted.values())) for example, counted in self._found.values()]
        found.sort(key=lambda each: (each.namespace, each.direction, each.change, str(each.target)))
        return Compared(connections=tuple(found), is_complete=self._is_complete)

    # ------------------------------------------------------------------ the outside

    def _outward(self, namespace: str, pods: list[Endpoint], policies: list[NetworkPolicy]) -> None:
        old = regions(self.before.firewall(namespace), self.before)
        new = regions(self.after.firewall(namespace), self.after)
        blocks = tuple(region for policy in policies for region in _blocks(policy, "Egress"))
        exempt = [set(never_filtered(scene.network)) for scene in (self.before, self.after)]
        no_more = Region(False, tuple(sorted(exempt[0] ^ exempt[1])), ())
        edges = Edges((*old, *new, *blocks), exempt[0] | exempt[1])
        points = self._limited(edges.points((*changed(old, new), *blocks, no_more)))
        find = [_finder(scene, tracer, namespace) for scene, tracer in zip(self._scenes, self._tracers, strict=True)]
        groups = self._alike(pods, "Egress")
        waiting: dict[object, list[_Alike]] = {}
        for point in points:
            packet = Packet(target=point.address, protocol=point.protocol, port=point.port)
            rules = tuple(each(packet) for each in find)
            if not policies and rules[0].allow == rules[1].allow:
                continue
            # With equal policies, the rules on both sides tell the kind: one example for each group of pods will do.
            kind = point if policies else rules
            asked = waiting.get(kind, groups)
            waiting[kind] = [
                group for group in asked if not self._ask("Egress", group, group.sample.key, point.address, point)
            ]

    def _inward(self, pods: list[Endpoint], policies: list[NetworkPolicy]) -> None:
        blocks = tuple(region for policy in policies for region in _blocks(policy, "Ingress"))
        groups = self._alike(pods, "Ingress")
        for point in self._limited(Edges(blocks).points(blocks)):
            for group in groups:
                self._ask("Ingress", group, point.address, group.sample.key, point)

    def _limited(self, points: Iterator[Point]) -> Iterator[Point]:
        yield from islice(points, MAX_POINTS)
        if next(points, None) is not None:
            self._is_complete = False

    # ------------------------------------------------------------------ pods

    def _between(self, pods: list[Endpoint], policies: list[NetworkPolicy]) -> None:
        peers = [group.sample for each in self._pods.values() for group in self._alike(each, "Ingress")]
        for direction in _WORDS:
            ports = _ports_of([each for each in policies if _is_about(each, direction)], direction)
            for group in self._alike(pods, direction):
                for peer in peers:
                    ends = (group.sample.key, peer.key) if direction == "Egress" else (peer.key, group.sample.key)
                    for protocol, port in ports if peer.key != group.sample.key else ():
                        self._ask(direction, group, *ends, Point(peer.addresses[0], protocol, port))

    def _alike(self, pods: list[Endpoint], direction: Direction) -> list[_Alike]:
        """Pods of one namespace that stand alike in both states: node, families, the policies that isolate them and,
        where policies changed, what policies may read of them."""
        found: dict[tuple[object, ...], list[Endpoint]] = {}
        for pod in pods:
            earlier = self.before.endpoints[pod.key]
            states = ((self.before, earlier), (self.after, pod))
            isolating = [tuple(scene.isolating(each, direction)) for scene, each in states]
            read = (earlier.labels, pod.labels, earlier.ports, pod.ports) if self._policies else ()
            families = tuple(address.family for address in pod.addresses)
            found.setdefault((pod.node, earlier.node, families, *isolating, *read), []).append(pod)
        return [_Alike(each[0], len(each)) for each in found.values()]

    # ------------------------------------------------------------------ asking

    def _ask(self, direction: Direction, group: _Alike, source: Party, target: Party, point: Point) -> bool:
        """Whether both states differ. Keeps the first example of every kind of difference, and counts its pods."""
        question = Question(source=source, target=target, protocol=point.protocol, port=point.port)
        try:
            old, new = self._tracers[0].answer(question), self._tracers[1].answer(question)
        except QuestionError:
            return False
        if old.verdict == new.verdict:
            return False
        before, after = decider(old), decider(new)
        change = "opened" if new.verdict == "allow" else "closed"
        namespace = group.sample.key.namespace
        peer = target if direction == "Egress" else source
        place = peer.namespace if isinstance(peer, NamespacedName) else ""
        kind = (direction, namespace, change, place, before.object, before.rule, after.object, after.rule)
        if kind not in self._found:
            example = Connection(
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
            self._found[kind] = example, {}
        self._found[kind][1][group.sample.key] = group.pods
        return True


def decider(answer: Answer) -> Step:
    """The step that a verdict rests on: the one that drops, else the firewall's, else the last that names an object."""
    last = answer.steps[-1]
    if answer.verdict != "allow":
        return last
    named = [step for step in answer.steps if step.object is not None]
    firewall = [step for step in named if step.object is not None and step.object.kind == "EgressFirewall"]
    return (firewall or named or [last])[-1]


class _Found(NamedTuple):
    """The rule that decides, None for none, and what it says."""

    rule: int | None
    allow: bool


def _finder(scene: Scene, tracer: FastTracer, namespace: str) -> Callable[[Packet], _Found]:
    """What a namespace's firewall alone says of packets."""
    firewall = scene.firewall(namespace)
    if firewall is None:
        return lambda packet: _Found(None, True)
    classifier = tracer.classifier(firewall)

    def find(packet: Packet) -> _Found:
        rule = classifier.find(packet)
        return _Found(rule, rule is None or classifier.rules[rule].allow)

    return find


# ------------------------------------------------------------------------------------------- policies


def _changed_policies(before: Scene, after: Scene) -> list[NetworkPolicy]:
    """Both versions of every policy that is not the same in both states."""
    old, new = (scene.cluster.engine.rows(NETWORK_POLICY) for scene in (before, after))
    names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [policy for key in names for policy in (old.get(key), new.get(key)) if policy is not None]


def _is_about(policy: NetworkPolicy, direction: Direction) -> bool:
    return policy.is_egress if direction == "Egress" else policy.is_ingress


def _rules(policy: NetworkPolicy, direction: Direction) -> tuple[PolicyRule, ...]:
    return policy.egress if direction == "Egress" else policy.ingress


def _blocks(policy: NetworkPolicy, direction: Direction) -> Iterator[Region]:
    """What a policy says of addresses outside: its blocks, what those leave out, and everything, which it denies."""
    if not _is_about(policy, direction):
        return
    yield Region(False, tuple(ANYWHERE.values()), ())
    for rule in _rules(policy, direction):
        ports = tuple(sorted({FirewallPort(each.protocol, at) for each in rule.ports for at in _numbers(each)}))
        cut: list[Cidr] = []
        for peer in rule.peers:
            if peer.block is not None:
                cut += [peer.block.cidr, *peer.block.excepts]
        yield Region(True, tuple(cut) if rule.peers else tuple(ANYWHERE.values()), ports)


def _numbers(port: PolicyPort) -> Iterator[int]:
    """Ports at which what a policy says changes; 0 stands for all."""
    if port.ports is None:
        yield 0
        return
    first, last = port.ports.first, port.ports.last
    yield from sorted({each for each in (first - 1, first, last, last + 1) if PORT_MIN <= each <= PORT_MAX})


def _ports_of(policies: list[NetworkPolicy], direction: Direction) -> list[tuple[Protocol, int | None]]:
    """Protocols and ports on which these policies could differ, between pods; none without a policy."""
    if not policies:
        return []
    found: set[tuple[Protocol, int]] = set()
    for policy in policies:
        for rule in _rules(policy, direction):
            for each in rule.ports:
                protocol: Protocol = "tcp" if each.protocol == "TCP" else "udp" if each.protocol == "UDP" else "sctp"
                found |= {(protocol, number or PORT_MAX) for number in _numbers(each)}
    asked: list[tuple[Protocol, int | None]] = [("icmp", None)]
    asked.extend(sorted(found | {("tcp", PORT_MAX)}))
    return asked
