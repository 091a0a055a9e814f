"""The columns of a listing, kind by kind, and ages as kubectl writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ovnk_cli.output import HIDDEN
from ovnk_core.terms.struct import Value

Manifest = Mapping[str, Any]
NONE, UNKNOWN, PENDING = "<none>", "<unknown>", "<pending>"
WHY = "why it waits"
"""A key that no manifest has: what a listing was told beside it."""


class Column(Value, frozen=True, kw_only=True):
    """One column; ``is_wide``: only with ``-o wide``."""

    title: str
    read: Callable[[Manifest], str]
    is_wide: bool = False


def at(manifest: Manifest, *steps: str) -> Any:
    """A field, None where it or what holds it is missing."""
    found: Any = manifest
    for step in steps:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def columns_of(kind: str) -> tuple[Column, ...]:
    """The columns between NAME and AGE, then AGE."""
    between = _BY_KIND.get(kind, ())
    narrow, wide = [each for each in between if not each.is_wide], [each for each in between if each.is_wide]
    return (*narrow, Column(title="AGE", read=age_of), *wide)


def pairs(found: Any) -> str:
    """Labels as ``a=b,c=d``."""
    return ",".join(f"{key}={value}" for key, value in sorted((found or {}).items())) or NONE


def age_of(manifest: Manifest) -> str:
    return age(at(manifest, "metadata", "creationTimestamp"), datetime.now(UTC))


def age(created: Any, now: datetime) -> str:
    """RFC 3339 text -> how long ago."""
    try:
        return span((now - datetime.fromisoformat(str(created))).total_seconds())
    except (ValueError, TypeError):
        return UNKNOWN


def span(seconds: float) -> str:
    """Two units while the smaller one tells something, then one: 45s, 5m4s, 37m, 3h12m, 43h, 6d4h, 20d, 2y30d."""
    left = max(0, int(seconds))
    minutes, hours, days = left // 60, left // 3_600, left // 86_400
    if left < 120:
        return f"{left}s"
    if minutes < 10:
        return _two(minutes, "m", left % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 8 * 365 else f"{days // 365}y"


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large}{unit}{small}{part}" if small else f"{large}{unit}"


def _text(*steps: str) -> Callable[[Manifest], str]:
    def read(manifest: Manifest) -> str:
        found = at(manifest, *steps)
        return NONE if found in (None, "") else str(found)

    return read


def _ready(manifest: Manifest) -> str:
    for each in at(manifest, "status", "conditions") or ():
        if each.get("type") == "Ready":
            ready = "Ready" if each.get("status") == "True" else "NotReady"
            return f"{ready},SchedulingDisabled" if at(manifest, "spec", "unschedulable") else ready
    return "Unknown"


def _addresses(kind: str) -> Callable[[Manifest], str]:
    def read(manifest: Manifest) -> str:
        found = at(manifest, "status", "addresses") or ()
        return ",".join(each.get("address", "") for each in found if each.get("type") == kind) or NONE

    return read


def _pod_addresses(manifest: Manifest) -> str:
    found = [each.get("ip", "") for each in at(manifest, "status", "podIPs") or ()]
    return ",".join(found) or _text("status", "podIP")(manifest)


def _subnets(manifest: Manifest) -> str:
    said = at(manifest, "metadata", "annotations", "k8s.ovn.org/node-subnets")
    try:
        found = json.loads(said)["default"]
    except (TypeError, ValueError, KeyError):
        return NONE
    return ",".join(found) if isinstance(found, list) else str(found)


def plug_in(manifest: Manifest) -> str:
    """Type of a NetworkAttachmentDefinition's configuration; empty where it is a list, or not in the object."""
    config = json.loads(at(manifest, "spec", "config") or "{}")
    return str(config.get("type") or "")


def _selector(manifest: Manifest) -> str:
    return _selected("podSelector")(manifest)


def _selected(field: str) -> Callable[[Manifest], str]:
    def read(manifest: Manifest) -> str:
        return _words(at(manifest, "spec", field) or {})

    return read


def _words(found: Mapping[str, Any]) -> str:
    words = [f"{key}={value}" for key, value in sorted((found.get("matchLabels") or {}).items())]
    for each in found.get("matchExpressions") or ():
        values = each.get("values")
        words.append(f"{each.get('key')} {each.get('operator')}" + (f" ({','.join(values)})" if values else ""))
    return ",".join(words) or NONE


def _ranges(manifest: Manifest) -> str:
    found = at(manifest, "status", "clusterNetwork") or at(manifest, "spec", "clusterNetwork") or ()
    return ",".join(str(each.get("cidr")) for each in found) or NONE


def _services(manifest: Manifest) -> str:
    return ",".join(at(manifest, "spec", "serviceNetwork") or ()) or NONE


def _plugin(manifest: Manifest) -> str:
    for steps in (("status", "networkType"), ("spec", "networkType"), ("spec", "defaultNetwork", "type")):
        if found := at(manifest, *steps):
            return str(found)
    return NONE


def _platform(manifest: Manifest) -> str:
    for steps in (("status", "platformStatus", "type"), ("status", "platform"), ("spec", "platformSpec", "type")):
        if found := at(manifest, *steps):
            return str(found)
    return NONE


def _rules(manifest: Manifest) -> str:
    return str(len(at(manifest, "spec", "egress") or ()))


def _holding(manifest: Manifest) -> str:
    found = at(manifest, "status", "conditions") or ()
    return ",".join(each.get("type", "") for each in found if each.get("status") == "True") or NONE


def _policy_types(manifest: Manifest) -> str:
    return ",".join(at(manifest, "spec", "policyTypes") or ()) or NONE


