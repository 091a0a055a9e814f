"""What a keeper knows at any moment, read when Prometheus asks.

Prometheus is served by a thread; a keeper belongs to its event loop. So the thread asks the loop for one ``Reading``
and waits for it: a loop that does not answer in time makes the scrape fail, which is what should be seen then.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from ovnk_core.analysis.egress_nodes import egress_nodes
from ovnk_core.keeper import Keeper
from ovnk_core.model.tables import EGRESS_IP_DECISION
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile.columns import owner_of
from ovnk_core.terms.struct import Value

PATIENCE_S, SLICE_S = 5.0, 0.005


class Reading(Value, frozen=True, kw_only=True):
    """Numbers of one moment. ``rows``: (table, owned or foreign) -> how many."""

    is_writer: bool = False
    revisions: dict[str, int] = {}
    rows: dict[tuple[str, str], int] = {}
    repairs: int = 0
    lookups: dict[str, int] = {}
    watches: int = 0
    watch_lag: int = 0
    history_changes: int = 0
    history_bytes: int = 0
    compacted: int = 0
    refused: int = 0
    egress_nodes: dict[str, int] = {}
    egress_ips: dict[str, int] = {}
    egress_placements: int = 0
    chassis: int = 0
    chassis_lagging: int = 0


async def read(keeper: Keeper, northbound: Northbound) -> Reading:
    """The numbers of a keeper that is up; rows are counted in slices, so that the loop breathes."""
    standing, history, plane = keeper.stages.standing(), keeper.history, keeper.plane
    lags = [watch.lag for watch in tuple(keeper.watches)]
    decided = plane.cluster.engine.rows(EGRESS_IP_DECISION).values()
    return Reading(
        is_writer=keeper.term is not None,
        revisions={
            "accepted": standing.accepted,
            "programmed": standing.programmed,
            "realized": standing.realized,
            "enforced": standing.enforced,
        },
        rows=await _count_rows(northbound),
        repairs=plane.programmer.repairs,
        lookups=dict(plane.dns_lookups),
        watches=len(lags),
        watch_lag=max(lags, default=0),
        history_changes=history.edits,
        history_bytes=history.bytes,
        compacted=history.compacted,
        refused=len(plane.cluster.refused),
        egress_nodes=dict(Counter(each.reason or "Assignable" for each in egress_nodes(plane.cluster))),
        egress_ips={
            "assigned": sum(len(each.assignments) for each in decided),
            "unassigned": sum(len(each.unassigned) for each in decided),
        },
        egress_placements=keeper.placements,
        chassis=standing.chassis or 0,
        chassis_lagging=len(standing.lagging),
    )


async def _count_rows(northbound: Northbound) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    pause_at = time.perf_counter() + SLICE_S
    for table in TABLES:
        owned, rows = 0, list(northbound.rows(table).items())
        for uuid, row in rows:
            owned += owner_of(table, uuid, row) is not None
            if time.perf_counter() > pause_at:
                await asyncio.sleep(0)
                pause_at = time.perf_counter() + SLICE_S
        found[table, "owned"], found[table, "foreign"] = owned, len(rows) - owned
    return found


class Gauges(Collector):
    """A collector that asks ``ask`` on ``loop``. ``info``: what never changes, as labels."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Callable[[], Coroutine[Any, Any, Reading | None]],
        info: dict[str, str],
    ) -> None:
        self._loop, self._ask, self._info = loop, ask, info
        self.calls: Callable[[], int] = lambda: 0

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing in advance: there may be no keeper yet."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """Called by Prometheus' thread."""
        reading = asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result(PATIENCE_S)
        yield InfoMetricFamily("ovnk", "This server.", self._info)
        yield GaugeMetricFamily("ovnk_rpc_in_flight", "Calls that are being served.", self.calls())
        yield GaugeMetricFamily("ovnk_up", "Whether questions are answered.", float(reading is not None))
        if reading is not None:
            yield from _families(reading)


def _families(reading: Reading) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    yield _by("ovnk_revision", "Newest revision that has reached a stage; -1: none.", "stage", reading.revisions)
    rows = GaugeMetricFamily("ovnk_nb_rows", "Northbound rows.", labels=("table", "state"))
    for key, number in reading.rows.items():
        rows.add_metric(key, number)
    yield rows
    lookups = CounterMetricFamily("ovnk_dns_lookups", "Questions to DNS servers.", labels=("outcome",))
    for outcome, number in reading.lookups.items():
        lookups.add_metric((outcome,), number)
    yield lookups
    yield _by(
        "ovnk_egress_nodes", "Nodes by whether they may hold egress IPs, or why not.", "state", reading.egress_nodes
    )
    yield _by("ovnk_egress_ips", "Addresses of EgressIPs on a node, and on none.", "state", reading.egress_ips)
    yield CounterMetricFamily("ovnk_egress_ip_placements", "Egress IPs that came to a node.", reading.egress_placements)
    yield CounterMetricFamily("ovnk_drift_repairs", "Foreign changes of our rows undone.", reading.repairs)
    for name, text, value in (
        ("ovnk_writer", "Whether this server writes the northbound.", float(reading.is_writer)),
        ("ovnk_watches", "Watches that are open.", reading.watches),
        ("ovnk_watch_queue_depth", "Revisions that the slowest watch is behind.", reading.watch_lag),
        ("ovnk_store_history_changes", "Changes that watches may resume over.", reading.history_changes),
        ("ovnk_store_history_bytes", "Memory that they hold on to.", reading.history_bytes),
        ("ovnk_store_compacted_revision", "Oldest revision that can be asked for.", reading.compacted),
        ("ovnk_objects_refused", "Objects of sources that are refused.", reading.refused),
        ("ovnk_chassis", "Chassis that are registered.", reading.chassis),
        ("ovnk_chassis_lagging", "Chassis that lag behind the newest nb_cfg.", reading.chassis_lagging),
    ):
        yield GaugeMetricFamily(name, text, value)


def _by(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, number in values.items():
        family.add_metric((key,), number)
    return family
