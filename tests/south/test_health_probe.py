"""The gRPC question to a node, asked in one network namespace of services in another: who serves, who does not, who is
gone, with and without TLS; and what is our own failure and nothing of the node."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from msgspec.structs import replace
from ovnk_server.probing import HealthService, health_dial

from ovnk_core.terms.address import parse_address
from tests.cli.command import PACKAGES, ROOT
from tests.kit.certificates import Authority
from tests.kit.namespace import Namespace, link

SERVICE = "Service_Egress_IP"
PLAIN, TLS = 9107, 9108
HERE, NODE, NODE_V6, SILENT, NOWHERE, FORBIDDEN = (
    "10.9.0.1",
    "10.9.0.2",
    "fd99::2",
    "10.9.0.9",
    "10.77.0.1",
    "10.78.0.1",
)
STATES = health_pb2.HealthCheckResponse
HUNGRY = """
import asyncio, contextlib, json, resource, sys
from ovnk_core.terms.address import parse_address
from ovnk_server.probing import HealthService, health_dial

async def main(where, asked, spare, at_once):
    dial, held = health_dial(HealthService(**asked)), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(OSError):
        while True:
            held.append(open("/dev/null"))
    for each in held[:spare]:
        each.close()
    told = await asyncio.gather(*(dial(parse_address(where), 20.0) for _ in range(at_once)))
    for each in held:
        each.close()
    print(json.dumps(told))

asyncio.run(main(*json.load(sys.stdin)))
"""


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """The prober's namespace and a node's. To ``SILENT`` frames go and nothing comes back; to ``NOWHERE`` is no way,
    and to ``FORBIDDEN`` we may not go."""
    with Namespace() as one, Namespace() as other:
        link(one, "v0", other, "v1")
        one.ip(f"addr add {HERE}/24 dev v0", "addr add fd99::1/64 dev v0 nodad")
        other.ip(f"addr add {NODE}/24 dev v1", f"addr add {NODE_V6}/64 dev v1 nodad")
        one.ip(f"neigh add {SILENT} lladdr 02:00:00:00:00:09 dev v0", "route add unreachable 10.77.0.0/24")
        one.ip("route add prohibit 10.78.0.0/24")
        yield one, other


@contextmanager
def serving(at: Namespace, states: dict[str, int], tls: Authority | None = None) -> Iterator[None]:
    """A health service on every address of a namespace, which says this of its services."""
    server, servicer = grpc.server(ThreadPoolExecutor(2)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service, status in states.items():
        servicer.set(service, status)
    with at.entered():
        if tls is None:
            port = server.add_insecure_port(f"[::]:{PLAIN}")
        else:
            issued = tls.issue("node", hosts=("ovn",))
            pair = Path(issued.key).read_bytes(), Path(issued.certificate).read_bytes()
            port = server.add_secure_port(f"[::]:{TLS}", grpc.ssl_server_credentials([pair]))
    assert port
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


def asked(at: Namespace, *where: str, timeout_s: float = 20.0, **changes: Any) -> list[bool | None]:
    """What is answered at each address."""
    dial = health_dial(HealthService(**{"port": PLAIN, "service": SERVICE} | changes))

    async def ask() -> list[bool | None]:
        return [await dial(parse_address(each), timeout_s) for each in where]

    with at.entered():
        return asyncio.run(ask())


def test_who_serves_who_is_gone_and_whom_we_may_not_ask(ends: tuple[Namespace, Namespace]) -> None:
    here, node = ends
    with serving(node, {SERVICE: STATES.SERVING, "": STATES.NOT_SERVING}):
        assert asked(here, NODE, NODE_V6, NOWHERE, FORBIDDEN) == [True, True, False, None]
        assert asked(here, SILENT, timeout_s=0.5) == [False]
        assert asked(here, NODE, service="") == [False], "what OVN-Kubernetes' nodes say of any other service"
        node.ip("link set v1 down")
        assert asked(here, NODE, timeout_s=0.5) == [False], "no carrier"
        node.ip("link set v1 up", f"addr add {NODE_V6}/64 dev v1 nodad")
        assert asked(here, NODE) == [True]
    assert asked(here, NODE, NODE_V6) == [False, False], "nobody serves"


@pytest.mark.parametrize("states", [{SERVICE: STATES.NOT_SERVING}, {SERVICE: STATES.UNKNOWN}, {"": STATES.SERVING}])
def test_anything_else_than_serving_is_no(ends: tuple[Namespace, Namespace], states: dict[str, int]) -> None:
    with serving(ends[1], states):
        assert asked(ends[0], NODE) == [False]


@pytest.mark.parametrize("spare", [0, 1, 20, 100])
def test_descriptors_that_run_out_are_nothing_of_the_node(ends: tuple[Namespace, Namespace], spare: int) -> None:
    """Of a process that has so many left, which asks forty times at once: who finds none has no news."""
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    with serving(ends[1], {SERVICE: STATES.SERVING}), ends[0].entered():
        done = subprocess.run(
            [sys.executable, "-c", HUNGRY],
            input=json.dumps([NODE, {"port": PLAIN, "service": SERVICE}, spare, 40]),
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    told = Counter(json.loads(done.stdout))
    assert told == Counter({True: min(spare, 40), None: 40 - min(spare, 40)}) - Counter(), "nobody is taken to be gone"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\4\0\0\0\0\0",
        b"\0\0\0\3\0\0\0\0\1",
        b"\0\0\0\0\x09\0\0\0\1",
        b"\0\0\6\0\1\0\0\0\1\0\0\0\0\1\xff",
        (b"\0\x40\0\0\0\0\0\0\1" + bytes(16_384)) * 3,
    ],
)
def test_what_is_no_answer_is_no(ends: tuple[Namespace, Namespace], said: bytes) -> None:
    """Nothing, another protocol, settings and no more, a stream that is reset, padding that is missing, no message, and
    more than any."""

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            with suppress(ConnectionError):
                connection.sendall(said)

    with ends[1].entered():
        listener = socket.create_server((NODE, PLAIN))
    with listener, ThreadPoolExecutor(1) as pool:
        answered = pool.submit(lambda: answer(listener.accept()[0]))
        assert asked(ends[0], NODE) == [False]
        answered.result()


def test_with_tls_the_node_shows_who_it_is(ends: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, node = ends
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    with serving(node, {SERVICE: STATES.SERVING}, ours):
        secure = {"port": TLS, "ca": ours.file}
        assert asked(here, NODE, NODE_V6, **secure, server_name="ovn") == [True, True]
        assert asked(here, NODE, **secure) == [False], "the certificate has no address"
        assert asked(here, NODE, port=TLS, ca=other.file, server_name="ovn") == [False]
        assert asked(here, NODE, port=TLS) == [False], "asked without TLS"


def test_authorities_are_read_at_the_start_and_for_each_question(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    told = HealthService(port=PLAIN, service=SERVICE, ca=authority.file)
    health_dial(told)
    with pytest.raises(OSError, match=r"server name '\.ovn'"):
        health_dial(replace(told, server_name=".ovn"))
    for text in ("", "no certificate"):
        Path(authority.file).write_text(text)
        with pytest.raises(OSError, match=r"ca\.pem holds no certificate authority"):
            health_dial(told)
    Path(authority.file).unlink()
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        health_dial(told)
