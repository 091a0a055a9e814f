"""ovn-trace as an oracle: a daemon per connection-tracking state, asked over a kept unixctl socket.

Facts of OVN 23.03 that shape this file: the daemon reads the southbound once, when it starts (``refresh`` after every
change); ``--ct`` and ``--lb-dst`` are accepted at start only; each ct action a packet meets takes one entry off the ct
list, *across traces*, and when it is used up the state is silently established; a syntax error comes back as a result;
an unknown inport ends the daemon; the exit status says nothing of the verdict, which is read from the text.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.kit.ovn import DaemonFailed, environment, program
from tests.kit.wire import Wire, WireError

NEW, ESTABLISHED, REPLY = "new", "est", "est,rpl"
CT_ENTRIES = 2000
"""How often a state is given to one daemon; it lasts for some hundred traces, then ``trace`` starts it anew."""

CT_ENTRIES_ONCE = 60
"""More than one packet meets."""

_OUTPUT = re.compile(r'^\s*/\* output to "([^"]*)", type "([^"]*)" \*/')
_STAGE = re.compile(r"^\s*(\d+)\. (\w+) \(([^)]*)\): (.*), priority (\d+), uuid ([0-9a-f]{8})")
_NO_MATCH = re.compile(r"^\s*(\d+)\. (\w+): no match \(implicit drop\)")
_NAT = re.compile(r"\b(ct_snat|ct_dnat|ct_lb|ct_lb_mark)\(([^)]*)\)")
_USED_UP = "/* default (use --ct to customize) */"
_LOG_WARNING = re.compile(r"\|(WARN|ERR|EMER)\|(.*)$")


class TraceError(RuntimeError):
    """ovn-trace did not understand the question (microflow, datapath, inport)."""


class Stage(NamedTuple):
    """One logical flow that matched; ``logical_flow`` is the first eight hex digits of its uuid."""

    table: int
    name: str
    match: str
    priority: int
    logical_flow: str


class TraceResult(NamedTuple):
    """One traced packet.

    ``outputs``: (port, type) of every output action. ``delivered``: ports of type "" (a pod's). ``left_by``: localnet
    ports, where the packet leaves for the outside. ``last``: the last flow that matched; ``no_match``: the stage where
    none did. ``nat``: (action, arguments) in order. ``warnings``: lines ovn-trace marked with three stars.
    """

    text: str
    outputs: tuple[tuple[str, str], ...]
    delivered: tuple[str, ...]
    left_by: tuple[str, ...]
    stages: tuple[Stage, ...]
    no_match: str | None
    nat: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def last(self) -> Stage | None:
        return self.stages[-1] if self.stages else None

    @property
    def is_allowed(self) -> bool:
        return bool(self.delivered or self.left_by)


def parse_trace(text: str) -> TraceResult:
    """The text of ``ovn-trace --detailed`` -> TraceResult."""
    outputs: list[tuple[str, str]] = []
    stages: list[Stage] = []
    nat: list[tuple[str, str]] = []
    warnings: list[str] = []
    no_match: str | None = None
    for line in text.splitlines():
        if found := _OUTPUT.match(line):
            outputs.append((found[1], found[2]))
        elif found := _STAGE.match(line):
            stages.append(Stage(int(found[1]), found[2], found[4], int(found[5]), found[6]))
        elif found := _NO_MATCH.match(line):
            no_match = found[2]
        elif found := _NAT.search(line):
            nat.append((found[1], found[2]))
        if "***" in line:
            warnings.append(line.strip())
    return TraceResult(
        text=text,
        outputs=tuple(outputs),
        delivered=tuple(port for port, kind in outputs if kind == ""),
        left_by=tuple(port for port, kind in outputs if kind == "localnet"),
        stages=tuple(stages),
        no_match=no_match,
        nat=tuple(nat),
        warnings=tuple(warnings),
    )


class TraceDaemon:
    """A private ``ovn-trace --detach`` on one southbound, for one connection state and one load-balancer choice.

    ``ct`` is the state that every ct action of a trace finds: ``NEW``, ``ESTABLISHED`` or ``REPLY``.
    """

    def __init__(
        self,
        sb: str,
        directory: str | Path,
        *,
        ct: str = NEW,
        lb_dst: str | None = None,
        name: str = "trace",
    ) -> None:
        self.directory = Path(directory)
        self._sb, self._ct, self._lb_dst = sb, ct, lb_dst
        self._control = str(self.directory / f"{name}.ctl")
        self._pidfile = self.directory / f"{name}.pid"
        self._log = self.directory / f"{name}.log"
        self._wire: Wire | None = None

    def start(self) -> Self:
        """Start it and wait until it has read the southbound."""
        self._log.unlink(missing_ok=True)
        options = [f"--ct={self._ct}"] * CT_ENTRIES + ([f"--lb-dst={self._lb_dst}"] if self._lb_dst else [])
        started = subprocess.run(
            [
                program("ovn-trace"),
                f"--db={self._sb}",
                "--detach",
                "--no-chdir",
                f"--pidfile={self._pidfile}",
                f"--unixctl={self._control}",
                f"--log-file={self._log}",
                "-vconsole:off",
                *options,
            ],
            env=environment(self.directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if started.returncode:
            raise DaemonFailed(f"ovn-trace: {started.stderr.strip()}")
        self._wire = Wire(self._control, timeout_s=120)
        # An early question is answered before the database has been read; a read one knows no such datapath.
        deadline = time.monotonic() + 120
        while "no-such-datapath" not in self._ask("no-such-datapath", "1"):
            if time.monotonic() > deadline:
                raise DaemonFailed("ovn-trace did not read the southbound in time")
            time.sleep(0.01)
        return self

    def _ask(self, *words: str) -> str:
        if self._wire is None:
            raise DaemonFailed("the trace daemon is not running")
        try:
            return str(self._wire.call("trace", *words))
        except WireError as error:
            return str(error)

    def trace(self, datapath: str, microflow: str) -> TraceResult:
        """One packet entering ``datapath`` (a logical switch) -> what becomes of it. Raises TraceError."""
        text = self._ask("--detailed", datapath, microflow)
        if _USED_UP in text:
            self.refresh()
            text = self._ask("--detailed", datapath, microflow)
        if "closed the connection" in text:
            self.refresh()
            raise TraceError(f"ovn-trace ended on this microflow (an unknown inport?): {microflow}")
        if _USED_UP in text:
            raise TraceError(f"one trace used up {CT_ENTRIES} ct entries: {microflow}")
        if "ingress(dp=" not in text:
            raise TraceError(f"{text.strip()}: {microflow}")
        return parse_trace(text)

    def warnings(self) -> tuple[str, ...]:
        """Warnings it logged since it started: match expressions and actions in the southbound that do not parse."""
        if not self._log.exists():
            return ()
        return tuple(found[2] for line in self._log.read_text().splitlines() if (found := _LOG_WARNING.search(line)))

    def refresh(self) -> None:
        """Read the southbound again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the process this object started; it daemonised, so it is known by its pid file and command line."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        try:
            pid = int(self._pidfile.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            return
        if str(self._pidfile) in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while _is_running(pid) and time.monotonic() < deadline:
                time.sleep(0.005)
        self._pidfile.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def trace_once(
    sb: str, directory: str | Path, packet: tuple[str, str], *, lb_dst: str = "", select_id: int = 0
) -> TraceResult:
    """One new connection, (datapath, microflow), that every load balancer it meets sends to ``lb_dst``, and that draws
    the next hop ``select_id`` (from 1) of a router policy with several.

    A process for one trace: a daemon takes the choice when it starts only. Raises TraceError.
    """
    options = [f"--ct={NEW}"] * CT_ENTRIES_ONCE + ([f"--lb-dst={lb_dst}"] if lb_dst else [])
    options += [f"--select-id={select_id}"] if select_id else []
    done = subprocess.run(
        [program("ovn-trace"), f"--db={sb}", "--detailed", *options, *packet],
        env=environment(Path(directory)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode or "ingress(dp=" not in done.stdout or _USED_UP in done.stdout:
        raise TraceError(f"{(done.stderr or done.stdout).strip()}: {packet[1]}")
    return parse_trace(done.stdout)


def _is_running(pid: int) -> bool:
    """Zombies count as ended: whoever adopted the daemon may reap it late."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "\nState:\tZ" not in status
