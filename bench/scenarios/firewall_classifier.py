"""First match over 8,000 rules: our batches and single questions against DPDK's ACL library, pytricia and a numpy scan.

Every contender sees the same seeded rules and flows (``bench.rule_sets``) in packed arrays, and first all answers are
compared. Then contenders take turns: a turn is ``PASSES`` passes in a row over 100,000 flows, so that each is measured
with its own data in the caches, and the machine's moods hit all alike. Times are ns per lookup, median and least of
``TURNS``; a ratio is the median of the ratios turn by turn. Ours includes the call and the array of answers.
DPDK's ``half`` takes a minute to build; its figures are there to show what linear memory is worth.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import plot
from bench.anchors import dpdk, scripted
from bench.rule_sets import KINDS_OF_TRAFFIC, RULE_SETS, Flows, traffic
from ovnk_core.kernels import arena
from ovnk_core.kernels.classifier import Classifier, Rule
from ovnk_core.kernels.columns import flatten

TURNS, PASSES = 15, 5
SINGLES, SCANS = 2_000, 20
COUNTS = (1, 10, 100, 1_000, 2_000, 4_000, 8_000)
ROOT = Path(__file__).resolve().parents[2]
FIRST_BATCH = """
import sys
from array import array
from time import perf_counter
from ovnk_core.kernels.classifier import Classifier, Prefix, Rule
classifier = Classifier.compile([Rule((Prefix(4, each << 8, 24),), ((6, 80),)) for each in range(8000)])
classifier.match(4, 1, 6, 80)
started = perf_counter()
import numpy as np
import numba
imported = perf_counter()
answers = classifier.match_many(4, np.zeros(64, np.uint32), np.full(64, 6, np.uint8), np.full(64, 80, np.uint16))
print((perf_counter() - started) * 1000, (perf_counter() - imported) * 1000)
assert answers.tolist() == [0] * 64
"""


def run() -> dict[str, Any]:
    """Figures by rule set and traffic; the goals are those of the issue that asked for the classifier."""
    with tempfile.TemporaryDirectory() as name:
        driver = dpdk.compile_driver(Path(name))
        sets = {each: _measure_set(each, driver, Path(name)) for each in RULE_SETS}
        by_count = {count: _measure_count(count, driver, Path(name)) for count in COUNTS}
    singles = _singles()
    first_batch = _first_batch()
    plot.by_rule_count(by_count, ROOT / "bench" / "results" / "classifier.svg")
    return {
        "turns": TURNS,
        "versions": {"dpdk": dpdk.version()} | {each: version(each) for each in ("numba", "numpy", "pytricia")},
        "sets": sets,
        "single_us": singles,
        "by_rule_count": {str(count): each for count, each in by_count.items()},
        "edit_ms": _edits(),
        "first_batch_warm_cache_ms": first_batch,
        "goals": _goals(sets, singles, first_batch),
    }


def _goals(sets: dict[str, Any], singles: dict[str, Any], first_batch: dict[str, float]) -> dict[str, bool]:
    def ratio(name: str, kind: str) -> float:
        return float(sets[name][kind]["ratio"])

    halved = [(name, kind) for name in ("hosts", "nested") for kind in KINDS_OF_TRAFFIC]
    slowest = max(sets[name][kind]["ours_ns"] for name in sets for kind in KINDS_OF_TRAFFIC)
    return {
        "realistic, hits: at most DPDK's time": ratio("realistic", "hit") <= 1,
        "realistic, misses: at most half of DPDK's time": ratio("realistic", "uniform") <= 0.5,
        "hosts and nested: at most half of DPDK's time": all(ratio(*each) <= 0.5 for each in halved),
        "every set: at most 100 ns": slowest <= 100,
        "every set: at most 1.5 KiB per entry": all(each["size"]["bytes_per_entry"] <= 1_536 for each in sets.values()),
        "built 50 times faster than DPDK, every set": min(each["build"]["ratio"] for each in sets.values()) >= 50,
        "built from columns in 5 ms, every set": max(each["build"]["ours_ms"] for each in sets.values()) <= 5,
        "single question, realistic: at most 1.5 us": max(
            singles["realistic"][kind]["ours"] for kind in KINDS_OF_TRAFFIC
        )
        <= 1.5,
        "first batch at most 400 ms with a warm cache": first_batch["p50"] <= 400,
    }


def _measure_set(name: str, driver: Path, directory: Path) -> dict[str, Any]:
    rules = RULE_SETS[name]()
    traces = [traffic(rules, kind) for kind in KINDS_OF_TRAFFIC]
    family = traces[0].family
    classifier = Classifier.compile(rules)
    found: dict[str, Any] = {}
    with dpdk.DpdkAcl(driver, directory, rules, traces) as anchor:
        columns = flatten(rules)[family]
        ours_ms = _least_ms(lambda: arena.pack(columns, family))
        for trace, (kind, flows) in enumerate(zip(KINDS_OF_TRAFFIC, traces, strict=True)):
            answers = classifier.match_many(*flows)
            assert anchor.failed or (answers == anchor.answers(trace)).all(), f"{name} {kind}: answers differ"
            found[kind] = _turns(classifier, flows, anchor, trace)
        found["build"] = {
            "ours_ms": round(ours_ms[1], 2),
            "ours_min_ms": round(ours_ms[0], 2),
            "flatten_rules_ms": round(_least_ms(lambda: flatten(rules))[1], 1),
            "dpdk_ms": round(anchor.build_ms, 1),
            "ratio": round(anchor.build_ms / ours_ms[1], 1),
        }
        entries = len(columns)
        found["size"] = {
            "rules": len(rules),
            "entries": entries,
            "ours_bytes": classifier.nbytes,
            "bytes_per_entry": round(classifier.nbytes / entries),
            "dpdk_bytes": anchor.nbytes,
        }
    return found


def _turns(classifier: Classifier, flows: Flows, anchor: dpdk.DpdkAcl, trace: int) -> dict[str, float]:
    """Turns of both, AVX2 and, for the record, scalar."""
    spent: dict[str, list[float]] = {"ours": [], "dpdk_avx2": [], "dpdk_scalar": []}
    count = len(flows.ports)
    for _ in range(TURNS):
        spent["ours"].append(_pass(classifier, flows) / count * 1e9)
        spent["dpdk_avx2"].append(anchor.seconds(trace, dpdk.AVX2, PASSES) / count * 1e9)
        spent["dpdk_scalar"].append(anchor.seconds(trace, dpdk.SCALAR, PASSES) / count * 1e9)
    found = {}
    for name, times in spent.items():
        found |= {f"{name}_ns": round(statistics.median(times), 1), f"{name}_min_ns": round(min(times), 1)}
    pairs = zip(spent["ours"], spent["dpdk_avx2"], strict=True)
    return found | {"ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 2)}


def _pass(classifier: Classifier, flows: Flows) -> float:
    started = perf_counter()
    for _ in range(PASSES):
        classifier.match_many(*flows)
    return (perf_counter() - started) / PASSES


def _least_ms(work: Callable[[], object]) -> tuple[float, float]:
    """Least and median milliseconds of ``TURNS``."""
    spent = []
    for _ in range(TURNS):
        started = perf_counter()
        work()
        spent.append((perf_counter() - started) * 1000)
    return min(spent), statistics.median(spent)


def _singles() -> dict[str, Any]:
    """Microseconds of one question from Python: ours, pytricia alone and with a first-match chain, a numpy scan."""
    found: dict[str, Any] = {}
    for name in ("realistic", "hosts", "nested", "half"):
        rules = RULE_SETS[name]()
        classifier = Classifier.compile(rules)
        tree = scripted.pytricia_tree(rules)
        chain, scan, longest = scripted.first_match(tree), scripted.numpy_scan(rules), scripted.longest_prefix(tree)
        found[name] = {}
        for kind in KINDS_OF_TRAFFIC:
            flows = scripted.questions(traffic(rules, kind, SINGLES), SINGLES)
            for flow in flows[:SCANS]:
                assert classifier.match(4, *flow) == chain(flow) == scan(flow)
            spent: dict[str, list[float]] = {each: [] for each in ("ours", "longest", "chain", "scan")}
            for _ in range(TURNS):
                spent["ours"].append(_ours_us(classifier, 4, flows))
                spent["longest"].append(_asked_us(longest, flows))
                spent["chain"].append(_asked_us(chain, flows))
                spent["scan"].append(_asked_us(scan, flows[:SCANS]))
            names = {"ours": "ours", "longest": "pytricia_alone", "chain": "pytricia_first_match", "scan": "numpy_scan"}
            found[name][kind] = {names[each]: round(statistics.median(times), 2) for each, times in spent.items()}
            found[name][kind]["ours_min"] = round(min(spent["ours"]), 2)
    return found


def _ours_us(classifier: Classifier, family: int, flows: Sequence[scripted.Question]) -> float:
    match = classifier.match
    started = perf_counter()
    for _ in range(PASSES):
        for address, protocol, port in flows:
            match(family, address, protocol, port)
    return (perf_counter() - started) / len(flows) / PASSES * 1e6


def _asked_us(ask: Callable[[scripted.Question], object], flows: Sequence[scripted.Question]) -> float:
    started = perf_counter()
    for _ in range(PASSES):
        for flow in flows:
            ask(flow)
    return (perf_counter() - started) / len(flows) / PASSES * 1e6


def _measure_count(count: int, driver: Path, directory: Path) -> dict[str, float]:
    """ns per lookup of realistic rules and hits, by number of rules."""
    rules: list[Rule] = RULE_SETS["realistic"](count)
    flows = traffic(rules, "hit")
    classifier = Classifier.compile(rules)
    with dpdk.DpdkAcl(driver, directory, rules, [flows]) as anchor:
        classifier.match_many(*flows)
        found = _turns(classifier, flows, anchor, 0)
    few = scripted.questions(flows, SINGLES)
    chain = scripted.first_match(scripted.pytricia_tree(rules))
    turns = [(_ours_us(classifier, 4, few), _asked_us(chain, few)) for _ in range(TURNS)]
    return {
        "batch_ns": found["ours_ns"],
        "dpdk_avx2_ns": found["dpdk_avx2_ns"],
        "single_ns": round(statistics.median(each[0] for each in turns) * 1000),
        "pytricia_ns": round(statistics.median(each[1] for each in turns) * 1000),
    }


def _first_batch() -> dict[str, float]:
    """Milliseconds of the first batch in a new process with compiled code on disk: altogether, and without the imports
    of numpy and numba; median and least."""
    found = []
    for _ in range(TURNS + 1):
        done = subprocess.run([sys.executable, "-c", FIRST_BATCH], cwd=ROOT, capture_output=True, check=True)
        found.append([float(each) for each in done.stdout.split()])
    whole, after = zip(*found[1:], strict=True)  # the first may compile
    figures = {"p50": statistics.median(whole), "min": min(whole)}
    figures |= {"imported_p50": statistics.median(after), "imported_min": min(after)}
    return {name: round(value, 1) for name, value in figures.items()}


def _edits() -> dict[str, dict[str, float]]:
    """Milliseconds of replacing one rule of 8,000: the splice, then with a first single question, or with a batch."""
    found = {}
    for name in ("realistic", "hosts"):
        rules = RULE_SETS[name]()
        flows = traffic(rules, "hit", 64)
        classifier = Classifier.compile(rules)
        classifier.match_many(*flows)
        edit = partial(classifier.splice, 4_000, 4_001, [rules[4_000]._replace(ports=((6, 443),))])
        found[name] = {
            "splice": round(_least_ms(edit)[1], 2),
            "and_match": round(_least_ms(lambda edit=edit: edit().match(4, 1, 6, 80))[1], 2),
            "and_batch": round(_least_ms(lambda edit=edit, flows=flows: edit().match_many(*flows))[1], 2),
        }
    return found
