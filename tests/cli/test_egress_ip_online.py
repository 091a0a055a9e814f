"""EgressIPs on a server: where they are, draining a node, spreading them, and what get, describe and wait say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import check
from tests.cli.online import Terminal, terminal, write

LABEL = "k8s.ovn.org/egress-assignable"


def node(name: str, number: int) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def egress_ip(name: str, *addresses: str) -> dict[str, Any]:
    selector = {"matchLabels": {"env": "qa"}}
    spec = {"egressIPs": list(addresses), "namespaceSelector": selector}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Terminal]:
    """Two nodes, of which the first is labelled, and two objects."""
    with terminal() as found:
        objects = (node("n1", 1), node("n2", 2), egress_ip("a", "192.0.2.100"), egress_ip("b", "192.0.2.101"))
        found.ok("apply", "-f", write(tmp_path, *objects), "--wait")
        found.ok("label", "nodes", "n1", f"{LABEL}=", "--wait")
        yield found


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_wait_and_describe(at: Terminal) -> None:
    at.ok("wait", "egressip/a", "--for=condition=Assigned", "--timeout", "20s")
    at.ok("wait", "egressip/b", "--for=jsonpath={.status.items[0].node}=n1", "--timeout", "20s")
    found = rows(at.ok("get", "egressip"))
    assert found[0] == ["NAME", "EGRESSIPS", "ASSIGNED", "NODE", "ASSIGNED", "EGRESSIPS", "AGE"]
    assert found[1][:4] == ["a", "192.0.2.100", "n1", "192.0.2.100"]
    wide = at.ok("get", "egressip", "a", "-o", "wide")
    assert "env=qa" in wide and "UNASSIGNED" in wide
    document = json.loads(at.ok("get", "egressip", "a", "-o", "json"))
    assert document["status"]["items"] == [{"egressIP": "192.0.2.100", "node": "n1"}]
    assert document["status"]["assignments"] == document["status"]["items"]
    at.ok("label", "nodes", "n1", f"{LABEL}-", "--wait")
    at.ok("wait", "egressip/a", "--for=condition=Assigned=False", "--timeout", "20s")
    described = at.ok("describe", "egressip", "a")
    assert "NoNode" in described and "192.0.2.100 is on node n1" in described


def test_the_same_document_as_of_files(at: Terminal) -> None:
    document = json.loads(at.ok("egressip", "-o", "json"))
    assert document == {
        "apiVersion": "ovnk/v1",
        "egressips": [
            {"name": name, "assignments": [{"egressIP": address, "node": "n1"}], "unassigned": []}
            for name, address in (("a", "192.0.2.100"), ("b", "192.0.2.101"))
        ],
        "nodes": [
            {"name": "n1", "assignable": True, "reason": None, "load": 2},
            {"name": "n2", "assignable": False, "reason": "NotLabelled", "load": 0},
        ],
    }
    at.ok("label", "nodes", "n1", f"{LABEL}-", "--wait")
    (first, *_) = json.loads(at.ok("egressip", "-o", "json"))["egressips"]
    assert first["assignments"] == [] and first["unassigned"][0]["reason"] == "NoNode"


def test_rebalance_and_drain(at: Terminal) -> None:
    at.ok("label", "nodes", "n2", f"{LABEL}=", "--wait")
    tried = at.run("egressip", "--rebalance", "--dry-run")
    assert (tried.code, tried.err) == (0, "a: 192.0.2.100 n1 -> n2\n"), tried
    moved = at.run("egressip", "--rebalance")
    assert moved.err == tried.err
    assert [line[:3] for line in rows(moved.out)[1:]] == [["a", "192.0.2.100", "n2"], ["b", "192.0.2.101", "n1"]]
    happened = at.ok("describe", "egressip", "a")
    assert "192.0.2.100 leaves node n1" in happened and "192.0.2.100 is on node n2, moved from node n1" in happened
    assert at.run("egressip", "--rebalance").err == "nothing moves\n"
    drained = at.run("drain", "n1", "--timeout", "20s")
    assert (drained.code, drained.out, drained.err) == (0, "node/n1 drained\n", "b: 192.0.2.101 n1 -> n2\n")
    assert [each["load"] for each in json.loads(at.ok("egressip", "-o", "json"))["nodes"]] == [0, 2]
    tried = at.run("drain", "n2", "--dry-run")
    assert (tried.code, tried.out) == (1, "node/n2 drained (server dry run)\n")
    nowhere = at.run("drain", "node/n2", "--timeout", "20s")
    assert (nowhere.code, nowhere.out) == (1, "node/n2 drained\n")
    why = "no node is labelled k8s.ovn.org/egress-assignable, Ready, reachable and not drained"
    assert nowhere.err == f"a: 192.0.2.100 n2 -> nowhere ({why})\nb: 192.0.2.101 n2 -> nowhere ({why})\n" == tried.err
    for words in (("drain", "n2", "--timeout", "20s"), ("drain", "n2", "--dry-run")):
        again = at.run(*words)
        assert (again.code, again.err) == (1, tried.err), "the same state, whoever asks again"
    assert at.ok("uncordon", "node", "n1") == "node/n1 uncordoned\n"
    assert at.ok("uncordon", "n1") == "node/n1 was not drained\n"
    at.ok("wait", "egressip/a", "--for=jsonpath={.status.items[0].node}=n1", "--timeout", "20s")


def test_what_an_operator_reports_of_nodes(at: Terminal) -> None:
    assert at.ok("report", "n1=down", "node/n2=up") == "node/n1 reported down\nnode/n2 reported up\n"
    assert ["n1", "no", "Unreachable", "0"] in rows(at.ok("egressip", "-o", "wide"))
    assert "does not answer" in at.ok("describe", "node", "n1")
    at.ok("report", "n1=up")
    assert rows(at.ok("egressip", "-o", "wide"))[-2][:3] == ["n1", "yes", "-"]


def test_what_is_misused(at: Terminal, tmp_path: Path) -> None:
    file = write(tmp_path, node("n1", 1))
    for words, code in (
        (("drain", "n9"), 1),
        (("uncordon", "n9"), 1),
        (("drain", "n1", "n2"), 2),
        (("drain", "pod/n1"), 2),
        (("report", "n9=up"), 1),
        (("report", "n1"), 2),
        (("report", "n1=up", "n1=down"), 2),
        (("egressip", "--dry-run"), 2),
        (("egressip", "-f", file, "--rebalance", "--dry-run"), 2),
    ):
        assert at.run(*words).code == code, words


def test_a_server_decides_whatever_a_files_status_says(at: Terminal, tmp_path: Path) -> None:
    stated = egress_ip("c", "192.0.2.102") | {"status": {"items": [{"egressIP": "192.0.2.102", "node": "n2"}]}}
    at.ok("apply", "-f", write(tmp_path, stated), "--wait")
    (found,) = [each for each in json.loads(at.ok("egressip", "-o", "json"))["egressips"] if each["name"] == "c"]
    assert found["assignments"] == [{"egressIP": "192.0.2.102", "node": "n1"}]


def test_a_diff_says_as_whom_servers_outside_see_pods(at: Terminal, tmp_path: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "qa", "labels": {"env": "qa"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "qa"},
        "spec": {"nodeName": "n2"},
    }
    at.ok("apply", "-f", write(tmp_path, namespace, pod), "--wait")
    files = [
        write(tmp_path, egress_ip("a", address), name=f"{address}.yaml") for address in ("192.0.2.100", "192.0.2.9")
    ]
    assert at.ok("diff", "-f", files[0]) == "nothing differs\n"
    ran = at.run("diff", "-f", files[1], "-o", "json")
    (change,) = json.loads(ran.out)["sources"]
    check(json.loads(ran.out), "diff")
    shown = [
        (change[state]["egressip"], change[state]["node"], change[state]["source_ip"]) for state in ("before", "after")
    ]
    assert (change["example"], shown) == ("qa/web", [("a", "n1", "192.0.2.100"), ("a", "n1", "192.0.2.9")])
    table = at.run("diff", "-f", files[1]).out
    assert "n1 as 192.0.2.100 (EgressIP a)" in table and "n1 as 192.0.2.9 (EgressIP a)" in table, table


RULES = """
[[rule]]
identities = ["local"]
verbs = ["apply", "egress"]

