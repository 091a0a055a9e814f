"""The bench's rule shapes as EgressFirewall manifests, with seeded verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from bench import rule_sets
from ovnk_core.kernels.classifier import Rule
from tests.kit.random_policy import Manifest

SHAPES: dict[str, Callable[..., list[Rule]]] = {
    name: getattr(rule_sets, name)
    for name in ("hosts", "dense", "nested", "ports", "half", "realistic", "hosts6", "realistic6")
}
NUMBERS = {6: "TCP", 17: "UDP", 132: "SCTP"}


def shaped_firewall(shape: str, count: int, seed: int, namespace: str = "a") -> Manifest:
    """``count`` rules of a shape; verdicts drawn from the seed, the last rule denies."""
    rng = random.Random(seed)
    rules = SHAPES[shape](count, seed)
    words = [*("Allow" if rng.random() < 0.7 else "Deny" for _ in rules[:-1]), "Deny"]
    return firewall(_entries(rules, words), namespace)


def firewall(entries: Sequence[Manifest], namespace: str = "a") -> Manifest:
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"egress": list(entries)},
    }


def _entries(rules: Sequence[Rule], words: Sequence[str]) -> list[Manifest]:
    found: list[Manifest] = []
    for rule, word in zip(rules, words, strict=True):
        family, network, length = rule.prefixes[0]
        text = str(IPv4Address(network) if family == 4 else IPv6Address(network))
        entry: dict[str, Any] = {"type": word, "to": {"cidrSelector": f"{text}/{length}"}}
        if rule.ports:
            entry["ports"] = [{"protocol": NUMBERS[number], "port": port} for number, port in rule.ports]
        found.append(entry)
    return found
