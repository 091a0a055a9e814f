"""A node with egress IPs is lost: from the signal to the commit that withdraws them and the one that assigns them anew,
in a real ovsdb-server.

200 objects of one address on 20 nodes; each selects a namespace of 50 pods. The signal is, by turns, a report that the
node does not answer and a Node that is not Ready. *decided* is when the withdrawal, computed and recorded, is about to
be sent; *withdrawn* and *assigned* are when ovsdb-server has confirmed each commit. Between losses the node returns and
the addresses are spread again, which is not counted.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from bench.measure import percentiles
from ovnk_core.control_plane import ControlPlane
from ovnk_core.nb.operation import Operation
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.port import Receipt
from tests.kit.ovn import OvsdbServer, short_directory

NODES, OBJECTS, PODS, LOSSES = 20, 200, 10_000, 40
DECISION_GOAL_S = 1.0
PATIENCE_S = 120.0
Manifest = dict[str, Any]


def run() -> dict[str, Any]:
    """Cold load, then the losses; figures by name."""
    with short_directory() as directory, OvsdbServer(directory) as server:
        return asyncio.run(_measure(server.address))


class _Timed(NativeNorthbound):
    """Notes of each commit when it was asked for, when it was confirmed, and its operations."""

    commits: list[tuple[float, float, int]]

    async def transact(self, operations: Sequence[Operation], **options: Any) -> Receipt:
        begun = perf_counter()
        receipt = await super().transact(operations, **options)
        self.commits.append((begun, perf_counter(), len(operations)))
        return receipt


async def _measure(address: str) -> dict[str, Any]:
    northbound = _Timed(address)
    northbound.commits = []
    async with ControlPlane(northbound, allow_prune=True) as plane:
        begun = perf_counter()
        await plane.apply(_objects())
        await _settle(plane)
        cold = {"seconds": round(perf_counter() - begun, 2)}
        counted, times = Counter[str](), dict[str, list[float]]()
        for number in range(LOSSES):
            name = f"node-{number % NODES:02d}"
            counted.update(await _lose(plane, northbound, name, times, is_reported=bool(number % 2)))
            await plane.report_reachability({name: True})
            await plane.apply([_node(number % NODES)])
            await plane.rebalance_egress_ips()
            await _settle(plane)
        plane.cluster.engine.verify()
    found = {name: percentiles(seconds) for name, seconds in times.items()}
    moved = counted.pop("addresses")
    return {
        "cluster": {"nodes": NODES, "egress_ips": OBJECTS, "pods": PODS, "pods_per_egress_ip": PODS // OBJECTS},
        "cold_load": cold,
        "losses": {"count": LOSSES, "addresses_moved": moved},
        "per_moved_address": {name: round(count / moved, 2) for name, count in sorted(counted.items())},
        "from_the_signal": {
            name: {key.replace("_us", "_ms"): round(value / 1_000, 1) for key, value in each.items()}
            for name, each in found.items()
        },
        "goals": {
            f"the decision takes at most {DECISION_GOAL_S:g} s": max(times["decided"]) <= DECISION_GOAL_S,
            "the withdrawal is confirmed before the assignment is sent": not counted["early"],
            "two commits for each loss": counted["commits"] == 2 * LOSSES,
        },
    }


async def _settle(plane: ControlPlane) -> None:
    """Until everything is in the northbound, what a withdrawal lets go included."""
    while True:
        await plane.wait(timeout_s=PATIENCE_S)
        if not any(each.leaving for each in plane.cluster.decisions.egress_ips.values()):
            await plane.wait(timeout_s=PATIENCE_S)
            return


def _held(plane: ControlPlane, name: str) -> int:
    decided = plane.cluster.decisions.egress_ips.values()
    return sum(each.node == name for one in decided for each in one.assignments)


async def _lose(
    plane: ControlPlane, northbound: _Timed, name: str, times: dict[str, list[float]], *, is_reported: bool
) -> Counter[str]:
    """One loss -> what it took; ``times`` get theirs."""
    stats = plane.cluster.engine.stats
    held, runs = _held(plane, name), sum(each["runs"] for each in stats().values())
    northbound.commits = []
    gc.collect()
    begun = perf_counter()
    if is_reported:
        await plane.report_reachability({name: False})
    else:
        await plane.apply([_node(int(name[-2:]), is_ready=False)])
    await _settle(plane)
    assert held and not _held(plane, name)
    withdrawal, assignment = northbound.commits[0], northbound.commits[-1]
    at = {"decided": withdrawal[0], "withdrawn": withdrawal[1], "assigned": assignment[1]}
    for what, when in at.items():
        times.setdefault(what, []).append(when - begun)
    return Counter(
        addresses=held,
        commits=len(northbound.commits),
        early=assignment[0] < withdrawal[1],
        operations=sum(each[2] for each in northbound.commits),
        rule_runs=sum(each["runs"] for each in stats().values()) - runs,
    )


# ------------------------------------------------------------------------------------------- what there is


def _node(number: int, *, is_ready: bool = True) -> Manifest:
    address = f"172.20.0.{number + 1}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"node-{number:02d}",
            "labels": {"k8s.ovn.org/egress-assignable": ""},
            "annotations": {"k8s.ovn.org/node-primary-ifaddr": f'{{"ipv4": "{address}/16"}}'},
        },
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": str(is_ready)}],
        },
    }


def _objects() -> Iterator[Manifest]:
    yield from map(_node, range(NODES))
    for number in range(OBJECTS):
        labels = {"team": str(number)}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{number}", "labels": labels}}
        yield {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressIP",
            "metadata": {"name": f"out-{number:03d}"},
            "spec": {
                "egressIPs": [f"172.20.{1 + number // 100}.{1 + number % 100}"],
                "namespaceSelector": {"matchLabels": labels},
            },
        }
    for number in range(PODS):
        metadata = {"name": f"pod-{number}", "namespace": f"ns-{number % OBJECTS}"}
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"nodeName": f"node-{number // OBJECTS % NODES:02d}", "containers": [{"name": "c"}]},
        }
