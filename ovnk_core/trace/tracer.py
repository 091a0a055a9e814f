"""One place to ask: from the objects, from the flows, or from both, which must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ovnk_core.errors import BugError
from ovnk_core.flows.table import FlowTable
from ovnk_core.trace import intent
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene

Engine = Literal["intent", "flows", "both"]


class Disagreement(BugError):
    """The two answers to one question differ: a bug of ours, never of the caller."""


class Tracer:
    """Answers questions about one state of a cluster. ``flows`` is called once, when the flows are first needed."""

    def __init__(self, scene: Scene, flows: Callable[[], FlowTable]) -> None:
        self._scene, self._table = scene, flows
        self._flows: FlowTracer | None = None

    def ask(self, question: Question, engine: Engine = "both") -> Answer:
        """One answer. Raises QuestionError, or Disagreement when ``both`` do not agree on verdict and path."""
        if engine == "intent":
            return intent.answer(self._scene, question)
        if self._flows is None:
            self._flows = FlowTracer(self._scene, self._table())
        by_flows = self._flows.answer(question)
        if engine == "flows":
            return by_flows
        by_objects = intent.answer(self._scene, question)
        if (by_objects.verdict, by_objects.path) != (by_flows.verdict, by_flows.path):
            raise Disagreement(
                f"{question.source} -> {question.target}: the objects say {by_objects.verdict} ({by_objects.reason}), "
                f"the flows say {by_flows.verdict} ({by_flows.reason})"
            )
        return by_objects
