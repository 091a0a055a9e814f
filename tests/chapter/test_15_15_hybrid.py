"""15.15, hybrid networking: the manual's configuration, its conditions, and that it is for the installation only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ovnk_core.analysis.lint import lint
from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import Refusal
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.load import load, parse_objects
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Put
from ovnk_core.model.cluster import ClusterNetworkEntry, HybridOverlay
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.model.tables import NODE_DECISION, cluster_key
from ovnk_core.nb.desired import DESIRED, MEMBER
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.store.memory import MemoryLog, MemoryLogDatabase
from ovnk_core.terms.address import cidr
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.annotations import NODE_TOLD, POD_TOLD
from ovnk_core.topology.place import Settings
from tests.kit import manifest as m
from tests.kit.hybrid import (
    LINUX,
    RANGE,
    WINDOWS,
    hybrid,
    installed,
    landscape,
    operator,
    platform,
    put,
    reasons,
    windows_node,
)
from tests.kit.served import until

EXAMPLE = """\
apiVersion: operator.openshift.io/v1
kind: Network
metadata:
  name: cluster
spec:
  defaultNetwork:
    ovnKubernetesConfig:
      hybridOverlayConfig:
        hybridClusterNetwork:
        - cidr: 10.132.0.0/14
          hostPrefix: 23
        hybridOverlayVXLANPort: 9898
