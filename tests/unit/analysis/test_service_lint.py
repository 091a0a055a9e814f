"""Remarks on Services: input that is not complete, ports nobody listens on, endpoints from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.analysis.lint import lint
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from tests.kit import manifest as m

WEB = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}


def remarks(*objects: dict[str, Any]) -> list[str]:
    cluster = Cluster()
    loaded = parse_objects([m.network(), m.node(), m.namespace(), *objects])
    assert not loaded.refused
    cluster.apply(loaded.items)
    return [text.removeprefix("Service shop/web: ") for text in lint(cluster) if text.startswith("Service ")]


def pod(name: str, **labels: str) -> dict[str, Any]:
    return m.pod(name, metadata={"labels": labels}, spec={"nodeName": "node-1"})


def listening(port: int, *addresses: str, name: str = "http") -> dict[str, Any]:
    return m.endpoint_slice([{"addresses": [each]} for each in addresses], [{"name": name, "port": port}])


def test_a_service_that_fits_is_not_remarked_on() -> None:
    assert remarks(pod("a", app="web"), m.service(WEB), listening(8080, "10.128.0.3", "192.0.2.1")) == []
    assert remarks(m.service(WEB)) == []  # nobody to serve it yet
    assert remarks(pod("a", app="web"), m.service(WEB | {"clusterIP": "None"})) == []


def test_pods_without_a_slice() -> None:
    (text,) = remarks(pod("a", app="web"), pod("b", app="web", tier="x"), pod("c", app="db"), m.service(WEB))
    assert text == "its selector matches 2 pods, but it has no EndpointSlice: is the input complete?"
    assert remarks(pod("a", app="web"), m.service(WEB), m.endpoints([], "web")) == []
    assert remarks(pod("a", app="web"), m.service(WEB), m.endpoint_slice([], [])) == []


def test_ports_nobody_listens_on() -> None:
    (text,) = remarks(m.service(WEB), listening(8080, "10.128.0.3", name="other"))
    assert text == "port http: no endpoint has a TCP port of that name, so it is rejected"
    (text,) = remarks(m.service(WEB), listening(9090, "10.128.0.3"))
    assert text == "port http: targetPort is 8080, but its endpoints listen on 9090"


def test_endpoints_from_elsewhere() -> None:
    (text,) = remarks(m.service(WEB), listening(8080, "10.128.0.3", "203.0.113.7", "203.0.113.8"))
    assert text.startswith("endpoints 203.0.113.7 and 1 more are neither a pod's nor a node's address")
    assert text.endswith(": EndpointSlice shop/web-1 endpoints[1].addresses[0])")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("100.64.0.9", "is in the join network, which is the routers': no pod and no node answers"),
        ("10.128.0.1", "is the router's own address on node node-1: nobody serves there"),
        ("10.128.0.0", "is the network or broadcast address of node node-1's subnet: nobody serves there"),
        ("203.0.113.7", "is neither a pod's nor a node's address: packets leave by the sender's gateway for it"),
    ],
)
def test_what_becomes_of_packets_to_strange_endpoints(address: str, told: str) -> None:
    (text,) = remarks(m.service(WEB), listening(8080, address))
    assert text.startswith(f"endpoint {address} {told} (")


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.128.9.9", "in clusterNetwork"),
        ("100.64.0.9", "in the join network"),
        ("10.128.0.2", "the management address of node node-1"),
        ("192.0.2.1", "an address of node node-1"),
    ],
)
def test_external_addresses_that_somebody_in_the_cluster_has(address: str, owner: str) -> None:
    (text,) = remarks(m.service({**WEB, "externalIPs": ["203.0.113.7", address]}))
    assert text.startswith(f"spec.externalIPs[1]: {address} is {owner}: whoever asks")
