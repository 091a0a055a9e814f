"""``ovnk egressip`` over files: assignments, reasons, loads, and what a record keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ovnk

SHOP = "examples/shop"
MORE = """
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata: {name: %s}
spec: {egressIPs: [%s], namespaceSelector: {}}
"""


def test_assignments_and_loads_as_json() -> None:
    document = ovnk("egressip", "-f", SHOP, "-o", "json").json("egressip")
    assert document["egressips"] == [
        {
            "name": "payments",
            "assignments": [
                {"egressIP": "192.0.2.101", "node": "worker-1"},
                {"egressIP": "192.0.2.102", "node": "worker-2"},
            ],
            "unassigned": [],
        }
    ]
    assert document["nodes"] == [
        {"name": "worker-1", "assignable": True, "reason": None, "load": 1},
        {"name": "worker-2", "assignable": True, "reason": None, "load": 1},
        {"name": "worker-3", "assignable": False, "reason": "NotLabelled", "load": 0},
    ]


def test_what_is_on_no_node_is_shown_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(MORE % ("other", "192.0.2.101, 198.51.100.9"))
    lines = ovnk("egressip", "-f", SHOP, "-f", str(file)).out.splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "EGRESSIP", "NODE", "REASON"],
        ["other", "192.0.2.101", "worker-1", "-"],
        ["other", "198.51.100.9", "-", "Subnet"],
        ["payments", "192.0.2.102", "worker-2", "-"],
        ["payments", "192.0.2.101", "-", "Conflict"],
    ]
    wide = ovnk("egressip", "-f", SHOP, "-f", str(file), "-o", "wide").out
    assert "is held by EgressIP other" in wide and ["worker-3", "no", "NotLabelled", "0"] in map(
        str.split, wide.splitlines()
    )
    assert ovnk("egressip", "-f", SHOP, "-o", "name").out == "egressip.k8s.ovn.org/payments\n"


def test_an_address_on_no_node_is_an_answer_and_a_refused_object_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(MORE % ("far", "198.51.100.9"))
    assert ovnk("egressip", "-f", SHOP, "-f", str(file)).code == 0
    file.write_text(MORE % ("bad", "198.51.100.9/24"))
    assert ovnk("egressip", "-f", SHOP, "-f", str(file)).code == 1


def test_a_record_stays_and_rebalancing_spreads_it(tmp_path: Path) -> None:
    record, file = tmp_path / "decisions.json", tmp_path / "shop.yaml"
    text = "\n---\n".join(path.read_text() for path in sorted(Path(SHOP).glob("c*.yaml")))
    more = [MORE % (f"e{at}", f"192.0.2.{110 + at}") for at in range(4)]
    one_label = text.replace('worker-2, k8s.ovn.org/egress-assignable: ""', "worker-2")
    file.write_text("\n---".join([one_label, *more]))
    ovnk("sync", "-f", str(file), "--northbound", "memory", "--save-decisions", str(record))
    file.write_text("\n---".join([text, *more]))
    given = ("egressip", "-f", str(file), "--decisions", str(record), "-o", "json")
    loads = [each["load"] for each in ovnk(*given).json("egressip")["nodes"]]
    assert loads == [4, 0, 0]
    spread = ovnk(*given, "--rebalance").json("egressip")
    assert [each["load"] for each in spread["nodes"]] == [2, 2, 0]
    assert all(not each["unassigned"] for each in spread["egressips"])


def test_a_step_cites_the_line_of_the_address_that_is_used(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        """apiVersion: v1
kind: Node
metadata: {name: n1, labels: {k8s.ovn.org/egress-assignable: ""}}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: a}
spec: {nodeName: n1}
---
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata: {name: out}
spec:
  namespaceSelector: {}
  egressIPs:
  - 198.51.100.1
  - 192.0.2.100
"""
    )
    out = ovnk("trace", "-f", str(file), "--from", "a/p", "--to", "203.0.113.9:80").out
    assert f"{file}:22]" in out, out
    beside = ovnk("trace", "-f", str(file), "--from", "a/p", "--to", "192.0.2.100:80").out
    assert "192.0.2.100 is an egress IP of EgressIP out on node n1, where nothing listens" in beside


STATED = """
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata: {name: live}
spec:
  namespaceSelector: {}
  egressIPs: [192.0.2.110, 192.0.2.111]
