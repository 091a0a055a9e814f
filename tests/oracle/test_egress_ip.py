"""Where packets of selected pods leave, and as whom: what we say of each candidate against ovn-trace, told to draw it;
and that other nodes see the pod's own node, also where that holds the egress IP.

Random clusters with random EgressIPs, along a walk in which nodes are lost and come back and objects change: each loss
is asked about when its addresses are withdrawn, and again when they are elsewhere. After each step the northbound is
what it would be from scratch.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.topology.answering import ANSWERING, Answering
from ovnk_core.topology.place import Settings
from ovnk_core.trace import intent
from ovnk_core.trace.egress import uplink
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.question import PROTOCOLS, Answer, Candidate, Egress, Question, QuestionError
from ovnk_core.trace.scene import Scene
from tests.kit.egress_ips import EgressIPs
from tests.kit.oracle import Laboratory, enters_ovn, microflow, where_it_should_end
from tests.kit.questions import Questioner, cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster
from tests.kit.trace import TraceResult, trace_once

pytestmark = pytest.mark.ovn
SEEDS = range(2800, 2800 + scaled(12))
OUTWARD, WILD, ENOUGH = 14, 12, 34
"""At least 400 flows per run at scale 1, however the seeds are spread over processes."""


@pytest.mark.parametrize("seed", SEEDS)
def test_ovn_sends_them_out_as_we_say(laboratory: Laboratory, seed: int) -> None:
    rng = random.Random(seed)
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(6, 20), policies=(0, 3), services=(4, 8))
    _aim(made, rng)
    cluster = cluster_of(made.manifests(), dns=made.dns, settings=Settings(has_template_variables=False))
    egress_ips, table = EgressIPs(cluster, made.of_kind("Node"), seed), FlowTable(cluster.engine)
    asked = Counter[str]()
    for _ in egress_ips.fail_over(table.advance):
        laboratory.show(cluster, states=("new", "reply"))
        cluster.engine.verify()
        questioner = Questioner(cluster, rng)
        scene, tracer = questioner.scene, FlowTracer(questioner.scene, table)
        for question in _outward(questioner, OUTWARD):
            asked += _check_exits(laboratory, scene, tracer, question)
            asked += _check_reply(laboratory, scene, tracer, question)
        for question in questioner.draw(WILD):
            if enters_ovn(scene, question):
                asked += _check_kept(laboratory, scene, tracer, question)
        for question in _to_nodes(questioner):
            asked += _check_to_node(laboratory, scene, tracer, question)
    assert not laboratory.parse_warnings(), f"seed {seed}"
    assert sum(asked.values()) >= ENOUGH, f"seed {seed}: {asked}"


def _aim(made: RandomCluster, rng: random.Random) -> None:
    """Services keep their clients, and most endpoints are pods that are there."""
    pods = [each for _, each in sorted(cluster_of(made.manifests(), dns=made.dns).engine.rows(ENDPOINT).items())]
    for service in made.of_kind("Service"):
        if service["spec"].get("type") in ("NodePort", "LoadBalancer"):
            service["spec"]["externalTrafficPolicy"] = "Local"
    for each in made.of_kind("EndpointSlice"):
        family = {"IPv4": 4, "IPv6": 6}.get(each["addressType"])
        found = [address for pod in pods for address in pod.addresses if address.family == family]
        for endpoint in each["endpoints"] if found else ():
            endpoint["addresses"] = [str(rng.choice(found))]


def _outward(questioner: Questioner, count: int) -> list[Question]:
    """Pods, mostly selected ones, to addresses outside, on the nodes' link and beyond."""
    rng, scene = questioner.rng, questioner.scene
    selected = [pod for pod in questioner.endpoints if scene.egress_ip(pod) is not None]
    found: list[Question] = []
    for _ in range(count if questioner.endpoints else 0):
        pod = rng.choice(selected if selected and rng.random() < 0.8 else questioner.endpoints)
        target = rng.choice(questioner.outside)
        question = Question(source=rng.choice(pod.addresses), target=target, protocol="tcp", port=443)
        try:
            kind = scene.ends(question).target.kind
        except QuestionError:
            continue
        found += [question] if kind == "external" else []
    return found


def _check_exits(laboratory: Laboratory, scene: Scene, tracer: FlowTracer, question: Question) -> Counter[str]:
    """Every exit that a connection may draw, or the one it has."""
    told, flowed = intent.answer(scene, question), tracer.answer(question)
    assert (told.verdict, told.path, told.egress) == (flowed.verdict, flowed.path, flowed.egress), question
    assert told.egress is not None
    taken = scene.ends(question).source.endpoint
    item = scene.egress_ip(taken) if taken is not None else None
    draws = len(scene.exits(item.name, scene.ends(question).target.address.family)) if item is not None else 0
    central, found = laboratory.central, set[Candidate]()
    for draw in range(1, max(draws, 1) + 1):
        select_id = draw if draws > 1 else 0
        trace = trace_once(central.sb, central.directory, microflow(scene, question), select_id=select_id)
        assert not trace.warnings, _story(question, told, trace)
        found |= _left(scene, trace)
    assert found == set(told.egress.candidates), _story(question, told, trace)
    return Counter({"exits" if draws else "usual": max(draws, 1)})


def _left(scene: Scene, trace: TraceResult) -> set[Candidate]:
    """By whose gateway a packet left, and as whom."""
    by_port = {place.localnet: name for name, place in scene.places.items()}
    sources = [said.partition("=")[2] for action, said in trace.nat if action == "ct_snat" and ".src=" in said]
    return {Candidate(node=by_port[port], source_ip=sources[-1]) for port in trace.left_by}


