"""15.11: what an egress router wants of the platform, its node and its address, and what lint says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovnk_core.analysis.lint import lint
from ovnk_core.analysis.router_lint import MANY, router_findings
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.platform import requirements, support
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from tests.kit.manual_router import AROUND, DEFINITION, LABELLED, NODE, POD, ROUTER, SERVICE, SLICE, loaded, placed


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("", 0),
        ("BareMetal", 0),
        ("oVirt", 1),
        ("VSphere", 3),
        ("OpenStack", 1),
        ("AWS", 1),
        ("Azure", 1),
    ],
)
def test_what_the_platform_must_allow(tmp_path: Path, platform: str, said: int) -> None:
    infrastructure = f"""\
apiVersion: config.openshift.io/v1
kind: Infrastructure
metadata: {{name: cluster}}
status: {{platformStatus: {{type: "{platform}"}}}}
"""
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(LABELLED), SERVICE, SLICE, infrastructure)
    found = requirements(platform, cluster.engine.rows(ROUTER_PLAN)[ROUTER])
    assert len(found) == said
    if platform == "OpenStack":
        assert found == (
            "openstack port set --allowed-address ip_address=192.168.12.99,mac_address=<mac_address> "
            "<neutron_port_uuid>",
        )
    if platform == "VSphere":
        assert ["promiscuous" in found[0], "MAC address changes" in found[1], "forged" in found[2]] == [True] * 3
    is_cloud = platform in ("AWS", "Azure")
    assert (support(platform) == "unsupported") == is_cloud
    assert any(each.startswith(f"platform {platform}: an egress router") for each in lint(cluster)) == is_cloud


def test_a_second_replica_and_an_address_in_use(tmp_path: Path) -> None:
    twin = placed(POD).replace("name: egress-router-pod\n  ann", "name: twin\n  ann").replace("2.31", "2.32")
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), twin)
    for pod in ("default/egress-router-pod", "default/twin"):
        assert any(each.startswith(f"pod {pod}: 192.168.12.99 is used by") for each in lint(cluster))
    taken = DEFINITION.replace("192.168.12.99/24", "192.168.12.6/24")
    texts = lint(loaded(tmp_path, AROUND, taken, placed(POD)))
    assert any("192.168.12.6 is an address of node other, too" in each for each in texts)


def found_of(cluster: Cluster) -> set[tuple[str, str, str, str]]:
    """(code, severity, object, line) of every finding."""
    return {
        (each.code, each.severity, str(each.object), each.source.rpartition(":")[2])
        for each in router_findings(cluster)
    }


def test_findings_have_a_code_a_severity_and_a_line(tmp_path: Path) -> None:
    cloud = "apiVersion: config.openshift.io/v1\nkind: Infrastructure\nmetadata: {name: cluster}\n"
    cloud += "status: {platformStatus: {type: AWS}}\n"
    found = found_of(loaded(tmp_path, cloud, SERVICE, DEFINITION, placed(POD), AROUND))
    assert {each[:3] for each in found} == {
        ("router-platform", "error", "Infrastructure cluster"),
        ("router-unserved", "note", f"Pod {ROUTER}"),
        ("router-service", "error", "Service default/egress-1"),
    }
    lines = {each[0]: each[3] for each in found}
    assert (lines["router-platform"], lines["router-service"]) == ("1", "6")
    assert found_of(loaded(tmp_path, AROUND, POD)) >= {("router-undeclared", "error", f"Pod {ROUTER}", "16")}


def test_many_routers_on_one_node(tmp_path: Path) -> None:
    def pods(count: int) -> list[str]:
        return [
            placed(POD).replace("name: egress-router-pod\n  ann", f"name: r{at}\n  ann").replace("2.31", f"2.{40 + at}")
            for at in range(count)
        ]

    few, many = (found_of(loaded(tmp_path, AROUND, DEFINITION, *pods(count))) for count in (MANY - 1, MANY))
    assert "router-crowded" not in {each[0] for each in few}
    assert ("router-crowded", "warning", f"Node {NODE}") in {each[:3] for each in many}
