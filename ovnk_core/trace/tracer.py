"""One place to ask: from the objects, from compiled classifiers, from the flows, or from several, which must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from ovnk_core.errors import BugError
from ovnk_core.flows.table import FlowTable
from ovnk_core.trace import intent
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene

Engine = Literal["intent", "fast", "flows", "both", "all"]
"""``both``: intent and flows. ``all``: the three of them."""
ENGINES: tuple[Engine, ...] = get_args(Engine)


class Disagreement(BugError):
    """The two answers to one question differ: a bug of ours, never of the caller."""


class Tracer:
    """Answers questions about one state of a cluster. ``flows`` is called once, when the flows are first needed."""

    def __init__(self, scene: Scene, flows: Callable[[], FlowTable]) -> None:
        self.scene, self._table = scene, flows
        self._flows: FlowTracer | None = None
        self.fast = FastTracer(scene)

    def ask(self, question: Question, engine: Engine = "both") -> Answer:
        """One answer. Raises QuestionError, or Disagreement when several engines are asked and differ on verdict,
        path or deciding rule."""
        if engine == "fast":
            return self.fast.answer(question)
        if engine == "flows":
            return self._by_flows(question)
        by_objects = intent.answer(self.scene, question)
        if engine in ("both", "all"):
            _compare(question, by_objects, self._by_flows(question), "flows")
        if engine == "all":
            _compare(question, by_objects, self.fast.answer(question), "classifiers")
        return by_objects

    def _by_flows(self, question: Question) -> Answer:
        if self._flows is None:
            self._flows = FlowTracer(self.scene, self._table())
        return self._flows.answer(question)


def _compare(question: Question, one: Answer, other: Answer, name: str) -> None:
    if _gist(one) != _gist(other):
        raise Disagreement(
            f"{question.source} -> {question.target}: the objects say {one.verdict} ({one.reason}), "
            f"the {name} say {other.verdict} ({other.reason})"
        )


def _gist(answer: Answer) -> tuple[object, ...]:
    """What answers must agree on: verdict, path, receivers, the egress firewall's rule that decided, endpoints, by
    which gateway, with what becomes of connections to them, and how a packet leaves."""
    rules = [step.rule for step in answer.steps if step.object is not None and step.object.kind == "EgressFirewall"]
    balancing = answer.load_balancer
    backends = balancing and frozenset((each.target, each.entry, each.verdict) for each in balancing.backends)
    egress = answer.egress and (answer.egress.egressip, frozenset(answer.egress.candidates))
    decided = (rules[0] if rules else None, egress, answer.egress_router)
    return answer.verdict, answer.path, answer.receivers, backends, *decided
