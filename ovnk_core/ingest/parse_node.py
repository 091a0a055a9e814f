"""Node: addresses of its status, and what OVN-Kubernetes' annotations already say about its place in OVN.

Every annotation is optional; an absent one leaves its field empty and somebody else allocates or assumes. A malformed
one refuses the node, because a guess would renumber it. Annotations speak of several networks; only ``default`` is
read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import (
    MISSING,
    Metadata,
    annotation_path,
    is_token,
    read_annotation,
    read_json_annotation,
    read_mac,
)
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.text import printable
from ovnk_core.model.cluster import JOIN
from ovnk_core.model.node import NODE_MTU_ANNOTATION, Node
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress, cidr
from ovnk_core.terms.struct import Value

PREFIX = "k8s.ovn.org/"
NODE_ID_BOUNDS = (2, 5000)
NODE_MTU_BOUNDS = (722, 65535)
"""At least what carries pods of the smallest MTU, 576, with IPsec."""
VLAN_MAX = 4095
_DEFAULT_NETWORK = "default"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_FAMILY_KEYS = {"ipv4": 4, "ipv6": 6}
_LINK_LOCAL = "link-local"
_NO_NODES = (
    ("unspecified", (cidr("0.0.0.0/8"), cidr("::/128"))),
    ("loopback", (cidr("127.0.0.0/8"), cidr("::1/128"))),
    (_LINK_LOCAL, (cidr("169.254.0.0/16"), cidr("fe80::/10"))),
    ("multicast", (cidr("224.0.0.0/4"), cidr("ff00::/8"))),
    ("broadcast", (cidr("255.255.255.255/32"),)),
)
"""Addresses that no node can be reached by from another (RFC 6890, RFC 4291)."""


class _Gateway(Value, frozen=True, kw_only=True):
    """l3-gateway-config of the default network."""

    is_present: bool = True
    mac: str = ""
    addresses: tuple[InterfaceAddress, ...] = ()
    next_hops: tuple[Address, ...] = ()
    interface: str = ""
    vlan: int = 0


def parse_node(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Node:
    """v1 Node -> the model. A node needs an InternalIP, or node-primary-ifaddr in its place."""
    status = report.mapping(raw, (), "status")
    addresses = _status_addresses(report, status)
    internal = tuple(address for kind, address in addresses if kind == "InternalIP")
    primary = _primary(report, meta)
    if not internal and not report.touches(("status", "addresses")):
        internal = tuple(interface.address for interface in primary)
        if not internal:
            fix = f"give status.addresses an InternalIP, or the node the annotation {PREFIX}node-primary-ifaddr"
            report.refuse(("status", "addresses"), "the node has no InternalIP address", fix=fix)
    gateway = _gateway(report, meta)
    return Node(
        name=meta.name,
        uid=meta.uid,
        created=meta.created,
        labels=meta.labels,
        internal=internal,
        external=tuple(address for kind, address in addresses if kind == "ExternalIP"),
        host_cidrs=_host_cidrs(report, meta),
        subnets=_subnets(report, meta),
        node_id=_node_id(report, meta),
        join=_join(report, meta),
        chassis=_token(report, meta, f"{PREFIX}node-chassis-id"),
        management_mac=_management_mac(report, meta),
        primary=primary,
        has_gateway=gateway.is_present,
        gateway_mac=gateway.mac,
        gateway_addresses=gateway.addresses,
        gateway_next_hops=gateway.next_hops,
        gateway_interface=gateway.interface,
        gateway_vlan=gateway.vlan,
        gateway_mtu_supported=read_annotation(report, meta, f"{PREFIX}gateway-mtu-support") != "false",
        is_ready=_is_ready(report, status),
        hybrid_subnet=_hybrid_subnet(report, meta),
        kernel=report.text(report.mapping(status, ("status",), "nodeInfo"), ("status", "nodeInfo"), "kernelVersion"),
        mtu_bytes=_mtu(report, meta),
    )


def _status_addresses(report: Report, status: Mapping[str, Any]) -> list[tuple[str, Address]]:
    """(type, address) of every InternalIP and ExternalIP, in order; host names are left out."""
    found = []
    for index, entry in enumerate(report.items(status, ("status",), "addresses")):
        path = ("status", "addresses", index)
        raw = report.as_mapping(entry, path)
        kind = report.text(raw, path, "type")
        if kind not in ("InternalIP", "ExternalIP"):
            continue
        address = report.address(raw.get("address"), (*path, "address"))
        if address is not None and _is_reachable(report, address, (*path, "address")):
            found.append((kind, address))
    return found


def _is_reachable(report: Report, address: Address, path: Path, *, may_be_link_local: bool = False) -> bool:
    """Whether a node can have the address; refused when not."""
    for name, ranges in _NO_NODES:
        if any(each.contains(address) for each in ranges) and not (may_be_link_local and name == _LINK_LOCAL):
            report.refuse(path, f"a {name} address cannot reach a node", value=str(address))
            return False
    return True


def _is_ready(report: Report, status: Mapping[str, Any]) -> bool:
    for index, entry in enumerate(report.items(status, ("status",), "conditions")):
        raw = report.as_mapping(entry, ("status", "conditions", index))
        if raw.get("type") == "Ready":
            return raw.get("status") == "True"
    return True


def _default(report: Report, meta: Metadata, key: str) -> Any:
    """The ``default`` network's entry of a JSON annotation; ``MISSING`` when there is none."""
    value = read_json_annotation(report, meta, key)
    if value is MISSING:
        return MISSING
    return report.as_mapping(value, annotation_path(key)).get(_DEFAULT_NETWORK, MISSING)


