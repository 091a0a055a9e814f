"""How many calls one identity may begin and have."""

from __future__ import annotations

import pytest
from ovnk_server.admission import MAX_IDENTITIES, Admission
from ovnk_server.faults import TooManyCalls


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _admission(*, rate: float = 8.0, at_once: int = 1_000) -> tuple[Admission, Clock]:
    clock = Clock()
    return Admission(rate=rate, at_once=at_once, now=clock), clock


def test_two_seconds_worth_at_once_then_the_rate() -> None:
    admission, clock = _admission()
    for _ in range(16):
        admission.enter("ann")
    with pytest.raises(TooManyCalls) as caught:
        admission.enter("ann")
    assert caught.value.retry_after_s == pytest.approx(0.125)
    admission.enter("bob")
    clock.now += 0.125
    admission.enter("ann")
    with pytest.raises(TooManyCalls):
        admission.enter("ann")


def test_calls_at_one_time() -> None:
    admission, _ = _admission(at_once=2)
    admission.enter("ann")
    admission.enter("ann")
    with pytest.raises(TooManyCalls):
        admission.enter("ann")
    admission.leave("ann")
    admission.enter("ann")


def test_memory_is_bounded() -> None:
    admission, _ = _admission()
    for number in range(MAX_IDENTITIES + 100):
        admission.enter(str(number))
        admission.leave(str(number))
    assert len(admission._buckets) == MAX_IDENTITIES
    assert not admission._present
