"""Seeded rule sets and traffic for first-match classification: the same everywhere, so that figures can be compared.

Sets of ``count`` rules, of which the last matches every address:

* ``hosts``: random /32. ``dense``: /32, every second address of a block. ``hosts6``: random /128 below 2000::/3.
* ``nested``: chains /8, /9, .. /32 around random addresses, longest first.
* ``ports``: four prefixes, each rule with five random ports: as many port values as there are.
* ``half``: rules for one TCP port of 0/0 mixed with /32: every class sees every port.
* ``realistic``, ``realistic6``: drawn after ClassBench's model (Taylor and Turner, 2007): a distribution of prefix
  lengths with spikes at the usual ones, a *skew* per level of the address tree, by which the heavier child gets
  1 / (2 - skew) of the prefixes (0.75 above /16, 0.5 to /24, 0.2 below), prefixes that several rules name, and ports
  that are a wildcard, exact or a short list of exact ones, of which few values make up most.
  40 % of the rules have no ports, 45 % one, 15 % two to five; every fourth port rule is about a prefix named before;
  60 % of the rules stand in order of length, as people write exceptions, the others anywhere.

Traffic: ``hit`` draws a rule for every flow, an address inside it, and one of its ports or, in a fifth of the flows, a
random one. ``uniform`` draws addresses from the whole space, so most flows fall through to the last rule. ``skew`` is
``hit`` over 1,000 flows with Zipf's popularity.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.classifier import Prefix, Rule

COUNT = 8_000
FLOWS = 100_000
KINDS_OF_TRAFFIC = ("hit", "uniform", "skew")
PROTOCOLS, PROTOCOL_WEIGHTS = (6, 17, 132), (85, 13, 2)
USUAL_PORTS = (
    443, 80, 53, 8443, 8080, 22, 5432, 3306, 6379, 9092, 27017, 123, 25, 587, 389, 636, 1433, 1521, 5671, 2379, 6443,
    9200, 993, 50051, 9090, 5601, 11211, 9093, 3000, 10250,
)  # fmt: skip
LENGTHS = {
    4: {32: 38, 24: 22, 16: 10, 28: 6, 20: 5, 22: 5, 27: 4, 30: 4, 8: 2, 12: 2, 23: 2},
    6: {128: 38, 64: 25, 48: 15, 56: 8, 40: 5, 44: 4, 32: 3, 112: 2},
}
WIDTH = {4: 32, 6: 128}


class Flows(NamedTuple):
    """What ``Classifier.match_many`` takes."""

    family: int
    addresses: npt.NDArray[Any]
    protocols: npt.NDArray[np.uint8]
    ports: npt.NDArray[np.uint16]


def hosts(count: int = COUNT, seed: int = 1) -> list[Rule]:
    return _hosts(4, count, random.Random(seed))


def hosts6(count: int = COUNT, seed: int = 1) -> list[Rule]:
    return _hosts(6, count, random.Random(seed))


def dense(count: int = COUNT, seed: int = 1) -> list[Rule]:
    numbers = random.Random(seed).sample(range(count - 1), count - 1)
    return [Rule((Prefix(4, (10 << 24) + 2 * each, 32),)) for each in numbers] + [_everything(4)]


def nested(count: int = COUNT, seed: int = 2) -> list[Rule]:
    rng = random.Random(seed)
    found: dict[Prefix, None] = {}
    while len(found) < count - 1:
        address = rng.getrandbits(32)
        found.update((_prefix(4, address, length), None) for length in range(8, 33))
    chosen = sorted(list(found)[: count - 1], key=lambda each: -each.length)
    return [Rule((each,)) for each in chosen] + [_everything(4)]


def ports(count: int = COUNT, seed: int = 3) -> list[Rule]:
    rng = random.Random(seed)
    around = (Prefix(4, 10 << 24, 8), Prefix(4, 10 << 24, 12), Prefix(4, (10 << 24) + (1 << 16), 16), Prefix(4, 0, 0))
    made = [
        Rule((around[at % 4],), tuple((_protocol(rng), port) for port in rng.sample(range(1, 65536), 5)))
        for at in range(count - 1)
    ]
    return [*made, _everything(4)]


def half(count: int = COUNT, seed: int = 4) -> list[Rule]:
    rng = random.Random(seed)
    made = [Rule((Prefix(4, 0, 0),), ((6, port),)) for port in rng.sample(range(1, 65536), count // 2)]
    made += _hosts(4, count - count // 2, rng)[:-1]
    rng.shuffle(made)
    return [*made, _everything(4)]


def realistic(count: int = COUNT, seed: int = 5) -> list[Rule]:
    return _realistic(4, count, random.Random(seed))


def realistic6(count: int = COUNT, seed: int = 6) -> list[Rule]:
    return _realistic(6, count, random.Random(seed))


RULE_SETS: dict[str, Callable[..., list[Rule]]] = {
    "realistic": realistic,
    "hosts": hosts,
    "dense": dense,
    "nested": nested,
    "ports": ports,
    "half": half,
    "realistic6": realistic6,
    "hosts6": hosts6,
}


def traffic(rules: Sequence[Rule], kind: str, count: int = FLOWS, seed: int = 9) -> Flows:
    """``count`` flows of ``kind`` against rules of one family."""
    rng = random.Random(f"{kind} {seed}")
    family = rules[-1].prefixes[0].family
    some_ports = [rule.ports[0] for rule in rules if rule.ports] or [(6, 443)]
    if kind == "uniform":
        flows = [_anywhere(rng, family, some_ports) for _ in range(count)]
    elif kind == "hit":
        flows = [_inside(rng, rng.choice(rules)) for _ in range(count)]
    else:
        popular = [_inside(rng, rng.choice(rules)) for _ in range(1_000)]
        weights = list(accumulate(1 / rank**1.2 for rank in range(1, 1_001)))
        flows = rng.choices(popular, cum_weights=weights, k=count)
    return flows_of(family, flows)


def flows_of(family: int, flows: Sequence[tuple[int, int, int]]) -> Flows:
    """(address, protocol, port) triples as arrays."""
    if family == 4:
        addresses: npt.NDArray[Any] = np.array([each[0] for each in flows], np.uint32)
    else:
        halves = [(each[0] >> 64, each[0] & (1 << 64) - 1) for each in flows]
        addresses = np.array(halves, np.uint64).reshape(-1, 2)
    protocols = np.array([each[1] for each in flows], np.uint8)
    return Flows(family, addresses, protocols, np.array([each[2] for each in flows], np.uint16))


def _anywhere(rng: random.Random, family: int, some_ports: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    address = rng.getrandbits(32) if family == 4 else 1 << 125 | rng.getrandbits(125)
    protocol, port = rng.choice(some_ports)
    return address, protocol, port if rng.random() < 0.5 else rng.randrange(1, 65536)


def _inside(rng: random.Random, rule: Rule) -> tuple[int, int, int]:
    family, network, length = rng.choice(rule.prefixes)
    address = network | rng.getrandbits(WIDTH[family] - length) if length < WIDTH[family] else network
    protocol, port = rng.choice(rule.ports or ((6, 443),))
    return address, protocol, port if rng.random() < 0.8 else rng.randrange(1, 65536)


def _everything(family: int) -> Rule:
    return Rule((Prefix(family, 0, 0),))


def _prefix(family: int, address: int, length: int) -> Prefix:
    shift = WIDTH[family] - length
    return Prefix(family, address >> shift << shift, length)


def _protocol(rng: random.Random) -> int:
    return rng.choices(PROTOCOLS, PROTOCOL_WEIGHTS)[0]


def _hosts(family: int, count: int, rng: random.Random) -> list[Rule]:
    found: dict[int, None] = {}
    while len(found) < count - 1:
        found[rng.getrandbits(32) if family == 4 else 1 << 125 | rng.getrandbits(125)] = None
    return [Rule((Prefix(family, each, WIDTH[family]),)) for each in found] + [_everything(family)]


def _realistic(family: int, count: int, rng: random.Random) -> list[Rule]:
    heavier: dict[tuple[int, int], int] = {}
    named: list[Prefix] = []
    found: dict[Rule, None] = {}
    lengths, weights = tuple(LENGTHS[family]), tuple(LENGTHS[family].values())
    while len(found) < count - 1:
        size = rng.choices((0, 1, rng.randint(2, 5)), (40, 45, 15))[0]
        pairs = dict.fromkeys((_protocol(rng), _port(rng)) for _ in range(size))
        if pairs and named and rng.random() < 0.25:
            prefix = rng.choice(named)
        else:
            length = rng.choices(lengths, weights)[0]
            prefix = _prefix(family, _address(rng, family, heavier), length)
            named.append(prefix)
        found[Rule((prefix,), tuple(pairs))] = None
    made = list(found)
    places = sorted(rng.sample(range(len(made)), len(made) * 6 // 10))
    ordered = sorted((made[at] for at in places), key=lambda each: -each.prefixes[0].length)
    for at, rule in zip(places, ordered, strict=True):
        made[at] = rule
    return [*made, _everything(family)]


def _address(rng: random.Random, family: int, heavier: dict[tuple[int, int], int]) -> int:
    """Down the address tree, bit by bit; IPv6 starts below 2000::/3 and has its levels stretched by two."""
    value, depth, scale = (0, 0, 1) if family == 4 else (1, 3, 2)
    while depth < 32 * scale:
        skew = 0.75 if depth < 16 * scale else 0.5 if depth < 24 * scale else 0.2
        heavy = heavier.setdefault((depth, value), rng.getrandbits(1))
        value = value << 1 | (heavy if rng.random() < 1 / (2 - skew) else 1 - heavy)
        depth += 1
    rest = WIDTH[family] - depth
    return value << rest | (rng.getrandbits(rest) if rest else 0)


def _port(rng: random.Random) -> int:
    if rng.random() < 0.15:
        return rng.randrange(1024, 65536)
    return USUAL_PORTS[min(int(rng.paretovariate(0.8)) - 1, len(USUAL_PORTS) - 1)]
