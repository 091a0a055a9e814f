"""Decisions read back from the northbound, from the rows they shaped. The inverse of the topology rules.

Until an intent store exists this is where decisions live. What has no row of its own is kept with the row that is
nearest to it: a node's id in its switch, what a DNS name answered in its address set, an object's accepted version in
the row it shapes, or, where there is none, in NB_Global.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ovnk_core.ingest.decisions import read_dns, read_egress_ip, read_health, read_install, read_node, read_service
from ovnk_core.ingest.metadata import is_mac
from ovnk_core.ingest.parse_node import NODE_ID_BOUNDS
from ovnk_core.model.cluster import JOIN, InstallDecision
from ovnk_core.model.decision import DnsDecision, NodeDecision, PodDecision, ServiceDecision
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.model.record import joined_record
from ovnk_core.nb.row import (
    ACCEPTED_KEY,
    DNS_KEY,
    EGRESS_IP_KEY,
    HEALTH_KEY,
    INSTALL_KEY,
    NODE_ID_KEY,
    SERVICE_KEY,
    WINDOWS_KEY,
    RowId,
)
from ovnk_core.nb.schema import Row
from ovnk_core.reconcile.columns import GLOBAL_TABLE, own_keys, owner_of
from ovnk_core.reconcile.diff import Actual
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress, parse_address, parse_interface
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value

_NUMBER = re.compile(r"[1-9][0-9]{0,3}")
_SMALLEST = 4
"""Addresses of a node subnet, as the bounds of hostPrefix say."""


class Recalled(Value, frozen=True, kw_only=True):
    """``accepted`` are manifests as JSON text; ingest reads them."""

    install: InstallDecision | None = None
    nodes: dict[str, NodeDecision]
    pods: dict[str, PodDecision]
    services: dict[str, ServiceDecision]
    egress_ips: dict[str, EgressIPDecision]
    health: dict[str, NodeHealth]
    dns: dict[str, DnsDecision]
    accepted: tuple[str, ...]


def recall(actual: Actual) -> Recalled:
    """Owned rows -> decisions. Rows that do not read as ours any more (edited by hand) are passed over."""
    nodes: dict[str, NodeDecision] = {}
    ids: dict[str, int] = {}
    pods: dict[str, PodDecision] = {}
    for row_id, row in _owned(actual, "Logical_Switch"):
        text = _external_id(row, NODE_ID_KEY)
        if row_id.role == "switch" and _NUMBER.fullmatch(text) and _is_node_id(int(text)):
            ids[row_id.owner.name] = int(text)
    for row_id, row in _owned(actual, "Logical_Router_Port"):
        if row_id.role == "rtos":
            subnets = tuple(interface.subnet for interface in _networks(row))
            if _is_one_each(subnets) and all(subnet.size >= _SMALLEST for subnet in subnets):
                nodes[row_id.owner.name] = NodeDecision(subnets=subnets)
        elif row_id.role == "rtoj":
            for interface in _networks(row):
                base = JOIN[interface.family]
                offset = interface.address.value - base.value
                if _is_node_id(offset):
                    ids.setdefault(row_id.owner.name, offset)
    for row_id, row in _owned(actual, "Logical_Switch_Port"):
        if row_id.owner.kind == "Pod":
            pod = _pod(row)
            if pod is not None:
                pods[str(NamespacedName(row_id.owner.namespace, row_id.owner.name))] = pod
    found = {
        name: NodeDecision(subnets=node.subnets, node_id=ids.get(name, 0))
        for name, node in nodes.items()
        if node.subnets
    }
    install: InstallDecision | None = None
    egress_ips: dict[str, EgressIPDecision] = {}
    health: dict[str, NodeHealth] = {}
    for keys in map(own_keys, actual.get(GLOBAL_TABLE, {}).values()):
        install = read_install(keys[INSTALL_KEY]) if INSTALL_KEY in keys else install
        for name, text in _named(keys, f"{WINDOWS_KEY}/"):
            if (windows := read_node(name, text)) is not None:
                found[name] = windows
        for name, text in _named(keys, f"{EGRESS_IP_KEY}/"):
            if (decision := read_egress_ip(name, text)) is not None:
                egress_ips[name] = decision
        for name, text in _named(keys, f"{HEALTH_KEY}/"):
            if (heard := read_health(name, text)) is not None:
                health[name] = heard
    return Recalled(
        install=install,
        nodes=found,
        pods=pods,
        services=dict(_services(actual)),
        egress_ips=egress_ips,
        health=health,
        dns=dict(_dns(actual)),
        accepted=tuple(_accepted(actual)),
    )


def _services(actual: Actual) -> Iterator[tuple[str, ServiceDecision]]:
    """From the first load balancer of each, or from NB_Global where a Service has none."""
    texts = {
        str(row_id.owner.key): text
        for row_id, row in _owned(actual, "Load_Balancer")
        if row_id.owner.kind == "Service" and (text := _external_id(row, SERVICE_KEY))
    }
    for row in actual.get(GLOBAL_TABLE, {}).values():
        own = own_keys(row).items()
        texts |= {key.partition("/")[2]: text for key, text in own if key.startswith(f"{SERVICE_KEY}/")}
    for key, text in texts.items():
        decision = read_service(key, text)
        if decision is not None:
            yield key, decision


def _named(keys: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    yield from ((key.removeprefix(prefix), text) for key, text in keys.items() if key.startswith(prefix))


def _dns(actual: Actual) -> Iterator[tuple[str, DnsDecision]]:
    for row_id, row in _owned(actual, "Address_Set"):
        text = _external_id(row, DNS_KEY)
        if text and row_id.owner.kind == "DnsName" and not row_id.owner.namespace:
            decision = read_dns(row_id.owner.name, text)
            if decision is not None:
                yield row_id.owner.name, decision


def _accepted(actual: Actual) -> Iterator[str]:
    for table in ("Port_Group", "Logical_Switch", "Logical_Switch_Port", "Load_Balancer"):
        for _, row in _owned(actual, table):
            if text := _external_id(row, ACCEPTED_KEY):
                yield text
    for row_id, row in _owned(actual, "Address_Set"):
        ids = row.get("external_ids")
        if row_id.owner.kind == "EgressFirewall" and isinstance(ids, Mapping):
            texts = {str(key): str(text) for key, text in ids.items()}
            parts = {key.removeprefix(ACCEPTED_KEY): texts[key] for key in texts if key.startswith(ACCEPTED_KEY)}
            if parts and (text := joined_record(parts)):
                yield text
    for row in actual.get(GLOBAL_TABLE, {}).values():
        yield from (text for key, text in own_keys(row).items() if key.startswith(f"{ACCEPTED_KEY}/"))


def _is_node_id(number: int) -> bool:
    return NODE_ID_BOUNDS[0] <= number <= NODE_ID_BOUNDS[1]


def _is_one_each(found: Sequence[Address | Cidr]) -> bool:
    """At most one of each family."""
    return len({each.family for each in found}) == len(found)


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
    mac, *words = str(next(iter(addresses))).split() or [""]
    found: list[Address] = []
    for word in words:
        try:
            found.append(parse_address(word))
        except ValueError:
            return None
    node = str(options.get("requested-chassis", ""))
    if not found or not node or not is_mac(mac) or not _is_one_each(found):
        return None
    return PodDecision(addresses=tuple(sorted(found)), mac=mac, node=node)
