"""Real OVN daemons for tests and benchmarks, each in a short directory of its own.

``OvsdbServer`` is one ovsdb-server on a unix socket; ``Central`` is northbound + southbound + ovn-northd. All state
(databases, sockets, logs, pid files) lives in the directory given. Daemons run in the foreground as our children, so
that they are reaped by us and ended by the pid we hold; nothing else is ever signalled. What a test starts ends with it
(``tests/conftest.py``), whether it stops it or fails before it could. A missing binary raises ``OvnMissing`` with what
installs it: a test that needs OVN fails without it, it is never skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.kit.wire import Wire

MAX_DIRECTORY = 70
"""Unix socket paths hold 108 bytes; daemons append their own names to the directory."""

SCHEMA_DIRECTORIES = ("/usr/share/ovn", "/usr/local/share/ovn")
DATABASES = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}
GLOBALS = {"nb": "NB_Global", "sb": "SB_Global"}
_LIBC = ctypes.CDLL(None)
_started: list[Daemon] = []
"""Held until each is stopped: a process that nobody holds any more runs on, and is complained of in another test."""


class OvnMissing(RuntimeError):
    """A program or schema file of OVN is not installed."""


class DaemonFailed(RuntimeError):
    """A daemon ended or did not answer in time; the message holds the tail of its log."""


def program(name: str) -> str:
    """Name of an OVN program -> its path. Raises OvnMissing."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise OvnMissing(f"{name} is not installed; on Debian, as root: scripts/ensure-ovn")
    return path


def schema_file(kind: Literal["nb", "sb"]) -> str:
    """Path of OVN's schema file. Raises OvnMissing."""
    for directory in SCHEMA_DIRECTORIES:
        path = Path(directory) / f"ovn-{kind}.ovsschema"
        if path.exists():
            return str(path)
    raise OvnMissing(f"ovn-{kind}.ovsschema is not installed; on Debian, as root: scripts/ensure-ovn")


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A fresh directory whose path fits into a unix socket address; removed at exit."""
    root = tempfile.gettempdir()
    directory = tempfile.mkdtemp(prefix="ovnk-", dir=root if len(root) < 40 else "/tmp")
    try:
        yield Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _checked(directory: str | Path) -> Path:
    path = Path(directory)
    if len(str(path)) > MAX_DIRECTORY:
        raise ValueError(f"{path} is longer than {MAX_DIRECTORY} characters, too long for unix sockets")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(directory: Path) -> dict[str, str]:
    """The process environment with every default path of OVS and OVN moved below ``directory``."""
    moved = {f"{family}_{kind}": str(directory) for family in ("OVS", "OVN") for kind in ("RUNDIR", "LOGDIR", "DBDIR")}
    return {**os.environ, **moved}


def _die_with_parent() -> None:
    """In the child: end when the parent ends without a chance to stop it (SIGKILL). Linux ties this to the thread
    that forked, so it is asked for in the main thread only."""
    _LIBC.prctl(1, int(signal.SIGKILL))


class Daemon:
    """One child process: start, stop (TERM, then KILL), kill, suspend, resume."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path) -> None:
        self.name, self.argv, self.directory = name, list(argv), directory
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_suspended = False

    @property
    def pid(self) -> int:
        if self._process is None:
            raise DaemonFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status; minus the signal that ended it, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def is_stopped(self) -> bool:
        """Whether it is suspended, by us or by itself."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def start(self) -> None:
        """Start the process; its console goes to ``NAME.console`` in the directory."""
        with (self.directory / f"{self.name}.console").open("ab") as console, warnings.catch_warnings():
            # Newer Pythons warn of preexec_fn in a process with threads; ours makes one system call.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.directory,
                env=environment(self.directory),
                start_new_session=True,
                preexec_fn=_die_with_parent if threading.current_thread() is threading.main_thread() else None,
            )
        self._is_suspended = False
        if self not in _started:
            _started.append(self)

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._process is None:
            return
        if self._is_suspended:
            self.resume()
        if self.is_alive:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, unless it has ended, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            _started.remove(self)

    def suspend(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self._is_suspended = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._is_suspended = False

    def failure(self, reason: str) -> DaemonFailed:
        """An error with the tail of the log and of the console."""
        tails = [
            path.read_text(errors="replace")[-1500:]
            for path in (self.log, self.directory / f"{self.name}.console")
            if path.exists()
        ]
        return DaemonFailed(f"{self.name}: {reason}\n" + "\n".join(tails))


@contextlib.contextmanager
def leftovers_end() -> Iterator[None]:
    """What is started within and not stopped is killed at the end; what ran before runs on."""
    before = list(_started)
    try:
        yield
    finally:
        for daemon in [each for each in _started if each not in before]:
            daemon.kill()


@atexit.register
def _end_all() -> None:
    for daemon in _started:
        daemon.kill()


def wait_until(daemon: Daemon, probe: Any, reason: str, timeout_s: float = 15.0) -> None:
    """Call ``probe()`` until it is true. Raises DaemonFailed when the process ends first or time is up."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if not daemon.is_alive:
            raise daemon.failure("ended at start")
        if time.monotonic() > deadline:
            raise daemon.failure(reason)
        time.sleep(0.005)