def _to_nodes(questioner: Questioner) -> list[Question]:
    """Every selected pod to an address of another node, where no Service answers."""
    rng, scene, found = questioner.rng, questioner.scene, list[Question]()
    for pod in questioner.endpoints:
        item = scene.egress_ip(pod)
        for address in pod.addresses if item is not None else ():
            others = [each for each in sorted(scene.hosts) if each.family == address.family]
            others = [each for each in others if pod.node not in scene.hosts[each]]
            if others:
                found.append(Question(source=address, target=rng.choice(others), protocol="icmp", port=None))
    return found


def _check_to_node(laboratory: Laboratory, scene: Scene, tracer: FlowTracer, question: Question) -> Counter[str]:
    """It leaves as the pod's node, whoever holds the egress IP."""
    told, flowed = intent.answer(scene, question), tracer.answer(question)
    assert (told.verdict, told.path, told.egress) == (flowed.verdict, flowed.path, flowed.egress), question
    source = scene.ends(question).source
    assert source.endpoint is not None
    trace = laboratory.ask(scene, question)
    left = _left(scene, trace)
    assert bool(left) == (told.verdict == "allow"), _story(question, told, trace)
    if not left:
        return Counter()
    own = uplink(scene.places[source.node], source.address.family)
    assert own is not None
    assert left == {Candidate(node=source.node, source_ip=str(own.address))}, _story(question, told, trace)
    assert flowed.steps[-1].text == f"source becomes {own.address}"
    item = scene.egress_ip(source.endpoint)
    assert item is not None
    is_holder = any(each.node == source.node for each in scene.exits(item.name, source.address.family))
    return Counter({"to nodes, from a holder" if is_holder else "to nodes": 1})


def _check_reply(laboratory: Laboratory, scene: Scene, tracer: FlowTracer, question: Question) -> Counter[str]:
    """What a pod answers leaves by its own node from a port that a Service with policy Local names, else by an exit."""
    pod = scene.ends(question).source
    ports = sorted(scene.cluster.engine.members(ANSWERING, pod.address), key=str)
    each = next(iter(ports), Answering("TCP", 443))
    protocol = next(found for found in PROTOCOLS if found == each.protocol.lower())
    back = replace(question, state="reply", protocol=protocol, port=each.port)
    if not ports and scene.egress_ip(pod.endpoint) is not None:
        return Counter()  # not answered to a kept client: OVN takes it for a new connection, as the exits above are
    told, flowed = intent.answer(scene, back), tracer.answer(back)
    trace = laboratory.ask(scene, back)
    own = where_it_should_end(scene, back)
    passes = own in trace.outputs
    same = told.verdict == flowed.verdict == ("allow" if passes else "drop")
    assert same and told.egress == flowed.egress == Egress() and set(trace.left_by) <= {own[0]}, _story(
        back, told, trace
    )
    return Counter({"answers" if ports and scene.egress_ip(pod.endpoint) else "replies": 1})


def _check_kept(laboratory: Laboratory, scene: Scene, tracer: FlowTracer, question: Question) -> Counter[str]:
    """Everything else goes where it would go without any EgressIP."""
    told, flowed = intent.answer(scene, question), tracer.answer(question)
    assert (told.verdict, told.egress) == (flowed.verdict, flowed.egress), question
    ends = scene.ends(question)
    if told.path == "multicast" or told.egress is not None or ends.target.kind in ("group", "nobody"):
        return Counter()  # of groups the multicast oracle says more; of what leaves, the exits above
    if told.load_balancer is not None:
        return Counter()  # the oracle of Services asks endpoint by endpoint
    trace = laboratory.ask(scene, question)
    passes = where_it_should_end(scene, question) in trace.outputs
    assert told.verdict == ("allow" if passes else "drop"), _story(question, told, trace)
    return Counter(kept=1)


def _story(question: Question, told: Answer, trace: TraceResult) -> str:
    return f"{question}: we say {told}\n{trace.text}"


def test_the_walks_have_moves() -> None:
    """The walks above are about something: in most an address leaves a lost node, and in many it has another then; in
    many a pod is on a node that holds its egress IP."""
    gone, moved, holding = 0, 0, 0
    for seed in SEEDS:
        made = RandomCluster(seed, FAMILIES[seed % 3], pods=(6, 20), policies=(0, 3), services=(4, 8))
        _aim(made, random.Random(seed))
        cluster = cluster_of(made.manifests(), dns=made.dns)
        egress_ips = EgressIPs(cluster, made.of_kind("Node"), seed)
        holding += _has_own_exit(Scene(cluster))
        before, withdrawn, after, _ = (egress_ips.holders for _ in egress_ips.fail_over())
        assert withdrawn.items() <= before.items(), "nothing is placed before the withdrawal is confirmed"
        gone += withdrawn != before
        moved += any(after.get(address, node) != node for address, node in before.items())
    assert gone * 3 > 2 * len(SEEDS) and min(moved, holding) * 3 > len(SEEDS), (gone, moved, holding)


def _has_own_exit(scene: Scene) -> bool:
    """Whether some pod's node holds an egress IP of the pod."""
    found = ((pod, scene.egress_ip(pod)) for pod in scene.endpoints.values())
    return any(
        each.node == pod.node
        for pod, item in found
        if item is not None
        for address in pod.addresses
        for each in scene.exits(item.name, address.family)
    )
