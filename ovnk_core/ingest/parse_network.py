"""The cluster configuration kinds: Network of config.openshift.io and of operator.openshift.io, Infrastructure.

Both Network kinds are validated alike; what one leaves out the other or a default may give, so ``network_conflicts``
is also run by the caller on the merged ``ClusterNetwork``.
Source: the cluster network operator's validation; ranges reserved by OVN-Kubernetes (``model.cluster.RESERVED``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import Metadata
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.model.cluster import (
    DEFAULT_CLUSTER_NETWORK,
    DEFAULT_GENEVE_PORT,
    DEFAULT_SERVICE_NETWORK,
    DEFAULT_VXLAN_PORT,
    RESERVED,
    ClusterNetwork,
    ClusterNetworkEntry,
    HybridOverlay,
    Infrastructure,
    Network,
    NetworkOperator,
)
from ovnk_core.terms.address import BITS, Cidr
from ovnk_core.terms.port import PORT_MAX, PORT_MIN

NETWORK_TYPE = "OVNKubernetes"
DEFAULT_HOST_PREFIX_BITS, IPV6_HOST_PREFIX_BITS = 23, 64
MTU_BOUNDS, IPV6_MTU_MIN = (576, 65536), 1280
_SPEC: Path = ("spec",)
_CLUSTER: Path = ("spec", "clusterNetwork")
_SERVICE: Path = ("spec", "serviceNetwork")
OPERATOR_PART: Path = ("spec", "defaultNetwork")
_OVN: Path = (*OPERATOR_PART, "ovnKubernetesConfig")
_HYBRID: Path = (*_OVN, "hybridOverlayConfig")
_HYBRID_CLUSTER: Path = (*_HYBRID, "hybridClusterNetwork")
_INTERNAL_SUBNETS = ("v4InternalSubnet", "v6InternalSubnet")
_OVN_SETTINGS = frozenset(
    {
        "mtu",
        "genevePort",
        "hybridOverlayConfig",
        "ipsecConfig",
        "policyAuditConfig",
        "gatewayConfig",
        "egressIPConfig",
        "ipv4",
        "ipv6",
        "routeAdvertisements",
        *_INTERNAL_SUBNETS,
    }
)
_HYBRID_SETTINGS = frozenset({"hybridClusterNetwork", "hybridOverlayVXLANPort"})
NamedRange = tuple[Path, str, Cidr]


def parse_network(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Network:
    """config.openshift.io/v1 Network -> the model. Lists left out take the defaults, which take part in the checks."""
    spec = report.mapping(raw, (), "spec")
    entries, service = _ranges(report, spec)
    if not report.errors:
        _check(report, entries or DEFAULT_CLUSTER_NETWORK, service or DEFAULT_SERVICE_NETWORK)
    network_type = _network_type(report, spec, _SPEC, "networkType")
    return Network(
        name=meta.name,
        uid=meta.uid,
        created=meta.created,
        cluster_network=entries,
        service_network=service,
        network_type=network_type,
    )


def parse_network_operator(report: Report, raw: Mapping[str, Any], meta: Metadata) -> NetworkOperator:
    """operator.openshift.io/v1 Network -> the model. Lists left out are another object's to give."""
    spec = report.mapping(raw, (), "spec")
    entries, service = _ranges(report, spec)
    default = report.mapping(spec, _SPEC, "defaultNetwork")
    network_type = _network_type(report, default, (*_SPEC, "defaultNetwork"), "type")
    ovn = report.mapping(default, (*_SPEC, "defaultNetwork"), "ovnKubernetesConfig")
    mtu = report.number(ovn, _OVN, "mtu", MTU_BOUNDS)
    if mtu is not None and mtu < IPV6_MTU_MIN and any(entry.cidr.family == 6 for entry in entries):
        report.refuse((*_OVN, "mtu"), f"must be at least {IPV6_MTU_MIN} with IPv6", value=mtu, error=LimitError)
    port = report.number(ovn, _OVN, "genevePort", (PORT_MIN, PORT_MAX))
    hybrid = parse_hybrid(report, ovn, _OVN, geneve_port=port)
    has_ipsec = parse_ipsec(report, ovn, _OVN)
    if not report.errors:
        _check(report, entries, service, hybrid)
    _warn_unbuilt(report, ovn)
    return NetworkOperator(
        name=meta.name,
        uid=meta.uid,
        created=meta.created,
        cluster_network=entries,
        service_network=service,
        network_type=network_type,
        mtu_bytes=mtu,
        geneve_port=port,
        hybrid=hybrid,
        has_ipsec=has_ipsec,
    )


