"""That cluster into a real northbound, through each driver: who pays how much processor time.

One ovsdb-server and one client process per driver, one after the other. CPU seconds of the client are those of its
process (``getrusage``, all threads), of the server those in procfs. *write* is one transaction with every row, until
the driver's mirror shows it; *load* is connecting to the full database; *second sync* compares everything and, because
nothing differs, must leave the database file untouched. The core's own work is reported apart: it is the same for both.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any, Literal

from bench.measure import percentiles, server_cpu_seconds
from bench.scenarios import cluster_10k as made
from bench.scenarios.core import label_change
from ovnk_core.cluster import Cluster
from ovnk_core.model.pod import Pod
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.runtime.writer import Writer
from tests.kit.ovn import OvsdbServer, short_directory

DriverName = Literal["native", "ovsdbapp"]
DRIVERS: tuple[DriverName, ...] = ("native", "ovsdbapp")
GOAL_RATIO = 20
EVENTS = 200
ROUNDS = 3
PATIENCE_S = 600.0


def run() -> dict[str, Any]:
    """Figures of each driver, and native against ovsdbapp.

    The drivers take turns, because a shared machine is not equally fast from one minute to the next. Shown of each
    phase is its median round; ratios are those of the sums over all rounds, and of each round.
    """
    rounds: list[dict[str, Any]] = [{name: _measure_apart(name) for name in DRIVERS} for _ in range(ROUNDS)]
    found: dict[str, Any] = {name: _median([each[name] for each in rounds]) for name in DRIVERS}
    ratios = {f"{phase}_client_cpu": _ratios(rounds, phase) for phase in ("write", "load", "pod_label_change")}
    idle = [each[name]["second_sync"] for each in rounds for name in DRIVERS]
    goals = {
        "native writes with 20x less client CPU than ovsdbapp": ratios["write_client_cpu"]["all"] >= GOAL_RATIO,
        "second sync: no operation, no transaction": not any(
            each["operations"] or each["database_bytes_written"] for each in idle
        ),
    }
    return {**found, "ratios": ratios, "goals": goals}


def _median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Phase by phase, the round with the median client CPU."""
    return {
        phase: sorted((each[phase] for each in rounds), key=lambda cost: float(cost["client_cpu_seconds"]))[ROUNDS // 2]
        for phase in rounds[0]
    }


def _ratios(rounds: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    """Client CPU of ovsdbapp for each second of native's: over all rounds, and round by round."""
    spent = {name: [each[name][phase]["client_cpu_seconds"] for each in rounds] for name in DRIVERS}
    by_round = [round(slow / fast, 1) for slow, fast in zip(spent["ovsdbapp"], spent["native"], strict=True)]
    return {"all": round(sum(spent["ovsdbapp"]) / sum(spent["native"]), 1), "by_round": by_round}


def _measure_apart(driver: DriverName) -> dict[str, Any]:
    """Run ``main`` for one driver in a process of its own, against a server of its own."""
    with short_directory() as directory, OvsdbServer(directory) as server:
        argv = [sys.executable, "-m", __name__, driver, server.address, str(server.file), str(server.daemon.pid)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Meter:
    """Wall time, client CPU and server CPU of a stretch of work."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self.start()

    def start(self) -> None:
        self._wall, self._client, self._server = perf_counter(), _client_cpu(), server_cpu_seconds(self._pid)

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(perf_counter() - self._wall, 3),
            "client_cpu_seconds": round(_client_cpu() - self._client, 3),
            "server_cpu_seconds": round(server_cpu_seconds(self._pid) - self._server, 3),
        }


def _client_cpu() -> float:
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measure(driver: DriverName, address: str, database: Path, server_pid: int) -> dict[str, Any]:
    items = made.items()
    cluster = Cluster()
    meter = _Meter(server_pid)
    cluster.apply(items)
    found: dict[str, Any] = {"core": meter.read()}
    gc.collect()
    gc.freeze()

    northbound = await _connected(driver, address)
    meter.start()
    operations = _writer(cluster, northbound).difference().operations
    found["compare"] = meter.read() | {"operations": len(operations)}
    meter.start()
    await northbound.transact(operations, timeout_s=PATIENCE_S)
    found["write"] = meter.read() | {"operations": len(operations)}
    await northbound.close()

    meter.start()
    northbound = await _connected(driver, address)
    found["load"] = meter.read()
    size = database.stat().st_size
    writer = _writer(cluster, northbound)
    meter.start()
    flushed = await writer.flush()
    found["second_sync"] = meter.read() | {
        "operations": sum(flushed.operations.values()),
        "database_bytes_written": database.stat().st_size - size,
    }
    gc.collect()
    gc.freeze()
    meter.start()
    events = await _label_changes(cluster, writer)
    found["pod_label_change"] = meter.read() | events
    await northbound.close()
    return found


async def _label_changes(cluster: Cluster, writer: Writer) -> dict[str, Any]:
    """One pod at a time: apply, compare what the delta names, commit."""
    rng = random.Random(made.SEED)
    pods = [pod for _, pod in sorted(cluster.objects("Pod").items())]
    events = []
    for pod in rng.sample(pods, EVENTS):
        assert isinstance(pod, Pod)
        events.append(made.item(label_change(rng, pod)))
    seconds: list[float] = []
    operations = dict.fromkeys(("insert", "update", "mutate", "delete"), 0)
    for item in events:
        started = perf_counter()
        writer.note(cluster.apply((item,)).delta)
        flushed = await writer.flush()
        seconds.append(perf_counter() - started)
        for verb, count in flushed.operations.items():
            operations[verb] += count
    per_event = {verb: round(count / EVENTS, 2) for verb, count in operations.items()}
    return {"events": EVENTS, "to_commit": percentiles(seconds), "operations_per_event": per_event}


async def _connected(driver: DriverName, address: str) -> Northbound:
    northbound: Northbound = NativeNorthbound(address) if driver == "native" else OvsdbappNorthbound(address)
    await northbound.connect(mirrored(), timeout_s=PATIENCE_S)
    return northbound


def _writer(cluster: Cluster, northbound: Northbound) -> Writer:
    return Writer(cluster, northbound, adopt=False, allow_prune=False)


def main(driver: str, address: str, database: str, server_pid: str) -> None:
    """One driver's figures as JSON on standard output."""
    name: DriverName = "native" if driver == "native" else "ovsdbapp"
    print(json.dumps(asyncio.run(_measure(name, address, Path(database), int(server_pid)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
