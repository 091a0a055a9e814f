"""What of egress routers is accepted but does not work as meant: addresses in use, replicas, Services, platform.

Deployments are not read: that one has several replicas shows in its pods (15.11.1.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ovnk_core.analysis.finding import Finding, Severity, found_in
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.plan import RouterPlan, redirect_of
from ovnk_core.features.egress_router.platform import support
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.features.services.endpoints import SERVICE_BACKEND
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.pod import Pod
from ovnk_core.model.service import Service
from ovnk_core.model.tables import (
    CLUSTER,
    EGRESS_FIREWALL,
    EGRESS_IP,
    NETWORK_ATTACHMENT,
    NODE,
    POD,
    SERVICE,
)
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Protocol, Transport
from ovnk_core.topology.place import host_addresses
from ovnk_core.topology.platform import platform_in_force

_DEFINITION = "NetworkAttachmentDefinition"
Told = tuple[str, str]
"""A code and what is said."""
_PROTOCOLS: dict[Transport, Protocol] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
MANY = 8
"""Routers on one node that we call many. The manual gives no number: the limit is how many MAC addresses the node's
interface filters in hardware (15.11.1)."""


def router_warnings(cluster: Cluster) -> dict[NamespacedName, tuple[str, ...]]:
    """By router pod: what is wrong with its address, destinations or place."""
    return {key: tuple(text for _, text in told) for key, told in _judged(cluster).items()}


def router_remarks(cluster: Cluster, refs: Iterable[ObjectRef]) -> Iterator[tuple[ObjectRef, str]]:
    """What is wrong about routers with some pods, definitions and Services, each with the one it is told of.

    Cost: as ``router_findings`` where one of them has to do with a router, else a few look-ups for each.
    """
    rows, asked = cluster.engine.rows, sorted(set(refs))
    plans, pods, definitions = rows(ROUTER_PLAN), rows(POD), rows(NETWORK_ATTACHMENT)
    used: dict[NamespacedName, list[NamespacedName]] = {}
    for key, plan in sorted(plans.items()):
        used.setdefault(plan.network, []).append(key)
    is_about = {"Pod": plans, _DEFINITION: used}
    judged = _judged(cluster) if any(ref.key in is_about.get(ref.kind, ()) for ref in asked) else {}
    has_service = bool(plans) and any(ref.kind == "Service" for ref in asked)
    served = [*_services(cluster), *_backed(cluster)] if has_service else []
    for ref in asked:
        if ref.kind == "Pod" and ref.key in pods:
            yield from ((ref, text) for _, text in (*_unmet(cluster, pods[ref.key]), *judged.get(ref.key, ())))
        elif ref.kind == "Service":
            yield from ((ref, text) for key, _, text in served if key == ref.key)
        elif ref.kind == _DEFINITION and ref.key in definitions and definitions[ref.key].router is not None:
            yield from ((ref, text) for text in (_of_platform(cluster),) if text)
            yield from ((ref, f"router pod {key}: {text}") for key in used.get(ref.key, ()) for _, text in judged[key])


def _of_platform(cluster: Cluster) -> str:
    """Why the platform does not carry egress routers, or may not; an empty text where it does."""
    platform = platform_in_force(cluster.engine)
    if support(platform) == "supported":
        return ""
    doubt = "is not compatible" if support(platform) == "unsupported" else "may not be compatible"
    return f"platform {platform}: an egress router {doubt} with it, because macvlan needs layer 2 (15.11.1)"


def _judged(cluster: Cluster) -> dict[NamespacedName, tuple[Told, ...]]:
    rows = cluster.engine.rows
    plans, pods = rows(ROUTER_PLAN), rows(POD)
    users: dict[Address, list[NamespacedName]] = {}
    for key, plan in sorted(plans.items()):
        users.setdefault(plan.router.address.address, []).append(key)
    taken, unserved = _taken(cluster), _unserved(cluster)
    found: dict[NamespacedName, tuple[Told, ...]] = {}
    for key, plan in sorted(plans.items()):
        address = plan.router.address.address
        others = [each for each in users[address] if each != key]
        told = [("router-address", f"{address} is {taken[address]}, too")] if address in taken else []
        if others:
            text = f"{address} is used by {', '.join(map(str, others))}, too: only one pod can use an egress source"
            told.append(("router-address", f"{text} address at any time (15.11.1.4)"))
        of_pod = _of_pod(cluster, plan, pods[key], is_served=key not in unserved)
        found[key] = (*told, *_of_destinations(cluster, plan), *of_pod)
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


def _of_destinations(cluster: Cluster, plan: RouterPlan) -> Iterator[Told]:
    node = cluster.engine.rows(NODE).get(NamespacedName("", plan.node))
    own = host_addresses(node, cluster.network) if node is not None else ()
    for address in dict.fromkeys(each.address for each in plan.router.redirects):
        if plan.keeps(address):
            text = "is inside the cluster: nothing reaches it, as OVN takes only the pod's own address from the pod"
            yield "router-destination", f"destination {address} {text}"
        elif address in own:
            text = f"is its own node, which {plan.router.interface} cannot reach"
            yield "router-destination", f"destination {address} {text}"


def _of_pod(cluster: Cluster, plan: RouterPlan, pod: Pod, *, is_served: bool) -> Iterator[Told]:
    rows = cluster.engine.rows
    router = rows(NETWORK_ATTACHMENT).get
    networks = [router(NamespacedName(each.namespace, each.network)) for each in pod.attachments]
    if sum(each is not None and each.router is not None for each in networks) > 1:
        yield "router-several", f"names several egress routers: its one default route is that of {plan.network}"
    if not is_served:
        yield "router-unserved", "no Service selects it: clients would have to know its address (15.12.3)"
    if NamespacedName(pod.namespace, FIREWALL_NAME) in rows(EGRESS_FIREWALL):
        text = f"the egress firewall of {pod.namespace} does not see what it sends: that leaves past OVN"
        yield "router-past-firewall", text


def router_findings(cluster: Cluster) -> Iterator[Finding]:
    """Of the platform, of nodes, of pods, of Services."""
    rows = cluster.engine.rows
    plans = rows(ROUTER_PLAN)
    if plans and (text := _of_platform(cluster)):
        ref = ObjectRef("Infrastructure", "", CLUSTER.name)
        severity: Severity = "error" if support(platform_in_force(cluster.engine)) == "unsupported" else "warning"
        yield found_in(cluster.sources, ref, "router-platform", text, severity=severity)
    for node, count in sorted(Counter(plan.node for plan in plans.values()).items()):
        if count >= MANY:
            text = f"{count} egress routers, each with a MAC address of its own"
            text += ", can exceed what its interface filters in hardware (15.11.1)"
            yield found_in(cluster.sources, ObjectRef("Node", "", node), "router-crowded", text)
    judged = _judged(cluster)
    for key, pod in sorted(rows(POD).items()):
        ref = ObjectRef("Pod", key.namespace, key.name)
        for code, text in (*_unmet(cluster, pod), *judged.get(key, ())):
            yield found_in(cluster.sources, ref, code, text)
    for key, code, text in (*_services(cluster), *_backed(cluster)):
        ref = ObjectRef("Service", key.namespace, key.name)
        yield found_in(cluster.sources, ref, code, text)


def _unmet(cluster: Cluster, pod: Pod) -> Iterator[Told]:
    """Why a pod that names networks is no router, or not started."""
    rows = cluster.engine.rows
    if pod.is_completed:
        return
    for each in pod.attachments:
        name = NamespacedName(each.namespace, each.network)
        definition = rows(NETWORK_ATTACHMENT).get(name)
        if definition is None:
            text = "which is not declared: its containers are not created until it is"
            yield "router-undeclared", f"names the network {name}, {text}"
        elif definition.router is not None and pod.is_host_network:
            yield "router-idle", f"is on the host network, so {name} makes it no egress router"
        elif definition.router is not None and pod.key not in rows(ROUTER_PLAN):
            family = definition.router.address.family
            yield "router-idle", f"has no IPv{family} address on the cluster network, so it routes nothing"


def _backed(cluster: Cluster) -> Iterator[tuple[NamespacedName, str, str]]:
    """Services with a router pod as an endpoint: clients whose answers are lost, and ports that nothing takes."""
    rows = cluster.engine.rows
    plans = {plan.inner.address: plan for plan in rows(ROUTER_PLAN).values()}
    for key, service in sorted(rows(SERVICE).items() if plans else ()):
        served = {(each.protocol, each.port, each.address) for each in cluster.engine.members(SERVICE_BACKEND, key)}
        is_outside = bool(service.has_node_ports or service.external_ips or service.type == "LoadBalancer")
        for address in sorted({each for *_, each in served if each in plans}):
            plan = plans[address]
            if is_outside and service.external_policy == "Local":
                text = f"keeps the addresses of clients outside (externalTrafficPolicy Local): router pod {plan.pod} "
                yield key, "router-local", f"{text}answers them by {plan.interface}, so no answer comes back"
            for protocol, port, _ in sorted(each for each in served if each[2] == address):
                if plan.router.redirects and redirect_of(plan, _PROTOCOLS[protocol], port) is None:
                    text = f"its connections to {protocol} {port} end at router pod {plan.pod}"
                    yield key, "router-port", f"{text}: no destination takes them"


def _unserved(cluster: Cluster) -> dict[NamespacedName, Pod]:
    """Router pods that no Service selects."""
    rows = cluster.engine.rows
    plans, pods = rows(ROUTER_PLAN), rows(POD)
    services: dict[str, list[Service]] = {key.namespace: [] for key in plans}
    for key, service in rows(SERVICE).items() if plans else ():
        if key.namespace in services:
            services[key.namespace].append(service)
    found = ((key, pods[key]) for key in plans)
    return {key: pod for key, pod in found if not any(each.picks(pod.labels) for each in services[key.namespace])}


def _services(cluster: Cluster) -> Iterator[tuple[NamespacedName, str, str]]:
    """Services that select no pod, next to a router pod that no Service selects and that may be meant: the example of
    15.12.3 as it is printed. One that has labels, and none with a key or a value of the selector, is not meant."""
    rows = cluster.engine.rows
    routers: dict[str, list[Pod]] = {}
    for key, pod in sorted(_unserved(cluster).items()):
        routers.setdefault(key.namespace, []).append(pod)
    others: dict[str, list[Pod]] = {}
    for key, pod in rows(POD).items() if routers else ():
        if key.namespace in routers and not pod.is_completed:
            others.setdefault(key.namespace, []).append(pod)
    for key, service in sorted(rows(SERVICE).items() if routers else ()):
        words = {word for label in service.selector for word in label}
        if not words or any(service.picks(each.labels) for each in others.get(key.namespace, ())):
            continue
        near = routers.get(key.namespace, ())
        meant = [each for each in near if not each.labels or words & {word for label in each.labels for word in label}]
        if meant:
            wanted = ",".join(f"{name}={value}" for name, value in service.selector)
            pods = ", ".join(str(each.key) for each in meant)
            text = f"router pod {pods}, which no Service selects, does not have the labels {wanted}"
            yield key, "router-service", f"selects no pod: {text}"
