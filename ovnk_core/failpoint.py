"""Named places where a test may make the process fail.

``failpoint("name")`` does nothing until something is armed under that name, which only tests do: the environment
variable ``OVNK_FAILPOINTS`` (``name=kill``, ``name=stop@3``, comma separated) ends the process there as kill -9 would,
or suspends it as SIGSTOP does, at the visit that is named or else the first. Cost when nothing is armed: one call and
one look into an empty dict.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

FAILPOINTS: tuple[str, ...] = (
    "keeper.before_append",
    "keeper.after_append",
    "keeper.after_apply",
    "keeper.before_decisions",
    "keeper.after_decisions",
    "writer.before_transact",
    "writer.after_transact",
    "writer.before_bump",
    "store.sqlite.before_commit",
    "store.sqlite.after_commit",
    "store.etcd.before_commit",
    "store.etcd.after_commit",
    "store.compact.before_base",
    "store.compact.after_base",
)
"""Every name there is; a test fails when one is visited that is not listed, or listed and never visited."""

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_armed: dict[str, Callable[[], None]] = {}


def failpoint(name: str) -> None:
    """Fail here if a test wants so."""
    if _armed and (action := _armed.get(name)) is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run ``action`` at every visit of ``name``. Raises KeyError for a name that is not listed."""
    if name not in FAILPOINTS:
        raise KeyError(name)
    _armed[name] = action


def disarm() -> None:
    """Back to doing nothing."""
    _armed.clear()


def arm_from(text: str) -> None:
    """Arm what ``OVNK_FAILPOINTS`` says. Raises ValueError or KeyError on anything else."""
    for word in filter(None, text.split(",")):
        name, _, action = word.partition("=")
        kind, _, visit = action.partition("@")
        if kind not in _SIGNALS:
            raise ValueError(f"OVNK_FAILPOINTS: {word}: write NAME=kill, NAME=stop or NAME=kill@VISIT")
        arm(name, _signaller(_SIGNALS[kind], int(visit or "1")))


def _signaller(signal_number: signal.Signals, visit: int) -> Callable[[], None]:
    left = visit

    def action() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal_number)

    return action
