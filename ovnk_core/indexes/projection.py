"""From selected pods to members of a set: addresses of an address set, ports of a port group, port numbers.

A ``Binding`` says "this target is fed by that selection, seen through this projection". Targets fed by several
selections hold the union: elements are counted. A pod event costs O(bindings of the selections it is in).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, assert_never

from ovnk_core.engine.relation import RelationView
from ovnk_core.engine.table import SetTable
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.indexes.selection import SELECTED, PodSelection
from ovnk_core.nb.desired import MEMBER
from ovnk_core.nb.naming import pod_port_row
from ovnk_core.nb.row import ColumnId
from ovnk_core.terms.address import Family
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Key


class PortsOf(Key, frozen=True, cache_hash=True):
    """The pod's logical switch port."""


class AddressesOf(Key, frozen=True, cache_hash=True):
    """The pod's addresses of one family."""

    family: Family


class AddressesListening(Key, frozen=True, cache_hash=True):
    """The pod's addresses of one family, if it names the port and the name stands for ``number``."""

    family: Family
    protocol: Transport
    port: str
    number: int


class NumbersOf(Key, frozen=True, cache_hash=True):
    """What numbers the port name stands for on the pod."""

    protocol: Transport
    port: str


Projection = PortsOf | AddressesOf | AddressesListening | NumbersOf


class Binding(Key, frozen=True, cache_hash=True):
    selection: PodSelection
    projection: Projection


class PortName(Key, frozen=True, cache_hash=True):
    """A port name asked of the pods of one selection."""

    selection: PodSelection
    protocol: Transport
    name: str


MEMBER_BINDING = SetTable[ColumnId, Binding]("nb.member.binding")
PORT_NUMBER = SetTable[PortName, int]("port_number")
PORT_NUMBER_WANT = SetTable[PortName, Hashable]("port_number.want")


def project(projection: Projection, endpoint: Endpoint) -> Iterable[Any]:
    """Elements one endpoint contributes, each once."""
    match projection:
        case PortsOf():
            return (pod_port_row(endpoint.key),)
        case AddressesOf(family):
            return _addresses(endpoint, family)
        case AddressesListening(family, protocol, name, number):
            is_listening = any(
                port.number == number and port.name == name and port.protocol == protocol for port in endpoint.ports
            )
            return _addresses(endpoint, family) if is_listening else ()
        case NumbersOf(protocol, name):
            return {port.number for port in endpoint.ports if port.name == name and port.protocol == protocol}
        case _ as never:
            assert_never(never)


def _addresses(endpoint: Endpoint, family: Family) -> list[str]:
    return [str(address) for address in endpoint.addresses if address.family == family]


_UNCHANGED = (None, None)


