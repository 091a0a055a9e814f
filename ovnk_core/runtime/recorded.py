"""Recorded decisions on their way: read back from the northbound, brought together, taken out of what just changed."""

from __future__ import annotations

from ovnk_core.cluster import DecisionEdits
from ovnk_core.engine.transaction import Delta
from ovnk_core.ingest.decisions import accepted_texts
from ovnk_core.model.decision import Decisions
from ovnk_core.model.tables import DECISION_TABLES
from ovnk_core.reconcile.recall import Recalled


def decisions_of(recalled: Recalled) -> Decisions:
    """Recalled rows as decisions."""
    return Decisions(
        install=recalled.install,
        nodes=recalled.nodes,
        pods=recalled.pods,
        services=recalled.services,
        egress_ips=recalled.egress_ips,
        health=recalled.health,
        dns=recalled.dns,
        accepted=accepted_texts(recalled.accepted),
    )


def decided_in(delta: Delta) -> DecisionEdits:
    """A delta's changes of decisions."""
    return {
        table: {key: new for key, (_, new) in rows.items()} for table in DECISION_TABLES if (rows := delta.rows(table))
    }


def over(older: DecisionEdits, newer: DecisionEdits) -> DecisionEdits:
    """Both, of which the newer wins."""
    return {table: {**older.get(table, {}), **newer.get(table, {})} for table in {**older, **newer}}


def merged(first: Decisions, second: Decisions) -> Decisions:
    """``second`` wins. Without a store that is the northbound: it is what is in force."""
    return Decisions(
        install=second.install or first.install,
        nodes={**first.nodes, **second.nodes},
        pods={**first.pods, **second.pods},
        services={**first.services, **second.services},
        egress_ips={**first.egress_ips, **second.egress_ips},
        health={**first.health, **second.health},
        dns={**first.dns, **second.dns},
        accepted={**first.accepted, **second.accepted},
    )
