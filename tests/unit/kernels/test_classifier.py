"""The classifier answers what trying rule by rule answers: every shape, both families, every edge, through edits."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.rule_sets import RULE_SETS, Flows, flows_of, traffic
from ovnk_core.kernels import arena, jit
from ovnk_core.kernels.classifier import ANY_PORT, NONE, Classifier, Prefix, Rule
from ovnk_core.kernels.columns import flatten
from ovnk_core.kernels.lists import _compiled, _plain
from tests.unit.kernels.oracle import edge_flows, first_match, random_rules

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = Prefix(4, 0, 0)
SINGLES = 300


def check(classifier: Classifier, rules: Sequence[Rule], flows: Flows) -> None:
    """Batch, single and slow answers agree."""
    found, wanted = classifier.match_many(*flows), first_match(rules, flows)
    assert found.dtype == np.int32
    different = np.flatnonzero(found != wanted)
    assert not len(different), [(at, found[at], wanted[at], singly(flows, at)) for at in different[:3].tolist()]
    for at in range(0, len(found), max(1, len(found) // SINGLES)):
        assert classifier.match(*singly(flows, at)) == found[at], singly(flows, at)


def singly(flows: Flows, at: int) -> tuple[int, int, int, int]:
    address = flows.addresses[at].tolist()
    value = address if flows.family == 4 else address[0] << 64 | address[1]
    return flows.family, value, int(flows.protocols[at]), int(flows.ports[at])


@pytest.mark.parametrize("count", [200, 2_000])
@pytest.mark.parametrize("name", RULE_SETS)
def test_every_shape(name: str, count: int) -> None:
    rules = RULE_SETS[name](count)
    classifier = Classifier.compile(rules)
    family = rules[-1].prefixes[0].family
    check(classifier, rules, edge_flows(rules, family, 2_000))
    for kind in ("hit", "uniform"):
        check(classifier, rules, traffic(rules, kind, 1_000))
    assert classifier.match(10 - family, 1, 6, 80) == NONE


@pytest.mark.parametrize("seed", range(30))
def test_random_lists_of_both_families(seed: int) -> None:
    rng = random.Random(seed)
    rules = random_rules(rng, rng.choice((0, 1, 2, 10, 60, 250)))
    classifier = Classifier.compile(rules)
    for family in (4, 6):
        check(classifier, rules, edge_flows(rules, family, 1_000, seed))


def _chain(family: int, width: int) -> list[Rule]:
    """Every length around one address, each with a port of its own, longest first: more rows than any budget."""
    last = (1 << width) - 1
    shifts = range(width + 1)
    return [Rule((Prefix(family, last >> n << n, width - n),), ((6, 1000 + n), (17, 1000 + n % 3))) for n in shifts]


SPECIAL = {
    "nothing": [],
    "empty rules": [Rule(()), Rule((), ((6, 80),))],
    "the same rule twice": [Rule((Prefix(4, 1 << 24, 8),), ((6, 80), (6, 80)))] * 2 + [Rule((EVERYTHING,))],
    "one prefix and port, many times": [Rule((EVERYTHING,), ((6, 80),))] * 500
    + [Rule((Prefix(4, 1 << 31, length),), ((6, 80),)) for length in (1, 2, 3)] * 200,
    "everything in the middle": [
        Rule((Prefix(4, 10 << 24, 8),), ((6, 80),)),
        Rule((EVERYTHING, Prefix(6, 0, 0))),
        Rule((Prefix(4, 10 << 24, 9),)),
        Rule((Prefix(6, 1 << 64, 64),), ((17, 53),)),
    ],
    "ports only": [Rule((EVERYTHING,), ((protocol, port),)) for protocol in (6, 17, 132) for port in (0, 80, 65535)],
    "whole protocols": [
        Rule((Prefix(4, 10 << 24, 8),), ((6, 443),)),
        Rule((Prefix(4, 10 << 24, 8),), ((6, ANY_PORT),)),
        Rule((Prefix(4, 10 << 24, 16),), ((6, 80), (17, ANY_PORT))),
        Rule((EVERYTHING,), ((17, 53), (132, ANY_PORT))),
        Rule((EVERYTHING,)),
    ],
    "chain": _chain(4, 32),
    "chain of IPv6": _chain(6, 128),
    "both ends": [
        Rule((Prefix(4, 0, 32), Prefix(4, (1 << 32) - 1, 32), Prefix(6, 0, 128), Prefix(6, (1 << 128) - 1, 128))),
        Rule((Prefix(6, (1 << 128) - 2, 127), Prefix(6, (1 << 64) - 1, 128), Prefix(6, 1 << 64, 128))),
        Rule((Prefix(4, 1 << 31, 1), Prefix(6, 1 << 127, 1)), ((6, 80),)),
    ],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_lists(name: str) -> None:
    rules = SPECIAL[name]
    classifier = Classifier.compile(rules)
    for family in (4, 6):
        check(classifier, rules, edge_flows(rules, family, 4_000))


def test_over_budget_there_are_tables_and_below_it_rows() -> None:
    names = ("nothing", "whole protocols", "chain")
    forms = [int(arena.pack(flatten(SPECIAL[name])[4], 4)[arena.PORTS]) for name in names]
    assert forms == [arena.NO_PORTS, arena.EXACT_ROWS, arena.PORT_TABLES]


@pytest.mark.parametrize("name", RULE_SETS)
def test_memory_is_linear(name: str) -> None:
    """At most 1.5 KiB per entry (a prefix with a port), beyond the half MiB that any index has."""
    rules = RULE_SETS[name](4_000)
    family = rules[-1].prefixes[0].family
    classifier = Classifier.compile(rules)
    classifier.match_many(*traffic(rules, "hit", 1))
    assert classifier.nbytes < 1_536 * len(flatten(rules)[family]) + (1 << 19)


@pytest.mark.parametrize("seed", range(6))
def test_spliced_equals_compiled(seed: int) -> None:
    rng = random.Random(seed)
    rules = random_rules(rng, 80)
    classifier = Classifier.compile(rules)
    for step in range(25):
        start = rng.randint(0, len(rules))
        stop = rng.choice((start, min(start + 1, len(rules)), rng.randint(start, len(rules))))
        new = random_rules(rng, rng.choice((0, 1, 1, 1, 5, 30)))
        before, old_rules = classifier, rules
        rules = [*rules[:start], *new, *rules[stop:]]
        classifier = classifier.splice(start, stop, new)
        fresh = Classifier.compile(rules)
        assert (classifier.rules, len(classifier)) == (tuple(rules), len(rules))
        for family in (4, 6):
            ours, theirs = (each._columns[family] for each in (classifier, fresh))
            assert all(getattr(ours, name) == getattr(theirs, name) for name in ours.__slots__)
            flows = edge_flows(rules, family, 60, step)
            check(classifier, rules, flows)
            check(before, old_rules, flows)


@pytest.mark.parametrize(
    "name", ["realistic", "realistic6", "half", "nested", "both ends", "whole protocols", "nothing"]
)
def test_compiled_kernels_equal_their_plain_functions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = SPECIAL[name] if name in SPECIAL else RULE_SETS[name](60)
    compiled = {family: arena.pack(columns, family) for family, columns in flatten(rules).items()}
    flows = {family: edge_flows(rules, family, 150) for family in (4, 6)}
    answers = {family: Classifier.compile(rules).match_many(*each) for family, each in flows.items()}
    for columns in flatten(rules).values():
        assert _compiled(columns) == _plain(columns)

    def plainly(self: jit.Kernel[Any, Any], *arguments: object) -> object:
        return self.py_func(*arguments)

    monkeypatch.setattr(jit.Kernel, "__call__", plainly)
    for family, columns in flatten(rules).items():
        assert np.array_equal(arena.pack(columns, family), compiled[family])
        assert np.array_equal(Classifier.compile(rules).match_many(*flows[family]), answers[family])


def test_a_single_question_loads_neither_numpy_nor_numba() -> None:
    code = (
        "import sys\n"
        "from ovnk_core.kernels.classifier import Classifier, Prefix, Rule\n"
        "rules = [Rule((Prefix(4, 10 << 24, 8),), ((6, 443),)), Rule((Prefix(6, 0, 0),))]\n"
        "made = Classifier.compile(rules * 300).splice(0, 1, rules)\n"
        "print(made.match(4, 10 << 24, 6, 443), made.match(6, 1, 1, 0), made.match(4, 1, 6, 443))\n"
        "print([name for name in ('numpy', 'numba') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 1 -1", "[]"]


def test_empty_and_strided_batches() -> None:
    classifier = Classifier.compile([Rule((EVERYTHING,), ((6, 80),))])
    assert classifier.match_many(*flows_of(4, [])).shape == (0,)
    assert classifier.match_many(*flows_of(6, [])).shape == (0,)
    flows = flows_of(4, [(1, 6, 80), (2, 6, 81)] * 4)
    strided = classifier.match_many(4, flows.addresses[::2], flows.protocols[::2], flows.ports[::2])
    assert strided.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule((Prefix(5, 0, 0),)), r"rules\[1\]\.prefixes\[0\]\.family: 5 is neither 4 nor 6"),
        (Rule((EVERYTHING, Prefix(4, 0, 33))), r"prefixes\[1\]\.length: 33 is not in 0\.\.32"),
        (Rule((Prefix(6, 0, -1),)), r"length: -1 is not in 0\.\.128"),
        (Rule((Prefix(4, 1 << 32, 32),)), r"network: 4294967296 does not fit 32 bits"),
        (Rule((Prefix(4, -1, 32),)), r"network: -1 does not fit 32 bits"),
        (Rule((Prefix(4, 0x0A000001, 24),)), r"network: 0xa000001 has bits set after the first 24"),
        (Rule((EVERYTHING,), ((1, 80),)), r"rules\[1\]\.ports: protocol 1 has no ports; 6, 17 and 132 have"),
        (Rule((EVERYTHING,), ((6, 65536),)), r"ports: port 65536 is not in 0\.\.65535, nor ANY_PORT"),
        (Rule((EVERYTHING,), ((6, -2),)), r"ports: port -2 is not in"),
    ],
)
def test_bad_rules_are_refused_with_their_place(rule: Rule, reason: str) -> None:
    good = Rule((EVERYTHING,))
    with pytest.raises(ValueError, match=reason):
        Classifier.compile([good, rule])
    with pytest.raises(ValueError, match=reason):
        Classifier.compile([good]).splice(0, 1, [good, rule])


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ((5, 0, 6, 80), "family: 5 is neither 4 nor 6"),
        ((4, 1 << 32, 6, 80), "address: 4294967296 does not fit 32 bits"),
        ((6, -1, 6, 80), "address: -1 does not fit 128 bits"),
        ((4, 0, 256, 80), r"protocol: 256 is not in 0\.\.255"),
        ((4, 0, 6, 65536), r"port: 65536 is not in 0\.\.65535"),
    ],
)
def test_bad_questions_are_refused(question: tuple[int, int, int, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Classifier.compile([]).match(*question)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"family": 7}, "family: 7 is neither 4 nor 6"),
        ({"family": 6}, "addresses: dtype uint32 is not uint64"),
        ({"addresses": [1, 2]}, "addresses: list is not a numpy array"),
        ({"addresses": np.zeros(2, np.int64)}, "addresses: dtype int64 is not uint32"),
        ({"addresses": np.zeros((2, 2), np.uint32)}, r"addresses: shape \(2, 2\) is not \[n\]"),
        ({"family": 6, "addresses": np.zeros((2, 3), np.uint64)}, r"addresses: shape \(2, 3\) is not \[n, 2\]"),
        ({"protocols": np.zeros(2, np.uint16)}, "protocols: dtype uint16 is not uint8"),
        ({"ports": np.zeros(2, np.uint32)}, "ports: dtype uint32 is not uint16"),
        ({"ports": np.zeros(3, np.uint16)}, "ports: 3 items, but addresses has 2"),
    ],
)
def test_bad_batches_are_refused(changed: dict[str, Any], reason: str) -> None:
    good = {"family": 4, "addresses": np.zeros(2, np.uint32), "protocols": np.zeros(2, np.uint8)}
    good |= {"ports": np.zeros(2, np.uint16)}
    with pytest.raises(ValueError, match=reason):
        Classifier.compile([]).match_many(**(good | changed))


@pytest.mark.parametrize(("start", "stop"), [(-1, 0), (1, 0), (0, 2), (2, 2)])
def test_bad_splices_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=f"start, stop: {start}, {stop} do not cut 1 rules"):
        Classifier.compile([Rule((EVERYTHING,))]).splice(start, stop, [])
