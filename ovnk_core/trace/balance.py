"""Where a packet meets a Service, what becomes of it there, and one answer out of what becomes of it at each endpoint.

A pod's packet is balanced on its node's switch; everybody else's on the gateway router of the node that it enters by:
the one whose node port is asked, and for an address that every gateway answers to, any of them. A node asks its own
gateway, behind its masquerade address. Only the first packet of a connection is balanced: the others follow it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from ovnk_core.features.services.endpoints import Target
from ovnk_core.features.services.verdict import SHOWN, Balanced, Door, Side, judge
from ovnk_core.model.cluster import MASQUERADE
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.gateway import MASQUERADE_HOST
from ovnk_core.topology.place import NodePlace
from ovnk_core.trace.egress import uplink
from ovnk_core.trace.question import (
    Answer,
    BackendAnswer,
    LoadBalancing,
    PathKind,
    Question,
    RouterAnswer,
    Step,
    Verdict,
)
from ovnk_core.trace.scene import End, Ends, Scene

STAGE = "load-balancer"


class Meeting(Value, frozen=True, kw_only=True):
    """A packet at a ``door``, on the switch or the gateway of a node. ``asker``: who sent it; ``source``: as whom it
    comes there."""

    door: Door
    asker: End
    source: End
    side: Side
    place: NodePlace
    balanced: Balanced

    @property
    def is_of_host(self) -> bool:
        """Whether a node asks its own gateway."""
        return self.asker.kind == "node" and self.asker.node == self.place.name


class Outcome(Value, frozen=True, kw_only=True):
    """What happens after one meeting; ``target`` None: nobody was chosen, ``answer`` says why."""

    meeting: Meeting
    target: Target | None
    answer: Answer


def meetings(scene: Scene, question: Question, ends: Ends) -> tuple[Meeting, ...]:
    """Where a packet meets a Service first: one place, or any of several. Empty: nowhere."""
    source, target = ends.source, ends.target
    if question.state != "new" or source.kind == "windows" or scene.bypass(ends) is not None:
        return ()
    if source.kind == "pod":
        place = scene.places[source.node]
        found = _meeting(scene, question, ends, source=source, place=place)
        return (found,) if found is not None else ()
    if source.kind == "node":
        # A host that asks another node's port goes there by itself, under its own address.
        is_away = target.kind == "node" and target.node != source.node
        entries = [scene.places[target.node if is_away else source.node]]
        own = MASQUERADE[target.address.family].at(MASQUERADE_HOST)
        outer = uplink(scene.places[source.node], target.address.family)
        away = outer.address if outer is not None else source.address
        seen = End(kind="external", address=away if is_away else own, label=source.label)
    else:
        entries = [scene.places[target.node]] if target.kind == "node" else list(scene.places.values())
        seen = source
    gateways = sorted((place for place in entries if place.has_gateway), key=lambda place: place.name)
    found_at = (_meeting(scene, question, ends, source=seen, place=each) for each in gateways)
    return tuple(each for each in found_at if each is not None)


def beyond(scene: Scene, question: Question, ends: Ends) -> tuple[Meeting, ...]:
    """Where a pod's packet that left for another node's address meets that node's port."""
    source, target = ends.source, ends.target
    if question.state != "new" or source.kind != "pod" or target.kind != "node" or target.node == source.node:
        return ()
    if scene.bypass(ends) is not None:
        return ()
    place, outer = scene.places[target.node], uplink(scene.places[source.node], target.address.family)
    if outer is None or not place.has_gateway or target.address in place.management:
        return ()
    seen = End(kind="external", address=outer.address, label=source.label)
    found = _meeting(scene, question, ends, source=seen, place=place)
    return (found,) if found is not None else ()


def _meeting(scene: Scene, question: Question, ends: Ends, *, source: End, place: NodePlace) -> Meeting | None:
    """On the switch of ``place`` if ``source`` is a pod, else on its gateway."""
    door = scene.doors.at(question, ends.target.address, place.hosts)
    if door is None:
        return None
    side: Side = "switch" if source.kind == "pod" else "gateway"
    balanced = judge(door, scene.doors.backends(door.service), side, place.name)
    return Meeting(door=door, asker=ends.source, source=source, side=side, place=place, balanced=balanced)


def chosen_end(scene: Scene, meeting: Meeting, target: Target) -> Ends:
    """The ends of a packet after an endpoint was chosen for it."""
    chosen = scene.end_of_address(target.address, meeting.place.name)
    return Ends(source=meeting.source, target=chosen, is_chosen=True, asker=meeting.asker)


def balancing_step(scene: Scene, meeting: Meeting) -> Step:
    """What the Service decides at one place."""
    key = meeting.door.service.key
    ref = ObjectRef("Service", key.namespace, key.name)
    where = scene.cluster.sources.get(ref)
    return Step(
        stage=STAGE,
        verdict="allow" if meeting.balanced.targets else "reject",
        text=meeting.balanced.text,
        object=ref,
        source=str(where) if where is not None else "",
    )


def rejected(meeting: Meeting) -> Outcome:
    """A connection that nobody is there for."""
    reason = meeting.balanced.text
    path: PathKind = "same-node" if meeting.side == "switch" else "host" if meeting.is_of_host else "external"
    answer = Answer(verdict="reject", reason=reason, path=path)
    return Outcome(meeting=meeting, target=None, answer=answer)


