"""One edit of an 8,000-rule egress firewall, from ``ControlPlane.apply`` to the commit in a real ovsdb-server.

Edits are given as decoded manifests, as a client sends them: the whole object, one rule more or less. Counted are
operations and members; times are wall milliseconds from apply to commit, and CPU milliseconds of the client process.
``cold_edit`` are the first edits of a process, while the compiled layering is loaded beside them. Shapes:
``bench.rule_sets``; 70 % Allow, the last rule denies everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter, process_time
from typing import Any

from bench.measure import server_cpu_seconds
from ovnk_core.control_plane import ControlPlane
from ovnk_core.kernels.layering import warm
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS
from ovnk_core.northbound.native import NativeNorthbound
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.random_policy import Manifest
from tests.kit.shapes import firewall, shaped_firewall

SHAPES = ("hosts", "nested", "realistic", "half", "ports")
COUNT, EDITS, COLD_EDITS = 7_990, 60, 5
GOAL_MS = 50.0
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x", "namespace": "a"},
    "spec": {"nodeName": "n1", "containers": []},
}


def run() -> dict[str, Any]:
    """Figures per shape."""
    cold = asyncio.run(_measure("hosts", COLD_EDITS))
    warm()
    found = {shape: asyncio.run(_measure(shape, EDITS)) for shape in SHAPES}
    appended = found["hosts"]["operations_of_an_appended_host"]
    goals = {
        f"{shape}: any edit under {GOAL_MS:.0f} ms, median": figures["edit"]["p50_ms"] < GOAL_MS
        for shape, figures in found.items()
    }
    goals["a /32 more is one address and its record"] = appended == {"insert": 0, "update": 0, "mutate": 2, "delete": 0}
    return {**found, "cold_edit": cold["edit"], "goals": goals}


async def _measure(shape: str, edits: int) -> dict[str, Any]:
    with short_directory() as directory, OvsdbServer(directory, "nb") as server:
        async with ControlPlane(NativeNorthbound(server.address)) as plane:
            made = shaped_firewall(shape, COUNT, seed=3)
            started = perf_counter()
            await _commit(plane, [NODE, POD, made])
            first = perf_counter() - started
            entries: list[Manifest] = list(made["spec"]["egress"])
            walls, cpus, operations = [], [], []
            before = server_cpu_seconds(server.daemon.pid)
            for edited in _edits(entries, edits):
                wall, cpu = perf_counter(), process_time()
                await _commit(plane, [firewall(edited)])
                walls.append((perf_counter() - wall) * 1e3)
                cpus.append((process_time() - cpu) * 1e3)
                operations.append(plane.last_flush.operations)
            server_ms = (server_cpu_seconds(server.daemon.pid) - before) * 1e3 / edits
            rows = plane.cluster.engine.rows
            return {
                "rules": COUNT,
                "rows": {"acl": len(rows(ACLS)), "address_set": len(rows(ADDRESS_SETS))},
                "first_commit_s": round(first, 3),
                "edit": {
                    **_spread(walls),
                    "client_cpu_p50_ms": _spread(cpus)["p50_ms"],
                    "server_cpu_ms": round(server_ms, 1),
                },
                "operations_of_an_appended_host": operations[0],
                "most_operations": max(sum(each.values()) for each in operations),
            }


async def _commit(plane: ControlPlane, objects: list[Manifest]) -> None:
    receipt = await plane.apply(objects)
    assert receipt.is_accepted, receipt
    await plane.wait(receipt.revision)


def _edits(entries: list[Manifest], count: int) -> Iterator[list[Manifest]]:
    """A host before the last rule, a host somewhere, a prefix with a port at the head, and rules taken out again."""
    for number in range(count):
        word, host = ("Allow", "Deny")[number % 2], {"cidrSelector": f"9.9.{number}.1/32"}
        match number % 4:
            case 0:
                entries = [*entries[:-1], {"type": "Allow", "to": host}, entries[-1]]
            case 1:
                at = number * 997 % len(entries)
                entries = [*entries[:at], {"type": word, "to": host}, *entries[at:]]
            case 2:
                ports = [{"protocol": "TCP", "port": 25 + number}]
                entries = [{"type": "Deny", "to": {"cidrSelector": "10.0.0.0/8"}, "ports": ports}, *entries]
            case _:
                at = number * 499 % (len(entries) - 1)
                entries = [*entries[:at], *entries[at + 3 :]]
        yield entries


def _spread(figures: list[float]) -> dict[str, float]:
    ordered = sorted(figures)
    at = {"min_ms": 0, "p50_ms": len(ordered) // 2, "max_ms": len(ordered) - 1}
    return {name: round(ordered[index], 1) for name, index in at.items()}
