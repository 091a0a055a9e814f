"""What a diff says of source addresses is what traces of both states say."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ovnk_core.analysis.diff import diff_clusters, edited
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.trace.question import Egress, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.chapter.test_15_09_egress_ip import BASE, OUTSIDE, PROD, egress_ip, node, pod
from tests.kit import manifest as m
from tests.kit.questions import cluster_of

NB = parse_schema(SCHEMA)
PODS = ("namespace1/pod1", "namespace1/pod2", "namespace2/pod3", "other/pod4")
MAYBE = (
    egress_ip("prod", ["192.168.126.10"], **PROD),
    egress_ip("prod", ["192.168.126.11", "192.168.126.12"], **PROD),
    egress_ip("all", ["192.168.126.13"], "2020-01-01T00:00:00Z"),
    egress_ip("web", ["192.168.126.14"], podSelector={"matchLabels": {"app": "web"}}),
)
EDITS = (
    node("node1", assignable=False),
    node("node2"),
    node("node3", assignable=False),
    pod("pod3", "node1", "namespace2"),
)


def leaving(cluster: Cluster, name: str) -> Egress:
    tracer = Tracer(Scene(cluster), lambda: pytest.fail("no flows are needed"))
    found = tracer.ask(parse_question(name, OUTSIDE, "tcp", 443), "intent").egress
    assert found is not None
    return found


def stated(rng: random.Random) -> list[m.Raw]:
    """Some EgressIPs, and some objects of the base as they are edited."""
    objects = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in BASE}
    for each in (*rng.sample(MAYBE, rng.randint(0, 3)), *rng.sample(EDITS, rng.randint(0, 2))):
        objects[each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]] = each
    return list(objects.values())


@pytest.mark.parametrize("seed", range(60))
def test_sources_that_change_are_those_of_traces(seed: int) -> None:
    rng = random.Random(seed)
    before = cluster_of(stated(rng))
    after = edited(before, parse_objects(stated(rng)))
    found = diff_clusters(before, after, NB).sources
    told = Counter({(each.namespace, each.before, each.after): each.pods for each in found})
    seen: Counter[tuple[str, Egress, Egress]] = Counter()
    for name in PODS:
        was, now = leaving(before, name), leaving(after, name)
        if was != now:
            seen[name.partition("/")[0], was, now] += 1
    assert told == seen


def test_an_address_that_moves_has_moved() -> None:
    """Not the moment in which it is on no node."""
    before = cluster_of([*BASE, egress_ip("prod", ["192.168.126.10"], **PROD)])
    objects = [*(each for each in BASE if each["metadata"]["name"] != "node1"), node("node1", assignable=False)]
    after = edited(before, parse_objects([*objects, egress_ip("prod", ["192.168.126.10"], **PROD)]))
    assert not diff_clusters(before, before.copy(), NB).sources
    found = diff_clusters(before, after, NB).sources
    assert {(each.namespace, each.before.candidates[0].node, each.after.candidates[0].node) for each in found} == {
        ("namespace1", "node1", "node3"),
        ("namespace2", "node1", "node3"),
    }
