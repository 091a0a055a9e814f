"""What all suites share: no process outlives the test that started it; at the end, where time went, by group."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.kit.ovn import leftovers_end

SHOWN = 8
os.environ.setdefault("OVNK_DNS_TIMEOUT", "0")  # no test asks a name server it did not start

# The machine may be busy: an example that takes long is not a failure. TEST_SCALE scales the number of examples.
hypothesis.settings.register_profile(
    "ovnk", deadline=None, max_examples=max(10, int(100 * float(os.environ.get("TEST_SCALE", "1")))), print_blob=True
)
hypothesis.settings.load_profile("ovnk")


@pytest.fixture(autouse=True)
def _processes_end_with_their_test() -> Iterator[None]:
    """Set up after fixtures of wider scope and before the test's own: it ends what those did not."""
    with leftovers_end():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Seconds per test file, slowest first. With two workers the sum exceeds the wall time."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                path = Path(report.nodeid.split("::")[0])
                seconds[str(path)] += report.duration
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:SHOWN]
    if slowest:
        terminalreporter.section("slowest groups")
        for name, spent in slowest:
            terminalreporter.write_line(f"{spent:8.1f} s  {name}")
