"""Network namespaces without names, the links between them, and sockets in them.

A namespace lives as long as this process holds it: nothing is left behind, not even after SIGKILL, and two runs cannot
meet. A socket stays in the namespace that it was made in, so whoever speaks in a test is a socket of the test process,
and no child. Needs root; ``NotPermitted`` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterable, Iterator
from typing import Self

from tests.kit.ovn import program

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class NotPermitted(RuntimeError):
    """Network namespaces cannot be made here."""


def _check(result: int, what: str) -> None:
    if result:
        error = os.strerror(ctypes.get_errno())
        raise NotPermitted(f"{what}: {error}; packets need root with CAP_SYS_ADMIN and CAP_NET_ADMIN")


class Namespace:
    """A network namespace with its loopback up; ``path`` names it to ``ip``."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_LIBC.unshare(_CLONE_NEWNET), "a network namespace")
            self._descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _check(_LIBC.setns(home, _CLONE_NEWNET), "back to the network namespace of this process")
        finally:
            os.close(home)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.ip("link set lo up")

    def close(self) -> None:
        """It ends with the last process and socket in it."""
        os.close(self._descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, this thread's new sockets and children are in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_LIBC.setns(self._descriptor, _CLONE_NEWNET), "into a network namespace")
            try:
                yield
            finally:
                _check(_LIBC.setns(home, _CLONE_NEWNET), "back to the network namespace of this process")
        finally:
            os.close(home)

    def ip(self, *commands: str) -> None:
        """Commands of ip(8), in the namespace. Raises RuntimeError with what ip says."""
        self.run([program("ip"), "-batch", "-"], given="\n".join(commands) + "\n")

    def run(self, argv: Iterable[str], *, given: str = "") -> None:
        """One command in the namespace. Raises RuntimeError with what it says."""
        with self.entered():
            done = subprocess.run([*argv], input=given, capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}\n{given}{done.stderr}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def link(one: Namespace, name: str, other: Namespace, other_name: str, *, mac: str = "") -> None:
    """A cable; ``mac`` is that of the first end. Both ends compute their checksums: a datapath in user space takes
    frames as they are on the wire, and its connection tracking calls a checksum that is left to the hardware invalid.
    """
    address = f"address {mac} " if mac else ""
    one.ip(f"link add name {name} {address}type veth peer name {other_name} netns {other.path}")
    for namespace, device in ((one, name), (other, other_name)):
        namespace.ip(f"link set {device} up")
        namespace.run([program("ethtool"), "-K", device, "tx", "off"])
