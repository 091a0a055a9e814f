"""Pod. Unknown fields are ignored: it carries far more than the network needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnk_core.ingest.metadata import (
    MISSING,
    Metadata,
    annotation_path,
    is_port_name,
    is_subdomain,
    read_json_annotation,
    read_mac,
)
from ovnk_core.ingest.parse_attachments import read_attachments
from ovnk_core.ingest.parse_policy import read_protocol
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.model.pod import ContainerPort, Pod
from ovnk_core.terms.address import Address
from ovnk_core.terms.port import PORT_MAX, PORT_MIN

POD_NETWORKS = "k8s.ovn.org/pod-networks"
_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
_SPEC: Path = ("spec",)
_STATUS: Path = ("status",)


def parse_pod(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Pod:
    """v1 Pod -> the model. Addresses: the pod-networks annotation, else status.podIPs, else none (allocated later)."""
    spec, status = report.mapping(raw, (), "spec"), report.mapping(raw, (), "status")
    node = report.text(spec, _SPEC, "nodeName")
    if node and not is_subdomain(node):
        report.refuse((*_SPEC, "nodeName"), "not a valid node name", value=node)
    phase = report.text(status, _STATUS, "phase")
    if phase and phase not in _PHASES:
        report.refuse((*_STATUS, "phase"), f"must be one of {', '.join(_PHASES)}", value=phase)
    is_host_network = report.flag(spec, _SPEC, "hostNetwork")
    addresses, mac = _annotated(report, meta)
    if not addresses:
        addresses = _status_addresses(report, status)
    return Pod(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        created=meta.created,
        labels=meta.labels,
        node=node,
        # A host-network pod has its node's addresses; they are not the pod's to own.
        addresses=() if is_host_network else addresses,
        mac="" if is_host_network else mac,
        ports=_named_ports(report, spec),
        is_host_network=is_host_network,
        is_completed=phase in ("Succeeded", "Failed"),
        attachments=read_attachments(report, meta),
    )


def _annotated(report: Report, meta: Metadata) -> tuple[tuple[Address, ...], str]:
    """(addresses, MAC) of the default network in the pod-networks annotation."""
    value = read_json_annotation(report, meta, POD_NETWORKS)
    if value is MISSING:
        return (), ""
    path = annotation_path(POD_NETWORKS)
    networks = report.as_mapping(value, path)
    if networks.get("default") is None:
        return (), ""
    path = (*path, "default")
    raw = report.as_mapping(networks["default"], path)
    entries = [((*path, "ip_addresses", at), text) for at, text in enumerate(report.items(raw, path, "ip_addresses"))]
    if not entries and raw.get("ip_address"):
        entries = [((*path, "ip_address"), raw["ip_address"])]
    found = [report.interface(text, at) for at, text in entries]
    addresses = tuple(interface.address for interface in found if interface is not None)
    mac = read_mac(report, raw["mac_address"], (*path, "mac_address")) if raw.get("mac_address") else ""
    return _one_per_family(report, path, addresses), mac


def _status_addresses(report: Report, status: Mapping[str, Any]) -> tuple[Address, ...]:
    found: list[Address | None] = []
    for index, entry in enumerate(report.items(status, _STATUS, "podIPs")):
        path = (*_STATUS, "podIPs", index)
        if raw := report.as_mapping(entry, path):
            found.append(report.address(raw.get("ip"), (*path, "ip")))
    if not found and status.get("podIP"):
        found.append(report.address(status["podIP"], (*_STATUS, "podIP")))
    return _one_per_family(report, (*_STATUS, "podIPs"), tuple(address for address in found if address is not None))


def _one_per_family(report: Report, path: Path, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """IPv4 first; two addresses of one family are refused."""
    if len({address.family for address in addresses}) < len(addresses):
        report.refuse(path, "more than one address of one family", fix="keep one per family")
    return tuple(sorted(addresses))


def _named_ports(report: Report, spec: Mapping[str, Any]) -> tuple[ContainerPort, ...]:
    """Named ports of containers and of sidecars (init containers that restart always), in that order.

    A name may stand on several containers; the order is Kubernetes' order of search.
    """
    found: dict[ContainerPort, None] = {}
    for key in ("containers", "initContainers"):
        for index, entry in enumerate(report.items(spec, _SPEC, key)):
            path = (*_SPEC, key, index)
            container = report.as_mapping(entry, path)
            if key == "containers" or container.get("restartPolicy") == "Always":
                found.update(dict.fromkeys(_container_ports(report, container, path)))
    return tuple(found)


def _container_ports(report: Report, container: Mapping[str, Any], path: Path) -> list[ContainerPort]:
    found: list[ContainerPort] = []
    names: set[str] = set()
    for index, entry in enumerate(report.items(container, path, "ports")):
        at = (*path, "ports", index)
        raw = report.as_mapping(entry, at)
        if not isinstance(entry, dict):
            continue
        name, protocol = report.text(raw, at, "name"), read_protocol(report, raw, at)
        number = report.number(raw, at, "containerPort", (PORT_MIN, PORT_MAX))
        if raw.get("containerPort") is None:
            report.refuse((*at, "containerPort"), "missing")
        if not name:
            continue
        if not is_port_name(name):
            reason = "a port name must be 1-15 lower-case letters, digits and single inner dashes, with a letter"
            report.refuse((*at, "name"), reason, value=name)
        elif name in names:
            report.refuse((*at, "name"), "the name stands twice in one container", value=name)
        elif number is not None:
            found.append(ContainerPort(name=name, protocol=protocol, number=number))
        names.add(name)
    return found
