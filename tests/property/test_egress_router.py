"""The law for egress routers: after any walk plans are those of a fresh start, and answers about pods agree."""

from __future__ import annotations

import random

from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.flows.table import FlowTable
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import Question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit.questions import scaled
from tests.kit.random_cluster import RandomCluster
from tests.kit.walk import Walker


def test_plans_follow_from_objects_and_decisions() -> None:
    assert sum(map(_walk, range(scaled(8)))) > 0


def _walk(seed: int) -> int:
    """How many plans there were, over all steps."""
    made = RandomCluster(seed, pods=(2, 8), policies=(0, 3), has_egress_routers=True)
    walker, seen = Walker(made.manifests()), 0
    for _ in range(40):
        walker.apply(made.mutate())
        walker.cluster.engine.verify()
        twin = walker.cluster.copy()
        found = walker.cluster.engine.rows(ROUTER_PLAN)
        assert dict(found) == dict(twin.engine.rows(ROUTER_PLAN))
        seen += len(found)
    _answers_agree(walker, random.Random(seed))
    return seen


def _answers_agree(walker: Walker, rng: random.Random) -> None:
    cluster = walker.cluster
    scene = Scene(cluster)
    tracer = Tracer(scene, lambda: FlowTable(cluster.engine))
    pods: list[NamespacedName] = sorted(scene.endpoints)
    for target in pods:
        for source in rng.sample(pods, min(4, len(pods))):
            if {each.family for each in scene.endpoints[source].addresses} & {
                each.family for each in scene.endpoints[target].addresses
            }:
                tracer.ask(Question(source=source, target=target, protocol="tcp", port=80), "all")
        for text in ("198.51.100.60", "2001:db8::60"):
            outside = parse_address(text)
            if scene.endpoints[target].address(outside.family) is not None:
                found = tracer.ask(Question(source=target, target=outside, protocol="tcp", port=80), "all")
                plan = scene.routers.get(target)
                is_past = plan is not None and plan.router.address.family == outside.family
                assert ("past OVN" in found.reason) == is_past
