"""What the files of a live cluster say of where egress IPs are, for those who ask what that cluster does.

Such a status is a decision of the control plane that runs there. Over files alone, where nothing is on record for the
object, it is taken as the record: the allocator then keeps what it could have decided itself and places the rest anew,
as it does with any record. A control plane that decides (a server, ``sync``) takes no status from files: it would move
addresses for a text that was true once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ovnk_core.allocate.egress_node import ASSUMED, egress_node
from ovnk_core.allocate.settling import HEALTHY
from ovnk_core.analysis.egress_nodes import Reason, egress_nodes
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.outcome import Item, Loaded, StatedAssignment
from ovnk_core.model.egress_ip import EgressAssignment, EgressIP, EgressIPDecision
from ovnk_core.model.tables import CLUSTER, EGRESS_IP_DECISION, NODE, cluster_key
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import SETTINGS


class _Judged(Value, frozen=True, kw_only=True):
    """One stated assignment. ``assignment`` None: no record may hold it, and ``fault``, the end of a sentence that ends
    with the node, says why."""

    stated: StatedAssignment
    assignment: EgressAssignment | None = None
    fault: str = ""


def stated_decisions(loaded: Loaded) -> dict[str, EgressIPDecision]:
    """By name of the EgressIP: what its status says, but for what no record may hold."""
    found: dict[str, EgressIPDecision] = {}
    for item in loaded.items:
        assignments = tuple(each.assignment for each in _judged(item) if each.assignment is not None)
        if assignments:
            found[item.ref.name] = EgressIPDecision(assignments=assignments)
    return found


class Record(Value, frozen=True, kw_only=True):
    """What counted for more than statuses: its name in a sentence, and its decisions by name of the EgressIP."""

    name: str
    decisions: Mapping[str, EgressIPDecision]


def status_remarks(loaded: Loaded, cluster: Cluster, record: Record | None = None) -> Iterator[str]:
    """Every stated assignment that is not in force in a cluster made of ``loaded``: why, and where the address is.

    ``record`` None: the cluster decides itself, whatever was stated.
    """
    decided = cluster.engine.rows(EGRESS_IP_DECISION)
    nodes = egress_nodes(cluster) if any(item.stated for item in loaded.items) else []
    unfit = {each.name: each.reason for each in nodes if each.reason is not None}
    for item in loaded.items:
        decision = decided.get(item.ref.key) if item.stated else None
        if decision is None:
            continue
        on = {str(each.address): each.node for each in decision.assignments}
        off = {str(each.address): each.message for each in decision.unassigned}
        for each in _judged(item):
            if each.assignment in decision.assignments:
                continue
            stated = each.stated
            address = str(each.assignment.address) if each.assignment is not None else stated.address
            why = each.fault or (each.assignment and _why_not(cluster, unfit, each.assignment))
            why = why or (f": {off[address]}" if address in off else _overruled(item.ref.name, address, record))
            here = f"; here it is on {on[address]}" if address in on else "; here it is on no node"
            text = f"EgressIP {item.ref.name}: {stated.place}: {stated.address} is not on node {stated.node}{why}"
            yield f"{stated.source}: {text}{here if address in on or address in off else ''}"


def _overruled(name: str, address: str, record: Record | None) -> str:
    """Whose word counts for more than a status that could hold."""
    known = record.decisions.get(name) if record is not None else None
    for each in known.assignments if known is not None else ():
        if record is not None and str(each.address) == address:
            return f": {record.name} has it on {each.node}"
    return ": that is decided here, whatever a status says"


def _judged(item: Item) -> Iterator[_Judged]:
    if not isinstance(item.value, EgressIP):
        return
    held: dict[str, EgressAssignment] = {}
    for stated in item.stated:
        try:
            assignment = EgressAssignment(address=parse_address(stated.address), node=stated.node)
        except ValueError as reason:
            yield _Judged(stated=stated, fault=f": {reason}")
            continue
        if assignment.address not in item.value.addresses:
            yield _Judged(stated=stated, fault=": spec.egressIPs does not name it")
        elif any(each.address == assignment.address for each in held.values()):
            yield _Judged(stated=stated, fault=": it is stated more than once")
        elif stated.node in held:
            fault = f", which is stated to hold {held[stated.node].address}: a node holds one address of an EgressIP"
            yield _Judged(stated=stated, fault=fault)
        else:
            held[stated.node] = assignment
            yield _Judged(stated=stated, assignment=assignment)


def _why_not(cluster: Cluster, unfit: Mapping[str, Reason], assignment: EgressAssignment) -> str:
    """What of the node speaks against it, as the end of a sentence that ends with the node; or an empty text."""
    rows = cluster.engine.rows
    node = rows(NODE).get(cluster_key(assignment.node))
    if node is None:
        return ": there is no such node"
    if assignment.node in unfit:
        return f", which may hold no egress IP ({unfit[assignment.node]})"
    found = egress_node(node, HEALTHY, cluster.network, rows(SETTINGS)[CLUSTER])
    if not found.takes(assignment.address):
        doubt = f", {ASSUMED}" if assignment.address.family in found.assumed else ""
        return f": the address is not in its primary subnet{doubt}"
    return ""
