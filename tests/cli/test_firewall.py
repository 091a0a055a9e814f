"""Asking about egress firewalls: match, lint, diff, get, describe, dns, and what trace and rows say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from tests.cli.command import ROOT, SHOP, Ran, ovnk
from tests.kit.ovn import OvsdbServer, short_directory

FIREWALL = """\
apiVersion: k8s.ovn.org/v1
kind: EgressFirewall
metadata:
  name: default
  namespace: lab
  labels: {team: net}
  annotations: {note: hands off}
spec:
  egress:
    - type: Allow
      to: {cidrSelector: 1.2.3.0/24}
    - type: Allow
      to: {dnsName: www.example.com}
      ports: [{protocol: TCP, port: 443}]
    - type: Deny
      to: {cidrSelector: 1.2.3.7/32}
    - type: Deny
      to: {cidrSelector: 0.0.0.0/0}
"""
CLUSTER = """\
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: lab}
spec: {nodeName: n1, containers: []}
"""
DECISIONS = {
    "apiVersion": "ovnk/v1",
    "kind": "Decisions",
    "nodes": {},
    "pods": {},
    "accepted": [],
    "dns": {
        "www.example.com": {
            "live": ["203.0.113.5"],
            "history": [
                {"at": 1_700_000_000.0, "cause": "answer", "add": ["203.0.113.4"]},
                {"at": 1_700_003_600.0, "cause": "answer", "add": ["203.0.113.5"], "drop": ["203.0.113.4"]},
            ],
        }
    },
}
WILDCARD_DENY = "type: Deny\n      to: {dnsName: '*.example.net'}"
FLOWS = """\
dst,protocol,port
1.2.3.7,tcp,80
9.9.9.9,icmp,
203.0.113.5,tcp,443
203.0.113.5,udp,443
10.128.0.9,tcp,80
2001:db8::1,tcp,80
"""
ANSWERS = ["allow,0", "drop,3", "allow,1", "drop,3", "allow,-1", "allow,-1"]


class Lab:
    """A folder with a cluster, a firewall and files to ask with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = self.write("cluster.yaml", CLUSTER)
        self.firewall = self.write("firewall.yaml", FIREWALL)
        self.decisions = self.write("decisions.json", json.dumps(DECISIONS))
        self.flows = self.write("flows.csv", FLOWS)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def ask(self, *words: str, stdin: str | bytes = b"") -> Ran:
        return ovnk(*words, "-f", self.cluster, "-f", self.firewall, "--decisions", self.decisions, stdin=stdin)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# ------------------------------------------------------------------------------------------- match


def test_match_answers_in_order(lab: Lab) -> None:
    ran = lab.ask("firewall", "match", "-n", "lab", "--flows", lab.flows, "--summary")
    assert ran.code == 0, ran.err
    lines = [f"{line},{answer}" for line, answer in zip(FLOWS.splitlines()[1:], ANSWERS, strict=True)]
    assert ran.out.splitlines() == ["dst,protocol,port,verdict,rule", *lines]
    assert "2  rule 3: Deny to 0.0.0.0/0" in ran.err
    assert "2  no rule" in ran.err


def test_match_reads_stdin_and_npz_and_writes_both(lab: Lab, tmp_path: Path) -> None:
    words = ("firewall", "match", "-n", "lab")
    assert lab.ask(*words, "--flows", "-", stdin=FLOWS).out == lab.ask(*words, "--flows", lab.flows).out
    file = str(tmp_path / "out.npz")
    ran = lab.ask(*words, "--flows", lab.flows, "-o", file)
    assert (ran.code, ran.out) == (0, "")
    found = np.load(file)
    assert [f"{word},{rule}" for word, rule in zip(found["verdict"], found["rule"], strict=True)] == ANSWERS
    again = lab.ask(*words, "--flows", file, "-o", str(tmp_path / "out.csv"))
    assert again.code == 0, again.err
    shown = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",", 3)[3] for line in shown[1:]] == ANSWERS


