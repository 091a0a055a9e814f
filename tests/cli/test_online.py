"""The command on a server: listing, changing, waiting, and what is said when something is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import ROOT, SHOP, check, ovnk
from tests.cli.online import Terminal, terminal, write

SOURCES = (".", "clients/cli", "clients/python", "proto/gen/python", "proto/python")


@pytest.fixture(scope="module")
def shop() -> Iterator[Terminal]:
    """A server with the example's objects."""
    with terminal() as found:
        found.ok("apply", "-f", SHOP)
        yield found


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(place: str, name: str, **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": place, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "worker-1", "containers": []}}


def firewall(place: str, *rules: str) -> dict[str, Any]:
    egress = [{"type": rule.split()[0], "to": {"cidrSelector": rule.split()[1]}} for rule in rules]
    meta = {"name": "default", "namespace": place}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": egress}}


# ------------------------------------------------------------------------------- looking


def test_a_table_has_kubectls_columns(shop: Terminal) -> None:
    lines = [line.split() for line in shop.ok("get", "pods", "-n", "shop").splitlines()]
    assert lines[0] == ["NAME", "STATUS", "AGE"]
    assert [line[0] for line in lines[1:]] == ["cart", "db", "web-1", "web-2"]
    assert all(re.fullmatch(r"\d+m?\d*s", line[-1]) for line in lines[1:])


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("pod", "db", "cart", "-n", "shop"), ["pod/db", "pod/cart"]),
        (("pod/db", "ns/shop", "-n", "shop"), ["pod/db", "namespace/shop"]),
        (("po", "-n", "shop", "-l", "app=web"), ["pod/web-1", "pod/web-2"]),
        (("Pods", "-n", "shop", "-l", "app in (web, db),app!=db"), ["pod/web-1", "pod/web-2"]),
        (("pods", "-A", "--field-selector", "spec.nodeName=worker-3"), ["pod/gateway", "pod/db"]),
        (("network.config/cluster",), ["network.config.openshift.io/cluster"]),
        (
            ("ef,netpol", "-A", "--field-selector", "metadata.name=default"),
            ["egressfirewall.k8s.ovn.org/default"],
        ),
        (("egressfirewalls.k8s.ovn.org", "-n", "payments"), []),
    ],
)
def test_objects_are_named_as_kubectl_names_them(shop: Terminal, words: tuple[str, ...], names: list[str]) -> None:
    assert shop.ok("get", *words, "-o", "name").splitlines() == names


def test_wide_sorted_labelled_and_without_a_head(shop: Terminal) -> None:
    words = ("get", "pods", "-A", "-o", "wide", "--sort-by", "{.spec.nodeName}", "--show-labels", "--no-headers")
    lines = [line.split() for line in shop.ok(*words).splitlines()]
    assert [line[5] for line in lines] == ["worker-1"] * 2 + ["worker-2"] * 3 + ["worker-3"] * 2
    assert lines[0][:2] == ["monitoring", "prometheus"] and lines[0][4].startswith("10.128.")
    assert lines[1][-1] == "app=web"


def test_services_have_kubectls_columns(shop: Terminal) -> None:
    lines = [line.split() for line in shop.ok("get", "svc", "-n", "shop").splitlines()]
    assert [line[:-1] for line in lines] == [
        ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"],
        ["db", "ClusterIP", "172.30.1.0", "<none>", "5432/TCP"],
        ["web", "ClusterIP", "172.30.10.10", "<none>", "80/TCP"],
        ["web-outside", "NodePort", "172.30.1.1", "<none>", "80:30080/TCP"],
    ]
    lines = [line.split() for line in shop.ok("get", "endpointslices", "-n", "payments", "-o", "wide").splitlines()]
    assert lines[0] == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert lines[1][:-1] == ["gateway-1", "IPv4", "8443", "10.128.4.3"]
    assert "clusterIP: 172.30.1.0" in shop.ok("describe", "svc", "db", "-n", "shop")