class _Projected:
    """Shared body of the two relations: bindings x selected endpoints -> counted elements of targets.

    ``_targets`` are what each bound selection feeds, ``_selections`` the bound selections each pod is in.
    """

    name: str
    binding: SetTable[Any, Any]
    target: SetTable[Any, Any]
    bindings_of: Callable[[Any, Any], tuple[Binding, ...]]

    def __init__(self) -> None:
        self._bindings: dict[Any, set[Binding]] = {}
        self._targets: dict[PodSelection, dict[tuple[Any, Projection], None]] = {}
        self._selections: dict[NamespacedName, set[PodSelection]] = {}

    def rebuild(self, view: RelationView) -> None:
        self._bindings, self._targets, self._selections = {}, {}, {}
        for target in view.sets(self.binding):
            self._bindings[target] = self._wanted(view, target)
            for binding in self._bindings[target]:
                self._targets.setdefault(binding.selection, {})[(target, binding.projection)] = None
        endpoints = view.rows(ENDPOINT)
        for selection in self._targets:
            for pod in view.members(SELECTED, selection):
                self._selections.setdefault(pod, set()).add(selection)
                self._emit(view, selection, endpoints[pod], add=True)

    def step(self, view: RelationView) -> None:
        """Old bindings see old members with old rows leave; then new bindings see new members arrive."""
        self._step_members(view)
        self._step_endpoints(view)
        for target in view.set_changes(self.binding):
            self._rebind(view, target)

    def _step_members(self, view: RelationView) -> None:
        changes = view.set_changes(SELECTED)
        bound = [(selection, change) for selection, change in changes.items() if selection in self._targets]
        for selection, (_, vanished) in bound:
            for pod in vanished:
                self._forget(pod, selection)
                self._emit(view, selection, _before(view, pod), add=False)
        for selection, (appeared, _) in bound:
            for pod in appeared:
                self._selections.setdefault(pod, set()).add(selection)
                # A pod that stays an endpoint joins with its old row; _step_endpoints then moves every set it is in.
                self._emit(view, selection, _before(view, pod), add=True)

    def _step_endpoints(self, view: RelationView) -> None:
        for key, (was, now) in view.changes(ENDPOINT).items():
            if was is None or now is None or (was.addresses == now.addresses and was.ports == now.ports):
                continue
            for selection in self._selections.get(key, ()):
                self._emit(view, selection, was, add=False)
                self._emit(view, selection, now, add=True)

    def _emit(self, view: RelationView, selection: PodSelection, endpoint: Endpoint, *, add: bool) -> None:
        change = view.add if add else view.remove
        for target, projection in self._targets.get(selection, ()):
            for element in project(projection, endpoint):
                change(self.target, target, element)

    def _rebind(self, view: RelationView, target: Any) -> None:
        """Bring the bindings of one target from what they were to what its wants now say."""
        was = self._bindings.get(target, set())
        now = self._wanted(view, target)
        for binding in was - now:
            self._fill(view, target, binding, add=False)
            targets = self._targets[binding.selection]
            del targets[(target, binding.projection)]
            if not targets:
                del self._targets[binding.selection]
                for pod in view.members(SELECTED, binding.selection):
                    self._forget(pod, binding.selection)
        for binding in now - was:
            if binding.selection not in self._targets:
                self._targets[binding.selection] = {}
                for pod in view.members(SELECTED, binding.selection):
                    self._selections.setdefault(pod, set()).add(binding.selection)
            self._targets[binding.selection][(target, binding.projection)] = None
            self._fill(view, target, binding, add=True)
        if now:
            self._bindings[target] = now
        else:
            self._bindings.pop(target, None)

    def _forget(self, pod: NamespacedName, selection: PodSelection) -> None:
        mine = self._selections[pod]
        mine.discard(selection)
        if not mine:
            del self._selections[pod]

    def _fill(self, view: RelationView, target: Any, binding: Binding, *, add: bool) -> None:
        """All that one binding contributes to its target, in or out."""
        endpoints, change = view.rows(ENDPOINT), view.add if add else view.remove
        for pod in view.members(SELECTED, binding.selection):
            for element in project(binding.projection, endpoints[pod]):
                change(self.target, target, element)

    def _wanted(self, view: RelationView, target: Any) -> set[Binding]:
        wants = view.members(self.binding, target)
        return {binding for want in wants for binding in type(self).bindings_of(target, want)}


def _before(view: RelationView, pod: NamespacedName) -> Endpoint:
    """The endpoint as it was before this transaction; one that is new, as it is."""
    was, now = view.changes(ENDPOINT).get(pod, _UNCHANGED)
    found: Endpoint = was or now or view.rows(ENDPOINT)[pod]
    return found


class Members(_Projected):
    """Bindings of rows' columns -> members of those columns."""

    name = "indexes.members"
    binding, target = MEMBER_BINDING, MEMBER
    inputs = (ENDPOINT, SELECTED, MEMBER_BINDING)
    out = (MEMBER,)

    @staticmethod
    def bindings_of(target: ColumnId, want: Binding) -> tuple[Binding, ...]:
        return (want,)


class PortNumbers(_Projected):
    """Port names asked of a selection -> the numbers they stand for on its pods."""

    name = "indexes.port_numbers"
    binding, target = PORT_NUMBER_WANT, PORT_NUMBER
    inputs = (ENDPOINT, SELECTED, PORT_NUMBER_WANT)
    out = (PORT_NUMBER,)

    @staticmethod
    def bindings_of(target: PortName, want: Hashable) -> tuple[Binding, ...]:
        return (Binding(target.selection, NumbersOf(target.protocol, target.name)),)
