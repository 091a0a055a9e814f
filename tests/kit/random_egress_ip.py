"""Random EgressIPs over few addresses and nodes, so that two really want the same, and what happens to nodes.

``EgressIPMaker`` draws from a ``random.Random`` of its own: worlds without egress IPs stay what they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from tests.kit.random_policy import NAMESPACE_LABELS, POD_LABELS, Manifest, random_labels

POOL = {4: [f"192.0.2.{100 + at}" for at in range(12)], 6: [f"2001:db8:0:1::{0x100 + at:x}" for at in range(12)]}
ODD = {4: ("192.0.2.11", "198.51.100.77", "10.128.0.5"), 6: ("2001:db8:0:1::11", "2001:db8:7::1", "fd02::5")}
NAMES = tuple(f"eip-{at}" for at in range(6))


class EgressIPMaker:
    """``numbers``: the cluster's families. ``is_pinned``: no node may hold any, so that nothing is left to decide."""

    def __init__(self, seed: int, numbers: Callable[[], Sequence[int]], *, is_pinned: bool = False) -> None:
        self.rng, self.numbers, self.is_pinned = random.Random(f"egress {seed}"), numbers, is_pinned

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def mark(self, node: Manifest) -> None:
        """Label a node, or take its label, and say whether it is Ready."""
        labels: dict[str, str] = node["metadata"].setdefault("labels", {})
        labels.pop(ASSIGNABLE_LABEL, None)
        if self.chance(0.75) and not self.is_pinned:
            labels[ASSIGNABLE_LABEL] = self.rng.choice(("", "true", "false"))
        status = "True" if self.chance(0.9) else self.rng.choice(("False", "Unknown"))
        node["status"]["conditions"] = [{"type": "Ready", "status": status}]

    def health(self) -> NodeHealth:
        return NodeHealth(is_reachable=self.chance(0.6), is_drained=self.chance(0.15))

    def egress_ip(self, name: str = "") -> Manifest:
        rng = self.rng
        spec: dict[str, Any] = {"egressIPs": self._addresses(), "namespaceSelector": self._selector(NAMESPACE_LABELS)}
        if self.chance(0.5):
            spec["podSelector"] = self._selector(POD_LABELS)
        meta: Manifest = {"name": name or rng.choice(NAMES)}
        if self.chance(0.6):
            meta["creationTimestamp"] = f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"
        return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": meta, "spec": spec}

    def _addresses(self) -> list[str]:
        rng, found = self.rng, dict[str, None]()
        for _ in range(rng.choice((1, 1, 2, 3))):
            family = rng.choice(self.numbers())
            found[rng.choice(POOL[family] if self.chance(0.92) else ODD[family])] = None
        return list(found)

    def _selector(self, labels: dict[str, tuple[str, ...]]) -> Manifest:
        """Everything, a label, or an expression; ``NotIn`` also picks what lacks the label."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.35:
            return {}
        if kind < 0.6:
            return {"matchLabels": random_labels(rng, labels)}
        key = rng.choice(sorted(labels))
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": [rng.choice(labels[key])]} if operator in ("In", "NotIn") else {}
        return {"matchExpressions": [{"key": key, "operator": operator, **values}]}
