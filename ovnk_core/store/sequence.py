"""What an append, and an entry, must look like whichever backend keeps it; and the bell that followers wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ovnk_core.errors import StoreCorrupt, Superseded
from ovnk_core.store.entry import Entry


def check_append(entries: Sequence[Entry], head: int, address: str) -> None:
    """``entries`` may follow revision ``head``, or an error says why not.

    Raises ValueError (the entries themselves are not consecutive: our own mistake), Superseded (the first revision is
    taken), StoreCorrupt (the caller has seen revisions that the log no longer has).
    """
    first = entries[0].revision
    if any(entry.revision != first + index for index, entry in enumerate(entries)):
        raise ValueError(f"revisions of one append must be consecutive, got {[entry.revision for entry in entries]}")
    if first <= head:
        raise Superseded(f"{address}: revision {first} is taken; the log is at {head}")
    if first > head + 1:
        raise StoreCorrupt(f"{address}: the log ends at revision {head}, yet {first - 1} was acknowledged")


def check_dense(entries: Iterable[Entry], after: int, address: str) -> int:
    """``entries`` follow ``after`` without gaps -> the last revision. Raises StoreCorrupt."""
    for entry in entries:
        if entry.revision != after + 1:
            raise StoreCorrupt(f"{address}: revision {after + 1} is missing; {entry.revision} follows {after}")
        after = entry.revision
    return after


class Bell:
    """Wakes everybody who waits, each time it rings. ``rings`` counts, so that a ring between looking and waiting is
    not missed."""

    def __init__(self) -> None:
        self.rings = 0
        self._rung = asyncio.Event()

    def ring(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        self.rings += 1
        rung.set()

    async def wait(self, seen: int, timeout_s: float | None = None) -> bool:
        """Wait until it rang more often than ``seen`` -> whether it did, within ``timeout_s`` (None: for ever)."""
        if self.rings == seen:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._rung.wait()
            except TimeoutError:
                return False
        return True
