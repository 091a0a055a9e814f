"""A real etcd for tests: one member on loopback, with a data directory of its own.

``EtcdServer`` is a child process that is ended by the pid we hold. A short election timeout makes it ready in a
fraction of a second and lets leases be as short as one second. A missing binary raises ``OvnMissing``: a test that
needs etcd fails without it, it is never skipped.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.certificates import Issued
from tests.kit.ovn import Daemon, OvnMissing, wait_until


def program() -> str:
    """Path of etcd. Raises OvnMissing."""
    path = shutil.which("etcd")
    if path is None:
        raise OvnMissing("etcd is not installed; on Debian: apt-get install --no-install-recommends etcd-server")
    return path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class EtcdServer:
    """One etcd below ``directory``. ``tls``: the authority's file and what the server shows; clients must too."""

    def __init__(self, directory: Path, *, options: Sequence[str] = (), tls: tuple[str, Issued] | None = None) -> None:
        self.port, peer_port = free_ports(2)
        self._authority = tls[0] if tls else ""
        self._issued = tls[1] if tls else None
        scheme = "https" if tls else "http"
        url, peer_url = f"{scheme}://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer_port}"
        secure: tuple[str, ...] = ()
        if self._issued is not None:
            files = {"cert-file": self._issued.certificate, "key-file": self._issued.key}
            files["trusted-ca-file"] = self._authority
            secure = (*(f"--{name}={file}" for name, file in files.items()), "--client-cert-auth")
        self.daemon = Daemon(
            "etcd",
            [
                program(),
                f"--data-dir={directory}/data",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                "--heartbeat-interval=50",
                "--election-timeout=250",
                "--logger=zap",
                "--log-level=error",
                *secure,
                *options,
            ],
            directory,
        )

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start, on the data that is there, and wait until it answers."""
        self.daemon.start()
        wait_until(self.daemon, self._is_healthy, "was not healthy in time")
        return self

    def _is_healthy(self) -> bool:
        connection: http.client.HTTPConnection
        if self._issued is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        else:
            context = ssl.create_default_context(cafile=self._authority)
            context.load_cert_chain(self._issued.certificate, self._issued.key)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=1, context=context)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        self.daemon.kill()

    def suspend(self) -> None:
        self.daemon.suspend()

    def resume(self) -> None:
        self.daemon.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.daemon.kill()
