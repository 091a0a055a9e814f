"""What is wrong with the shape of a manifest, and where."""

from __future__ import annotations

import json
from typing import Any

Step = str | int
_SHOWN_LENGTH = 80


class WireError(ValueError):
    """One field cannot be put on the wire. ``path`` as manifests write it (``spec.egress[41].to.cidrSelector``),
    ``value`` the offending value, cut to a readable length, ``reason`` what is wrong, ``fix`` what to write instead."""

    def __init__(self, reason: str, *, value: str = "", fix: str = "", steps: tuple[Step, ...] = ()) -> None:
        self.reason, self.value, self.fix, self.steps = reason, value, fix, steps
        super().__init__(reason)

    @property
    def path(self) -> str:
        return path_text(self.steps)

    def under(self, step: Step) -> WireError:
        """The same error, seen from the owner of ``step``. Whoever reads a part adds its own step, so that no path is
        made while there is nothing to complain about."""
        self.steps = (step, *self.steps)
        return self

    def __str__(self) -> str:
        where = f"{self.path}: " if self.steps else ""
        got = f" (got {self.value})" if self.value else ""
        return f"{where}{self.reason}{got}" + (f"; {self.fix}" if self.fix else "")


def path_text(steps: tuple[Step, ...]) -> str:
    """Steps as text: ``spec.egress[41].to``, ``metadata.labels["a.b/c"]``."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isascii() and step.replace("-", "").replace("_", "").isalnum() and len(step) <= _SHOWN_LENGTH:
            text += f".{step}" if text else step
        else:
            text += f"[{show(step)}]"
    return text


def show(value: Any) -> str:
    """A value in one bounded line of printable ASCII; containers are only named."""
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "..."
        return json.dumps(cut)
    if isinstance(value, int) and value.bit_length() > 256:
        return "a very large number"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else type(value).__name__
