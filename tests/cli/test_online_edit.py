"""``ovnk edit`` on a server: what is sent, what is cancelled, and that no edit is ever lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import SHOP
from tests.cli.online import Terminal, terminal, write

EDITED = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "edited", "labels": {"a": "1"}}}
KEPT = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}


@pytest.fixture(scope="module")
def shop() -> Iterator[Terminal]:
    """A server with the example's objects."""
    with terminal() as found:
        found.ok("apply", "-f", SHOP)
        yield found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where edits are kept."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def editor(folder: Path, code: str) -> dict[str, str]:
    """An editor that runs ``code`` on the text ``t`` of the file."""
    script = folder / "editor.py"
    script.write_text(
        f"import pathlib, sys\np = pathlib.Path(sys.argv[1])\nt = p.read_text()\n{code}\np.write_text(t)\n"
    )
    return {"VISUAL": "", "EDITOR": f"{sys.executable} {script}"}


def test_an_edit_is_sent(shop: Terminal, temporary: Path) -> None:
    shop.ok("apply", "-f", write(temporary, EDITED))
    env = editor(temporary, "t = t.replace(\"a: '1'\", \"a: '2'\")")
    assert shop.ok("edit", "ns", "edited", env=env) == "namespace/edited edited\n"
    assert shop.ok("get", "ns", "edited", "-o", "jsonpath={.metadata.labels.a}") == "2"


@pytest.mark.parametrize("code", ["pass", "t = ''", "t = '# all\\n# gone'"], ids=["unchanged", "empty", "comments"])
def test_an_edit_of_nothing_is_cancelled(shop: Terminal, temporary: Path, code: str) -> None:
    ran = shop.run("edit", "ns/shop", env=editor(temporary, code))
    assert (ran.code, ran.out, ran.err) == (0, "", "Edit cancelled, no changes made.\n")
    assert not list(temporary.glob("ovnk-*"))


@pytest.mark.parametrize(
    ("code", "exit_code", "advice"),
    [
        ("t = t.replace('kind: Namespace', 'kind: Sofa')", 1, "your edit is kept: correct it"),
        ("t = t.replace('name: kept', 'name: other')", 1, "another object"),
        ("t = t.replace('resourceVersion: r', 'resourceVersion: r9')", 3, "by somebody else meanwhile"),
    ],
    ids=["wrong", "another", "conflict"],
)
def test_an_edit_that_cannot_be_sent_is_kept(
    shop: Terminal, temporary: Path, code: str, exit_code: int, advice: str
) -> None:
    shop.ok("apply", "-f", write(temporary, KEPT))
    ran = shop.run("edit", "ns", "kept", env=editor(temporary, code + "\nt += '# mine\\n'"))
    assert ran.code == exit_code, ran
    assert advice in ran.err
    (file,) = temporary.glob("ovnk-*")
    assert str(file) in ran.err and "# mine" in file.read_text()
