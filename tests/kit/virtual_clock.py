"""Clocks that move only when the test says so: the wall's, and an event loop's."""

from __future__ import annotations

import asyncio

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


class StandingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands: what waits for a timer waits until ``advance``."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


async def settled(turns: int = 1_000) -> None:
    """After so many turns of the loop: everything has happened that needs neither time nor others."""
    for _ in range(turns):
        await asyncio.sleep(0)
