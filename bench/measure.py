"""How things are measured: events one by one, with the collector frozen; CPU seconds; and what the machine was like.

Ratios and counters are what ``bench`` is for: they hold on any machine. Times are given with the load average and with
``spin_us``, the time of one fixed piece of pure Python, so that figures of a slow or busy machine can be told apart.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from time import perf_counter, process_time
from typing import Any, TypeVar

T = TypeVar("T")
PACKAGES = ("msgspec", "pyroaring", "ovsdbapp", "ovs", "anyio")


def timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run ``work`` once -> (its result, wall and CPU seconds)."""
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    found = work()
    return found, {"seconds": round(perf_counter() - wall, 3), "cpu_seconds": round(process_time() - cpu, 3)}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Microseconds: least, median, 99th percentile, and the least median of any 100 in a row.

    The last hints at what a quieter machine would show. As the least of many it is biased low: no goal rests on it.
    """
    ordered = sorted(seconds)
    at = {"min_us": 0, "p50_us": len(ordered) // 2, "p99_us": min(len(ordered) - 1, len(ordered) * 99 // 100)}
    found = {name: round(ordered[index] * 1e6, 1) for name, index in at.items()}
    stretches = [sorted(seconds[start : start + 100]) for start in range(0, max(1, len(seconds) - 99), 10)]
    return found | {"quiet_p50_us": round(min(stretch[len(stretch) // 2] for stretch in stretches) * 1e6, 1)}


def spin_us() -> dict[str, float]:
    """Microseconds of making a dictionary of 1,000 texts, least and median of 200: 90 on an idle 2.4 GHz core."""

    def spin() -> float:
        started = perf_counter()
        numbers = {number: str(number) for number in range(1000)}
        assert len(numbers) == 1000
        return perf_counter() - started

    found = percentiles([spin() for _ in range(200)])
    return {"min": found["min_us"], "p50": found["p50_us"]}


def machine() -> dict[str, Any]:
    """What the figures were taken on: class of machine, not its name."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "ovn": ovn_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "spin_us": spin_us(),
    }


def ovn_version() -> str:
    """Of ovn-nbctl; empty where OVN is not installed."""
    try:
        found = subprocess.run(["ovn-nbctl", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.split("\n", 1)[0].split()[-1]


def server_cpu_seconds(pid: int) -> float:
    """User and system time of another process so far; ticks of 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  # procfs reads are one short line
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