def parse_infrastructure(report: Report, raw: Mapping[str, Any], meta: Metadata) -> Infrastructure:
    """config.openshift.io/v1 Infrastructure -> its platform type."""
    status, spec = report.mapping(raw, (), "status"), report.mapping(raw, (), "spec")
    stated = report.mapping(status, ("status",), "platformStatus")
    wished = report.mapping(spec, _SPEC, "platformSpec")
    platform = (
        report.text(stated, ("status", "platformStatus"), "type")
        or report.text(status, ("status",), "platform")
        or report.text(wished, (*_SPEC, "platformSpec"), "type")
    )
    if platform and not (platform.isascii() and platform.isalnum() and len(platform) <= 63):
        report.refuse(("status", "platformStatus", "type"), "not a platform name", value=platform)
    return Infrastructure(name=meta.name, uid=meta.uid, created=meta.created, platform=platform)


def network_conflicts(network: ClusterNetwork) -> tuple[tuple[Path, str], ...]:
    """(path, reason) of what is wrong with a merged configuration: overlaps, families or prefixes that differ, an MTU
    too small. Paths that begin with ``OPERATOR_PART`` are in operator.openshift.io Network, others in either."""
    problems = list(_conflicts(network.entries, network.service, network.hybrid))
    if network.hybrid and network.hybrid.vxlan_port == network.geneve_port:
        reason = f"the Geneve and the VXLAN port must differ (both are {network.geneve_port})"
        problems.append(((*_OVN, "genevePort"), reason))
    if network.mtu_bytes is not None and network.mtu_bytes < IPV6_MTU_MIN and 6 in network.families:
        problems.append(((*_OVN, "mtu"), f"the MTU {network.mtu_bytes} must be at least {IPV6_MTU_MIN} with IPv6"))
    return tuple(problems)


def _ranges(report: Report, spec: Mapping[str, Any]) -> tuple[tuple[ClusterNetworkEntry, ...], tuple[Cidr, ...]]:
    entries = []
    for index, value in enumerate(report.items(spec, _SPEC, "clusterNetwork")):
        entry = _entry(report, value, (*_CLUSTER, index))
        if entry is not None:
            entries.append(entry)
    texts = report.items(spec, _SPEC, "serviceNetwork")
    found = [report.prefix(text, (*_SERVICE, index), strict=True) for index, text in enumerate(texts)]
    service = tuple(prefix for prefix in found if prefix is not None)
    if len(texts) > 2:
        report.refuse(_SERVICE, "at most two ranges, one IPv4 and one IPv6", error=LimitError)
    elif len(service) == 2 and service[0].family == service[1].family:
        report.refuse(_SERVICE, "two ranges must be one IPv4 and one IPv6", error=LimitError)
    return tuple(entries), service


def _entry(report: Report, value: Any, path: Path) -> ClusterNetworkEntry | None:
    raw = report.as_mapping(value, path)
    if not isinstance(value, dict):
        return None
    if raw.get("cidr") is None:
        report.refuse((*path, "cidr"), "missing", fix="write NETWORK/PREFIX")
        return None
    cidr = report.prefix(raw["cidr"], (*path, "cidr"), strict=True)
    given = report.number(raw, path, "hostPrefix", (0, 128))
    if cidr is None or (given is None and raw.get("hostPrefix") is not None):
        return None
    bits = given if given is not None else DEFAULT_HOST_PREFIX_BITS if cidr.family == 4 else IPV6_HOST_PREFIX_BITS
    at = (*path, "hostPrefix")
    if cidr.family == 6 and bits != IPV6_HOST_PREFIX_BITS:
        report.refuse(at, f"must be {IPV6_HOST_PREFIX_BITS} for IPv6", value=bits, error=LimitError)
    elif bits <= cidr.prefix:
        fix = f"write {cidr.prefix + 1} or more" if cidr.prefix < BITS[cidr.family] - 2 else "use a larger range"
        report.refuse(at, f"must be longer than the prefix of {cidr}", value=bits, fix=fix, error=LimitError)
    elif bits > BITS[cidr.family] - 2:
        report.refuse(at, f"must be at most {BITS[cidr.family] - 2}", value=bits, error=LimitError)
    return ClusterNetworkEntry(cidr=cidr, host_prefix_bits=bits)