def _type(manifest: Manifest) -> str:
    return at(manifest, "spec", "type") or "ClusterIP"


def _external_addresses(manifest: Manifest) -> str:
    """As kubectl: what the load balancer gave, then external IPs; a load balancer that gave nothing yet is pending."""
    ingress = at(manifest, "status", "loadBalancer", "ingress") or ()
    given = [each.get("ip") or each.get("hostname") or "" for each in ingress] if _is_balanced(manifest) else []
    found = [*given, *(at(manifest, "spec", "externalIPs") or ())]
    if _type(manifest) == "ExternalName":
        return _text("spec", "externalName")(manifest)
    return ",".join(found) or (PENDING if _is_balanced(manifest) else NONE)


def _is_balanced(manifest: Manifest) -> bool:
    return _type(manifest) == "LoadBalancer"


def _service_ports(manifest: Manifest) -> str:
    found = []
    for port in at(manifest, "spec", "ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        found.append(f"{port.get('port')}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(found) or NONE


def _service_selector(manifest: Manifest) -> str:
    return pairs(at(manifest, "spec", "selector"))


def _egress_ips(manifest: Manifest) -> str:
    return ",".join(at(manifest, "spec", "egressIPs") or ()) or NONE


def _items(field: str) -> Callable[[Manifest], str]:
    def read(manifest: Manifest) -> str:
        return ",".join(each.get(field) or HIDDEN for each in at(manifest, "status", "items") or ()) or NONE

    return read


def _unassigned(manifest: Manifest) -> str:
    """Why an address is on no node, the first reason."""
    found = at(manifest, "status", "conditions") or ()
    return ",".join(each.get("reason", "") for each in found if each.get("status") == "False") or NONE


UNSET, SHOWN = "<unset>", 3
"""As kubectl writes what is not there; how many endpoints are listed before the rest is counted."""


def some(found: list[str], none: str) -> str:
    """The first few of a list; ``none`` where it is empty."""
    more = len(found) - SHOWN
    return ",".join(found[:SHOWN]) + (f" + {more} more..." if more > 0 else "") or none


def _slice_ports(manifest: Manifest) -> str:
    return some([str(port.get("port") or "*") for port in at(manifest, "ports") or ()], UNSET)


def _slice_endpoints(manifest: Manifest) -> str:
    found = at(manifest, "endpoints") or ()
    return some([address for each in found for address in each.get("addresses") or ()], UNSET)


def _endpoints(manifest: Manifest) -> str:
    """As kubectl: ready ones, with each port."""
    found = []
    for subset in at(manifest, "subsets") or ():
        for entry in subset.get("addresses") or ():
            ip = entry.get("ip", "")
            host = f"[{ip}]" if ":" in ip else ip
            ports = subset.get("ports") or ()
            found += [f"{host}:{port.get('port')}" for port in ports] if ports else [ip]
    return some(found, NONE)


_MTU = ("spec", "defaultNetwork", "ovnKubernetesConfig", "mtu")
_BY_KIND: dict[str, tuple[Column, ...]] = {
    "Network": (
        Column(title="TYPE", read=_plugin),
        Column(title="CLUSTER NETWORK", read=_ranges),
        Column(title="SERVICE NETWORK", read=_services, is_wide=True),
    ),
    "NetworkOperator": (Column(title="TYPE", read=_plugin), Column(title="MTU", read=_text(*_MTU))),
    "Infrastructure": (Column(title="PLATFORM", read=_platform),),
    "Node": (
        Column(title="STATUS", read=_ready),
        Column(title="INTERNAL-IP", read=_addresses("InternalIP"), is_wide=True),
        Column(title="EXTERNAL-IP", read=_addresses("ExternalIP"), is_wide=True),
        Column(title="SUBNETS", read=_subnets, is_wide=True),
    ),
    "Pod": (
        Column(title="STATUS", read=_text("status", "phase")),
        Column(title="IP", read=_pod_addresses, is_wide=True),
        Column(title="NODE", read=_text("spec", "nodeName"), is_wide=True),
    ),
    "NetworkPolicy": (
        Column(title="POD-SELECTOR", read=_selector),
        Column(title="POLICY TYPES", read=_policy_types, is_wide=True),
    ),
    "EgressFirewall": (
        Column(title="STATUS", read=_text("status", "status")),
        Column(title="RULES", read=_rules),
        Column(title="CONDITIONS", read=_holding, is_wide=True),
    ),
    "Service": (
        Column(title="TYPE", read=_type),
        Column(title="CLUSTER-IP", read=_text("spec", "clusterIP")),
        Column(title="EXTERNAL-IP", read=_external_addresses),
        Column(title="PORT(S)", read=_service_ports),
        Column(title="SELECTOR", read=_service_selector, is_wide=True),
        Column(title="WAITING", read=_text(WHY), is_wide=True),
    ),
    "EndpointSlice": (
        Column(title="ADDRESSTYPE", read=_text("addressType")),
        Column(title="PORTS", read=_slice_ports),
        Column(title="ENDPOINTS", read=_slice_endpoints),
    ),
    "Endpoints": (Column(title="ENDPOINTS", read=_endpoints),),
    "EgressIP": (
        Column(title="EGRESSIPS", read=_egress_ips),
        Column(title="ASSIGNED NODE", read=_items("node")),
        Column(title="ASSIGNED EGRESSIPS", read=_items("egressIP")),
        Column(title="NAMESPACES", read=_selected("namespaceSelector"), is_wide=True),
        Column(title="PODS", read=_selected("podSelector"), is_wide=True),
        Column(title="UNASSIGNED", read=_unassigned, is_wide=True),
    ),
    "NetworkAttachmentDefinition": (Column(title="PLUG-IN", read=plug_in),),
}
