"""A connection that fails for a certificate's sake says which, and what is wrong with it."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import sys
from pathlib import Path

import pytest
from ovnk_client import Client, Tls, Unidentified, Unreachable, Untrusted

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


async def test_a_server_that_wants_tls_and_a_client_without(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        place_ = place(at)
        async with Client(place_, patience_s=0.2) as client:
            with pytest.raises(Untrusted, match="wants TLS: give an authority, a certificate and its key"):
                await client.get("pod", "web")
            async with client.watch("pods") as events:
                with pytest.raises(Untrusted, match="wants TLS"):
                    await anext(events)
        code, said = await command("get", "pods", "--server", place_)
    assert code == 3 and said.endswith("its key (--tls-ca, --tls-cert, --tls-key)\n"), said


async def test_a_server_without_tls_is_not_said_to_want_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with Client(f"127.0.0.1:{port}", patience_s=0.1) as client:
        with pytest.raises(Unreachable, match="is the server running") as found:
            await client.get("pod", "web")
    assert type(found.value) is Unreachable


async def test_a_certificate_that_names_nobody_needs_no_rule(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        for uris, told in (([], "no URI"), ([ANN, "spiffe://x/b"], "2 URIs")):
            ours = at.authority.issue(told.replace(" ", "-"), uris=uris)
            async with Client(place(at), tls=Tls(at.authority.file, ours.certificate, ours.key)) as client:
                with pytest.raises(Unidentified) as found:
                    await client.get("pod", "web")
            text = str(found.value)
            assert told in text and text.endswith("get one with exactly one URI, which says who you are"), text


async def command(*words: str) -> tuple[int | None, str]:
    """The exit status of ``ovnk WORDS`` and what it says on stderr."""
    ran = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ovnk_cli",
        *words,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in PACKAGES)},
    )
    _, said = await ran.communicate()
    return ran.returncode, said.decode()


async def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    """Without what gRPC's core has to say about it."""
    pod = tmp_path / "pod.yaml"
    pod.write_text("{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}}")
    async with stand(tmp_path) as at:
        ours = at.authority.issue("ann", uris=[ANN])
        files = ("--tls-ca", at.stranger.file, "--tls-cert", ours.certificate, "--tls-key", ours.key)
        code, said = await command("apply", "-f", str(pod), "--server", place(at), *files)
    assert code == 3
    assert said.startswith(f"ovnk: {place(at)}: the server's certificate does not hold against"), said
    assert len(said.splitlines()) == 1, said
