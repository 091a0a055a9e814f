"""``ovnk annotations``: of files and of a server the same."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.command import check, ovnk
from tests.cli.online import terminal, write
from tests.kit.hybrid import landscape


def test_annotations_of_files(tmp_path: Path) -> None:
    path = write(tmp_path, *landscape(9898))
    found = ovnk("annotations", "-f", path, "-o", "json").json("annotations")
    assert [each["name"] for each in found["nodes"]] == ["node-1", "node-2", "win-1"]
    assert [each["ports"] for each in found["nodes"]] == [
        {"geneve": 6081, "vxlan": 9898},
        {"geneve": 6081, "vxlan": 9898},
        {"geneve": None, "vxlan": 9898},
    ]
    assert found["nodes"][2]["annotations"] == {"k8s.ovn.org/hybrid-overlay-node-subnet": "10.132.0.0/23"}
    assert [(each["namespace"], each["name"]) for each in found["pods"]] == [("shop", "db"), ("shop", "web")]
    assert yaml.safe_load(ovnk("annotations", "-f", path, "-o", "yaml").out) == found
    names = ovnk("annotations", "-f", path, "-o", "name").out.split()
    assert names == ["node/node-1", "node/node-2", "node/win-1", "pod/shop/db", "pod/shop/web"]
    lines = ovnk("annotations", "-f", path).out.splitlines()
    assert lines[0].split() == ["OBJECT", "ANNOTATION", "VALUE"]
    assert ["node/win-1", "k8s.ovn.org/hybrid-overlay-node-subnet", "10.132.0.0/23"] in map(str.split, lines)
    assert ["node/node-1", "(vxlan", "port)", "9898"] in map(str.split, lines)


def test_nodes_are_told_which_egress_ips_they_hold() -> None:
    nodes = ovnk("annotations", "-f", "examples/shop", "-o", "json").json("annotations")["nodes"]
    assert {each["name"]: each["egressIPs"] for each in nodes} == {
        "worker-1": ["192.0.2.101"],
        "worker-2": ["192.0.2.102"],
        "worker-3": [],
    }
    lines = ovnk("annotations", "-f", "examples/shop").out.splitlines()
    assert ["node/worker-1", "(egress", "ip)", "192.0.2.101"] in map(str.split, lines)


def test_a_refused_object_shows_in_the_status(tmp_path: Path) -> None:
    ran = ovnk("annotations", "-f", write(tmp_path, *landscape(4789)), "-o", "json")
    assert ran.code == 1
    assert "excluding the default 4789" in ran.err


def test_a_server_says_what_files_say(tmp_path: Path) -> None:
    path = write(tmp_path, *landscape())
    offline = ovnk("annotations", "-f", path, "-o", "json").json("annotations")
    with terminal() as online:
        online.ok("apply", "-f", path, "--wait")  # Addresses are decided after a change is accepted.
        found = json.loads(online.ok("annotations", "-o", "json"))
    check(found, "annotations")
    assert found == offline
