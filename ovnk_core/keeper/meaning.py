"""What entries of the log mean for the engine: several of them as one change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ovnk_core.engine.table import Table
from ovnk_core.ingest.outcome import Item, Refused
from ovnk_core.keeper.document import decision_table, object_key, read_decision, read_document, read_refused, ref_of
from ovnk_core.store.entry import Stored, StoreKey
from ovnk_core.store.history import Edit
from ovnk_core.terms.name import ObjectRef


class Meaning:
    """Of several changes of one key the last counts. Attributes are what ``Cluster.applying`` and ``decide`` take."""

    def __init__(self) -> None:
        self.put: dict[ObjectRef, Item] = {}
        self.gone: dict[ObjectRef, None] = {}
        self.refused: dict[ObjectRef, Refused] = {}
        self.decisions: dict[Table[Any, Any], dict[Any, Any]] = {}

    @property
    def has_objects(self) -> bool:
        return bool(self.put or self.gone or self.refused)

    def add(self, key: StoreKey, value: bytes | None, known: Item | Refused | None = None) -> None:
        """``known``: what the value means, where that is known already. Raises StoreCorrupt."""
        if key.space == "decision":
            table, at = decision_table(key)
            self.decisions.setdefault(table, {})[at] = None if value is None else read_decision(key, value)
            return
        if key.space not in ("object", "refused"):
            return
        ref = ref_of(key)
        if value is None:
            (self.put if key.space == "object" else self.refused).pop(ref, None)
            if ref not in self.put and ref not in self.refused:
                self.gone[ref] = None
            return
        self.gone.pop(ref, None)
        found = known or (read_document(value) if key.space == "object" else read_refused(ref, value))
        if isinstance(found, Item):
            self.put[ref] = found
        else:
            self.refused[ref] = found

    def add_edits(self, edits: Iterable[Edit], known: dict[StoreKey, Item | Refused]) -> None:
        for edit in edits:
            self.add(edit.key, edit.after.value if edit.after else None, known.get(edit.key))

    def keep(self, find: Callable[[StoreKey], Stored | None]) -> None:
        """A refused version that is withdrawn takes its object along only if that is not kept either: one that is, as
        ``find`` tells, is in force again as it was accepted. Raises StoreCorrupt."""
        for ref in tuple(self.gone):
            if (stored := find(object_key(ref))) is not None:
                self.gone.pop(ref)
                self.add(object_key(ref), stored.value)
