"""A misspelt identity must not open anything: who was protected before stays protected."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.tables import EGRESS_FIREWALL, NETWORK_POLICY
from ovnk_core.nb.desired import ACLS
from tests.kit.manifest import namespace, node, pod

DENY = [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]
WORLD = [node("n1"), namespace("shop"), pod("web", "shop", spec={"nodeName": "n1", "containers": []})]


def firewall(**changes: Any) -> dict[str, Any]:
    made = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
    }
    return made | {"spec": {"egress": DENY}} | changes


def policy(**changes: Any) -> dict[str, Any]:
    made = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
    }
    return made | {"spec": {"podSelector": {}}} | changes


BROKEN: list[dict[str, Any]] = [
    {"kind": "EgressFirewal"},
    {"kind": "EgresFirewall"},
    {"apiVersion": "k8s.ovn.orgg/v1"},
    {"metadata": {"name": "defualt", "namespace": "shop"}},
    {"metadata": {"name": "default", "namespace": "Shop"}},
    {"metadata": {"name": "default", "namespace": 5}},
    {"metadata": None},
]
BROKEN_POLICIES: list[dict[str, Any]] = [
    {"kind": "NetworkPolcy"},
    {"apiVersion": "networking.k8s.oi/v1"},
    {"metadata": {"name": "X!", "namespace": "shop"}},
    {"metadata": {"name": "x", "namespace": "Shop"}},
]


@pytest.mark.parametrize("change", BROKEN, ids=str)
def test_a_firewall_stays(change: dict[str, Any]) -> None:
    cluster = Cluster()
    cluster.replace(parse_objects([*WORLD, firewall()]))
    before = dict(cluster.engine.rows(ACLS))
    cluster.replace(parse_objects([*WORLD, firewall(**change)]))
    assert cluster.refused
    assert dict(cluster.engine.rows(ACLS)) == before
    assert len(cluster.engine.rows(EGRESS_FIREWALL)) == 1
    cluster.replace(parse_objects(WORLD))
    assert not cluster.refused
    assert not cluster.engine.rows(EGRESS_FIREWALL)


@pytest.mark.parametrize("change", BROKEN_POLICIES, ids=str)
def test_a_policy_stays(change: dict[str, Any]) -> None:
    cluster = Cluster()
    cluster.replace(parse_objects([*WORLD, policy()]))
    cluster.replace(parse_objects([*WORLD, policy(**change)]))
    assert cluster.refused
    assert "x" in {key.name for key in cluster.engine.rows(NETWORK_POLICY)}


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("crd.projectcalico.org/v1", "NetworkPolicy"),
        ("crd.projectcalico.org/v1", "GlobalNetworkPolicy"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("networking.k8s.io/v1", "Ingress"),
        ("k8s.ovn.org/v1", "EgressFirewallRule"),
    ],
)
def test_other_kinds_are_only_unknown(version: str, kind: str) -> None:
    loaded = parse_objects([{"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}])
    assert not loaded.refused
    assert loaded.unknown
