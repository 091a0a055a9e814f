"""A clock that moves only when the test says so."""

from __future__ import annotations

import anyio


class VirtualClock:
    """Unix seconds. ``advance`` wakes whoever's time has come."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._now_s = now_s
        self._moved = anyio.Event()

    def now(self) -> float:
        return self._now_s

    async def sleep_until(self, at_s: float) -> None:
        while self._now_s < at_s:
            await self._moved.wait()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        self._moved.set()
        self._moved = anyio.Event()
