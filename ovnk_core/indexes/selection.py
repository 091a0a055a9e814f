"""Which pods a selector picks, kept up to date: the index every room shares.

A ``PodSelection`` is one selector in canonical form, so equal selectors of different policies are one entry,
counted by its requesters (``SELECTION_WANT``) and dropped with the last of them. Answers are in ``SELECTED``.

Two directions, two structures. A *new* selector asks "which pods": roaring postings per namespace and per label
answer by intersection. A *changed* pod asks "which selectors": only those whose requirements mention a changed
key, found through (namespace, key) lists. Cost: O(postings) per new selector, O(selectors that mention a changed key
in the pod's namespace) per label change, O(selectors that see the namespace) per new pod.

A namespace exists here while it is declared or holds an endpoint (``labels_of`` says with which labels).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ovnk_core.engine.relation import RelationView
from ovnk_core.engine.table import SetTable
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.kernels.bitmap import Bitmap
from ovnk_core.model.namespace import labels_of
from ovnk_core.model.tables import NAMESPACE, cluster_key
from ovnk_core.terms.label import EVERYTHING, Labels, LabelSelector, Requirement
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Key


class PodSelection(Key, frozen=True, cache_hash=True):
    """Pods that match ``pods``, in the one ``namespace`` or, when ``namespaces`` is given, in all it matches."""

    namespace: str = ""
    namespaces: LabelSelector | None = None
    pods: LabelSelector = EVERYTHING

    def sees(self, namespace: str, labels: Labels) -> bool:
        return self.namespace == namespace if self.namespaces is None else self.namespaces.matches(dict(labels))

    def __str__(self) -> str:
        where = f"namespace {self.namespace}" if self.namespaces is None else f"namespaces with {self.namespaces}"
        return f"pods with {self.pods} in {where}"


SELECTION_WANT = SetTable[PodSelection, Hashable]("selection.want")
SELECTED = SetTable[PodSelection, NamespacedName]("selection")

LabelsByKey = dict[str, str]


class _Postings:
    """Bitmaps over dense endpoint numbers: per namespace, per label key, per label."""

    def __init__(self) -> None:
        self.numbers: dict[NamespacedName, int] = {}
        self.keys: list[NamespacedName | None] = []
        self.free: list[int] = []
        self.by_namespace: dict[str, Bitmap] = {}
        self.by_key: dict[str, Bitmap] = {}
        self.by_label: dict[tuple[str, str], Bitmap] = {}

    def put(self, endpoint: Endpoint) -> None:
        number = self.free.pop() if self.free else len(self.keys)
        if number == len(self.keys):
            self.keys.append(endpoint.key)
        else:
            self.keys[number] = endpoint.key
        self.numbers[endpoint.key] = number
        self.by_namespace.setdefault(endpoint.key.namespace, Bitmap()).add(number)
        self._label(number, endpoint.labels, add=True)

    def drop(self, endpoint: Endpoint) -> None:
        number = self.numbers.pop(endpoint.key)
        self.keys[number] = None
        self.free.append(number)
        self.by_namespace[endpoint.key.namespace].discard(number)
        self._label(number, endpoint.labels, add=False)

    def holds(self, namespace: str) -> bool:
        return bool(self.by_namespace.get(namespace))

    def relabel(self, key: NamespacedName, old: Labels, new: Labels) -> None:
        number = self.numbers[key]
        self._label(number, [label for label in old if label not in new], add=False)
        self._label(number, new, add=True)

    def _label(self, number: int, labels: Iterable[tuple[str, str]], *, add: bool) -> None:
        for label in labels:
            if add:
                self.by_label.setdefault(label, Bitmap()).add(number)
                self.by_key.setdefault(label[0], Bitmap()).add(number)
            else:
                self.by_label[label].discard(number)
                self.by_key[label[0]].discard(number)

    def within(self, namespaces: Iterable[str], pods: LabelSelector) -> list[NamespacedName]:
        """Endpoints in any of ``namespaces`` that match ``pods``."""
        found = Bitmap.union(*(self.by_namespace[n] for n in namespaces if n in self.by_namespace), Bitmap())
        for requirement in pods.requirements:
            found = self._apply(found, requirement)
            if not found:
                return []
        return [key for number in found if (key := self.keys[number]) is not None]

    def _apply(self, found: Bitmap, requirement: Requirement) -> Bitmap:
        if requirement.operator in ("Exists", "DoesNotExist"):
            having = self.by_key.get(requirement.key, Bitmap())
        else:
            labels = ((requirement.key, value) for value in requirement.values)
            having = Bitmap.union(*(self.by_label[label] for label in labels if label in self.by_label), Bitmap())
        return found & having if requirement.operator in ("In", "Exists") else found - having


class Selection:
    """The relation. Private state is rebuilt from the inputs alone.

    ``_present`` are the namespaces that exist, ``_namespaces`` those each selection sees, ``_wide`` the selections
    that choose namespaces by label.
    """

    name = "indexes.selection"
    inputs = (ENDPOINT, NAMESPACE, SELECTION_WANT)
    out = (SELECTED,)

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._postings = _Postings()
        self._labels: dict[NamespacedName, LabelsByKey] = {}
        self._present: set[str] = set()
        self._namespaces: dict[PodSelection, set[str]] = {}
        self._wide: dict[PodSelection, None] = {}
        self._by_namespace: dict[str, dict[PodSelection, None]] = {}
        self._by_key: dict[tuple[str, str], dict[PodSelection, None]] = {}

    def rebuild(self, view: RelationView) -> None:
        self._clear()
        for endpoint in view.rows(ENDPOINT).values():
            self._postings.put(endpoint)
            self._labels[endpoint.key] = dict(endpoint.labels)
        self._present = {key.name for key in view.rows(NAMESPACE)} | self._postings.by_namespace.keys()
        for selection in view.sets(SELECTION_WANT):
            self._activate(view, selection)

    def step(self, view: RelationView) -> None:
        for selection, _, _ in view.set_changes(SELECTION_WANT):
            if selection in self._namespaces and not view.members(SELECTION_WANT, selection):
                self._deactivate(view, selection)
        for key, old, new in view.changes(NAMESPACE):
            if labels_of(key.name, old) != labels_of(key.name, new) or key.name not in self._present:
                self._reconsider(view, key.name, self._exists(view, key.name))
        for key, old, new in view.changes(ENDPOINT):
            if new is not None and key.namespace not in self._present:
                self._reconsider(view, key.namespace, True)
            self._endpoint_changed(view, key, old, new)
        for name in self._gone(view):
            self._reconsider(view, name, False)
        for selection, _, _ in view.set_changes(SELECTION_WANT):
            if selection not in self._namespaces and view.members(SELECTION_WANT, selection):
                self._activate(view, selection)

    # ------------------------------------------------------------------ selectors

    def _activate(self, view: RelationView, selection: PodSelection) -> None:
        if selection.namespaces is None:
            seen = {selection.namespace}
        else:
            self._wide[selection] = None
            seen = {name for name in self._present if selection.namespaces.matches(_namespace_labels(view, name))}
        self._namespaces[selection] = seen
        for namespace in seen:
            self._watch(selection, namespace)
        for pod in self._postings.within(seen, selection.pods):
            view.add(SELECTED, selection, pod)

    def _deactivate(self, view: RelationView, selection: PodSelection) -> None:
        for pod in tuple(view.members(SELECTED, selection)):
            view.remove(SELECTED, selection, pod)
        for namespace in self._namespaces.pop(selection):
            self._unwatch(selection, namespace)
        self._wide.pop(selection, None)

    def _watch(self, selection: PodSelection, namespace: str) -> None:
        self._by_namespace.setdefault(namespace, {})[selection] = None
        for requirement in selection.pods.requirements:
            self._by_key.setdefault((namespace, requirement.key), {})[selection] = None

    def _unwatch(self, selection: PodSelection, namespace: str) -> None:
        self._by_namespace[namespace].pop(selection, None)
        for requirement in selection.pods.requirements:
            self._by_key[(namespace, requirement.key)].pop(selection, None)

    # ------------------------------------------------------------------ namespaces and endpoints

    def _exists(self, view: RelationView, name: str) -> bool:
        return cluster_key(name) in view.rows(NAMESPACE) or self._postings.holds(name)

    def _gone(self, view: RelationView) -> set[str]:
        """Namespaces that this transaction's deletions leave undeclared and empty."""
        touched = {key.namespace for key, _, new in view.changes(ENDPOINT) if new is None}
        touched |= {key.name for key, _, new in view.changes(NAMESPACE) if new is None}
        return {name for name in touched & self._present if not self._exists(view, name)}

    def _reconsider(self, view: RelationView, name: str, is_present: bool) -> None:
        """A namespace came, went, or has other labels: which selections see it now?"""
        (self._present.add if is_present else self._present.discard)(name)
        labels = _namespace_labels(view, name)
        for selection in self._wide:
            assert selection.namespaces is not None
            seen = self._namespaces[selection]
            is_seen = is_present and selection.namespaces.matches(labels)
            if is_seen == (name in seen):
                continue
            if is_seen:
                seen.add(name)
                self._watch(selection, name)
            else:
                seen.discard(name)
                self._unwatch(selection, name)
            for pod in self._postings.within((name,), selection.pods):
                if is_seen:
                    view.add(SELECTED, selection, pod)
                else:
                    view.remove(SELECTED, selection, pod)

    def _endpoint_changed(
        self, view: RelationView, key: NamespacedName, old: Endpoint | None, new: Endpoint | None
    ) -> None:
        if new is None:
            assert old is not None
            labels = self._labels.pop(key)
            self._postings.drop(old)
            for selection in self._by_namespace.get(key.namespace, ()):
                if selection.pods.matches(labels):
                    view.remove(SELECTED, selection, key)
        elif old is None:
            labels = self._labels[key] = dict(new.labels)
            self._postings.put(new)
            for selection in self._by_namespace.get(key.namespace, ()):
                if selection.pods.matches(labels):
                    view.add(SELECTED, selection, key)
        elif old.labels != new.labels:
            self._relabel(view, key, old, new)

    def _relabel(self, view: RelationView, key: NamespacedName, old: Endpoint, new: Endpoint) -> None:
        before, after = self._labels[key], dict(new.labels)
        self._labels[key] = after
        self._postings.relabel(key, old.labels, new.labels)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        affected: dict[PodSelection, None] = {}
        for name in changed:
            affected.update(self._by_key.get((key.namespace, name), {}))
        for selection in affected:
            was, now = selection.pods.matches(before), selection.pods.matches(after)
            if now and not was:
                view.add(SELECTED, selection, key)
            elif was and not now:
                view.remove(SELECTED, selection, key)


def _namespace_labels(view: RelationView, name: str) -> LabelsByKey:
    return dict(labels_of(name, view.rows(NAMESPACE).get(cluster_key(name))))
