"""The matrix judges classes of pods; it must say of every pair what a plain trace says."""

from __future__ import annotations

import pytest

from ovnk_core.analysis.matrix import matrix
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.trace import intent
from ovnk_core.trace.question import Question, QuestionError, ServiceTarget
from ovnk_core.trace.scene import Scene
from tests.kit.questions import cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster
from tests.kit.random_policy import Manifest

PROBES: tuple[tuple[Protocol, int | None], ...] = (("tcp", 80), ("tcp", 8080), ("udp", 53), ("icmp", None))

TRANSPORT_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp")


def plain(
    scene: Scene, source: NamespacedName, target: NamespacedName | ServiceTarget, protocol: Protocol, port: int | None
) -> str:
    if source == target:
        return "self"
    try:
        return intent.answer(scene, Question(source=source, target=target, protocol=protocol, port=port)).verdict
    except QuestionError:
        return "none"


@pytest.mark.parametrize("seed", range(700, 700 + scaled(18)))
def test_classes_give_the_plain_answer(seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(10, 35), policies=(3, 20))
    scene = Scene(cluster_of(made.manifests()))
    for protocol, port in PROBES:
        found = matrix(scene, protocol=protocol, port=port)
        for source, row in zip(found.sources, found.verdicts, strict=True):
            for target, verdict in zip(found.targets, row, strict=True):
                wanted = plain(scene, source, target, protocol, port)
                assert verdict == wanted, f"seed {seed}: {source} to {target} {protocol} {port}"


@pytest.mark.parametrize("seed", range(720, 720 + scaled(12)))
def test_services_are_columns(seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(10, 30), policies=(2, 12), services=(4, 9))
    scene = Scene(cluster_of(made.manifests(), dns=made.dns))
    for protocol in TRANSPORT_PROTOCOLS:
        found = matrix(scene, protocol=protocol, port=80, has_services=True)
        assert found.services == tuple(sorted(found.services, key=lambda each: (each.service, int(each.port))))
        first = len(found.targets)
        for source, row in zip(found.sources, found.verdicts, strict=True):
            for target, verdict in zip(found.services, row[first:], strict=True):
                wanted = plain(scene, source, target, protocol, None)
                assert verdict == wanted, f"seed {seed}: {source} to {target} {protocol}"
        pods_only = matrix(scene, protocol=protocol, port=80)
        assert tuple(row[:first] for row in found.verdicts) == pods_only.verdicts, f"seed {seed}"


def test_random_services_show_every_cell() -> None:
    """So that the comparison is about something."""
    seen: set[str] = set()
    for seed in range(720, 732):
        made = RandomCluster(seed, FAMILIES[seed % 3], pods=(10, 30), policies=(2, 12), services=(4, 9))
        found = matrix(Scene(cluster_of(made.manifests(), dns=made.dns)), protocol="tcp", port=80, has_services=True)
        seen.update(cell for row in found.verdicts for cell in row[len(found.targets) :])
    assert seen == {"allow", "drop", "reject", "mixed"}


def test_one_namespace_only() -> None:
    scene = Scene(cluster_of(RandomCluster(701, pods=(40, 40)).manifests()))
    whole, part = matrix(scene, protocol="tcp", port=80), matrix(scene, protocol="tcp", port=80, namespace="alpha")
    assert part.sources == tuple(key for key in whole.sources if key.namespace == "alpha")
    at = [whole.sources.index(key) for key in part.sources]
    assert part.verdicts == tuple(tuple(whole.verdicts[row][column] for column in at) for row in at)


def test_two_thousand_pods() -> None:
    """Every pod has a label of its own that no policy names; the square is in look-ups, not in judgements, or this
    would not end."""
    pods = min(2_000, scaled(2_000))
    found = matrix(Scene(_large(pods=pods, policies=500, namespaces=50)), protocol="tcp", port=80)
    assert len(found.sources) == pods
    assert {verdict for row in found.verdicts for verdict in row} == {"self", "allow", "drop"}


def _large(*, pods: int, policies: int, namespaces: int) -> Cluster:
    manifests: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{number}"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{11 + number}"}]},
        }
        for number in range(20)
    ]
    for number in range(pods):
        labels = {"app": f"app-{number % 7}", "pod": f"p{number}"}
        meta = {"name": f"p{number}", "namespace": f"ns{number % namespaces}", "labels": labels}
        spec = {"nodeName": f"n{number % 20}", "containers": [{"name": "c", "image": "i"}]}
        manifests.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    for number in range(policies):
        meta = {"name": f"np{number}", "namespace": f"ns{number % namespaces}"}
        peers = [
            {"podSelector": {"matchLabels": {"app": f"app-{number % 5}"}}},
            {"ipBlock": {"cidr": f"10.128.{2 * (number % 20)}.0/23"}},
        ]
        spec = {
            "podSelector": {"matchLabels": {"app": f"app-{number % 7}"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"port": 80}]}],
            "egress": [{"to": [{"namespaceSelector": {}}]}],
        }
        api = "networking.k8s.io/v1"
        manifests.append({"apiVersion": api, "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    cluster = Cluster()
    cluster.replace(parse_objects(manifests))
    return cluster