def service(name: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "doors"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def test_a_service_that_waits_shows_no_address(shop: Terminal, tmp_path: Path) -> None:
    stated = {"clusterIP": "172.30.7.7", "ports": [{"port": 80}]}
    file = write(tmp_path, namespace("doors"), service("a", **stated), service("b", **stated))
    ran = shop.run("apply", "-f", file)
    assert ran.code == 0
    assert "service/b: spec.clusterIP: is already held by Service doors/a (got 172.30.7.7); choose another" in ran.err
    lines = [line.split() for line in shop.ok("get", "svc", "-n", "doors").splitlines()[1:]]
    assert [line[:3] for line in lines] == [["a", "ClusterIP", "172.30.7.7"], ["b", "ClusterIP", "<pending>"]]
    wide = shop.ok("get", "svc", "b", "-n", "doors", "-o", "wide")
    assert "held by Service doors/a" in wide
    assert json.loads(shop.ok("get", "svc", "b", "-n", "doors", "-o", "json"))["spec"]["clusterIP"] == "172.30.7.7"
    shop.ok("delete", "-f", file)


def test_describe_tells_who_serves(shop: Terminal, tmp_path: Path) -> None:
    http = [{"name": "http", "port": 8080}]
    target = {"kind": "Pod", "namespace": "doors", "name": "web-1"}
    conditions = {"ready": True, "serving": True, "terminating": False}
    one = {"addresses": ["10.128.0.9"], "nodeName": "worker-1", "targetRef": target, "conditions": conditions}
    meta = {"name": "web-1", "namespace": "doors", "labels": {"kubernetes.io/service-name": "web"}}
    kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    gone = {"addresses": ["10.128.0.8"], "conditions": {"ready": False}}
    sliced = {**kind, "metadata": meta, "endpoints": [one, gone], "ports": http}
    subset = {"addresses": [{"ip": "10.128.0.7", "nodeName": "worker-2", "targetRef": target}], "ports": http}
    meta = {"name": "old", "namespace": "doors"}
    plain = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]}
    services = [service(name, ports=[{"name": "http", "port": 80}]) for name in ("web", "old")]
    file = write(tmp_path, namespace("doors"), *services, sliced, plain)
    shop.ok("apply", "-f", file)
    told = shop.ok("describe", "endpointslice", "web-1", "-n", "doors")
    for text in ("AddressType:    IPv4", "http  8080  TCP", "- Addresses:  10.128.0.9", "NodeName:   worker-1"):
        assert text in told, told
    assert "TargetRef:  Pod/doors/web-1" in told and "Ready:       false" in told and "Terminating: false" in told
    told = shop.ok("describe", "ep", "old", "-n", "doors")
    assert "  Addresses:          10.128.0.7\n    10.128.0.7: node worker-2, Pod/doors/web-1\n" in told
    assert "  NotReadyAddresses:  <none>" in told and "http  8080  TCP" in told
    assert "Endpoints:\n  http: 10.128.0.9:8080\n" in shop.ok("describe", "svc", "web", "-n", "doors")
    assert "Endpoints:\n  http: 10.128.0.7:8080\n" in shop.ok("describe", "svc", "old", "-n", "doors")
    shop.ok("delete", "-f", file)


def test_several_kinds_are_tables_with_the_kind_in_the_name(shop: Terminal) -> None:
    out = shop.ok("get", "ns,nodes")
    assert "namespace/shop" in out and "node/worker-1" in out and "\n\n" in out


def test_json_and_yaml_are_manifests_that_can_be_given_back(shop: Terminal, tmp_path: Path) -> None:
    one = json.loads(shop.ok("get", "netpol", "db", "-n", "shop", "-o", "json"))
    assert (one["apiVersion"], one["kind"], one["metadata"]["name"]) == ("networking.k8s.io/v1", "NetworkPolicy", "db")
    text = shop.ok("get", "pods", "-n", "shop", "-o", "yaml")
    listed = yaml.safe_load(text)
    assert listed["kind"] == "List" and len(listed["items"]) == 4
    file = tmp_path / "back.yaml"
    file.write_text(shop.ok("get", "netpol,ef", "-n", "shop", "-o", "yaml"))
    assert {line.split()[-1] for line in shop.ok("replace", "-f", str(file)).splitlines()} == {"unchanged"}


def test_jsonpath_filters_ranges_and_texts(shop: Terminal) -> None:
    template = '{range .items[?(@.metadata.name=="db")]}{.metadata.name} on {.spec.nodeName}{"\\n"}{end}'
    assert shop.ok("get", "pods", "-n", "shop", "-o", f"jsonpath={template}") == "db on worker-3\n"


