"""From a base and the entries after it to the state they lead to."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.store.entry import Base, Entry, StoreKey
from ovnk_core.store.history import History

_FIRST = StoreKey("", "", "", "")  # type: ignore[arg-type]
_LAST = StoreKey("\U0010ffff", "", "", "")  # type: ignore[arg-type]


def replay(base: Base, entries: Iterable[Entry]) -> Base:
    """Every item as of the last entry. Raises StoreCorrupt on a gap."""
    history = History(base)
    for entry in entries:
        history.advance(entry)
    return Base(revision=history.revision, items=dict(history.items(_FIRST, _LAST)))
