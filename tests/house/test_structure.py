"""The house itself: sizes, names, structs, imports that cost, the graph under review."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import ovnk_core
from ovnk_core.engine.engine import Engine
from ovnk_core.failpoint import FAILPOINTS
from ovnk_core.flows.table import FLOW_PIPELINE
from ovnk_core.pipeline import PIPELINE
from ovnk_core.terms.struct import Key, Value

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("ovnk_core", "server", "clients", "proto/python", "bench")
SOURCES = sorted(path for place in PLACES for path in ROOT.glob(f"{place}/**/*.py") if "node_modules" not in path.parts)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 600, 60, 8


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_named_well_and_open_with_a_chapter(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE
    assert path.stem not in FORBIDDEN_NAMES
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens with what it answers"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION or _is_command(node), f"{node.name} has {length} lines"


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A click command carries its whole option list; its body is small."""
    return any("click" in ast.unparse(each) for each in node.decorator_list)


def _structs() -> list[type[msgspec.Struct]]:
    for module in pkgutil.walk_packages(ovnk_core.__path__, "ovnk_core."):
        if not module.name.startswith("ovnk_core.northbound"):
            importlib.import_module(module.name)
    found: list[type[msgspec.Struct]] = []
    open_ = [Value, Key]
    while open_:
        each = open_.pop()
        found.append(each)
        open_ += each.__subclasses__()
    return found


def test_every_struct_is_frozen_and_values_take_keywords() -> None:
    structs = _structs()
    assert len(structs) > 60
    for each in structs:
        assert each.__struct_config__.frozen, each
        if issubclass(each, Value) and each.__struct_fields__:
            with pytest.raises(TypeError):
                each(*([None] * len(each.__struct_fields__)))


def test_no_async_below_the_shell() -> None:
    shell = ("northbound", "store", "runtime", "control_plane", "keeper")
    for path in ROOT.glob("ovnk_core/**/*.py"):
        if path.relative_to(ROOT / "ovnk_core").parts[0].removesuffix(".py") in shell:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), path


def test_every_failpoint_is_listed_and_stands_somewhere() -> None:
    """tests/server/test_crash.py then kills the server at each."""
    found = {
        name
        for path in ROOT.glob("ovnk_core/**/*.py")
        for name in re.findall(r'^ +failpoint\("([^"]+)"\)', path.read_text(), flags=re.MULTILINE)
    }
    assert found == set(FAILPOINTS)


def test_no_path_of_a_machine_and_no_registry_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        text = (ROOT / name).read_bytes()
        for word in (b"/root/", b"/home/", b"files.pythonhosted", b"--index-url", b"--extra-index"):
            assert word not in text or name.endswith("test_structure.py"), f"{word!r} in {name}"


def test_help_imports_next_to_nothing() -> None:
    code = (
        "import sys\nsys.argv = ['ovnk', '--help']\nfrom ovnk_cli.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('asyncio', 'anyio', 'yaml', 'msgspec', 'numpy', 'numba', 'grpc', 'ovnk_core')"
        " if name in sys.modules])"
    )
    path = f"{ROOT}:{ROOT / 'clients' / 'cli'}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("name", "nodes"), [("pipeline", PIPELINE), ("flows", FLOW_PIPELINE)])
def test_the_graph_is_as_reviewed(name: str, nodes: tuple[object, ...]) -> None:
    """After a wanted change: ``python -m tests.house.test_structure`` rewrites the golden files; read the diff."""
    golden = ROOT / "tests" / "house" / f"graph_{name}.txt"
    assert Engine(nodes).describe() == golden.read_text()  # type: ignore[arg-type]


def test_four_relations_no_more() -> None:
    assert sum(" relation " in line for line in Engine(PIPELINE).describe().splitlines()) == 4


if __name__ == "__main__":
    for name, nodes in (("pipeline", PIPELINE), ("flows", FLOW_PIPELINE)):
        (ROOT / "tests" / "house" / f"graph_{name}.txt").write_text(Engine(nodes).describe())
