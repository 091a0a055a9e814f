"""What the pages under docs/ show runs, and what README.md lists is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_the_classifiers_page_is_true() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "classifier.md").read_text(), flags=re.DOTALL)
    exec(compile(example, "classifier.md", "exec"), {})


def test_the_readme_names_every_folder_of_the_core() -> None:
    rows = re.findall(r"^\| (`ovnk_core/[^|]*) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    named = {word for row in rows for word in re.findall("[` /]([a-z_]+)`", row)}
    assert named == {path.parent.name for path in (ROOT / "ovnk_core").glob("*/__init__.py")}
