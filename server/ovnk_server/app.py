"""One server, from its settings to its end: waits for its databases, keeps a keeper, answers, and stops in time.

The listeners are up first, so that whoever supervises the server can ask for its health while the northbound or the
store is yet to be reached: that is tried again and again, and never a reason to end. What ends it is a signal, a store
that cannot be read (status 3), or an error of ours, after which its answers could not be trusted (status 1): then the
supervisor is to start it anew, which rebuilds everything from the log.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from typing import Any

import anyio

from ovnk_core.errors import BugError, OvnkError, SouthError, StoreCorrupt, StoreError
from ovnk_core.keeper import Keeper
from ovnk_core.northbound.port import Northbound
from ovnk_server import connecting
from ovnk_server.convergence import Convergence
from ovnk_server.exporting import Exporter, tracer
from ovnk_server.front import Front
from ovnk_server.gauges import Gauges, Reading, read
from ovnk_server.log import LOGGER
from ovnk_server.metering import MeteredLog, MeteredNorthbound, Transacted
from ovnk_server.settings import ServerSettings
from ovnk_server.telemetry import Telemetry
from ovnk_server.transport import raise_file_limit

BACKOFF_S = (0.5, 10.0)
WATCH_S, LAG_PERIOD_S = 0.5, 0.25
EXIT_FAILED, EXIT_UNAVAILABLE = 1, 3


class Server:
    """One run. ``run`` returns the exit status; ``stop`` may be called at any time."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._telemetry = Telemetry(tracer(settings.telemetry.otlp))
        self.front = Front(settings, self._telemetry)
        self.keeper: Keeper | None = None
        self._northbound: Northbound | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop; what is not done after ``limits.stop_s`` is cut off. Never waits."""
        if not self._stopping.is_set():
            self._stopping.set()
            asyncio.get_running_loop().call_later(self._settings.limits.stop_s, _cut)

    async def run(self) -> int:
        """Serve until stopped -> the exit status. Raises ListenError."""
        raise_file_limit()
        exporter = Exporter(self._settings.telemetry.metrics, self._telemetry, self._gauges())
        try:
            await self.front.start()
            with exporter:
                return await self._serve()
        finally:
            await self.front.close()
            LOGGER.info("stopped")

    async def _serve(self) -> int:
        tasks = [asyncio.create_task(each) for each in (self.front.refresh(), self._measure_lag(), self._keep())]
        stopping: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((*tasks, stopping), return_when=asyncio.FIRST_COMPLETED)
        ended = next((task for task in tasks if task.done()), None)
        if ended is None:
            # While the keeper leaves, nobody is to be promised anything.
            await self.front.close()
        for task in (*tasks, stopping):
            task.cancel()
        # One of ours that was cancelled by something else than us has failed, too: its outcome is that error.
        outcomes = await asyncio.gather(*tasks, stopping, return_exceptions=True)
        return 0 if ended is None else _explain(outcomes[tasks.index(ended)])

    # ------------------------------------------------------------------ the keeper

    async def _keep(self) -> None:
        """A keeper for as long as there can be one. Raises StoreCorrupt, or what broke the keeper."""
        backoff_s = BACKOFF_S[0]
        while True:
            was_up = False
            try:
                keeper = self._new_keeper()
                async with keeper:
                    was_up = True
                    await self._answer(keeper)
            except (SouthError, StoreError, TimeoutError, OSError) as error:
                if was_up or isinstance(error, StoreCorrupt):
                    raise
                LOGGER.warning("not ready", why=str(error) or type(error).__name__, retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    def _new_keeper(self) -> Keeper:
        northbound = MeteredNorthbound(connecting.northbound(self._settings), self._transacted)
        log = MeteredLog(connecting.log(self._settings), self._telemetry.appended)
        settings = connecting.keeper_settings(self._settings)
        self._northbound = northbound
        return Keeper(northbound, log, settings=settings, southbound=connecting.southbound(self._settings))

    async def _answer(self, keeper: Keeper) -> None:
        """Until cancelled, or until the keeper fails."""
        assert self._northbound is not None
        self.keeper = keeper
        # Everything that was loaded stays; the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Convergence(self._telemetry, keeper.stages).run)
                await self.front.open(keeper, self._northbound)
                LOGGER.info("ready", revision=keeper.revision, store=self._settings.store, holder=self._settings.holder)
                while keeper.failure is None:
                    await asyncio.sleep(WATCH_S)
                tasks.cancel_scope.cancel()
            raise BugError(f"the keeper failed: {keeper.failure}")
        finally:
            self.keeper = None
            await self.front.fail("the server has failed, or stops")

    # ------------------------------------------------------------------ what is told

    def _transacted(self, done: Transacted) -> None:
        self._telemetry.transacted(done, -1 if self.keeper is None else self.keeper.revision)

    def _gauges(self) -> Gauges:
        info = {"store": self._settings.store.partition(":")[0], "holder": self._settings.holder}
        gauges = Gauges(asyncio.get_running_loop(), self._read, info)
        gauges.calls = lambda: self._telemetry.in_flight
        return gauges

    async def _read(self) -> Reading | None:
        if self.keeper is None or self._northbound is None:
            return None
        return await read(self.keeper, self._northbound)

    async def _measure_lag(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(LAG_PERIOD_S)
            self._telemetry.lag_s.observe(max(0.0, time.monotonic() - begun - LAG_PERIOD_S))


def _cut() -> None:
    # Whatever hangs then may hang for ever. What was accepted is in the log, so this is no worse than a crash.
    LOGGER.error("did not stop in time")
    os._exit(EXIT_FAILED)


def _explain(error: BaseException | None) -> int:
    """Why the server ended by itself, in the log and in one line; the exit status."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, StoreCorrupt):
        print(f"ovnk: {error}; `ovnk store verify` tells more", file=sys.stderr)
        return EXIT_UNAVAILABLE
    is_ours = error is None or isinstance(error, BugError) or not isinstance(error, OvnkError)
    trace = (type(error), error, error.__traceback__) if error is not None and is_ours else None
    LOGGER.error("failed", why=str(error), exc_info=trace)
    return EXIT_FAILED


async def serve(settings: ServerSettings) -> int:
    """Run one server until SIGTERM or SIGINT -> the exit status. Raises OvnkError for settings that cannot work."""
    server = Server(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    return await server.run()
