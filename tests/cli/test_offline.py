"""The command on files: formats, exit codes, streams. Stdout holds the result and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import SHOP, check, ovnk

BAD = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{ipBlock: {cidr: 10.0.0.0/33}}]
"""


@pytest.mark.parametrize("command", ["rows", "flows", "graph", "validate"])
def test_json_of_every_listing_fits_its_schema(command: str) -> None:
    ran = ovnk(command, "-f", SHOP, "-o", "json")
    assert ran.code == 0, ran.err
    ran.json(command)


def test_yaml_holds_the_same_as_json() -> None:
    as_json = json.loads(ovnk("rows", "-f", SHOP, "-o", "json").out)
    assert yaml.safe_load(ovnk("rows", "-f", SHOP, "-o", "yaml").out) == as_json


def test_rows_are_sorted_and_repeatable() -> None:
    first, second = ovnk("rows", "-f", SHOP, "-o", "json").out, ovnk("rows", "-f", SHOP, "-o", "json").out
    assert first == second
    for row in json.loads(first)["rows"]:
        for value in row["columns"].values():
            if isinstance(value, list):
                assert value == sorted(value)


def test_trace_allowed_names_rule_and_line() -> None:
    answer = ovnk("trace", "-f", SHOP, "--from", "shop/cart", "--to", "shop/db:5432", "-o", "json").json("trace")
    assert answer["verdict"] == "allow"
    step = answer["steps"][-1]
    assert step["object"] == {"kind": "NetworkPolicy", "namespace": "shop", "name": "db"}
    assert step["rule"] == 0
    file, line = step["source"].rsplit(":", 1)
    assert "from:" in Path(file).read_text().splitlines()[int(line) - 1]


def test_trace_dropped_by_except_says_so() -> None:
    ran = ovnk("trace", "-f", SHOP, "--from", "payments/gateway", "--to", "198.51.100.200:443")
    assert ran.code == 0
    assert ran.out.startswith("drop:")
    assert "except 198.51.100.128/25" in ran.out


@pytest.mark.parametrize(("expect", "code"), [("allow", 0), ("drop", 1), ("reject", 1)], ids=["same", "other", "never"])
def test_expect_decides_the_exit_code(expect: str, code: int) -> None:
    ran = ovnk("trace", "-f", SHOP, "--from", "shop/cart", "--to", "shop/db:5432", "--expect", expect)
    assert ran.code == code
    assert ran.out.startswith("allow")


@pytest.mark.parametrize("engine", ["intent", "flows", "both"])
def test_every_engine_answers(engine: str) -> None:
    words = ("trace", "-f", SHOP, "--from", "shop/web-1", "--to", "shop/cart:8081", "--engine", engine, "-o", "json")
    answer = ovnk(*words).json("trace")
    assert (answer["verdict"], answer["path"]) == ("drop", "overlay")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--from", "shop/nobody", "--to", "shop/db:1"), "--from shop/nobody"),
        (("--from", "shop/cart", "--to", "shop/db"), "needs a port"),
        (("--from", "shop/cart", "--to", "shop/db:0"), "1 to 65535"),
        (("--from", "shop/cart", "--to", "shop/db:99999"), "1 to 65535"),
        (("--from", "shop/cart", "--to", "10.0.0.300:80"), "--to 10.0.0.300"),
        (("--from", "shop/cart", "--to", "shop/db:80", "--port", "81"), "contradicts"),
        (("--from", "shop/cart", "--to", "::ffff:10.0.0.1", "--port", "80"), "mapped"),
        (("--from", "cart", "--to", "shop/db:80"), "NAMESPACE/NAME"),
        (("--from", "shop/cart"), "--from and --to"),
    ],
)
def test_questions_that_cannot_be_asked_are_usage_errors(words: tuple[str, ...], field: str) -> None:
    ran = ovnk("trace", "-f", SHOP, *words)
    assert (ran.code, ran.out) == (2, "")
    assert field in ran.err


