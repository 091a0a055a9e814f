"""Whether the northbound answers, and since when it does not; whether the store does, and whose turn it says it is."""

from __future__ import annotations

import anyio

from ovnk_core.errors import SouthError, StoreError
from ovnk_core.keeper.housekeeping import Turn
from ovnk_core.northbound.port import Northbound
from ovnk_core.store.port import Log
from ovnk_core.terms.struct import Value

PROBE_S = 1.0


class Link(Value, frozen=True, kw_only=True):
    """The connection as of now. ``stale_since_s``: when it was last heard, in Unix seconds; None while it answers."""

    address: str
    is_connected: bool
    stale_since_s: float | None = None
    failure: str = ""


async def ask_northbound(northbound: Northbound) -> Link:
    """Ask by an empty transaction, which is a round trip and changes nothing. Takes at most ``PROBE_S`` seconds."""
    try:
        await northbound.transact((), timeout_s=PROBE_S)
    except SouthError as error:
        return Link(
            address=northbound.address, is_connected=False, stale_since_s=northbound.heard_s, failure=str(error)
        )
    return Link(address=northbound.address, is_connected=True)


class Writer(Value, frozen=True, kw_only=True):
    """Whose turn it is; its number is 0 while it has yet to begin, its holder empty when nobody has one.
    ``store_failure``: why the store cannot be asked; then it is what was last known."""

    turn: Turn
    store_failure: str = ""


async def ask_writer(log: Log, known: Turn) -> Writer:
    """Ask the store, and take the turn that is ``known`` when it says the same. Takes at most ``PROBE_S`` seconds."""
    with anyio.move_on_after(PROBE_S):
        try:
            holder = await log.writer()
        except StoreError as error:
            return Writer(turn=known, store_failure=str(error))
        return Writer(turn=known if holder == known.holder else Turn(holder=holder, number=0))
    return Writer(turn=known, store_failure=f"{log.address}: no answer within {PROBE_S:g} s")
