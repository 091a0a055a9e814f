"""2,000 Services on 100 nodes: rows and operations written, and rules run, when an endpoint changes or a node comes.

Every Service has a cluster IP, a node port and five endpoints. Most have the policies Cluster; some keep clients'
addresses (externalTrafficPolicy Local), some stay on the node (internalTrafficPolicy Local). The naive layout that the
figures are compared with has one load balancer per Service, protocol and node, because a node's vips are its own.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

from msgspec.structs import replace

from bench.measure import percentiles, timed
from bench.scenarios.cluster_10k import SEED, item
from ovnk_core.cluster import Cluster
from ovnk_core.features.services.rules import service_load_balancers
from ovnk_core.ingest.outcome import Item
from ovnk_core.model.node import Node
from ovnk_core.model.object import Declared
from ovnk_core.model.service import EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy
from ovnk_core.nb.desired import DESIRED, LOAD_BALANCERS, MEMBER, TEMPLATE_VARS
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.runtime.writer import Writer
from ovnk_core.terms.address import Address, InterfaceAddress, parse_address

NODES, SERVICES, ENDPOINTS = 100, 2_000, 5
EXTERNAL_LOCAL, INTERNAL_LOCAL = 150, 50
EVENTS = 200
NAIVE_ROWS = SERVICES * NODES


def run() -> dict[str, Any]:
    """Cold load, then every kind of event; figures by name."""
    rng = random.Random(SEED)
    services, slices = [], []
    for index in range(SERVICES):
        services.append(_service(index))
        slices.append(_slice(rng, index))
    world = _World()
    _, cold = timed(lambda: world.change(map(item, (*map(_node, range(NODES)), *services, *slices))))
    rows = world.rows()
    plain, external, internal = (
        [each for each in slices if _policy(int(each.service.partition("-")[2])) == policy]
        for policy in (("Cluster", "Cluster"), ("Local", "Cluster"), ("Cluster", "Local"))
    )
    events = {
        "endpoint changes, Cluster": world.measure(_flips(rng, plain)),
        "endpoint changes, external Local": world.measure(_flips(rng, external)),
        "endpoint changes, internal Local": world.measure(_flips(rng, internal)),
        "node added": world.measure([item(_node(NODES + index))] for index in range(5)),
    }
    world.cluster.engine.verify()
    added, changed = events["node added"], events["endpoint changes, Cluster"]
    return {
        "cluster": {"nodes": NODES, "services": SERVICES, "endpoints": SERVICES * ENDPOINTS},
        "cold_load": cold | rows | {"naive_rows": NAIVE_ROWS},
        "events": events,
        "naive operations": {"endpoint changes": NODES, "node added": SERVICES},
        "goals": {
            "rows grow with services + nodes": rows["load_balancers"] < 4 * (SERVICES + NODES),
            "an endpoint of a Cluster Service is two rows": changed["operations_per_event"] <= 2,
            "a node writes nothing per Service": added["operations_per_event"] < SERVICES / 10,
        },
    }


class _World:
    """A cluster and the northbound it is written to, which answers at once."""

    def __init__(self) -> None:
        self.cluster, self._northbound = Cluster(), MemoryNorthbound()
        asyncio.run(self._northbound.connect(mirrored()))
        self._writer = Writer(self.cluster, self._northbound, adopt=False, allow_prune=True)

    def change(self, put: Iterable[Item]) -> dict[str, int]:
        """Apply and write -> operations by verb."""
        applied = self.cluster.apply(put)
        assert not applied.errors
        self._writer.note(applied.delta)
        return asyncio.run(self._writer.flush()).operations

    def rows(self) -> dict[str, int]:
        engine = self.cluster.engine
        attached = sum(len(found) for column, found in engine.sets(MEMBER).items() if column.column == "load_balancer")
        return {
            "load_balancers": len(engine.rows(LOAD_BALANCERS)),
            "template_rows": len(engine.rows(TEMPLATE_VARS)),
            "attachments": attached,
            "all_rows": sum(len(engine.rows(table)) for table in DESIRED.values()),
        }

    def measure(self, events: Iterable[list[Item]]) -> dict[str, Any]:
        """Counters and time per event; the time is that of ``apply``."""
        stats, operations, seconds = self.cluster.engine.stats, Counter[str](), list[float]()
        before = {name: each["runs"] for name, each in stats().items()}
        for put in events:
            started = perf_counter()
            applied = self.cluster.apply(put)
            seconds.append(perf_counter() - started)
            self._writer.note(applied.delta)
            operations.update(asyncio.run(self._writer.flush()).operations)
        runs = {name: each["runs"] - before[name] for name, each in stats().items()}
        found = {
            "events": len(seconds),
            "rule_runs_per_event": sum(runs.values()),
            "service_runs_per_event": runs[service_load_balancers.name],
            "operations_per_event": sum(operations.values()),
            **{f"{verb}s_per_event": count for verb, count in sorted(operations.items()) if count},
        }
        averaged = {name: round(count / len(seconds), 2) for name, count in found.items() if name != "events"}
        return found | averaged | percentiles(seconds)


# ------------------------------------------------------------------------------------------- what there is


def _policy(index: int) -> tuple[TrafficPolicy, TrafficPolicy]:
    """External and internal traffic policy of a Service."""
    if index < EXTERNAL_LOCAL:
        return "Local", "Cluster"
    return ("Cluster", "Local") if index < EXTERNAL_LOCAL + INTERNAL_LOCAL else ("Cluster", "Cluster")


def _node(index: int) -> Declared:
    address = Address(4, parse_address("192.0.2.1").value + index)
    return Node(
        name=f"node-{index:03d}",
        internal=(address,),
        primary=(InterfaceAddress(address, 24),),
        gateway_next_hops=(parse_address("192.0.2.254"),),
    )


def _service(index: int) -> Service:
    external, internal = _policy(index)
    return Service(
        name=f"svc-{index}",
        namespace="shop",
        type="NodePort",
        has_node_ports=True,
        ports=(ServicePort(name="http", protocol="TCP", port=80),),
        external_policy=external,
        internal_policy=internal,
    )


def _slice(rng: random.Random, index: int) -> EndpointSlice:
    """Of Service ``index``: endpoints of clusterNetwork on nodes drawn at random."""
    first = parse_address("10.128.0.0").value + (index + 1) * 8
    return EndpointSlice(
        name=f"svc-{index}-1",
        namespace="shop",
        service=f"svc-{index}",
        ports=(SlicePort(name="http", protocol="TCP", number=8080),),
        endpoints=tuple(
            SliceEndpoint(address=Address(4, first + place), node=f"node-{rng.randrange(NODES):03d}")
            for place in range(ENDPOINTS)
        ),
    )


def _flips(rng: random.Random, slices: list[EndpointSlice]) -> Iterator[list[Item]]:
    """One endpoint becomes unready, or ready again."""
    current = {each.name: each for each in slices}
    for _ in range(EVENTS):
        name = rng.choice(sorted(current))
        endpoints = list(current[name].endpoints)
        place = rng.randrange(len(endpoints))
        endpoints[place] = replace(endpoints[place], is_ready=not endpoints[place].is_ready)
        current[name] = replace(current[name], endpoints=tuple(endpoints))
        yield [item(current[name])]
