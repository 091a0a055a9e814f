"""What a cluster in force does not admit, though each object is sound by itself.

Networks that contradict each other, what is not for this platform or comes after the installation, and DNS names that
nobody could ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.allocate.settling import Edits, after
from ovnk_core.engine.engine import Engine
from ovnk_core.errors import LimitError, ObjectError, SchemaError
from ovnk_core.ingest.installation import installation_errors, mtu_errors
from ovnk_core.ingest.outcome import Item
from ovnk_core.ingest.parse_network import OPERATOR_PART, network_conflicts
from ovnk_core.ingest.position import Path, path_text
from ovnk_core.model.cluster import ClusterNetwork, Infrastructure, NetworkOperator, effective_network
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall
from ovnk_core.model.node import Node
from ovnk_core.model.tables import (
    CLUSTER,
    INFRASTRUCTURE,
    INSTALL_DECISION,
    NETWORK,
    NETWORK_OPERATOR,
    NODE,
    OBJECT_TABLES,
)
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.place import SETTINGS, uplink_mtu
from ovnk_core.topology.platform import platform_of

NETWORK_KINDS = ("Network", "NetworkOperator")


def inadmissible(engine: Engine, put: Iterable[Item]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
    """Why objects cannot be accepted here; nothing about those that can."""
    put = tuple(put)
    found = _contradictions(engine, [item for item in put if item.ref.kind in NETWORK_KINDS])
    found |= _unfit(engine, put)
    for ref, errors in _too_large(engine, put).items():
        found[ref] = (*found.get(ref, ()), *errors)
    if not engine.rows(SETTINGS)[CLUSTER].has_dns_feed:
        for item in put:
            if isinstance(item.value, EgressFirewall) and (errors := _unanswerable(item, item.value)):
                found[item.ref] = errors
    return found


def network_after(engine: Engine, edits: Edits) -> ClusterNetwork:
    """The effective configuration once the edits are in force."""
    config, operator = after(engine, edits, NETWORK).get(CLUSTER), after(engine, edits, NETWORK_OPERATOR).get(CLUSTER)
    return effective_network(config, operator, engine.rows(INSTALL_DECISION).get(CLUSTER))


def _unfit(engine: Engine, put: tuple[Item, ...]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
    """Where what is installed, or the platform, does not admit the operator's Network. At fault is the Network if
    it is among the objects, else the Infrastructure that names the platform."""
    told = {item.ref.kind: item for item in put if item.ref.kind in ("NetworkOperator", "Infrastructure")}
    if not told:
        return {}
    rows = engine.rows
    blamed = told.get("NetworkOperator") or told["Infrastructure"]
    operator = blamed.value if isinstance(blamed.value, NetworkOperator) else rows(NETWORK_OPERATOR).get(CLUSTER)
    stated = told["Infrastructure"].value if "Infrastructure" in told else rows(INFRASTRUCTURE).get(CLUSTER)
    if operator is None:
        return {}
    platform = platform_of(rows(SETTINGS)[CLUSTER], stated if isinstance(stated, Infrastructure) else None)
    errors = installation_errors(operator, rows(INSTALL_DECISION).get(CLUSTER), platform=platform, source=blamed.source)
    return {blamed.ref: errors} if errors else {}


def _too_large(engine: Engine, put: tuple[Item, ...]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
    """An MTU that is not in force yet and that some node is too small for.

    Once installed, the nodes asked are those in force before: a small node that comes later, or with the same
    objects after a restart, is a remark of lint's and takes nothing back that was accepted.
    """
    rows = engine.rows
    nodes = {key.name: uplink_mtu(node) for key, node in rows(NODE).items()}
    if rows(INSTALL_DECISION).get(CLUSTER) is None:
        nodes |= {item.ref.name: uplink_mtu(item.value) for item in put if isinstance(item.value, Node)}
    found: dict[ObjectRef, tuple[ObjectError, ...]] = {}
    for item in put:
        operator, before = item.value, rows(NETWORK_OPERATOR).get(CLUSTER)
        if not isinstance(operator, NetworkOperator) or (before and before.mtu_bytes == operator.mtu_bytes):
            continue
        network = effective_network(None, operator, rows(INSTALL_DECISION).get(CLUSTER))
        if errors := mtu_errors(operator, network, nodes, source=item.source):
            found[item.ref] = errors
    return found


def _contradictions(engine: Engine, touched: list[Item]) -> dict[ObjectRef, tuple[ObjectError, ...]]:
    """Why Networks cannot be in force together. Of two that come together the one that states what is at fault is
    refused, and the other one only if it contradicts what stays in force."""
    found: dict[ObjectRef, tuple[ObjectError, ...]] = {}
    while touched:
        edits: Edits = {}
        for item in touched:
            edits.setdefault(OBJECT_TABLES[item.ref.kind], {})[item.ref.key] = item.value
        conflicts = network_conflicts(network_after(engine, edits))
        if not conflicts:
            break
        for path, reason in conflicts:
            item = _stating(path, touched)
            error = LimitError(
                reason, kind=item.ref.kind, name=item.ref.name, path=path_text(path), source=item.source.at(*path)
            )
            found[item.ref] = (*found.get(item.ref, ()), error)
        touched = [item for item in touched if item.ref not in found]
    return found


def _stating(path: Path, touched: list[Item]) -> Item:
    """Whose a field of the merged configuration is: config.openshift.io states the ranges where it states any."""
    is_operators = path[: len(OPERATOR_PART)] == OPERATOR_PART
    states = {isinstance(item.value, NetworkOperator): item for item in touched}
    return states.get(is_operators) or touched[0]


def _unanswerable(item: Item, firewall: EgressFirewall) -> tuple[ObjectError, ...]:
    """Rules on DNS names nobody can ask for."""
    named = [(index, rule.to) for index, rule in enumerate(firewall.rules) if isinstance(rule.to, DnsName)]
    return tuple(
        SchemaError(
            "a wildcard cannot be asked of a DNS server, only a resolver feed can answer it",
            kind=item.ref.kind,
            name=str(item.ref.key),
            path=f"spec.egress[{index}].to.dnsName",
            value=to.name,
            fix="name the hosts one by one",
            source=item.source.at("spec", "egress", index, "to", "dnsName"),
        )
        for index, to in named
        if to.is_wildcard
    )
