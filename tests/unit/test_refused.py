"""Refused is not absent: what a restart makes of objects that are refused, or of files nobody can read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.ingest.load import load, parse_objects
from ovnk_core.model.manifest import is_recorded, manifest
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.terms.name import ObjectRef
from tests.kit.random_cluster import RandomCluster

SELECTOR = {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["untrusted"]}]}
Object = dict[str, Any]


def pod(namespace: str, name: str, where: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": where, "containers": []}}


def node(name: str, last: int) -> Object:
    status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{last}"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def policy(name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": "a"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


NETWORK = {
    "apiVersion": "config.openshift.io/v1",
    "kind": "Network",
    "metadata": {"name": "cluster"},
    "spec": {"clusterNetwork": [{"cidr": "10.200.0.0/16", "hostPrefix": 24}], "serviceNetwork": ["172.30.0.0/16"]},
}
OBJECTS: list[Object] = [
    NETWORK,
    node("n1", 1),
    node("n2", 2),
    namespace("a", tier="apps"),
    namespace("b", tier="untrusted"),
    pod("a", "x", "n1"),
    pod("b", "evil", "n2"),
    policy("in", {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": SELECTOR}]}]}),
]


def spoilt(kind: str, name: str, damage: Callable[[Object], None]) -> list[Object]:
    """The objects with one of them made unacceptable."""
    found = copy.deepcopy(OBJECTS)
    damage(next(each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)))
    return found


def bad_label(each: Object) -> None:
    each["metadata"]["labels"] = {"bad": "!!"}


def bad_address(each: Object) -> None:
    each["status"]["addresses"][0]["address"] = "010.0.0.1"


def bad_range(each: Object) -> None:
    each["spec"]["clusterNetwork"][0]["cidr"] = "100.64.0.0/16"


async def synced(database: MemoryDatabase, objects: list[Object]) -> ControlPlane:
    """A new process that takes ``objects`` as the whole truth; closed again, its answers still at hand."""
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.replace(parse_objects(objects))
        await plane.wait()
        return plane


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [
        ("Namespace", "b", bad_label),
        ("Pod", "x", bad_label),
        ("Node", "n1", bad_address),
        ("Network", "cluster", bad_range),
        ("NetworkPolicy", "in", lambda each: each["spec"].update(ingress="nonsense")),
    ],
    ids=["namespace", "pod", "node", "network", "policy"],
)
async def test_the_accepted_version_of_every_kind_survives_a_restart(
    kind: str, name: str, damage: Callable[[Object], None]
) -> None:
    database = MemoryDatabase()
    await synced(database, OBJECTS)
    plane = await synced(database, spoilt(kind, name, damage))
    assert sum(plane.last_flush.operations.values()) == 0
    assert any(error.name.endswith(name) for error in plane.errors)
    assert (await plane.trace("b/evil", "a/x:80")).verdict == "drop"
    plane = await synced(database, OBJECTS)
    assert sum(plane.last_flush.operations.values()) == 0


@pytest.mark.asyncio
async def test_a_namespace_without_a_record_is_matched_by_no_selector() -> None:
    plane = await synced(MemoryDatabase(), spoilt("Namespace", "b", bad_label))
    assert (await plane.trace("b/evil", "a/x:80")).verdict == "drop"
    plane = await synced(MemoryDatabase(), spoilt("Namespace", "a", bad_label))
    answer = await plane.trace("b/evil", "a/x:80")
    assert answer.verdict == "drop", "its own policies still isolate"
    plane.cluster.engine.verify()


@pytest.mark.asyncio
async def test_a_new_policy_isolates_a_refused_pod() -> None:
    database = MemoryDatabase()
    await synced(database, OBJECTS)
    closed = policy("out", {"podSelector": {}, "policyTypes": ["Egress"]})
    plane = await synced(database, [*spoilt("Pod", "x", bad_label), closed])
    assert (await plane.trace("a/x", "8.8.8.8:53")).verdict == "drop"


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", ["[", "kind:\n", "\udcff"], ids=["syntax", "no-kind", "not-utf8"])
async def test_an_unreadable_file_deletes_nothing(tmp_path: Path, damage: str) -> None:
    files = {each: tmp_path / each for each in ("cluster.yaml", "apps.yaml", "policies.yaml")}
    for name, path in files.items():
        path.write_bytes(Path("examples/shop", name).read_bytes())
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        await plane.replace(load([str(tmp_path)]))
        await plane.wait()
        for path in files.values():
            whole = path.read_bytes()
            path.write_bytes(damage.encode(errors="surrogateescape"))
            await plane.replace(load([str(tmp_path)]))
            await plane.wait()
            assert sum(plane.last_flush.operations.values()) == 0, "in a running process"
            async with ControlPlane(MemoryNorthbound(database=database)) as restarted:
                await restarted.replace(load([str(tmp_path)]))
                await restarted.wait()
                assert sum(restarted.last_flush.operations.values()) == 0, "after a restart"
                assert restarted.errors
            path.write_bytes(whole)


@pytest.mark.asyncio
async def test_what_a_readable_source_no_longer_holds_goes() -> None:
    database = MemoryDatabase()
    await synced(database, OBJECTS)
    plane = await synced(database, [each for each in OBJECTS if each["metadata"]["name"] != "in"])
    assert plane.last_flush.operations["delete"] > 0
    assert (await plane.trace("b/evil", "a/x:80")).verdict == "allow"


@pytest.mark.parametrize("seed", range(8))
def test_manifests_read_back_as_what_was_printed(seed: int) -> None:
    loaded = parse_objects(RandomCluster(seed, "dual" if seed % 2 else "v6").manifests())
    recorded = [item for item in loaded.items if is_recorded(item.value)]
    again = parse_objects([manifest(item.value) for item in recorded])
    assert not again.refused
    assert {item.ref: item.value for item in again.items} == {item.ref: item.value for item in recorded}


def test_a_full_node_reads_back() -> None:
    annotations = {
        "k8s.ovn.org/node-subnets": '{"default":["10.200.3.0/24"]}',
        "k8s.ovn.org/node-id": "9",
        "k8s.ovn.org/node-chassis-id": "c0ffee",
        "k8s.ovn.org/node-mgmt-port-mac-address": "0a:58:0a:c8:03:02",
        "k8s.ovn.org/node-primary-ifaddr": '{"ipv4":"192.0.2.7/25"}',
        "k8s.ovn.org/host-cidrs": '["192.0.2.7/25","198.51.100.7/24"]',
        "k8s.ovn.org/gateway-mtu-support": "false",
        "k8s.ovn.org/l3-gateway-config": '{"default":{"mode":"shared","mac-address":"0a:58:c0:00:02:07",'
        '"ip-addresses":["192.0.2.7/25"],"next-hops":["192.0.2.126"],"interface-id":"br-ex_n","vlan-id":"12"}}',
    }
    item = node("n", 7) | {"metadata": {"name": "n", "annotations": annotations, "labels": {"a": "b"}}}
    (first,) = parse_objects([item]).items
    (second,) = parse_objects([manifest(first.value)]).items
    assert second.value == first.value
    assert first.ref == ObjectRef("Node", "", "n")
