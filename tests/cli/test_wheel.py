"""The wheel, in an environment that holds nothing of the source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.cli.command import ROOT

PACKAGES = {"ovnk_core", "ovnk_api", "ovnk_wire", "ovnk_server", "ovnk_client", "ovnk_cli"}


def test_the_wheel_installs_and_runs(tmp_path: Path) -> None:
    """Built without isolation (the lock file holds setuptools); dependencies come from this environment."""
    wheels = tmp_path / "wheels"
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "bench"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("ovnk-*.whl")
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = next(home.glob("lib/python*/site-packages"))
    install = [*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert {path.name for path in site.iterdir() if path.name.startswith("ovnk_")} == PACKAGES
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = (
        "import importlib, pkgutil\n"
        f"for name in {sorted(PACKAGES)}:\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        importlib.import_module(module.name) if not module.name.endswith('__main__') else None\n"
        "    print(package.__file__)\n"
    )
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(str(site) in line for line in done.stdout.splitlines())
    ran = subprocess.run([str(home / "bin" / "ovnk"), "version"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("ovnk ")
