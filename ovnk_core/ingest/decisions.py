"""Recorded decisions from their document (``ovnk sync --save-decisions``) or from what the northbound remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ovnk_core.errors import LimitError, SchemaError
from ovnk_core.ingest.json_reader import read_json
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.metadata import is_label_name, is_subdomain, read_mac
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.ingest.parse_network import parse_hybrid, parse_ipsec
from ovnk_core.ingest.parse_node import NODE_ID_BOUNDS
from ovnk_core.ingest.parse_policy import read_protocol
from ovnk_core.ingest.position import JsonPositions, Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.yaml_reader import Unreadable
from ovnk_core.model.cluster import InstallDecision
from ovnk_core.model.decision import (
    DENIALS,
    DNS_CAUSES,
    MAX_DNS_ADDRESSES,
    MAX_DNS_HISTORY,
    Decisions,
    DnsChange,
    DnsDecision,
    NodeDecision,
    NodePort,
    PodDecision,
    ServiceDecision,
)
from ovnk_core.model.egress_ip import REASONS, EgressAssignment, EgressIPDecision, NodeHealth, UnassignedAddress
from ovnk_core.model.object import Declared
from ovnk_core.terms.address import BITS, Address, Cidr, Family
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Transport

_FIELDS = ("apiVersion", "kind", "install", "nodes", "pods", "services", "egressIPs", "health", "dns", "accepted")
_HOST_BITS_MIN = 2
"""As hostPrefix: below four addresses nothing is left for a pod."""
_PORTS = (PORT_MIN, PORT_MAX)
RECORD = "recorded decision"
D = TypeVar("D", InstallDecision, NodeDecision, PodDecision, ServiceDecision, EgressIPDecision, NodeHealth, DnsDecision)
_TIME_END = 1e11
"""Unix seconds, far beyond any clock: what is larger is milliseconds."""


def read_decisions(text: bytes, *, source: str) -> Decisions:
    """A saved document -> Decisions. Raises SchemaError or LimitError, of the first field at fault.

    The document may have been edited: it is read as strictly as a manifest, because what it says is not asked again.
    """
    found = read_json(_decoded(text, source), source)
    if isinstance(found, Unreadable):
        raise SchemaError(found.reason, kind="Decisions", source=found.source, fix="write it with --save-decisions")
    report = Report("Decisions", "", found.positions)
    for problem in found.problems:
        report.refuse(problem.path, problem.reason, fix=problem.fix)
    raw = report.as_mapping(found.value, ())
    if not report.errors and (raw.get("apiVersion"), raw.get("kind")) != ("ovnk/v1", "Decisions"):
        report.refuse((), "is not a decisions document of ovnk/v1", fix="write it with --save-decisions")
    report.known(raw, (), _FIELDS)
    install = None if raw.get("install") is None else _install(report, raw["install"], ("install",))
    nodes = {name: _node(report, name, each) for name, each in report.mapping(raw, (), "nodes").items()}
    _check_ids(report, nodes)
    pods = {key: _pod(report, key, each) for key, each in report.mapping(raw, (), "pods").items()}
    services = {key: _service(report, key, each) for key, each in report.mapping(raw, (), "services").items()}
    egress_ips = {name: _egress_ip(report, name, each) for name, each in report.mapping(raw, (), "egressIPs").items()}
    health = {name: _health(report, name, each) for name, each in report.mapping(raw, (), "health").items()}
    dns = {name: _dns(report, name, each, ("dns", name)) for name, each in report.mapping(raw, (), "dns").items()}
    manifests = enumerate(report.items(raw, (), "accepted"))
    accepted = [report.as_mapping(each, ("accepted", index)) for index, each in manifests]
    for error in report.all_errors():
        raise error
    return Decisions(
        install=install,
        nodes=nodes,
        pods=pods,
        services=services,
        egress_ips=egress_ips,
        health=health,
        dns=dns,
        accepted=accepted_objects(accepted),
    )


def _decoded(text: bytes, source: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise SchemaError("not UTF-8", kind="Decisions", source=source, fix="write it with --save-decisions") from error


def _install(report: Report, value: Any, path: Path) -> InstallDecision:
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("hybridOverlayConfig", "ipsecConfig"))
    return InstallDecision(hybrid=parse_hybrid(report, raw, path), has_ipsec=parse_ipsec(report, raw, path))


def _node(report: Report, name: str, value: Any) -> NodeDecision:
    path: Path = ("nodes", name)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("subnets", "id"))
    if not is_subdomain(name):
        report.refuse(path, "not a node name")
    subnets: list[Cidr] = []
    for index, text in enumerate(report.items(raw, path, "subnets")):
        subnet = report.prefix(text, (*path, "subnets", index), strict=True)
        if subnet is not None and subnet.prefix > BITS[subnet.family] - _HOST_BITS_MIN:
            report.refuse((*path, "subnets", index), "too small to hold a pod", value=text, error=LimitError)
        elif subnet is not None:
            subnets.append(subnet)
    _check_families(report, (*path, "subnets"), [subnet.family for subnet in subnets])
    # A Windows node has none.
    node_id = report.as_number(raw["id"], (*path, "id"), NODE_ID_BOUNDS) if "id" in raw else 0
    return NodeDecision(subnets=tuple(subnets), node_id=node_id or 0)


def _check_ids(report: Report, nodes: Mapping[str, NodeDecision]) -> None:
    holders: dict[int, str] = {}
    for name, node in nodes.items():
        holder = holders.setdefault(node.node_id, name)
        if holder != name and node.node_id:
            report.refuse(("nodes", name, "id"), f"is also the id of node {holder}", value=node.node_id)


def _pod(report: Report, key: str, value: Any) -> PodDecision:
    path: Path = ("pods", key)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("addresses", "mac", "node"))
    namespace, _, name = key.partition("/")
    if not is_label_name(namespace) or not is_subdomain(name):
        report.refuse(path, "not the name of a pod", fix="write NAMESPACE/NAME")
    texts = enumerate(report.items(raw, path, "addresses"))
    found = [report.address(text, (*path, "addresses", index)) for index, text in texts]
    addresses = tuple(address for address in found if address is not None)
    if not found:
        report.refuse((*path, "addresses"), "missing")
    _check_families(report, (*path, "addresses"), [address.family for address in addresses])
    node = report.text(raw, path, "node")
    if not is_subdomain(node):
        report.refuse((*path, "node"), "not a node name", value=node)
    return PodDecision(addresses=addresses, mac=read_mac(report, raw.get("mac"), (*path, "mac")), node=node)


def _service(report: Report, key: str, value: Any) -> ServiceDecision:
    path: Path = ("services", key)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("clusterIPs", "nodePorts"))
    namespace, _, name = key.partition("/")
    if not is_label_name(namespace) or not is_label_name(name):
        report.refuse(path, "not the name of a Service", fix="write NAMESPACE/NAME")
    at: Path = (*path, "clusterIPs")
    found = [report.address(text, (*at, index)) for index, text in enumerate(report.items(raw, path, "clusterIPs"))]
    addresses = tuple(address for address in found if address is not None)
    if not found:
        report.refuse(at, "missing")
    _check_families(report, at, [address.family for address in addresses])
    ports: dict[tuple[Transport, int], NodePort] = {}
    for index, entry in enumerate(report.items(raw, path, "nodePorts")):
        below: Path = (*path, "nodePorts", index)
        said = report.as_mapping(entry, below)
        report.known(said, below, ("protocol", "port", "nodePort"))
        protocol = read_protocol(report, said, below)
        port = report.as_number(said.get("port"), (*below, "port"), _PORTS)
        node_port = report.as_number(said.get("nodePort"), (*below, "nodePort"), _PORTS)
        if port is not None and node_port is not None:
            if (protocol, port) in ports:
                report.refuse(below, "port and protocol stand twice")
            ports[protocol, port] = NodePort(protocol=protocol, port=port, node_port=node_port)
    return ServiceDecision(cluster_ips=addresses, node_ports=tuple(ports.values()))


def _egress_ip(report: Report, name: str, value: Any) -> EgressIPDecision:
    path: Path = ("egressIPs", name)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("assignments", "unassigned", "leaving"))
    if not is_subdomain(name):
        report.refuse(path, "not the name of an EgressIP")
    assignments, leaving = (_assignments(report, raw, path, key) for key in ("assignments", "leaving"))
    unassigned: dict[Address, UnassignedAddress] = {}
    for index, entry in enumerate(report.items(raw, path, "unassigned")):
        at: Path = (*path, "unassigned", index)
        said = report.as_mapping(entry, at)
        report.known(said, at, ("egressIP", "reason", "message"))
        address, word = report.address(said.get("egressIP"), (*at, "egressIP")), report.text(said, at, "reason")
        reason = next((each for each in REASONS if each == word), None)
        message = report.text(said, at, "message")
        if reason is None:
            report.refuse((*at, "reason"), f"must be one of {', '.join(REASONS)}", value=word)
        elif address is not None:
            unassigned[address] = UnassignedAddress(address=address, reason=reason, message=message)
    if assignments.keys() & (unassigned.keys() | leaving.keys()):
        report.refuse(path, "an address is assigned, and also is not")
    if len({each.node for each in assignments.values()}) < len(assignments):
        report.refuse((*path, "assignments"), "one node holds two addresses")
    return EgressIPDecision(
        assignments=tuple(assignments.values()),
        unassigned=tuple(unassigned.values()),
        leaving=tuple(leaving.values()),
    )


def _assignments(report: Report, owner: Mapping[str, Any], path: Path, key: str) -> dict[Address, EgressAssignment]:
    found: dict[Address, EgressAssignment] = {}
    for index, entry in enumerate(report.items(owner, path, key)):
        at: Path = (*path, key, index)
        raw = report.as_mapping(entry, at)
        report.known(raw, at, ("egressIP", "node"))
        address, node = report.address(raw.get("egressIP"), (*at, "egressIP")), report.text(raw, at, "node")
        if not is_subdomain(node):
            report.refuse((*at, "node"), "not a node name", value=node)
        elif address in found:
            report.refuse((*at, "egressIP"), "is listed twice", value=raw.get("egressIP"))
        elif address is not None:
            found[address] = EgressAssignment(address=address, node=node)
    return found


def _health(report: Report, name: str, value: Any) -> NodeHealth:
    path: Path = ("health", name)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("isReachable", "isDrained"))
    if not is_subdomain(name):
        report.refuse(path, "not a node name")
    is_reachable = raw.get("isReachable") is None or report.flag(raw, path, "isReachable")
    return NodeHealth(is_reachable=is_reachable, is_drained=report.flag(raw, path, "isDrained"))


def _check_families(report: Report, path: Path, families: list[Family]) -> None:
    if len(set(families)) < len(families):
        report.refuse(path, "more than one of one family", fix="keep one per family", error=LimitError)


def read_dns(name: str, text: str) -> DnsDecision | None:
    """``manifest.dns_text`` back into a decision; None for a text or name that is not of our making any more."""
    return _read("DnsName", name, text, lambda report, value: _dns(report, name, value, ()))


def read_install(text: str) -> InstallDecision | None:
    """``manifest.install_text`` back into a decision, as ``read_dns``."""
    return _read("Network", "cluster", text, lambda report, value: _install(report, value, ()))


def read_node(name: str, text: str) -> NodeDecision | None:
    """``manifest.node_text`` back into a decision, as ``read_dns``."""
    return _read("Node", name, text, lambda report, value: _node(report, name, value))


def read_pod(key: str, text: str) -> PodDecision | None:
    """``manifest.pod_text`` back into a decision, as ``read_dns``; ``key`` is ``NS/NAME``."""
    return _read("Pod", key, text, lambda report, value: _pod(report, key, value))


def read_service(key: str, text: str) -> ServiceDecision | None:
    """``manifest.service_text`` back into a decision, as ``read_dns``; ``key`` is ``NS/NAME``."""
    return _read("Service", key, text, lambda report, value: _service(report, key, value))


def read_egress_ip(name: str, text: str) -> EgressIPDecision | None:
    """``manifest.egress_ip_text`` back into a decision, as ``read_dns``."""
    return _read("EgressIP", name, text, lambda report, value: _egress_ip(report, name, value))


def read_health(name: str, text: str) -> NodeHealth | None:
    """``manifest.health_text`` back into a decision, as ``read_dns``."""
    return _read("Node", name, text, lambda report, value: _health(report, name, value))


def _read(kind: str, name: str, text: str, read: Callable[[Report, Any], D]) -> D | None:
    found = read_json(text, RECORD)
    if isinstance(found, Unreadable) or found.problems:
        return None
    report = Report(kind, name, JsonPositions(RECORD, "", found.value))
    decision = read(report, found.value)
    return None if report.errors else decision


def _dns(report: Report, name: str, value: Any, path: Path) -> DnsDecision:
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("live", "sticky", "answer", "leaving", "denials", "history"))
    if not _is_dns_name(name):
        report.refuse(path, "not a DNS name in lower-case A-labels")
    live = _addresses(report, raw, path, "live")
    sticky = live if raw.get("sticky") is None else _addresses(report, raw, path, "sticky")
    ends = _leaving(report, raw, path, live)
    answer = tuple(address for address in live if address not in ends)
    if raw.get("answer") is not None:
        answer = _addresses(report, raw, path, "answer")
    if ends.keys() & set(answer):
        report.refuse((*path, "leaving"), "an address is in the answer, too")
    denials = 0 if raw.get("denials") is None else report.as_number(raw["denials"], (*path, "denials"), (0, DENIALS))
    return DnsDecision(
        live=live,
        sticky=sticky,
        answer=answer,
        leaving=tuple(sorted(ends.items())),
        denials=denials or 0,
        history=_history(report, raw, path),
    )


def _leaving(report: Report, owner: Mapping[str, Any], path: Path, live: tuple[Address, ...]) -> dict[Address, int]:
    """When the grace period of an address ends; a record that was made without them has none."""
    found: dict[Address, int] = {}
    for index, entry in enumerate(report.items(owner, path, "leaving")):
        at: Path = (*path, "leaving", index)
        raw = report.as_mapping(entry, at)
        report.known(raw, at, ("at", "addresses"))
        at_s, addresses = _seconds(report, raw.get("at"), (*at, "at")), _addresses(report, raw, at, "addresses")
        if not set(addresses) <= set(live) - found.keys():
            report.refuse((*at, "addresses"), "an address is listed twice, or is not in live")
        found |= dict.fromkeys(addresses, at_s or 0)
    return found


def _is_dns_name(text: str) -> bool:
    try:
        return dns_name(text).name == text
    except ValueError:
        return False


def _history(report: Report, owner: Mapping[str, Any], path: Path) -> tuple[DnsChange, ...]:
    """The log of what came and went, as the sets there were after each entry."""
    entries = report.items(owner, path, "history")
    if len(entries) > MAX_DNS_HISTORY:
        report.refuse((*path, "history"), f"more than {MAX_DNS_HISTORY} entries", error=LimitError)
        return ()
    found: list[DnsChange] = []
    held: frozenset[Address] = frozenset()
    for index, entry in enumerate(entries):
        at: Path = (*path, "history", index)
        raw = report.as_mapping(entry, at)
        report.known(raw, at, ("at", "cause", "add", "drop"))
        cause, at_s = report.text(raw, at, "cause"), _seconds(report, raw.get("at"), (*at, "at"))
        if cause not in DNS_CAUSES:
            report.refuse((*at, "cause"), f"must be one of {', '.join(DNS_CAUSES)}", value=raw.get("cause"))
        if found and at_s is not None and at_s < found[-1].at_s:
            report.refuse((*at, "at"), "is before the entry above", value=at_s)
        add, drop = (frozenset(_addresses(report, raw, at, key)) for key in ("add", "drop"))
        if add & held or drop - held:
            report.refuse(at, "adds what was there, or drops what was not")
        held = (held | add) - drop
        found.append(DnsChange(at_s=at_s or 0, cause=cause, addresses=tuple(sorted(held))))
    return tuple(found)


def _seconds(report: Report, value: Any, path: Path) -> int | None:
    """Whole Unix seconds; fractions, which older records have, are cut off."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _TIME_END:
        report.refuse(path, "must be a time in Unix seconds", value=value)
        return None
    return int(value)


def _addresses(report: Report, owner: Mapping[str, Any], path: Path, key: str) -> tuple[Address, ...]:
    texts = report.items(owner, path, key)
    if len(texts) > MAX_DNS_ADDRESSES:
        report.refuse((*path, key), f"more than {MAX_DNS_ADDRESSES} addresses", error=LimitError)
        return ()
    found = [report.address(text, (*path, key, index)) for index, text in enumerate(texts)]
    addresses = {address for address in found if address is not None}
    if len(addresses) < len(found) and not report.touches((*path, key)):
        report.refuse((*path, key), "an address is listed twice")
    return tuple(sorted(addresses))


def accepted_objects(manifests: Iterable[Mapping[str, Any]]) -> dict[ObjectRef, Declared]:
    """Recorded manifests -> objects; the same door as for any manifest, refused ones are left out."""
    return {item.ref: item.value for item in parse_objects(manifests, source="decisions").items}


def accepted_texts(texts: Iterable[str]) -> dict[ObjectRef, Declared]:
    """``accepted_objects`` of JSON texts; what is not JSON any more (edited by hand) is left out."""
    manifests: list[Mapping[str, Any]] = []
    for text in texts:
        try:
            manifests.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return accepted_objects(manifests)
