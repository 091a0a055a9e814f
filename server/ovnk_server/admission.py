"""How many calls one identity may begin, and have: a token bucket and a count for each."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from ovnk_server.faults import TooManyCalls

MAX_IDENTITIES = 10_000
"""Buckets that are kept; one that was not used for longest is forgotten, and begins full again."""
BURST_S = 2.0
"""How many seconds' worth of calls may come at once."""
BUSY_RETRY_S = 1.0


class Admission:
    """``rate`` calls a second, ``at_once`` at one time; both for each identity."""

    def __init__(self, *, rate: float, at_once: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._at_once, self._now = rate, at_once, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._present: Counter[str] = Counter()

    def enter(self, identity: str) -> None:
        """A call begins; ``leave`` must follow. Raises TooManyCalls; then it must not."""
        now, most = self._now(), self._rate * BURST_S
        tokens, at = self._buckets.pop(identity, (most, now))
        tokens = min(most, tokens + (now - at) * self._rate)
        is_let_in = tokens >= 1.0 and self._present[identity] < self._at_once
        self._buckets[identity] = (tokens - 1.0 if is_let_in else tokens, now)
        if len(self._buckets) > MAX_IDENTITIES:
            self._buckets.popitem(last=False)
        if not is_let_in:
            wait_s = (1.0 - tokens) / self._rate if tokens < 1.0 else BUSY_RETRY_S
            raise TooManyCalls(identity, retry_after_s=wait_s)
        self._present[identity] += 1

    def leave(self, identity: str) -> None:
        """A call that was let in is over."""
        self._present[identity] -= 1
        if not self._present[identity]:
            del self._present[identity]
