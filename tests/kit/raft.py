"""A real cluster of ovsdb-servers (northbound) for tests: start, kill and restart members, move the leadership.

Members talk to each other on free ports of 127.0.0.1 and to clients on unix sockets. The election timer stays at OVS'
default, 1000 ms, so that failover times mean something.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.ovn import Daemon, DaemonFailed, environment, program, schema_file, wait_until
from tests.kit.wire import Wire, WireError

DATABASE = "OVN_Northbound"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class RaftMember:
    """One server of the cluster; ``number`` counts from 1."""

    def __init__(self, directory: Path, number: int, port: int) -> None:
        name = f"nb{number}"
        self.number, self.directory, self.peer = number, directory, f"tcp:127.0.0.1:{port}"
        self.socket, self.control = str(directory / f"{name}.sock"), str(directory / f"{name}.ctl")
        self.file = directory / f"{name}.db"
        self.daemon = Daemon(
            name,
            [
                program("ovsdb-server"),
                "-vconsole:off",
                f"--log-file={directory}/{name}.log",
                f"--unixctl={self.control}",
                "--no-chdir",
                f"--remote=punix:{self.socket}",
                str(self.file),
            ],
            directory,
        )

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def create(self, first: RaftMember) -> None:
        """Make the database file: of a new cluster, or of a member that is going to join ``first``."""
        if first is self:
            arguments = ["create-cluster", str(self.file), schema_file("nb"), self.peer]
        else:
            arguments = ["join-cluster", str(self.file), DATABASE, self.peer, first.peer]
        made = subprocess.run(
            [program("ovsdb-tool"), *arguments], capture_output=True, text=True, env=environment(self.directory)
        )
        if made.returncode:
            raise DaemonFailed(f"ovsdb-tool {arguments[0]}: {made.stderr.strip()}")

    def start(self) -> None:
        """Start the server on its file; returns when it answers, which is before it has found the others."""
        for path in (self.socket, self.control):
            Path(path).unlink(missing_ok=True)
        self.daemon.start()
        wait_until(self.daemon, lambda: Wire.answers(self.socket) and Wire.answers(self.control), "does not listen")

    def command(self, *words: str) -> str:
        """One unixctl command -> its text. Raises WireError."""
        with Wire(self.control) as wire:
            return str(wire.call(words[0], *words[1:]))

    def status(self) -> dict[str, str]:
        """``cluster/status`` as keys and values; empty while the server does not answer."""
        try:
            return dict(re.findall(r"^(\w[\w ]*): (.*)$", self.command("cluster/status", DATABASE), re.MULTILINE))
        except (OSError, WireError):
            return {}

    @property
    def is_leader(self) -> bool:
        return self.status().get("Role") == "leader"

    def wire(self) -> Wire:
        return Wire(self.socket, DATABASE)


class RaftCluster:
    """``with RaftCluster(directory) as cluster``: three members, one of them leading, NB_Global in place."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        ports = free_ports(size)
        self.members = [RaftMember(directory, number, port) for number, port in enumerate(ports, 1)]

    @property
    def remotes(self) -> str:
        """All members, comma separated."""
        return ",".join(member.address for member in self.members)

    def start(self) -> Self:
        first = self.members[0]
        for member in self.members:
            member.create(first)
            member.start()
            if member is first:
                self.leader()
        settle(self.members, lambda each: each.status().get("Status") == "cluster member")
        with self.leader().wire() as wire:
            wire.transact({"op": "insert", "table": "NB_Global", "row": {}})
        return self

    def stop(self) -> None:
        for member in self.members:
            member.daemon.stop()

    def leader(self, timeout_s: float = 15.0) -> RaftMember:
        """The member that leads, waiting for an election. Raises DaemonFailed when none does in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for member in self.members:
                if member.daemon.is_alive and member.is_leader:
                    return member
            time.sleep(0.01)
        raise DaemonFailed(f"no leader within {timeout_s:g} s")

    def move_leadership(self) -> RaftMember:
        """The leader hands over and stays up, with all its connections -> the new leader."""
        old = self.leader()
        old.command("cluster/failure-test", "transfer-leadership")
        settle([old], lambda each: not each.is_leader)
        return self.leader()

    def followers(self) -> list[RaftMember]:
        leader = self.leader()
        return [member for member in self.members if member is not leader and member.daemon.is_alive]

    def revive(self) -> None:
        """Start every member that is down, and wait until all are in the cluster under one leader."""
        for member in self.members:
            if not member.daemon.is_alive:
                member.start()
        # Whoever leads first may lose the next election: a member that was away begins one of its own.
        settle(self.members[:1], lambda first: self._has_one_leader())

    def _has_one_leader(self) -> bool:
        found = [member.status() for member in self.members]
        leaders = {each["Server ID"].split()[0] for each in found if each.get("Role") == "leader"}
        return len(leaders) == 1 and {each.get("Leader") for each in found} == {"self", *leaders}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def settle(members: Sequence[RaftMember], is_there: Callable[[RaftMember], bool]) -> None:
    """Wait until ``is_there`` holds of each member in turn. Raises DaemonFailed."""
    for member in members:
        wait_until(member.daemon, partial(is_there, member), "is not part of its cluster in time")
