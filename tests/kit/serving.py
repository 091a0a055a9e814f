"""The real server as a process: started as an administrator would, ended by the pid we hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from ovnk_client import Client, ClientError

from tests.cli.command import PACKAGES, ROOT
from tests.kit.ovn import Daemon, DaemonFailed

READY_S = 60.0


class ServerProcess:
    """``python -m ovnk_server`` below ``directory``, on a unix socket there. ``options`` are flags without dashes,
    ``environment`` further variables. Nobody is asked for DNS names, unless an option says so."""

    def __init__(
        self,
        directory: Path,
        name: str = "server",
        *,
        northbound: str = "memory",
        store: str = "",
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory, self.name = directory, name
        folder = directory / name
        folder.mkdir(mode=0o700, exist_ok=True)
        self.socket = f"unix:{folder}/s"
        self.store = store or f"sqlite:{directory}/{name}.db"
        flags = {"listen": self.socket, "store": self.store, "northbound-address": northbound, "holder": name}
        flags |= options or {}
        path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
        variables = {"PYTHONPATH": path, "PYTHONWARNINGS": "default"} | dict(environment or {})
        words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        argv = ["env", *(f"{key}={value}" for key, value in variables.items())]
        self.daemon = Daemon(name, [*argv, sys.executable, "-m", "ovnk_server", *words, "--no-dns-ask"], directory)

    def start(self) -> None:
        self.daemon.start()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of it."""
        async with Client(self.socket) as client:
            yield client

    async def ready(self, *, has_writer: bool = False) -> None:
        """Until it answers, and knows of a writer if asked for. Raises DaemonFailed when it ended or is too slow."""
        deadline = asyncio.get_running_loop().time() + READY_S
        async with Client(self.socket, patience_s=0.01) as client:
            while True:
                late: ClientError | None = None
                try:
                    if (await client.status()).writer.epoch or not has_writer:
                        return
                except ClientError as error:
                    late = error
                if not self.daemon.is_alive:
                    raise self.daemon.failure("ended at start") from late
                if asyncio.get_running_loop().time() > deadline:
                    raise self.daemon.failure(f"not ready in {READY_S:g} s: {late or 'no writer'}") from late
                await asyncio.sleep(0.02)

    async def died(self, timeout_s: float = 60.0) -> None:
        """Until the process has ended by itself. Raises DaemonFailed when it does not."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.daemon.is_alive:
            if asyncio.get_running_loop().time() > deadline:
                raise DaemonFailed(f"{self.name} should have died by now")
            await asyncio.sleep(0.01)
