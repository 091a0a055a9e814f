"""Random EgressIPs with recorded decisions, put straight into an engine, and what happens to them: nodes are lost and
come back, objects come, go and change their selectors.

Addresses are unique and of the nodes' own link (``random_cluster``); a node holds one of an object at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.transaction import Delta
from ovnk_core.model.egress_ip import EgressAssignment, EgressIP, EgressIPDecision
from ovnk_core.model.tables import CLUSTER, EGRESS_IP, EGRESS_IP_DECISION, cluster_key
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.label import EVERYTHING, LabelSelector, Requirement
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE
from tests.kit.random_policy import NAMESPACE_LABELS, POD_LABELS

FIRST = {4: parse_address("192.0.2.100"), 6: parse_address("2001:db8:0:1::100")}
Follow = Callable[[Delta], None]


def _ignore(delta: Delta) -> None:
    pass


class EgressIPs:
    """Draws objects and decisions into an engine; ``edit`` makes one change."""

    def __init__(self, engine: Engine, seed: int, *, count: int = 4) -> None:
        self.engine, self.random = engine, random.Random(seed)
        self.lost: set[str] = set()
        self.names = [f"eip-{number}" for number in range(count)]
        for name in self.names:
            self.put(name)

    @property
    def nodes(self) -> list[str]:
        return sorted(key.name for key in self.engine.rows(NODE_PLACE))

    def put(self, name: str, follow: Follow = _ignore) -> None:
        """An object drawn anew, and where its addresses are."""
        rng, number = self.random, self.names.index(name)
        families = self.engine.rows(CLUSTER_NETWORK)[CLUSTER].families
        addresses = tuple(
            FIRST[family] + (8 * number + each) for family in families for each in range(rng.choice((0, 1, 1, 2, 3)))
        )
        item = EgressIP(
            name=name,
            created=rng.choice(("", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")),
            addresses=addresses,
            namespaces=self._selector(NAMESPACE_LABELS),
            pods=self._selector(POD_LABELS),
        )
        with self.engine.transaction() as txn:
            txn.put(EGRESS_IP, cluster_key(name), item)
            txn.put(EGRESS_IP_DECISION, cluster_key(name), self._decision(addresses))
        follow(txn.delta)

    def _selector(self, labels: dict[str, tuple[str, ...]]) -> LabelSelector:
        rng = self.random
        if rng.random() < 0.5:
            return EVERYTHING
        key = rng.choice(sorted(labels))
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = (rng.choice(labels[key]),) if operator in ("In", "NotIn") else ()
        return LabelSelector(requirements=(Requirement(key=key, operator=operator, values=values),))

    def _decision(self, addresses: tuple[Address, ...]) -> EgressIPDecision:
        free = [node for node in self.nodes if node not in self.lost]
        self.random.shuffle(free)
        placed = zip(addresses, free, strict=False)
        return EgressIPDecision(assignments=tuple(EgressAssignment(address=each, node=node) for each, node in placed))

    def edit(self, follow: Follow = _ignore) -> None:
        """A node is lost or comes back, or an object is drawn anew, or goes."""
        rng, kind = self.random, self.random.random()
        if kind < 0.5 and self.nodes:
            self.lost ^= {rng.choice(self.nodes)}
            with self.engine.transaction() as txn:
                for key, item in sorted(self.engine.rows(EGRESS_IP).items()):
                    txn.put(EGRESS_IP_DECISION, key, self._decision(item.addresses))
            follow(txn.delta)
        elif kind < 0.85:
            self.put(rng.choice(self.names), follow)
        else:
            key = cluster_key(rng.choice(self.names))
            with self.engine.transaction() as txn:
                txn.delete(EGRESS_IP, key)
                txn.delete(EGRESS_IP_DECISION, key)
            follow(txn.delta)
