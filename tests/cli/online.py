"""The command against a real server process, without a process for every command."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from ovnk_cli.cli import run

from tests.cli.command import Ran
from tests.kit.ovn import short_directory
from tests.kit.serving import ServerProcess


class Terminal:
    """Runs commands in this process, with a server in the environment."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def run(self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        """``ovnk WORDS``."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        entered = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        surroundings = {"OVNK_SERVER": self.server.socket, **(env or {})}
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, surroundings))
            stack.enter_context(mock.patch.object(sys, "argv", ["ovnk", *words]))
            stack.enter_context(mock.patch.object(sys, "stdin", entered))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            with pytest.raises(SystemExit) as ended:
                run()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, *(each.buffer.getvalue().decode() for each in (out, err)))

    def ok(self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        """What a command printed that has to succeed."""
        ran = self.run(*words, stdin=stdin, env=env)
        assert ran.code == 0, (words, ran)
        return ran.out


@contextlib.contextmanager
def terminal(**options: Any) -> Iterator[Terminal]:
    """A terminal beside a server of its own."""
    with short_directory() as directory:
        server = ServerProcess(directory, **options)
        server.start()
        try:
            asyncio.run(server.ready(has_writer=True))
            yield Terminal(server)
        finally:
            server.daemon.stop()


def write(folder: Path, *objects: Mapping[str, object], name: str = "objects.yaml") -> str:
    """Manifests in a file."""
    path = folder / name
    path.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return str(path)
