"""A store in etcd as its tests handle it: what it holds, which keys, and a wire that loses things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ovnk_core.errors import StoreUnknown
from ovnk_core.store.entry import Base
from ovnk_core.store.etcd import EtcdLog
from ovnk_core.store.etcd_layout import range_end
from tests.kit.store import state

Open = Callable[..., Awaitable[EtcdLog]]


async def found(log: EtcdLog) -> Base:
    """What a server that starts now reads."""
    fresh = EtcdLog(log._link._endpoints, log._layout.prefix)
    try:
        return state(await fresh.open())
    finally:
        await fresh.close()


async def keys(log: EtcdLog, part: str) -> list[bytes]:
    first = f"{log._layout.prefix}/{part}".encode()
    page = await log._link.page(first, range_end(first), limit=1000, is_keys_only=True)
    return [record.key for record in page.records]


class Wire:
    """Between a log and etcd: loses what a test wants lost. ``send``: is the request carried out all the same?"""

    def __init__(self, log: EtcdLog) -> None:
        self._transact = log._link.transact
        self.calls = self.lose_at = 0
        self.is_sent = True
        self.late: list[Any] = []
        log._link.transact = self.transact  # type: ignore[method-assign]

    def lose(self, *, at: int, is_sent: bool) -> None:
        self.calls, self.lose_at, self.is_sent = 0, at, is_sent

    async def transact(self, *operations: Any, is_repeatable: bool) -> Any:
        self.calls += 1
        if self.calls != self.lose_at:
            return await self._transact(*operations, is_repeatable=is_repeatable)
        self.late.append(operations)
        if self.is_sent:
            await self._transact(*operations, is_repeatable=is_repeatable)
        raise StoreUnknown("the reply was lost")

    async def deliver(self) -> Any:
        """What was lost on the way arrives after all."""
        return await self._transact(*self.late.pop(), is_repeatable=False)
