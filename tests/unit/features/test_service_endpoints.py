"""Which endpoints a port has: conditions, names, slices against Endpoints, and the order of filter and fallback."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.features.services.endpoints import SERVICE_BACKEND, Backend, targets
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName
from tests.kit import manifest as m
from tests.kit.questions import cluster_of

WEB = NamespacedName("shop", "web")
PORT = ServicePort(name="http", protocol="TCP", port=80)


def backend(host: int, conditions: str = "ready", *, node: str = "n1", name: str = "http", port: int = 8080) -> Backend:
    """``conditions``: words among ready, serving, terminating."""
    said = [word in conditions.split() for word in ("ready", "serving", "terminating")]
    return Backend("TCP", name, parse_address(f"10.128.0.{host}"), port, node, *said)


def chosen(*backends: Backend, node: str | None = None, port: ServicePort = PORT, **service: Any) -> str:
    found = targets(Service(name="web", namespace="shop", ports=(port,), **service), port, backends, node=node)
    return " ".join(map(str, found))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("ready", "ready"), "1 2"),
        (("ready", ""), "1"),
        (("ready", "serving terminating"), "1"),
        (("serving terminating", ""), "1"),
        (("terminating", "serving"), ""),
        ((), ""),
    ],
)
def test_ready_ones_else_those_that_serve_while_they_leave(conditions: tuple[str, ...], expected: str) -> None:
    found = chosen(*(backend(host, said) for host, said in enumerate(conditions, 1)))
    assert found == " ".join(f"10.128.0.{host}:8080" for host in expected.split())


def test_not_ready_addresses_are_published_when_asked() -> None:
    assert chosen(backend(1, ""), backend(2), publishes_not_ready=True) == "10.128.0.1:8080 10.128.0.2:8080"


def test_local_is_asked_before_the_fallback() -> None:
    """KEP-1669: a node whose own endpoints are all leaving still uses them, whatever is ready elsewhere."""
    leaving, ready = backend(1, "serving terminating", node="n1"), backend(2, node="n2")
    assert chosen(leaving, ready) == "10.128.0.2:8080"
    assert chosen(leaving, ready, node="n1") == "10.128.0.1:8080"
    assert chosen(leaving, ready, node="n2") == "10.128.0.2:8080"
    assert chosen(leaving, ready, node="n3") == ""


def test_an_endpoint_of_no_node_is_local_nowhere() -> None:
    assert chosen(backend(1, node=""), node="") == ""


def test_names_and_protocols_must_agree_and_a_port_without_name_takes_any() -> None:
    stated = (backend(1), backend(2, name="metrics"))
    assert chosen(*stated) == "10.128.0.1:8080"
    assert chosen(*stated, port=ServicePort(name="", protocol="TCP", port=80)) == "10.128.0.1:8080 10.128.0.2:8080"
    assert chosen(*stated, port=ServicePort(name="http", protocol="UDP", port=80)) == ""


def test_one_endpoint_of_two_slices_is_one_target_and_slices_may_listen_elsewhere() -> None:
    found = chosen(backend(2, "ready"), backend(2, "serving"), backend(1, port=9090), backend(2, port=9090))
    assert found == "10.128.0.1:9090 10.128.0.2:8080 10.128.0.2:9090"


def test_endpoints_count_only_without_a_slice() -> None:
    cluster = cluster_of([m.service()])
    port = {"port": 8080, "protocol": "TCP"}
    plain = m.endpoints([{"addresses": [{"ip": "10.128.0.9"}], "ports": [{"port": 8080}]}])
    sliced = m.endpoint_slice([{"addresses": ["10.128.0.7"]}], [port])

    def stated() -> list[str]:
        return sorted(str(each.address) for each in cluster.engine.members(SERVICE_BACKEND, WEB))

    cluster.apply(m.accepted(plain).items)
    assert stated() == ["10.128.0.9"]
    cluster.apply(m.accepted(sliced).items)
    assert stated() == ["10.128.0.7"]
    cluster.apply(delete=[item.ref for item in m.accepted(sliced).items])
    assert stated() == ["10.128.0.9"]


def test_a_slice_of_names_or_of_nobody_states_nothing() -> None:
    port = {"port": 8080, "protocol": "TCP"}
    names = m.endpoint_slice([{"addresses": ["db.example.com"]}], [port], family="FQDN")
    orphan = m.endpoint_slice([{"addresses": ["10.128.0.7"]}], [port], service="", name="orphan")
    cluster = cluster_of([m.service(), names, orphan])
    assert not cluster.engine.sets(SERVICE_BACKEND)