def test_what_is_not_there_is_told_and_the_rest_is_shown(shop: Terminal) -> None:
    ran = shop.run("get", "pod", "db", "nobody", "-n", "shop", "-o", "name")
    assert (ran.code, ran.out) == (1, "pod/db\n")
    assert ran.err == "ovnk: pod/nobody not found in namespace shop\n"
    assert shop.run("get", "pod", "nobody", "--ignore-not-found").code == 0


def test_an_empty_list_is_no_error(shop: Terminal) -> None:
    ran = shop.run("get", "pods", env={"OVNK_NAMESPACE": "empty"})
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing found in namespace empty\n")
    for kinds in ("nodes", "ns"):
        assert shop.run("get", kinds, "-l", "no=such").err == "nothing found\n", "it has no namespace"
    assert shop.run("get", "nodes,pods", "-l", "no=such").err == "nothing found in namespace default\n"


def test_describe_tells_fields_conditions_and_events(shop: Terminal) -> None:
    out = shop.ok("describe", "pod", "web-1", "-n", "shop")
    assert "Name:           web-1\n" in out and "  nodeName: worker-1\n" in out
    assert "  Accepted=True" in out and "Created  pod/web-1" in out


# ------------------------------------------------------------------------------- the same answers as files


@pytest.mark.parametrize("verb", ["rows", "flows"])
def test_rows_and_flows_are_those_of_the_files(shop: Terminal, verb: str) -> None:
    online = json.loads(shop.ok(verb, "-o", "json"))
    check(online, verb)
    offline = json.loads(ovnk(verb, "-f", SHOP, "-o", "json").out)
    for document in (online, offline):
        for each in document[verb]:
            each.pop("rules", None)  # a field of an object here, a line of a file there
    assert [_stable(each) for each in online[verb]] == [_stable(each) for each in offline[verb]]


def _stable(document: dict[str, Any]) -> dict[str, Any]:
    """Without what records the objects themselves, whose identity the server made up."""
    columns = dict(document.get("columns", {}))
    for name in ("external_ids", "options"):
        columns.pop(name, None)
    return document | ({"columns": columns} if "columns" in document else {})


def test_trace_names_the_field_that_decides(shop: Terminal) -> None:
    words = ("trace", "--from", "payments/gateway", "--to", "198.51.100.200:443")
    document = json.loads(shop.ok(*words, "-o", "json"))
    check(document, "trace")
    assert document["verdict"] == "drop"
    assert document["steps"][-1]["source"].startswith("NetworkPolicy payments/gateway")
    assert shop.run(*words, "--expect", "allow").code == 1
    wrong = shop.run("trace", "--from", "shop/nobody", "--to", "shop/db:1")
    assert wrong.code == 1 and "shop/nobody" in wrong.err


def test_a_batch_is_answered_in_order_with_its_faults(shop: Terminal) -> None:
    lines = [{"from": "shop/cart", "to": "shop/db", "port": port, "id": port} for port in (5432, 1, 2)]
    text = "\n".join(["nonsense", *map(json.dumps, lines[:2]), "{}", json.dumps(lines[2])])
    ran = shop.run("trace", "--batch", "-", stdin=text)
    assert ran.code == 1
    told = [json.loads(line) for line in ran.out.splitlines()]
    for each in told:
        check(each, "trace")
    assert [each.get("verdict", "fault") for each in told] == ["fault", "allow", "drop", "fault", "drop"]
    assert [each.get("id") for each in told] == [None, 5432, 1, None, 2]


def test_the_matrix_is_that_of_the_files(shop: Terminal) -> None:
    words = ("matrix", "--port", "5432", "-n", "shop", "-o", "json")
    online = json.loads(shop.ok(*words))
    check(online, "matrix")
    assert online == json.loads(ovnk(*words, "-f", SHOP).out)


def test_diff_and_plan_tell_what_would_change_and_change_nothing(shop: Terminal, tmp_path: Path) -> None:
    before = shop.ok("get", "ef", "-A", "-o", "json")
    path = write(tmp_path, firewall("shop", "Deny 0.0.0.0/0"))
    ran = shop.run("diff", "-f", path, "--server", shop.server.socket, "-o", "json")
    assert ran.code == 1
    document = json.loads(ran.out)
    check(document, "diff")
    assert {each["change"] for each in document["rules"]} == {"removed"}
    assert document["connections"] and document["rows"]
    planned = json.loads(shop.ok("plan", "-f", path, "-o", "json"))
    check(planned, "plan")
    assert planned["objects"] == [
        {"kind": "EgressFirewall", "namespace": "shop", "name": "default", "outcome": "changed"}
    ]
    assert planned["operations"] and planned["complete"]
    assert "configured (server dry run)" in shop.ok("apply", "-f", path, "--dry-run", "server")
    assert shop.ok("get", "ef", "-A", "-o", "json") == before
    assert shop.ok("diff", "-f", SHOP) == "nothing differs\n"


