"""Turns of the writer: a key on a lease.

Whoever puts ``writer`` while it does not exist has the turn; etcd's revision of that put is the epoch, so epochs only
rise. The lease is renewed three times within its length. A turn counts as lost when etcd says so, or when the last
renewal that was confirmed is older than two thirds of the lease, counted from *before* it was asked for, on a clock
that goes on while the machine sleeps: a holder that was stopped knows at its first look, and always before etcd gives
the turn to somebody else. What we append under a turn carries the condition that the key is still that very one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import anyio

from ovnk_core.errors import StoreError
from ovnk_core.store.etcd_layout import Layout
from ovnk_core.store.etcd_link import EtcdLink, created_is, get, put
from ovnk_core.store.port import Term
from ovnk_core.store.sequence import Bell

POLL_S = 1.0
"""Who waits for a turn looks this often, should a watch say nothing."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_s() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Turn:
    """A turn of ours: its lease, and until when it is proven."""

    def __init__(self, term: Term, lease: int, *, asked_s: float, proof_s: float) -> None:
        self.term, self.lease, self._proof_s = term, lease, proof_s
        self._asked_s = asked_s
        self._over = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Lost, ended, or no longer proven; once true it stays so."""
        if now_s() - self._asked_s >= self._proof_s:
            self._over.set()
        return self._over.is_set()

    def confirm(self, asked_s: float) -> None:
        """A renewal asked for at ``asked_s`` was confirmed."""
        self._asked_s = asked_s

    def end(self) -> None:
        self._over.set()

    async def lost(self) -> None:
        """Returns when it is over."""
        while not self.is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, self._asked_s + self._proof_s - now_s())):
                    await self._over.wait()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not longer than the turn lasts."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.lost()


class EtcdTurns:
    """Campaigns for ``writer`` with leases of ``term_s`` seconds. ``bell`` rings when that key changes."""

    def __init__(self, link: EtcdLink, layout: Layout, *, term_s: int, bell: Bell) -> None:
        self._link, self._layout, self._term_s, self._bell = link, layout, term_s, bell
        self._turn: Turn | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def campaign(self, holder: str) -> Term:
        """Wait for the key to be gone, then put it. Goes on through failures of etcd until cancelled or closed."""
        if self._turn is not None:
            await self.resign(self._turn.term)
        while True:
            seen = self._bell.rings
            try:
                if not (await self._link.get(self._layout.writer)).created:
                    turn = await self._tried(holder)
                    if turn is not None:
                        self._turn = turn
                        self._renewing = asyncio.create_task(self._renew(turn), name="ovnk etcd lease")
                        return turn.term
            except StoreError:
                if self._link.is_closed:
                    raise
            await self._bell.wait(seen, timeout_s=POLL_S)

    async def _tried(self, holder: str) -> Turn | None:
        """One attempt to put the key; None when somebody else was faster or nobody knows."""
        asked_s = now_s()
        lease = await self._link.grant(self._term_s)
        key = self._layout.writer
        try:
            made = await self._link.transact(
                [created_is(key, 0)], [put(key, holder.encode(), lease=lease)], [get(key)], is_repeatable=False
            )
            if made.is_done:
                term = Term(epoch=made.revision, holder=holder)
                return Turn(term, lease, asked_s=asked_s, proof_s=self._term_s * 2 / 3)
        except StoreError:
            pass  # nobody knows; the key, if it was put, goes with the lease
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError), anyio.move_on_after(POLL_S, shield=True):
                await self._link.revoke(lease)
            raise
        await self._link.revoke(lease)
        return None

    async def _renew(self, turn: Turn) -> None:
        while not turn.is_over:
            asked_s = now_s()
            pause_s = self._term_s / 3
            try:
                left_s = await self._link.keep_alive(turn.lease)
                record = await self._link.get(self._layout.writer)
            except StoreError:
                pause_s = self._term_s / 20
            else:
                if left_s <= 0 or record.created != turn.term.epoch:
                    turn.end()
                elif not turn.is_over:
                    turn.confirm(asked_s)
            await turn.pause(pause_s)

    async def lost(self, term: Term) -> None:
        """See ``Log.lost``."""
        if self._turn is not None and self._turn.term == term:
            await self._turn.lost()

    async def resign(self, term: Term) -> None:
        """See ``Log.resign``; where etcd does not answer, the lease runs out by itself."""
        turn = self._turn
        if turn is not None and turn.term == term:
            await self._stop()
            with contextlib.suppress(StoreError):
                await self._link.revoke(turn.lease)

    async def _stop(self) -> None:
        turn, self._turn = self._turn, None
        renewing, self._renewing = self._renewing, None
        if turn is not None:
            turn.end()
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def close(self) -> None:
        """Renew no more; the turn, if any, is over for us and runs out for the others."""
        await self._stop()
