"""The flow table of one control plane: an engine of its own, fed with the desired rows.

It costs nothing until somebody asks; the first question loads all desired rows, later ones only what changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.transaction import Delta
from ovnk_core.flows import acl, load_balancer, places, routing
from ovnk_core.flows.flow import FLOW, FLOW_DATAPATH, STAGES, FlowId, LogicalFlow, Where
from ovnk_core.nb.desired import DESIRED, MEMBER
from ovnk_core.nb.row import RowId

FLOW_PIPELINE = (*places.RULES, *acl.RULES, *routing.RULES, *load_balancer.RULES)


class FlowTable:
    """Derived flows of ``source``'s desired rows. Call ``advance`` with every delta of the source engine."""

    def __init__(self, source: Engine, *, check: bool = False) -> None:
        self.engine = Engine(FLOW_PIPELINE, check=check)
        self._known = [table for table in DESIRED.values() if table.name in self.engine.graph.tables]
        with self.engine.transaction() as txn:
            for table in self._known:
                for key, row in source.rows(table).items():
                    txn.put(table, key, row)
            for column, elements in source.sets(MEMBER).items():
                for element in elements:
                    txn.include(MEMBER, column, element)

    def advance(self, delta: Delta) -> None:
        """Follow one transaction of the source."""
        with self.engine.transaction() as txn:
            for table in self._known:
                for key, (_, row) in delta.rows(table).items():
                    if row is None:
                        txn.delete(table, key)
                    else:
                        txn.put(table, key, row)
            for column, (appeared, vanished) in delta.sets(MEMBER).items():
                for element in vanished:
                    txn.exclude(MEMBER, column, element)
                for element in appeared:
                    txn.include(MEMBER, column, element)

    @property
    def revision(self) -> int:
        return self.engine.revision

    def flows(self) -> Mapping[FlowId, LogicalFlow]:
        return self.engine.rows(FLOW)

    def datapaths(self, where: Where) -> Mapping[RowId, int]:
        """Switches or routers that flows of ``where`` are on."""
        return self.engine.members(FLOW_DATAPATH, where)

    def listing(self) -> Iterator[tuple[LogicalFlow, tuple[RowId, ...]]]:
        """Every flow with its datapaths, in stage order, highest priority first; flows on no datapath left out."""
        order = {stage: position for position, stage in enumerate(STAGES)}

        def rank(item: tuple[FlowId, LogicalFlow]) -> tuple[Any, ...]:
            flow_id, flow = item
            return (order[flow.stage], -flow.priority, flow_id)

        for _, flow in sorted(self.flows().items(), key=rank):
            on = tuple(sorted(self.datapaths(flow.where)))
            if on:
                yield flow, on