def test_dns_names_nobody_answered(shop: Terminal) -> None:
    ran = shop.run("dns", "packages.example.com", "-o", "json")
    assert ran.code == 1
    check(json.loads(ran.out), "dns")


# ------------------------------------------------------------------------------- changing


def test_apply_says_what_became_of_each_object(shop: Terminal, tmp_path: Path) -> None:
    path = write(tmp_path, namespace("one"), firewall("one", "Deny 1.1.1.1/32"))
    titles = ("namespace/one", "egressfirewall.k8s.ovn.org/default")
    assert shop.ok("apply", "-f", path).splitlines() == [f"{title} created" for title in titles]
    assert shop.ok("apply", "-f", path).splitlines() == [f"{title} unchanged" for title in titles]
    path = write(tmp_path, namespace("one"), firewall("one", "Deny 1.1.1.2/32"))
    assert shop.ok("apply", "-f", path, "-o", "name").splitlines() == list(titles)
    assert shop.ok("get", "ef", "default", "-n", "one", "-o", "jsonpath={..cidrSelector}") == "1.1.1.2/32"
    assert shop.ok("delete", "-f", path).splitlines() == [f"{title} deleted" for title in titles]


def test_status_that_a_file_leaves_out_stays(shop: Terminal) -> None:
    node = json.loads(shop.ok("get", "node", "worker-2", "-o", "json"))
    addresses = node.pop("status")["addresses"]
    node["metadata"] = {"name": "worker-2", "labels": {"zone": "east"}}
    assert shop.ok("apply", "-f", "-", stdin=json.dumps(node)) == "node/worker-2 configured\n"
    after = json.loads(shop.ok("get", "node", "worker-2", "-o", "json"))
    assert (after["status"]["addresses"], after["metadata"]["labels"]) == (addresses, {"zone": "east"})


def test_create_and_replace_want_it_absent_and_present(shop: Terminal, tmp_path: Path) -> None:
    path = write(tmp_path, namespace("two"))
    assert "apply or replace" not in shop.run("replace", "-f", path).err
    assert shop.run("replace", "-f", path).code == 1
    shop.ok("create", "-f", path)
    ran = shop.run("create", "-f", path)
    assert ran.code == 1 and "exists already; apply or replace changes it" in ran.err


def test_a_stale_version_is_a_conflict(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("stale")))
    file = tmp_path / "read.yaml"
    file.write_text(shop.ok("get", "ns", "stale", "-o", "yaml"))
    shop.ok("label", "ns", "stale", "a=b")
    ran = shop.run("replace", "-f", str(file))
    assert ran.code == 3 and "read it again" in ran.err


@pytest.mark.parametrize(
    ("rule", "line", "reason"),
    [("Deny 300.0.0.0/8", 8, "not an IP"), ("Maybe 1.0.0.0/8", 7, "must be")],
)
def test_mistakes_are_told_by_line_before_anything_is_sent(
    shop: Terminal, tmp_path: Path, rule: str, line: int, reason: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(firewall("three", rule), sort_keys=False))
    ran = shop.run("apply", "-f", str(path))
    assert ran.code == 1
    assert re.search(rf"error: {re.escape(str(path))}:\d+: EgressFirewall three/default spec\.egress\[0\]", ran.err)
    assert reason in ran.err and line > 0


def test_what_only_the_server_knows_is_told_by_line_too(shop: Terminal, tmp_path: Path) -> None:
    """A wildcard needs a resolver feed, which this server has not."""
    wild = firewall("four", "Deny 1.1.1.1/32", "Deny 2.2.2.2/32")
    wild["spec"]["egress"][1]["to"] = {"dnsName": "*.example.com"}
    path = write(tmp_path, namespace("four"), wild)
    ran = shop.run("apply", "-f", path)
    assert ran.code == 1
    assert re.search(rf"{re.escape(path)}:\d+: EgressFirewall default spec\.egress\[1\]\.to", ran.err), ran.err
    assert shop.run("get", "ns", "four").code == 1


