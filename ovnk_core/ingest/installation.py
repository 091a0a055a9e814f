"""What may only be said while a cluster is installed, and on which platforms: hybrid networking (15.15.1) and IPsec
(15.4); and an MTU that no node carries (15.2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ovnk_core.errors import LimitError, Mention, ObjectError
from ovnk_core.ingest.position import Path, SourceMap, path_text
from ovnk_core.model.cluster import (
    IPSEC_BYTES,
    OVERLAY_BYTES,
    ClusterNetwork,
    HybridOverlay,
    InstallDecision,
    NetworkOperator,
)

VSPHERE = "VSphere"
_OVN: Path = ("spec", "defaultNetwork", "ovnKubernetesConfig")
_HYBRID: Path = (*_OVN, "hybridOverlayConfig")
_IPSEC: Path = (*_OVN, "ipsecConfig")
Fault = tuple[Path, str, str, str]
"""Path, reason, value, fix."""


def installation_errors(
    operator: NetworkOperator, installed: InstallDecision | None, *, platform: str, source: SourceMap
) -> tuple[ObjectError, ...]:
    """Why an operator.openshift.io Network that is sound by itself cannot be accepted.

    ``installed`` None: the cluster has no node yet, so anything may be said. ``platform``: empty when nobody says it,
    which refuses nothing. Source: 15.4 and 15.15.1 of the manual.
    """
    faults = (*_encrypted(operator, installed), *_changed(operator, installed), *_misplaced(operator, platform))
    return tuple(_error(operator, fault, source) for fault in faults)


def mtu_errors(
    operator: NetworkOperator, network: ClusterNetwork, nodes: Mapping[str, int], *, source: SourceMap
) -> tuple[ObjectError, ...]:
    """Why a stated MTU cannot be accepted: some node is too small for it. ``nodes``: MTU in bytes by node name.

    Source: 15.2.2 of the manual (100 less than the smallest node's), and 46 more for IPsec.
    """
    if operator.mtu_bytes is None or not nodes:
        return ()
    least, name = min((mtu_bytes, name) for name, mtu_bytes in nodes.items())
    largest = network.pod_mtu(least)
    if operator.mtu_bytes <= largest:
        return ()
    less = f"{OVERLAY_BYTES} + {IPSEC_BYTES} with IPsec" if network.has_ipsec else str(OVERLAY_BYTES)
    reason = f"must be at most {largest}: {less} less than the smallest node MTU, {least} of node {name}"
    fault = (*_OVN, "mtu"), reason, str(operator.mtu_bytes), f"write {largest} or less, or leave it out"
    return (_error(operator, fault, source, Mention("Node", "", name)),)


def _error(operator: NetworkOperator, fault: Fault, source: SourceMap, *mentions: Mention) -> ObjectError:
    path, reason, value, fix = fault
    at = source.at(*path)
    kind, name, where = "NetworkOperator", operator.name, path_text(path)
    return LimitError(reason, kind=kind, name=name, path=where, value=value, fix=fix, source=at, mentions=mentions)


def _encrypted(operator: NetworkOperator, installed: InstallDecision | None) -> Iterator[Fault]:
    if installed is None or operator.has_ipsec == installed.has_ipsec:
        return
    if installed.has_ipsec:
        fix = "write ipsecConfig: {} as it was installed"
        yield _IPSEC, "IPsec encryption cannot be disabled after it is enabled", "", fix
        return
    reason = "IPsec encryption can be enabled only during cluster installation"
    yield _IPSEC, reason, "", "remove it, or install another cluster with it"


def _changed(operator: NetworkOperator, installed: InstallDecision | None) -> Iterator[Fault]:
    if installed is None or operator.hybrid == installed.hybrid:
        return
    if installed.hybrid is None:
        reason = "you cannot switch to hybrid networking after the installation process"
        yield _HYBRID, reason, "", "remove it, or install another cluster with it"
        return
    what = "removed" if operator.hybrid is None else "changed"
    reason = f"hybrid networking is configured during the installation of the cluster and cannot be {what} later"
    fix = f"write what was installed: {_ranges(installed.hybrid)}, VXLAN port {installed.hybrid.vxlan_port}"
    if operator.hybrid is None:
        yield _HYBRID, reason, "", fix
        return
    if operator.hybrid.entries != installed.hybrid.entries:
        yield (*_HYBRID, "hybridClusterNetwork"), reason, _ranges(operator.hybrid), fix
    if operator.hybrid.vxlan_port != installed.hybrid.vxlan_port:
        yield (*_HYBRID, "hybridOverlayVXLANPort"), reason, str(operator.hybrid.vxlan_port), fix


def _ranges(hybrid: HybridOverlay) -> str:
    return ", ".join(f"{entry.cidr} hostPrefix {entry.host_prefix_bits}" for entry in hybrid.entries)


def _misplaced(operator: NetworkOperator, platform: str) -> Iterator[Fault]:
    if operator.hybrid is None or not operator.hybrid.has_custom_port or platform.lower() in ("", VSPHERE.lower()):
        return
    reason = f"a custom port is for {VSPHERE} and must not be configured for any other cloud provider ({platform})"
    path = (*_HYBRID, "hybridOverlayVXLANPort")
    yield path, reason, str(operator.hybrid.vxlan_port), "leave it out"