class OvsdbServer:
    """One ovsdb-server with a fresh (or, after a restart, the same) database and its global row."""

    def __init__(
        self,
        directory: str | Path,
        kind: Literal["nb", "sb"] = "nb",
        *,
        tcp_port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.directory, self.kind, self.database = _checked(directory), kind, DATABASES[kind]
        self.socket = str(self.directory / f"{kind}.sock")
        self.file = self.directory / f"{kind}.db"
        remotes = [f"--remote=punix:{self.socket}"]
        if tcp_port is not None:
            remotes.append(f"--remote=ptcp:{tcp_port}:127.0.0.1")
        self.daemon = Daemon(
            f"ovsdb-{kind}",
            [
                program("ovsdb-server"),
                "-vconsole:off",
                f"--log-file={self.directory}/ovsdb-{kind}.log",
                f"--unixctl={self.directory}/{kind}.ctl",
                "--no-chdir",
                *remotes,
                *options,
                str(self.file),
            ],
            self.directory,
        )

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def start(self) -> Self:
        """Create the database when it is missing, serve it, and make sure that its global row exists."""
        if not self.file.exists():
            made = subprocess.run(
                [program("ovsdb-tool"), "create", str(self.file), schema_file(self.kind)],
                capture_output=True,
                text=True,
                env=environment(self.directory),
            )
            if made.returncode:
                raise DaemonFailed(f"ovsdb-tool create: {made.stderr.strip()}")
        Path(self.socket).unlink(missing_ok=True)
        self.daemon.start()
        wait_until(self.daemon, lambda: Wire.answers(self.socket), "did not listen in time")
        with self.wire() as wire:
            if not wire.select(GLOBALS[self.kind]):
                wire.transact({"op": "insert", "table": GLOBALS[self.kind], "row": {}})
        return self

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        self.daemon.kill()

    def restart(self) -> None:
        """SIGKILL and start again on the same database file."""
        self.kill()
        self.start()

    def suspend(self) -> None:
        self.daemon.suspend()

    def resume(self) -> None:
        self.daemon.resume()

    def wire(self) -> Wire:
        """A blocking JSON-RPC connection of its own; a context manager."""
        return Wire(self.socket, self.database)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Central:
    """Northbound, southbound and ovn-northd. ``nb`` and ``sb`` are addresses (``unix:PATH``)."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = _checked(directory)
        self.northbound, self.southbound = OvsdbServer(directory, "nb"), OvsdbServer(directory, "sb")
        self.northd = Daemon(
            "northd",
            [
                program("ovn-northd"),
                "-vconsole:off",
                f"--log-file={self.directory}/northd.log",
                f"--unixctl={self.directory}/northd.ctl",
                "--no-chdir",
                f"--ovnnb-db={self.northbound.address}",
                f"--ovnsb-db={self.southbound.address}",
            ],
            self.directory,
        )

    @property
    def nb(self) -> str:
        return self.northbound.address

    @property
    def sb(self) -> str:
        return self.southbound.address

    def start(self) -> Self:
        try:
            self.northbound.start()
            self.southbound.start()
            self.northd.start()
            self.sync(timeout=20)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for part in (self.northd, self.southbound, self.northbound):
            part.stop()

    def sync(self, timeout: float = 30.0, *, until: Literal["sb_cfg", "hv_cfg"] = "sb_cfg") -> int:
        """Bump nb_cfg and block until ovn-northd (``hv_cfg``: every chassis, too) has written everything before it
        -> the nb_cfg reached.

        Seconds. Raises DaemonFailed when northd ended or did not get there in time.
        """
        with self.northbound.wire() as wire:
            bump = {"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]}
            read = {"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg"]}
            wanted = int(wire.transact(bump, read)[1]["rows"][0]["nb_cfg"])
            if not self.northd.is_alive:
                raise self.northd.failure("is not running")
            reached = {
                "op": "wait",
                "timeout": int(timeout * 1000),
                "table": "NB_Global",
                "where": [[until, ">=", wanted]],
                "columns": [until],
                "until": "!=",
                "rows": [],
            }
            try:
                wire.transact(reached, timeout_s=timeout + 5)
            except RuntimeError as error:
                raise self.northd.failure(f"did not reach nb_cfg {wanted} in {timeout} s ({error})") from error
        return wanted

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