def _subnets(report: Report, meta: Metadata) -> tuple[Cidr, ...]:
    """node-subnets: {"default": [CIDR, ...]}, {"default": CIDR}, or the CIDR alone; at most one per family."""
    key = f"{PREFIX}node-subnets"
    path: Path = (*annotation_path(key), _DEFAULT_NETWORK)
    text = read_annotation(report, meta, key)
    if text and text.strip()[:1] not in ("{", "[", '"'):
        path = annotation_path(key)
        value: Any = text
    else:
        value = _default(report, meta, key)
    if value is MISSING:
        return ()
    texts = value if isinstance(value, list) else [value]
    found = [report.prefix(entry, (*path, index), strict=False) for index, entry in enumerate(texts)]
    subnets = tuple(sorted(subnet for subnet in found if subnet is not None))
    if len({subnet.family for subnet in subnets}) < len(subnets):
        report.refuse(path, "more than one subnet of one family", fix="keep one per family", error=LimitError)
    return subnets


def _hybrid_subnet(report: Report, meta: Metadata) -> Cidr | None:
    """hybrid-overlay-node-subnet: the CIDR of a Windows node."""
    key = f"{PREFIX}hybrid-overlay-node-subnet"
    text = read_annotation(report, meta, key)
    return report.prefix(text, annotation_path(key), strict=False) if text else None


def _mtu(report: Report, meta: Metadata) -> int | None:
    text = read_annotation(report, meta, NODE_MTU_ANNOTATION)
    if not text:
        return None
    least, most = NODE_MTU_BOUNDS
    if text.isascii() and text.isdecimal() and len(text) <= 5 and least <= int(text) <= most:
        return int(text)
    reason = f"must be a whole number of bytes from {least} to {most}"
    report.refuse(annotation_path(NODE_MTU_ANNOTATION), reason, value=text, error=LimitError)
    return None


def _gateway(report: Report, meta: Metadata) -> _Gateway:
    key = f"{PREFIX}l3-gateway-config"
    value = _default(report, meta, key)
    if value is MISSING:
        return _Gateway()
    path = (*annotation_path(key), _DEFAULT_NETWORK)
    raw = report.as_mapping(value, path)
    mode = report.text(raw, path, "mode", "shared" if not isinstance(value, dict) else "?")
    if mode == "":
        return _Gateway(is_present=False)
    if mode == "local":
        report.warn((*path, "mode"), "gateway mode local is treated as shared")
    elif mode != "shared":
        report.refuse((*path, "mode"), 'must be shared, local or "" (no gateway)', value=raw.get("mode"))
    mac = read_mac(report, raw["mac-address"], (*path, "mac-address")) if raw.get("mac-address") else ""
    interface = report.text(raw, path, "interface-id")
    if interface and not is_token(interface):
        report.refuse((*path, "interface-id"), "not an interface name", value=interface)
    addresses, next_hops = [], []
    for at, text in _one_or_many(report, raw, path, "ip-address", "ip-addresses"):
        interface_address = report.interface(text, at)
        if interface_address is not None and _is_reachable(report, interface_address.address, at):
            addresses.append(interface_address)
    for at, text in _one_or_many(report, raw, path, "next-hop", "next-hops"):
        hop = report.address(text, at)
        # IPv6 routers are commonly known by their link-local address only.
        if hop is not None and _is_reachable(report, hop, at, may_be_link_local=hop.family == 6):
            next_hops.append(hop)
    return _Gateway(
        mac=mac,
        addresses=tuple(addresses),
        next_hops=tuple(next_hops),
        interface=interface,
        vlan=_number(report, raw.get("vlan-id"), (*path, "vlan-id"), (0, VLAN_MAX)) or 0,
    )


