"""What of egress routers is accepted but does not work as meant: addresses in use, replicas, Services, platform.

Deployments are not read: that one has several replicas shows in its pods (15.11.1.4).
"""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.features.egress_router.platform import support
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.pod import Pod
from ovnk_core.model.tables import (
    CLUSTER,
    EGRESS_FIREWALL,
    EGRESS_IP,
    INFRASTRUCTURE,
    NETWORK_ATTACHMENT,
    NODE,
    POD,
    SERVICE,
)
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import SETTINGS, host_addresses

MANY = 8
"""Routers on one node that we call many. The manual gives no number: the limit is how many MAC addresses the node's
interface filters in hardware (15.11.1)."""


def platform_of(cluster: Cluster) -> str:
    """The platform type that is in force; empty for none stated."""
    declared = cluster.engine.rows(INFRASTRUCTURE).get(CLUSTER)
    return cluster.engine.rows(SETTINGS)[CLUSTER].platform or (declared.platform if declared is not None else "")


def router_warnings(cluster: Cluster) -> dict[NamespacedName, tuple[str, ...]]:
    """By router pod: what is wrong with its address, destinations or place."""
    rows = cluster.engine.rows
    plans, pods = rows(ROUTER_PLAN), rows(POD)
    users: dict[Address, list[NamespacedName]] = {}
    for key, plan in sorted(plans.items()):
        users.setdefault(plan.router.address.address, []).append(key)
    taken = _taken(cluster)
    found: dict[NamespacedName, tuple[str, ...]] = {}
    for key, plan in sorted(plans.items()):
        address = plan.router.address.address
        others = [each for each in users[address] if each != key]
        texts = [f"{address} is {taken[address]}, too"] if address in taken else []
        if others:
            text = f"{address} is used by {', '.join(map(str, others))}, too: only one pod can use an egress source"
            texts.append(f"{text} address at any time (15.11.1.4)")
        found[key] = (*texts, *_of_destinations(cluster, plan), *_of_pod(cluster, plan, pods[key]))
    return found


def _taken(cluster: Cluster) -> dict[Address, str]:
    """What has an address besides router pods, as the end of a sentence."""
    rows = cluster.engine.rows
    found: dict[Address, str] = {}
    for key, plan in sorted(rows(ROUTER_PLAN).items()):
        found.setdefault(plan.router.gateway, f"the gateway of router pod {key}")
    for name, item in sorted(rows(EGRESS_IP).items()):
        found |= dict.fromkeys(item.addresses, f"an egress IP of {name.name}")
    for name, node in sorted(rows(NODE).items()):
        found |= dict.fromkeys(host_addresses(node, cluster.network), f"an address of node {name.name}")
    return found


def _of_destinations(cluster: Cluster, plan: RouterPlan) -> Iterator[str]:
    node = cluster.engine.rows(NODE).get(NamespacedName("", plan.node))
    own = host_addresses(node, cluster.network) if node is not None else ()
    for address in dict.fromkeys(each.address for each in plan.router.redirects):
        if plan.keeps(address):
            yield f"destination {address} is inside the cluster: it is not reached from the reserved address"
        elif address in own:
            yield f"destination {address} is its own node, which {plan.router.interface} cannot reach"


def _of_pod(cluster: Cluster, plan: RouterPlan, pod: Pod) -> Iterator[str]:
    rows = cluster.engine.rows
    router = rows(NETWORK_ATTACHMENT).get
    networks = [router(NamespacedName(each.namespace, each.network)) for each in pod.attachments]
    if sum(each is not None and each.router is not None for each in networks) > 1:
        yield f"names several egress routers: its one default route is that of {plan.network}"
    labels = dict(pod.labels)
    services = [each for key, each in rows(SERVICE).items() if key.namespace == pod.namespace and each.selector]
    if not any(all(labels.get(name) == value for name, value in each.selector) for each in services):
        yield "no Service selects it: clients would have to know its address (15.12.3)"
    if NamespacedName(pod.namespace, FIREWALL_NAME) in rows(EGRESS_FIREWALL):
        yield f"the egress firewall of {pod.namespace} does not see what it sends: that leaves past OVN"


def router_remarks(cluster: Cluster) -> Iterator[str]:
    """One sentence each: of the platform, of nodes, of pods, of Services."""
    rows = cluster.engine.rows
    plans, platform = rows(ROUTER_PLAN), platform_of(cluster)
    if plans and support(platform) != "supported":
        doubt = "is not compatible" if support(platform) == "unsupported" else "may not be compatible"
        yield f"platform {platform}: an egress router {doubt} with it, because macvlan needs layer 2 (15.11.1)"
    nodes = [plan.node for plan in plans.values()]
    for node in sorted(set(nodes)):
        if nodes.count(node) >= MANY:
            text = f"node {node}: {nodes.count(node)} egress routers, each with a MAC address of its own"
            yield f"{text}, can exceed what its interface filters in hardware (15.11.1)"
    warnings = router_warnings(cluster)
    for key, pod in sorted(rows(POD).items()):
        yield from (f"pod {key}: {text}" for text in (*_unmet(cluster, pod), *warnings.get(key, ())))
    yield from _services(cluster)


def _unmet(cluster: Cluster, pod: Pod) -> Iterator[str]:
    """Why a pod that names networks is no router, or not started."""
    rows = cluster.engine.rows
    if pod.is_completed:
        return
    for each in pod.attachments:
        name = NamespacedName(each.namespace, each.network)
        definition = rows(NETWORK_ATTACHMENT).get(name)
        if definition is None:
            yield f"names the network {name}, which is not declared: its containers are not created until it is"
        elif definition.router is not None and pod.is_host_network:
            yield f"is on the host network, so {name} makes it no egress router"
        elif definition.router is not None and pod.key not in rows(ROUTER_PLAN):
            yield f"has no IPv{definition.router.address.family} address on the cluster network, so it routes nothing"


def _services(cluster: Cluster) -> Iterator[str]:
    """Services next to a router pod that select no pod: the example of 15.12.3 as it is printed."""
    rows = cluster.engine.rows
    routers: dict[str, list[NamespacedName]] = {}
    for key in sorted(rows(ROUTER_PLAN)):
        routers.setdefault(key.namespace, []).append(key)
    if not routers:
        return
    labels: dict[str, list[dict[str, str]]] = {}
    for key, pod in rows(POD).items():
        if not pod.is_completed:
            labels.setdefault(key.namespace, []).append(dict(pod.labels))
    for key, service in sorted(rows(SERVICE).items()):
        picked = (each for each in labels.get(key.namespace, ()) if service.selector)
        if key.namespace not in routers or not service.selector:
            continue
        if not any(all(each.get(name) == value for name, value in service.selector) for each in picked):
            wanted = ",".join(f"{name}={value}" for name, value in service.selector)
            pods = ", ".join(map(str, routers[key.namespace]))
            yield f"Service {key}: selects no pod: router pod {pods} next to it does not have the labels {wanted}"
