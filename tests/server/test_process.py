"""The server as a process: what it waits for, what it ends for, how fast it stops, what hostile peers can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from ovnk_api.v1 import (
    info_service_pb2,
    info_service_pb2_grpc,
    meta_pb2,
    namespace_pb2,
    northbound_service_pb2,
    northbound_service_pb2_grpc,
    object_pb2,
    object_service_pb2,
    object_service_pb2_grpc,
)

from tests.kit.certificates import Authority
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.serving import ServerProcess

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
IDLE = 2_000
PROTO = Path(__file__).parents[2] / "proto" / "ovnk_api" / "v1"
DECLARED = {name for path in PROTO.glob("*.proto") for name in re.findall(r"(?m)^service (\w+)", path.read_text())}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@asynccontextmanager
async def running(folder: Path, **given: Any) -> AsyncIterator[ServerProcess]:
    """A server that is ready."""
    process = ServerProcess(folder, **given)
    process.start()
    try:
        await process.ready()
        yield process
    finally:
        process.daemon.stop()


class Api:
    """Stubs on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.objects = object_service_pb2_grpc.ObjectServiceStub(channel)
        self.info = info_service_pb2_grpc.InfoServiceStub(channel)
        self.northbound = northbound_service_pb2_grpc.NorthboundServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def change(self, name: str) -> int:
        """Apply a namespace; its revision."""
        made = namespace_pb2.Namespace(metadata=meta_pb2.ObjectMeta(name=name))
        item = object_service_pb2.ApplyItem(object=object_pb2.Object(namespace=made))
        response = await self.objects.Apply(object_service_pb2.ApplyRequest(items=[item]), timeout=20)
        return int(response.revision)

    async def programmed(self, revision: int) -> bool:
        """Whether a revision reaches the northbound."""
        request = northbound_service_pb2.WaitRevisionRequest(
            revision=revision, stage=northbound_service_pb2.STAGE_PROGRAMMED
        )
        return bool((await self.northbound.WaitRevision(request, timeout=20)).is_reached)


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Api]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Api(channel)


async def until(holds: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.02)


def console(process: ServerProcess) -> list[dict[str, Any]]:
    """What the server said, as far as it is JSON."""
    found = []
    for line in (process.directory / f"{process.name}.console").read_text().splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


# ------------------------------------------------------------------------------------------- starting


@pytest.mark.asyncio
async def test_it_waits_for_its_northbound(folder: Path) -> None:
    process = ServerProcess(folder, northbound=f"unix:{folder}/nb.sock")
    process.start()
    try:
        async with calling(process.socket) as api:

            async def healthy() -> int:
                with suppress(grpc.aio.AioRpcError):
                    return int((await api.health.Check(health_pb2.HealthCheckRequest())).status)
                return 0

            async def says(status: int) -> bool:
                return await healthy() == status

            await until(lambda: says(NOT_SERVING))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await api.info.GetInfo(info_service_pb2.GetInfoRequest())
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

            async def has_said_why() -> bool:
                return any(line["event"] == "not ready" and "nb.sock" in line["why"] for line in console(process))

            await until(has_said_why)
            with OvsdbServer(folder):
                await until(lambda: says(SERVING))
                info = await api.info.GetInfo(info_service_pb2.GetInfoRequest())
                assert info.versions.northbound_schema and info.store == "sqlite"
                assert await api.programmed(await api.change("shop"))
                process.daemon.stop()
    finally:
        process.daemon.stop()


@pytest.mark.asyncio
async def test_a_corrupt_store_ends_it_with_one_line(folder: Path) -> None:
    (folder / "server.db").write_bytes(os.urandom(8_192))
    process = ServerProcess(folder)
    process.start()
    await process.died()
    assert process.daemon.status == 3
    text = (folder / "server.console").read_text()
    (told,) = [line for line in text.splitlines() if line.startswith("ovnk: ")]
    assert "server.db" in told and "`ovnk store verify`" in told and "Traceback" not in text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"listen": "tcp:127.0.0.1:0"}, "TCP without tls.cert"),
        ({"authorisation": "/nonexistent.toml"}, "/nonexistent.toml: No such file"),
        ({"log-audit": "/nonexistent/audit"}, "log.audit /nonexistent/audit"),
        ({"limits-calls": "none"}, "limits.calls"),
        ({"telemetry-metrics": "203.0.113.1:1"}, "telemetry.metrics 203.0.113.1:1"),
    ],
)
async def test_settings_that_cannot_work_end_it(folder: Path, options: dict[str, str], told: str) -> None:
    process = ServerProcess(folder, options=options)
    process.start()
    await process.died()
    text = (folder / "server.console").read_text()
    assert process.daemon.status == 2 and told in text and "Traceback" not in text


