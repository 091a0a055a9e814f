"""Multicast through the command: annotated, asked, listed and turned off again; on files and on a served cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.cli.command import check, ovnk
from tests.cli.online import terminal

ON = "k8s.ovn.org/multicast-enabled"
GROUP = ("--to", "224.1.0.1", "--protocol", "udp")
ASK = ("trace", "--from", "project/msender", *GROUP)
OBJECTS = """\
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.0.2.12}]}
---
apiVersion: v1
kind: Namespace
metadata:
  name: project
  labels: {team: red}
  annotations:
    k8s.ovn.org/multicast-enabled: "true"
---
apiVersion: v1
kind: Pod
metadata: {name: mlistener, namespace: project}
spec: {nodeName: n1, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: msender, namespace: project}
spec: {nodeName: n2, containers: []}
"""
RECEIVERS = [{"namespace": "project", "name": "mlistener", "node": "n1"}]


def test_receivers_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(OBJECTS)
    found = ovnk(*ASK, "-f", str(file), "-o", "json").json("trace")
    assert (found["verdict"], found["path"], found["receivers"]) == ("allow", "multicast", RECEIVERS)
    assert found["steps"][0]["source"] == f"{file}:17"
    text = ovnk(*ASK, "-f", str(file)).out
    assert "receivers: project/mlistener (n1)\n" in text and "path: multicast, n2 -> n1 (geneve)\n" in text


def test_the_port_matters_only_to_groups_that_policies_judge(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(OBJECTS)
    without = ovnk(*ASK, "-f", str(file), "-o", "json", "--engine", "all").json("trace")
    assert without == ovnk(*ASK, "--port", "30102", "-f", str(file), "-o", "json", "--engine", "all").json("trace")
    link = ovnk("trace", "--from", "project/msender", "--to", "ff02::1:3", "--protocol", "udp", "-f", str(file))
    assert link.code == 2 and "udp needs a port: --port N or --to [ff02::1:3]:N" in link.err


def test_a_misspelt_value_is_off_and_the_reason_points_to_it(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(OBJECTS.replace('"true"', '"True"'))
    ran = ovnk(*ASK, "-f", str(file), "-o", "json")
    found = json.loads(ran.out)
    assert (found["verdict"], found["receivers"]) == ("drop", [])
    assert ON in found["reason"] and "namespace project" in found["reason"]
    assert found["steps"][-1]["source"] == f"{file}:17"
    assert 'is not "true", multicast is off' in ran.err
    assert "receivers: none\n" in ovnk(*ASK, "-f", str(file)).out


def test_an_annotation_that_is_not_there_is_missed_at_its_namespace(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(OBJECTS.replace(f'  annotations:\n    {ON}: "true"\n', ""))
    found = ovnk(*ASK, "-f", str(file), "-o", "json").json("trace")
    assert found["verdict"] == "drop" and found["steps"][-1]["source"] == f"{file}:13"


def test_on_a_served_cluster() -> None:
    """15.13 and 15.14 as an administrator types them."""
    objects = list(yaml.safe_load_all(OBJECTS))
    del objects[2]["metadata"]["annotations"]
    with terminal() as server:
        server.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
        for name in ("mlistener", "msender"):
            server.ok("wait", f"pod/{name}", "-n", "project", "--for=jsonpath={.status.podIP}")

        def ask() -> Any:
            found = json.loads(server.ok(*ASK, "-o", "json"))
            check(found, "trace")
            return found

        assert (ask()["verdict"], ask()["receivers"]) == ("drop", [])
        assert server.ok("annotate", "namespace", "project", f"{ON}=true") == "namespace/project annotated\n"
        found = ask()
        assert (found["verdict"], found["receivers"]) == ("allow", RECEIVERS)
        assert found["steps"][0]["source"] == f'Namespace project metadata.annotations["{ON}"]'
        assert "receivers: project/mlistener (n1)\n" in server.ok(*ASK)
        assert json.loads(server.ok("get", "ns", "project", "-o", "json"))["metadata"]["annotations"] == {ON: "true"}
        assert server.ok("annotate", "namespace", "project", f"{ON}-") == "namespace/project annotated\n"
        assert (ask()["verdict"], ask()["receivers"]) == ("drop", [])
        assert 'is not "true", multicast is off' in server.run("annotate", "namespace", "project", f"{ON}=True").err
        objects[2]["metadata"]["annotations"] = {ON: "yes"}
        ran = server.run("apply", "-f", "-", stdin=yaml.safe_dump(objects[2]))
        assert ran.code == 0 and 'is not "true", multicast is off' in ran.err
