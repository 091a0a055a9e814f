"""Plans of egress router pods as messages, and who may hear what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_api.v1 import output_service_pb2 as pb

from ovnk_core.analysis.router_lint import router_remarks
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.plan import RouterPlan, cluster_routes, nft_ruleset, routing_table
from ovnk_core.features.egress_router.platform import requirements
from ovnk_core.terms.name import ObjectRef
from ovnk_server.access import Caller
from ovnk_server.convert import reference

DEFINITION = "NetworkAttachmentDefinition"
SPOKEN_OF = ("Node", "Pod", "Service", "EgressIP", "EgressFirewall", DEFINITION)
"""Kinds that a warning about a router may be about, wherever they are."""


def hears_of_routers(who: Caller, cluster: Cluster) -> bool:
    """Whether a caller may list everything that a warning about a router may be about."""
    places = {(kind, key.namespace) for kind in SPOKEN_OF for key in cluster.objects(kind)}
    return all(who.may("list", *place) for place in places)


def router_warnings(who: Caller, cluster: Cluster, refs: Iterable[ObjectRef]) -> list[str]:
    """What is wrong about routers with objects of a request, for a caller who may hear it."""
    told = [f"{ref}: {text}" for ref, text in router_remarks(cluster, refs)]
    return told if told and hears_of_routers(who, cluster) else []


def router_plan(
    plan: RouterPlan, platform: str, *, sees_nodes: bool, warnings: Iterable[str] = ()
) -> pb.EgressRouterPlan:
    """A plan, with what ``platform`` wants for it; its node for those who may know of nodes."""
    router = plan.router
    return pb.EgressRouterPlan(
        network=reference(ObjectRef(DEFINITION, plan.network.namespace, plan.network.name)),
        node=plan.node if sees_nodes else "",
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
