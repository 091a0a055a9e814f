"""EndpointSlice and Endpoints: who serves a Service. Validated and defaulted as the API server does it.

Unknown fields are ignored, as in a Service. One rule is stricter than the API's: no multicast address at all may be an
endpoint, because a packet cannot be balanced to a group. Source: Kubernetes API reference, discovery.k8s.io/v1
EndpointSlice and core/v1 Endpoints, their defaults and validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import Metadata, is_subdomain
from ovnk_core.ingest.parse_policy import read_protocol
from ovnk_core.ingest.parse_service import ordinary_address, read_port_label, read_port_number
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.model.service import (
    SERVICE_NAME_LABEL,
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    SliceEndpoint,
    SlicePort,
)
from ovnk_core.terms.address import Family

MAX_SLICE_ENDPOINTS, MAX_SLICE_ADDRESSES = 1_000, 100
"""Of one slice, and of one endpoint of it."""
_FAMILIES: dict[str, Family] = {"IPv4": 4, "IPv6": 6}
_FQDN = "FQDN"


def parse_endpoint_slice(report: Report, raw: Mapping[str, Any], meta: Metadata) -> EndpointSlice:
    """discovery.k8s.io/v1 EndpointSlice -> the model; problems go to ``report``."""
    service = dict(meta.labels).get(SERVICE_NAME_LABEL, "")
    if not service:
        report.warn(("metadata", "labels"), f"no label {SERVICE_NAME_LABEL}: it belongs to no Service")
    word = report.text(raw, (), "addressType")
    if word not in _FAMILIES and word != _FQDN:
        report.refuse(("addressType",), f"must be {', '.join(_FAMILIES)} or {_FQDN}", value=word)
    entries = report.items(raw, (), "endpoints")
    if len(entries) > MAX_SLICE_ENDPOINTS:
        reason = f"more than {MAX_SLICE_ENDPOINTS:,} endpoints"
        report.refuse(("endpoints",), reason, fix="spread them over several slices", error=LimitError)
        entries = []
    found = [_slice_endpoint(report, entry, ("endpoints", at), word) for at, entry in enumerate(entries)]
    return EndpointSlice(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        created=meta.created,
        service=service,
        ports=_slice_ports(report, raw),
        endpoints=tuple(each for each in found if each is not None),
    )


def _slice_endpoint(report: Report, entry: Any, path: Path, word: str) -> SliceEndpoint | None:
    """One endpoint; None for one without an IP address."""
    raw = report.as_mapping(entry, path)
    texts, at = report.items(raw, path, "addresses"), (*path, "addresses")
    if not texts and not report.touches(at):
        report.refuse(at, "missing")
    if len(texts) > MAX_SLICE_ADDRESSES:
        report.refuse(at, f"more than {MAX_SLICE_ADDRESSES} addresses", error=LimitError)
        texts = texts[:1]
    if word not in _FAMILIES:
        return None
    addresses = [ordinary_address(report, text, (*at, index)) for index, text in enumerate(texts)]
    for index, address in enumerate(addresses):
        if address is not None and address.family != _FAMILIES[word]:
            report.refuse((*at, index), f"is not an {word} address", value=texts[index])
    if len(addresses) > 1:
        report.warn(at, "the first address is used: what several stand for is not defined")
    conditions, below = report.mapping(raw, path, "conditions"), (*path, "conditions")
    said = {key: _condition(report, conditions, below, key) for key in ("ready", "serving", "terminating")}
    is_ready = said["ready"] is not False
    node = _node(report, raw, path)
    if not addresses or addresses[0] is None:
        return None
    return SliceEndpoint(
        address=addresses[0],
        node=node,
        is_ready=is_ready,
        is_serving=is_ready if said["serving"] is None else said["serving"],
        is_terminating=said["terminating"] is True,
    )


def _condition(report: Report, conditions: Mapping[str, Any], path: Path, key: str) -> bool | None:
    """None: not said."""
    return None if conditions.get(key) is None else report.flag(conditions, path, key)


def _node(report: Report, raw: Mapping[str, Any], path: Path) -> str:
    node = report.text(raw, path, "nodeName")
    if node and not is_subdomain(node):
        report.refuse((*path, "nodeName"), "not a valid node name", value=node)
    return node


def _slice_ports(report: Report, raw: Mapping[str, Any]) -> tuple[SlicePort, ...]:
    """Ports of a slice; one without a number stands for any port, which no load balancer can serve."""
    found: list[SlicePort] = []
    names: set[str] = set()
    for index, entry in enumerate(report.items(raw, (), "ports")):
        path: Path = ("ports", index)
        port = report.as_mapping(entry, path)
        name = read_port_label(report, port, path)
        if name in names:
            report.refuse((*path, "name"), "stands twice", value=name)
        names.add(name)
        protocol = read_protocol(report, port, path)
        if port.get("port") is not None:
            found.append(SlicePort(name=name, protocol=protocol, number=read_port_number(report, port, path)))
    return tuple(found)


# ------------------------------------------------------------------------------------------- Endpoints


def parse_endpoints(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Endpoints:
    """v1 Endpoints -> the model; problems go to ``report``."""
    subsets = [_subset(report, entry, ("subsets", at)) for at, entry in enumerate(report.items(raw, (), "subsets"))]
    return Endpoints(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, created=meta.created, subsets=tuple(subsets)
    )


def _subset(report: Report, entry: Any, path: Path) -> EndpointSubset:
    raw = report.as_mapping(entry, path)
    ready, others = report.items(raw, path, "addresses"), report.items(raw, path, "notReadyAddresses")
    if isinstance(entry, dict) and not ready and not others and not report.touches(path):
        report.refuse(path, "must hold addresses or notReadyAddresses")
    found = [_address(report, each, (*path, "addresses", at), is_ready=True) for at, each in enumerate(ready)]
    found += [
        _address(report, each, (*path, "notReadyAddresses", at), is_ready=False) for at, each in enumerate(others)
    ]
    return EndpointSubset(
        ports=_subset_ports(report, raw, path), endpoints=tuple(each for each in found if each is not None)
    )


def _address(report: Report, entry: Any, path: Path, *, is_ready: bool) -> SliceEndpoint | None:
    raw = report.as_mapping(entry, path)
    if not isinstance(entry, dict):
        return None
    if raw.get("ip") is None:
        report.refuse((*path, "ip"), "missing")
        return None
    address = ordinary_address(report, raw["ip"], (*path, "ip"))
    node = _node(report, raw, path)
    if address is None:
        return None
    return SliceEndpoint(address=address, node=node, is_ready=is_ready, is_serving=is_ready)


def _subset_ports(report: Report, raw: Mapping[str, Any], owner: Path) -> tuple[SlicePort, ...]:
    entries = report.items(raw, owner, "ports")
    found: list[SlicePort] = []
    for index, entry in enumerate(entries):
        path: Path = (*owner, "ports", index)
        port = report.as_mapping(entry, path)
        if not isinstance(entry, dict):
            continue
        name = read_port_label(report, port, path)
        if not name and len(entries) > 1:
            report.refuse((*path, "name"), "missing, and there is more than one port", fix="name every port")
        protocol = read_protocol(report, port, path)
        found.append(SlicePort(name=name, protocol=protocol, number=read_port_number(report, port, path)))
    return tuple(found)
