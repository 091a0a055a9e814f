"""Which objects there are, and whose: what would otherwise be counted again at every question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ovnk_core.keeper.document import decode, object_key, refused_key
from ovnk_core.keeper.ties import Ties
from ovnk_core.store.history import History
from ovnk_core.terms.name import ObjectRef


class Inventory:
    """Kept up to date by ``note``, one look-up for each object that changed."""

    def __init__(self, history: History) -> None:
        self._history, self.ties = history, Ties(history)
        self._owned: dict[str, set[ObjectRef]] = {}
        self._owners: dict[ObjectRef, frozenset[str]] = {}
        self._present: set[ObjectRef] = set()
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, ref: ObjectRef) -> None:
        """An object, or its refused version, is other than before in the history."""
        kept = [stored for key in (object_key(ref), refused_key(ref)) if (stored := self._history.get(key))]
        before, owners = self._owners.get(ref, frozenset()), frozenset(decode(stored.value).source for stored in kept)
        for source in before - owners:
            self._owned[source].discard(ref)
        for source in owners - before:
            self._owned.setdefault(source, set()).add(ref)
        if owners:
            self._owners[ref] = owners
        else:
            self._owners.pop(ref, None)
        is_present = self._history.get(object_key(ref)) is not None
        if is_present != (ref in self._present):
            self._counts[ref.kind, ref.namespace] += 1 if is_present else -1
            (self._present.add if is_present else self._present.discard)(ref)
        self.ties.note(ref)

    def of_source(self, source: str) -> frozenset[ObjectRef]:
        """Everything a source stated, accepted or refused, and did not take back."""
        return frozenset(self._owned.get(source, ()))

    def count(self, sees: Callable[[str, str], bool] = lambda kind, namespace: True) -> int:
        """Accepted objects of the kinds and namespaces that ``sees`` holds for."""
        return sum(number for place, number in self._counts.items() if number and sees(*place))