status:
  %s:
  - {egressIP: %s, node: %s}
  - {egressIP: %s, node: %s}
"""


def placed(*words: str) -> dict[str, list[dict[str, Any]]]:
    document = ovnk("egressip", *words, "-o", "json").json("egressip")
    return {each["name"]: each["assignments"] for each in document["egressips"]}


@pytest.mark.parametrize("key", ["items", "assignments"])
def test_files_of_a_live_cluster_say_where_its_egress_ips_are(tmp_path: Path, key: str) -> None:
    file = tmp_path / "live.yaml"
    file.write_text(STATED % (key, "192.0.2.110", "worker-2", "192.0.2.111", "worker-1"))
    given = ("-f", SHOP, "-f", str(file))
    assert placed(*given)["live"] == [
        {"egressIP": "192.0.2.110", "node": "worker-2"},
        {"egressIP": "192.0.2.111", "node": "worker-1"},
    ]
    assert "is not on node" not in ovnk("egressip", *given).err
    # What is on record counts for more than what a file says.
    record = tmp_path / "decisions.json"
    plain = tmp_path / "plain.yaml"
    plain.write_text(file.read_text().partition("status:")[0])
    ovnk("sync", "-f", SHOP, "-f", str(plain), "--northbound", "memory", "--save-decisions", str(record))
    found = ovnk("egressip", *given, "--decisions", str(record))
    assert found.out == ovnk("egressip", "-f", SHOP, "-f", str(plain)).out
    text = f"{file}:10: EgressIP live: status.{key}[0]: 192.0.2.110 is not on node worker-2"
    assert f"{text}: the record has it on worker-1; here it is on worker-1" in found.err
    edit = ovnk("diff", "-f", SHOP, "-f", str(plain), "--to", SHOP, "--to", str(file))
    assert f"{text}: BEFORE has it on worker-1; here it is on worker-1" in edit.err
    # A control plane that decides takes no status from files, and says so.
    synced = ovnk("sync", *given, "--northbound", "memory")
    assert f"{text}: that is decided here, whatever a status says; here it is on worker-1" in synced.err


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        (("192.0.2.110", "gone", "192.0.2.111", "worker-1"), "there is no such node; here it is on worker-2"),
        (("192.0.2.110", "worker-3", "192.0.2.111", "worker-1"), "worker-3, which may hold no egress IP (NotLabelled)"),
        (("192.0.2.110", "worker-1", "192.0.2.111", "worker-1"), "worker-1, which is stated to hold 192.0.2.110"),
        (("192.0.2.110", "worker-1", "192.0.2.110", "worker-2"), "it is stated more than once"),
        (("192.0.2.110", "worker-1", "192.0.2.199", "worker-2"), "spec.egressIPs does not name it"),
        (("192.0.2.110", "worker-1", "none", "worker-2"), "not an IP address"),
    ],
)
def test_what_a_status_cannot_say_is_placed_anew_with_a_remark(
    tmp_path: Path, stated: tuple[str, ...], why: str
) -> None:
    file = tmp_path / "live.yaml"
    file.write_text(STATED % ("items", *stated))
    found = ovnk("egressip", "-f", SHOP, "-f", str(file), "-o", "json")
    (told,) = [line for line in found.err.splitlines() if "is not on node" in line]
    assert told.startswith(f"warning: {file}:") and "status.items[" in told and why in told, told
    (live,) = [each for each in found.json("egressip")["egressips"] if each["name"] == "live"]
    assert {each["node"] for each in live["assignments"]} == {"worker-1", "worker-2"}
    assert found.code == 0


def test_an_address_that_two_statuses_claim_is_the_older_objects(tmp_path: Path) -> None:
    status = "status: {items: [{egressIP: 192.0.2.110, node: worker-%d}]}\n"
    text = "---".join((MORE % (name, "192.0.2.110")) + status % at for name, at in (("a", 2), ("b", 1)))
    file = tmp_path / "live.yaml"
    file.write_text(text)
    found = ovnk("egressip", "-f", SHOP, "-f", str(file))
    assert "is not on node worker-1: is held by EgressIP a; here it is on no node" in found.err
    assert placed("-f", SHOP, "-f", str(file))["a"] == [{"egressIP": "192.0.2.110", "node": "worker-2"}]


def test_a_diff_of_files_says_as_whom_servers_outside_see_pods(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(MORE % ("all", "192.0.2.110"))
    document = ovnk("diff", "-f", SHOP, "--to", SHOP, "--to", str(file), "-o", "json").json("diff")
    changed = {each["namespace"]: each["after"]["source_ip"] for each in document["sources"]}
    assert changed["shop"] == "192.0.2.110" and all(each["after"]["egressip"] == "all" for each in document["sources"])


PLATFORM = """
apiVersion: config.openshift.io/v1
kind: Infrastructure
metadata: {name: cluster}
status: {platformStatus: {type: %s}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {k8s.ovn.org/egress-assignable: ""}}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---"""


@pytest.mark.parametrize(
    ("stated", "option", "is_supported"),
    [
        ("AWS", "BareMetal", True),
        ("BareMetal", "AWS", False),
        ("AWS", "vSphere", True),
        ("AWS", "none", True),
        ("vsphere", "", True),
        ("AWS", "", False),
        ("BareMetal", "Moon", False),
    ],
)
def test_the_platform_of_the_command_line_comes_before_the_objects(
    tmp_path: Path, stated: str, option: str, is_supported: bool
) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(PLATFORM % stated + MORE % ("all", "192.0.2.110"))
    given = ("-f", str(file), *(("--platform", option) if option else ()))
    assert bool(placed(*given)["all"]) is is_supported
    nodes = ovnk("egressip", *given, "-o", "json").json("egressip")["nodes"]
    assert any(each["assignable"] for each in nodes) is is_supported
    told = ovnk("validate", *given)
    assert (f"platform {option} is not known" in told.err + told.out) is (option == "Moon")
    assert ("egress IPs are not supported on platform" in ovnk("lint", *given).out) is not is_supported


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1", "is the next hop, assumed without k8s.ovn.org/l3-gateway-config, of node n1"),
        (
            "192.0.2.255",
            "is the broadcast address of the subnet, assumed without k8s.ovn.org/node-primary-ifaddr (--node-prefix),"
            " of node n1",
        ),
        (
            "192.0.3.9",
            "lies in the primary subnet of no node that could hold it; some are assumed without"
            " k8s.ovn.org/node-primary-ifaddr (--node-prefix)",
        ),
    ],
)
def test_what_is_only_assumed_is_said_to_be(tmp_path: Path, address: str, why: str) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(PLATFORM % "BareMetal" + MORE % ("all", address))
    (found,) = ovnk("egressip", "-f", str(file), "-o", "json").json("egressip")["egressips"]
    assert [each["message"] for each in found["unassigned"]] == [why]


def test_a_host_leaves_as_its_node(tmp_path: Path) -> None:
    """An EgressIP has no part in it; the answer says how it leaves all the same."""
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: a}
spec: {nodeName: n1, hostNetwork: %s}
---"""
    file = tmp_path / "one.yaml"
    file.write_text(PLATFORM % "BareMetal" + pod % ("h", "true") + pod % ("p", "false") + MORE % ("all", "192.0.2.110"))
    found = {}
    for source in ("a/h", "192.0.2.11", "a/p"):
        given = ("trace", "-f", str(file), "--from", source, "--to", "8.8.8.8:53", "--engine", "all", "-o", "json")
        found[source] = ovnk(*given).json("trace")["egress"]
    own = {"node": "n1", "source_ip": "192.0.2.11"}
    assert found["a/h"] == found["192.0.2.11"] == {"egressip": None, "candidates": [own], **own}
    assert (found["a/p"]["egressip"], found["a/p"]["source_ip"]) == ("all", "192.0.2.110")
