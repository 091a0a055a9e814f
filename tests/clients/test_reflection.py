"""docs/other-languages.md is true: its four commands run against the real service, without generated code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.ovn import short_directory
from tests.kit.serving import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "other-languages.md").read_text()
COMMANDS = re.findall(r"^\$ python (examples/reflection\.py) unix:\S+ ?(.*)$", PAGE, flags=re.MULTILINE)
TIMEOUT_S = 60


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    with short_directory() as folder:
        server = ServerProcess(folder)
        server.start()
        try:
            await server.ready()
            yield server.socket
        finally:
            server.daemon.stop()


def _lines(address: str, script: str, words: str, last: str) -> list[str]:
    """What a command prints, until a line that holds ``last``; empty: until it ends."""
    environment = {**os.environ}
    environment.pop("PYTHONPATH", None)
    argv = [sys.executable, "-W", "error", script, address, *shlex.split(words)]
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told: list[str] = []
        for line in running.stdout:
            told.append(line.rstrip("\n"))
            if last and last in line:
                running.kill()
                return told
        assert running.wait(TIMEOUT_S) == 0
        return told


@pytest.mark.asyncio
async def test_the_four_commands(address: str) -> None:
    listed, applied, found, watched = (
        _lines(address, script, words, "synced" if "Watch" in words else "") for script, words in COMMANDS
    )
    assert {"ovnk_api.v1.ObjectService/Watch", "ovnk_api.v1.TraceService/Trace"} <= set(listed)
    (result,) = json.loads(applied[0])["results"]
    assert result["outcome"] == "OUTCOME_CREATED"
    metadata = json.loads(found[0])["object"]["namespace"]["metadata"]
    assert (metadata["name"], metadata["resourceVersion"]) == ("shop", result["resourceVersion"])
    added, synced = map(json.loads, watched)
    assert added["added"]["object"]["namespace"]["metadata"] == metadata
    assert synced["synced"] == {"objects": 1}


@pytest.mark.asyncio
async def test_what_fails_is_told_in_one_line(address: str) -> None:
    missing = json.dumps({"reference": {"kind": "Namespace", "name": "nowhere"}})
    for words, telling in (
        (["ovnk_api.v1.ObjectService/Get", missing], "NOT_FOUND: "),
        (["ovnk_api.v1.ObjectService/Get", '{"no": 1}'], "no field named"),
        (["ovnk_api.v1.ObjectService/Get", "{"], "not JSON: "),
        (["ovnk_api.v1.ObjectService/Get"], "give a request"),
        (["ovnk_api.v1.ObjectService/Git", "{}"], "no such method: ovnk_api.v1.ObjectService/Git"),
        (["ovnk_api.v1.Nothing/Get", "{}"], "no such method: ovnk_api.v1.Nothing/Get"),
    ):
        environment = {**os.environ}
        environment.pop("PYTHONPATH", None)
        argv = [sys.executable, "-W", "error", "examples/reflection.py", address, *words]
        ran = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (1, ""), ran
        assert telling in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr
