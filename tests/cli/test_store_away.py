"""What the command says while the server cannot reach its store: soon, and why."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from tests.cli.command import check
from tests.cli.online import Terminal, write
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import short_directory
from tests.kit.serving import ServerProcess


def test_a_store_that_is_away_is_named(tmp_path: Path) -> None:
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    with short_directory() as directory, EtcdServer(directory) as etcd:
        server = ServerProcess(directory, store=f"etcd:{etcd.endpoint}")
        server.start()
        try:
            asyncio.run(server.ready())
            at = Terminal(server)
            at.ok("apply", "-f", write(tmp_path, shop))
            assert "store:       answers" in at.ok("status")
            etcd.kill()
            begun_s = time.monotonic()
            ran = at.run("label", "ns", "shop", "a=b")
            took_s = time.monotonic() - begun_s
            # The store's five seconds, and nobody has to wait for as many calls as fit into a deadline.
            assert (ran.code, took_s < 8) == (3, True), took_s
            assert ran.err.startswith(f"ovnk: etcd:{etcd.endpoint}: ") and ran.err.count("\n") == 1, ran.err
            assert "is the server running" not in ran.err
            ran = at.run("status", "-o", "json")
            found = json.loads(ran.out)
            check(found, "status")
            assert (ran.code, found["northbound"]["is_connected"]) == (1, True)
            assert found["store_failure"].startswith(f"etcd:{etcd.endpoint}: ")
            assert "store:       down: etcd:" in at.run("status").out
            # What is kept is answered all the same, and what was refused may be asked again.
            assert at.ok("get", "ns", "shop", "-o", "name") == "namespace/shop\n"
            etcd.start()
            assert at.ok("label", "ns", "shop", "a=b", "--timeout", "60s") == "namespace/shop labeled\n"
        finally:
            server.daemon.stop()
        assert "Task exception" not in (directory / "server.console").read_text()
