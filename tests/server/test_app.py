"""``Server`` in the test's own loop: what ends it by itself."""

from __future__ import annotations

import asyncio

import pytest
from ovnk_server.app import EXIT_FAILED, Server
from ovnk_server.settings import ServerSettings

from tests.kit.ovn import short_directory


@pytest.mark.asyncio
async def test_a_task_of_ours_that_something_else_cancelled_is_told_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with short_directory() as folder:
        server = Server(ServerSettings(listen=(f"unix:{folder}/s",)))
        monkeypatch.setattr(server, "_keep", cancelled)
        assert await server.run() == EXIT_FAILED
