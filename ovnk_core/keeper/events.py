"""Notable happenings, for people: who changed what, what was refused, what became of the northbound.

A bounded list in memory; like Kubernetes' events they explain, they do not prove. The log is what proves.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Literal

from msgspec.structs import replace

from ovnk_core.errors import Mention
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

MAX_EVENTS = 1_000
Severity = Literal["Normal", "Warning"]


class Occurrence(Value, frozen=True, kw_only=True):
    """``count`` times the same, first and last seen at Unix seconds. ``ref`` None: about the service itself.
    ``sequence`` grows with every occurrence, a repeated one has that of its last. It is a time in microseconds, so that
    whoever may not read every occurrence cannot count the others by it. ``mentions``: other objects that ``message``
    names."""

    sequence: int
    severity: Severity
    reason: str
    message: str
    ref: ObjectRef | None = None
    revision: int = 0
    first_s: int = 0
    last_s: int = 0
    count: int = 1
    mentions: tuple[Mention, ...] = ()


class Events:
    """The last ``MAX_EVENTS``; one that repeats the newest of its object only counts up."""

    def __init__(self) -> None:
        self._all: deque[Occurrence] = deque(maxlen=MAX_EVENTS)
        self.sequence = 0
        """Of the last one."""

    def add(
        self,
        reason: str,
        message: str,
        *,
        ref: ObjectRef | None = None,
        revision: int = 0,
        severity: Severity = "Normal",
        mentions: tuple[Mention, ...] = (),
    ) -> None:
        now_us = time.time_ns() // 1_000
        now_s = now_us // 1_000_000
        self.sequence = max(self.sequence + 1, now_us)
        if self._all:
            last = self._all[-1]
            if (last.reason, last.message, last.ref) == (reason, message, ref):
                self._all[-1] = replace(
                    last, sequence=self.sequence, last_s=now_s, count=last.count + 1, revision=revision
                )
                return
        self._all.append(
            Occurrence(
                sequence=self.sequence,
                severity=severity,
                reason=reason,
                message=message,
                ref=ref,
                revision=revision,
                first_s=now_s,
                last_s=now_s,
                mentions=mentions,
            )
        )

    def list(self) -> tuple[Occurrence, ...]:
        """Oldest first."""
        return tuple(self._all)
