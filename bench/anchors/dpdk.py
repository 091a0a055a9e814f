"""DPDK's ACL library on the same rules and flows: compiles ``dpdk_acl.c`` and talks to it over pipes.

The driver is another process, so that neither side's memory disturbs the other's more than it must; it stays, so that
passes of both sides can be interleaved. Each entry (prefix times port) is one ACL rule with the source port left open;
keys are classified in bursts of 256 through an array of pointers, which the library wants; it is made beforehand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from bench.rule_sets import WIDTH, Flows
from ovnk_core.kernels.classifier import ANY_PORT, Rule

SOURCE = Path(__file__).with_name("dpdk_acl.c")
SCALAR, AVX2 = 0, 1
MISSING = (
    "bench: DPDK's ACL library is missing; install the Debian packages dpdk, libdpdk-dev, pkg-config and gcc "
    "(apt-get install dpdk libdpdk-dev pkg-config gcc)"
)
ENTRY = np.dtype(
    [
        ("rule", "<u4"),
        ("length", "<u4"),
        ("network", "<u4", 4),
        ("first_port", "<u2"),
        ("last_port", "<u2"),
        ("protocol", "u1"),
        ("protocol_mask", "u1"),
        ("padding", "u1", 2),
    ]
)


def compile_driver(directory: Path) -> Path:
    """The driver's path; exits with a message that names the packages if it cannot be compiled."""
    found = None
    if shutil.which("cc") and shutil.which("pkg-config"):
        found = subprocess.run(["pkg-config", "--cflags", "--libs", "libdpdk"], capture_output=True, text=True)
    if found is None or found.returncode:
        sys.exit(MISSING)
    path = directory / "dpdk_acl"
    command = ["cc", "-O3", "-march=native", "-o", str(path), str(SOURCE), *found.stdout.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {SOURCE.name} does not compile\n{done.stderr}")
    return path


def version() -> str:
    return subprocess.run(
        ["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True, check=True
    ).stdout.strip()


class DpdkAcl:
    """One built rule set. ``build_ms``, ``add_ms``, ``nbytes``: what building cost; ``failed``: the error code if it
    could not be built (the driver has 3 GiB)."""

    def __init__(self, driver: Path, directory: Path, rules: Sequence[Rule], traces: Sequence[Flows]) -> None:
        family = rules[-1].prefixes[0].family
        _entries(rules, family).tofile(directory / "rules")
        for number, flows in enumerate(traces):
            _keys(flows).tofile(directory / f"keys{number}")
        names = [str(directory / f"keys{number}") for number in range(len(traces))]
        self.sizes = [len(flows.ports) for flows in traces]
        self.process = subprocess.Popen(
            [driver, str(family), str(directory / "rules"), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        word, *figures = self._line().split()
        self.failed = int(figures[0]) if word == "failed" else 0
        self.build_ms, self.add_ms, size = map(float, figures) if word == "built" else (0.0, 0.0, 0.0)
        self.nbytes = int(size)

    def seconds(self, trace: int, algorithm: int = AVX2, passes: int = 1) -> float:
        """Mean of ``passes`` passes in a row over all flows of a trace."""
        self._say(trace, algorithm, passes)
        return float(self._line()) / 1e9 / passes

    def answers(self, trace: int) -> npt.NDArray[np.int32]:
        """Rule of each flow, -1 for none."""
        assert self.process.stdout is not None
        self._say(trace, -1, 1)
        assert self._line() == "results"
        data = self.process.stdout.read(4 * self.sizes[trace])
        return np.frombuffer(data, np.uint32).astype(np.int32) - 1

    def _say(self, trace: int, algorithm: int, passes: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{trace} {algorithm} {passes}\n".encode())
        self.process.stdin.flush()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        if not line:
            raise RuntimeError(f"the DPDK driver ended with code {self.process.wait()}")
        return line

    def __enter__(self) -> DpdkAcl:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()


def _entries(rules: Sequence[Rule], family: int) -> npt.NDArray[np.void]:
    rows = []
    for number, (prefixes, ports) in enumerate(rules):
        for _, network, length in prefixes:
            shifts = range(WIDTH[family] - 32, -1, -32)
            words = [network >> shift & 0xFFFFFFFF for shift in shifts] + [0] * (4 - len(shifts))
            for protocol, port in ports or ((0, ANY_PORT),):
                first, last = (0, 65535) if port == ANY_PORT else (port, port)
                rows.append((number, length, words, first, last, protocol, 0xFF if protocol else 0, (0, 0)))
    return np.array(rows, ENTRY)


def _keys(flows: Flows) -> npt.NDArray[np.void]:
    words = 1 if flows.family == 4 else 4
    kinds = [("protocol", "u1"), ("padding", "u1", 3), ("address", ">u4", words), ("source", ">u2"), ("port", ">u2")]
    keys = np.zeros(len(flows.ports), np.dtype(kinds))
    keys["protocol"], keys["port"] = flows.protocols, flows.ports
    if flows.family == 4:
        keys["address"] = flows.addresses.reshape(-1, 1)
    else:
        high, low = flows.addresses[:, 0], flows.addresses[:, 1]
        for at, half in enumerate((high, high, low, low)):
            keys["address"][:, at] = (half >> np.uint64(32 if at % 2 == 0 else 0)) & np.uint64(0xFFFFFFFF)
    return keys
