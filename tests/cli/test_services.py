"""Services through the command: as ends of questions and as columns of the matrix, from files and from a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import SHOP, check, ovnk
from tests.cli.online import Terminal, terminal

ASK = ("trace", "--from", "shop/cart", "--to")
WEB = "Service shop/web (cluster IP 172.30.10.10:80)"


def backend(verdict: str, number: int, *, path: str, **more: Any) -> dict[str, Any]:
    """A web pod of the shop as JSON."""
    address = {1: "10.128.0.4:8080", 2: "10.128.2.4:8080"}[number]
    told = {"target": address, "pod": f"shop/web-{number}", "node": f"worker-{number}", "entry": None}
    reason = "ingress rule 0 of NetworkPolicy shop/web allows it"
    return told | {"verdict": verdict, "path": path, "reason": reason} | more


@pytest.mark.parametrize("target", ["svc:shop/web:80", "svc:shop/web:http", "svc:shop/web", "172.30.10.10:80"])
def test_json_lists_endpoints(target: str) -> None:
    found = ovnk(*ASK, target, "-f", SHOP, "-o", "json").json("trace")
    assert found["verdict"] == "allow"
    assert found["load_balancer"] == {
        "vip": "172.30.10.10:80",
        "service": "shop/web",
        "backends": [backend("allow", 1, path="overlay"), backend("allow", 2, path="same-node")],
        "chosen": None,
    }
    assert found["steps"][0]["stage"] == "load-balancer"
    assert found["steps"][0]["source"].endswith("services.yaml:3")


def test_only_connections_to_services_have_a_load_balancer() -> None:
    assert "load_balancer" not in ovnk(*ASK, "shop/db:5432", "-f", SHOP, "-o", "json").json("trace")


def test_yaml_says_the_same() -> None:
    found = [ovnk(*ASK, "svc:shop/web", "-f", SHOP, "-o", form).out for form in ("json", "yaml")]
    assert json.loads(found[0]) == yaml.safe_load(found[1])


def test_text_shows_before_and_after_the_load_balancer() -> None:
    out = ovnk(*ASK, "svc:shop/web", "-f", SHOP).out.splitlines()
    assert out[0].startswith(f"allow: {WEB} is balanced over 2 endpoints: 10.128.0.4:8080, 10.128.2.4:8080; ")
    assert out[2:5] == [
        "load balancer: 172.30.10.10:80 (Service shop/web) -> one of 2",
        "  allow  10.128.0.4:8080 (shop/web-1 on worker-1): ingress rule 0 of NetworkPolicy shop/web allows it",
        "  allow  10.128.2.4:8080 (shop/web-2 on worker-2): ingress rule 0 of NetworkPolicy shop/web allows it",
    ]
    chosen = ovnk(*ASK, "svc:shop/db", "-f", SHOP).out
    assert "load balancer: 172.30.1.0:5432 (Service shop/db) -> 10.128.4.4:5432\n" in chosen


def test_from_outside_to_a_node_port() -> None:
    words = ("trace", "--from", "203.0.113.9", "-f", SHOP, "-o", "json")
    found = ovnk(*words, "--to", "192.0.2.11:30080").json("trace")
    entered = backend("allow", 1, path="external", entry="worker-1")
    assert found["load_balancer"]["backends"] == [entered]
    assert found["load_balancer"]["chosen"] == "10.128.0.4:8080"
    nobody = ovnk(*words, "--to", "192.0.2.13:30080", "--expect", "reject")
    assert nobody.code == 0, nobody
    document = nobody.json("trace")
    assert (document["load_balancer"]["backends"], document["load_balancer"]["chosen"]) == ([], None)
    assert "no endpoint on node worker-3 (externalTrafficPolicy Local)" in document["reason"]
    text = ovnk(*words[:-2], "--to", "192.0.2.13:30080").out
    assert "load balancer: 192.0.2.13:30080 (Service shop/web-outside) -> no endpoint\n" in text


def test_endpoints_that_differ_are_mixed(tmp_path: Path) -> None:
    """Egress to one of the two pods only."""
    one = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "only-web-1", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "cart"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.128.0.4/32"}}]}],
        },
    }
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(one))
    words = (*ASK, "svc:shop/web", "-f", SHOP, "-f", str(file))
    found = ovnk(*words, "--engine", "all", "-o", "json").json("trace")
    assert [each["verdict"] for each in found["load_balancer"]["backends"]] == ["allow", "drop"]
    assert found["verdict"] == "mixed"
    assert ovnk(*words, "--expect", "mixed").code == 0
    ran = ovnk(*words, "--expect", "allow")
    assert ran.code == 1 and "expected allow, got mixed" in ran.err


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("svc:shop/nobody:80", "no such Service"),
        ("svc:shop/web:81", "the Service has no port 81/tcp; it has 80/tcp (http)"),
        ("svc:payments/gateway:8443", "a headless Service has no address of its own; ask for one of its pods"),
        ("svc:web", "write a Service as svc:NAMESPACE/NAME:PORT"),
    ],
)
def test_a_service_that_cannot_be_asked(target: str, reason: str) -> None:
    ran = ovnk(*ASK, target, "-f", SHOP)
    assert ran.code == 2 and f"--to {target}: {reason}" in ran.err


def test_the_matrix_takes_services_as_columns() -> None:
    words = ("matrix", "-f", SHOP, "--port", "5432", "-n", "shop", "-o")
    document = ovnk(*words, "json", "--services").json("matrix")
    plain = ovnk(*words, "json").json("matrix")
    services = ["svc:shop/db:5432", "svc:shop/web:80", "svc:shop/web-outside:80"]
    assert document["to"] == [*plain["to"], *services]
    assert document["from"] == plain["from"]
    assert [row[: len(plain["to"])] for row in document["verdicts"]] == plain["verdicts"]
    cart = dict(zip(document["to"], document["verdicts"][0], strict=True))
    assert [cart[each] for each in services] == ["allow", "allow", "allow"]
    lines = ovnk(*words, "csv", "--services").out.splitlines()
    assert [line.split(",")[1:] for line in lines[1:]] == document["verdicts"]
    refused = ovnk("matrix", "-f", SHOP, "--protocol", "icmp", "--services")
    assert refused.code == 2 and "a Service is reached by tcp, udp or sctp" in refused.err


# ------------------------------------------------------------------------------- the same answers as files


@pytest.fixture(scope="module")
def shop() -> Iterator[Terminal]:
    with terminal() as server:
        server.ok("apply", "-f", SHOP)
        yield server


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("shop/cart", "svc:shop/web:http"),
        ("payments/gateway", "svc:shop/db:5432"),
        ("shop/web-1", "svc:shop/web"),
        ("203.0.113.9", "192.0.2.11:30080"),
        ("203.0.113.9", "192.0.2.13:30080"),
        ("203.0.113.9", "svc:shop/db:5432"),
    ],
)
def test_answers_are_those_of_the_files(shop: Terminal, source: str, target: str) -> None:
    words = ("trace", "--from", source, "--to", target)
    online = json.loads(shop.ok(*words, "-o", "json"))
    check(online, "trace")
    offline = ovnk(*words, "-f", SHOP, "-o", "json").json("trace")
    for step in (*online["steps"], *offline["steps"]):
        step["source"] = bool(step["source"])  # a field of an object here, a line of a file there
    assert online == offline
    assert shop.ok(*words).splitlines()[:3] == ovnk(*words, "-f", SHOP).out.splitlines()[:3]


def test_a_batch_lists_endpoints_too(shop: Terminal) -> None:
    line = json.dumps({"from": "shop/cart", "to": "svc:shop/web:80", "id": 7})
    online = json.loads(shop.run("trace", "--batch", "-", stdin=line).out)
    offline = json.loads(ovnk("trace", "-f", SHOP, "--batch", "-", stdin=line).out)
    check(online, "trace")
    assert online["load_balancer"] == offline["load_balancer"] and online["id"] == 7


def test_the_matrix_is_that_of_the_files(shop: Terminal) -> None:
    words = ("matrix", "--port", "5432", "--services", "-o", "json")
    assert json.loads(shop.ok(*words)) == json.loads(ovnk(*words, "-f", SHOP).out)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ovnk trace --to s", ["shop/", "svc:"]),
        ("ovnk trace --to svc:sh", ["svc:shop/"]),
        ("ovnk trace --to svc:shop/web", ["svc:shop/web", "svc:shop/web-outside"]),
        ("ovnk trace --from shop/c", ["shop/cart"]),
    ],
)
def test_ends_are_offered(shop: Terminal, line: str, offered: list[str]) -> None:
    env = {"_OVNK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"}
    assert [each.partition(",")[2] for each in shop.run(env=env).out.splitlines() if each] == offered