def test_n_fills_in_the_namespace_and_must_not_contradict(shop: Terminal, tmp_path: Path) -> None:
    stated = firewall("five", "Deny 1.1.1.1/32")
    shop.ok("apply", "-f", write(tmp_path, namespace("five"), namespace("six")))
    assert shop.run("apply", "-f", write(tmp_path, stated), "-n", "six").code == 1
    del stated["metadata"]["namespace"]
    shop.ok("apply", "-f", write(tmp_path, stated), "-n", "six")
    assert shop.ok("get", "ef", "-n", "six", "-o", "name") == "egressfirewall.k8s.ovn.org/default\n"


def test_marks_are_set_kept_and_removed(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("seven"), pod("seven", "a", app="x"), pod("seven", "b")))
    assert shop.ok("label", "pods", "a", "b", "-n", "seven", "tier=web").splitlines() == [
        "pod/a labeled",
        "pod/b labeled",
    ]
    assert shop.ok("label", "pod/a", "-n", "seven", "tier=web") == "pod/a not labeled\n"
    ran = shop.run("label", "pod/a", "-n", "seven", "tier=db")
    assert ran.code == 1 and "--overwrite" in ran.err
    shop.ok("label", "pods", "-l", "app=x", "-n", "seven", "tier=db", "--overwrite")
    assert shop.ok("get", "pods", "-n", "seven", "-l", "tier=db", "-o", "name") == "pod/a\n"
    assert shop.ok("label", "pods", "--all", "-n", "seven", "tier-").splitlines() == [
        "pod/a unlabeled",
        "pod/b unlabeled",
    ]
    assert shop.ok("annotate", "ns", "seven", "note=hello there") == "namespace/seven annotated\n"
    assert shop.run("label", "pods", "-n", "seven", "x=y").code == 2


def test_marking_a_pod_does_not_pin_its_address(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("eight"), pod("eight", "a")))
    shop.ok("label", "pod", "a", "-n", "eight", "x=y")
    moved = pod("eight", "a")
    moved["spec"]["nodeName"] = "worker-2"
    shop.ok("apply", "-f", write(tmp_path, moved), "--wait")
    assert shop.ok("get", "pod", "a", "-n", "eight", "-o", "jsonpath={.status.podIP}").startswith("10.128.2.")


def test_patch_merges(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("nine", a="1", b="2")))
    text = '{"metadata": {"labels": {"a": null, "c": "3"}}}'
    assert shop.ok("patch", "ns", "nine", "--type=merge", "-p", text) == "namespace/nine patched\n"
    assert shop.ok("patch", "ns/nine", "-p", text) == "namespace/nine patched (no change)\n"
    labels = json.loads(shop.ok("get", "ns", "nine", "-o", "json"))["metadata"]["labels"]
    assert labels == {"b": "2", "c": "3"}
    assert shop.run("patch", "ns/nine", "-p", '{"metadata": {"name": "ten"}}').code == 1
    assert shop.run("patch", "ns/nine", "-p", "[1]").code == 2


def test_delete_wants_names_or_a_selection(shop: Terminal, tmp_path: Path) -> None:
    objects = [namespace("gone"), *(pod("gone", name, app=name[0]) for name in ("a1", "a2", "b1"))]
    shop.ok("apply", "-f", write(tmp_path, *objects))
    assert shop.run("delete", "pods", "-n", "gone").code == 2
    ran = shop.run("delete", "pod", "a1", "nobody", "-n", "gone")
    assert ran.code == 1 and "pod/nobody not found in namespace gone" in ran.err
    assert shop.ok("delete", "pods", "-l", "app=a", "-n", "gone").splitlines() == ["pod/a1 deleted", "pod/a2 deleted"]
    assert shop.ok("delete", "pod", "nobody", "-n", "gone", "--ignore-not-found") == ""
    assert shop.ok("delete", "ns", "gone").splitlines() == ["namespace/gone deleted", "pod/b1 deleted"]


# ------------------------------------------------------------------------------- the namespace of the environment


