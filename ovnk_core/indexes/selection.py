"""Which pods a selector picks, kept up to date: the index every room shares.

A ``PodSelection`` is one selector in canonical form, so equal selectors of different policies are one entry,
counted by its requesters (``SELECTION_WANT``) and dropped with the last of them. Answers are in ``SELECTED``; where
``BY_POD_WANT`` asks for it, too, the selection is also listed under every pod it picks (``SELECTED_BY``).

Two directions, two structures. A *new* selector asks "which pods": roaring postings per namespace and per label
answer by intersection. A *changed* pod asks "which selectors": only those on which the old or the new value of a
changed key has a bearing (``Hinge``). Cost: O(postings) per new selector, O(selectors that see the pod's namespace and
name a value the pod lost or won) per label change, O(selectors that see the namespace) per new pod.

A namespace exists here while it is declared or holds an endpoint (``labels_of`` says with which labels).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

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

    def sees(self, namespace: str, labels: Labels | None) -> bool:
        """Whether it looks into a namespace; one whose labels are unknown only by its own name."""
        if self.namespaces is None:
            return self.namespace == namespace
        return labels is not None and self.namespaces.matches(dict(labels))

    def __str__(self) -> str:
        where = f"namespace {self.namespace}" if self.namespaces is None else f"namespaces with {self.namespaces}"
        return f"pods with {self.pods} in {where}"


SELECTION_WANT = SetTable[PodSelection, Hashable]("selection.want")
SELECTED = SetTable[PodSelection, NamespacedName]("selection")
BY_POD_WANT = SetTable[PodSelection, Hashable]("selection.by_pod_want")
"""Selections whose requesters ask what selects a pod, besides whom they select. Those without cost nothing more."""
SELECTED_BY = SetTable[NamespacedName, PodSelection]("selection.by_pod")

LabelsByKey = dict[str, str]
Hinge = tuple[str, str, str | None]
"""(namespace, label key, value; None: no such label). A requirement can change its mind about a pod only when the
label goes from or to one of its hinges: the values In and NotIn list, absence for Exists and DoesNotExist."""


class _Postings:
    """Bitmaps over dense endpoint numbers: per namespace, per label key, per label. Only what is not empty is kept:
    labels that come and go for ever (``pod-template-hash``) leave nothing behind."""

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
        _post(self.by_namespace, endpoint.key.namespace, number)
        self._relabel(number, {}, dict(endpoint.labels))

    def drop(self, key: NamespacedName, labels: LabelsByKey) -> None:
        number = self.numbers.pop(key)
        self.keys[number] = None
        self.free.append(number)
        _unpost(self.by_namespace, key.namespace, number)
        self._relabel(number, labels, {})

    def holds(self, namespace: str) -> bool:
        return namespace in self.by_namespace

    def relabel(self, key: NamespacedName, before: LabelsByKey, after: LabelsByKey) -> None:
        self._relabel(self.numbers[key], before, after)

    def _relabel(self, number: int, before: LabelsByKey, after: LabelsByKey) -> None:
        for label in before.items() - after.items():
            _unpost(self.by_label, label, number)
        for label in after.items() - before.items():
            _post(self.by_label, label, number)
        for name in before.keys() - after.keys():
            _unpost(self.by_key, name, number)
        for name in after.keys() - before.keys():
            _post(self.by_key, name, number)

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


def _post(postings: dict[Any, Bitmap], at: Any, number: int) -> None:
    posting = postings.get(at)
    if posting is None:
        posting = postings[at] = Bitmap()
    posting.add(number)


def _unpost(postings: dict[Any, Bitmap], at: Any, number: int) -> None:
    posting = postings[at]
    posting.discard(number)
    if not posting:
        del postings[at]


class Selection:
    """The relation. Private state is rebuilt from the inputs alone.

    ``_present`` are the namespaces that exist and their labels, ``_namespaces`` those each selection sees, ``_wide``
    the selections that choose namespaces by label, ``_inverse`` those that are listed by pod, too.
    """

    name = "indexes.selection"
    inputs = (ENDPOINT, NAMESPACE, SELECTION_WANT, BY_POD_WANT)
    out = (SELECTED, SELECTED_BY)

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._postings = _Postings()
        self._labels: dict[NamespacedName, LabelsByKey] = {}
        self._present: dict[str, LabelsByKey] = {}
        self._namespaces: dict[PodSelection, set[str]] = {}
        self._wide: dict[PodSelection, None] = {}
        self._inverse: set[PodSelection] = set()
        self._by_namespace: dict[str, dict[PodSelection, None]] = {}
        self._by_hinge: dict[Hinge, dict[PodSelection, None]] = {}

    def rebuild(self, view: RelationView) -> None:
        self._clear()
        for endpoint in view.rows(ENDPOINT).values():
            self._postings.put(endpoint)
            self._labels[endpoint.key] = dict(endpoint.labels)
        names = {key.name for key in view.rows(NAMESPACE)} | self._postings.by_namespace.keys()
        found = ((name, _namespace_labels(view, name)) for name in names)
        self._present = {name: labels for name, labels in found if labels is not None}
        self._inverse = set(view.sets(BY_POD_WANT))
        for selection in view.sets(SELECTION_WANT):
            self._activate(view, selection)

    def step(self, view: RelationView) -> None:
        for selection in view.set_changes(SELECTION_WANT):
            if selection in self._namespaces and not view.members(SELECTION_WANT, selection):
                self._deactivate(view, selection)
        for selection in view.set_changes(BY_POD_WANT):
            self._turn(view, selection, is_wanted=bool(view.members(BY_POD_WANT, selection)))
        for key in view.changes(NAMESPACE):
            self._reconsider(view, key.name, is_present=self._exists(view, key.name))
        for key, (old, new) in view.changes(ENDPOINT).items():
            if new is not None and key.namespace not in self._present:
                self._reconsider(view, key.namespace, is_present=True)
            self._endpoint_changed(view, key, old, new)
        for name in self._gone(view):
            self._reconsider(view, name, is_present=False)
        for selection in view.set_changes(SELECTION_WANT):
            if selection not in self._namespaces and view.members(SELECTION_WANT, selection):
                self._activate(view, selection)

    # ------------------------------------------------------------------ selectors

    def _activate(self, view: RelationView, selection: PodSelection) -> None:
        if selection.namespaces is None:
            seen = {selection.namespace}
        else:
            self._wide[selection] = None
            seen = {name for name, labels in self._present.items() if selection.namespaces.matches(labels)}
        self._namespaces[selection] = seen
        for namespace in seen:
            self._watch(selection, namespace)
        for pod in self._postings.within(seen, selection.pods):
            self._pick(view, selection, pod)

    def _deactivate(self, view: RelationView, selection: PodSelection) -> None:
        for pod in tuple(view.members(SELECTED, selection)):
            self._leave(view, selection, pod)
        for namespace in self._namespaces.pop(selection):
            self._unwatch(selection, namespace)
        self._wide.pop(selection, None)

    def _turn(self, view: RelationView, selection: PodSelection, *, is_wanted: bool) -> None:
        """List a selection under its pods, or not any more."""
        if is_wanted == (selection in self._inverse):
            return
        change = view.add if is_wanted else view.remove
        for pod in view.members(SELECTED, selection):
            change(SELECTED_BY, pod, selection)
        if is_wanted:
            self._inverse.add(selection)
        else:
            self._inverse.discard(selection)

    def _pick(self, view: RelationView, selection: PodSelection, pod: NamespacedName) -> None:
        view.add(SELECTED, selection, pod)
        if selection in self._inverse:
            view.add(SELECTED_BY, pod, selection)

    def _leave(self, view: RelationView, selection: PodSelection, pod: NamespacedName) -> None:
        view.remove(SELECTED, selection, pod)
        if selection in self._inverse:
            view.remove(SELECTED_BY, pod, selection)

    def _watch(self, selection: PodSelection, namespace: str) -> None:
        self._by_namespace.setdefault(namespace, {})[selection] = None
        for hinge in _hinges(selection, namespace):
            self._by_hinge.setdefault(hinge, {})[selection] = None

    def _unwatch(self, selection: PodSelection, namespace: str) -> None:
        _discard(self._by_namespace, namespace, selection)
        for hinge in _hinges(selection, namespace):
            _discard(self._by_hinge, hinge, selection)

    # ------------------------------------------------------------------ namespaces and endpoints

    def _exists(self, view: RelationView, name: str) -> bool:
        return cluster_key(name) in view.rows(NAMESPACE) or self._postings.holds(name)

    def _gone(self, view: RelationView) -> set[str]:
        """Namespaces that this transaction's deletions leave undeclared and empty."""
        touched = [key.namespace for key, (_, new) in view.changes(ENDPOINT).items() if new is None]
        touched += [key.name for key, (_, new) in view.changes(NAMESPACE).items() if new is None]
        return {name for name in touched if name in self._present and not self._exists(view, name)}

    def _reconsider(self, view: RelationView, name: str, *, is_present: bool) -> None:
        """A namespace came, went, or has other labels: which selections see it now?"""
        labels = _namespace_labels(view, name) if is_present else None
        if labels == self._present.get(name):
            return
        if labels is None:
            del self._present[name]
        else:
            self._present[name] = labels
        for selection in self._wide:
            assert selection.namespaces is not None
            seen = self._namespaces[selection]
            is_seen = labels is not None and selection.namespaces.matches(labels)
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
                    self._pick(view, selection, pod)
                else:
                    self._leave(view, selection, pod)

    def _endpoint_changed(
        self, view: RelationView, key: NamespacedName, old: Endpoint | None, new: Endpoint | None
    ) -> None:
        if new is None:
            labels = self._labels.pop(key)
            self._postings.drop(key, labels)
            for selection in self._by_namespace.get(key.namespace, ()):
                if selection.pods.matches(labels):
                    self._leave(view, selection, key)
        elif old is None:
            labels = self._labels[key] = dict(new.labels)
            self._postings.put(new)
            for selection in self._by_namespace.get(key.namespace, ()):
                if selection.pods.matches(labels):
                    self._pick(view, selection, key)
        elif old.labels != new.labels:
            self._relabel(view, key, dict(new.labels))

    def _relabel(self, view: RelationView, key: NamespacedName, after: LabelsByKey) -> None:
        before = self._labels[key]
        self._labels[key] = after
        self._postings.relabel(key, before, after)
        affected: dict[PodSelection, None] = {}
        for name, value in before.items() ^ after.items():
            affected.update(self._by_hinge.get((key.namespace, name, value), ()))
        for name in before.keys() ^ after.keys():
            affected.update(self._by_hinge.get((key.namespace, name, None), ()))
        for selection in affected:
            was, now = selection.pods.matches(before), selection.pods.matches(after)
            if now and not was:
                self._pick(view, selection, key)
            elif was and not now:
                self._leave(view, selection, key)


def _namespace_labels(view: RelationView, name: str) -> LabelsByKey | None:
    """None: unknown, so no selector that chooses namespaces may see it."""
    labels = labels_of(name, view.rows(NAMESPACE).get(cluster_key(name)))
    return None if labels is None else dict(labels)


def _hinges(selection: PodSelection, namespace: str) -> Iterator[Hinge]:
    for requirement in selection.pods.requirements:
        if requirement.operator in ("Exists", "DoesNotExist"):
            yield namespace, requirement.key, None
        else:
            for value in requirement.values:
                yield namespace, requirement.key, value


def _discard(index: dict[Any, dict[PodSelection, None]], at: Any, selection: PodSelection) -> None:
    """Take a selection out of one list, and the list away with its last one."""
    listed = index.get(at)
    if listed is not None:
        listed.pop(selection, None)
        if not listed:
            del index[at]
