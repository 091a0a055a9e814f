"""What a cluster's nodes are to egress IPs: which may hold any, why the others may not, and how many each holds.

From what is on record alone, so that a server that only follows answers the same as the one that decides.
Source: manual 15.9.1.4, 15.9.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from ovnk_core.allocate.egress_node import SUPPORTED_PLATFORMS, Unfit, egress_node, why_unfit
from ovnk_core.allocate.settling import HEALTHY
from ovnk_core.cluster import Cluster
from ovnk_core.model.egress_ip import EgressIPDecision
from ovnk_core.model.tables import (
    CLUSTER,
    EGRESS_IP_DECISION,
    NODE,
    NODE_DECISION,
    NODE_HEALTH,
    cluster_key,
)
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import SETTINGS
from ovnk_core.topology.platform import platform_in_force

Reason = Unfit | Literal["NotServed", "Platform"]


class EgressNodeReport(Value, frozen=True, kw_only=True):
    """``reason``: why it may hold no egress IP, None where it may. ``load``: how many addresses it holds.
    ``is_drained`` and ``is_reachable`` are what was reported of it, whatever the reason."""

    name: str
    reason: Reason | None
    load: int
    is_drained: bool
    is_reachable: bool


def egress_nodes(cluster: Cluster) -> list[EgressNodeReport]:
    """Every node, by name. Cost: O(nodes + assignments)."""
    rows = cluster.engine.rows
    decisions, health, settings = rows(NODE_DECISION), rows(NODE_HEALTH), rows(SETTINGS)[CLUSTER]
    loads = Counter(each.node for decision in rows(EGRESS_IP_DECISION).values() for each in decision.assignments)
    platform = platform_in_force(cluster.engine)
    found: list[EgressNodeReport] = []
    for key, node in sorted(rows(NODE).items()):
        heard = health.get(key, HEALTHY)
        reason: Reason | None = why_unfit(node, heard)
        has_subnets = key in decisions and egress_node(node, heard, cluster.network, settings).subnets
        if reason is None and platform not in SUPPORTED_PLATFORMS:
            reason = "Platform"
        elif reason is None and not has_subnets:
            reason = "NotServed"
        found.append(
            EgressNodeReport(
                name=key.name,
                reason=reason,
                load=loads[key.name],
                is_drained=heard.is_drained,
                is_reachable=heard.is_reachable,
            )
        )
    return found


def drained(cluster: Cluster, name: str) -> Mapping[NamespacedName, EgressIPDecision]:
    """What would be decided if a node were drained now, and its withdrawals Programmed. ``cluster`` stays as it is.

    Cost: a copy of the cluster.
    """
    return _decided(cluster, name, is_drained=True)


def displaced(cluster: Cluster, name: str) -> list[tuple[NamespacedName, Address]]:
    """Addresses on no node that would be on a drained one if it were taken back. ``cluster`` stays as it is.

    Cost: a copy of the cluster.
    """
    placed = {
        (key, each.address)
        for key, one in _decided(cluster, name, is_drained=False).items()
        for each in one.assignments
        if each.node == name
    }
    nowhere = (
        (key, each.address) for key, one in cluster.engine.rows(EGRESS_IP_DECISION).items() for each in one.unassigned
    )
    return sorted(placed.intersection(nowhere))


def _decided(cluster: Cluster, name: str, *, is_drained: bool) -> Mapping[NamespacedName, EgressIPDecision]:
    twin, key = cluster.copy(), cluster_key(name)
    twin.is_deciding = True
    twin.report({name: replace(twin.engine.rows(NODE_HEALTH).get(key, HEALTHY), is_drained=is_drained)})
    twin.withdrawn(twin.leaving)
    return twin.engine.rows(EGRESS_IP_DECISION)