def test_the_environments_namespace_fills_in_and_contradicts_nothing(shop: Terminal, tmp_path: Path) -> None:
    """As that of oc project does. What the line says is another matter."""
    preset = {"OVNK_NAMESPACE": "preset"}
    nowhere = pod("", "filled")
    del nowhere["metadata"]["namespace"]
    files = write(tmp_path, namespace("preset"), namespace("other"), nowhere, pod("other", "named"))
    shop.ok("apply", "-f", files, env=preset)
    assert shop.ok("get", "pods", "-o", "name", env=preset) == "pod/filled\n"
    assert shop.ok("get", "pods", "-n", "other", "-o", "name", env=preset) == "pod/named\n"
    ran = shop.run("apply", "-f", files, "-n", "preset", env=preset)
    assert ran.code == 1 and "in namespace other, and -n says preset" in ran.err
    shop.ok("delete", "-f", files, env=preset)
    assert shop.ok("apply", "-f", SHOP, env={"OVNK_NAMESPACE": "shop"})


# ------------------------------------------------------------------------------- waiting and following


def test_progress_is_told_on_stderr(shop: Terminal, tmp_path: Path) -> None:
    ran = shop.run("apply", "-f", write(tmp_path, namespace("slow")), "--wait")
    assert ran.code == 0 and ran.out == "namespace/slow created\n"
    assert re.fullmatch(r"accepted at revision \d+\nprogrammed after \d+ ms\n", ran.err)
    late = shop.run("wait", "--stage", "realized", "--timeout", "200ms")
    assert late.code == 3 and "programmed, but not realized within 0.2 s" in late.err


@pytest.mark.parametrize(
    "words", [("label", "ns", "all", "a=b"), ("annotate", "ns", "all", "a=b"), ("patch", "ns/all", "-p", "{}")]
)
def test_every_change_can_be_waited_for(shop: Terminal, tmp_path: Path, words: tuple[str, ...]) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("all")))
    ran = shop.run(*words, "--wait")
    assert ran.code == 0 and re.fullmatch(r"accepted at revision \d+\nprogrammed after \d+ ms\n", ran.err), ran
    late = shop.run(*words, "--wait", "--stage", "realized", "--timeout", "200ms")
    assert late.code == 3 and "programmed, but not realized within 0.2 s" in late.err
    dry = shop.run(*words, "--wait", "--dry-run=server")
    assert (dry.code, dry.err) == (0, "") and "(server dry run)" in dry.out


def test_a_plan_has_nothing_to_wait_for(shop: Terminal, tmp_path: Path) -> None:
    ran = shop.run("plan", "-f", write(tmp_path, namespace("all")), "--wait")
    assert ran.code == 2 and "--wait" in ran.err


def test_an_interrupted_wait_says_what_it_leaves(shop: Terminal, tmp_path: Path) -> None:
    path = ":".join(str(ROOT / each) for each in SOURCES)
    words = ("apply", "-f", write(tmp_path, namespace("left")), "--wait", "--stage", "realized")
    with subprocess.Popen(
        [sys.executable, "-m", "ovnk_cli", *words, "--server", shop.server.socket],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": path},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("accepted at revision")
        assert process.stderr.readline().startswith("programmed after")
        process.send_signal(signal.SIGINT)
        assert "is programmed and goes on without this command" in process.stderr.readline()
        assert process.wait(10) == 130
    assert shop.ok("get", "ns", "left", "-o", "name") == "namespace/left\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ns/shop", "--for=condition=Programmed"), 0),
        (("ef/default", "-n", "shop", "--for=condition=Ready"), 0),
        (("ef/default", "-n", "shop", "--for=condition=Blocked=False"), 0),
        (("pod", "db", "cart", "-n", "shop", "--for=jsonpath={.spec.nodeName}"), 0),
        (("pod", "db", "-n", "shop", "--for=jsonpath={.spec.nodeName}=worker-1"), 3),
        (("pod", "nobody", "--for=delete"), 0),
        (("pod", "nobody", "--for=create"), 3),
        (("pod", "nobody", "--for=condition=Ready"), 1),
        (("pod", "db", "--for=dinner"), 2),
        (("pod", "db"), 2),
    ],
)
def test_wait_for(shop: Terminal, words: tuple[str, ...], code: int) -> None:
    ran = shop.run("wait", *words, "--timeout", "0.4s")
    assert ran.code == code, ran
    assert (code == 0) == ("condition met" in ran.out)


