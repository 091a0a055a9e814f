"""A real dnsmasq on a loopback port of its own: the DNS server that is not written by us.

It knows the names it is told (``hosts``, re-read on SIGHUP) and CNAMEs given at the start, owns ``example.com`` and
forwards nothing. It runs in the foreground as our child and is ended by the pid we hold.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query
import dns.rcode

from ovnk_core.runtime.dns_query import NameServer
from tests.kit.ovn import Daemon, OvnMissing, wait_until

TTL_S = 7


class Dnsmasq:
    """``with Dnsmasq(directory, {"www.example.com": ["192.0.2.1"]}) as server``. ``cnames``: alias -> target."""

    def __init__(
        self, directory: Path, hosts: Mapping[str, list[str]], *, cnames: Mapping[str, str] | None = None
    ) -> None:
        path = shutil.which("dnsmasq", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/usr/local/sbin")
        if path is None:
            raise OvnMissing("dnsmasq is not installed; on Debian: apt-get install dnsmasq-base")
        self._file, self._generation = directory / "hosts", 0
        self._write(hosts)
        self.address = NameServer("127.0.0.1", _free_port())
        self.daemon = Daemon(
            "dnsmasq",
            [
                path,
                "--no-daemon",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                f"--port={self.address.port}",
                "--no-resolv",
                "--no-hosts",
                f"--addn-hosts={self._file}",
                f"--local-ttl={TTL_S}",
                "--local=/example.com/",
                *(f"--cname={alias},{target}" for alias, target in (cnames or {}).items()),
            ],
            directory,
        )

    def hosts(self, hosts: Mapping[str, list[str]]) -> None:
        """Change the records, and wait until they are served."""
        self._write(hosts)
        os.kill(self.daemon.pid, signal.SIGHUP)
        self._wait()

    def _write(self, hosts: Mapping[str, list[str]]) -> None:
        self._generation += 1
        lines = [f"{address} {name}" for name, addresses in hosts.items() for address in addresses]
        self._file.write_text("\n".join([f"192.0.2.255 {self._marker}", *lines, ""]))

    @property
    def _marker(self) -> str:
        return f"generation-{self._generation}.example.com"

    def _wait(self) -> None:
        wait_until(self.daemon, self._serves, f"does not know {self._marker}")

    def _serves(self) -> bool:
        question = dns.message.make_query(self._marker, "A")
        try:
            reply = dns.query.udp(question, self.address.host, timeout=0.2, port=self.address.port)
        except (dns.exception.DNSException, OSError):
            return False
        return bool(reply.answer)

    def start(self) -> Self:
        self.daemon.start()
        self._wait()
        return self

    def stop(self) -> None:
        self.daemon.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _free_port() -> int:
    """A port that is free for UDP and TCP right now."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return int(tcp.getsockname()[1])
