"""Which node holds which egress IP.

Of several objects that name an address the one that holds it keeps it, through moves, too; where none does, or its
holder finds no node for it, the oldest has it (creationTimestamp), then the first by name. Each placement goes to a
node with the fewest addresses over all objects, ties by name, so that as many addresses of the object are placed as
can be: no node holds two of one object. What is placed stays until its node cannot hold it any more or its object
changes; what comes back to life later is not given its addresses back, so a cluster whose labels come late is uneven
until ``rebalance``.

A move takes two steps. An address that must leave is withdrawn and stands in ``leaving``; nobody may place it, on
whatever node and for whatever object, before ``withdrawn`` says that no northbound holds it any more.

Sources: manual 15.9.1.2, 15.9.1.4; docs/sources.md, egress IP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ovnk_core.allocate.balance import balanced
from ovnk_core.allocate.egress_node import ASSUMED, SUPPORTED_PLATFORMS, EgressNode
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.egress_ip import (
    OF_NODE,
    EgressAssignment,
    EgressIP,
    EgressIPDecision,
    UnassignedAddress,
    UnassignedReason,
)
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName

Key = NamespacedName
Changes = dict[Key, EgressIPDecision | None]
Objects = Mapping[Key, EgressIP]
Leaving = Mapping[Key, tuple[EgressAssignment, ...]]
"""By object, what was withdrawn from nodes."""
_NOWHERE = EgressIPDecision()


class EgressIPAllocator:
    """Holds who has which address where. ``decisions`` are in force."""

    def __init__(self, network: ClusterNetwork, recorded: Mapping[Key, EgressIPDecision]) -> None:
        self._network = network
        self.decisions: dict[Key, EgressIPDecision] = {}
        self._platform = ""
        self._nodes: dict[str, EgressNode] = {}
        self._taken: dict[Address, dict[str, str]] = {}
        self._named: dict[Key, tuple[Address, ...]] = {}
        self._claims: dict[Address, set[Key]] = {}
        self._held: dict[str, set[tuple[Key, Address]]] = {}
        self._leaving: dict[Address, set[Key]] = {}
        self._waiting: set[Key] = set()
        self._returning: set[tuple[Key, Address]] = set()
        for key, decision in recorded.items():
            self._record(key, decision)

    # ------------------------------------------------------------------ what it hears

    def settle(
        self, objects: Objects, changed: Iterable[Key], nodes: Mapping[str, EgressNode | None], platform: str
    ) -> Changes:
        """Place what changed and what waits; decisions that changed (None: dropped).

        ``nodes``: those that may have changed; None is gone. Cost: O(listed), and where that leads to anything the
        objects it concerns and those that wait, each times the nodes that could hold their addresses.
        """
        touched = self._take_objects(objects, changed)
        for name, node in nodes.items():
            touched |= self._take_node(name, node)
        if platform != self._platform:
            self._platform = platform
            touched |= self._named.keys()
        if not touched:
            return {}
        touched |= self._waiting
        return self._settle(objects, touched)

    def withdrawn(self, objects: Objects, leaving: Leaving) -> Changes:
        """No northbound holds these any more: their addresses may be placed. What is not leaving is passed over."""
        before: Changes = {}
        touched: set[Key] = set()
        for key, gone in leaving.items():
            decision = self.decisions.get(key, _NOWHERE)
            if any(each in decision.leaving for each in gone):
                before[key] = decision
                self._record(key, replace(decision, leaving=tuple(e for e in decision.leaving if e not in gone)))
                touched |= {key}.union(*(self._claims.get(each.address, ()) for each in gone))
                self._returning |= {(key, each.address) for each in gone}
        return self._settle(objects, touched | self._waiting, before, evens=True) if touched else {}

    def rebalance(self, objects: Objects) -> Changes:
        """Withdraw what has to move so that the sum of squares of the nodes' loads is least, with the fewest moves.

        Nodes that could hold the same addresses then differ by one at most. Cost: ``balanced``, of everything placed.
        """
        moving = self.imbalance
        before: Changes = {key: self.decisions[key] for key, _ in moving}
        for key in before:
            self._keep(key, tuple(each for each in self._assignments(key) if (key, each.address) not in moving))
        # Where one left there may be room for another of its object that waited for it.
        return self._settle(objects, {*before, *self._waiting}, before) if moving else {}

    @property
    def imbalance(self) -> dict[tuple[Key, Address], str]:
        """What ``rebalance`` would withdraw, and the node that each would come to if nothing else changed."""
        placed = [
            (key, each.address, each.node)
            for key in sorted(self._named.keys() & self.decisions.keys())
            for each in self.decisions[key].assignments
        ]
        return self._evened(placed)

    @property
    def leaving(self) -> Leaving:
        """What waits for its withdrawal to be Programmed."""
        keys = {key for owners in self._leaving.values() for key in owners}
        return {key: self.decisions[key].leaving for key in sorted(keys)}

    @property
    def loads(self) -> dict[str, int]:
        """Addresses on each node that may hold any, by name."""
        return {name: len(self._held.get(name, ())) for name in sorted(self._nodes) if self._nodes[name].subnets}

    # ------------------------------------------------------------------ taking in

    def _take_objects(self, objects: Objects, changed: Iterable[Key]) -> set[Key]:
        touched: set[Key] = set()
        for key in changed:
            before = self._named.pop(key, ())
            for address in before:
                self._claims[address].discard(key)
                if not self._claims[address]:
                    del self._claims[address]
            named = objects[key].addresses if key in objects else ()
            for address in named:
                self._claims.setdefault(address, set()).add(key)
            if key in objects:
                self._named[key] = named
            if key in objects or key in self.decisions:
                touched.add(key)
            for address in {*before, *named}:
                touched |= self._claims.get(address, set())
        return touched

    def _take_node(self, name: str, node: EgressNode | None) -> set[Key]:
        """A node as it is now; the objects that this may concern, apart from those that wait."""
        before = self._nodes.get(name)
        if before == node:
            return set()
        self._nodes.pop(name, None)
        if node is not None:
            self._nodes[name] = node
        old, new = dict((before or EgressNode()).taken), dict((node or EgressNode()).taken)
        for address in old:
            del self._taken[address][name]
            if not self._taken[address]:
                del self._taken[address]
        for address, what in new.items():
            self._taken.setdefault(address, {})[name] = what
        touched = {key for address in old | new for key in self._claims.get(address, ())}
        return touched | {key for key, _ in self._held.get(name, ())} | self._waiting

    # ------------------------------------------------------------------ deciding

    def _settle(
        self, objects: Objects, touched: set[Key], before: Changes | None = None, *, evens: bool = False
    ) -> Changes:
        """``evens``: what is placed here is spread as evenly as can be, not only one after the other."""
        before = {**{key: self.decisions.get(key) for key in touched}, **(before or {})}
        present = sorted((key for key in touched if key in self._named), key=lambda key: _age(objects[key]))
        for key in touched - self._named.keys():
            self._keep(key, ())
        # Who has to go goes before anybody is placed: a node's load is what stays on it.
        for key in present:
            self._keep(key, tuple(each for each in self._assignments(key) if self._may_stay(objects, key, each)))
        fresh = self._place(objects, present)
        while lost := self._returning - {(key, address) for key, address, _ in fresh}:
            # Whose address has left its node comes first; what finds no node then is anybody's. All is placed anew,
            # since an object that may have one more may need other nodes for the rest.
            self._returning -= lost
            for key, address, _ in fresh:
                self._put(key, address, None)
            fresh = self._place(objects, present)
        self._returning.clear()
        for (key, address), node in self._evened(fresh).items() if evens else ():
            self._put(key, address, node)
        for key in present:
            self._describe(objects, key)
        return self._changes(before)

    def _place(self, objects: Objects, keys: Iterable[Key]) -> list[tuple[Key, Address, str]]:
        fresh: list[tuple[Key, Address, str]] = []
        for key in keys:
            for address, node in self._new(objects, objects[key]).items():
                self._put(key, address, node)
                fresh.append((key, address, node))
        return fresh

    def _changes(self, before: Changes) -> Changes:
        return {key: self.decisions.get(key) for key, old in before.items() if self.decisions.get(key) != old}

    def _assignments(self, key: Key) -> tuple[EgressAssignment, ...]:
        return self.decisions.get(key, _NOWHERE).assignments

    def _may_stay(self, objects: Objects, key: Key, each: EgressAssignment) -> bool:
        node = self._nodes.get(each.node)
        is_named = each.address in objects[key].addresses
        return (
            is_named and node is not None and node.takes(each.address) and not self._fault(objects, key, each.address)
        )

    def _fault(self, objects: Objects, key: Key, address: Address) -> tuple[UnassignedReason, str] | None:
        """Why no node may hold an address for an object, whatever the nodes are like."""
        if self._platform not in SUPPORTED_PLATFORMS:
            return "Platform", f"egress IPs are not supported on platform {self._platform}"
        if why := self._network.why_not_a_host(address):
            return "Conflict", why
        if address in self._taken:
            what, name = min((what, name) for name, what in self._taken[address].items())
            return "Conflict", f"is {what}{OF_NODE}{name}"
        owner = min(self._claims[address], key=lambda each: self._precedence(objects[each], address))
        if owner != key:
            return "Conflict", f"is held by EgressIP {owner.name}"
        return None

    def _precedence(self, item: EgressIP, address: Address) -> tuple[bool, bool, str, str]:
        decision = self.decisions.get(item.key, _NOWHERE)
        is_held = any(each.address == address for each in (*decision.assignments, *decision.leaving))
        return not (is_held or (item.key, address) in self._returning), *_age(item)

    def _new(self, objects: Objects, item: EgressIP) -> dict[Address, str]:
        """Nodes for addresses that are on none: a matching that is largest, and of these one whose nodes come first by
        load and name. Sets of nodes that can be matched together are a matroid, so taking them greedily in that order
        is right; which of the addresses a node gets may change until the last is found."""
        held = {each.address: each.node for each in self._assignments(item.key)}
        found: dict[Address, str] = {}
        wanting = [
            address
            for address in item.addresses
            if address not in held and address not in self._leaving and not self._fault(objects, item.key, address)
        ]
        if not wanting:
            return {}
        usable = [name for name, node in self._nodes.items() if node.subnets and name not in held.values()]
        for name in sorted(usable, key=lambda name: (len(self._held.get(name, ())), name)):
            if len(found) == len(wanting):
                break
            self._augment(name, wanting, found, set())
        return found

    def _augment(self, name: str, wanting: list[Address], found: dict[Address, str], tried: set[Address]) -> bool:
        """Find an address for a node, if need be by finding another one for the node that has it."""
        fitting = [address for address in wanting if self._nodes[name].takes(address) and address not in tried]
        for address in sorted(fitting, key=lambda address: address in found):
            tried.add(address)
            if address not in found or self._augment(found[address], wanting, found, tried):
                found[address] = name
                return True
        return False

    def _evened(self, movable: list[tuple[Key, Address, str]]) -> dict[tuple[Key, Address], str]:
        """Where each address that has to move goes."""
        loads = self.loads
        pinned = {(key, each.node) for key, _, _ in movable for each in self._assignments(key)}
        pinned -= {(key, node) for key, _, node in movable}
        choices = [
            [name for name in loads if self._nodes[name].takes(address) and (key, name) not in pinned]
            for key, address, _ in movable
        ]
        moved = balanced(loads, [key for key, _, _ in movable], [node for _, _, node in movable], choices)
        return {movable[index][:2]: node for index, node in moved.items()}

    # ------------------------------------------------------------------ what is said

    def _describe(self, objects: Objects, key: Key) -> None:
        """The decision as it is told: in the object's order, with a reason for what is on no node."""
        decision, item = self.decisions[key], objects[key]
        on = {each.address: each for each in decision.assignments}
        self._record(
            key,
            EgressIPDecision(
                assignments=tuple(on[address] for address in item.addresses if address in on),
                unassigned=tuple(self._reason(objects, item, each) for each in item.addresses if each not in on),
                leaving=decision.leaving,
            ),
        )

    def _reason(self, objects: Objects, item: EgressIP, address: Address) -> UnassignedAddress:
        fault = self._fault(objects, item.key, address)
        if fault is None and address in self._leaving:
            fault = "Moving", "was withdrawn from its node, which the northbound has not confirmed yet"
        reason, message = fault or self._why_nowhere(address)
        return UnassignedAddress(address=address, reason=reason, message=message)

    def _why_nowhere(self, address: Address) -> tuple[UnassignedReason, str]:
        nodes = [node for node in self._nodes.values() if node.subnets]
        if not nodes:
            return "NoNode", "no node is labelled k8s.ovn.org/egress-assignable, Ready, reachable and not drained"
        if not any(node.takes(address) for node in nodes):
            doubt = f"; some are {ASSUMED}" if any(address.family in node.assumed for node in nodes) else ""
            return "Subnet", f"lies in the primary subnet of no node that could hold it{doubt}"
        return "Capacity", "every node that could hold it holds another address of this EgressIP"

    # ------------------------------------------------------------------ books

    def _keep(self, key: Key, kept: tuple[EgressAssignment, ...]) -> None:
        """Withdraw what is not kept; reasons are given anew by ``_describe``."""
        decision = self.decisions.get(key, _NOWHERE)
        gone = {*decision.leaving, *decision.assignments} - {*kept}
        leaving = tuple(sorted(gone, key=lambda each: (each.address, each.node)))
        self._record(key, EgressIPDecision(assignments=kept, leaving=leaving))

    def _put(self, key: Key, address: Address, node: str | None) -> None:
        """Place an address, or (None) take it back; where it was placed a moment ago nobody has seen it."""
        decision = self.decisions[key]
        found = tuple(each for each in decision.assignments if each.address != address)
        found += () if node is None else (EgressAssignment(address=address, node=node),)
        self._record(key, replace(decision, assignments=found))

    def _record(self, key: Key, decision: EgressIPDecision) -> None:
        """Put a decision in force; one that says nothing of nobody is dropped."""
        before = self.decisions.pop(key, _NOWHERE)
        for each in before.assignments:
            self._held[each.node].discard((key, each.address))
        for each in before.leaving:
            self._leaving[each.address].discard(key)
            if not self._leaving[each.address]:
                del self._leaving[each.address]
        self._waiting.discard(key)
        if key not in self._named and decision == _NOWHERE:
            return
        self.decisions[key] = decision
        for each in decision.assignments:
            self._held.setdefault(each.node, set()).add((key, each.address))
        for each in decision.leaving:
            self._leaving.setdefault(each.address, set()).add(key)
        if decision.unassigned:
            self._waiting.add(key)


def _age(item: EgressIP) -> tuple[bool, str, str]:
    """Oldest first; last who does not say how old it is."""
    return not item.created, item.created, item.name