def test_match_takes_what_a_name_answers(lab: Lab) -> None:
    words = ("firewall", "match", "-n", "lab", "--flows", lab.flows, "--dns", "www.example.com=9.9.9.9")
    shown = lab.ask(*words).out.splitlines()
    assert [shown[3].rsplit(",", 2)[1:], shown[4].rsplit(",", 2)[1:]] == [["drop", "3"], ["drop", "3"]]


def test_match_without_a_firewall_allows(lab: Lab) -> None:
    lab.cluster = lab.write("more.yaml", CLUSTER.replace("namespace: lab", "namespace: other"))
    ran = lab.ask("firewall", "match", "-n", "other", "--flows", lab.flows)
    assert ran.code == 0, ran.err
    assert {line.rsplit(",", 2)[1] for line in ran.out.splitlines()[1:]} == {"allow"}
    assert "no egress firewall" in ran.err


def test_match_of_a_namespace_that_nobody_knows_is_a_mistake(lab: Lab) -> None:
    ran = lab.ask("firewall", "match", "-n", "lba", "--flows", lab.flows)
    assert (ran.code, ran.out) == (2, "")
    assert "-n lba: no such namespace" in ran.err


def test_match_of_a_refused_firewall_denies(lab: Lab) -> None:
    Path(lab.firewall).write_text(FIREWALL.replace("1.2.3.7/32", "1.2.3.7/99"))
    ran = lab.ask("firewall", "match", "-n", "lab", "--flows", lab.flows)
    assert [line.split(",", 3)[3] for line in ran.out.splitlines()[1:]] == [
        *["drop,-1"] * 4, "allow,-1", "drop,-1",
    ]  # fmt: skip
    assert "was refused and denies everything" in ran.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dst,protocol,port\n1.2.3.4,tcp,80\n1.2.3.400,tcp,80\n", ("flows.csv:3", "dst", "1.2.3.400", "write one")),
        ("dst,protocol,port\n1.2.3.4,tpc,80\n", ("flows.csv:2", "protocol", "tpc", "write tcp, udp, sctp, icmp")),
        ("dst,protocol,port\n1.2.3.4,tcp,\n", ("flows.csv:2", "port", "write 0 to 65535")),
        ("1.2.3.4,tcp,80\n", ("flows.csv:1", "header", "write dst,protocol,port")),
        ("", ("flows.csv: the file: is empty", "write the header")),
        ("PK,protocol,port\n", ("flows.csv:1", "is not the header")),
    ],
)
def test_match_says_what_is_wrong_and_where(lab: Lab, content: str, words: tuple[str, ...]) -> None:
    Path(lab.flows).write_text(content)
    ran = lab.ask("firewall", "match", "-n", "lab", "--flows", lab.flows)
    assert (ran.code, ran.out) == (2, "")
    last = ran.err.splitlines()[-1]
    assert all(word in last for word in words), last


@pytest.mark.parametrize(
    "words",
    [
        ("--flows", "no/such.csv"),
        ("--flows", "-", "-f", "-"),
        ("--flows", "-", "-o", "table"),
        (),
    ],
)
def test_match_misused(lab: Lab, words: tuple[str, ...]) -> None:
    ran = lab.ask("firewall", "match", "-n", "lab", *words)
    assert (ran.code, ran.out) == (2, "")


# ------------------------------------------------------------------------------------------- lint


def test_lint_finds_names_and_exits_with_one(lab: Lab) -> None:
    ran = lab.ask("lint", "-o", "json")
    findings = ran.json("lint")["findings"]
    assert ran.code == 1
    (hidden,) = [each for each in findings if each["code"] == "shadowed"]
    assert (hidden["rule"], hidden["hidden_by"], hidden["source"]) == (2, [0], f"{lab.firewall}:15")
    assert "egressfirewall/lab/default/2 shadowed\n" in lab.ask("lint", "-o", "name").out
    wide = lab.ask("lint", "-o", "wide").out
    assert "HIDDEN BY" in wide.splitlines()[0]
    assert yaml.safe_load(lab.ask("lint", "-o", "yaml").out) == {"apiVersion": "ovnk/v1", "findings": findings}


