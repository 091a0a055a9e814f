"""EgressIPs, what is decided of them, and what was reported of nodes, back into the form that ``ingest`` reads."""

from __future__ import annotations

from typing import Any

from ovnk_core.model.egress_ip import EgressAssignment, EgressIP, EgressIPDecision, NodeHealth, UnassignedAddress
from ovnk_core.model.selector_manifest import selector_manifest


def egress_ip_body(item: EgressIP, metadata: dict[str, Any]) -> dict[str, Any]:
    """spec of an EgressIP. Its status is a decision, and no part of the object."""
    spec: dict[str, Any] = {"egressIPs": [str(address) for address in item.addresses]}
    spec["namespaceSelector"] = selector_manifest(item.namespaces)
    return {"spec": spec | ({"podSelector": selector_manifest(item.pods)} if item.pods.requirements else {})}


def egress_ip_decision(decision: EgressIPDecision) -> dict[str, Any]:
    """``status.items`` of the API is its ``assignments``."""
    found: dict[str, Any] = {"assignments": assignments(decision.assignments)}
    found |= {"unassigned": unassigned(decision.unassigned)} if decision.unassigned else {}
    return found | ({"leaving": assignments(decision.leaving)} if decision.leaving else {})


def assignments(items: tuple[EgressAssignment, ...]) -> list[dict[str, str]]:
    """A list as ``status.items`` has it."""
    return [{"egressIP": str(each.address), "node": each.node} for each in items]


def unassigned(items: tuple[UnassignedAddress, ...]) -> list[dict[str, str]]:
    """What is on no node, and why."""
    return [{"egressIP": str(each.address), "reason": each.reason, "message": each.message} for each in items]


def node_health(health: NodeHealth) -> dict[str, Any]:
    """What was reported of a node."""
    return {"isReachable": health.is_reachable, "isDrained": health.is_drained}
