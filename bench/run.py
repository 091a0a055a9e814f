"""Run scenarios: ``python -m bench.run [SCENARIO...]``. Prints every figure, writes ``bench/results/SCENARIO.json``.

A result carries what it was measured on. Exit 1 when a goal is missed, so that a nightly run says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import machine
from bench.scenarios import core, egress_ip, firewall_classifier, firewall_edit, northbound, service, services, startup

SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {
    "core": core.run,
    "egress_ip": egress_ip.run,
    "firewall_classifier": firewall_classifier.run,
    "firewall_edit": firewall_edit.run,
    "northbound": northbound.run,
    "service": service.run,
    "services": services.run,
    "startup": startup.run,
}
RESULTS = Path(__file__).parent / "results"


def main(names: Sequence[str]) -> int:
    """Run the named scenarios, all by default -> exit code."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"no scenario {', '.join(unknown)}; known: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    missed: list[str] = []
    for name in names or SCENARIOS:
        before = machine()
        figures = SCENARIOS[name]()
        result = {"scenario": name, "machine": before, **figures}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(f"# {name}")
        print("\n".join(table(result)))
        missed += [f"{name}: {goal}" for goal, is_met in figures["goals"].items() if not is_met]
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    return 1 if missed else 0


def table(result: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested figures as lines; a mapping of plain figures is one line."""
    for name, value in result.items():
        if not isinstance(value, Mapping):
            yield f"{indent}{name:<28} {_shown(value)}"
        elif any(isinstance(each, Mapping) for each in value.values()) or name == "goals":
            yield f"{indent}{name}"
            yield from table(value, indent + "  ")
        else:
            yield f"{indent}{name:<28} " + "  ".join(f"{key}={_shown(each)}" for key, each in value.items())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
