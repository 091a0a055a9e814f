"""Decisions read back from the northbound, from the rows they shaped. The inverse of the topology rules.

Until an intent store exists this is where decisions live. What has no row of its own is kept with the row that is
nearest to it: a node's id in its switch, a policy's accepted version in its port group.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovnk_core.model.cluster import JOIN
from ovnk_core.model.decision import NodeDecision, PodDecision
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import Row
from ovnk_core.reconcile.columns import owner_of
from ovnk_core.reconcile.diff import Actual
from ovnk_core.terms.address import Address, InterfaceAddress, parse_address, parse_interface
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value


class Recalled(Value, frozen=True, kw_only=True):
    """``policies`` are accepted manifests as JSON text, by ``NS/NAME``; ingest reads them."""

    nodes: dict[str, NodeDecision]
    pods: dict[str, PodDecision]
    policies: dict[str, str]


def recall(actual: Actual, *, accepted_key: str, node_id_key: str) -> Recalled:
    """Owned rows -> decisions. Rows that do not read as ours any more (edited by hand) are passed over."""
    nodes: dict[str, NodeDecision] = {}
    ids: dict[str, int] = {}
    pods: dict[str, PodDecision] = {}
    policies: dict[str, str] = {}
    for row_id, row in _owned(actual, "Logical_Switch"):
        text = _external_id(row, node_id_key)
        if row_id.role == "switch" and text.isdigit():
            ids[row_id.owner.name] = int(text)
    for row_id, row in _owned(actual, "Logical_Router_Port"):
        if row_id.role == "rtos":
            subnets = tuple(interface.subnet for interface in _networks(row))
            nodes[row_id.owner.name] = NodeDecision(subnets=subnets)
        elif row_id.role == "rtoj":
            for interface in _networks(row):
                base = JOIN[interface.family]
                if base.contains(interface.address):
                    ids.setdefault(row_id.owner.name, interface.address.value - base.value)
    for row_id, row in _owned(actual, "Logical_Switch_Port"):
        if row_id.owner.kind == "Pod":
            decision = _pod(row)
            if decision is not None:
                pods[str(NamespacedName(row_id.owner.namespace, row_id.owner.name))] = decision
    for row_id, row in _owned(actual, "Port_Group"):
        text = _external_id(row, accepted_key)
        if row_id.owner.kind == "NetworkPolicy" and text:
            policies[f"{row_id.owner.namespace}/{row_id.owner.name}"] = text
    found = {
        name: NodeDecision(subnets=node.subnets, node_id=ids.get(name, 0))
        for name, node in nodes.items()
        if node.subnets
    }
    return Recalled(nodes=found, pods=pods, policies=policies)


def _owned(actual: Actual, table: str) -> list[tuple[RowId, Row]]:
    found = ((owner_of(table, uuid, row), row) for uuid, row in actual.get(table, {}).items())
    return [(row_id, row) for row_id, row in found if row_id is not None]


def _external_id(row: Row, key: str) -> str:
    ids = row.get("external_ids")
    return str(ids.get(key, "")) if isinstance(ids, Mapping) else ""


def _networks(row: Row) -> list[InterfaceAddress]:
    networks = row.get("networks")
    found: list[InterfaceAddress] = []
    for text in networks if isinstance(networks, frozenset) else ():
        try:
            found.append(parse_interface(str(text)))
        except ValueError:
            continue
    return sorted(found)


def _pod(row: Row) -> PodDecision | None:
    addresses, options = row.get("addresses"), row.get("options")
    if not isinstance(addresses, frozenset) or len(addresses) != 1 or not isinstance(options, Mapping):
        return None
    mac, *words = str(next(iter(addresses))).split()
    found: list[Address] = []
    for word in words:
        try:
            found.append(parse_address(word))
        except ValueError:
            return None
    node = str(options.get("requested-chassis", ""))
    return PodDecision(addresses=tuple(sorted(found)), mac=mac, node=node) if found and node else None