def test_lint_by_severity(lab: Lab) -> None:
    assert {line.split()[0] for line in lab.ask("lint", "--severity", "warning").out.splitlines()[1:]} == {"warning"}
    clean = ovnk("lint", "-f", lab.cluster)
    assert (clean.code, clean.out.splitlines()) == (0, ["SEVERITY  CODE  OBJECT  RULE  FINDING"])
    assert ovnk("lint", "-f", lab.firewall, "--severity", "error").code == 0


def test_lint_as_sarif(lab: Lab) -> None:
    document = json.loads(lab.ask("lint", "-o", "sarif").out)
    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    run = document["runs"][0]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(ids)) == len(ids)
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        assert result["message"]["text"]
    (hidden,) = [each for each in run["results"] if each["ruleId"] == "shadowed"]
    place = hidden["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == lab.firewall
    assert place["region"] == {"startLine": 15}


def test_lint_reads_wildcards_and_says_what_they_need(lab: Lab) -> None:
    text = FIREWALL.replace("www.example.com", "'*.example.com'")
    Path(lab.firewall).write_text(text.replace("type: Deny\n      to: {cidrSelector: 1.2.3.7/32}", WILDCARD_DENY))
    ran = lab.ask("lint", "-o", "json")
    codes = {(each["code"], each["rule"]) for each in ran.json("lint")["findings"]}
    assert {("wildcard-needs-feed", 1), ("wildcard-needs-feed", 2), ("wildcard-deny", 2)} <= codes
    assert ("wildcard-deny", 1) not in codes
    assert "error:" not in ran.err
    assert "a wildcard cannot be asked" in lab.ask("get", "egressfirewall").err


def test_sarif_holds_refused_objects_and_pointers(lab: Lab) -> None:
    bad = yaml.safe_load(FIREWALL)
    bad["metadata"]["namespace"], bad["spec"]["egress"][2]["to"] = "broken", {"cidrSelector": "1.2.3.7/99"}
    both = {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(FIREWALL), bad]}
    lab.firewall = lab.write("firewall.json", json.dumps(both))
    run = json.loads(lab.ask("lint", "-o", "sarif", "--severity", "warning").out)["runs"][0]
    (refused,) = [each for each in run["results"] if each["ruleId"] == "refused"]
    assert (refused["level"], run["tool"]["driver"]["rules"][refused["ruleIndex"]]["id"]) == ("error", "refused")
    assert "1.2.3.7/99" in refused["message"]["text"]
    (hidden,) = [each for each in run["results"] if each["ruleId"] == "shadowed"]
    for each, pointer in ((refused, "/items/1/spec/egress/2"), (hidden, "/items/0/spec/egress/2")):
        (place,) = each["locations"]
        assert place["physicalLocation"] == {"artifactLocation": {"uri": lab.firewall}}
        named = [where["fullyQualifiedName"] for where in place["logicalLocations"]]
        assert named[1].startswith(pointer)


# ------------------------------------------------------------------------------------------- diff


def test_diff_of_the_same_is_nothing() -> None:
    ran = ovnk("diff", "-f", SHOP, "--to", SHOP)
    assert (ran.code, ran.out) == (0, "nothing differs\n")


def test_diff_tells_rules_connections_and_rows(lab: Lab) -> None:
    after = lab.write("after.yaml", FIREWALL.replace("1.2.3.0/24", "1.2.3.0/25"))
    words = ("diff", "--to", lab.cluster, "--to", after)
    ran = lab.ask(*words, "-o", "json")
    assert ran.code == 1, ran.err
    document = ran.json("diff")
    assert document["objects"] == [
        {"kind": "EgressFirewall", "namespace": "lab", "name": "default", "outcome": "changed"}
    ]
    assert [(each["change"], each["before"], each["after"]) for each in document["rules"]] == [
        ("removed", 0, None),
        ("added", None, 0),
    ]
    (closed,) = document["connections"]
    assert (closed["change"], closed["pods"]) == ("closed", 1)
    assert closed["example"] == {"from": "lab/web", "to": "1.2.3.128", "protocol": "tcp", "port": 1}
    assert (closed["before"]["rule"], closed["after"]["rule"]) == (0, 3)
    assert closed["after"]["source"] == f"{after}:17"
    assert document["complete"] is True
    table = lab.ask(*words).out
    assert "EgressFirewall lab/default rule 0" in table
    assert yaml.safe_load(lab.ask(*words, "-o", "yaml").out) == document


