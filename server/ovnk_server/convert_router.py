"""Plans of egress router pods as messages."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_api.v1 import output_service_pb2 as pb

from ovnk_core.features.egress_router.plan import RouterPlan, cluster_routes, nft_ruleset, routing_table
from ovnk_core.features.egress_router.platform import requirements
from ovnk_core.terms.name import ObjectRef
from ovnk_server.convert import reference

DEFINITION = "NetworkAttachmentDefinition"
SPOKEN_OF = ("Node", "Pod", "Service", "EgressIP", "EgressFirewall", DEFINITION)
"""Kinds that a warning about a router may be about, wherever they are."""


def router_plan(plan: RouterPlan, platform: str, warnings: Iterable[str] = ()) -> pb.EgressRouterPlan:
    """A plan, with what ``platform`` wants for it."""
    router = plan.router
    return pb.EgressRouterPlan(
        network=reference(ObjectRef(DEFINITION, plan.network.namespace, plan.network.name)),
        node=plan.node,
        interface=plan.interface,
        interface_type=router.interface,
        parent=router.parent,
        mode=router.mode,
        mtu_bytes=router.mtu_bytes,
        address=str(router.address),
        gateway=str(router.gateway),
        pod_address=str(plan.inner),
        redirects=[
            pb.EgressRouterRedirect(
                protocol=(each.protocol or "").lower(),
                port=each.port,
                destination=str(each.address),
                destination_port=each.target_port,
            )
            for each in router.redirects
        ],
        routes=routing_table(plan),
        cluster_routes=cluster_routes(plan),
        nft=nft_ruleset(plan),
        requirements=requirements(platform, plan),
        warnings=warnings,
    )
