"""Whether the northbound answers, and since when it does not; whether the store does."""

from __future__ import annotations

import time

import anyio

from ovnk_core.errors import SouthError, StoreError
from ovnk_core.northbound.port import Northbound
from ovnk_core.store.port import Log
from ovnk_core.terms.struct import Value

PROBE_S = 1.0


class Link(Value, frozen=True, kw_only=True):
    """The connection as of now. ``stale_since_s``: Unix seconds of the last answer, None while it answers."""

    address: str
    is_connected: bool
    stale_since_s: float | None = None
    failure: str = ""


class Probe:
    """Asks by an empty transaction, which is a round trip and changes nothing."""

    def __init__(self, northbound: Northbound) -> None:
        self._northbound = northbound
        self._heard_s = time.time()

    async def look(self) -> Link:
        """Takes at most ``PROBE_S`` seconds."""
        address = self._northbound.address
        try:
            await self._northbound.transact((), timeout_s=PROBE_S)
        except SouthError as error:
            return Link(address=address, is_connected=False, stale_since_s=self._heard_s, failure=str(error))
        self._heard_s = time.time()
        return Link(address=address, is_connected=True)


async def store_failure(log: Log) -> str:
    """Why a store cannot be asked, empty while it answers. Takes at most ``PROBE_S`` seconds."""
    with anyio.move_on_after(PROBE_S):
        try:
            await log.writer()
        except StoreError as error:
            return str(error)
        return ""
    return f"{log.address}: no answer within {PROBE_S:g} s"
