"""No process outlives the test that started it, and the next test hears nothing of it: pytest within pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.ovn import Daemon, leftovers_end

ROOT = Path(__file__).parents[2]
TESTS = """
import gc, os
import pytest
from tests.kit.ovn import Daemon

PIDS = []


def sleeper(folder, name):
    daemon = Daemon(name, ["sleep", "600"], folder)
    daemon.start()
    PIDS.append(daemon.pid)
    return daemon


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    daemon = sleeper(tmp_path_factory.mktemp("d"), "shared")
    yield daemon
    daemon.stop()


@pytest.mark.parametrize("is_suspended", [False, True])
def test_fails_between_start_and_stop(shared, tmp_path, is_suspended):
    daemon = sleeper(tmp_path, "leaks")
    if is_suspended:
        daemon.suspend()
    assert False
    daemon.stop()


def test_the_next_one(shared):
    gc.collect()
    assert shared.is_alive and len(PIDS) == 3
    for pid in PIDS[1:]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
"""


def test_a_test_that_fails_leaves_no_process_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(TESTS)
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    words = ["-q", *settings, "-p", "tests.conftest", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert re.search(r"2 failed, 1 passed in", done.stdout), done.stdout + done.stderr
    assert "ResourceWarning" not in done.stdout + done.stderr


def test_what_ran_before_runs_on(tmp_path: Path) -> None:
    before, within = (Daemon(name, ["sleep", "600"], tmp_path) for name in ("before", "within"))
    before.start()
    with pytest.raises(ZeroDivisionError), leftovers_end():
        before.kill()
        before.start()
        within.start()
        raise ZeroDivisionError
    assert (before.is_alive, within.is_alive) == (True, False)
