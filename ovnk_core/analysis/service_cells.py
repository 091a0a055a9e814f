"""What becomes of connections from pods to a Service's port, put together from what becomes of them at each endpoint.

A pod that is an endpoint is judged by its class, as any pair of pods is. Any other endpoint is asked of the trace, once
for each class of pods on a node: which way a packet leaves depends on the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovnk_core.analysis.likeness import Classes, Judged
from ovnk_core.features.services.endpoints import Target
from ovnk_core.features.services.verdict import Balanced, Door, judge
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.terms.address import Family
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.trace.question import Question, QuestionError, ServiceTarget
from ovnk_core.trace.scene import Scene

Families = tuple[Family, ...]


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
        doors: dict[Families, Door | None] = {}
        balanced: dict[tuple[Families, str], Balanced] = {}
        known: dict[tuple[int, Families, str], str] = {}
        found = []
        for key in pods:
            pod = self._scene.endpoints[key]
            families = tuple(address.family for address in pod.addresses)
            if families not in doors:
                doors[families] = self._door(target, pod, families)
            door = doors[families]
            if door is None:
                found.append("none")
                continue
            at = (families, pod.node)
            if at not in balanced:
                backends = self._scene.doors.backends(door.service)
                balanced[at] = judge(door, backends, "switch", pod.node)
            chosen = balanced[at].targets
            if self._turns_round(pod, chosen):
                found.append(self._cell(pod, door, chosen))
                continue
            node = pod.node if self._depends_on_node(door, chosen) else ""
            like = (self._classes.of[key], families, node)
            if like not in known:
                known[like] = self._cell(pod, door, chosen)
            found.append(known[like])
        return found

    def _door(self, target: ServiceTarget, pod: Endpoint, families: Families) -> Door | None:
        asked = Question(source=pod.key, target=target, protocol=self._protocol)
        try:
            question = self._scene.resolved(asked)
        except QuestionError:
            return None
        return self._scene.doors.named(question)

    def _turns_round(self, pod: Endpoint, chosen: Iterable[Target]) -> bool:
        return any(self._scene.by_address.get(each.address) is pod for each in chosen)

    def _depends_on_node(self, door: Door, chosen: Iterable[Target]) -> bool:
        is_local = door.service.internal_policy == "Local"
        return is_local or any(each.address not in self._scene.by_address for each in chosen)

    def _cell(self, pod: Endpoint, door: Door, chosen: tuple[Target, ...]) -> str:
        verdicts = set(self._verdicts(pod, door, chosen))
        if not verdicts:
            return "reject"
        return verdicts.pop() if len(verdicts) == 1 else "mixed"

    def _verdicts(self, pod: Endpoint, door: Door, chosen: Iterable[Target]) -> Iterator[str]:
        of = self._classes.of
        for each in chosen:
            other = self._scene.by_address.get(each.address)
            if other is pod:
                yield "allow"
            elif other is not None:
                passes = self._at_port(each.port).passes(of[pod.key], of[other.key], each.address.family)
                yield "allow" if passes else "drop"
            else:
                yield self._elsewhere(pod, door, each)

    def _at_port(self, port: int) -> Judged:
        if port not in self._judged:
            self._judged[port] = Judged(self._scene, self._classes.samples, self._protocol, port)
        return self._judged[port]

    def _elsewhere(self, pod: Endpoint, door: Door, target: Target) -> str:
        key = (self._classes.of[pod.key], pod.node, target)
        if key not in self._traced:
            self._traced[key] = self._trace(pod, door, target)
        return self._traced[key]
