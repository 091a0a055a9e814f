"""What of Services and their endpoints is accepted but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ovnk_core.cluster import Cluster
from ovnk_core.features.services.endpoints import SERVICE_BACKEND, Backend, candidates
from ovnk_core.model.pod import Pod
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.model.tables import ENDPOINT_SLICE, ENDPOINTS, NODE, POD, SERVICE
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import host_addresses


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
    for key, service in sorted(rows(SERVICE).items()):
        if not service.is_served:
            continue
        backends = sorted(cluster.engine.members(SERVICE_BACKEND, key))
        texts = [] if key in stated else [_missing(service, pods.get(key.namespace, []))]
        texts += [_strangers(cluster, hosts, backends)]
        texts += [_port(port, backends) for port in service.ports if backends]
        yield from (f"Service {key}: {text}" for text in texts if text)


def _missing(service: Service, pods: list[Pod]) -> str:
    count = sum(_picks(service.selector, dict(pod.labels)) for pod in pods) if service.selector else 0
    if not count:
        return ""
    return f"its selector matches {count} pod{'s' * (count > 1)}, but it has no EndpointSlice: is the input complete?"


def _picks(selector: tuple[tuple[str, str], ...], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector)


def _strangers(cluster: Cluster, hosts: set[Address], backends: list[Backend]) -> str:
    found = sorted({each.address for each in backends} - hosts)
    found = [address for address in found if not cluster.network.holds(address)]
    if not found:
        return ""
    shown = f"{found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
    return f"endpoint {shown} is neither a pod's nor a node's address: packets leave by the sender's gateway for it"


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