@pytest.mark.asyncio
async def test_one_socket_has_one_server(folder: Path) -> None:
    async with running(folder) as first:
        second = ServerProcess(folder, "second", options={"listen": first.socket})
        second.start()
        await second.died()
        assert second.daemon.status == 2 and "another server answers" in (folder / "second.console").read_text()
        async with calling(first.socket) as api:
            assert await api.change("shop")


@pytest.mark.asyncio
async def test_reflection_and_health_by_service(folder: Path) -> None:
    async with running(folder) as process, calling(process.socket) as api:
        ask = api.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        stream = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = [each.name for each in (await stream.read()).list_services_response.service]
        ours = {name for name in names if name.startswith("ovnk_api.v1.")}
        assert ours == {f"ovnk_api.v1.{name}" for name in DECLARED}
        for name in ours:
            assert (await api.health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING


# ------------------------------------------------------------------------------------------- stopping


@pytest.mark.asyncio
async def test_it_stops_under_load_within_ten_seconds(folder: Path) -> None:
    with OvsdbServer(folder) as northbound:
        async with running(folder, northbound=f"unix:{northbound.socket}") as process, calling(process.socket) as api:
            accepted = [await api.change("shop")]

            async def load(number: int) -> None:
                with suppress(grpc.aio.AioRpcError):
                    for index in range(100_000):
                        accepted.append(await api.change(f"n{number}-{index}"))

            async def watch() -> grpc.StatusCode:
                stream = api.objects.Watch(object_service_pb2.WatchRequest())
                try:
                    while True:
                        await stream.read()
                except grpc.aio.AioRpcError as error:
                    return error.code()

            watching = [asyncio.create_task(watch()) for _ in range(20)]
            loading = [asyncio.create_task(load(number)) for number in range(8)]
            await until(lambda: _true(len(accepted) > 50))
            begun = time.monotonic()
            os.kill(process.daemon.pid, 15)
            await process.died(12)
            assert time.monotonic() - begun < 10
            assert process.daemon.status == 0
            assert set(await asyncio.gather(*watching)) == {grpc.StatusCode.UNAVAILABLE}
            await asyncio.gather(*loading)
        # What was accepted is there.
        async with running(folder, northbound=f"unix:{northbound.socket}") as process, calling(process.socket) as api:
            status = await api.northbound.GetStatus(northbound_service_pb2.GetStatusRequest())
            assert status.ListFields() and await api.programmed(max(accepted))


async def _true(holds: bool) -> bool:
    return holds


# ------------------------------------------------------------------------------------------- what is told


@pytest.mark.asyncio
async def test_metrics_audit_and_one_line_for_each_transaction(folder: Path) -> None:
    port = _free_port()
    options = {"telemetry-metrics": str(port), "log-audit": f"{folder}/audit", "log-format": "json"}
    with OvsdbServer(folder) as northbound:
        given = {"northbound": f"unix:{northbound.socket}", "options": options}
        async with running(folder, **given) as process, calling(process.socket) as api:
            revision = await api.change("shop")
            assert await api.programmed(revision)
            text = await asyncio.to_thread(_scrape, port)
    for series in (
        'ovnk_convergence_seconds_count{stage="nb"}',
        'ovnk_nb_transactions_total{outcome="committed"}',
        'ovnk_nb_rows{state="owned",table="Logical_Router"} 1.0',
        'ovnk_nb_rows{state="foreign",table="Logical_Router"} 0.0',
        "ovnk_drift_repairs_total 0.0",
        "ovnk_watch_queue_depth 0.0",
        "ovnk_watch_resyncs_total 0.0",
        "ovnk_event_loop_lag_seconds_count",
        'ovnk_rpc_total{code="OK",method="ovnk_api.v1.ObjectService/Apply"} 1.0',
        'ovnk_store_appends_total{outcome="appended"}',
        "ovnk_writer 1.0",
    ):
        assert series in text, series
    (programmed,) = re.findall(r'^ovnk_revision\{stage="programmed"\} ([0-9.]+)$', text, re.MULTILINE)
    assert float(programmed) >= revision  # Entries of the server's own may have followed.
    (line,) = [json.loads(each) for each in (folder / "audit").read_text().splitlines()]
    assert (line["identity"], line["objects"], line["revision"]) == ("local", ["Namespace/shop"], revision)
    transactions = [each for each in console(process) if each["event"] == "transaction"]
    assert transactions and all({"txn", "revision", "seconds", "outcome"} <= each.keys() for each in transactions)
    assert sum(each.get("insert", 0) for each in transactions) > 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return str(response.read().decode())


# ------------------------------------------------------------------------------------------- hostile peers


@pytest.mark.asyncio
async def test_idle_connections_do_not_hurt(folder: Path) -> None:
    with OvsdbServer(folder) as northbound:
        async with running(folder, northbound=f"unix:{northbound.socket}") as process, calling(process.socket) as api:
            await api.change("before")
            with ExitStack() as open_:
                for _ in range(IDLE):
                    open_.enter_context(_connected(process.socket))
                begun = time.monotonic()
                async with calling(process.socket) as fresh:
                    revision = await fresh.change("during")
                    assert await fresh.programmed(revision)
                assert time.monotonic() - begun < 10
            assert await api.programmed(await api.change("after"))


def _connected(address: str) -> socket.socket:
    """A connection that says nothing, to ``unix:PATH`` or a TCP port of loopback."""
    scheme, _, rest = address.partition(":")
    made = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    made.settimeout(10)
    made.connect(rest if scheme == "unix" else ("127.0.0.1", int(rest)))
    return made


@pytest.mark.asyncio
async def test_connections_are_limited(folder: Path) -> None:
    options = {"limits-connections": "20"}
    async with running(folder, options=options) as process, calling(process.socket) as api:
        await api.change("before")
        with ExitStack() as open_:
            made = [open_.enter_context(_connected(process.socket)) for _ in range(60)]
            closed = await asyncio.to_thread(lambda: sum(_is_closed(each) for each in made))
            assert 35 <= closed <= 50
            assert await api.change("during")

        async def lets_in() -> bool:
            with suppress(grpc.aio.AioRpcError):
                async with calling(process.socket) as fresh:
                    return bool(await fresh.change("after"))
            return False

        await until(lets_in)


def _is_closed(connection: socket.socket) -> bool:
    """Whether the server has hung up; one that is served is sent the server's settings first."""
    connection.settimeout(2)
    try:
        while connection.recv(4_096):
            connection.settimeout(0.3)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.asyncio
async def test_slow_and_senseless_bytes_are_cut_off(folder: Path) -> None:
    authority = Authority(folder)
    server = authority.issue("server")
    port = _free_port()
    options = {
        "listen": f"unix:{folder}/server/s,tcp:127.0.0.1:{port}",
        "tls-cert": server.certificate,
        "tls-key": server.key,
        "tls-client-ca": authority.file,
        "limits-arrival-s": "1",
    }
    with OvsdbServer(folder) as northbound:
        given = {"northbound": f"unix:{northbound.socket}", "options": options}
        async with running(folder, **given) as process, calling(process.socket) as api:
            await api.change("before")
            addresses = (process.socket, f"tcp:{port}")
            for address in addresses:
                for garbage in (os.urandom(4_096), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + os.urandom(500)):
                    with _connected(address) as connection:
                        connection.sendall(garbage)
                        assert await asyncio.to_thread(_is_closed, connection)
            cut = await asyncio.gather(*(asyncio.to_thread(_drip, each) for each in addresses * 5))
            assert all(seconds < 8 for seconds in cut)
            assert await api.programmed(await api.change("after"))
            assert process.daemon.is_alive
            _offer_weak_tls(port, authority)


def _drip(address: str) -> float:
    """Send the beginning of HTTP/2 (or of TLS) a byte at a time; for how long the server puts up with it."""
    begun = time.monotonic()
    with _connected(address) as connection, suppress(OSError):
        connection.settimeout(0.1)
        for byte in (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 20 if address.startswith("unix") else b"\x16\x03\x01\x40\x00" * 20
        ):
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                while connection.recv(4_096):
                    pass
                break
    return time.monotonic() - begun


def _offer_weak_tls(port: int, authority: Authority) -> None:
    """TLS 1.2 with a cipher that does not authenticate what it encrypts is refused; 1.3 is not."""
    client = authority.issue("client", uris=["spiffe://x/ann"])
    for version, ciphers, is_fine in (
        (ssl.TLSVersion.TLSv1_3, "DEFAULT", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:AES128-SHA", False),
    ):
        context = ssl.create_default_context(cafile=authority.file)
        context.load_cert_chain(client.certificate, client.key)
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        try:
            with _connected(f"tcp:{port}") as plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
                assert is_fine and secure.version() is not None
        except ssl.SSLError:
            assert not is_fine


@pytest.mark.asyncio
async def test_oversized_messages_are_refused_and_cost_nothing(folder: Path) -> None:
    async with running(folder) as process, calling(process.socket) as api:
        await api.change("before")
        before = _memory_bytes(process.daemon.pid)
        raw = api.channel.unary_unary("/ovnk_api.v1.ObjectService/Apply")
        for size in (17 << 20, 64 << 20):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(b"\x0a" * size)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        get = api.channel.unary_unary("/ovnk_api.v1.ObjectService/Get")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(b"\x0a" * (5 << 20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await api.change("after")
        assert _memory_bytes(process.daemon.pid) - before < 100 << 20


def _memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