def test_diff_of_a_refused_edit_keeps_what_is_in_force(lab: Lab) -> None:
    after = lab.write("after.yaml", FIREWALL.replace("1.2.3.0/24", "1.2.3.0/99"))
    ran = lab.ask("diff", "--to", lab.cluster, "--to", after)
    assert (ran.code, ran.out) == (1, "nothing that is accepted differs\n")
    assert f"{after}:11" in ran.err


# ------------------------------------------------------------------------------------------- get and describe


def test_get_in_every_format(lab: Lab) -> None:
    assert lab.ask("get", "egressfirewall").out.splitlines() == [
        "NAMESPACE  NAME     STATUS                        RULES",
        "lab        default  EgressFirewall Rules applied  4",
    ]
    assert lab.ask("get", "egressfirewall", "-n", "lab", "-o", "name").out == "egressfirewall/lab/default\n"
    listed = lab.ask("get", "egressfirewall", "-o", "json").json("get")
    one = lab.ask("get", "egressfirewall", "default", "-n", "lab", "-o", "json").json("get")
    assert listed["items"] == [one]
    assert one["metadata"] == {
        "name": "default", "namespace": "lab", "labels": {"team": "net"}, "annotations": {"note": "hands off"},
    }  # fmt: skip
    assert one["status"]["status"] == "EgressFirewall Rules applied"
    assert one["spec"]["egress"][2] == {"type": "Deny", "to": {"cidrSelector": "1.2.3.7/32"}}


def test_what_get_prints_can_be_read_back(lab: Lab) -> None:
    text = lab.ask("get", "egressfirewall", "-o", "yaml").out
    again = lab.write("again.yaml", text)
    ran = ovnk("diff", "-f", lab.firewall, "--to", again)
    assert (ran.code, ran.out) == (0, "nothing differs\n"), ran.err


@pytest.mark.parametrize("verb", ["get", "describe"])
def test_every_namespace_may_be_asked_for_by_name(lab: Lab, verb: str) -> None:
    """The manual's ``--all-namespaces`` (15.6.1)."""
    plain = lab.ask(verb, "egressfirewall")
    for flag in ("-A", "--all-namespaces"):
        assert lab.ask(verb, "egressfirewall", flag).out == plain.out
    both = lab.ask(verb, "egressfirewall", "-A", "-n", "lab")
    assert both.code == 2
    assert "leave out -n" in both.err


def test_get_of_a_refused_one_says_why(lab: Lab) -> None:
    Path(lab.firewall).write_text(FIREWALL.replace("1.2.3.7/32", "1.2.3.7/99"))
    ran = lab.ask("get", "egressfirewall", "default", "-n", "lab", "-o", "json")
    document = ran.json("get")
    assert ran.code == 1
    assert document["status"]["status"] == "EgressFirewall Rules not correctly applied"
    holds = [each["type"] for each in document["status"]["conditions"] if each["status"] == "True"]
    assert holds == ["Blocked"]
    assert lab.ask("get", "egressfirewall", "missing", "-n", "lab").code == 2


def test_get_of_a_refused_one_shows_no_rules_that_nobody_knows(lab: Lab) -> None:
    Path(lab.firewall).write_text(FIREWALL.replace("1.2.3.7/32", "1.2.3.7/99"))
    ran = lab.ask("get", "egressfirewall", "-o", "yaml")
    (item,) = yaml.safe_load(ran.out)["items"]
    assert (ran.code, "spec" in item, "status" in item) == (1, False, True)
    assert "note: lab/default: its rules are not known" in ran.err


def test_describe_forges_no_line(lab: Lab) -> None:
    Path(lab.firewall).write_text(FIREWALL.replace("hands off", '"a\\nStatus:\\t\\tall is well\\e[2J"'))
    out = lab.ask("describe", "egressfirewall").out
    assert "Annotations:\tnote=a\\nStatus:\\t\\tall is well\\x1b[2J\n" in out
    assert out.count("\nStatus:") == 1