"""
"""Step 3 of the procedure."""
PORT = "spec.defaultNetwork.ovnKubernetesConfig.hybridOverlayConfig.hybridOverlayVXLANPort"
CONFIG = "spec.defaultNetwork.ovnKubernetesConfig.hybridOverlayConfig"
BLOCKS = f"{CONFIG}.hybridClusterNetwork"
OPERATOR = ObjectRef("NetworkOperator", "", "cluster")


def example() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(EXAMPLE)
    return found


# ------------------------------------------------------------------------------- the configuration


def test_15_15_1_the_example_on_vsphere() -> None:
    cluster = installed(platform("VSphere"), example(), m.node(LINUX), windows_node())
    entry = ClusterNetworkEntry(cidr=cidr("10.132.0.0/14"), host_prefix_bits=23)
    assert cluster.network.hybrid == HybridOverlay(entries=(entry,), vxlan_port=9898)
    given = cluster.engine.rows(NODE_DECISION)
    assert [str(each) for each in given[cluster_key(WINDOWS)].subnets] == ["10.132.0.0/23"]
    assert [str(each) for each in given[cluster_key(LINUX)].subnets] == ["10.128.0.0/23"]
    told = cluster.engine.rows(NODE_TOLD)
    assert {told[cluster_key(name)].vxlan_port for name in (LINUX, WINDOWS)} == {9898}


def test_15_15_1_step_2_the_stub_says_nothing_of_hybrid_networking() -> None:
    stub = example() | {"spec": None}
    assert installed(stub, m.node(LINUX)).network.hybrid is None


@pytest.mark.parametrize("word", ["AWS", "Azure", "GCP", "BareMetal", "OpenStack"])
def test_15_15_1_a_custom_port_must_not_be_configured_for_any_other_provider(word: str) -> None:
    cluster = Cluster(check=True)
    put(cluster, platform(word), example(), m.node(LINUX))
    assert f"{PORT}: a custom port is for VSphere and must not be configured for any other" in reasons(cluster)
    assert cluster.network.hybrid is None
    # Without a custom port hybrid networking is for every provider.
    assert installed(platform(word), hybrid(), m.node(LINUX)).network.hybrid is not None


def test_15_15_1_the_platform_may_come_from_the_command_line_or_later() -> None:
    cluster = Cluster(settings=Settings(platform="aws"))
    put(cluster, example())
    assert "must not be configured for any other" in reasons(cluster)
    installed(example(), base=Cluster(settings=Settings(platform="vsphere")))
    cluster = installed(example(), m.node(LINUX))
    put(cluster, platform("AWS"))
    assert list(cluster.refused) == [ObjectRef("Infrastructure", "", "cluster")]


def test_15_15_1_an_unknown_platform_is_a_remark() -> None:
    remarks = lint(installed(example(), m.node(LINUX)))
    assert any("9898 is for vSphere only, and no platform is stated" in text for text in remarks)
    assert not any("vSphere" in text for text in lint(installed(platform("VSphere"), example(), m.node(LINUX))))


REFUSED = [
    ("clusterNetwork", hybrid(None, {"cidr": "10.128.0.0/13", "hostPrefix": 23}), BLOCKS, "overlaps"),
    ("service network", hybrid(None, {"cidr": "172.30.4.0/22", "hostPrefix": 26}), BLOCKS, "overlaps"),
    (
        "join range",
        hybrid(None, {"cidr": "100.64.0.0/20", "hostPrefix": 24}),
        f"{BLOCKS}[0]",
        "overlaps the join range",
    ),
    ("transit range", hybrid(None, {"cidr": "100.88.8.0/21", "hostPrefix": 24}), f"{BLOCKS}[0]", "overlaps"),
    ("each other", hybrid(None, RANGE, {"cidr": "10.133.0.0/16", "hostPrefix": 24}), f"{BLOCKS}[1]", "overlaps"),
    ("port 4789", hybrid(4789), PORT, "excluding the default 4789"),
    ("port 0", hybrid(0), PORT, "must be from 1 to 65535"),
    ("port 65536", hybrid(65536), PORT, "must be from 1 to 65535"),
    (
        "port text",
        operator({"hybridOverlayConfig": {"hybridClusterNetwork": [RANGE], "hybridOverlayVXLANPort": "1"}}),
        PORT,
        "must be a whole number",
    ),
    ("the default Geneve port", hybrid(6081), PORT, "the Geneve and the VXLAN port must differ"),
    ("the Geneve port", hybrid(9898, geneve=9898), PORT, "the Geneve and the VXLAN port must differ"),
    ("Geneve on 4789", hybrid(geneve=4789), "spec.defaultNetwork.ovnKubernetesConfig.genevePort", "must differ"),
    ("IPv6", hybrid(None, {"cidr": "fd03::/48", "hostPrefix": 64}), f"{BLOCKS}[0].cidr", "IPv4 only"),
    (
        "hostPrefix too short",
        hybrid(None, {"cidr": "10.132.0.0/14", "hostPrefix": 14}),
        f"{BLOCKS}[0].hostPrefix",
        "longer than the prefix",
    ),
    (
        "hostPrefix too long",
        hybrid(None, {"cidr": "10.132.0.0/14", "hostPrefix": 31}),
        f"{BLOCKS}[0].hostPrefix",
        "at most 30",
    ),
    ("no range", operator({"hybridOverlayConfig": {}}), BLOCKS, "missing"),
    ("no mapping", operator({"hybridOverlayConfig": "yes"}), CONFIG, "must be a mapping"),
]


@pytest.mark.parametrize(("raw", "path", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_15_15_1_bad_configurations(raw: Any, path: str, reason: str) -> None:
    network = m.network({"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}]})
    loaded, cluster = parse_objects([network, raw]), Cluster(check=True)
    cluster.apply(loaded.items, (), loaded.refused)
    # Overlaps with what another object says are found when the two meet.
    found = [f"{error.path}: {error.reason}" for error in cluster.errors]
    assert any(reason in text and (text.startswith(path) or "overlaps" in text) for text in found), found
    assert cluster.network.hybrid is None


def test_an_overlap_shows_whichever_of_the_two_comes_last() -> None:
    cluster = installed(hybrid())
    put(cluster, m.network({"clusterNetwork": [{"cidr": "10.132.0.0/16", "hostPrefix": 23}]}))
    assert "overlaps hybridClusterNetwork[0] (10.132.0.0/14)" in reasons(cluster) or "hybrid" in reasons(cluster)
    assert ObjectRef("Network", "", "cluster") in cluster.refused


def test_an_ipv6_cluster_cannot_be_hybrid() -> None:
    cluster = Cluster(check=True)
    ranges = {"clusterNetwork": [{"cidr": "fd01::/48", "hostPrefix": 64}], "serviceNetwork": ["fd02::/112"]}
    put(cluster, m.network(ranges), hybrid())
    assert "the hybrid overlay is IPv4 only" in reasons(cluster)


def test_a_stated_subnet_that_no_range_holds_is_remarked() -> None:
    stray, linux = windows_node("win-9"), m.node(LINUX)
    stray["metadata"]["annotations"] = {"k8s.ovn.org/hybrid-overlay-node-subnet": "10.140.0.0/23"}
    linux["metadata"]["annotations"] = {"k8s.ovn.org/node-subnets": '{"default":["10.140.2.0/23"]}'}
    told = lint(installed(hybrid(), linux, stray))
    assert any(text.startswith("node win-9: subnet 10.140.0.0/23 ") and "hybridClusterNetwork" in text for text in told)
    assert any(text.startswith(f"node {LINUX}: subnet 10.140.2.0/23 ") and "clusterNetwork" in text for text in told)


def test_15_15_1_windows_server_2019_and_a_custom_port() -> None:
    old = windows_node("win-2019")
    old["metadata"]["labels"]["node.kubernetes.io/windows-build"] = "10.0.17763"
    kernel = windows_node("win-too", "192.0.2.10")
    kernel["status"]["nodeInfo"] = {"kernelVersion": "10.0.17763.6414"}
    newer = windows_node("win-2022", "192.0.2.11")
    newer["status"]["nodeInfo"] = {"kernelVersion": "10.0.20348.2700"}
    (said,) = [
        text
        for text in lint(installed(platform("VSphere"), example(), m.node(LINUX), old, kernel, newer))
        if "2019" in text
    ]
    assert (
        said == "nodes win-2019, win-too: Windows Server 2019 does not support a custom hybridOverlayVXLANPort (9898)"
    )
    assert not any("2019" in text for text in lint(installed(hybrid(), m.node(LINUX), old)))


# ------------------------------------------------------------------------------- the installation only


LATER = [
    ("added", operator({}), hybrid(), "you cannot switch to hybrid networking after the installation process"),
    ("removed", hybrid(), operator({}), "cannot be removed later"),
    (
        "another range",
        hybrid(),
        hybrid(None, {"cidr": "10.136.0.0/14", "hostPrefix": 23}),
        "cannot be changed later",
    ),
    ("another port", hybrid(), hybrid(9898), "cannot be changed later"),
]
later = pytest.mark.parametrize(
    ("first", "then", "reason"), [case[1:] for case in LATER], ids=[case[0] for case in LATER]
)


@later
def test_15_15_1_nothing_changes_after_the_installation(first: Any, then: Any, reason: str) -> None:
    cluster = installed(first, m.node(LINUX))
    before = cluster.network
    put(cluster, then)
    assert CONFIG in reasons(cluster)
    assert reason in reasons(cluster)
    assert cluster.network == before
    put(cluster, first)
    assert not cluster.refused


def test_what_differs_is_named() -> None:
    cluster = installed(hybrid(), m.node(LINUX))
    put(cluster, hybrid(9898, {"cidr": "10.136.0.0/14", "hostPrefix": 23}))
    ranges, port = cluster.errors
    assert (ranges.path.rpartition(".")[2], ranges.value) == ("hybridClusterNetwork", "10.136.0.0/14 hostPrefix 23")
    assert (port.path.rpartition(".")[2], port.value) == ("hybridOverlayVXLANPort", "9898")


@later
def test_before_the_first_node_everything_may_change(first: Any, then: Any, reason: str) -> None:
    cluster = installed(first)
    assert cluster.installed is None
    put(cluster, then, m.node(LINUX))
    assert not cluster.refused
    assert cluster.installed is not None
    # A cluster without nodes is not installed any more.
    cluster.apply((), [ObjectRef("Node", "", LINUX)])
    put(cluster, first)
    assert not cluster.refused


def test_other_settings_of_the_same_object_may_change() -> None:
    cluster = installed(hybrid(), m.node(LINUX))
    put(cluster, hybrid(geneve=7000))
    assert not cluster.refused
    assert cluster.network.geneve_port == 7000


def test_hybrid_networking_outlives_the_object_that_stated_it() -> None:
    cluster = installed(*landscape())
    before = {name: dict(cluster.engine.rows(table)) for name, table in DESIRED.items()}
    cluster.apply((), [OPERATOR])
    assert cluster.network.hybrid is not None
    assert {name: dict(cluster.engine.rows(table)) for name, table in DESIRED.items()} == before
    cluster.engine.verify()


@pytest.mark.asyncio
@later
async def test_by_the_library_and_a_northbound_that_remembers(first: Any, then: Any, reason: str) -> None:
    database = MemoryDatabase()
    async with ControlPlane(MemoryNorthbound(database=database)) as plane:
        receipt = await plane.apply([first, m.node(LINUX)])
        await plane.wait(receipt.revision)
        refused = await plane.apply([then])
        assert not refused.is_accepted
        assert reason in str(refused.results[0].errors)
    # Another process, which has files and no decisions but those of the northbound.
    async with ControlPlane(MemoryNorthbound(database=database), writes=False) as plane:
        receipt = await plane.replace(parse_objects([then, m.node(LINUX)]))
        assert reason in "".join(str(error) for error in plane.errors)
        assert plane.cluster.installed is not None


@later
def test_by_saved_decisions(first: Any, then: Any, reason: str) -> None:
    import json

    text = json.dumps(decisions_manifest(installed(first, m.node(LINUX)).decisions)).encode()
    cluster = Cluster(decisions=read_decisions(text, source="decisions.json"))
    put(cluster, then, m.node(LINUX))
    assert reason in reasons(cluster)


def test_a_record_with_nodes_that_says_nothing_is_of_a_cluster_without_hybrid_networking() -> None:
    known = installed(m.node(LINUX)).decisions
    old = read_decisions(
        b'{"apiVersion":"ovnk/v1","kind":"Decisions","nodes":{"node-1":{"subnets":["10.128.0.0/23"],"id":2}}}',
        source="old.json",
    )
    assert known.install is not None
    cluster = Cluster(decisions=old)
    put(cluster, hybrid(), m.node(LINUX))
    assert "you cannot switch to hybrid networking" in reasons(cluster)


@pytest.mark.asyncio
@later
async def test_by_the_service_also_after_a_restart(first: Any, then: Any, reason: str) -> None:
    log, database = MemoryLogDatabase(), MemoryDatabase()
    for is_new in (True, False):
        async with Keeper(MemoryNorthbound(database=database), MemoryLog(log)) as keeper:
            await until(lambda: keeper.term is not None)
            if is_new:
                await keeper.commit(keeper.request([Put(manifest=each) for each in (first, m.node(LINUX))]))
                await until(lambda: keeper.plane.cluster.installed is not None)
                await keeper.wait(keeper.revision, "programmed", 10)
            assert keeper.plane.cluster.installed is not None
            with pytest.raises(Refusal, match=reason):
                await keeper.commit(keeper.request([Put(manifest=then)]))


@pytest.mark.asyncio
async def test_by_a_server_that_only_reads() -> None:
    """A replica neither decides nor writes; what was installed reaches it through the log."""
    log, database = MemoryLogDatabase(), MemoryDatabase()
    async with Keeper(MemoryNorthbound(database=database), MemoryLog(log)) as writer:
        await until(lambda: writer.term is not None)
        async with Keeper(MemoryNorthbound(database=database), MemoryLog(log)) as reader:
            await writer.commit(writer.request([Put(manifest=each) for each in landscape()]))
            await writer.wait(writer.revision, "programmed", 10)
            await until(lambda: reader.revision == log.revision)
            assert not reader.plane.cluster.is_deciding
            assert reader.plane.cluster.network == writer.plane.cluster.network
            assert reader.plane.cluster.engine.rows(NODE_TOLD) == writer.plane.cluster.engine.rows(NODE_TOLD)
            with pytest.raises(Refusal, match="cannot be removed later"):
                await reader.commit(reader.request([Put(manifest=operator({}))]))


# ------------------------------------------------------------------------------- ports are outputs


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [(hybrid(9898), hybrid(9899), "vxlan_port"), (hybrid(9898), hybrid(9898, geneve=7000), "geneve_port")],
    ids=["VXLAN", "Geneve"],
)
def test_a_port_changes_exactly_the_outputs_of_nodes(one: Any, other: Any, field: str) -> None:
    """Two fresh installations that differ in one port."""
    first, second = (installed(*landscape()[1:], base=installed(each)) for each in (one, other))
    for table in (*DESIRED.values(), POD_TOLD):
        assert dict(first.engine.rows(table)) == dict(second.engine.rows(table)), table.name
    assert {key: set(found) for key, found in first.engine.sets(MEMBER).items()} == {
        key: set(found) for key, found in second.engine.sets(MEMBER).items()
    }
    changed: dict[str, set[str]] = {}
    told = second.engine.rows(NODE_TOLD)
    for key, was in first.engine.rows(NODE_TOLD).items():
        now = told[key]
        changed[key.name] = {each for each in was.__struct_fields__ if getattr(was, each) != getattr(now, each)}
    expected = {LINUX: {field}, "node-2": {field}, WINDOWS: {field} if field == "vxlan_port" else set()}
    assert changed == expected


def test_without_hybrid_networking_a_windows_node_waits() -> None:
    cluster = Cluster(check=True)
    put(cluster, m.node(LINUX), windows_node())
    assert "not installed with hybrid networking" in reasons(cluster)
    assert cluster_key(WINDOWS) not in cluster.engine.rows(NODE_DECISION)


def test_a_folder_of_the_installation_program(tmp_path: Path) -> None:
    """Step 5 keeps the manifest; it is read as any other."""
    (tmp_path / "cluster-network-03-config.yml").write_text(EXAMPLE)
    loaded = load([str(tmp_path)])
    assert not loaded.refused
    assert [item.ref for item in loaded.items] == [OPERATOR]
