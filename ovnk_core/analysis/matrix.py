"""Who may talk to whom: every pair of pods on one port."""

from __future__ import annotations

from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.terms.struct import Value
from ovnk_core.trace import intent
from ovnk_core.trace.question import Question, QuestionError
from ovnk_core.trace.scene import Scene


class Matrix(Value, frozen=True, kw_only=True):
    """``verdicts[i][j]``: from ``sources[i]`` to ``targets[j]``; ``self`` on a pod and itself, ``none`` where the two
    share no address family."""

    sources: tuple[NamespacedName, ...]
    targets: tuple[NamespacedName, ...]
    verdicts: tuple[tuple[str, ...], ...]


def matrix(scene: Scene, *, protocol: Protocol, port: int | None, namespace: str | None = None) -> Matrix:
    """All pods with an address, or those of one namespace, against each other. Cost: pods squared."""
    pods = tuple(sorted(key for key in scene.endpoints if namespace is None or key.namespace == namespace))
    verdicts = tuple(tuple(_verdict(scene, source, target, protocol, port) for target in pods) for source in pods)
    return Matrix(sources=pods, targets=pods, verdicts=verdicts)


def _verdict(scene: Scene, source: NamespacedName, target: NamespacedName, protocol: Protocol, port: int | None) -> str:
    if source == target:
        return "self"
    try:
        question = Question(source=source, target=target, protocol=protocol, port=port)
        return intent.answer(scene, question).verdict
    except QuestionError:
        return "none"
