"""Connections to Services, endpoint by endpoint: what we say of each against ovn-trace, told to choose that one.

Cluster IPs, external addresses and node ports, both traffic policies, hairpins, from pods, hosts and outside. Node
ports are written out: ovn-trace 23.03 cannot read template variables.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.terms.address import Address
from ovnk_core.topology.place import Settings
from ovnk_core.trace import intent
from ovnk_core.trace.balance import Meeting, meetings, onward
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.intent import outcomes
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene
from tests.kit.oracle import Laboratory, balanced_end, balanced_microflow, lb_dst
from tests.kit.questions import Questioner, cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster
from tests.kit.trace import TraceResult, trace_once

pytestmark = pytest.mark.ovn
QUESTIONS, ENOUGH = 60, 30
LITERAL = Settings(has_template_variables=False)
SEEDS = range(2600, 2600 + scaled(12))


@pytest.mark.parametrize("seed", SEEDS)
def test_ovn_balances_as_we_say(laboratory: Laboratory, seed: int) -> None:
    rng = random.Random(seed)
    made = RandomCluster(seed, FAMILIES[seed % 3], services=(5, 10), pods=(6, 25), policies=(0, 2 if seed % 2 else 8))
    _aim(made, rng)
    cluster = cluster_of(made.manifests(), dns=made.dns, settings=LITERAL)
    laboratory.show(cluster)
    questioner = Questioner(cluster, rng)
    scene, tracer = questioner.scene, FlowTracer(questioner.scene, FlowTable(cluster.engine))
    asked = Counter[str]()
    for question in questioner.serving(QUESTIONS):
        told, flowed = intent.answer(scene, question), tracer.answer(question)
        assert (told.verdict, told.path) == (flowed.verdict, flowed.path), f"seed {seed}: {question}"
        for meeting in meetings(scene, question, scene.ends(question)):
            asked += _check(laboratory, scene, question, meeting, told)
    # At least 600 connections per run at scale 1, however the seeds are spread over processes.
    assert sum(asked.values()) >= ENOUGH, f"seed {seed}: {asked}"


def _aim(made: RandomCluster, rng: random.Random) -> None:
    """Most endpoints become pods that are there: those that are not are dropped whatever anybody says."""
    pods = [each for _, each in sorted(cluster_of(made.manifests(), dns=made.dns).engine.rows(ENDPOINT).items())]
    for each in made.of_kind("EndpointSlice"):
        family = {"IPv4": 4, "IPv6": 6}.get(each["addressType"])
        found = [pod for pod in pods if any(address.family == family for address in pod.addresses)]
        for endpoint in each["endpoints"] if found else ():
            if rng.random() < 0.7:
                pod = rng.choice(found)
                address = next(address for address in pod.addresses if address.family == family)
                endpoint |= {"addresses": [str(address)], "nodeName": pod.node}


def _check(laboratory: Laboratory, scene: Scene, question: Question, meeting: Meeting, told: Answer) -> Counter[str]:
    """Every endpoint that one place may choose, or the rejection of the packet there."""
    packet = balanced_microflow(scene, question, meeting)
    sb, directory = laboratory.central.sb, laboratory.central.directory
    if not meeting.balanced.targets:
        trace = trace_once(sb, directory, packet, lb_dst="")
        assert "reject {" in trace.text, _story(question, meeting, None, trace)
        return Counter(reject=1)
    assert told.load_balancer is not None
    # What ovn-trace 23.03 does not do: hide clients (it loses flags.force_snat_for_lb, so that is read from the
    # action), turn hairpins round, tell endpoints apart that differ in ports alone. Packets show the first two. And an
    # endpoint that is another Service's address it balances a second time, before the first load balancer is met.
    seen = replace(meeting, balanced=replace(meeting.balanced, keeps_source=True))
    mine = {each.target: each.answer for each in outcomes(scene, question, (seen,), None)}
    found, done = Counter[str](), set[Address]()
    for target in meeting.balanced.targets:
        if target.address == meeting.source.address or target.address in done:
            continue
        done.add(target.address)
        if scene.doors.at(onward(question, target), target.address, ()) is not None:
            continue
        trace = trace_once(sb, directory, packet, lb_dst=lb_dst(meeting, target))
        passes = bool(balanced_end(scene, meeting, target) & set(trace.outputs))
        if meeting.side == "gateway":
            assert ("force_snat" in trace.text) is not meeting.balanced.keeps_source, _story(
                question, meeting, None, trace
            )
        ours = mine[target]
        if ours.verdict == "mixed":
            continue  # one of several egress IPs was drawn; ``test_egress_ip`` asks about each
        # The request for a neighbour that is nobody is flooded on its switch; it must not leave the cluster.
        is_nobody = scene.end_of_address(target.address, meeting.place.name).kind == "nobody"
        strays = bool(trace.left_by) if is_nobody else not passes and trace.is_allowed
        is_right = ours.verdict == ("allow" if passes else "drop") and not strays
        assert is_right and not trace.warnings, _story(question, meeting, ours, trace)
        found[ours.verdict] += 1
    return found


def _story(question: Question, meeting: Meeting, ours: Answer | None, trace: TraceResult) -> str:
    where = f"{meeting.side} of {meeting.place.name}, {meeting.door.kind} {meeting.door.vip}"
    return f"{question.source} to {question.target}:{question.port} at the {where}: we say {ours}\n{trace.text}"