def test_a_northbound_is_a_source_of_decisions(lab: Lab) -> None:
    with short_directory() as directory, OvsdbServer(directory) as server:
        words = ("-f", lab.cluster, "-f", lab.firewall)
        assert ovnk("sync", *words, "--northbound", server.address, "--dns-timeout", "0").code == 0
        Path(lab.firewall).write_text(FIREWALL.replace("1.2.3.7/32", "1.2.3.7/99"))
        there = (*words, "--northbound", server.address)
        ran = ovnk("get", "egressfirewall", "-o", "json", *there)
        (item,) = ran.json("get")["items"]
        assert (ran.code, len(item["spec"]["egress"])) == (1, 4)
        assert [each["type"] for each in item["status"]["conditions"] if each["status"] == "True"] == [
            "DNSPending", "Stale",
        ]  # fmt: skip
        assert "Condition:\tStale=True" in ovnk("describe", "egressfirewall", *there).out
        question = ("--from", "lab/web", "--to", "1.2.3.7:80")
        assert ovnk("trace", *question, *there).out.startswith("allow: rule 0")
        assert ovnk("trace", *question, *words).out.startswith("drop")
        for more in (["lint"], ["rows"], ["diff", "--to", lab.cluster], ["matrix", "--port", "80"]):
            assert ovnk(*more, *there).code in (0, 1), more
        assert ovnk("get", "egressfirewall", *there, "--decisions", lab.decisions).code == 2


def test_describe_has_the_manuals_layout(lab: Lab) -> None:
    lines = lab.ask("describe", "egressfirewall", "default", "-n", "lab").out.splitlines()
    assert lines[:9] == [
        "Name:\t\tdefault",
        "Namespace:\tlab",
        "Created:\t<unknown>",
        "Labels:\t\tteam=net",
        "Annotations:\tnote=hands off",
        "Rule:\t\tAllow to 1.2.3.0/24",
        "Rule:\t\tAllow to www.example.com on TCP/443",
        "Rule:\t\tDeny to 1.2.3.7",
        "Rule:\t\tDeny to 0.0.0.0/0",
    ]
    assert "Status:\t\tEgressFirewall Rules applied" in lines
    assert "DNS:\t\twww.example.com: 203.0.113.5 since 2023-11-14T23:13:20Z" in lines


def test_describe_says_how_old_and_what_is_pending(lab: Lab) -> None:
    text = FIREWALL.replace("  labels: {team: net}\n", "  creationTimestamp: 2020-01-01T00:00:00Z\n")
    Path(lab.firewall).write_text(text.replace("www.example.com", "never.example.net"))
    out = lab.ask("describe", "egressfirewall").out
    assert "days ago" in out
    assert "Labels:\t\t<none>" in out
    assert "Condition:\tDNSPending=True" in out
    assert "DNS:\t\tnever.example.net: never answered" in out


# ------------------------------------------------------------------------------------------- trace, rows, dns


@pytest.mark.parametrize("engine", ["intent", "fast", "flows", "both", "all"])
def test_trace_names_the_rule_its_line_and_the_answer(lab: Lab, engine: str) -> None:
    ran = lab.ask("trace", "--from", "lab/web", "--to", "203.0.113.5:443", "--engine", engine, "-o", "json")
    (step,) = [each for each in ran.json("trace")["steps"] if (each["object"] or {}).get("kind") == "EgressFirewall"]
    assert (step["verdict"], step["rule"], step["source"]) == ("allow", 1, f"{lab.firewall}:12")
    assert "the rule before it does not match" in step["text"]
    assert "www.example.com has 203.0.113.5 since 2023-11-14T23:13:20Z" in step["text"]


def test_trace_takes_what_a_name_answers(lab: Lab) -> None:
    words = ("trace", "--from", "lab/web", "--to", "203.0.113.77:443")
    assert lab.ask(*words).out.startswith("drop: rule 3 of EgressFirewall lab/default")
    ran = lab.ask(*words, "--dns", "WWW.example.com=203.0.113.77,2001:db8::7")
    assert ran.out.startswith(
        "allow: rule 1 of EgressFirewall lab/default (Allow to www.example.com on TCP/443) decides"
    )
    assert f"[{lab.firewall}:12]" in ran.out
    for text in ("www.example.com", "www.example.com=1.2.3", "-bad-=1.2.3.4", "=1.2.3.4"):
        assert lab.ask(*words, "--dns", text).code == 2


