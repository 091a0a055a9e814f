"""Service: validated and defaulted as the API server does it.

Unknown fields are ignored: a newer release of Kubernetes adds some that do not concern the network, and refusing its
objects would take the Service away. A word that is known is checked wherever it stands, so a misspelt policy or
protocol is refused, not read as its default. Source: Kubernetes API reference, core/v1 Service, its defaults and
validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import (
    Metadata,
    is_label_name,
    is_port_name,
    is_subdomain,
    read_labels,
)
from ovnk_core.ingest.parse_policy import read_protocol
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.model.cluster import address_of_kind, special_kind
from ovnk_core.model.service import (
    DEFAULT_AFFINITY_TIMEOUT_S,
    MAX_AFFINITY_TIMEOUT_S,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from ovnk_core.terms.address import Address, Family, cidr
from ovnk_core.terms.port import PORT_MAX, PORT_MIN

NONE = "None"
"""The cluster IP of a headless Service."""
PORT_NAME_RULE = "must be an RFC 1123 label (at most 63 lower-case letters, digits, '-')"
_SPEC: Path = ("spec",)
_TYPES: tuple[ServiceType, ...] = get_args(ServiceType)
_POLICIES: tuple[TrafficPolicy, ...] = get_args(TrafficPolicy)
_FAMILIES: dict[str, Family] = {"IPv4": 4, "IPv6": 6}
_DUAL = ("PreferDualStack", "RequireDualStack")
_BOUNDS = (PORT_MIN, PORT_MAX)
_EXTERNAL_TYPES = ("NodePort", "LoadBalancer")
_LINK_LOCAL = cidr("169.254.0.0/16")


def parse_service(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Service:
    """v1 Service -> the model; problems go to ``report``."""
    spec = report.mapping(raw, (), "spec")
    kind = _choice(report, spec, "type", _TYPES, "ClusterIP")
    cluster_ips, is_headless = _cluster_ips(report, spec)
    families = _families(report, spec, cluster_ips)
    ports = _ports(report, spec, kind)
    external = _external_ips(report, spec)
    is_reached_from_outside = kind in _EXTERNAL_TYPES or bool(external)
    if spec.get("externalTrafficPolicy") is not None and not is_reached_from_outside:
        reason = "may only be set where the Service is reached from outside"
        fix = "use type NodePort or LoadBalancer, or give externalIPs"
        report.refuse((*_SPEC, "externalTrafficPolicy"), reason, value=spec["externalTrafficPolicy"], fix=fix)
    _check_type(report, spec, kind, is_headless=is_headless, has_ports=bool(spec.get("ports")))
    allocates = spec.get("allocateLoadBalancerNodePorts") is None or report.flag(
        spec, _SPEC, "allocateLoadBalancerNodePorts"
    )
    if spec.get("loadBalancerSourceRanges"):
        report.warn((*_SPEC, "loadBalancerSourceRanges"), "not read: hosts filter by it, OVN does not")
    return Service(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        created=meta.created,
        type=kind,
        cluster_ips=cluster_ips,
        is_headless=is_headless,
        families=families,
        is_dual_stack=_is_dual_stack(report, spec, max(len(cluster_ips), len(families))),
        ports=ports,
        external_ips=external,
        load_balancer_ips=_load_balancer_ips(report, raw) if kind == "LoadBalancer" else (),
        external_policy=_choice(report, spec, "externalTrafficPolicy", _POLICIES, "Cluster"),
        internal_policy=_choice(report, spec, "internalTrafficPolicy", _POLICIES, "Cluster"),
        affinity_timeout_s=_affinity(report, spec),
        has_node_ports=kind == "NodePort" or (kind == "LoadBalancer" and allocates),
        publishes_not_ready=report.flag(spec, _SPEC, "publishNotReadyAddresses"),
        selector=tuple(sorted(read_labels(report, spec, _SPEC, "selector").items())),
    )


def _choice(report: Report, owner: Mapping[str, Any], key: str, words: tuple[Any, ...], default: Any) -> Any:
    """One of ``words``; the default when absent or, as the API server has it, empty."""
    word = report.text(owner, _SPEC, key) or default
    if word in words:
        return word
    report.refuse((*_SPEC, key), f"must be {' or '.join(words)}", value=word)
    return default


def _check_type(report: Report, spec: Mapping[str, Any], kind: str, *, is_headless: bool, has_ports: bool) -> None:
    """What a type demands and forbids."""
    if is_headless and kind in _EXTERNAL_TYPES:
        report.refuse((*_SPEC, "clusterIP"), f"may not be None for type {kind}", fix="leave it out")
    if not has_ports and not is_headless and kind != "ExternalName" and not report.touches((*_SPEC, "ports")):
        report.refuse((*_SPEC, "ports"), "a Service needs at least one port", fix="list its ports, or be headless")
    if kind != "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not None:
        report.refuse((*_SPEC, "allocateLoadBalancerNodePorts"), "may only be set for type LoadBalancer")
    if kind != "ExternalName":
        return
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            report.refuse((*_SPEC, key), "may not be set for type ExternalName", value=spec[key], fix="remove it")
    name = report.text(spec, _SPEC, "externalName")
    if not name:
        report.refuse((*_SPEC, "externalName"), "missing", fix="name the host it stands for")
    elif not is_subdomain(name.removesuffix(".")):
        report.refuse((*_SPEC, "externalName"), "not a DNS name", value=name)


# ------------------------------------------------------------------------------------------- addresses


def _cluster_ips(report: Report, spec: Mapping[str, Any]) -> tuple[tuple[Address, ...], bool]:
    """(cluster IPs, whether it is headless)."""
    first, words = report.text(spec, _SPEC, "clusterIP"), report.items(spec, _SPEC, "clusterIPs")
    path: Path = (*_SPEC, "clusterIPs")
    if words and not first:
        report.refuse(path, "must be empty when clusterIP is not set", fix=f"set clusterIP to {words[0]}")
    elif words and words[0] != first:
        report.refuse((*path, 0), "must be equal to clusterIP", value=words[0])
    entries = [((*path, at), word) for at, word in enumerate(words)] or ([((*_SPEC, "clusterIP"), first)] * bool(first))
    if any(word == NONE for _, word in entries):
        if len(entries) > 1:
            report.refuse(path, "may hold None alone only", fix="leave the addresses out")
        return (), True
    if len(entries) > len(_FAMILIES):
        report.refuse(path, "may not hold more than two addresses", error=LimitError)
        return (), False
    found = [address for at, word in entries if (address := ordinary_address(report, word, at)) is not None]
    if len({address.family for address in found}) < len(found):
        report.refuse(path, "more than one address of one family", fix="keep one per family")
    return tuple(found), False


def ordinary_address(report: Report, value: Any, path: Path) -> Address | None:
    """An address that may be that of one host: not loopback, link-local, multicast or unspecified."""
    address = report.address(value, path)
    if address is None:
        return None
    if kind := "link-local" if _LINK_LOCAL.contains(address) else special_kind(address):
        report.refuse(path, f"may not be {address_of_kind(kind)}", value=value)
        return None
    return address


def _families(report: Report, spec: Mapping[str, Any], cluster_ips: tuple[Address, ...]) -> tuple[Family, ...]:
    found: list[Family] = []
    path: Path = (*_SPEC, "ipFamilies")
    for index, word in enumerate(report.items(spec, _SPEC, "ipFamilies")):
        family = _FAMILIES.get(word) if isinstance(word, str) else None
        if family is None:
            report.refuse((*path, index), "must be IPv4 or IPv6", value=word)
        elif family in found:
            report.refuse((*path, index), "stands twice", value=word)
        else:
            found.append(family)
    for index, (family, address) in enumerate(zip(found, cluster_ips, strict=False)):
        if family != address.family and not report.touches(path):
            report.refuse((*path, index), f"does not fit cluster IP {address}", value=f"IPv{family}")
    return tuple(found)


def _is_dual_stack(report: Report, spec: Mapping[str, Any], count: int) -> bool:
    """Whether it asks for both families; one that names both asks for them."""
    word = report.text(spec, _SPEC, "ipFamilyPolicy")
    if word not in ("", "SingleStack", *_DUAL):
        report.refuse((*_SPEC, "ipFamilyPolicy"), f"must be SingleStack, {' or '.join(_DUAL)}", value=word)
    if word == "SingleStack" and count > 1:
        report.refuse((*_SPEC, "ipFamilyPolicy"), "SingleStack has one family", fix=f"write {_DUAL[0]}")
    return word in _DUAL or (not word and count > 1)


def _external_ips(report: Report, spec: Mapping[str, Any]) -> tuple[Address, ...]:
    texts = enumerate(report.items(spec, _SPEC, "externalIPs"))
    found = [ordinary_address(report, text, (*_SPEC, "externalIPs", index)) for index, text in texts]
    return tuple(dict.fromkeys(address for address in found if address is not None))


def _load_balancer_ips(report: Report, raw: Mapping[str, Any]) -> tuple[Address, ...]:
    """Addresses of the status that OVN has to answer: host names lead elsewhere, and what has ipMode Proxy comes from
    the provider with the address of a node."""
    path: Path = ("status", "loadBalancer")
    status = report.mapping(report.mapping(raw, (), "status"), ("status",), "loadBalancer")
    found: dict[Address, None] = {}
    for index, entry in enumerate(report.items(status, path, "ingress")):
        at: Path = (*path, "ingress", index)
        ingress = report.as_mapping(entry, at)
        mode = report.text(ingress, at, "ipMode")
        if mode not in ("", "VIP", "Proxy"):
            report.refuse((*at, "ipMode"), "must be VIP or Proxy", value=mode)
        if ingress.get("ip") and mode != "Proxy":
            address = ordinary_address(report, ingress["ip"], (*at, "ip"))
            found |= {} if address is None else {address: None}
    return tuple(found)


# ------------------------------------------------------------------------------------------- ports and affinity


def _ports(report: Report, spec: Mapping[str, Any], kind: ServiceType) -> tuple[ServicePort, ...]:
    entries = report.items(spec, _SPEC, "ports")
    found: list[ServicePort] = []
    names: set[str] = set()
    fronts: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, entry in enumerate(entries):
        path: Path = (*_SPEC, "ports", index)
        port = _port(report, entry, path, kind)
        if port is None or report.touches(path):
            continue
        if not port.name and len(entries) > 1:
            report.refuse((*path, "name"), "missing, and there is more than one port", fix="name every port")
        elif port.name in names:
            report.refuse((*path, "name"), "stands twice", value=port.name)
        if (port.protocol, port.port) in fronts:
            report.refuse((*path, "port"), f"port and protocol {port.protocol} stand twice", value=port.port)
        if port.node_port and (port.protocol, port.node_port) in node_ports:
            reason = f"node port and protocol {port.protocol} stand twice"
            report.refuse((*path, "nodePort"), reason, value=port.node_port)
        names.add(port.name)
        fronts.add((port.protocol, port.port))
        node_ports.add((port.protocol, port.node_port))
        found.append(port)
    return tuple(found)


def _port(report: Report, entry: Any, path: Path, kind: ServiceType) -> ServicePort | None:
    raw = report.as_mapping(entry, path)
    if not isinstance(entry, dict):
        return None
    protocol, number = read_protocol(report, raw, path), read_port_number(report, raw, path)
    # To the API server 0 is the same as not said.
    is_said = type(raw.get("nodePort")) is not int or raw["nodePort"] != 0
    node_port = (report.number(raw, path, "nodePort", _BOUNDS) or 0) if is_said else 0
    if node_port and kind == "ClusterIP":
        fix = "use type NodePort or LoadBalancer"
        report.refuse((*path, "nodePort"), "may not be set for type ClusterIP", value=node_port, fix=fix)
    name = read_port_label(report, raw, path)
    return ServicePort(
        name=name,
        protocol=protocol,
        port=number,
        target=_target(report, raw, path),
        node_port=node_port if kind in _EXTERNAL_TYPES else 0,
    )


def read_port_number(report: Report, raw: Mapping[str, Any], path: Path) -> int:
    """``port``, which must be there."""
    if raw.get("port") is None:
        report.refuse((*path, "port"), "missing")
    return report.number(raw, path, "port", _BOUNDS) or PORT_MIN


def read_port_label(report: Report, raw: Mapping[str, Any], path: Path) -> str:
    """``name`` of a port of a Service or of endpoints; empty when absent."""
    name = report.text(raw, path, "name")
    if name and not is_label_name(name):
        report.refuse((*path, "name"), PORT_NAME_RULE, value=name)
    return name


def _target(report: Report, raw: Mapping[str, Any], path: Path) -> str:
    """targetPort as text: a number, or the name of a container port."""
    value, at = raw.get("targetPort"), (*path, "targetPort")
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        if is_port_name(value):
            return value
        fix = f"write {value} without quotes" if value.isascii() and value.isdigit() and len(value) < 6 else ""
        reason = "a port name must be 1-15 lower-case letters, digits and single inner dashes, with a letter"
        report.refuse(at, reason, value=value, fix=fix)
        return ""
    return str(report.as_number(value, at, _BOUNDS) or "")


def _affinity(report: Report, spec: Mapping[str, Any]) -> int:
    """Seconds; 0: none."""
    word = _choice(report, spec, "sessionAffinity", (NONE, "ClientIP"), NONE)
    path: Path = (*_SPEC, "sessionAffinityConfig")
    config = report.mapping(report.mapping(spec, _SPEC, "sessionAffinityConfig"), path, "clientIP")
    timeout_s = report.number(config, (*path, "clientIP"), "timeoutSeconds", (1, MAX_AFFINITY_TIMEOUT_S))
    if word == NONE:
        if config:
            report.warn(path, "without effect, because sessionAffinity is None")
        return 0
    return DEFAULT_AFFINITY_TIMEOUT_S if timeout_s is None else timeout_s