[[rule]]
identities = ["local"]
verbs = ["get", "list", "watch"]
kinds = ["EgressIP"]
"""


def test_whoever_may_not_read_nodes_drains_them_all_the_same(tmp_path: Path) -> None:
    """What is not told is no failure, and is said to be left out."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    nodes = [node(name, number) for number, name in enumerate(("hidden-1", "hidden-2"), 1)]
    for each in nodes:
        each["metadata"]["labels"] = {LABEL: ""}
    with terminal(options={"authorisation": str(rules)}) as at:
        at.ok("apply", "-f", write(tmp_path, *nodes, egress_ip("a", "192.0.2.100")), "--wait")
        at.ok("wait", "egressip/a", "--for=condition=Assigned", "--timeout", "20s")
        shown = at.ok("get", "egressip"), at.ok("egressip", "-o", "wide"), at.ok("describe", "egressip", "a")
        assert "hidden-" not in "".join(shown) and all("192.0.2.100" in each for each in shown)
        assert rows(shown[1])[1] == ["a", "192.0.2.100", "(hidden)", "-", "-"]
        drained = at.run("drain", "hidden-1", "--timeout", "20s")
        assert (drained.code, drained.out) == (0, "node/hidden-1 drained\n")
        assert (
            "a: 192.0.2.100 (hidden) -> (hidden)\n" in drained.err
            and "there is more to it that you may not read" in drained.err
        )
        check(json.loads(at.ok("egressip", "-o", "json")), "egressip")
        for words in (("ipsec", "ca"), ("ipsec", "status"), ("ipsec", "ca", "--rotate")):
            refused = at.run(*words)
            assert refused.code != 0 and "local may not" in refused.err and "Certificate" in refused.err