def test_batch_answers_line_by_line_in_order() -> None:
    lines = [
        {"from": "shop/cart", "to": "shop/db", "protocol": "tcp", "port": 5432, "id": "a"},
        {"from": "shop/cart", "to": "shop/db", "protocol": "icmp", "id": 2},
        {"from": "shop/ghost", "to": "shop/db", "port": 1, "id": "c"},
        {"from": "shop/cart", "to": "shop/db", "port": "x"},
        {"from": "shop/cart", "to": "shop/db", "port": 1, "colour": "red"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "not json\n"
    ran = ovnk("trace", "-f", SHOP, "--batch", "-", stdin=text)
    answers = [json.loads(line) for line in ran.out.splitlines()]
    for answer in answers:
        check(answer, "trace")
    assert ran.code == 1
    assert [answer.get("id") for answer in answers] == ["a", 2, "c", None, None, None]
    assert [answer.get("verdict") for answer in answers] == ["allow", "drop", None, None, None, None]
    assert [answer["error"]["field"] for answer in answers[2:]] == ["from", "port", "colour", "line"]


def test_matrix_formats_agree() -> None:
    words = ("matrix", "-f", SHOP, "--protocol", "tcp", "--port", "5432", "-n", "shop", "-o")
    document = ovnk(*words, "json").json("matrix")
    assert document["from"] == document["to"] == ["shop/cart", "shop/db", "shop/web-1", "shop/web-2"]
    assert document["verdicts"][0] == ["self", "allow", "drop", "drop"]
    lines = ovnk(*words, "csv").out.splitlines()
    assert [line.split(",")[1:] for line in lines[1:]] == document["verdicts"]
    assert "shop/web-2" in ovnk(*words, "table").out


def test_a_refused_object_never_suppresses_the_rest(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)
    ran = ovnk("rows", "-f", SHOP, "-f", str(bad), "-o", "json")
    assert ran.code == 1
    owners = {(row["owner"]["kind"], row["owner"]["name"]) for row in ran.json("rows")["rows"]}
    assert ("Pod", "cart") in owners
    assert f"{bad}:8" in ran.err
    assert "spec.ingress[0].from[0].ipBlock.cidr" in ran.err


def test_a_refused_policy_isolates_its_subjects(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD.replace("shop", "payments").replace("db", "gateway"))
    policies = tmp_path / "only.yaml"
    policies.write_text(Path(SHOP, "apps.yaml").read_text() + "---" + Path(SHOP, "cluster.yaml").read_text())
    words = ("trace", "-f", str(policies), "--from", "shop/cart", "--to", "payments/gateway:8443", "-o", "json")
    assert ovnk(*words).json("trace")["verdict"] == "allow"
    ran = ovnk(*words, "-f", str(bad))
    answer = ran.json("trace")
    assert (ran.code, answer["verdict"]) == (1, "drop")
    assert "refused" in answer["reason"]


def test_validate_reports_everything_at_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    ran = ovnk("validate", "-f", SHOP, "-f", str(bad), "-o", "json")
    document = ran.json("validate")
    assert ran.code == 1
    assert [each["name"] for each in document["refused"]] == ["broken"]
    assert document["refused"][0]["errors"][0]["path"] == "spec.ingress[0].from[0].ipBlock.cidr"
    assert document["unknown"] == [{"kind": "v1 ConfigMap", "count": 1}]
    assert document["objects"] == 33


def test_kinds_that_are_not_built_make_an_answer_incomplete(tmp_path: Path) -> None:
    extra = tmp_path / "service.yaml"
    extra.write_text(
        "apiVersion: k8s.ovn.org/v1\nkind: EgressService\n"
        "metadata: {name: default, namespace: shop}\nspec: {egress: []}\n"
    )
    words = ("trace", "-f", SHOP, "-f", str(extra), "--from", "shop/cart", "-o", "json")
    out: dict[str, Any] = ovnk(*words, "--to", "203.0.113.1:443").json("trace")
    assert out["incomplete"] == ["EgressService shop/default"]
    assert "incomplete" not in ovnk(*words, "--to", "shop/db:5432").json("trace")


def test_stdin_is_read_and_json_sources_are_pointers() -> None:
    items = list(yaml.safe_load_all(Path(SHOP, "apps.yaml").read_text()))
    policies = list(yaml.safe_load_all(Path(SHOP, "policies.yaml").read_text()))
    cluster = list(yaml.safe_load_all(Path(SHOP, "cluster.yaml").read_text()))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*cluster, *items, *policies]})
    words = ("trace", "-f", "-", "--from", "shop/cart", "--to", "shop/db:5432", "-o", "json")
    answer = ovnk(*words, stdin=text).json("trace")
    assert answer["steps"][-1]["source"].endswith("/spec/ingress/0")
    assert "#/items/" in answer["steps"][-1]["source"]


def test_a_missing_file_is_refused_by_name() -> None:
    ran = ovnk("rows", "-f", "no/such/place")
    assert ran.code == 1
    assert "no/such/place" in ran.err


def test_usage_errors_are_two() -> None:
    assert ovnk("rows").code == 2
    assert ovnk("rows", "-f", SHOP, "-o", "pdf").code == 2
    assert ovnk("nonsense").code == 2
    assert ovnk("rows", "-f", SHOP, "--node-prefix", "99").code == 2


def test_version() -> None:
    ran = ovnk("version", "-o", "json")
    assert ran.code == 0, ran.err
    assert ran.json("version")["ovnk"].count(".") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    ran = ovnk("completion", shell)
    assert ran.code == 0
    assert "_OVNK_COMPLETE" in ran.out
