"""What the columns of Services and endpoints show, as kubectl writes it."""

from __future__ import annotations

from typing import Any

import pytest
from ovnk_cli.online.columns import columns_of

from tests.kit import manifest as m


def shown(manifest: dict[str, Any], *titles: str) -> list[str]:
    by_title = {column.title: column for column in columns_of(manifest["kind"])}
    return [by_title[title].read(manifest) for title in titles]


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({}, {}, ["ClusterIP", "<none>", "<none>", "<none>"]),
        ({"clusterIP": "None"}, {}, ["ClusterIP", "None", "<none>", "<none>"]),
        (
            {"type": "ExternalName", "externalName": "db.example.com"},
            {},
            ["ExternalName", "<none>", "db.example.com", "<none>"],
        ),
        (
            {
                "type": "LoadBalancer",
                "clusterIP": "172.30.0.9",
                "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
            },
            {},
            ["LoadBalancer", "172.30.0.9", "<pending>", "80/TCP,53/UDP"],
        ),
        (
            {"type": "LoadBalancer", "externalIPs": ["203.0.113.1"], "ports": [{"port": 80, "nodePort": 30000}]},
            {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"hostname": "lb"}]}},
            ["LoadBalancer", "<none>", "198.51.100.1,lb,203.0.113.1", "80:30000/TCP"],
        ),
    ],
)
def test_services(spec: Any, status: Any, cells: list[str]) -> None:
    assert shown(m.service(spec, status=status), "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)") == cells


def test_slices() -> None:
    many = [{"addresses": [f"10.128.0.{at}"]} for at in range(1, 6)]
    found = m.endpoint_slice(many, [{"port": 80}, {"name": "any"}])
    assert shown(found, "ADDRESSTYPE", "PORTS", "ENDPOINTS") == [
        "IPv4",
        "80,*",
        "10.128.0.1,10.128.0.2,10.128.0.3 + 2 more...",
    ]
    assert shown(m.endpoint_slice([], []), "PORTS", "ENDPOINTS") == ["<unset>", "<unset>"]


def test_endpoints() -> None:
    subset = {"addresses": [{"ip": "10.128.0.5"}, {"ip": "fd01::5"}], "notReadyAddresses": [{"ip": "10.128.0.6"}]}
    assert shown(m.endpoints([subset | {"ports": [{"port": 80}]}]), "ENDPOINTS") == ["10.128.0.5:80,[fd01::5]:80"]
    assert shown(m.endpoints([subset]), "ENDPOINTS") == ["10.128.0.5,fd01::5"]
    assert shown(m.endpoints([]), "ENDPOINTS") == ["<none>"]
