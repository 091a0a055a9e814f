"""The README is true: every command in it runs, the library example works, every target exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import anyio
import anyio.to_thread
import pytest

from tests.cli.command import PACKAGES, ROOT, ovnk
from tests.kit.ovn import short_directory
from tests.kit.serving import ServerProcess

README = (ROOT / "README.md").read_text()
SERVICE = README[README.index("## The service") : README.index("## The library")]
COMMANDS = re.findall(r"^\$ ovnk (.*)$", README.replace(SERVICE, ""), flags=re.MULTILINE)
SERVE, *ONLINE = re.findall(r"^\$ ovnk (.*)$", SERVICE, flags=re.MULTILINE)
PAGES = README + (ROOT / "CONTRIBUTING.md").read_text()
TARGETS = sorted(set(re.findall(r"(?:`|^)make ([a-z]+)", PAGES, flags=re.MULTILINE)))


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 10
    assert {"demo", "test", "install", "check", "bench", "nightly"} <= set(TARGETS)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_runs(words: str) -> None:
    ran = ovnk(*shlex.split(words), cwd=ROOT)
    assert ran.code == 0, ran.err
    assert ran.out


def test_the_server_takes_the_settings_shown() -> None:
    ran = ovnk(*shlex.split(SERVE), "--show-config", cwd=ROOT)
    assert ran.code == 0, ran.err


@pytest.mark.asyncio
async def test_every_online_command_and_the_client_example_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_directory() as folder:
        server = ServerProcess(folder)
        server.start()
        await server.ready()
        monkeypatch.setenv("OVNK_SERVER", server.socket)
        for words in ONLINE:
            ran = await anyio.to_thread.run_sync(lambda words=words: ovnk(*shlex.split(words), cwd=ROOT))
            assert ran.code == 0, (words, ran.err)
            assert ran.out, words
        (example,) = re.findall(r"```python\n(.*?)```", SERVICE, flags=re.DOTALL)
        example = example.replace("unix:/run/ovnk/ovnk.sock", server.socket)
        path = ":".join(str(ROOT / package) for package in PACKAGES)
        done = await anyio.run_process([sys.executable, "-W", "error", "-c", example], env={"PYTHONPATH": path})
        assert done.stdout.decode().splitlines()[-1].startswith("synced ")
        server.daemon.stop()


def test_the_library_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.replace(SERVICE, ""), flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "allow: ingress rule 0 of NetworkPolicy shop/db allows it\n"


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_exists(target: str) -> None:
    listed = subprocess.run(["make", "-qp"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert re.search(rf"^{target}:", listed, flags=re.MULTILINE)


def test_every_folder_in_the_map_exists() -> None:
    for line in README.splitlines():
        if line.startswith("| `"):
            first = ""
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                path = name if name.startswith(("ovnk_core", "clients", "proto", "server")) else f"ovnk_core/{name}"
                first = first or path
                assert (ROOT / path).exists(), path


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"\b[A-Z]{3,}_[A-Z]{3,}\b", README.replace("TEST_SCALE", "").replace("OVNK_SERVER", ""))
