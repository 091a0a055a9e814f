"""The answer from the objects: each room says what its objects mean for this packet, in the order a packet meets them.

Order of a pod's packet: NetworkPolicy egress at the source, the egress firewall where it would leave the cluster,
egress IPs, the way, NetworkPolicy ingress at the target. Traffic between a pod and its own node is exempt from
policies, though not from the firewall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from ovnk_core.features.egress_firewall.compile import rules_in_force
from ovnk_core.features.egress_firewall.verdict import Find, first_match, is_subject
from ovnk_core.features.egress_firewall.verdict import Judgement as FirewallJudgement
from ovnk_core.features.egress_firewall.verdict import Packet as FirewallPacket
from ovnk_core.features.egress_firewall.verdict import judge as judge_firewall
from ovnk_core.features.network_policy.verdict import Direction, Judgement, judge
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.balance import Meeting, Outcome, beyond, chosen_end, combined, meetings, onward, rejected, unserved
from ovnk_core.trace.egress import host_egress, met_outside
from ovnk_core.trace.entering import way_after
from ovnk_core.trace.group import answer_by_objects, is_followed
from ovnk_core.trace.protection import protected
from ovnk_core.trace.question import Answer, Egress, Question, Step, Verdict
from ovnk_core.trace.router import forwarded
from ovnk_core.trace.scene import End, Ends, Scene
from ovnk_core.trace.way import Way, find_way, incomplete

FindRule = Callable[[EgressFirewall], Find]
"""How the first matching rule of a firewall is found: by going through them, or by a compiled classifier."""


def answer(scene: Scene, question: Question, find_rule: FindRule | None = None) -> Answer:
    """One question. Raises QuestionError when an end cannot be placed."""
    question = scene.resolved(question)
    ends = scene.ends(question)
    met = meetings(scene, question, ends)
    if met:
        return combined(scene, outcomes(scene, question, met, find_rule))
    way = find_way(scene, ends, question)
    found = forwarded(scene, question, ends, _carry(scene, question, ends, way, find_rule), way=way)
    if found.verdict == "allow" and (met := beyond(scene, question, ends)):
        return combined(scene, outcomes(scene, question, met, find_rule), found)
    return unserved(scene, question, ends, found)


def outcomes(
    scene: Scene, question: Question, met: tuple[Meeting, ...], find_rule: FindRule | None
) -> tuple[Outcome, ...]:
    """What happens at every endpoint that may be chosen, wherever the packet is balanced."""
    found: list[Outcome] = []
    for meeting in met:
        if not meeting.balanced.targets:
            found.append(rejected(meeting))
        for target in meeting.balanced.targets:
            ends, then = chosen_end(scene, meeting, target), onward(question, target)
            way = way_after(scene, meeting, ends)
            answered = forwarded(scene, then, ends, _carry(scene, then, ends, way, find_rule), way=way)
            found.append(Outcome(meeting=meeting, target=target, answer=answered))
    return tuple(found)


def _carry(scene: Scene, question: Question, ends: Ends, way: Way, find_rule: FindRule | None) -> Answer:
    """What becomes of a packet that is not balanced, or not any more."""
    steps: list[Step] = []
    if is_followed(ends):
        found = answer_by_objects(scene, ends, lambda *about: _policy_step(scene, question, *about))
        notes = (way.selected.step,) if way.selected is not None else ()
        return replace(found, steps=(*found.steps, *notes), incomplete=incomplete(scene, ends, way))
    if way.is_hairpin or not way.passes_ovn or (question.state == "reply" and way.step.verdict == "drop"):
        return _close(scene, ends, way, [way.step], way.step.verdict == "allow", way.step.text)
    if question.state == "reply":
        steps += [way.selected.step] if way.selected is not None else []
        way = replace(way, egress=None)
        return _close(scene, ends, way, steps, True, "a reply of an allowed connection passes")
    for step in _at_sender(scene, question, ends, find_rule):
        steps.append(step)
        if step.verdict == "drop":
            # It never leaves the sender's switch.
            return _close(scene, ends, replace(way, legs=()), steps, False, step.text)
    steps += [way.selected.step] if way.selected is not None else []
    steps.append(way.step)
    beside = met_outside(scene, ends.target)
    steps += [beside] if beside is not None else []
    if way.step.verdict == "drop":
        return _close(scene, ends, way, steps, False, way.step.text)
    source = replace(ends.source, address=way.arrives_from) if way.arrives_from else ends.source
    ingress = _policy_step(scene, question, "Ingress", ends.target, source)
    if ingress is not None:
        steps.append(ingress)
        if ingress.verdict == "drop":
            return _close(scene, ends, way, steps, False, ingress.text)
    return _close(scene, ends, way, steps, True, _why_allowed(way, steps))


def _at_sender(scene: Scene, question: Question, ends: Ends, find_rule: FindRule | None) -> Iterator[Step]:
    """Who judges a packet before it leaves its sender's switch, in turn."""
    if (step := _policy_step(scene, question, "Egress", ends.source, ends.target)) is not None:
        yield step
    if (step := _firewall_step(scene, question, ends, find_rule)) is not None:
        yield step


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


