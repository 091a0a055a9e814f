"""What may only be said while a cluster is installed, and on which platforms: hybrid networking (15.15.1)."""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.errors import LimitError, ObjectError
from ovnk_core.ingest.position import Path, SourceMap, path_text
from ovnk_core.model.cluster import HybridOverlay, InstallDecision, NetworkOperator

VSPHERE = "VSphere"
_HYBRID: Path = ("spec", "defaultNetwork", "ovnKubernetesConfig", "hybridOverlayConfig")


def installation_errors(
    operator: NetworkOperator, installed: InstallDecision | None, *, platform: str, source: SourceMap
) -> tuple[ObjectError, ...]:
    """Why an operator.openshift.io Network that is sound by itself cannot be accepted.

    ``installed`` None: the cluster has no node yet, so anything may be said. ``platform``: empty when nobody says it,
    which refuses nothing. Source: 15.15.1 of the manual.
    """
    return tuple(
        LimitError(
            reason,
            kind="Network",
            name=operator.name,
            path=path_text(path),
            value=value,
            fix=fix,
            source=source.at(*path),
        )
        for path, reason, value, fix in (*_changed(operator, installed), *_misplaced(operator, platform))
    )


def _changed(operator: NetworkOperator, installed: InstallDecision | None) -> Iterator[tuple[Path, str, str, str]]:
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


def _misplaced(operator: NetworkOperator, platform: str) -> Iterator[tuple[Path, str, str, str]]:
    if operator.hybrid is None or not operator.hybrid.has_custom_port or platform.lower() in ("", VSPHERE.lower()):
        return
    reason = f"a custom port is for {VSPHERE} and must not be configured for any other cloud provider ({platform})"
    path = (*_HYBRID, "hybridOverlayVXLANPort")
    yield path, reason, str(operator.hybrid.vxlan_port), "leave it out"
