"""First match the slow way, rule by rule over all flows, and flows on every edge; shares nothing with kernels."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.rule_sets import Flows, flows_of
from ovnk_core.kernels.classifier import ANY_PORT, Prefix, Rule

WIDTH = {4: 32, 6: 128}
LOW = (1 << 64) - 1


def first_match(rules: Sequence[Rule], flows: Flows) -> npt.NDArray[np.int32]:
    """Last rule first, each overwrites what later ones said."""
    if flows.family == 4:
        halves = [flows.addresses.astype(np.uint64) << np.uint64(32), np.zeros(len(flows.addresses), np.uint64)]
    else:
        halves = [flows.addresses[:, 0], flows.addresses[:, 1]]
    found = np.full(len(flows.addresses), -1, np.int32)
    for index in range(len(rules) - 1, -1, -1):
        prefixes, ports = rules[index]
        is_there = np.zeros(len(found), bool)
        for family, network, length in prefixes:
            if family == flows.family:
                value, mask = network << 128 - WIDTH[family], (1 << 128) - (1 << 128 - length)
                high, low = np.uint64(mask >> 64), np.uint64(mask & LOW)
                is_there |= (halves[0] & high == value >> 64) & (halves[1] & low == value & LOW)
        is_meant = np.full(len(found), not ports)
        for protocol, port in ports:
            is_meant |= (flows.protocols == protocol) & ((flows.ports == port) | (port == ANY_PORT))
        found[is_there & is_meant] = index
    return found


def edge_flows(rules: Sequence[Rule], family: int, count: int, seed: int = 1) -> Flows:
    """``count`` flows: first and last address of prefixes and one beyond, ports of the same rule or another, and their
    neighbours, other protocols, the ends of both spaces."""
    rng = random.Random(seed)
    prefixes = [each for rule in rules for each in rule.prefixes if each.family == family] or [Prefix(family, 0, 0)]
    pairs = [pair for rule in rules for pair in rule.ports] or [(6, 80)]
    last = (1 << WIDTH[family]) - 1
    flows = []
    while len(flows) < count:
        rule = rng.choice(rules) if rules else Rule(())
        _, network, length = rng.choice([each for each in rule.prefixes if each.family == family] or prefixes)
        end = network + (1 << WIDTH[family] - length)
        address = rng.choice((network - 1, network, rng.randrange(network, end), end - 1, end, 0, last))
        protocol, port = rng.choice(rule.ports or (rng.choice(pairs),))
        port = rng.choice((port - 1, port, port, port + 1, 0, 65535, rng.randrange(65536)))
        protocol = rng.choice((protocol,) * 6 + (1, 6, 17, 132, 0, 255))
        flows.append((min(max(address, 0), last), protocol, min(max(port, 0), 65535)))
    return flows_of(family, flows)


def random_rules(rng: random.Random, count: int) -> list[Rule]:
    """Few addresses, so that prefixes nest, repeat and touch; both families; whole protocols; empty rules."""
    bases = {4: [rng.getrandbits(32) for _ in range(3)] + [0, (1 << 32) - 1]}
    bases[6] = [rng.getrandbits(128) for _ in range(3)] + [0, (1 << 128) - 1]
    ports = [0, 1, 79, 80, 65535, ANY_PORT, ANY_PORT]
    made = []
    for _ in range(count):
        prefixes = []
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 4))):
            family = rng.choice((4, 6))
            length = rng.choice((0, WIDTH[family], rng.randint(0, WIDTH[family]), rng.randint(0, WIDTH[family])))
            shift = WIDTH[family] - length
            address = rng.choice(bases[family]) ^ rng.choice((0, 1, 1 << rng.randrange(WIDTH[family])))
            prefixes.append(Prefix(family, address >> shift << shift, length))
        pairs = tuple((rng.choice((6, 17, 132)), rng.choice(ports)) for _ in range(rng.choice((0, 0, 1, 1, 2, 5))))
        made.append(Rule(tuple(prefixes), pairs))
    return made
