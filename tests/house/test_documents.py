"""What the pages under docs/ show runs."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_classifiers_page_is_true() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "classifier.md").read_text(), flags=re.DOTALL)
    exec(compile(example, "classifier.md", "exec"), {})
