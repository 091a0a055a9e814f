"""What becomes of connections from pods to a Service's port, put together from what becomes of them at each endpoint.

A pod that is an endpoint is judged by its class, as any pair of pods is. Any other endpoint is asked of the trace, once
for each class of pods on a node: which way a packet leaves depends on the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ovnk_core.analysis.likeness import Classes, Judged
from ovnk_core.features.services.endpoints import Target
from ovnk_core.features.services.verdict import Balanced, Door, judge
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.trace import intent
from ovnk_core.trace.balance import Meeting
from ovnk_core.trace.question import Question, QuestionError, ServiceTarget
from ovnk_core.trace.scene import Scene

Families = tuple[Family, ...]


class Choice(NamedTuple):
    """Endpoints that a pod's connection may be sent to; ``pods``: those of them that are pods. ``is_of_node``: pods of
    other nodes may fare otherwise."""

    door: Door
    targets: tuple[Target, ...]
    pods: frozenset[NamespacedName]
    is_of_node: bool


class _Port:
    """One port of a Service, as pods of each family and node meet it."""

    def __init__(self, scene: Scene, target: ServiceTarget, protocol: Protocol) -> None:
        self._scene, self._target, self._protocol = scene, target, protocol
        self._doors: dict[Families, Door | None] = {}
        self._choices: dict[tuple[Families, str], Choice] = {}

    def choice(self, pod: Endpoint) -> Choice | None:
        """None: no load balancer is asked."""
        families = _families(pod)
        if families not in self._doors:
            self._doors[families] = self._door(pod)
        door = self._doors[families]
        if door is None:
            return None
        if (families, pod.node) not in self._choices:
            self._choices[families, pod.node] = self._choose(door, pod.node)
        return self._choices[families, pod.node]

    def _choose(self, door: Door, node: str) -> Choice:
        targets = judge(door, self._scene.doors.backends(door.service), "switch", node).targets
        found = [self._scene.by_address.get(each.address) for each in targets]
        return Choice(
            door=door,
            targets=targets,
            pods=frozenset(pod.key for pod in found if pod is not None),
            is_of_node=door.service.internal_policy == "Local" or None in found,
        )

    def _door(self, pod: Endpoint) -> Door | None:
        try:
            question = self._scene.resolved(self._question(pod))
        except QuestionError:
            return None
        address = question.target
        assert isinstance(address, Address), "resolved"
        return self._scene.doors.at(question, address, ())

    def asked(self, pod: Endpoint) -> str:
        """The verdict where no load balancer is asked."""
        try:
            return intent.answer(self._scene, self._question(pod)).verdict
        except QuestionError:
            return "none"

    def _question(self, pod: Endpoint) -> Question:
        return Question(source=pod.key, target=self._target, protocol=self._protocol)


def _families(pod: Endpoint) -> Families:
    return tuple(address.family for address in pod.addresses)


class ServiceCells:
    """Cells of a matrix. Cost: one judgement for each class, endpoint and port, and one trace for each class on a node
    and endpoint that is no pod's."""

    def __init__(self, scene: Scene, classes: Classes, protocol: Protocol) -> None:
        self._scene, self._classes, self._protocol = scene, classes, protocol
        self._judged: dict[int, Judged] = {}
        self._traced: dict[tuple[int, str, Target], str] = {}

    def column(self, target: ServiceTarget, pods: Iterable[NamespacedName]) -> list[str]:
        """Verdicts from each pod to one port of a Service: ``mixed`` where endpoints differ, ``reject`` where there are
        none, ``none`` where pod and Service share no address family."""
        port = _Port(self._scene, target, self._protocol)
        known: dict[tuple[int, Families, str], str] = {}
        found = []
        for key in pods:
            pod = self._scene.endpoints[key]
            choice = port.choice(pod)
            if choice is None:
                found.append(port.asked(pod))
            elif key in choice.pods:
                found.append(self._cell(pod, choice))  # It may be sent to itself, as no other pod of its class is.
            else:
                node = pod.node if choice.is_of_node else ""
                like = (self._classes.of[key], _families(pod), node)
                if like not in known:
                    known[like] = self._cell(pod, choice)
                found.append(known[like])
        return found

    def _cell(self, pod: Endpoint, choice: Choice) -> str:
        verdicts = set(self._verdicts(pod, choice))
        if not verdicts:
            return "reject"
        return verdicts.pop() if len(verdicts) == 1 else "mixed"

    def _verdicts(self, pod: Endpoint, choice: Choice) -> Iterator[str]:
        of = self._classes.of
        for each in choice.targets:
            other = self._scene.by_address.get(each.address)
            if other is pod:
                yield "allow"
            elif other is not None:
                passes = self._at_port(each.port).passes(of[pod.key], of[other.key], each.address.family)
                yield "allow" if passes else "drop"
            else:
                key = (of[pod.key], pod.node, each)
                if key not in self._traced:
                    self._traced[key] = self._trace(pod, choice, each)
                yield self._traced[key]

    def _at_port(self, port: int) -> Judged:
        if port not in self._judged:
            self._judged[port] = Judged(self._scene, self._classes.samples, self._protocol, port)
        return self._judged[port]

    def _trace(self, pod: Endpoint, choice: Choice, target: Target) -> str:
        """What becomes of a connection that is sent to an endpoint which is no pod."""
        door, address = choice.door, pod.address(target.address.family)
        assert address is not None, "the pod has an address of the Service's family"
        source = self._scene.end_of_address(address, pod.node)
        meeting = Meeting(
            door=door,
            asker=source,
            source=source,
            side="switch",
            place=self._scene.places[pod.node],
            balanced=Balanced(targets=(target,), keeps_source=False, text=""),
        )
        question = Question(source=pod.key, target=door.vip.address, protocol=self._protocol, port=door.vip.port)
        (found,) = intent.outcomes(self._scene, question, (meeting,), None)
        return found.answer.verdict