def _one_or_many(report: Report, raw: Mapping[str, Any], path: Path, one: str, many: str) -> list[tuple[Path, Any]]:
    """Entries of the list ``many``, or of the older single field ``one``, with their paths."""
    entries = report.items(raw, path, many)
    if entries:
        return [((*path, many, index), entry) for index, entry in enumerate(entries)]
    return [((*path, one), raw[one])] if raw.get(one) else []


def _number(report: Report, value: Any, path: Path, bounds: tuple[int, int]) -> int | None:
    """A whole number that annotations write as text, or as a number; None when absent or refused."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            report.refuse(path, "must be a whole number", value=value)
            return None
        value = int(value)
    return report.as_number(value, path, bounds)


def _node_id(report: Report, meta: Metadata) -> int | None:
    key = f"{PREFIX}node-id"
    return _number(report, read_annotation(report, meta, key), annotation_path(key), NODE_ID_BOUNDS)


def _token(report: Report, meta: Metadata, key: str) -> str:
    text = read_annotation(report, meta, key) or ""
    if text and not is_token(text):
        report.refuse(annotation_path(key), "must be letters, digits and -_.:@ only, at most 253", value=text)
        return ""
    return text


def _management_mac(report: Report, meta: Metadata) -> str:
    """node-mgmt-port-mac-addresses (by network) wins over the older node-mgmt-port-mac-address."""
    key = f"{PREFIX}node-mgmt-port-mac-addresses"
    value = _default(report, meta, key)
    if value is not MISSING:
        return read_mac(report, value, (*annotation_path(key), _DEFAULT_NETWORK))
    key = f"{PREFIX}node-mgmt-port-mac-address"
    text = read_annotation(report, meta, key)
    return read_mac(report, text, annotation_path(key)) if text else ""


def _join(report: Report, meta: Metadata) -> tuple[InterfaceAddress, ...]:
    """node-gateway-router-lrp-ifaddrs (by network) wins over the older node-gateway-router-lrp-ifaddr."""
    key = f"{PREFIX}node-gateway-router-lrp-ifaddrs"
    path: Path = (*annotation_path(key), _DEFAULT_NETWORK)
    value = _default(report, meta, key)
    if value is MISSING:
        key = f"{PREFIX}node-gateway-router-lrp-ifaddr"
        path, value = annotation_path(key), read_json_annotation(report, meta, key)
    found = () if value is MISSING else _interfaces(report, value, path)
    for interface in found:
        base, (first, last) = JOIN[interface.family], NODE_ID_BOUNDS
        if not first <= interface.address.value - base.value <= last:
            at = (*path, f"ipv{interface.family}")
            reason = f"must lie in the join range {base}, from {base.at(first)} to {base.at(last)}"
            report.refuse(at, reason, value=str(interface), error=LimitError)
    return found


def _primary(report: Report, meta: Metadata) -> tuple[InterfaceAddress, ...]:
    key = f"{PREFIX}node-primary-ifaddr"
    value = read_json_annotation(report, meta, key)
    found = () if value is MISSING else _interfaces(report, value, annotation_path(key))
    for interface in found:
        _is_reachable(report, interface.address, (*annotation_path(key), f"ipv{interface.family}"))
    return found


def _interfaces(report: Report, value: Any, path: Path) -> tuple[InterfaceAddress, ...]:
    """{"ipv4": ADDRESS/PREFIX, "ipv6": ...}, either may be missing or empty."""
    raw, found = report.as_mapping(value, path), []
    for key, family in _FAMILY_KEYS.items():
        if raw.get(key) in (None, ""):
            continue
        interface = report.interface(raw[key], (*path, key))
        if interface is not None and interface.family != family:
            report.refuse((*path, key), f"not an IPv{family} address", value=raw[key])
        elif interface is not None:
            found.append(interface)
    return tuple(found)


def _host_cidrs(report: Report, meta: Metadata) -> tuple[InterfaceAddress, ...]:
    """host-cidrs, or the older host-addresses, whose bare addresses become /32 and /128; sorted and unique."""
    for key in (f"{PREFIX}host-cidrs", f"{PREFIX}host-addresses"):
        value = read_json_annotation(report, meta, key)
        if value is MISSING:
            continue
        path = annotation_path(key)
        if not isinstance(value, list):
            report.refuse(path, "must be a JSON list", value=printable(msgspec.json.encode(value).decode()))
            return ()
        found = set()
        for index, entry in enumerate(value):
            if isinstance(entry, str) and "/" not in entry:
                address = report.address(entry, (*path, index))
                interface = InterfaceAddress(address, address.host.prefix) if address is not None else None
            else:
                interface = report.interface(entry, (*path, index))
            if interface is not None and _is_reachable(report, interface.address, (*path, index)):
                found.add(interface)
        return tuple(sorted(found))
    return ()
