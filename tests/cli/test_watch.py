"""``sync --watch`` outlives difficulties: a broken file, a guard, a database that goes away and comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.command import ROOT, SHOP
from tests.kit.dnsmasq import Dnsmasq
from tests.kit.ovn import OvsdbServer, short_directory

DEADLINE_S = 40
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: late, namespace: shop}\nspec: {nodeName: worker-1, containers: []}\n"


class Watching:
    """A running ``sync --watch``; what it says is collected as it comes."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.documents: list[Any] = []
        self.said: list[str] = []
        assert child.stdout is not None and child.stderr is not None
        self._collect(child.stdout, lambda line: self.documents.append(json.loads(line)))
        self._collect(child.stderr, self.said.append)

    @staticmethod
    def _collect(stream: IO[str], take: Callable[[str], object]) -> None:
        def run() -> None:
            for line in stream:
                take(line)

        threading.Thread(target=run, daemon=True).start()

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_so():
            assert self.child.poll() is None, self.said
            assert time.monotonic() < deadline, (self.documents, self.said)
            time.sleep(0.05)

    def until_said(self, text: str) -> None:
        self.until(lambda: any(text in line for line in self.said))

    def until_synced(self, count: int) -> Any:
        self.until(lambda: len(self.documents) >= count)
        return self.documents[count - 1]


@contextmanager
def watching(folder: Path, server: OvsdbServer, *words: str) -> Iterator[Watching]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "cli")))
    given = ("-f", str(folder), "--northbound", server.address, "--watch", "-o", "json", *words)
    child = subprocess.Popen(
        [sys.executable, "-m", "ovnk_cli", "sync", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with child:
        try:
            yield Watching(child)
        finally:
            child.kill()


@pytest.fixture
def server() -> Iterator[OvsdbServer]:
    with short_directory() as directory, OvsdbServer(directory) as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder)
    return folder


def ports(server: OvsdbServer) -> set[str]:
    with server.wire() as wire:
        return {row["name"] for row in wire.select("Logical_Switch_Port")}


def test_a_broken_file_and_back(server: OvsdbServer, shop: Path) -> None:
    with watching(shop, server) as watch:
        watch.until_synced(1)
        before = ports(server)
        text = (shop / "apps.yaml").read_text()
        (shop / "apps.yaml").write_text("kind: [broken\n")
        watch.until_said("apps.yaml:")
        (shop / "apps.yaml").write_text(text + "---\n" + POD)
        watch.until(lambda: "shop_late" in ports(server))
        assert before < ports(server)


def test_a_guard_and_back(server: OvsdbServer, shop: Path) -> None:
    with watching(shop, server) as watch:
        watch.until_synced(1)
        before = ports(server)
        kept = {path: path.read_text() for path in shop.glob("*.yaml")}
        (shop / "apps.yaml").unlink()
        (shop / "cluster.yaml").unlink()
        watch.until_said("--allow-prune")
        assert ports(server) == before
        for path, text in kept.items():
            path.write_text(text)
        watch.until_synced(2)
        assert ports(server) == before


def test_dns_trouble_is_told_once_and_answers_are_saved(server: OvsdbServer, shop: Path, tmp_path: Path) -> None:
    """A server that is not there yet, and is later: no file changes, and still the answer is on record."""
    name, saved = "packages.example.com", tmp_path / "decisions.json"
    with short_directory() as directory, Dnsmasq(directory, {name: ["198.51.100.40"]}) as dnsmasq:
        address = str(dnsmasq.address)
        with watching(
            shop, server, "--dns-server", address, "--dns-timeout", "5", "--save-decisions", str(saved)
        ) as watch:
            watch.until(lambda: saved.exists() and "198.51.100.40" in saved.read_text())
    with watching(shop, server, "--dns-server", "127.0.0.1:9", "--dns-timeout", "5") as watch:
        watch.until_said(f"warning: {name}: ")
        (shop / "late.yaml").write_text(POD)
        watch.until(lambda: "shop_late" in ports(server))
        watch.until_synced(2)
        assert len(watch.said) == len(set(watch.said)), watch.said
        assert sum(f"warning: {name}: " in line for line in watch.said) == 1


def test_an_attempt_that_failed_is_repeated_though_no_file_changed(server: OvsdbServer, shop: Path) -> None:
    """A foreign switch holds a name we need; once it is gone, the next attempt gets through by itself."""
    with server.wire() as wire:
        wire.transact({"op": "insert", "table": "Logical_Switch", "row": {"name": "worker-1"}})
    with watching(shop, server) as watch:
        watch.until_said("Logical_Switch 'worker-1'")
        with server.wire() as wire:
            wire.transact({"op": "delete", "table": "Logical_Switch", "where": [["name", "==", "worker-1"]]})
        assert watch.until_synced(1)["operations"]["insert"] > 100
