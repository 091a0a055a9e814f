"""Who may talk to whom: every pair of pods on one port, and every pod and Service."""

from __future__ import annotations

from collections.abc import Callable

from ovnk_core.analysis.likeness import Classes, Judged
from ovnk_core.analysis.service_cells import ServiceCells
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Protocol
from ovnk_core.terms.struct import Value
from ovnk_core.trace.question import ServiceTarget
from ovnk_core.trace.scene import Scene


class Matrix(Value, frozen=True, kw_only=True):
    """``verdicts[i][j]``: from ``sources[i]`` to ``targets[j]``, or past these to ``services[j - len(targets)]``;
    ``self`` on a pod and itself, ``none`` where the two share no address family."""

    sources: tuple[NamespacedName, ...]
    targets: tuple[NamespacedName, ...]
    verdicts: tuple[tuple[str, ...], ...]
    services: tuple[ServiceTarget, ...] = ()


def matrix(
    scene: Scene,
    *,
    protocol: Protocol,
    port: int | None,
    namespace: str | None = None,
    sees: Callable[[ObjectRef], bool] | None = None,
    has_services: bool = False,
) -> Matrix:
    """All pods with an address, or those of one namespace or that ``sees`` holds for, against each other, as new
    connections. ``has_services``: also to every port of such Services, of the protocol and whatever its number.

    Cost: O(pods squared) look-ups and O(distinct sets of isolating policies x classes of pods) judgements; with
    Services O(pods x ports) look-ups more, and what ``ServiceCells`` says.
    """

    def is_wanted(kind: str, key: NamespacedName) -> bool:
        return namespace in (None, key.namespace) and (sees is None or sees(ObjectRef(kind, key.namespace, key.name)))

    pods = tuple(sorted(key for key in scene.endpoints if is_wanted("Pod", key)))
    offered = scene.doors.ports(protocol) if has_services else ()
    services = tuple(each for each in offered if is_wanted("Service", each.service))
    # The endpoints of a Service may be anybody's.
    classes = Classes(scene, scene.endpoints.values() if services else (scene.endpoints[key] for key in pods))
    judged = Judged(scene, classes.samples, protocol, port)
    numbers = [classes.of[key] for key in pods]
    rows = {source: {to: judged.verdict(source, to) for to in set(numbers)} for source in set(numbers)}
    cells = ServiceCells(scene, classes, protocol)
    columns = [cells.column(each, pods) for each in services]
    verdicts = []
    for at, number in enumerate(numbers):
        row = rows[number]
        found = [row[each] for each in numbers]
        found[at] = "self"
        verdicts.append((*found, *(column[at] for column in columns)))
    return Matrix(sources=pods, targets=pods, services=services, verdicts=tuple(verdicts))