def combined(scene: Scene, outcomes: tuple[Outcome, ...], before: Answer | None = None) -> Answer:
    """One answer for a connection that may be any of the outcomes. ``before``: what it passed on its way there.

    With one outcome its way is the answer's. With several that differ the verdict is mixed; steps are those of all.
    """
    verdicts = {each.answer.verdict for each in outcomes}
    verdict: Verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
    first = outcomes[0]
    balancing = _listed(scene, verdict, outcomes)
    decided = (balancing_step(scene, each.meeting) for each in outcomes)
    steps = (*(before.steps if before else ()), *decided, *(step for each in outcomes for step in each.answer.steps))
    if len(outcomes) == 1:
        legs = (*(before.legs if before else ()), *first.answer.legs)
    else:
        legs = before.legs if before else ()
    incomplete = (
        *(before.incomplete if before else ()),
        *(name for each in outcomes for name in each.answer.incomplete),
    )
    return Answer(
        verdict=verdict,
        reason=_reason(verdict, outcomes),
        path=before.path if before else first.answer.path,
        legs=legs,
        steps=tuple(dict.fromkeys(steps)),
        incomplete=tuple(dict.fromkeys(incomplete)),
        load_balancer=balancing,
        egress=first.answer.egress if len({each.answer.egress for each in outcomes}) == 1 else None,
        egress_router=_router(outcomes),
    )


def _router(outcomes: tuple[Outcome, ...]) -> RouterAnswer | None:
    """The egress router that sends the connection on, if it is the same whoever is chosen."""
    found = {each.answer.egress_router for each in outcomes}
    return found.pop() if len(found) == 1 else None


def _listed(scene: Scene, verdict: Verdict, outcomes: tuple[Outcome, ...]) -> LoadBalancing:
    door = outcomes[0].meeting.door
    reached = {str(each.target) for each in outcomes if each.target is not None}
    return LoadBalancing(
        vip=str(door.vip),
        service=door.service.key,
        backends=tuple(_backend(scene, each) for each in outcomes) if reached else (),
        chosen=reached.pop() if len(reached) == 1 and verdict != "mixed" else "",
    )


def _backend(scene: Scene, each: Outcome) -> BackendAnswer:
    place = each.meeting.place.name
    end = scene.end_of_address(each.target.address, place) if each.target is not None else None
    return BackendAnswer(
        target=str(each.target) if each.target is not None else "",
        verdict=each.answer.verdict,
        reason=each.answer.reason,
        path=each.answer.path,
        pod=end.endpoint.key if end is not None and end.endpoint is not None else None,
        node=end.node if end is not None else "",
        entry=place if each.meeting.side == "gateway" else "",
    )


def _reason(verdict: Verdict, outcomes: tuple[Outcome, ...]) -> str:
    """What the Service says, and what follows from it; where that differs, for which endpoints. Its length does not
    grow with their number: the first few are named, the rest is counted."""
    heads = tuple(_heads(outcomes))
    if verdict == "reject":
        return "; ".join(heads)
    reached = [each for each in outcomes if each.target is not None] or list(outcomes)
    groups: dict[tuple[Verdict, str], list[str]] = {}
    for each in reached:
        groups.setdefault((each.answer.verdict, each.answer.reason), []).append(_who(each))
    if len(groups) == 1 and len(reached) == len(outcomes):
        return "; ".join((*heads, reached[0].answer.reason))
    named, rest = list(groups.items())[:SHOWN], list(groups.items())[SHOWN:]
    lines = [f"{_some(names)}: {judged}, {reason}" for (judged, reason), names in named]
    if rest:
        counted: Counter[str] = Counter()
        for (judged, _), names in rest:
            counted[judged] += len(names)
        lines.append(f"{counted.total()} more: " + ", ".join(f"{count} {word}" for word, count in counted.items()))
    return "; ".join((*heads, *lines))


def _heads(outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    """The sentence of the Service, for each gateway that has one of its own."""
    found = {each.meeting.balanced.text: bool(each.meeting.balanced.targets) for each in outcomes}
    yield from list(found)[:SHOWN]
    rest = list(found.values())[SHOWN:]
    if rest:
        yield f"{len(rest)} more gateways, {sum(rest)} of which have endpoints"


def _who(each: Outcome) -> str:
    target = str(each.target) if each.target is not None else "nobody"
    return target + (f" by the gateway of {each.meeting.place.name}" if each.meeting.side == "gateway" else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def unserved(scene: Scene, question: Question, ends: Ends, found: Answer) -> Answer:
    """The answer for a new connection that no Service takes, which says so where the address is one of Services."""
    address = ends.target.address
    if question.state != "new" or not any(each.contains(address) for each in scene.network.service):
        return found
    owner = scene.doors.owner(address)
    text = f"no Service has the address {address}" if owner is None else scene.doors.served_text(owner)
    ref = ObjectRef("Service", owner.namespace, owner.name) if owner is not None else None
    step = Step(stage=STAGE, verdict=found.verdict, text=text, object=ref)
    return replace(found, reason=f"{text}; {found.reason}", steps=(step, *found.steps))


def onward(question: Question, target: Target) -> Question:
    """The question as it goes on after balancing."""
    return replace(question, target=target.address, port=target.port)
