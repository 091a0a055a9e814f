"""The generated code is what the proto files say, and they follow buf's rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT, COMMITTED = ROOT / "scripts" / "proto", ROOT / "proto" / "gen" / "python"
CHECKED_S = 300
"""The first run installs the tools."""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=CHECKED_S, check=False
    )


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_committed_code_is_what_the_generator_makes(tmp_path: Path) -> None:
    done = _run(str(tmp_path))
    assert done.returncode == 0, done.stderr
    made, committed = _files(tmp_path), _files(COMMITTED)
    assert len(made) > 40
    assert made.keys() == committed.keys(), "run scripts/proto"
    assert [name for name in made if made[name] != committed[name]] == [], "run scripts/proto"


def test_the_proto_files_follow_the_rules() -> None:
    done = _run("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_sees_the_files(tmp_path: Path) -> None:
    """A rule that is broken on purpose is reported: no configuration hides the files from the linter."""
    folder = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", folder, ignore=shutil.ignore_patterns("gen", "python"))
    path = folder / "ovnk_api" / "v1" / "pod.proto"
    path.write_text(path.read_text() + "\nmessage lower_case {}\n")
    done = _run("--lint", str(folder))
    assert done.returncode != 0
    assert "lower_case" in done.stdout


@pytest.mark.parametrize("name", ["package-lock.json", "package.json", ".npmrc", "buf.yaml"])
def test_nothing_names_a_registry(name: str) -> None:
    text = (ROOT / "proto" / name).read_text()
    assert "://" not in text
    assert '"resolved"' not in text
