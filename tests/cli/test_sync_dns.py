"""``ovnk sync`` asks DNS servers for the names of egress firewalls; what they answer stays on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import SHOP, ovnk
from tests.kit.dnsmasq import Dnsmasq
from tests.kit.ovn import OvsdbServer, short_directory

NAME, ADDRESS = "packages.example.com", "198.51.100.40"


@pytest.fixture
def server() -> Iterator[OvsdbServer]:
    with short_directory() as directory, OvsdbServer(directory) as running:
        yield running


@pytest.fixture
def dnsmasq() -> Iterator[Dnsmasq]:
    with short_directory() as directory, Dnsmasq(directory, {NAME: [ADDRESS]}) as running:
        yield running


def test_answers_are_written_and_outlive_the_server(server: OvsdbServer, dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    saved = str(tmp_path / "decisions.json")
    words = ("sync", "-f", SHOP, "--northbound", server.address, "--dns-server", str(dnsmasq.address))
    ran = ovnk(*words, "--dns-timeout", "20", "--save-decisions", saved)
    assert ran.code == 0, ran.err
    assert NAME not in ran.err
    asked = ovnk("trace", "-f", SHOP, "--decisions", saved, "--from", "shop/cart", "--to", f"{ADDRESS}:443")
    assert asked.out.startswith("allow"), asked.out
    assert f"{NAME} has {ADDRESS} since 2" in asked.out
    dnsmasq.daemon.stop()
    again = ovnk(*words, "--dns-timeout", "0.2", "--save-decisions", saved)
    assert again.code == 0
    assert NAME in again.err
    listed = ovnk("rows", "-f", SHOP, "--decisions", saved, "-o", "json").json("rows")
    sets = [row for row in listed["rows"] if row["owner"]["kind"] == "DnsName" and row["columns"]["addresses"]]
    assert {row["owner"]["role"] for row in sets} == {"live/v4", "sticky/v4"}
    assert all(row["columns"]["addresses"] == [ADDRESS] for row in sets)


def test_a_server_that_does_not_answer_holds_nothing_up(server: OvsdbServer) -> None:
    words = ("--northbound", server.address, "--dns-server", "127.0.0.1:9", "--dns-timeout", "0.3")
    ran = ovnk("sync", "-f", SHOP, *words, "-o", "json")
    assert ran.code == 0, ran.err
    assert ran.json("sync")["operations"]["insert"] > 100
    assert f"warning: {NAME}: no answer in 0.3 s" in ran.err


def test_counts_are_of_both_commits_and_seconds_leave_out_the_wait(server: OvsdbServer) -> None:
    words = ("sync", "-f", SHOP, "--northbound", server.address, "-o", "json")
    first = ovnk(*words, "--dns-timeout", "0").json("sync")
    assert first["operations"]["insert"] > 100
    with short_directory() as directory, Dnsmasq(directory, {NAME: [ADDRESS]}) as dnsmasq:
        second = ovnk(*words, "--dns-server", str(dnsmasq.address), "--dns-timeout", "20").json("sync")
    assert sum(second["operations"].values()) > 0, "what DNS answered is all there was to do"
    late = ovnk(*words, "--dns-server", "192.0.2.1", "--dns-timeout", "3").json("sync")
    assert late["seconds"] < 2.5


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "-1", "3601"])
def test_a_time_for_dns_is_finite(text: str) -> None:
    ran = ovnk("sync", "-f", SHOP, "--northbound", "memory", "--dns-timeout", text)
    assert ran.code == 2
    assert "--dns-timeout" in ran.err


def test_help_names_the_variables() -> None:
    text = ovnk("sync", "--help").out
    assert "OVNK_DNS_SERVER" in text
    assert "OVNK_DNS_TIMEOUT" in text


@pytest.mark.parametrize("text", ["ns.example.com", "127.0.0.1:0", "[::1"])
def test_what_is_no_server_is_told(text: str) -> None:
    ran = ovnk("sync", "-f", SHOP, "--northbound", "memory", "--dns-server", text, "--dns-timeout", "1")
    assert ran.code == 2
    assert "--dns-server" in ran.err
