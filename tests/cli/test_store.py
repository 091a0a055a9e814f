"""``ovnk store`` and ``ovnk serve``: what can be done without a server."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import anyio
from click.testing import CliRunner, Result
from ovnk_cli.commands.serve import serve
from ovnk_cli.commands.store import store

from ovnk_core.keeper import Keeper
from ovnk_core.keeper.proposal import Put
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.store.entry import Change, Entry, StoreKey
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.etcd_link import put
from ovnk_core.store.sqlite import SqliteLog
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import short_directory

EMPTY = '{"format": "ovnk-store", "version": 1, "revision": 0, "items": []}'


def _run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(store, words, input=stdin)


def _filled(path: Path, *more: Entry) -> None:
    """A store with two namespaces, and entries after them."""

    async def fill() -> None:
        async with Keeper(MemoryNorthbound(), SqliteLog(path)) as keeper:
            for name in ("shop", "lab"):
                manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                await keeper.commit(keeper.request(puts=[Put(manifest=manifest)]))

        if more:
            log = SqliteLog(path)
            await log.open()
            await log.append(more)
            await log.close()

    anyio.run(fill)


def test_what_is_exported_can_be_imported(tmp_path: Path) -> None:
    one, two, file = tmp_path / "one.db", tmp_path / "two.db", tmp_path / "state.json"
    _filled(one)
    assert _run("verify", "--store", f"sqlite:{one}").exit_code == 0
    done = _run("export", "--store", f"sqlite:{one}", "-o", str(file))
    assert done.exit_code == 0 and file.stat().st_mode & 0o777 == 0o600
    names = {item["name"] for item in json.loads(file.read_text())["items"] if item["space"] == "object"}
    assert names == {"shop", "lab"}
    assert _run("import", "--store", f"sqlite:{two}", str(file)).exit_code == 0
    again = _run("export", "--store", f"sqlite:{two}")
    assert json.loads(again.stdout) == json.loads(file.read_text())


def test_a_store_that_holds_something_is_replaced_only_when_told(tmp_path: Path) -> None:
    path, file = tmp_path / "one.db", tmp_path / "state.json"
    _filled(path)
    file.write_text(EMPTY)
    refused = _run("import", "--store", f"sqlite:{path}", str(file))
    assert refused.exit_code == 1 and "not replaced; give --replace" in refused.stderr
    assert _run("import", "--store", f"sqlite:{path}", "--replace", "-", stdin=file.read_text()).exit_code == 0
    assert json.loads(_run("export", "--store", f"sqlite:{path}").stdout)["items"] == []


def test_a_store_that_cannot_be_read_is_not_one_that_has_something_wrong(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    path.write_bytes(os.urandom(4_096))
    for words in (("verify",), ("export",), ("import", "-")):
        found = _run(*words, "--store", f"sqlite:{path}", stdin=EMPTY)
        assert found.exit_code == 3 and found.stderr.startswith("ovnk: ") and "not a database" in found.stderr, words
    path.unlink()
    _filled(path)
    with sqlite3.connect(path) as database:
        database.execute("delete from entry where revision = 2")
    found = _run("verify", "--store", f"sqlite:{path}")
    assert found.exit_code == 3 and "one.db" in found.stderr
    path = tmp_path / "two.db"
    _filled(path, Entry(revision=4, changes=(Change(key=StoreKey("object", "Pod", "shop", "p"), value=b"{"),)))
    found = _run("verify", "--store", f"sqlite:{path}")
    assert found.exit_code == 1 and "the value is not JSON" in found.stdout


def test_the_same_in_etcd(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    _filled(tmp_path / "one.db")
    assert _run("export", "--store", f"sqlite:{tmp_path}/one.db", "-o", str(file)).exit_code == 0
    with short_directory() as directory, EtcdServer(directory) as server:
        store = ("--store", f"etcd:{server.endpoint}/test")
        assert _run("import", *store, str(file)).exit_code == 0
        assert _run("verify", *store).exit_code == 0
        assert json.loads(_run("export", *store).stdout) == json.loads(file.read_text())
        refused = _run("import", *store, str(file))
        assert refused.exit_code == 1 and "not replaced; give --replace" in refused.stderr
        assert _run("import", *store, "--replace", "-", stdin=EMPTY).exit_code == 0
        assert json.loads(_run("export", *store).stdout)["items"] == []
        anyio.run(_damage, server.endpoint)
        for words in (("verify",), ("export",), ("import", "--replace", str(file))):
            found = _run(*words, *store)
            assert found.exit_code == 3 and "head: cannot be read" in found.stderr, words
    found = _run("verify", *store)
    assert found.exit_code == 3 and "no member can be reached" in found.stderr


async def _damage(endpoint: str) -> None:
    log = EtcdLog([endpoint], "/test")
    await log.open()
    await log._link.transact([], [put(b"/test/head", b"7")], is_repeatable=True)
    await log.close()


def test_what_is_not_there_or_no_export_is_usage(tmp_path: Path) -> None:
    assert _run("verify", "--store", f"sqlite:{tmp_path}/none.db").exit_code == 2
    assert not (tmp_path / "none.db").exists()
    assert _run("verify", "--store", "disk:/x").exit_code == 2
    assert _run("export", "--store", "memory").exit_code == 2
    for text in ("nonsense", '{"format": "other"}', "[" * 100_000):
        found = _run("import", "--store", f"sqlite:{tmp_path}/none.db", "-", stdin=text)
        assert found.exit_code == 2, text


def test_settings_are_shown_without_serving() -> None:
    found = CliRunner().invoke(serve, ["--show-config", "--limits-calls", "9", "--no-dns-ask"])
    assert found.exit_code == 0
    assert "calls = 9  # --limits-calls" in found.stdout and "ask = false  # --dns-ask" in found.stdout
