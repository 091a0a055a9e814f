"""A Service back into its manifest: the body that ``manifest`` puts under the metadata.

Slices and Endpoints are not written back, because their accepted versions are not recorded (``manifest.is_recorded``).
"""

from __future__ import annotations

from typing import Any

from ovnk_core.model.service import Service, ServicePort


def service_body(item: Service, metadata: dict[str, Any]) -> dict[str, Any]:
    """spec and status of a Service as the model has them; defaults are left out."""
    spec: dict[str, Any] = {"type": item.type}
    if item.type == "ExternalName":
        # The model keeps no name: nobody in OVN looks it up, and the manifest only has to read as one.
        spec["externalName"] = "external.invalid"
    texts = ["None"] if item.is_headless else [str(address) for address in item.cluster_ips]
    spec |= {"clusterIP": texts[0], "clusterIPs": texts} if texts else {}
    spec |= {"ipFamilies": [f"IPv{family}" for family in item.families]} if item.families else {}
    if item.is_dual_stack:
        spec["ipFamilyPolicy"] = "PreferDualStack"
    spec |= {"ports": [_port(port) for port in item.ports]} if item.ports else {}
    spec |= {"externalIPs": [str(address) for address in item.external_ips]} if item.external_ips else {}
    spec |= {"externalTrafficPolicy": "Local"} if item.external_policy == "Local" else {}
    spec |= {"internalTrafficPolicy": "Local"} if item.internal_policy == "Local" else {}
    if item.affinity_timeout_s:
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": item.affinity_timeout_s}}
    if item.type == "LoadBalancer" and not item.has_node_ports:
        spec["allocateLoadBalancerNodePorts"] = False
    spec |= {"publishNotReadyAddresses": True} if item.publishes_not_ready else {}
    spec |= {"selector": dict(item.selector)} if item.selector else {}
    ingress = [{"ip": str(address)} for address in item.load_balancer_ips]
    return {"spec": spec} | ({"status": {"loadBalancer": {"ingress": ingress}}} if ingress else {})


def _port(port: ServicePort) -> dict[str, Any]:
    found: dict[str, Any] = {"name": port.name} if port.name else {}
    found |= {"protocol": port.protocol, "port": port.port}
    if port.target:
        found["targetPort"] = int(port.target) if port.target.isdigit() else port.target
    return found | ({"nodePort": port.node_port} if port.node_port else {})
