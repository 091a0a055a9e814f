"""Random NetworkPolicies: every shape the API allows, over alphabets so small that selectors really hit.

``PolicyMaker`` draws from one ``random.Random``; the addresses its blocks are cut around come from the caller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Manifest = dict[str, Any]
Alphabet = Mapping[str, tuple[str, ...]]

POD_LABELS = {"app": ("web", "db", "api"), "tier": ("front", "back")}
NAMESPACE_LABELS = {"team": ("red", "blue"), "env": ("prod", "dev")}
PORT_NAMES = ("http", "web", "dns", "metrics")
PORT_NUMBERS = (53, 80, 443, 8080, 9090)
PROTOCOLS = ("TCP", "UDP", "SCTP")
NAME_LABEL = "kubernetes.io/metadata.name"


def random_labels(rng: random.Random, alphabet: Alphabet) -> dict[str, str]:
    return {key: rng.choice(values) for key, values in alphabet.items() if rng.random() < 0.75}


class PolicyMaker:
    """Makes policies for ``namespaces``; ``address`` draws an address worth cutting a block around, as text."""

    def __init__(self, rng: random.Random, namespaces: Sequence[str], address: Callable[[], str]) -> None:
        self.rng, self.namespaces, self.address = rng, namespaces, address

    def policy(self, name: str, namespace: str) -> Manifest:
        rng = self.rng
        spec: Manifest = {"podSelector": {} if rng.random() < 0.35 else self.selector(POD_LABELS)}
        if rng.random() < 0.75:
            spec["ingress"] = self.rules("from")
        if rng.random() < 0.6:
            spec["egress"] = self.rules("to")
        types = rng.choice((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"], []))
        if types is not None:
            spec["policyTypes"] = types
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }

    def rules(self, peers: str) -> list[Manifest]:
        return [self.rule(peers) for _ in range(self.rng.choice((0, 1, 1, 2, 3)))]

    def rule(self, peers: str) -> Manifest:
        rng = self.rng
        found: Manifest = {}
        if rng.random() < 0.85:
            found[peers] = [self.peer() for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))]
        if rng.random() < 0.7:
            found["ports"] = [self.port() for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        return found

    def peer(self) -> Manifest:
        kind = self.rng.choice(("pods", "namespaces", "both", "block", "block"))
        if kind == "block":
            return {"ipBlock": self.block()}
        found: Manifest = {}
        if kind in ("pods", "both"):
            found["podSelector"] = self.selector(POD_LABELS)
        if kind in ("namespaces", "both"):
            found["namespaceSelector"] = self.namespace_selector()
        return found

    def namespace_selector(self) -> Manifest:
        if self.rng.random() < 0.2:
            return {"matchLabels": {NAME_LABEL: self.rng.choice(self.namespaces)}}
        return self.selector(NAMESPACE_LABELS)

    def selector(self, alphabet: Alphabet) -> Manifest:
        rng, shape = self.rng, self.rng.random()
        found: Manifest = {}
        if shape < 0.2:
            return {}
        if shape < 0.65:
            keys = rng.sample(sorted(alphabet), rng.choice((1, 1, 2)))
            found["matchLabels"] = {key: rng.choice(alphabet[key]) for key in keys}
        if shape > 0.55:
            found["matchExpressions"] = [self.expression(alphabet) for _ in range(rng.choice((1, 1, 2)))]
        return found

    def expression(self, alphabet: Alphabet) -> Manifest:
        rng = self.rng
        key = rng.choice((*sorted(alphabet), "absent"))
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        if operator in ("Exists", "DoesNotExist"):
            return {"key": key, "operator": operator}
        values = alphabet.get(key, ("some",))
        return {"key": key, "operator": operator, "values": rng.sample(values, rng.randint(1, len(values)))}

    def block(self) -> Manifest:
        """A prefix of any length around an interesting address, with up to three holes strictly inside it."""
        rng = self.rng
        address = ip_address(self.address())
        lengths = (
            (0, 8, 14, 16, 22, 24, 28, 30, 31, 32) if address.version == 4 else (0, 16, 48, 64, 120, 126, 127, 128)
        )
        network = ip_network((address, rng.choice(lengths)), strict=False)
        found: Manifest = {"cidr": str(network)}
        if network.prefixlen < network.max_prefixlen and rng.random() < 0.6:
            holes = [self.hole(network, address) for _ in range(rng.randint(1, 3))]
            found["except"] = holes
        return found

    def hole(self, network: Any, address: Any) -> str:
        rng = self.rng
        inside = [str(address), str(network[0]), str(network[-1])]
        if (other := ip_address(self.address())) in network:
            inside.append(str(other))
        prefix = rng.choice((network.max_prefixlen, rng.randint(network.prefixlen + 1, network.max_prefixlen)))
        return str(ip_network((rng.choice(inside), prefix), strict=False))

    def port(self) -> Manifest:
        rng = self.rng
        found: Manifest = {}
        if rng.random() < 0.7:
            found["protocol"] = rng.choice(PROTOCOLS)
        kind = rng.choice(("number", "number", "name", "range", "none"))
        if kind == "number":
            found["port"] = rng.choice(PORT_NUMBERS)
        elif kind == "name":
            found["port"] = rng.choice((*PORT_NAMES, "nobody"))
        elif kind == "range":
            found["port"] = rng.choice((1, 50, 80, 8000, 65530))
            found["endPort"] = rng.choice((found["port"], found["port"] + 5, 65535))
        return found
