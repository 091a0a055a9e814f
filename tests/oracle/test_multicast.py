"""Who hears a packet to a group: our receivers against the ports that ovn-trace puts it out of, pod by pod.

The southbound is told that every pod joined every group (``tests/kit/membership.py``), as our answer assumes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.nb import naming
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import Settings
from ovnk_core.trace import intent
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene
from tests.kit.membership import everybody_joins, unpin_routers
from tests.kit.oracle import Laboratory
from tests.kit.questions import cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster

pytestmark = pytest.mark.ovn

JOINED = {
    4: ("224.1.0.1", "239.255.0.1"),
    6: ("ff15::42", "ff14::1", "ff18::1", "ff1e::db8:7", "ff05::1:3", "ff05::2", "ff0e::9", "ff35::1"),
}
"""Groups somebody can join: transient ones of several scopes, and permanent ones of IPv6."""
KEPT = {
    4: ("224.0.0.1", "224.0.0.251"),
    6: (
        "ff02::1",
        "ff02::2",
        "ff01::1",
        "ff02::1:ff00:7",
        "ff02::fb",
        "ff05::",
        "ff10::1",
        "ff11::1",
        "ff12::1",
        "ff13::1",
        "ff1f::1",
    ),
}
"""Groups that never leave the switch, also when somebody elsewhere joined them."""
PROTOCOLS = ("udp", "tcp", "icmp")


@pytest.fixture(scope="module")
def overall() -> Iterator[Counter[str]]:
    """What all seeds together asked: of the few pods that one draws it may well be that everybody is heard, or nobody.
    Of few seeds nothing is said, so that one can be run by itself."""
    heard = Counter[str]()
    yield heard
    seeds = heard["seeds"]
    assert seeds < 9 or (
        heard["asked"] > 20 * seeds and min(heard[each] for each in ("heard", "silent", "far")) > seeds
    )


@pytest.mark.parametrize("seed", range(2300, 2300 + scaled(9)))
def test_ovn_delivers_to_our_receivers(laboratory: Laboratory, overall: Counter[str], seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(12, 30), policies=(0, 8))
    for name in ("alpha", "bravo"):
        made.set_multicast(name, is_on=True)
    # ovn-trace 23.03 cannot read template variables.
    cluster = cluster_of(made.manifests(), dns=made.dns, settings=Settings(has_template_variables=False))
    laboratory.show(cluster, states=())
    families = cluster.network.families
    joined = [parse_address(text) for family in families for text in JOINED[family]]
    kept = [parse_address(text) for family in families for text in KEPT[family]]
    unpin_routers(laboratory.central)
    everybody_joins(laboratory.central, cluster, (*joined, *kept))
    laboratory.traces["new"].refresh()
    scene, rng = Scene(cluster), random.Random(seed)
    tracer, heard = FlowTracer(scene, FlowTable(cluster.engine)), Counter[str]()
    pods = sorted(cluster.engine.rows(ENDPOINT))
    asked = [(pod, group) for pod in rng.sample(pods, min(8, len(pods))) for group in (*joined, *kept)]
    for pod, group in asked:
        if scene.endpoints[pod].address(group.family) is None:
            continue
        question = _question(rng, pod, group)
        told = intent.answer(scene, question)
        assert _gist(tracer.answer(question)) == _gist(told), f"seed {seed}: {question}"
        ours = {naming.pod_port_name(NamespacedName(each.namespace, each.name)) for each in told.receivers}
        trace = laboratory.ask(scene, question)
        theirs = set(trace.delivered) & {naming.pod_port_name(each) for each in pods if each != pod}
        assert ours == theirs, (
            f"seed {seed}: {question}, {told.reason}:\n{sorted(ours)}\n{sorted(theirs)}\n{trace.text}"
        )
        assert not trace.warnings and not trace.left_by
        heard["asked"] += 1
        heard["heard" if ours else "silent"] += 1
        heard["far"] += any(leg.transport == "geneve" for leg in told.legs)
    assert not laboratory.parse_warnings(), f"seed {seed}"
    overall.update(heard)
    overall["seeds"] += 1


def _question(rng: random.Random, pod: NamespacedName, group: Address) -> Question:
    protocol = rng.choice(PROTOCOLS)
    port = None if protocol == "icmp" else 30102
    return Question(source=pod, target=group, protocol=protocol, port=port)  # type: ignore[arg-type]


def _gist(answer: Answer) -> tuple[object, ...]:
    return answer.verdict, answer.path, answer.receivers, answer.legs
