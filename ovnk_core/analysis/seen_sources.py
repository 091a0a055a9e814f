"""As whom a server outside sees what pods send, where two states of a cluster differ in that.

Only pods that exist in both states are compared, and only by EgressIPs and their own nodes: whether a policy or a
firewall lets a connection out is what ``connections`` compares. Pods of a namespace that change alike are one entry.
"""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.features.egress_ip.rules import selection
from ovnk_core.features.egress_ip.verdict import precedence
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.indexes.selection import SELECTED
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION
from ovnk_core.terms.address import Family
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value
from ovnk_core.trace.egress import uplink
from ovnk_core.trace.question import Candidate, Egress
from ovnk_core.trace.scene import Scene


class SourceChange(Value, frozen=True, kw_only=True):
    """How what some pods send outside leaves, in either state; ``pod`` is one of the ``pods`` of ``namespace``."""

    namespace: str
    family: Family
    pods: int
    pod: NamespacedName
    before: Egress
    after: Egress


def compare_sources(before: Scene, after: Scene) -> tuple[SourceChange, ...]:
    """By namespace. Cost: O(pods that an EgressIP selects + pods)."""
    old, new = _Sources(before), _Sources(after)
    found: dict[tuple[object, ...], SourceChange] = {}
    for key in sorted(before.endpoints.keys() & after.endpoints.keys()):
        pods = before.endpoints[key], after.endpoints[key]
        for family in sorted({each.family for each in pods[0].addresses} & {each.family for each in pods[1].addresses}):
            was, now = old.leaving(pods[0], family), new.leaving(pods[1], family)
            if was == now:
                continue
            kind = (key.namespace, family, was, now)
            known = found.get(kind)
            found[kind] = (
                replace(known, pods=known.pods + 1)
                if known is not None
                else SourceChange(namespace=key.namespace, family=family, pods=1, pod=key, before=was, after=now)
            )
    return tuple(found.values())


class _Sources:
    """Of one state."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._items: dict[NamespacedName, str] = {}
        engine = scene.cluster.engine
        decided = engine.rows(EGRESS_IP_DECISION)
        items: list[EgressIP] = sorted(
            engine.rows(EGRESS_IP).values(), key=lambda each: precedence(each, decided.get(each.key))
        )
        for item in items:
            for pod in engine.members(SELECTED, selection(item)):
                self._items.setdefault(pod, item.name)
        self._known: dict[tuple[str | None, str, Family], Egress] = {}

    def leaving(self, pod: Endpoint, family: Family) -> Egress:
        """Nothing leaves: no candidates."""
        kind = self._items.get(pod.key), pod.node, family
        if pod.key in self._scene.routers:
            # What a router pod sends outside leaves past OVN.
            return Egress()
        if kind not in self._known:
            self._known[kind] = self._way(*kind)
        return self._known[kind]

    def _way(self, item: str | None, node: str, family: Family) -> Egress:
        place = self._scene.places.get(node)
        if place is None or not place.has_gateway:
            return Egress()
        if item is not None and (exits := self._scene.exits(item, family)):
            found = tuple(Candidate(node=each.node, source_ip=str(each.address)) for each in exits)
            return Egress(egressip=item, candidates=found)
        own = uplink(place, family)
        return Egress(candidates=() if own is None else (Candidate(node=node, source_ip=str(own.address)),))
