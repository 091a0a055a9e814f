"""A pool of numbered slots: lowest free first, released and reused. Subnets, node ids and addresses are slots."""

from __future__ import annotations

import heapq
from collections.abc import Hashable


class Pool:
    """Slots ``first``..``last`` inclusive. ``take`` is O(log n); claimed slots need not be contiguous."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self._next = first
        self._released: list[int] = []
        self._owner: dict[int, Hashable] = {}

    def owner(self, slot: int) -> Hashable | None:
        return self._owner.get(slot)

    def claim(self, slot: int, owner: Hashable) -> bool:
        """Record that ``owner`` holds ``slot``; False when somebody else does. Any number may be claimed."""
        return self._owner.setdefault(slot, owner) == owner

    def release(self, slot: int, owner: Hashable) -> None:
        if self._owner.get(slot) == owner:
            del self._owner[slot]
            if self.first <= slot < self._next:
                heapq.heappush(self._released, slot)

    def take(self, owner: Hashable) -> int | None:
        """The lowest free slot, now owned; None when the pool is exhausted."""
        while self._released:
            slot = heapq.heappop(self._released)
            if slot not in self._owner:
                self._owner[slot] = owner
                return slot
        while self._next <= self.last:
            slot = self._next
            self._next += 1
            if slot not in self._owner:
                self._owner[slot] = owner
                return slot
        return None

    def __len__(self) -> int:
        return len(self._owner)
