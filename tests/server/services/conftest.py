"""One server for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.kit.served import Api, Stand, served


@pytest_asyncio.fixture
async def stand() -> AsyncIterator[Stand]:
    """Lives in a task of its own: what it starts has to be ended by who started it, and a fixture's two halves are two
    tasks."""
    found: asyncio.Future[Stand] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        async with served() as stand:
            found.set_result(stand)
            await over.wait()

    living = asyncio.create_task(live())
    await asyncio.wait((living, found), return_when=asyncio.FIRST_COMPLETED)
    yield found.result()
    over.set()
    await living


@pytest_asyncio.fixture
async def api(stand: Stand) -> Api:
    """A caller who may do everything."""
    return await stand.caller()
