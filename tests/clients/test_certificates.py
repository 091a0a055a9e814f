"""A connection that fails for a certificate's sake says which, and what is wrong with it."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import sys
from pathlib import Path

import pytest
from ovnk_client import Client, Tls, Unreachable, Untrusted

from tests.cli.command import PACKAGES, ROOT
from tests.kit.certificates import Authority
from tests.server.test_tls import ANN, Stand, stand

HOUR = datetime.timedelta(hours=1)
pytestmark = pytest.mark.asyncio


def place(at: Stand) -> str:
    return "localhost:" + next(iter(at.front.addresses.values())).rpartition(":")[2]


async def failure(address: str, tls: Tls) -> Unreachable:
    async with Client(address, tls=tls, patience_s=0.2) as client:
        with pytest.raises(Unreachable) as found:
            await client.get("pod", "web")
    return found.value


async def test_which_certificate_is_not_accepted(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        ours = at.authority.issue("ann", uris=[ANN])
        foreign, old = at.stranger.issue("foreign", uris=[ANN]), at.authority.issue("old", uris=[ANN], ends_in=-HOUR)
        junk = tmp_path / "junk.pem"
        junk.write_text("junk")
        ca = at.authority.file
        expected = {
            Tls(ca, foreign.certificate, foreign.key): f"it does not accept our certificate {foreign.certificate}",
            Tls(ca, old.certificate, old.key): f"it does not accept our certificate {old.certificate}",
            Tls(at.stranger.file, ours.certificate, ours.key): f"does not hold against {at.stranger.file}: unable to",
            Tls(ca, ours.certificate, ours.key, name="other.example"): "not valid for 'other.example'",
            Tls(ca, ours.certificate, foreign.key): "cannot be used: key values mismatch",
            Tls(str(junk), ours.certificate, ours.key): f"{junk}, ",
        }
        for tls, text in expected.items():
            found = await failure(place(at), tls)
            assert type(found) is Untrusted and text in str(found), str(found)
            assert "is the server running" not in str(found)


async def test_a_watch_says_so_too(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        foreign = at.stranger.issue("foreign", uris=[ANN])
        tls = Tls(at.authority.file, foreign.certificate, foreign.key)
        async with Client(place(at), tls=tls, patience_s=0.2) as client, client.watch("pods") as events:
            with pytest.raises(Untrusted, match="does not accept our certificate"):
                await anext(events)


async def test_where_nobody_listens_no_certificate_is_to_blame(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("ann", uris=[ANN])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = await failure(f"localhost:{port}", Tls(authority.file, ours.certificate, ours.key))
    assert type(found) is Unreachable and "is the server running" in str(found)


async def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    """Without what gRPC's core has to say about it."""
    pod = tmp_path / "pod.yaml"
    pod.write_text("{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}}")
    async with stand(tmp_path) as at:
        ours = at.authority.issue("ann", uris=[ANN])
        files = ("--tls-ca", at.stranger.file, "--tls-cert", ours.certificate, "--tls-key", ours.key)
        words = ("-m", "ovnk_cli", "apply", "-f", str(pod), "--server", place(at), *files)
        command = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in PACKAGES)},
        )
        _, said = await command.communicate()
    assert command.returncode == 3
    assert said.decode().startswith(f"ovnk: {place(at)}: the server's certificate does not hold against"), said
    assert len(said.splitlines()) == 1, said