def test_batch_answers_alike_with_every_engine(lab: Lab) -> None:
    asked = "".join(
        json.dumps({"from": "lab/web", "to": line.split(",")[0], "protocol": "icmp"}) + "\n"
        for line in FLOWS.splitlines()[1:6]
    )
    outs = {
        lab.ask("trace", "--batch", "-", *words, stdin=asked).out
        for words in ((), ("--engine", "intent"), ("--engine", "all"))
    }
    assert len(outs) == 1


def test_rows_and_flows_name_the_rules_they_stand_for(lab: Lab) -> None:
    rows = lab.ask("rows", "-o", "json").json("rows")["rows"]
    told: dict[str, list[dict[str, Any]]] = {
        row["owner"]["role"]: row["rules"] for row in rows if row["table"] == "ACL" and "rules" in row
    }
    assert sorted(rule["rule"] for rules in told.values() for rule in rules) == [0, 1, 3]
    assert {"rule": 3, "source": f"{lab.firewall}:17"} in [rule for rules in told.values() for rule in rules]
    flows = lab.ask("flows", "-o", "json").json("flows")["flows"]
    of_flows = {flow["source_row"]["owner"]["role"]: flow["rules"] for flow in flows if "rules" in flow}
    assert of_flows == told
    assert lab.ask("rows", "-o", "wide").out.splitlines()[0].split()[-1] == "RULES"
    assert lab.ask("flows", "-o", "wide").out.splitlines()[0].split()[-1] == "RULES"


def test_dns_at_a_time(lab: Lab) -> None:
    words = ("dns", "www.example.com", "--decisions", lab.decisions)
    now = ovnk(*words, "-o", "json")
    assert now.code == 0, now.err
    assert now.json("dns")["names"][0]["addresses"] == ["203.0.113.5"]
    then = ovnk(*words, "--at", "2023-11-14T23:05:00Z", "-o", "json").json("dns")["names"][0]
    assert (then["addresses"], then["at"]) == (["203.0.113.4"], "2023-11-14T23:05:00Z")
    assert "203.0.113.4" in ovnk(*words, "--at", "2023-11-15T00:05:00+01:00").out
    assert "deny_addresses" in now.json("dns")["names"][0]
    assert "deny_addresses" not in then
    beyond = ovnk(*words, "--at", "0001-01-01T00:00:00+14:00")
    assert (beyond.code, "write a time" in beyond.err) == (2, True)
    before = ovnk(*words, "--at", "2023-01-01")
    assert (before.code, "not on record" in before.out) == (1, True)
    assert ovnk("dns", "other.example.com", "--decisions", lab.decisions).code == 1
    for wrong in (("--at", "noon"), ("--northbound", "memory"), ("--decisions", "no/such")):
        assert ovnk(*words, *wrong).code == 2
    assert ovnk("dns", "not a name", "--decisions", lab.decisions).code == 2
    assert ovnk("dns", "www.example.com", "--northbound", "memory").code == 1


# ------------------------------------------------------------------------------------------- the whole


def test_completion_and_help_know_the_commands() -> None:
    text = ovnk("--help").out
    for name in ("describe", "diff", "dns", "firewall", "get", "lint"):
        assert f"\n  {name} " in text
        assert ovnk(name, "--help").code == 0
    assert "match" in ovnk("firewall", "--help").out


def test_only_match_loads_numpy(lab: Lab) -> None:
    """Nothing else may cost what importing numpy or numba costs."""
    probe = (
        "import sys\nfrom ovnk_cli.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'numba') if name in sys.modules], file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'cli'}"}
    for words in (["lint"], ["rows"], ["trace", "--from", "lab/web", "--to", "9.9.9.9:80", "--engine", "all"]):
        done = subprocess.run(
            [sys.executable, "-c", probe, *words, "-f", lab.cluster, "-f", lab.firewall],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr.splitlines()[-1] == "[]", (words, done.stderr)


def test_every_schema_is_a_schema() -> None:
    for path in sorted((ROOT / "docs" / "json").glob("*.json")):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
