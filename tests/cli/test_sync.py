"""``ovnk sync`` and ``purge`` against a real ovsdb-server, and what a restart finds."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ROOT, SHOP, check, ovnk
from tests.kit.ovn import Central, OvsdbServer, program, schema_file, short_directory

NOTHING = {"insert": 0, "update": 0, "mutate": 0, "delete": 0}
NODE = (
    "apiVersion: v1\nkind: Node\nmetadata: {{name: {0}}}\nstatus: {{addresses: [{{type: InternalIP, address: {1}}}]}}\n"
)
POD = "apiVersion: v1\nkind: Pod\nmetadata: {{name: {0}, namespace: shop}}\nspec: {{nodeName: {1}, containers: []}}\n"


@pytest.fixture
def server() -> Iterator[OvsdbServer]:
    with short_directory() as directory, OvsdbServer(directory) as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder)
    return folder


def sync(server: OvsdbServer | Central, *words: str) -> Any:
    address = server.nb if isinstance(server, Central) else server.address
    ran = ovnk("sync", "--northbound", address, "-o", "json", *words)
    assert ran.code in (0, 1), ran.err
    return ran.json("sync")


def addresses(server: OvsdbServer) -> dict[str, str]:
    """Pod and management ports and what they are called by."""
    return {row["name"]: str(row["addresses"]) for row in select(server, "Logical_Switch_Port")}


def select(server: OvsdbServer, table: str) -> list[Any]:
    with server.wire() as wire:
        return wire.select(table)


@pytest.mark.parametrize("driver", ["native", "ovsdbapp"])
def test_first_sync_writes_and_the_second_writes_nothing(server: OvsdbServer, driver: str) -> None:
    first = sync(server, "-f", SHOP, "--driver", driver)
    assert first["operations"]["insert"] == first["rows_owned"] > 100
    second = sync(server, "-f", SHOP, "--driver", driver, "--wait", "none")
    assert second["operations"] == NOTHING


def test_the_other_driver_finds_nothing_to_do(server: OvsdbServer) -> None:
    sync(server, "-f", SHOP, "--driver", "native")
    assert sync(server, "-f", SHOP, "--driver", "ovsdbapp")["operations"] == NOTHING


def test_nothing_that_exists_moves(server: OvsdbServer, shop: Path) -> None:
    """Add a node and a pod whose names sort first, delete another pod, restart: everything stays where it was."""
    sync(server, "-f", str(shop))
    before = addresses(server)
    apps = (shop / "apps.yaml").read_text()
    cut = apps.index("---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web-2")
    rest = apps.index("---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: cart")
    (shop / "apps.yaml").write_text(apps[:cut] + apps[rest:])
    (shop / "early.yaml").write_text(NODE.format("a-first", "192.0.2.9") + "---\n" + POD.format("a-first", "worker-1"))
    sync(server, "-f", str(shop))
    after = addresses(server)
    assert "shop_web-2" not in after
    assert {"k8s-a-first", "shop_a-first"} <= after.keys()
    assert {name: after[name] for name in before if name != "shop_web-2"} == {
        name: where for name, where in before.items() if name != "shop_web-2"
    }


def test_decisions_can_be_saved_and_given_to_offline_verbs(server: OvsdbServer, shop: Path, tmp_path: Path) -> None:
    saved = tmp_path / "decisions.json"
    sync(server, "-f", str(shop), "--save-decisions", str(saved))
    check(json.loads(saved.read_text()), "decisions")
    (shop / "early.yaml").write_text(POD.format("a-first", "worker-1"))
    offline = ovnk("rows", "-f", str(shop), "--decisions", str(saved), "-o", "json")
    assert "proposed" not in offline.err
    ports = {
        row["columns"]["name"]: row["columns"]["addresses"][0]
        for row in json.loads(offline.out)["rows"]
        if row["table"] == "Logical_Switch_Port"
    }
    for name, where in addresses(server).items():
        if name.startswith("shop_"):
            assert ports[name] in where
    assert ovnk("rows", "-f", str(shop), "--decisions", "nowhere.json").code == 2
    saved.write_text('{"apiVersion": "v2"}')
    assert ovnk("rows", "-f", str(shop), "--decisions", str(saved)).code == 1


def test_dry_run_tells_and_touches_nothing(server: OvsdbServer) -> None:
    ran = ovnk("sync", "-f", SHOP, "--northbound", server.address, "--dry-run", "-o", "json")
    assert ran.code == 1
    assert ran.json("sync")["operations"]["insert"] > 100
    assert not select(server, "Logical_Switch")
    sync(server, "-f", SHOP)
    assert ovnk("sync", "-f", SHOP, "--northbound", server.address, "--dry-run", "-o", "json").code == 0


def test_the_guard_stops_mass_deletion(server: OvsdbServer, tmp_path: Path) -> None:
    sync(server, "-f", SHOP)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    few = tmp_path / "few.yaml"
    few.write_text(Path(SHOP, "cluster.yaml").read_text().split("---\napiVersion: v1\nkind: Node")[0])
    for path in (empty, few):
        ran = ovnk("sync", "-f", str(path), "--northbound", server.address)
        assert ran.code == 1
        assert "--allow-prune" in ran.err
    assert sync(server, "-f", SHOP)["operations"] == NOTHING
    assert sync(server, "-f", str(few), "--allow-prune")["operations"]["delete"] > 50


def test_foreign_rows_stay_untouched_and_a_held_name_is_a_conflict(server: OvsdbServer) -> None:
    with server.wire() as wire:
        wire.transact(
            {"op": "insert", "table": "Logical_Switch", "row": {"name": "worker-1"}},
            {"op": "insert", "table": "Address_Set", "row": {"name": "theirs", "addresses": "10.9.9.9"}},
        )
    before = select(server, "Address_Set")
    ran = ovnk("sync", "-f", SHOP, "--northbound", server.address)
    assert ran.code == 3
    assert "Logical_Switch 'worker-1'" in ran.err
    assert "Node//worker-1/switch" in ran.err
    assert len(select(server, "Logical_Switch")) == 1
    adopted = sync(server, "-f", SHOP, "--adopt")
    assert adopted["rows_foreign"] == 1
    assert len([row for row in select(server, "Logical_Switch") if row["name"] == "worker-1"]) == 1
    assert [row for row in select(server, "Address_Set") if row["name"] == "theirs"] == before


def test_purge_removes_exactly_ours(server: OvsdbServer) -> None:
    with server.wire() as wire:
        wire.transact({"op": "insert", "table": "Address_Set", "row": {"name": "theirs", "addresses": "10.9.9.9"}})
    owned = sync(server, "-f", SHOP)["rows_owned"]
    ran = ovnk("purge", "--northbound", server.address, "-o", "json")
    assert ran.code == 0, ran.err
    assert ran.json("purge")["operations"]["delete"] == owned
    assert [row["name"] for row in select(server, "Address_Set")] == ["theirs"]
    for table in ("Logical_Switch", "Logical_Router", "ACL", "Port_Group", "Load_Balancer_Group", "Meter"):
        assert not select(server, table), table


def test_a_refused_edit_keeps_the_accepted_policy_across_restarts(server: OvsdbServer, shop: Path) -> None:
    sync(server, "-f", str(shop))
    acls = sorted(row["match"] for row in select(server, "ACL"))
    policies = (shop / "policies.yaml").read_text()
    (shop / "policies.yaml").write_text(policies.replace("port: sql", "port: 70000"))
    ran = ovnk("sync", "-f", str(shop), "--northbound", server.address, "-o", "json")
    assert ran.code == 1
    assert ran.json("sync")["operations"] == NOTHING
    assert "70000" in ran.err
    assert sorted(row["match"] for row in select(server, "ACL")) == acls


def test_a_refused_pod_keeps_its_rows_across_restarts(server: OvsdbServer, shop: Path) -> None:
    sync(server, "-f", str(shop))
    before = addresses(server)
    apps = (shop / "apps.yaml").read_text()
    (shop / "apps.yaml").write_text(apps.replace("labels: {app: cart}", "labels: {app: 'not a label!'}"))
    ran = ovnk("sync", "-f", str(shop), "--northbound", server.address, "-o", "json")
    assert ran.code == 1
    assert ran.json("sync")["operations"]["delete"] == 0
    assert addresses(server) == before
    (shop / "apps.yaml").write_text(apps)
    assert sync(server, "-f", str(shop))["operations"] == NOTHING


def test_unreachable_and_wrong_databases_are_three(server: OvsdbServer, tmp_path: Path) -> None:
    started = time.monotonic()
    ran = ovnk("sync", "-f", SHOP, "--northbound", f"unix:{tmp_path}/nobody.sock", "--timeout", "2")
    assert ran.code == 3
    assert "nobody.sock" in ran.err
    assert time.monotonic() - started < 20
    with short_directory() as directory, OvsdbServer(directory, kind="sb") as southbound:
        ran = ovnk("sync", "-f", SHOP, "--northbound", southbound.address)
    assert ran.code == 3
    assert "OVN_Northbound" in ran.err
    assert ovnk("sync", "-f", SHOP, "--northbound", "nonsense").code == 2


def test_wait_sb_and_hv(tmp_path: Path) -> None:
    with short_directory() as directory, Central(directory) as central:
        assert sync(central, "-f", SHOP, "--wait", "sb")["rows_owned"] > 100
        ran = ovnk("sync", "-f", SHOP, "--northbound", central.nb, "--wait", "hv", "--timeout", "10")
        assert ran.code == 3
        assert "no chassis is registered" in ran.err


def test_watch_follows_the_files(server: OvsdbServer, shop: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "ovnk_cli",
        "sync",
        "-f",
        str(shop),
        "--northbound",
        server.address,
        "--watch",
        "-o",
        "json",
    ]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/clients/cli", "PATH": "/usr/bin:/bin", "OVNK_DNS_TIMEOUT": "0"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        (shop / "early.yaml").write_text(POD.format("a-first", "worker-1"))
        second = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        child.wait(10)
    assert first["operations"]["insert"] > 100
    assert 0 < second["operations"]["insert"] < 5
    assert "shop_a-first" in addresses(server)


def content(server: OvsdbServer) -> dict[str, list[Any]]:
    """Every row of the tables we write, without what the server adds."""
    return {
        table: sorted(
            json.dumps({name: value for name, value in row.items() if name != "_version"}, sort_keys=True)
            for row in select(server, table)
        )
        for table in ("ACL", "Port_Group", "Address_Set", "Logical_Switch", "Logical_Switch_Port", "Logical_Router")
    }


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3])
def test_killed_between_any_two_transactions_the_next_sync_completes(
    server: OvsdbServer, shop: Path, tmp_path: Path, killed_after: int
) -> None:
    """Three edits, one transaction each; SIGKILL after 0 to 3 of them; a new process must reach the same rows."""
    policies, apps = shop / "policies.yaml", shop / "apps.yaml"
    edits = [
        (shop / "early.yaml", POD.format("a-first", "worker-1")),
        (policies, policies.read_text().replace("port: sql", "port: 5433")),
        (apps, apps.read_text().replace("{app: cart}", "{app: cart, new: label}")),
    ]
    saved = tmp_path / "decisions.json"
    sync(server, "-f", str(shop), "--save-decisions", str(saved))
    words = [sys.executable, "-m", "ovnk_cli", "sync", "-f", str(shop), "--northbound", server.address, "--watch"]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/clients/cli", "PATH": "/usr/bin:/bin", "OVNK_DNS_TIMEOUT": "0"}
    with subprocess.Popen(
        [*words, "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        for path, text in edits[:killed_after]:
            path.write_text(text)
            child.stdout.readline()
        child.kill()
    for path, text in edits:
        path.write_text(text)
    sync(server, "-f", str(shop))
    with short_directory() as directory, OvsdbServer(directory) as fresh:
        sync(fresh, "-f", str(shop), "--decisions", str(saved))
        assert content(server) == content(fresh)


def test_a_newer_schema_gets_tiers(tmp_path: Path) -> None:
    with short_directory() as directory:
        schema = json.loads(Path(schema_file("nb")).read_text())
        tier = {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 3}}}
        schema["tables"]["ACL"]["columns"]["tier"] = tier
        schema["version"] = "7.3.0"
        del schema["cksum"]
        newer = tmp_path / "newer.ovsschema"
        newer.write_text(json.dumps(schema))
        subprocess.run([program("ovsdb-tool"), "create", str(directory / "nb.db"), str(newer)], check=True)
        with OvsdbServer(directory) as server:
            sync(server, "-f", SHOP)
            tiers = {row["name"]: row["tier"] for row in select(server, "ACL") if row["name"] != ["set", []]}
            assert set(tiers.values()) == {2}
            assert sync(server, "-f", SHOP)["operations"] == NOTHING


def test_a_refused_network_stops_everything_and_removes_nothing(server: OvsdbServer, shop: Path) -> None:
    sync(server, "-f", str(shop))
    before = content(server)
    text = (shop / "cluster.yaml").read_text()
    (shop / "cluster.yaml").write_text(text.replace("10.128.0.0/14", "100.64.0.0/14"))
    ran = ovnk("sync", "-f", str(shop), "--northbound", server.address, "-o", "json")
    assert ran.code == 1
    assert ran.json("sync")["operations"] == NOTHING
    assert "100.64.0.0/16" in ran.err
    assert content(server) == before
    with short_directory() as directory, OvsdbServer(directory) as fresh:
        ran = ovnk("sync", "-f", str(shop), "--northbound", fresh.address, "-o", "json")
        assert ran.code == 1
        assert not select(fresh, "Logical_Switch")
