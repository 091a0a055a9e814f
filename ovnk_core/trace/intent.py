"""The answer from the objects: each room says what its objects mean for this packet, in the order a packet meets them.

Order of a pod's packet: NetworkPolicy egress at the source, the way, NetworkPolicy ingress at the target. Traffic
between a pod and its own node is exempt from policies.
"""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.features.network_policy.verdict import Direction, Judgement, judge
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.question import Answer, Question, Step
from ovnk_core.trace.scene import End, Ends, Scene
from ovnk_core.trace.way import Way, find_way, incomplete


def answer(scene: Scene, question: Question) -> Answer:
    """One question. Raises QuestionError when an end cannot be placed."""
    ends = scene.ends(question)
    way = find_way(scene, ends)
    steps: list[Step] = []
    if not way.passes_ovn or (question.state == "reply" and way.step.verdict == "drop"):
        return _close(scene, ends, way, [way.step], way.step.verdict == "allow", way.step.text)
    if question.state == "reply":
        return _close(scene, ends, way, steps, True, "a reply of an allowed connection passes")
    egress = _policy_step(scene, question, "Egress", ends.source, ends.target)
    if egress is not None:
        steps.append(egress)
        if egress.verdict == "drop":
            return _close(scene, ends, way, steps, False, egress.text)
    steps.append(way.step)
    if way.step.verdict == "drop":
        return _close(scene, ends, way, steps, False, way.step.text)
    source = replace(ends.source, address=way.arrives_from) if way.arrives_from else ends.source
    ingress = _policy_step(scene, question, "Ingress", ends.target, source)
    if ingress is not None:
        steps.append(ingress)
        if ingress.verdict == "drop":
            return _close(scene, ends, way, steps, False, ingress.text)
    return _close(scene, ends, way, steps, True, _why_allowed(steps))


def _policy_step(scene: Scene, question: Question, direction: Direction, subject: End, peer: End) -> Step | None:
    """What NetworkPolicy says about one end; None when that end is no pod."""
    if subject.endpoint is None:
        return None
    stage = direction.lower()
    if peer.kind == "node" and peer.node == subject.node:
        text = f"traffic between {subject.endpoint.key} and its own node {subject.node} is always allowed"
        return Step(stage=stage, verdict="allow", text=text, object=ObjectRef("Node", "", subject.node))
    selecting = scene.isolating(subject.endpoint, direction)
    party = scene.party(peer)
    found = judge(selecting, direction, subject.endpoint, party, question.protocol, question.port)
    return policy_step(scene, stage, direction, found)


def policy_step(scene: Scene, stage: str, direction: Direction, found: Judgement) -> Step:
    """A judgement as a step, with the place its policy's rule is written at."""
    if found.policy is None:
        return Step(stage=stage, verdict="allow", text=found.text)
    ref = ObjectRef("NetworkPolicy", found.policy.namespace, found.policy.name)
    where = scene.cluster.sources.get(ref)
    path = () if found.rule is None else ("spec", direction.lower(), found.rule)
    return Step(
        stage=stage,
        verdict="allow" if found.allowed else "drop",
        text=found.text,
        object=ref,
        rule=found.rule,
        source=where.at(*path) if where is not None else "",
    )


def _why_allowed(steps: list[Step]) -> str:
    telling = [step.text for step in steps if step.object is not None] or [step.text for step in steps]
    return "; ".join(telling)


def _close(scene: Scene, ends: Ends, way: Way, steps: list[Step], allowed: bool, reason: str) -> Answer:
    return Answer(
        verdict="allow" if allowed else "drop",
        reason=reason,
        path=way.path,
        legs=way.legs,
        steps=tuple(steps),
        incomplete=incomplete(scene, ends, way),
    )
