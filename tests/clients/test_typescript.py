"""The TypeScript client: generated from the proto files as they are, built from its lock file, and at work with a real
service. What it does is tested in its own language, in ``clients/typescript/test``; here it is made and run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.certificates import Authority
from tests.kit.ovn import short_directory
from tests.kit.raft import free_ports
from tests.kit.serving import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clients" / "typescript"
README = (PACKAGE / "README.md").read_text()
TIMEOUT_S = 300
"""The first run installs what is needed."""
RULES = """
[[rule]]
identities = ["local"]
verbs = ["*"]

[[rule]]
identities = ["spiffe://example.org/reader"]
verbs = ["get"]
kinds = ["Namespace"]
"""


def _run(*words: str, cwd: Path = ROOT, **variables: str) -> str:
    """What a command that must succeed prints. Whatever it started goes with it when it takes too long."""
    environment = {**os.environ, "VENV": sys.prefix, **variables}
    environment.pop("PYTHONPATH", None)
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, cwd=cwd, env=environment, start_new_session=True, **options) as running:
        try:
            told, _ = running.communicate(timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(running.pid, signal.SIGKILL)
            raise
    assert running.returncode == 0, told
    return str(told)


def _passed(report: str) -> int:
    """How many tests of a run in TAP passed; none may have been left out."""
    totals = {name: int(number) for name, number in re.findall(r"^# ([a-z]+) ([0-9]+)$", report, flags=re.MULTILINE)}
    assert totals["pass"] == totals["tests"], report
    return totals["pass"]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_code_is_what_the_generator_makes(tmp_path: Path) -> None:
    _run("scripts/typescript", "--generate", str(tmp_path / "gen"))
    made, committed = _files(tmp_path / "gen"), _files(PACKAGE / "src" / "gen")
    assert len(made) > 20
    assert made.keys() == committed.keys(), "run scripts/typescript --generate"
    assert [name for name in made if made[name] != committed[name]] == [], "run scripts/typescript --generate"


def test_it_builds_and_its_own_tests_pass() -> None:
    assert _passed(_run("scripts/typescript", NODE_OPTIONS="--test-reporter=tap")) >= 30


def _secured(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Words that let a server speak TLS, too, and what a client needs for that: the address and files."""
    authority = Authority(folder)
    server = authority.issue("server")
    reader = authority.issue("reader", uris=["spiffe://example.org/reader"])
    stranger = Authority(folder, "other").issue("stranger", uris=["spiffe://example.org/reader"])
    (folder / "rules.toml").write_text(RULES)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    flags = {"listen": f"tcp:{address}", "tls-cert": server.certificate, "tls-key": server.key}
    flags |= {"tls-client-ca": authority.file, "authorisation": str(folder / "rules.toml")}
    flags |= {"certificates-folder": str(folder / "ca")}
    known = {"address": address, "ca": authority.file, "cert": reader.certificate, "key": reader.key}
    known |= {"strangerCert": stranger.certificate, "strangerKey": stranger.key}
    return [word for flag, value in flags.items() for word in (f"--{flag}", value)], known


def test_it_works_with_the_service() -> None:
    _run("scripts/typescript", "--build")
    with short_directory() as folder:
        (folder / "readme.ts").write_text("".join(re.findall(r"```ts\n(.*?)```", README, flags=re.DOTALL)))
        server = ServerProcess(folder)
        words, known = _secured(folder)
        report = _run(
            *("npm", "run", "--silent", "test:live"),
            cwd=PACKAGE,
            OVNK_SERVER=server.socket,
            TEST_SERVE=json.dumps([*server.daemon.argv, *words]),
            TEST_TLS=json.dumps(known),
            TEST_README=str(folder / "readme.ts"),
        )
    assert _passed(report) >= 17


def test_the_readme_names_what_is_there() -> None:
    client = (PACKAGE / "src" / "client.ts").read_text()
    public = set(re.findall(r"^  (?:async )?\*?([a-z]\w*)(?:<[^(]*>)?\(", client, flags=re.MULTILINE))
    (listed,) = re.findall(r"^Methods: (.*?)\. ", README, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == public - {"constructor", "close"}
    for script, option in re.findall(r"^(scripts/\S+)(?: +(--\S+))?", README, flags=re.MULTILINE):
        assert f"--{option.lstrip('-')}" in (ROOT / script).read_text()


@pytest.mark.parametrize("name", ["package.json", "package-lock.json", ".npmrc"])
def test_nothing_names_a_registry(name: str) -> None:
    text = (PACKAGE / name).read_text()
    assert '"resolved"' not in text
    assert "registry." not in text
