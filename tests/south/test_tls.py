"""``ssl:`` remotes of the native driver against a real ovsdb-server that demands a certificate of its clients."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ovnk_core.errors import UnknownOutcome, Unreachable
from ovnk_core.northbound.native import NativeNorthbound, TlsFiles
from ovnk_core.northbound.native.tls import Tls
from tests.kit.certificates import DAY, Authority, Issued
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.raft import free_ports
from tests.south.rows import MIRRORED, address_set, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
IN_TIME_S = 5.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> TlsFiles:
    return files(authority, authority.issue("client", hosts=(), uris=("spiffe://cluster.local/ovnk",)))


def files(authority: Authority, issued: Issued, server_name: str = "") -> TlsFiles:
    return TlsFiles(ca=authority.file, certificate=issued.certificate, key=issued.key, server_name=server_name)


@contextlib.contextmanager
def serving(authority: Authority, issued: Issued) -> Iterator[tuple[OvsdbServer, str]]:
    """A server with this certificate that wants clients of ``authority`` -> it, and its ``HOST:PORT``."""
    (port,) = free_ports(1)
    options = [
        f"--remote=pssl:{port}:127.0.0.1",
        f"--private-key={issued.key}",
        f"--certificate={issued.certificate}",
        f"--ca-cert={authority.file}",
    ]
    with short_directory() as directory, OvsdbServer(directory, options=options) as server:
        yield server, f"127.0.0.1:{port}"


@pytest_asyncio.fixture
async def good(authority: Authority) -> AsyncIterator[str]:
    with serving(authority, authority.issue("server")) as (_, at):
        yield at


async def works(address: str, tls: Tls) -> None:
    nb = NativeNorthbound(address, tls=tls)
    await nb.connect(MIRRORED, timeout_s=IN_TIME_S)
    await nb.transact([])
    assert nb.rows("NB_Global")
    await nb.close()


async def refused(address: str, tls: Tls, reason: str) -> None:
    """Connecting fails in time, and the reason and the remote are in the message."""
    nb, started = NativeNorthbound(address, tls=tls), time.monotonic()
    with pytest.raises(Unreachable, match=reason) as caught:
        await nb.connect(MIRRORED, timeout_s=IN_TIME_S)
    assert address in str(caught.value)
    assert "_" not in str(caught.value).removeprefix(address), "an OpenSSL constant is no reason"
    assert time.monotonic() - started < IN_TIME_S
    await nb.close()


async def test_both_sides_verified(good: str, ours: TlsFiles) -> None:
    await works(f"ssl:{good}", ours)


async def test_host_name_verified(good: str, ours: TlsFiles) -> None:
    await works(f"ssl:localhost:{good.partition(':')[2]}", ours)


async def test_server_of_another_authority(good: str, ours: TlsFiles, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    await refused(f"ssl:{good}", TlsFiles(ca=stranger.file, certificate=ours.certificate, key=ours.key), "not accepted")


async def test_expired_server(authority: Authority, ours: TlsFiles) -> None:
    with serving(authority, authority.issue("server", ends_in=-DAY)) as (_, at):
        await refused(f"ssl:{at}", ours, "certificate has expired")


async def test_server_name_must_match_unless_another_is_configured(authority: Authority, ours: TlsFiles) -> None:
    with serving(authority, authority.issue("server", hosts=("nb.example", "192.0.2.7"))) as (_, at):
        await refused(f"ssl:{at}", ours, "not accepted: IP address mismatch")
        await refused(f"ssl:localhost:{at.partition(':')[2]}", ours, "not accepted: Hostname mismatch")
        for name in ("nb.example", "192.0.2.7"):
            await works(f"ssl:{at}", TlsFiles(ca=ours.ca, certificate=ours.certificate, key=ours.key, server_name=name))


async def test_common_name_alone_is_no_name(authority: Authority, ours: TlsFiles) -> None:
    with serving(authority, authority.issue("localhost", hosts=())) as (_, at):
        await refused(f"ssl:localhost:{at.partition(':')[2]}", ours, "not accepted: Hostname mismatch")


async def test_without_a_certificate_of_ours(good: str, authority: Authority) -> None:
    bare = ssl.create_default_context(cafile=authority.file)
    await refused(f"ssl:{good}", bare, "certificate")


async def test_client_of_another_authority(good: str, authority: Authority, tmp_path: Path) -> None:
    issued = Authority(tmp_path, "stranger").issue("client")
    await refused(f"ssl:{good}", files(authority, issued), "certificate|unknown ca")


async def test_context_of_the_caller(good: str, ours: TlsFiles) -> None:
    made = ssl.create_default_context(cafile=ours.ca)
    made.load_cert_chain(ours.certificate, ours.key)
    await works(f"ssl:{good}", made)


async def test_old_tls_is_not_spoken(authority: Authority, ours: TlsFiles, tmp_path: Path) -> None:
    issued = authority.issue("server")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(issued.certificate, issued.key)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody gets this far")

    listener = await asyncio.start_server(never, "127.0.0.1", 0, ssl=old)
    port = listener.sockets[0].getsockname()[1]
    await refused(f"ssl:127.0.0.1:{port}", ours, "TLS failed|or an old one")
    listener.close()
    await listener.wait_closed()


async def test_plain_text_where_tls_is_spoken_and_the_reverse(good: str, ours: TlsFiles) -> None:
    await refused(f"tcp:{good}", None, "closed the connection|reset by peer")
    (port,) = free_ports(1)
    with short_directory() as directory, OvsdbServer(directory, tcp_port=port):
        await refused(f"ssl:127.0.0.1:{port}", ours, "speaks no TLS|TLS failed|reset by peer")


async def test_server_that_never_shakes_hands(ours: TlsFiles) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    nb = NativeNorthbound(f"ssl:127.0.0.1:{listener.sockets[0].getsockname()[1]}", tls=ours)
    with pytest.raises(Unreachable, match="not connected within"):
        await nb.connect(MIRRORED, timeout_s=0.3)
    await nb.close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize(
    ("field", "content", "reason"),
    [
        ("ca", None, r"other\.pem: No such file"),
        ("certificate", None, r"other\.pem: No such file"),
        ("key", None, r"other\.pem: No such file"),
        ("ca", b"nonsense", r"other\.pem holds no certificate authority"),
        ("certificate", b"nonsense", r"other\.pem and .*client\.key are not"),
        ("key", b"", r"client\.crt and .*other\.pem are not"),
    ],
)
async def test_file_that_is_missing_or_no_good_is_named(
    good: str, ours: TlsFiles, tmp_path: Path, field: str, content: bytes | None, reason: str
) -> None:
    other = tmp_path / "other.pem"
    if content is not None:
        other.write_bytes(content)
    paths = {"ca": ours.ca, "certificate": ours.certificate, "key": ours.key, field: str(other)}
    nb = NativeNorthbound(f"ssl:{good}", tls=TlsFiles(**paths))
    with pytest.raises(Unreachable, match=reason):
        await nb.connect(MIRRORED, timeout_s=IN_TIME_S)
    await nb.close()


async def test_key_of_another_certificate_and_key_with_a_password(good: str, authority: Authority) -> None:
    client, other = authority.issue("client"), authority.issue("other", password="secret")
    for certificate, key, reason in (
        (client.certificate, authority.issue("third").key, "do not belong together"),
        (other.certificate, other.key, "are not a certificate and its unencrypted key"),
    ):
        nb = NativeNorthbound(f"ssl:{good}", tls=TlsFiles(ca=authority.file, certificate=certificate, key=key))
        with pytest.raises(Unreachable, match=reason):
            await nb.connect(MIRRORED, timeout_s=IN_TIME_S)
        await nb.close()


async def test_replaced_files_are_used_by_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    live = {name: str(tmp_path / f"live-{name}.pem") for name in ("ca", "certificate", "key")}
    issued = authority.issue("client")
    install(live, authority, issued)
    with serving(authority, authority.issue("server")) as (server, at):
        nb = NativeNorthbound(f"ssl:{at}", tls=TlsFiles(**live))
        await nb.connect(MIRRORED)
        # A new authority for both sides; the server's files change first.
        (tmp_path / "next").mkdir()
        heir = Authority(tmp_path / "next")
        renewed = heir.issue("server")
        for path in (heir.file, renewed.certificate, renewed.key):
            shutil.copy(path, tmp_path)
        await nb.transact([address_set("still")])
        server.restart()
        with pytest.raises(Unreachable, match="not accepted"):
            while True:
                with contextlib.suppress(UnknownOutcome):
                    await nb.transact([], timeout_s=0.5)
        install(live, heir, heir.issue("client"))
        await nb.transact([address_set("again")], timeout_s=10)
        assert {uid("still"), uid("again")} == set(nb.rows("Address_Set"))
        await nb.close()


def install(live: dict[str, str], authority: Authority, issued: Issued) -> None:
    shutil.copy(authority.file, live["ca"])
    shutil.copy(issued.certificate, live["certificate"])
    shutil.copy(issued.key, live["key"])
