"""A cluster and its flow table walking together, and what law tests compare at the end of a walk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from ovnk_core.cluster import Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import Decisions
from ovnk_core.nb.desired import DESIRED, MEMBER
from tests.kit.random_cluster import Edit
from tests.kit.random_policy import Manifest

Rows = dict[str, dict[Any, Any]]
"""Table -> key -> row, and under ``member`` column -> sorted elements."""


class Walker:
    """``apply`` carries an edit through the cluster and its delta into the flow table."""

    def __init__(self, manifests: Iterable[Manifest] = (), *, check: bool = True, decisions: Decisions | None = None):
        self.cluster = Cluster(check=check, decisions=decisions)
        self.cluster.replace(parse_objects(manifests))
        self.table = FlowTable(self.cluster.engine, check=check)

    def apply(self, edit: Edit) -> tuple[Delta, ...]:
        """The deltas of one edit: that of its objects, and of whatever else it has."""
        loaded = parse_objects(edit.put)
        steps = [lambda: self.cluster.apply(loaded.items, edit.delete, loaded.refused)]
        steps += [lambda: self.cluster.decide_dns(edit.dns)] if edit.dns else []
        steps += [lambda: self.cluster.report(edit.health)] if edit.health else []
        steps += [lambda: self.cluster.withdrawn(self.cluster.leaving)] if edit.is_programmed else []
        deltas: list[Delta] = []
        for step in steps:
            deltas.append(step().delta)
            self.table.advance(deltas[-1])
        return tuple(deltas)

    def verify(self) -> None:
        """Both engines against twins built from their inputs. Raises Divergence."""
        self.cluster.engine.verify()
        self.table.engine.verify()

    @property
    def size(self) -> int:
        return sum(len(self.cluster.engine.rows(table)) for table in DESIRED.values())


def desired_rows(cluster: Cluster) -> Rows:
    """The whole desired northbound as plain values."""
    engine = cluster.engine
    found: Rows = {name: dict(engine.rows(table)) for name, table in DESIRED.items()}
    found["member"] = {
        column: tuple(sorted(map(str, elements))) for column, elements in engine.sets(MEMBER).items() if elements
    }
    return found


def assert_same_rows(one: Cluster, other: Cluster, note: str) -> None:
    mine, theirs = desired_rows(one), desired_rows(other)
    for table in mine:
        keys = [key for key in {**mine[table], **theirs[table]} if mine[table].get(key) != theirs[table].get(key)]
        shown = [f"{key}:\n   {mine[table].get(key)}\n   {theirs[table].get(key)}" for key in keys[:3]]
        assert not keys, f"{note}: {table} differs in {len(keys)} keys\n" + "\n".join(shown)


def digest(walker: Walker) -> str:
    """SHA-256 over the sorted text of all desired rows and flows."""
    lines: list[str] = []
    for table, rows in desired_rows(walker.cluster).items():
        lines += [f"{table} {key} {row}" for key, row in rows.items()]
    lines += [f"flow {flow} {on}" for flow, on in walker.table.listing()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