def test_a_listing_follows_changes(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("watched"), pod("watched", "first")))
    words = ("get", "pods", "-n", "watched", "-w", "-o", "name", "--server", shop.server.socket)
    path = ":".join(str(ROOT / each) for each in SOURCES)
    with subprocess.Popen(
        [sys.executable, "-m", "ovnk_cli", *words], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "pod/first\n"
            shop.ok("apply", "-f", write(tmp_path, pod("watched", "second")))
            # Another line for each address that is decided.
            assert next(line for line in process.stdout if line != "pod/first\n") == "pod/second\n"
            shop.ok("label", "pod", "first", "-n", "watched", "x=y")
            assert next(line for line in process.stdout if line != "pod/second\n") == "pod/first\n"
        finally:
            process.terminate()


def test_watch_tells_every_event_as_a_document(shop: Terminal) -> None:
    words = ("watch", "ns,pods", "-A", "-o", "json", "--server", shop.server.socket)
    path = ":".join(str(ROOT / each) for each in SOURCES)
    with subprocess.Popen(
        [sys.executable, "-m", "ovnk_cli", *words], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        types: list[str] = []
        while "synced" not in types:
            document = json.loads(process.stdout.readline())
            check(document, "watch")
            types.append(document["type"])
        process.terminate()
    assert set(types) == {"added", "synced"} and len(types) > 9


def test_events_tell_what_happened(shop: Terminal, tmp_path: Path) -> None:
    shop.ok("apply", "-f", write(tmp_path, namespace("told"), pod("told", "p")))
    lines = shop.ok("events", "--for", "pod/p", "-n", "told").splitlines()
    assert lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert lines[1].split()[1:4] == ["Normal", "Created", "pod/p"]
    found = json.loads(shop.ok("events", "-n", "told", "--field-selector", "reason=Created", "-o", "json"))
    check(found, "events")
    assert [each["object"]["name"] for each in found["events"]] == ["p"]
    assert shop.run("events", "--field-selector", "colour=red").code == 2


def test_status_says_how_far_things_are(shop: Terminal) -> None:
    assert re.search(r"programmed +yes", shop.ok("status"))
    found = json.loads(shop.ok("status", "-o", "json"))
    check(found, "status")
    assert found["programmed_revision"] == found["accepted_revision"] > 0
    assert found["writer"]["is_self"] and found["northbound"]["is_connected"]
    assert [each["stage"] for each in found["stages"]] == ["accepted", "programmed", "realized", "enforced"]


def test_status_tells_no_fault_where_it_may_not_tell(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nidentities = ['local']\nverbs = ['get', 'list']\nnamespaces = ['shop']\n")
    with terminal(options={"authorisation": str(rules)}) as tenant:
        text = tenant.ok("status")
        assert re.search(r"writer: +not told \(this server\), epoch [0-9]+\n", text), text
        for part in ("northbound", "store", "chassis"):
            assert re.search(rf"{part}: +not told\n", text), text
        found = json.loads(tenant.ok("status", "-o", "json"))
        check(found, "status")
        assert found["is_redacted"] and "northbound" not in found


def test_diff_names_objects_of_which_only_the_record_changes(shop: Terminal, tmp_path: Path) -> None:
    path = write(tmp_path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": {"a": "b"}}})
    ran = shop.run("diff", "-f", path, "--server", shop.server.socket)
    assert ran.code == 1 and re.search(r"^created +Namespace +new$", ran.out, re.MULTILINE), ran
    document = json.loads(shop.run("diff", "-f", path, "--server", shop.server.socket, "-o", "json").out)
    check(document, "diff")
    assert document["objects"] == [{"kind": "Namespace", "namespace": "", "name": "new", "outcome": "created"}]


def test_a_question_that_cannot_be_asked_is_the_same_everywhere(shop: Terminal) -> None:
    for words in (("--to", "shop/db"), ("--to", ""), ("--to", "shop/db:0")):
        online = shop.run("trace", "--from", "shop/cart", *words)
        offline = ovnk("trace", "-f", SHOP, "--from", "shop/cart", *words)
        assert (online.code, online.err) == (2, offline.err), online
    assert (
        "--port: tcp needs a port: --port N or --to shop/db:N"
        in shop.run("trace", "--from", "shop/cart", "--to", "shop/db").err
    )