def parse_hybrid(
    report: Report, owner: Mapping[str, Any], path: Path, *, geneve_port: int | None = None
) -> HybridOverlay | None:
    """hybridOverlayConfig of ``owner``, which is at ``path`` -> the hybrid overlay; None when not stated or refused.

    ``geneve_port``: as stated next to it, None when not.
    """
    if owner.get("hybridOverlayConfig") is None:
        return None
    at: Path = (*path, "hybridOverlayConfig")
    raw = report.mapping(owner, path, "hybridOverlayConfig")
    _warn_unknown(report, raw, at, _HYBRID_SETTINGS)
    values = report.items(raw, at, "hybridClusterNetwork")
    if not values and not report.touches((*at, "hybridClusterNetwork")):
        reason = "missing: Windows nodes would have no subnets"
        report.refuse((*at, "hybridClusterNetwork"), reason, fix="write a list of cidr and hostPrefix")
    entries = []
    for index, value in enumerate(values):
        entry = _entry(report, value, (*at, "hybridClusterNetwork", index))
        if entry is not None and entry.cidr.family == 6:
            where = (*at, "hybridClusterNetwork", index, "cidr")
            report.refuse(where, "the hybrid overlay is IPv4 only", value=str(entry.cidr))
        elif entry is not None:
            entries.append(entry)
    stated = report.number(raw, at, "hybridOverlayVXLANPort", (PORT_MIN, PORT_MAX))
    port = DEFAULT_VXLAN_PORT if stated is None else stated
    if stated == DEFAULT_VXLAN_PORT:
        reason = f"a custom port can be any open port excluding the default {DEFAULT_VXLAN_PORT}"
        fix = "leave it out to have the default"
        report.refuse((*at, "hybridOverlayVXLANPort"), reason, value=stated, fix=fix, error=LimitError)
    elif port == (DEFAULT_GENEVE_PORT if geneve_port is None else geneve_port):
        where = (*path, "genevePort") if stated is None else (*at, "hybridOverlayVXLANPort")
        reason = "the Geneve and the VXLAN port must differ"
        report.refuse(where, reason, value=port, fix="write another port", error=LimitError)
    return HybridOverlay(entries=tuple(entries), vxlan_port=port) if entries else None


_MODES = {"": True, "Full": True, "Disabled": False}
"""ipsecConfig.mode. ``{}``, which is all that the manual's release knows, means Full."""


def parse_ipsec(report: Report, owner: Mapping[str, Any], path: Path) -> bool:
    """ipsecConfig of ``owner``, which is at ``path`` -> whether traffic between nodes is encrypted."""
    if owner.get("ipsecConfig") is None:
        return False
    at: Path = (*path, "ipsecConfig")
    raw = report.mapping(owner, path, "ipsecConfig")
    mode = report.text(raw, at, "mode")
    if mode == "External":
        reason = "encrypts traffic of hosts with the world outside, which is the hosts' own and no row of OVN's"
        report.refuse((*at, "mode"), reason, value=mode, fix="write Full or Disabled")
    elif mode not in _MODES:
        report.refuse((*at, "mode"), "unknown mode", value=mode, fix="write Full or Disabled")
    return _MODES.get(mode, False)


def _check(
    report: Report,
    entries: tuple[ClusterNetworkEntry, ...],
    service: tuple[Cidr, ...],
    hybrid: HybridOverlay | None = None,
) -> None:
    for path, reason in _conflicts(entries, service, hybrid):
        report.refuse(path, reason, error=LimitError)


def _conflicts(
    entries: Iterable[ClusterNetworkEntry], service: Iterable[Cidr], hybrid: HybridOverlay | None
) -> Iterator[tuple[Path, str]]:
    """(path, reason) of every overlap, and of families and prefixes that differ; either list may be empty."""
    entries = tuple(entries)
    cluster = [((*_CLUSTER, at), f"clusterNetwork[{at}]", entry.cidr) for at, entry in enumerate(entries)]
    services = [((*_SERVICE, at), f"serviceNetwork[{at}]", cidr) for at, cidr in enumerate(service)]
    extra = [
        ((*_HYBRID_CLUSTER, at), f"hybridClusterNetwork[{at}]", cidr)
        for at, cidr in enumerate(hybrid.cidrs if hybrid else ())
    ]
    yield from _overlaps([*cluster, *services, *extra, *(((), f"the {name}", cidr) for name, cidr in RESERVED)])
    cluster_families = {cidr.family for _, _, cidr in cluster}
    service_families = {cidr.family for _, _, cidr in services}
    if cluster_families and service_families and cluster_families != service_families:
        yield _SERVICE, f"families differ: {_families(cluster_families)} and {_families(service_families)}"
    if hybrid is not None and cluster_families == {6}:
        yield _HYBRID, "the hybrid overlay is IPv4 only, and clusterNetwork is not: remove it, or add an IPv4 range"
    yield from _unequal_prefixes(entries)


