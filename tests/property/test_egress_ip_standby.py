"""Which of the EgressIPs that select a pod serves it, along walks of edits: the oldest that a node holds, by brute
force from objects and decisions; and that a pod does not change hands while its addresses move.
"""

from __future__ import annotations

from collections import Counter

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.model.namespace import labels_of
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION, NAMESPACE, cluster_key
from ovnk_core.nb.desired import ROUTER_POLICIES
from ovnk_core.topology.place import NODE_PLACE
from ovnk_core.trace.scene import Scene
from tests.kit.questions import scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster
from tests.kit.walk import Walker

SEEDS = range(2900, 2900 + scaled(9))


def _served(cluster: Cluster) -> dict[str, set[str]]:
    """Pod -> EgressIPs whose rows send its packets elsewhere."""
    found: dict[str, set[str]] = {}
    for row in cluster.engine.rows(ROUTER_POLICIES):
        if row.owner.kind == "EgressIP" and row.role.startswith("reroute/"):
            _, namespace, name, *_ = row.role.split("/")
            found.setdefault(f"{namespace}/{name}", set()).add(row.owner.name)
    return found


def _expected(cluster: Cluster, pod: Endpoint, seen: Counter[str]) -> tuple[str, bool]:
    """Who serves a pod, empty for nobody; whether packets can be sent there in a family of the pod."""
    rows = cluster.engine.rows
    namespace = rows(NAMESPACE).get(cluster_key(pod.key.namespace))
    around = labels_of(pod.key.namespace, namespace)
    if around is None:
        return "", False
    placed: list[tuple[bool, str, str]] = []
    passed: list[tuple[bool, str, str]] = []
    for key, item in rows(EGRESS_IP).items():
        if item.namespaces.matches(dict(around)) and item.pods.matches(dict(pod.labels)):
            decision = rows(EGRESS_IP_DECISION)[key]
            held = [*decision.assignments, *decision.leaving]
            (placed if held else passed).append((item.created == "", item.created, item.name))
    if not placed:
        return "", False
    first = min(placed)
    seen["passed over" if passed and min(passed) < first else "usual"] += 1
    found = rows(EGRESS_IP_DECISION)[cluster_key(first[2])].assignments
    seen["moving"] += not found
    places = rows(NODE_PLACE)
    ways = {each.address.family for each in found if places[cluster_key(each.node)].has_gateway}
    return first[2], bool(ways & {each.family for each in pod.addresses})


def _check(cluster: Cluster, seen: Counter[str]) -> None:
    served, scene = _served(cluster), Scene(cluster)
    for key, pod in cluster.engine.rows(ENDPOINT).items():
        name, is_sent = _expected(cluster, pod, seen)
        assert served.pop(str(key), set()) == ({name} if is_sent else set()), key
        told = scene.egress_ip(pod)
        assert not name or (told is not None and told.name == name), key
    assert not served


def _walk(seed: int, seen: Counter[str]) -> Cluster:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 15), policies=(0, 1))
    walker = Walker(made.manifests())
    for _ in range(60):
        _check(walker.cluster, seen)
        walker.apply(made.mutate())
    return walker.cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oldest_that_a_node_holds_serves_a_pod(seed: int) -> None:
    _walk(seed, Counter()).engine.verify()


def test_the_walks_meet_those_that_are_passed_over_and_those_that_move() -> None:
    seen = Counter[str]()
    for seed in range(2900, 2906):
        _walk(seed, seen)
    assert min(seen["passed over"], seen["moving"], seen["usual"]) > 10, seen
