"""A pod with an egress router's network -> its plan. No northbound row: OVN does not see the second interface."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, Table
from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.indexes.endpoint import ATTACHED_POD, AttachedPod
from ovnk_core.model.egress_router import EgressRouter, interface_names
from ovnk_core.model.tables import CLUSTER, NETWORK_ATTACHMENT, NODE_DECISION, cluster_key
from ovnk_core.terms.address import InterfaceAddress
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.annotations import cluster_ranges
from ovnk_core.topology.place import CLUSTER_NETWORK, ROUTER_OFFSET

ROUTER_PLAN = Table[NamespacedName, RouterPlan]("router_plan")
"""By pod."""


@rule(driver=ATTACHED_POD, reads=(NETWORK_ATTACHMENT, NODE_DECISION, CLUSTER_NETWORK), out=(ROUTER_PLAN,))
def router_plan(read: Reader, key: NamespacedName, pod: AttachedPod) -> Iterable[Output]:
    """The plan of a pod that has an address of the router's family."""
    found, network = _router(read, pod), read(CLUSTER_NETWORK, CLUSTER)
    node = read(NODE_DECISION, cluster_key(pod.node))
    if found is None or network is None or node is None:
        return
    name, interface, router = found
    family = router.address.family
    for subnet in node.subnets:
        address = next((each for each in pod.addresses if subnet.contains(each)), None)
        if address is not None and family == subnet.family:
            plan = RouterPlan(
                pod=key,
                node=pod.node,
                network=name,
                interface=interface,
                router=router,
                inner=InterfaceAddress(address, subnet.prefix),
                inner_gateway=subnet.at(ROUTER_OFFSET),
                inside=cluster_ranges((*network.cidrs, *network.service), family),
            )
            yield ROUTER_PLAN.row(key, plan)
            return


def _router(read: Reader, pod: AttachedPod) -> tuple[NamespacedName, str, EgressRouter] | None:
    """(definition, interface, configuration) of a pod's egress router; of several the last one, whose default route
    replaces the others'. Every definition that is named is read."""
    found = None
    for attachment, interface in zip(pod.attachments, interface_names(pod.attachments), strict=True):
        name = NamespacedName(attachment.namespace, attachment.network)
        definition = read(NETWORK_ATTACHMENT, name)
        if definition is not None and definition.router is not None:
            found = name, interface, definition.router
    return found


RULES = (router_plan,)
