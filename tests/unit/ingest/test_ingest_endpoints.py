"""EndpointSlice and Endpoints: who serves, on which ports, and where the API server's rules refuse them."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.model.manifest import is_recorded
from ovnk_core.model.service import Endpoints, EndpointSlice, SliceEndpoint, SlicePort
from ovnk_core.terms.address import parse_address
from tests.kit.manifest import accept, accepted, assert_refused, endpoint_slice, endpoints

PORTS = [{"name": "http", "port": 8080}]
ONE = {"addresses": ["10.128.0.5"]}


def read(entries: list[Any], ports: list[Any] | None = None, **fields: Any) -> EndpointSlice:
    return accept(endpoint_slice(entries, PORTS if ports is None else ports, **fields), EndpointSlice)


def test_a_slice() -> None:
    found = read([{"addresses": ["10.128.0.5"], "nodeName": "n1"}, {"addresses": ["10.128.0.6"]}])
    assert found.service == "web"
    assert found.ports == (SlicePort(name="http", protocol="TCP", number=8080),)
    assert found.endpoints == (
        SliceEndpoint(address=parse_address("10.128.0.5"), node="n1"),
        SliceEndpoint(address=parse_address("10.128.0.6")),
    )
    assert not is_recorded(found)


@pytest.mark.parametrize(
    ("said", "ready", "serving", "terminating"),
    [
        ({}, True, True, False),
        ({"ready": None, "serving": None, "terminating": None}, True, True, False),
        ({"ready": True}, True, True, False),
        ({"ready": False}, False, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True, True),
        ({"ready": True, "serving": False}, True, False, False),
        ({"terminating": True}, True, True, True),
    ],
)
def test_what_is_not_said_of_an_endpoint(said: Any, ready: bool, serving: bool, terminating: bool) -> None:
    (found,) = read([ONE | {"conditions": said}]).endpoints
    assert (found.is_ready, found.is_serving, found.is_terminating) == (ready, serving, terminating)


def test_ports_without_a_number_or_a_name() -> None:
    ports = [{"port": 53, "protocol": "UDP"}, {"name": "any"}, {"name": "sctp", "protocol": "SCTP", "port": 9}]
    assert read([ONE], ports).ports == (
        SlicePort(name="", protocol="UDP", number=53),
        SlicePort(name="sctp", protocol="SCTP", number=9),
    )


def test_names_are_kept_but_nobody_is_behind_them() -> None:
    found = read([{"addresses": ["db.example.com"]}], family="FQDN")
    assert found.endpoints == () and found.service == "web"


def test_a_slice_of_nobody_is_told() -> None:
    (warning,) = accepted(endpoint_slice([ONE], PORTS, service="")).warnings
    assert warning.text == "metadata.labels: no label kubernetes.io/service-name: it belongs to no Service"


def test_of_several_addresses_the_first_is_used() -> None:
    loaded = accepted(endpoint_slice([{"addresses": ["10.128.0.5", "10.128.0.6"]}], PORTS))
    value = loaded.items[0].value
    assert isinstance(value, EndpointSlice)
    assert [str(each.address) for each in value.endpoints] == ["10.128.0.5"]
    assert [warning.text.partition(":")[0] for warning in loaded.warnings] == ["endpoints[0].addresses"]


def test_a_slice_holds_a_thousand() -> None:
    many = [{"addresses": [f"10.128.{at // 250}.{at % 250 + 2}"]} for at in range(1_001)]
    assert len(read(many[:1_000]).endpoints) == 1_000
    assert_refused(endpoint_slice(many, PORTS), "endpoints", "more than 1,000")


BAD = [
    ([{}], PORTS, "endpoints[0].addresses", "missing"),
    ([{"addresses": []}], PORTS, "endpoints[0].addresses", "missing"),
    ([None], PORTS, "endpoints[0]", "must be a mapping"),
    ([{"addresses": ["10.0.0"]}], PORTS, "endpoints[0].addresses[0]", "not an IP"),
    ([{"addresses": ["fd01::5"]}], PORTS, "endpoints[0].addresses[0]", "not an IPv4 address"),
    ([{"addresses": ["127.0.0.1"]}], PORTS, "endpoints[0].addresses[0]", "loopback"),
    ([{"addresses": ["169.254.169.5"]}], PORTS, "endpoints[0].addresses[0]", "link-local"),
    ([{"addresses": ["224.0.0.1"]}], PORTS, "endpoints[0].addresses[0]", "multicast"),
    ([{"addresses": ["0.0.0.0"]}], PORTS, "endpoints[0].addresses[0]", "unspecified"),
    ([ONE | {"nodeName": "A"}], PORTS, "endpoints[0].nodeName", "node name"),
    ([ONE | {"conditions": {"ready": "true"}}], PORTS, "endpoints[0].conditions.ready", "true or false"),
    ([ONE], [{"port": 0}], "ports[0].port", "from 1 to 65535"),
    ([ONE], [{"port": 1, "protocol": "TLS"}], "ports[0].protocol", "unknown protocol"),
    ([ONE], [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}], "ports[1].name", "twice"),
    ([ONE], [{"port": 1, "name": "-"}], "ports[0].name", "RFC 1123 label"),
]


@pytest.mark.parametrize(("entries", "ports", "path", "reason"), BAD, ids=[f"{path} {why}" for *_, path, why in BAD])
def test_what_is_no_slice(entries: list[Any], ports: list[Any], path: str, reason: str) -> None:
    assert_refused(endpoint_slice(entries, ports), path, reason)


def test_the_type_of_addresses_is_required() -> None:
    assert_refused(endpoint_slice([], [], family="IPv5"), "addressType", "must be IPv4, IPv6 or FQDN")


# ------------------------------------------------------------------------------------------- Endpoints


def test_endpoints() -> None:
    raw = endpoints(
        [
            {
                "addresses": [{"ip": "10.128.0.5", "nodeName": "n1"}],
                "notReadyAddresses": [{"ip": "fd01::5"}],
                "ports": [{"port": 80}],
            },
            {"addresses": [{"ip": "10.128.0.6"}]},
        ]
    )
    first, second = accept(raw, Endpoints).subsets
    assert first.endpoints == (
        SliceEndpoint(address=parse_address("10.128.0.5"), node="n1"),
        SliceEndpoint(address=parse_address("fd01::5"), is_ready=False, is_serving=False),
    )
    assert first.ports == (SlicePort(name="", protocol="TCP", number=80),)
    assert (len(second.endpoints), second.ports) == (1, ())


def test_endpoints_may_hold_five_thousand() -> None:
    entries = [{"ip": f"10.128.{at // 250}.{at % 250 + 2}"} for at in range(5_000)]
    (subset,) = accept(endpoints([{"addresses": entries, "ports": [{"port": 80}]}]), Endpoints).subsets
    assert len(subset.endpoints) == 5_000


BAD_SUBSETS = [
    ({}, "subsets[0]", "must hold addresses"),
    ({"addresses": [{}]}, "subsets[0].addresses[0].ip", "missing"),
    ({"addresses": [{"ip": "::1"}]}, "subsets[0].addresses[0].ip", "loopback"),
    ({"notReadyAddresses": [{"ip": "x"}]}, "subsets[0].notReadyAddresses[0].ip", "not an IP"),
    ({"addresses": [{"ip": "192.0.2.1"}], "ports": [{}]}, "subsets[0].ports[0].port", "missing"),
    (
        {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1, "name": "a"}, {"port": 2}]},
        "subsets[0].ports[1].name",
        "missing",
    ),
]


@pytest.mark.parametrize(("subset", "path", "reason"), BAD_SUBSETS, ids=[path for _, path, _ in BAD_SUBSETS])
def test_what_are_no_endpoints(subset: dict[str, Any], path: str, reason: str) -> None:
    assert_refused(endpoints([subset]), path, reason)
