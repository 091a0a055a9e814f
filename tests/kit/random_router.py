"""Random egress routers: definitions of few names in few namespaces, and pods that name them, or what nobody defines.

``RouterMaker`` draws from a ``random.Random`` of its own: worlds without egress routers stay what they were.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.kit import manifest as build
from tests.kit.random_policy import Manifest

DESTINATIONS: tuple[list[str], ...] = (
    ["198.51.100.60/32"],
    ["80 tcp 198.51.100.60", "8080 udp 198.51.100.61 53"],
    ["443 sctp 192.0.2.7"],
    ["10.128.0.9"],
    [],
)
NAMES = ("router", "other")
NETWORKS = "k8s.v1.cni.cncf.io/networks"


class RouterMaker:
    """``numbers``: the cluster's families."""

    def __init__(self, seed: int, numbers: Callable[[], Sequence[int]]) -> None:
        self.rng, self.numbers = random.Random(f"egress router {seed}"), numbers

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def definition(self, namespaces: Sequence[str]) -> Manifest:
        name, namespace = self.rng.choice(NAMES), self.rng.choice(namespaces)
        if self.rng.choice(self.numbers()) == 4:
            ip: dict[str, Any] = {"destinations": self.rng.choice(DESTINATIONS)}
        else:
            ip = {"addresses": ["fd00::99/64"], "destinations": ["2001:db8::60"], "gateway": "fd00::1"}
        return build.network_attachment(name, namespace, **ip)

    def attach(self, pod: Manifest) -> Manifest:
        """A pod that names other networks than before, or none."""
        named = self.rng.sample((*NAMES, "alpha/router", "missing@x0"), self.rng.randint(0, 2))
        pod["metadata"].setdefault("annotations", {})[NETWORKS] = ", ".join(named)
        return pod
