"""The law for egress routers: after any walk plans are those of a fresh start, and answers about pods agree."""

from __future__ import annotations

import random
from typing import Any

from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import parse_objects
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.trace.question import Question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as build
from tests.kit.questions import scaled
from tests.kit.random_cluster import RandomCluster
from tests.kit.walk import Walker

DESTINATIONS: tuple[list[str], ...] = (
    ["198.51.100.60/32"],
    ["80 tcp 198.51.100.60", "8080 udp 198.51.100.61 53"],
    ["443 sctp 192.0.2.7"],
    ["10.128.0.9"],
    [],
)
NAMES = ("router", "other")


class Routers:
    """Pods and definitions of a random cluster, with draws of their own."""

    def __init__(self, seed: int) -> None:
        self.rng, self.made = random.Random(f"egress router {seed}"), RandomCluster(seed, pods=(2, 8), policies=(0, 3))

    def definition(self) -> dict[str, Any]:
        name, namespace = self.rng.choice(NAMES), self.rng.choice(("alpha", "bravo"))
        family = self.rng.choice(self.made.numbers)
        if family == 4:
            ip: dict[str, Any] = {"destinations": self.rng.choice(DESTINATIONS)}
        else:
            ip = {"addresses": ["fd00::99/64"], "destinations": ["2001:db8::60"], "gateway": "fd00::1"}
        return build.network_attachment(name, namespace, **ip)

    def pod(self) -> dict[str, Any]:
        name = f"router-{self.rng.randint(1, 3)}"
        made = self.made.pod(name, self.rng.choice(("alpha", "bravo")))
        named = self.rng.sample(("router", "other", "alpha/router", "missing@x0"), self.rng.randint(0, 2))
        made["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": ", ".join(named)}
        return made

    def step(self, walker: Walker) -> None:
        draw = self.rng.random()
        if draw < 0.4:
            walker.apply(self.made.mutate())
        elif draw < 0.85:
            walker.cluster.apply(parse_objects([self.pod() if draw < 0.6 else self.definition()]).items)
        else:
            ref = ObjectRef("NetworkAttachmentDefinition", self.rng.choice(("alpha", "bravo")), self.rng.choice(NAMES))
            walker.cluster.apply(delete=[ref])


def test_plans_follow_from_objects_and_decisions() -> None:
    assert sum(map(_walk, range(scaled(8)))) > 0


def _walk(seed: int) -> int:
    """How many plans there were, over all steps."""
    routers = Routers(seed)
    walker, seen = Walker(routers.made.manifests()), 0
    for _ in range(40):
        routers.step(walker)
        walker.cluster.engine.verify()
        twin = walker.cluster.copy()
        found = walker.cluster.engine.rows(ROUTER_PLAN)
        assert dict(found) == dict(twin.engine.rows(ROUTER_PLAN))
        seen += len(found)
    _answers_agree(walker, routers.rng)
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
