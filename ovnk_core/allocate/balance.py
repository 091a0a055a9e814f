"""Loads as even as can be, with the fewest moves: a minimum-cost flow.

An item sits on one of the nodes it may sit on, and no two items of a group on one node. A state costs the sum of the
squares of the loads first, then the number of items that are not where they were. Every way from one state to another
is made of cycles in the residual graph below, so a state without a cycle of negative cost is the best there is
(Klein's cycle cancelling). Vertices are items, nodes, and one pool that stands for load; a step says who gives way:

* item -> node: it comes to sit there; item -> item of its group: it takes that one's place, which must go elsewhere;
* node -> item: the node sheds one that sits there;
* node -> pool: its load grows by one; pool -> node: it shrinks by one.

Going through the items once, each to the lightest node it may sit on, mostly gets there, and counting tells whether it
did: loads within one of each other cannot be evened further, and what stood above them had to move. Only where nodes
that hold too much may give to some nodes alone, or an item had to give way to another, are cycles looked for.

Cost: O(items times choices); for each cycle some passes over the edges, which are as many.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

Vertex = int | str | None
"""An item's index, a node's name, or None: the pool."""
Edge = tuple[Vertex, Vertex, int]


def balanced(
    loads: Mapping[str, int], groups: Sequence[Hashable], at: Sequence[str], choices: Sequence[Sequence[str]]
) -> dict[int, str]:
    """Item -> node, of the items that have to move.

    ``loads``: of every node, with all that sits there, items or not; ``at``: where each item is, which is one of its
    ``choices``; ``groups``: items of one group may not share a node.
    """
    heaviest = max((loads[node] for node in at), default=0)
    if heaviest - min((loads[node] for nodes in choices for node in nodes), default=0) <= 1:
        return {}
    state = _State(loads, groups, at, choices)
    state.descend()
    if not state.is_surely_best(loads):
        while cycle := _negative_cycle(list(state.edges())):
            state.turn(cycle)
    return {item: node for item, node in enumerate(state.on) if node != at[item]}


class _State:
    """Who sits where, and what a step away from it costs."""

    def __init__(
        self, loads: Mapping[str, int], groups: Sequence[Hashable], at: Sequence[str], choices: Sequence[Sequence[str]]
    ) -> None:
        self._groups, self._at, self._choices = groups, at, choices
        self._loads = dict(loads)
        self.on = list(at)
        self._sitting = {(groups[item], node): item for item, node in enumerate(at)}
        # One unit of squares outweighs every item moved, and moved back, at once.
        self._unit = 2 * len(at) + 1

    def descend(self) -> None:
        """Every item once: to the lightest node that is free for it, where that makes loads more even."""
        for item, node in enumerate(self.on):
            group = self._groups[item]
            free = [other for other in self._choices[item] if (group, other) not in self._sitting]
            lightest = min(free, key=self._loads.__getitem__, default=node)
            if self._loads[lightest] + 2 <= self._loads[node]:
                self._move({item: lightest})

    def is_surely_best(self, before: Mapping[str, int]) -> bool:
        """Whether counting shows that nothing is better; False says nothing. ``before``: the loads there were."""
        nodes = {node for nodes in self._choices for node in nodes}
        low, larger = divmod(sum(before[node] for node in nodes), len(nodes))
        if not all(low <= self._loads[node] <= low + 1 for node in nodes):
            return False
        # ``larger`` nodes end one above ``low``: best those that stood there.
        above = [before[node] - low for node in nodes if before[node] > low]
        needed = sum(above) - min(larger, len(above))
        return sum(home != node for home, node in zip(self._at, self.on, strict=True)) == needed

    def edges(self) -> Iterator[Edge]:
        for item, node in enumerate(self.on):
            home = self._at[item]
            yield node, item, -(node != home)
            for other in self._choices[item]:
                if other == node:
                    continue
                sitting = self._sitting.get((self._groups[item], other))
                if sitting is None:
                    yield item, other, int(other != home)
                else:
                    yield item, sitting, (other != home) - (other != self._at[sitting])
        busy = set(self.on)
        for node, load in self._loads.items():
            yield node, None, self._unit * (2 * load + 1)
            if node in busy:
                yield None, node, -self._unit * (2 * load - 1)

    def turn(self, cycle: Sequence[Vertex]) -> None:
        """Make every step of a cycle."""
        goes: dict[int, str] = {}
        for here, there in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            if isinstance(here, int):
                goes[here] = self.on[there] if isinstance(there, int) else str(there)
        self._move(goes)

    def _move(self, goes: Mapping[int, str]) -> None:
        for item in goes:
            del self._sitting[self._groups[item], self.on[item]]
            self._loads[self.on[item]] -= 1
        for item, node in goes.items():
            self.on[item] = node
            self._sitting[self._groups[item], node] = item
            self._loads[node] += 1


def _negative_cycle(edges: Sequence[Edge]) -> list[Vertex]:
    """Vertices of a cycle of negative cost, in order; empty if there is none (Bellman and Ford, from everywhere)."""
    distance: dict[Vertex, int] = {}
    parent: dict[Vertex, Vertex] = {}
    while True:
        is_changed = False
        for here, there, cost in edges:
            reached = distance.get(here, 0) + cost
            if reached < distance.get(there, 0):
                distance[there], parent[there], is_changed = reached, here, True
        if not is_changed:
            return []
        if cycle := _cycle_of(parent):
            return cycle


def _cycle_of(parent: Mapping[Vertex, Vertex]) -> list[Vertex]:
    """A cycle among parents, in the direction of the edges. A relaxed edge closes one only if it is negative."""
    done: set[Vertex] = set()
    for start in parent:
        path: dict[Vertex, None] = {}
        at = start
        while at in parent and at not in done and at not in path:
            path[at] = None
            at = parent[at]
        if at in path:
            walked = list(path)
            return walked[walked.index(at) :][::-1]
        done |= path.keys()
    return []
