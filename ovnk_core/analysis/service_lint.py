"""What of Services and their endpoints is accepted but probably not meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ovnk_core.cluster import Cluster
from ovnk_core.features.services.endpoints import SERVICE_BACKEND, Backend, candidates
from ovnk_core.ingest.position import path_text
from ovnk_core.model.cluster import JOIN
from ovnk_core.model.pod import Pod
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.model.tables import ENDPOINT_SLICE, ENDPOINTS, NODE, POD, SERVICE
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.topology.place import NODE_PLACE, NodePlace, host_addresses


def service_remarks(cluster: Cluster) -> Iterator[str]:
    """One sentence each, by Service."""
    rows = cluster.engine.rows
    stated = {NamespacedName(key.namespace, item.service) for key, item in rows(ENDPOINT_SLICE).items()}
    stated |= rows(ENDPOINTS).keys()
    hosts = {address for node in rows(NODE).values() for address in host_addresses(node, cluster.network)}
    pods: dict[str, list[Pod]] = {}
    for key, pod in rows(POD).items():
        if not pod.is_completed:
            pods.setdefault(key.namespace, []).append(pod)
    places, slices = rows(NODE_PLACE).values(), _stated_endpoints(cluster)
    idle, own = _idle(places), _nodes_own(places)
    for key, service in sorted(rows(SERVICE).items()):
        if not service.is_served:
            continue
        backends = sorted(cluster.engine.members(SERVICE_BACKEND, key))
        texts = [] if key in stated else [_missing(service, pods.get(key.namespace, []))]
        texts += [*_strangers(cluster, hosts, idle, slices.get(key, [])), *_reached(cluster, own, service)]
        texts += [_port(port, backends) for port in service.ports if backends]
        yield from (f"Service {key}: {text}" for text in texts if text)


def _missing(service: Service, pods: list[Pod]) -> str:
    count = sum(service.picks(pod.labels) for pod in pods)
    if not count:
        return ""
    return f"its selector matches {count} pod{'s' * (count > 1)}, but it has no EndpointSlice: is the input complete?"


class Stated(NamedTuple):
    """An endpoint's address, and the field that says it."""

    address: Address
    where: str


def _stated_endpoints(cluster: Cluster) -> dict[NamespacedName, list[Stated]]:
    """By Service: what its slices say, or else its Endpoints."""
    found: dict[NamespacedName, list[Stated]] = {}
    for key, item in sorted(cluster.engine.rows(ENDPOINT_SLICE).items()):
        place = _Place(cluster, ObjectRef("EndpointSlice", key.namespace, key.name))
        found.setdefault(NamespacedName(key.namespace, item.service), []).extend(
            Stated(each.address, place.of("endpoints", at, "addresses", 0)) for at, each in enumerate(item.endpoints)
        )
    for key, plain in cluster.engine.rows(ENDPOINTS).items():
        place = _Place(cluster, ObjectRef("Endpoints", key.namespace, key.name))
        if key not in found:
            # Ready and other ones are two lists there, so only the subset is told.
            subsets = enumerate(plain.subsets)
            found[key] = [
                Stated(each.address, place.of("subsets", at)) for at, one in subsets for each in one.endpoints
            ]
    return found


class _Place:
    """Where the fields of an object are written."""

    def __init__(self, cluster: Cluster, ref: ObjectRef) -> None:
        self._ref, self._source = ref, cluster.sources.get(ref)

    def of(self, *path: str | int) -> str:
        where = f"{self._source.at(*path)}: " if self._source is not None else ""
        return f"{where}{self._ref} {path_text(path)}"


def _strangers(
    cluster: Cluster, hosts: set[Address], idle: Mapping[Address, str], stated: list[Stated]
) -> Iterator[str]:
    """Endpoints that are no pod's and no node's address, by what becomes of packets to them."""
    found: dict[str, list[Stated]] = {}
    for each in stated:
        if each.address not in hosts and (text := _why_strange(cluster, idle, each.address)):
            found.setdefault(text, []).append(each)
    for text, some in found.items():
        addresses = sorted({each.address for each in some})
        noun = "endpoint" if len(addresses) == 1 else "endpoints"
        shown = f"{addresses[0]}" + (f" and {len(addresses) - 1} more" if len(addresses) > 1 else "")
        where = next(each.where for each in some if each.address == addresses[0])
        is_are = "is" if len(addresses) == 1 else "are"
        yield f"{noun} {shown} {is_are} {text} ({where})"


def _why_strange(cluster: Cluster, idle: Mapping[Address, str], address: Address) -> str:
    """What an address is that is no host's. One of clusterNetwork that may be a pod's is taken for one."""
    if address in idle:
        return idle[address]
    if JOIN[address.family].contains(address):
        return "in the join network, which is the routers': no pod and no node answers"
    if cluster.network.holds(address) or cluster.network.holds_hybrid(address):
        return ""
    return "neither a pod's nor a node's address: packets leave by the sender's gateway for it"


def _idle(places: Iterable[NodePlace]) -> dict[Address, str]:
    """Addresses of nodes' subnets where nobody ever serves, and what they are."""
    found: dict[Address, str] = {}
    for place in places:
        for block in place.subnets:
            ends = (block.at(0), block.at(block.size - 1)) if block.family == 4 else ()
            text = f"the network or broadcast address of node {place.name}'s subnet: nobody serves there"
            found |= dict.fromkeys(ends, text)
        text = f"the router's own address on node {place.name}: nobody serves there"
        found |= dict.fromkeys((each.address for each in place.router), text)
    return found


def _nodes_own(places: Iterable[NodePlace]) -> dict[Address, str]:
    found: dict[Address, str] = {}
    for place in places:
        found |= dict.fromkeys(place.hosts, f"an address of node {place.name}")
        found |= dict.fromkeys(place.management, f"the management address of node {place.name}")
    return found


def _reached(cluster: Cluster, own: Mapping[Address, str], service: Service) -> Iterator[str]:
    """External addresses that are somebody's in the cluster: the Service takes its ports there, whoever asks."""
    external = [(f"spec.externalIPs[{at}]", each) for at, each in enumerate(service.external_ips)]
    external += [("status.loadBalancer.ingress", each) for each in service.load_balancer_ips]
    for path, address in external:
        owner = own.get(address, "")
        owner = owner or ("in the join network" if JOIN[address.family].contains(address) else "")
        owner = owner or ("in clusterNetwork" if cluster.network.holds(address) else "")
        if owner:
            yield f"{path}: {address} is {owner}: whoever asks it for a port of this Service gets the Service instead"


def _port(port: ServicePort, backends: list[Backend]) -> str:
    """Where nobody listens on a port, or nobody where it says."""
    found = candidates(port, backends)
    name = f"port {port.name or port.port}"
    if not found:
        return f"{name}: no endpoint has a {port.protocol} port of that name, so it is rejected"
    numbers = sorted({each.port for each in found})
    if port.target.isdigit() and int(port.target) not in numbers:
        return f"{name}: targetPort is {port.target}, but its endpoints listen on {', '.join(map(str, numbers))}"
    return ""
