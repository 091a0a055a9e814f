"""Two answers to one question must be one: intent, made from the objects, and flows, made from the rows."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from ovnk_core.flows.table import FlowTable
from ovnk_core.topology.place import Settings
from ovnk_core.trace import intent
from ovnk_core.trace.fast import FastTracer
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.group import is_followed
from ovnk_core.trace.question import Answer, Leg, Question
from ovnk_core.trace.way import find_way
from tests.kit.questions import Questioner, cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster
from tests.kit.walk import Walker

QUESTIONS = 300


@pytest.mark.parametrize("seed", range(400, 400 + scaled(24)))
def test_intent_and_flows_agree(seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], has_egress_routers=True)
    cluster = cluster_of(made.manifests(), dns=made.dns)
    questioner = Questioner(cluster, random.Random(seed))
    tracer = FlowTracer(questioner.scene, FlowTable(cluster.engine))
    asked = Counter(_compare(questioner, tracer, question, seed) for question in questioner.draw(QUESTIONS))
    if questioner.endpoints and made.of_kind("NetworkPolicy"):
        assert sum(asked.values()) >= 30, f"seed {seed}: only {asked} could be asked"


@pytest.mark.parametrize("has_templates", [True, False])
@pytest.mark.parametrize("seed", range(430, 430 + scaled(10)))
def test_answers_about_services_agree(seed: int, has_templates: bool) -> None:
    """Whether node ports are template variables or written out is not to be noticed."""
    made = RandomCluster(seed, FAMILIES[seed % 3], services=(3, 9), has_egress_routers=True)
    cluster = cluster_of(made.manifests(), dns=made.dns, settings=Settings(has_template_variables=has_templates))
    questioner = Questioner(cluster, random.Random(seed))
    tracer = FlowTracer(questioner.scene, FlowTable(cluster.engine))
    verdicts = Counter(_compare(questioner, tracer, each, seed)[0] for each in questioner.serving(QUESTIONS))
    assert verdicts, f"seed {seed}"


@pytest.mark.parametrize("seed", range(450, 450 + scaled(3)))
def test_they_agree_along_a_walk(seed: int) -> None:
    """The flow table followed every delta; what it says is what a fresh reading of the objects says."""
    made = RandomCluster(seed, pods=(5, 25), policies=(2, 12), has_egress_routers=True)
    walker = Walker(made.manifests(), check=False)
    for _ in range(8):
        for _ in range(10):
            walker.apply(made.mutate())
        questioner = Questioner(walker.cluster, random.Random(seed))
        tracer = FlowTracer(questioner.scene, walker.table)
        for question in questioner.draw(60):
            _compare(questioner, tracer, question, seed)


@pytest.mark.parametrize("seed", range(480, 480 + scaled(3)))
def test_established_is_judged_as_new_and_replies_pass(seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], has_oddities=False, has_egress_routers=True)
    cluster = cluster_of(made.manifests(), dns=made.dns)
    questioner = Questioner(cluster, random.Random(seed))
    tracer = FlowTracer(questioner.scene, FlowTable(cluster.engine))
    for question in questioner.draw(100):
        verdict = _compare(questioner, tracer, question, seed)[0]
        established = msgspec.structs.replace(question, state="established")
        found = _compare(questioner, tracer, established, seed)[0]
        # A load balancer and an egress router are about connections' first packets: there is no more of what they end.
        is_ended = intent.answer(questioner.scene, question).steps[-1].stage in ("load-balancer", "egress-router")
        assert found == verdict or (is_ended and verdict in ("drop", "reject")), f"seed {seed}: {question}"
        reply = msgspec.structs.replace(question, state="reply")
        ends = questioner.scene.ends(question)
        # What goes to a group is not tracked: there is no reply.
        passes = verdict if is_followed(ends) else find_way(questioner.scene, ends).step.verdict
        assert _compare(questioner, tracer, reply, seed)[0] == passes, f"seed {seed}: {question}"


def _compare(questioner: Questioner, tracer: FlowTracer, question: Question, seed: int) -> tuple[str, str]:
    told, flowed = intent.answer(questioner.scene, question), tracer.answer(question)
    assert FastTracer(questioner.scene).answer(question) == told, f"seed {seed}: {question}"
    assert (told.verdict, told.path) == (flowed.verdict, flowed.path), (
        f"seed {seed}: {question.source} to {question.target} {question.protocol} {question.port} ({question.state}):"
        f" intent {told.verdict} {told.path} because {told.reason};"
        f" flows {flowed.verdict} {flowed.path} because {flowed.reason}"
    )
    assert (told.legs, told.receivers) == (flowed.legs, flowed.receivers), f"seed {seed}: {question}"
    assert told.path == "multicast" or _is_chain(told.legs), f"seed {seed}: {question}: {told.legs}"
    assert _served(told) == _served(flowed), f"seed {seed}: {question}: {told.reason} BUT {flowed.reason}"
    if question.state == "new":
        deciding, also = _deciders(told), _deciders(flowed)
        assert deciding == also, f"seed {seed}: {question}: intent names {deciding}, flows {also}"
    return told.verdict, told.path


def _is_chain(legs: tuple[Leg, ...]) -> bool:
    """Whether each hop begins where the one before ended, or anew at the sender where OVN draws one of several ways:
    none is told twice, none is missing."""
    return all(other.source in (one.target, legs[0].source) for one, other in pairwise(legs))


def _served(answer: Answer) -> object:
    """The endpoints, and what happens at each; the words are each answer's own."""
    found = answer.load_balancer
    return found and (
        found.vip,
        found.service,
        found.chosen,
        [(each.target, each.entry, each.node, each.verdict, each.path) for each in found.backends],
    )


def _deciders(answer: Answer) -> list[tuple[str, str, int | None]]:
    """Policies, firewalls and rules that decided, in order, each once: endpoints of a Service may share them."""
    found = [(step.verdict, step.object, step.rule) for step in answer.steps if step.object is not None]
    kinds = ("NetworkPolicy", "EgressFirewall")
    # What no rule of a firewall matches is allowed, and then there is no row that could say so.
    deciding = (
        (verdict, str(ref), rule)
        for verdict, ref, rule in found
        if ref.kind in kinds and not (ref.kind == "EgressFirewall" and rule is None)
    )
    return list(dict.fromkeys(deciding))
