"""Running the command as a user does: a process of its own, on files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (".", "server", "clients/python", "clients/cli", "proto/gen/python", "proto/python")
"""Where packages lie in the tree."""
SHOP = str(ROOT / "examples" / "shop")


class Ran(NamedTuple):
    """Outcome of one run."""

    code: int
    out: str
    err: str

    def json(self, schema: str) -> Any:
        """Stdout as one JSON document that its committed schema accepts."""
        document = json.loads(self.out)
        check(document, schema)
        return document


def check(document: Any, schema: str) -> None:
    rules = json.loads((ROOT / "docs" / "json" / f"{schema}.schema.json").read_text())
    jsonschema.Draft202012Validator(rules).validate(document)


def ovnk(*words: str, stdin: str | bytes = b"", cwd: Path | None = None, timeout_s: float = 180) -> Ran:
    """Run ``ovnk WORDS`` from the source tree."""
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "ovnk_cli", *words],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=cwd,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
