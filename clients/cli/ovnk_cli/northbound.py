"""Reaching a northbound database: which driver, and what it remembers."""

from __future__ import annotations

from ovnk_core.model.decision import Decisions
from ovnk_core.northbound.port import Northbound


def connect(address: str, driver: str) -> Northbound:
    """A driver for an address. ``memory`` is an empty embedded northbound that lives as long as the command."""
    if address == "memory":
        from ovnk_core.northbound.memory import MemoryNorthbound

        return MemoryNorthbound()
    if driver == "ovsdbapp":
        from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound

        return OvsdbappNorthbound(address)
    from ovnk_core.northbound.native import NativeNorthbound

    return NativeNorthbound(address)


def recorded(address: str, driver: str, timeout_s: float) -> Decisions:
    """The decisions that a database remembers; nothing is written. Raises SouthError, or TimeoutError."""
    import anyio

    from ovnk_core.nb.tables import TABLES
    from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
    from ovnk_core.reconcile.recall import recall
    from ovnk_core.runtime.recorded import decisions_of

    async def read() -> Decisions:
        northbound = connect(address, driver)
        await northbound.connect(mirrored(), timeout_s=timeout_s)
        try:
            return decisions_of(recall({table: northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}))
        finally:
            await northbound.close()

    return anyio.run(read)