TENANT = """
[[rule]]
identities = ["local"]
verbs = ["apply", "trace"]

[[rule]]
identities = ["local"]
verbs = ["get", "list"]
kinds = ["Pod", "Namespace"]
"""


def test_whoever_may_not_read_everything_is_told_so(tmp_path: Path) -> None:
    """Never that nothing would change, and never half of a line."""
    (tmp_path / "rules.toml").write_text(TENANT)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "qa", "labels": {"env": "qa"}}}
    spec = {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "qa"}, "spec": spec | more}
        for name, more in (("web", {}), ("host", {"hostNetwork": True}))
    ]
    nodes = [node("n1", 1), node("n2", 2)]
    nodes[0]["metadata"]["labels"] = {LABEL: ""}
    with terminal(options={"authorisation": str(tmp_path / "rules.toml")}) as at:
        at.ok("apply", "-f", write(tmp_path, namespace, *pods, *nodes, egress_ip("a", "192.0.2.100")), "--wait")
        edit = write(tmp_path, egress_ip("a", "192.0.2.101"), name="edit.yaml")
        more = "there is more to it that you may not read\n"
        planned = at.run("plan", "-f", edit)
        assert planned.err == more and "would change" not in planned.out + planned.err, planned
        document = json.loads(at.run("plan", "-f", edit, "-o", "json").out)
        check(document, "plan")
        assert (document["rows"], document["complete"], document["is_redacted"]) == ([], False, True)
        compared = at.run("diff", "-f", edit)
        assert compared.code == 1 and compared.err == more and "nothing differs" not in compared.out, compared
        document = json.loads(at.run("diff", "-f", edit, "-o", "json").out)
        check(document, "diff")
        assert document["is_redacted"] is True
        for source, way in (("qa/web", "n1 as 192.0.2.100"), ("qa/host", "n2 as 192.0.2.2")):
            ran = at.run("trace", "--from", source, "--to", "8.8.8.8:53", "-o", "json")
            document = json.loads(ran.out)
            check(document, "trace")
            nobody = {"node": None, "source_ip": None}
            assert document["egress"] == {"egressip": None, "candidates": [nobody], **nobody}, way
            assert document["is_redacted"] is True
            assert "egress: (hidden) as (hidden)\n" in at.ok("trace", "--from", source, "--to", "8.8.8.8:53")
        shown = at.ok("trace", "--from", "qa/host", "--to", "8.8.8.8:53")
        assert "path: host, (hidden) -> 8.8.8.8 (underlay)" in shown
        listed = at.run("egressip")
        assert (listed.code, listed.out, listed.err) == (0, "", "nothing found\n")


def test_a_hidden_node_is_the_same_word_everywhere(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    nodes = [node(f"secret-{number}", number) for number in (1, 2)]
    for each in nodes:
        each["metadata"]["labels"] = {LABEL: ""}
    with terminal(options={"authorisation": str(tmp_path / "rules.toml")}) as at:
        at.ok("apply", "-f", write(tmp_path, *nodes, egress_ip("a", "192.0.2.100", "192.0.2.101")), "--wait")
        at.ok("wait", "egressip/a", "--for=condition=Assigned", "--timeout", "20s")
        assert rows(at.ok("get", "egressip"))[1][2] == "(hidden),(hidden)"
        ran = at.run("egressip")
        assert ran.out.count("(hidden)") == 2 and "you may not read" in ran.err
        document = json.loads(at.ok("egressip", "-o", "json"))
        check(document, "egressip")
        assert [each["node"] for each in document["egressips"][0]["assignments"]] == [None, None]
        assert document["is_redacted"] is True
