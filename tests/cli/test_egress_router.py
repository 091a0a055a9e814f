"""``ovnk egressrouter``, and ``ovnk trace`` through an egress router: of files, and of a server the same."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.command import SHOP, check, ovnk
from tests.cli.online import terminal

ROUTER = "ledger/bank-router"
ASKED = ("trace", "--from", "shop/cart", "--to", "svc:ledger/bank:sql", "-o", "json")
HOP = {
    "pod": ROUTER,
    "network": "ledger/bank",
    "node": "worker-2",
    "interface": "net1",
    "source_ip": "192.0.2.99",
    "destination": "198.51.100.60:5432",
}


def test_plans_in_every_form() -> None:
    document = ovnk("egressrouter", "-f", SHOP, "-o", "json").json("egressrouter")
    (plan,) = document["routers"]
    assert (plan["pod"], plan["address"], plan["gateway"]) == (ROUTER, "192.0.2.99/24", "192.0.2.1")
    assert plan["redirects"] == [
        {"protocol": "tcp", "port": 5432, "destination": "198.51.100.60", "destinationPort": 5432}
    ]
    assert (plan["requirements"], plan["warnings"]) == ([], [])
    assert yaml.safe_load(ovnk("egressrouter", "-f", SHOP, "-o", "yaml").out) == document
    assert ovnk("egressrouter", ROUTER, "-f", SHOP, "-o", "nft").out == plan["nft"]
    assert ovnk("egressrouter", "-f", SHOP, "-o", "routes").out.splitlines() == plan["routes"]
    lines = ovnk("egressrouter", "-f", SHOP).out.splitlines()
    assert lines[1].split()[:5] == [ROUTER, "worker-2", "net1", "192.0.2.99/24", "192.0.2.1"]


def test_what_the_platform_wants_by_option() -> None:
    found = ovnk("egressrouter", "-f", SHOP, "--platform", "OpenStack", "-o", "json").json("egressrouter")
    assert found["routers"][0]["requirements"] == [
        "openstack port set --allowed-address ip_address=192.0.2.99,mac_address=<mac_address> <neutron_port_uuid>"
    ]


def test_a_pod_that_is_no_router_is_a_usage_error() -> None:
    ran = ovnk("egressrouter", "shop/cart", "-f", SHOP)
    assert (ran.code, "shop/cart is no egress router pod" in ran.err) == (2, True)


def test_trace_names_the_source_that_the_destination_sees() -> None:
    document = ovnk(*ASKED, "-f", SHOP, "--engine", "all").json("trace")
    assert document["egress_router"] == HOP
    assert document["legs"][-1]["to"] == "198.51.100.60"
    text = ovnk(*ASKED[:-2], "-f", SHOP).out
    assert "egress router: 198.51.100.60:5432 sees 192.0.2.99 (pod ledger/bank-router)" in text.splitlines()


def test_a_server_says_what_files_say() -> None:
    with terminal() as online:
        online.ok("apply", "-f", SHOP, "--wait")
        document = json.loads(online.ok(*ASKED))
        plans = json.loads(online.ok("egressrouter", "-o", "json"))
        texts = {form: online.ok("egressrouter", ROUTER, "-o", form) for form in ("nft", "routes", "table")}
        unknown = online.run("egressrouter", "shop/cart")
        listed = online.ok("get", "net-attach-def", "-n", "ledger")
        described = online.ok("describe", "net-attach-def", "bank", "-n", "ledger")
        pod = online.ok("describe", "pod", "bank-router", "-n", "ledger")
        plain = online.ok("describe", "pod", "cart", "-n", "shop")
    check(document, "trace")
    assert document["egress_router"] == HOP
    check(plans, "egressrouter")
    assert plans == ovnk("egressrouter", "-f", SHOP, "-o", "json").json("egressrouter")
    assert texts == {form: ovnk("egressrouter", ROUTER, "-f", SHOP, "-o", form).out for form in texts}
    assert (unknown.code, "shop/cart is no egress router pod" in unknown.err) == (2, True)
    assert listed.splitlines()[1].split()[:2] == ["bank", "egress-router"]
    assert "Technology Preview" in described
    for line in (
        "Support:        Technology Preview (15.12): not for production",
        "Egress Router:",
        "  Network: ledger/bank",
        "  Address: 192.0.2.99/24",
        "  Gateway: 192.0.2.1",
        "    - 5432 tcp 198.51.100.60",
    ):
        assert line in pod.splitlines(), pod
    assert "Egress Router" not in plain


def test_a_server_warns_of_routers_when_they_are_applied(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    definition, pod, service = list(yaml.safe_load_all(Path(SHOP, "egress-router.yaml").read_text()))[1:4]
    assert (definition["kind"], pod["kind"]) == ("NetworkAttachmentDefinition", "Pod")
    again = pod | {"metadata": pod["metadata"] | {"name": "again", "labels": {"app": "again"}}, "status": {}}
    double = f"192.0.2.99 is used by {ROUTER}, too: only one pod can use an egress source address"
    platform = "platform AWS: an egress router is not compatible with it, because macvlan needs layer 2 (15.11.1)"
    with terminal() as online:
        online.ok("apply", "-f", SHOP, "--wait")
        file.write_text(yaml.safe_dump(again))
        assert f"warning: pod/again: {double}" in online.run("apply", "-f", str(file), "--dry-run=server").err
        assert f"warning: pod/again: {double}" in online.run("apply", "-f", str(file)).err
        # What is stated again is warned of again, though nothing changes.
        assert double in online.run("apply", "-f", str(file)).err
        idle = service | {"metadata": {"name": "idle", "namespace": "ledger"}, "spec": {"ports": [{"port": 1}]}}
        idle["spec"]["selector"] = {"app": "nobody"}
        aws = {"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"}}
        file.write_text(yaml.safe_dump_all([definition, idle, aws | {"status": {"platformStatus": {"type": "AWS"}}}]))
        told = online.run("apply", "-f", str(file)).err
        assert "router pod ledger/again: 192.0.2.99 is used by ledger/bank-router, too" in told, told
        assert (
            "service/idle: selects no pod: router pod ledger/again, which no Service selects, does not have" in told
        ), told
        assert platform in told, told
