"""Plans of egress router pods on a server, in the form that files give."""

from __future__ import annotations

from typing import Any

from ovnk_api.v1.output_service_pb2 import EgressRouterPlan, EgressRouterRedirect, Output
from ovnk_client import Client

Document = dict[str, Any]


async def routers(client: Client) -> list[Document]:
    """The documents of ``ovnk egressrouter``, by pod."""
    return [
        _document(each, each.egress_router) async for each in client.outputs("Pod") if each.HasField("egress_router")
    ]


async def router_tree(client: Client, namespace: str, name: str) -> Document:
    """What ``describe`` shows of a pod as an egress router; empty for one that is none, or is not to be seen."""
    async for each in client.outputs("Pod", namespace=namespace):
        if each.reference.name == name and each.HasField("egress_router"):
            plan = _document(each, each.egress_router)
            shown = {
                "Network": plan["network"],
                "Interface": f"{plan['interface']} ({plan['interfaceType']})",
                "Address": plan["address"],
                "Gateway": plan["gateway"],
                "Destinations": plan["destinations"] or ["<none>"],
                "Routes": [*plan["routes"], *plan["clusterRoutes"]],
                "Requirements": plan["requirements"],
                "Warnings": plan["warnings"],
            }
            return {title: value for title, value in shown.items() if value}
    return {}


def _document(output: Output, plan: EgressRouterPlan) -> Document:
    return {
        "pod": f"{output.reference.namespace}/{output.reference.name}",
        "node": plan.node or None,
        "network": f"{plan.network.namespace}/{plan.network.name}",
        "interface": plan.interface,
        "interfaceType": plan.interface_type,
        "parent": plan.parent or None,
        "mode": plan.mode or None,
        "mtu": plan.mtu_bytes or None,
        "address": plan.address,
        "gateway": plan.gateway,
        "podAddress": plan.pod_address,
        "destinations": list(map(_destination, plan.redirects)),
        "redirects": [
            {
                "protocol": each.protocol or None,
                "port": each.port or None,
                "destination": each.destination,
                "destinationPort": each.destination_port or each.port or None,
            }
            for each in plan.redirects
        ],
        "routes": list(plan.routes),
        "clusterRoutes": list(plan.cluster_routes),
        "nft": plan.nft,
        "requirements": list(plan.requirements),
        "warnings": list(plan.warnings),
    }


def _destination(each: EgressRouterRedirect) -> str:
    """As 15.12.1 writes it."""
    if not each.protocol:
        return f"{each.destination}/{128 if ':' in each.destination else 32}"
    target = f" {each.destination_port}" if each.destination_port else ""
    return f"{each.port} {each.protocol} {each.destination}{target}"
