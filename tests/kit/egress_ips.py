"""Random EgressIPs of a cluster, and what happens to them, all of it through the allocator: nodes are lost and come
back (label, readiness, reachability, a drain), objects come, go and change, and a northbound confirms what was
withdrawn.

Addresses are unique and of the nodes' own link (``random_cluster``).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ovnk_core.cluster import Applied, Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import ObjectRef
from tests.kit.questions import load
from tests.kit.random_policy import NAMESPACE_LABELS, POD_LABELS, Manifest

FIRST = {4: parse_address("192.0.2.100"), 6: parse_address("2001:db8:0:1::100")}
Follow = Callable[[Delta], None]


def _ignore(delta: Delta) -> None:
    pass


LOSSES = ("label", "ready", "reachable", "drained")


class EgressIPs:
    """Draws objects into a cluster; ``edit`` makes one change, ``program`` confirms withdrawals. ``nodes``: the
    manifests of the cluster's nodes, which all get the label."""

    def __init__(self, cluster: Cluster, nodes: Iterable[Manifest], seed: int, *, count: int = 4) -> None:
        self.cluster, self.random = cluster, random.Random(seed)
        self.nodes = {each["metadata"]["name"]: each for each in nodes}
        self.lost: dict[str, str] = {}
        self.names = [f"eip-{number}" for number in range(count)]
        for name in sorted(self.nodes):
            cluster.apply(load([self._node(name)]).items)
        for name in self.names:
            self.put(name)

    def put(self, name: str, follow: Follow = _ignore) -> None:
        """An object drawn anew."""
        rng, number = self.random, self.names.index(name)
        addresses = [
            str(FIRST[family] + (8 * number + each))
            for family in self.cluster.network.families
            for each in range(rng.choice((0, 1, 1, 2, 3)))
        ]
        created = rng.choice((None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"))
        manifest = {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressIP",
            "metadata": {"name": name} | ({"creationTimestamp": created} if created else {}),
            "spec": {
                "egressIPs": addresses or [str(FIRST[self.cluster.network.families[0]] + 8 * number)],
                "namespaceSelector": self._selector(NAMESPACE_LABELS),
                "podSelector": self._selector(POD_LABELS),
            },
        }
        self._done(self.cluster.apply(load([manifest]).items), follow)

    def _selector(self, labels: dict[str, tuple[str, ...]]) -> dict[str, Any]:
        rng = self.random
        if rng.random() < 0.5:
            return {}
        key = rng.choice(sorted(labels))
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": [rng.choice(labels[key])]} if operator in ("In", "NotIn") else {}
        return {"matchExpressions": [{"key": key, "operator": operator, **values}]}

    def _node(self, name: str) -> Manifest:
        """A node as it is declared now."""
        node, loss = copy.deepcopy(self.nodes[name]), self.lost.get(name)
        labels = node["metadata"].setdefault("labels", {})
        labels.pop(ASSIGNABLE_LABEL, None)
        if loss != "label":
            labels[ASSIGNABLE_LABEL] = ""
        node["status"]["conditions"] = [{"type": "Ready", "status": "False" if loss == "ready" else "True"}]
        return node

    def lose(self, name: str, how: str, follow: Follow = _ignore) -> None:
        """One node is lost, in one of the ways of ``LOSSES``; empty: it is back."""
        self.lost[name] = how
        self._done(self.cluster.apply(load([self._node(name)]).items), follow)
        health = NodeHealth(is_reachable=how != "reachable", is_drained=how == "drained")
        self._done(self.cluster.report({name: health}), follow)

    @property
    def holders(self) -> dict[str, str]:
        """Address -> the node that holds it."""
        decided = self.cluster.decisions.egress_ips.values()
        return {str(each.address): each.node for one in decided for each in one.assignments}

    def fail_over(self, follow: Follow = _ignore) -> Iterator[None]:
        """What a lost node leads to, to be shown to a northbound at each step: where addresses are; a node that holds
        one is lost, and they are withdrawn; they are elsewhere; the node is back, and more happened since."""
        yield
        holders = sorted(set(self.holders.values()))
        if holders:
            self.lose(self.random.choice(holders), self.random.choice(LOSSES), follow)
        yield
        self.program(follow)
        yield
        for name in sorted(self.lost):
            self.lose(name, "", follow)
        for _ in range(6):
            self.edit(follow)
            if self.random.random() < 0.6:
                self.program(follow)
        yield

    def edit(self, follow: Follow = _ignore) -> None:
        """A node is lost or comes back, or an object is drawn anew, or goes."""
        rng, kind = self.random, self.random.random()
        if kind < 0.5 and self.nodes:
            name = rng.choice(sorted(self.nodes))
            self.lose(name, "" if self.lost.get(name) else rng.choice(LOSSES), follow)
        elif kind < 0.85:
            self.put(rng.choice(self.names), follow)
        else:
            ref = ObjectRef("EgressIP", "", rng.choice(self.names))
            if self.cluster.get(ref) is not None:
                self._done(self.cluster.apply(delete=[ref]), follow)

    def program(self, follow: Follow = _ignore) -> None:
        """The northbound holds the rows as they are now: what was withdrawn may be placed."""
        self._done(self.cluster.withdrawn(self.cluster.leaving), follow)

    @staticmethod
    def _done(applied: Applied, follow: Follow) -> None:
        follow(applied.delta)
