"""What a Python program would otherwise do: a prefix tree with a chain of rules, or a scan of the list with numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytricia

from bench.rule_sets import WIDTH, Flows
from ovnk_core.kernels.classifier import Rule

Question = tuple[int, int, int]
"""Address, protocol, port."""
NO_RULE = 1 << 30
ANY = (-1, -1)


class _Node(NamedTuple):
    """``rules``: (protocol, port), or ``ANY``, -> first rule of this very prefix; ``around``: the next wider one."""

    rules: dict[tuple[int, int], int]
    around: Any


def pytricia_tree(rules: Sequence[Rule]) -> Any:
    """A pytricia tree of one family without whole-protocol ports: prefix -> ``_Node``, parents linked beforehand."""
    found: dict[tuple[int, int], dict[tuple[int, int], int]] = {}
    for number, (prefixes, ports) in enumerate(rules):
        for _, network, length in prefixes:
            here = found.setdefault((length, network), {})
            for pair in ports or (ANY,):
                here.setdefault(pair, number)
    width = WIDTH[rules[-1].prefixes[0].family]
    tree = pytricia.PyTricia(width)
    for length, network in sorted(found):
        key = network if width == 32 else network.to_bytes(16, "big")
        tree.insert(key, length, _Node(found[length, network], tree.get(key)))
    return tree


def longest_prefix(tree: Any) -> Callable[[Question], object]:
    """The tree alone: the longest prefix, no ports, no order of rules."""
    get = tree.get

    def ask(question: Question) -> object:
        return get(question[0])

    return ask


def first_match(tree: Any) -> Callable[[Question], int]:
    """First match by walking from the longest prefix outwards."""
    get = tree.get

    def ask(question: Question) -> int:
        address, protocol, port = question
        first, pair, node = NO_RULE, (protocol, port), get(address)
        while node is not None:
            rules = node.rules
            first = min(first, rules.get(pair, NO_RULE), rules.get(ANY, NO_RULE))
            node = node.around
        return first if first != NO_RULE else -1

    return ask


def numpy_scan(rules: Sequence[Rule]) -> Callable[[Question], int]:
    """All IPv4 rules at once with numpy, one flow at a time: the first entry that matches."""
    rows = [
        (network, (1 << 32) - (1 << 32 - length), protocol, port, number)
        for number, (prefixes, ports) in enumerate(rules)
        for _, network, length in prefixes
        for protocol, port in ports or (ANY,)
    ]
    networks, masks, protocols, ports, numbers = (np.array(each, np.int64) for each in zip(*rows, strict=True))
    small_networks, small_masks = networks.astype(np.uint32), masks.astype(np.uint32)
    pairs = np.where(protocols < 0, -1, protocols << 16 | ports).astype(np.int32)

    def ask(question: Question) -> int:
        address, protocol, port = question
        hits = (np.uint32(address) & small_masks) == small_networks
        hits &= (pairs == -1) | (pairs == (protocol << 16 | port))
        at = int(hits.argmax())
        return int(numbers[at]) if hits[at] else -1

    return ask


def questions(flows: Flows, count: int) -> list[Question]:
    """The first ``count`` flows as integers; addresses of IPv6 as 16 bytes, as pytricia wants them."""
    addresses: list[Any] = flows.addresses[:count].tolist()
    if flows.family == 6:
        addresses = [(high << 64 | low).to_bytes(16, "big") for high, low in addresses]
    return list(zip(addresses, flows.protocols[:count].tolist(), flows.ports[:count].tolist(), strict=True))