def _unequal_prefixes(entries: Iterable[ClusterNetworkEntry]) -> Iterator[tuple[Path, str]]:
    """Every node has one route by source; a longer one than another node's connected route would shadow that."""
    first: dict[int, tuple[int, ClusterNetworkEntry]] = {}
    for at, entry in enumerate(entries):
        index, other = first.setdefault(entry.cidr.family, (at, entry))
        if entry.host_prefix_bits != other.host_prefix_bits:
            yield (
                (*_CLUSTER, at, "hostPrefix"),
                f"hostPrefix {entry.host_prefix_bits} of clusterNetwork[{at}] ({entry.cidr}) differs from"
                f" {other.host_prefix_bits} of clusterNetwork[{index}] ({other.cidr}): hostPrefix must be equal within"
                " a family, because OVN prefers the longer source route to the shorter connected one",
            )


def _families(found: Iterable[int]) -> str:
    return "+".join(f"IPv{family}" for family in sorted(found))


def _overlaps(ranges: Iterable[NamedRange]) -> Iterator[tuple[Path, str]]:
    """Every two ranges that overlap; prefixes either nest or are apart."""
    open_range: NamedRange | None = None
    for path, name, cidr in sorted(ranges, key=lambda entry: (entry[2].family, entry[2].value, entry[2].prefix)):
        if open_range is None or not open_range[2].overlaps(cidr):
            open_range = (path, name, cidr)
            continue
        # At fault is what is deeper in the manifest: the addition, and never a range that nobody wrote.
        other, own = sorted((open_range, (path, name, cidr)), key=lambda each: len(each[0]))
        yield own[0], f"{own[1]} ({own[2]}) overlaps {other[1]} ({other[2]}): write a range that nothing else uses"


def _network_type(report: Report, owner: Mapping[str, Any], path: Path, key: str) -> str:
    """Only OVNKubernetes, in any case of letters; OpenShiftSDN is named because it is what a migration starts from."""
    word = report.text(owner, path, key, NETWORK_TYPE)
    if word.lower() == "openshiftsdn":
        fix = f"write {NETWORK_TYPE}; migrating from OpenShift SDN is not built yet"
        report.refuse((*path, key), "OpenShift SDN is not served", value=word, fix=fix)
    elif word.lower() != NETWORK_TYPE.lower():
        report.refuse((*path, key), "unknown network type", value=word, fix=f"write {NETWORK_TYPE}")
    return NETWORK_TYPE


def _warn_unbuilt(report: Report, ovn: Mapping[str, Any]) -> None:
    """Settings that would change addresses or paths and are not built: said, not swallowed."""
    _warn_unknown(report, ovn, _OVN, _OVN_SETTINGS)
    gateway = ovn.get("gatewayConfig")
    if isinstance(gateway, dict) and gateway.get("routingViaHost"):
        report.warn((*_OVN, "gatewayConfig", "routingViaHost"), "only shared gateway mode is built")
    for key in _INTERNAL_SUBNETS:
        if ovn.get(key):
            report.warn((*_OVN, key), "is not supported, the default join range is used")
    for family in ("ipv4", "ipv6"):
        inner = ovn.get(family)
        if isinstance(inner, dict) and any(inner.values()):
            report.warn((*_OVN, family), "is not supported, the default join and transit ranges are used")


def _warn_unknown(report: Report, owner: Mapping[str, Any], path: Path, known: frozenset[str]) -> None:
    """What a misspelt setting stands for would be installed without it, and cannot be added later."""
    for key in owner:
        if key not in known:
            near = get_close_matches(key, known, 1)
            meant = f"; meant {near[0]}?" if near else ""
            report.warn((*path, key), f"is no setting known here and is ignored{meant}")
