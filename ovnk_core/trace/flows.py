"""The answer from the logical flows: what OVN would do with the packet.

A packet that a load balancer may send to several endpoints is walked once for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from ovnk_core.features.services.endpoints import Target
from ovnk_core.flows.table import FlowTable
from ovnk_core.terms.address import parse_address
from ovnk_core.trace.balance import Meeting, Outcome, beyond, chosen_end, combined, meetings, onward, rejected, unserved
from ovnk_core.trace.egress import host_egress
from ovnk_core.trace.entering import way_after
from ovnk_core.trace.flow_index import FlowIndex
from ovnk_core.trace.group import is_followed
from ovnk_core.trace.group_flows import answer_by_flows
from ovnk_core.trace.protection import protected
from ovnk_core.trace.question import Answer, Egress, Question, Verdict
from ovnk_core.trace.router import forwarded
from ovnk_core.trace.scene import Ends, Scene
from ovnk_core.trace.walk import Walk
from ovnk_core.trace.way import Way, find_way, incomplete

Walked = tuple[Walk, bool]


class FlowTracer:
    """Executes flows for many questions; made anew when the flow table has moved on."""

    def __init__(self, scene: Scene, table: FlowTable) -> None:
        self.scene, self.revision = scene, table.revision
        self.index = FlowIndex(scene, table)

    def answer(self, question: Question) -> Answer:
        """One question. Raises QuestionError when an end cannot be placed."""
        scene = self.scene
        question = scene.resolved(question)
        ends = scene.ends(question)
        met = meetings(scene, question, ends)
        if met:
            return combined(scene, tuple(each for one in met for each in self._outcomes(question, one, ends)))
        found = self._carry(question, ends)
        if found.verdict == "allow" and (met := beyond(scene, question, ends)):
            return combined(scene, tuple(each for one in met for each in self._outcomes(question, one, ends)), found)
        return unserved(scene, question, ends, found)

    def _carry(self, question: Question, ends: Ends) -> Answer:
        """A packet that is not balanced."""
        way = find_way(self.scene, ends, question)
        if is_followed(ends):
            walk = Walk(self.index, question, ends)
            found = answer_by_flows(self.index, ends, walk.header, walk.sender_step)
            return replace(found, incomplete=incomplete(self.scene, ends, way))
        if way.passes_ovn:
            walked = self._walked(question, ends)
        else:
            walked = [(Walk(self.index, question, ends), way.step.verdict == "allow")]
        return forwarded(self.scene, question, ends, self._closed(walked, ends, way), way=way)

    def _walked(self, question: Question, ends: Ends, entry: str = "", pick: Target | None = None) -> list[Walked]:
        """A packet's walk, and whether it arrives; one walk for each next hop that a router policy may draw."""
        first = Walk(self.index, question, ends, entry=entry, pick=pick)
        found = [(first, first.run())]
        for draw in range(2, first.choices + 1):
            walk = Walk(self.index, question, ends, entry=entry, pick=pick, draw=draw)
            found.append((walk, walk.run()))
        return found

    def _outcomes(self, question: Question, meeting: Meeting, ends: Ends) -> Iterator[Outcome]:
        """What the flows do where the objects say that a Service is met."""
        entry = meeting.place.name if meeting.side == "gateway" else ""
        before = Ends(source=meeting.source, target=ends.target)
        first = Walk(self.index, question, before, entry=entry)
        is_through = first.run()
        if first.offered is None:
            # Nothing was balanced: the objects and the flows disagree, which the comparison of their answers shows.
            way = find_way(self.scene, ends)
            yield Outcome(meeting=meeting, target=None, answer=self._closed([(first, is_through)], ends, way))
            return
        found = tuple(_as_stated(meeting, each) for each in first.offered)
        meeting = replace(meeting, balanced=replace(meeting.balanced, targets=found))
        if not found:
            yield rejected(meeting)
        for stated, pick in sorted(zip(found, first.offered, strict=True)):
            after = chosen_end(self.scene, meeting, stated)
            way = way_after(self.scene, meeting, after)
            answer = self._closed(self._walked(question, before, entry, pick), after, way)
            answer = forwarded(self.scene, onward(question, stated), after, answer, way=way)
            yield Outcome(meeting=meeting, target=stated, answer=answer)

    def _closed(self, walked: list[Walked], ends: Ends, way: Way) -> Answer:
        arriving = [walk for walk, arrives in walked if arrives]
        verdict: Verdict = "drop" if not arriving else "allow" if len(arriving) == len(walked) else "mixed"
        has_left = bool(arriving) or any(walk.has_left for walk, _ in walked)
        steps = tuple(dict.fromkeys(step for walk, _ in walked for step in walk.steps))
        egress = host_egress(self.scene, ends) if arriving else None
        if way.path == "external" and ends.source.endpoint is not None:
            out = [walk.egress for walk in arriving if walk.question.state != "reply"]
            found = (candidate for each in out for candidate in each.candidates)
            candidates = tuple(sorted(found, key=lambda each: parse_address(each.source_ip)))
            egress = Egress(egressip=out[0].egressip if out else None, candidates=candidates)
        return Answer(
            verdict=verdict,
            reason=steps[-1].text if steps else way.step.text,
            path=way.path,
            legs=protected(self.scene, ends, way.legs, entry=way.entry) if has_left else (),
            egress=egress,
            steps=steps,
            incomplete=incomplete(self.scene, ends, way),
        )


def _as_stated(meeting: Meeting, offered: Target) -> Target:
    """The endpoint as its slice states it: a gateway reaches its own node by another address."""
    own = (each for each in meeting.balanced.targets if each.address in meeting.place.hosts)
    is_stated = offered in meeting.balanced.targets or meeting.side == "switch"
    return offered if is_stated else next((each for each in own if each.port == offered.port), offered)