def _firewall_step(scene: Scene, question: Question, ends: Ends, find_rule: FindRule | None) -> Step | None:
    """What the namespace's egress firewall says; None where there is none, or the packet is none of its business."""
    source, target = ends.source, ends.target
    if source.endpoint is None or not is_subject(scene.network, target.address):
        return None
    firewall = scene.firewall(source.endpoint.key.namespace)
    place = scene.places.get(source.node)
    packet = FirewallPacket(target=target.address, protocol=question.protocol, port=question.port)
    if firewall is None:
        return None
    rules = rules_in_force(firewall)
    find = find_rule(firewall) if find_rule is not None else lambda asked: first_match(rules, asked, scene)
    return firewall_step(scene, "egress-firewall", firewall, judge_firewall(firewall, place, packet, scene, find))


def firewall_step(scene: Scene, stage: str, firewall: EgressFirewall, found: FirewallJudgement) -> Step:
    """A firewall's judgement as a step."""
    return _written(scene, stage, ObjectRef("EgressFirewall", firewall.namespace, firewall.name), "egress", found)


def policy_step(scene: Scene, stage: str, direction: Direction, found: Judgement) -> Step:
    """A policy's judgement as a step."""
    if found.policy is None:
        return Step(stage=stage, verdict="allow", text=found.text)
    ref = ObjectRef("NetworkPolicy", found.policy.namespace, found.policy.name)
    return _written(scene, stage, ref, direction.lower(), found)


def _written(scene: Scene, stage: str, ref: ObjectRef, rules: str, found: Judgement | FirewallJudgement) -> Step:
    """A judgement with the place that its rule is written at; of a version that is no longer written anywhere, because
    a newer one was refused, with the place of that."""
    refused, where = scene.cluster.refused.get(ref), scene.cluster.sources.get(ref)
    path = () if found.rule is None else ("spec", rules, found.rule)
    source = refused.source if refused is not None else where.at(*path) if where is not None else ""
    old = "; a newer version is refused, so the last accepted one stays in force"
    return Step(
        stage=stage,
        verdict="allow" if found.allowed else "drop",
        text=found.text + (old if refused is not None and found.rule is not None else ""),
        object=ref,
        rule=found.rule,
        source=source,
    )


def _why_allowed(way: Way, steps: list[Step]) -> str:
    """What decided; that an egress IP is not used decides nothing."""
    unused = way.selected.step if way.selected is not None and not way.selected.exits else None
    deciding = [step for step in steps if step is not unused]
    telling = [step.text for step in deciding if step.object is not None] or [step.text for step in deciding]
    return "; ".join(telling)


def _close(scene: Scene, ends: Ends, way: Way, steps: list[Step], allowed: bool, reason: str) -> Answer:
    verdict: Verdict = "drop"
    if allowed:
        verdict = "mixed" if way.step.verdict == "mixed" else "allow"
    is_outward = way.path == "external" and ends.source.endpoint is not None
    egress = way.egress if allowed else None
    return Answer(
        verdict=verdict,
        egress=(egress or Egress()) if is_outward else host_egress(scene, ends) if allowed else None,
        reason=reason,
        path=way.path,
        legs=protected(scene, ends, way.legs, entry=way.entry),
        steps=tuple(steps),
        incomplete=incomplete(scene, ends, way),
    )
