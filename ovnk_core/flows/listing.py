"""Flows as plain, sorted values: what ``ovnk flows`` prints."""

from __future__ import annotations

from ovnk_core.engine.engine import Engine
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.match import text
from ovnk_core.nb.row import RowId
from ovnk_core.terms.struct import Value


class ListedFlow(Value, frozen=True, kw_only=True):
    """``datapaths`` by name. ``owner`` is the row that made the flow."""

    datapaths: tuple[str, ...]
    pipeline: str
    stage: str
    priority: int
    match: str
    actions: str
    owner: RowId


def list_flows(engine: Engine, table: FlowTable) -> tuple[ListedFlow, ...]:
    """All flows in stage order, highest priority first."""
    names = {key: switch.name for key, switch in engine.rows(SWITCHES).items()}
    names |= {key: router.name for key, router in engine.rows(ROUTERS).items()}
    return tuple(
        ListedFlow(
            datapaths=tuple(sorted(names[datapath] for datapath in datapaths)),
            pipeline="egress" if "_out_" in flow.stage else "ingress",
            stage=flow.stage,
            priority=flow.priority,
            match=text(flow.match),
            actions=str(flow.actions),
            owner=flow.source,
        )
        for flow, datapaths in table.listing()
    )
