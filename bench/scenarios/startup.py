"""What it costs to ask for help: ``ovnk --help`` next to ``python -c pass``, in turn, as whole processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNS = 15
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"help": ["-m", "ovnk_cli", "--help"], "pass": ["-c", "pass"]}


def run() -> dict[str, Any]:
    """Median wall milliseconds of each, and their ratio pair by pair. Goals: at most 150 ms, at most 5 times."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "clients" / "cli")))}
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
            spent[name].append((time.perf_counter() - started) * 1000)
    help_ms, pass_ms = (spent[name][1:] for name in COMMANDS)  # the first of each warms up
    median = statistics.median(help_ms)
    ratio = statistics.median(a / b for a, b in zip(help_ms, pass_ms, strict=True))
    return {
        "runs": RUNS,
        "wall_ms": {"help": round(median, 1), "pass": round(statistics.median(pass_ms), 1)},
        "ratio": round(ratio, 2),
        "goals": {"help at most 150 ms": median <= 150, "help at most 5 times pass": ratio <= 5},
    }
