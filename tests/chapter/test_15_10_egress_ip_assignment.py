"""15.9.1.1 to 15.9.3 and 15.10.1: on which platforms, on which nodes and for whom egress IPs are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import yaml

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_ip.rules import selection
from ovnk_core.indexes.selection import SELECTED
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.tables import EGRESS_IP, cluster_key
from ovnk_core.terms.name import ObjectRef
from tests.kit import manifest as m
from tests.kit.questions import cluster_of, load

LABEL = "k8s.ovn.org/egress-assignable"
NODES = ("node1", "node2", "node3")
GROUP1 = """
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata:
  name: egress-group1
spec:
  egressIPs:
  - 192.168.126.11
  - 192.168.126.102
  podSelector:
    matchLabels:
      app: web
  namespaceSelector:
    matchLabels:
      env: prod
"""
GROUP2 = """
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata:
  name: egress-group2
spec:
  egressIPs:
  - 192.168.127.30
  - 192.168.127.40
  namespaceSelector:
    matchExpressions:
    - key: environment
      operator: NotIn
      values:
      - development
"""
PROJECT1 = """
apiVersion: k8s.ovn.org/v1
kind: EgressIP
metadata:
  name: egress-project1
spec:
  egressIPs:
  - 192.168.127.10
  - 192.168.127.11
  namespaceSelector:
    matchLabels:
      env: qa
"""


def node(name: str, *, value: str | None = "", is_ready: bool = True) -> m.Raw:
    """A node of 15.9.1.4, on 192.168.126.0/18. ``value`` None: without the label."""
    address = f"192.168.126.20{name[-1]}"
    made = m.node(name, {"node-primary-ifaddr": {"ipv4": f"{address}/18"}}, address)
    made["metadata"]["labels"] = {} if value is None else {LABEL: value}
    made["status"] = made.get("status", {}) | {"conditions": [{"type": "Ready", "status": str(is_ready)}]}
    return made


def egress_ip(name: str, *addresses: str) -> m.Raw:
    spec = {"egressIPs": list(addresses), "namespaceSelector": {}}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": name}, "spec": spec}


def infrastructure(platform: str) -> m.Raw:
    return {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Infrastructure",
        "metadata": {"name": "cluster"},
        "status": {"platformStatus": {"type": platform}},
    }


def where(cluster: Cluster, name: str) -> dict[str, str]:
    """Address -> its node, or why it has none."""
    decision = cluster.decisions.egress_ips[name]
    found = {str(each.address): each.node for each in decision.assignments}
    return found | {str(each.address): each.reason for each in decision.unassigned}


def picked(cluster: Cluster, name: str) -> list[str]:
    item = cluster.engine.rows(EGRESS_IP)[cluster_key(name)]
    return sorted(map(str, cluster.engine.members(SELECTED, selection(item))))


@pytest.mark.parametrize(
    ("platform", "is_supported"),
    [
        ("BareMetal", True),
        ("None", True),
        ("VSphere", True),
        ("OpenStack", False),
        ("AWS", False),
        ("Azure", False),
        ("GCP", False),
    ],
)
def test_the_platform_table_of_15_9_1_1(platform: str, is_supported: bool) -> None:
    cluster = cluster_of([infrastructure(platform), node("node1"), egress_ip("a", "192.168.126.10")])
    assert where(cluster, "a") == {"192.168.126.10": "node1" if is_supported else "Platform"}
    texts = [each.message for each in cluster.decisions.egress_ips["a"].unassigned]
    assert texts == ([] if is_supported else [f"egress IPs are not supported on platform {platform}"])


def test_conditions_of_15_9_1_2() -> None:
    """Neither an object without a labelled node nor a labelled node without an object assigns anything."""
    cluster = cluster_of([node("node1", value=None), egress_ip("a", "192.168.126.10")])
    assert where(cluster, "a") == {"192.168.126.10": "NoNode"}
    cluster.apply(load([node("node1")]).items)
    assert where(cluster, "a") == {"192.168.126.10": "node1"}
    assert cluster_of([node("node1")]).decisions.egress_ips == {}


def test_important_of_15_9_1_2_and_what_rebalancing_makes_of_it() -> None:
    """Labels after objects: everything lies on the first node. Labels first: it is spread from the start."""
    objects = [egress_ip(f"e{at}", f"192.168.126.{10 + at}") for at in range(9)]
    late = cluster_of([*(node(name, value=None) for name in NODES), *objects])
    for name in NODES:
        late.apply(load([node(name)]).items)
    assert late.egress_loads == {"node1": 9, "node2": 0, "node3": 0}
    late.rebalance()
    assert sum(map(len, late.leaving.values())) == 6, "the fewest moves"
    late.withdrawn(late.leaving)
    early = cluster_of([*map(node, NODES), *objects])
    assert late.egress_loads == early.egress_loads == dict.fromkeys(NODES, 3)


def test_an_address_is_never_on_two_nodes() -> None:
    """15.9.1.3, first bullet; also while it moves, and when two objects name it."""
    cluster = cluster_of([*map(node, NODES), egress_ip("a", "192.168.126.10"), egress_ip("b", "192.168.126.10")])
    assert sorted(where(cluster, name)["192.168.126.10"] for name in "ab") == ["Conflict", "node1"]
    cluster.report({"node1": NodeHealth(is_reachable=False)})
    assert "node" not in "".join(where(cluster, name)["192.168.126.10"] for name in "ab")
    cluster.withdrawn(cluster.leaving)
    assert sorted(where(cluster, name)["192.168.126.10"] for name in "ab") == ["Conflict", "node2"]


def test_addresses_are_balanced_equally() -> None:
    """15.9.1.3, second bullet: whatever comes next, nodes differ by one at most."""
    cluster = cluster_of(map(node, NODES))
    for at in range(10):
        cluster.apply(load([egress_ip(f"e{at}", f"192.168.126.{10 + at}")]).items)
        loads = cluster.egress_loads.values()
        assert sum(loads) == at + 1 and max(loads) - min(loads) <= 1


def test_no_node_hosts_two_addresses_of_one_object() -> None:
    """15.9.1.3, third bullet: with more addresses than nodes the rest waits, whatever else is free."""
    addresses = [f"192.168.126.{10 + at}" for at in range(4)]
    cluster = cluster_of([*map(node, NODES), egress_ip("a", *addresses)])
    assert list(where(cluster, "a").values()) == [*NODES, "Capacity"]


@pytest.mark.parametrize("how", ["label", "ready", "reachable", "deleted"])
def test_what_an_unavailable_node_had_is_assigned_elsewhere(how: str) -> None:
    """15.9.1.3, fourth bullet, subject to the others: to the only node that holds none of the object's yet."""
    cluster = cluster_of([*map(node, NODES), egress_ip("a", "192.168.126.10", "192.168.126.11")])
    assert where(cluster, "a") == {"192.168.126.10": "node1", "192.168.126.11": "node2"}
    if how == "reachable":
        cluster.report({"node1": NodeHealth(is_reachable=False)})
    elif how == "deleted":
        cluster.apply(delete=[ObjectRef("Node", "", "node1")])
    else:
        cluster.apply(load([node("node1", value=None if how == "label" else "", is_ready=how != "ready")]).items)
    assert where(cluster, "a") == {"192.168.126.10": "Moving", "192.168.126.11": "node2"}
    cluster.withdrawn(cluster.leaving)
    assert where(cluster, "a") == {"192.168.126.10": "node3", "192.168.126.11": "node2"}


def namespaces() -> list[m.Raw]:
    labels: dict[str, dict[str, str]] = {
        "prod": {"env": "prod"},
        "dev": {"environment": "development"},
        "stage": {"environment": "staging"},
        "bare": {},
    }
    found = [m.namespace(name, metadata={"labels": each}) for name, each in labels.items()]
    pods: list[dict[str, Any]] = [
        m.pod(app, name, metadata={"labels": {"app": app}}, spec={"nodeName": "node1", "containers": []})
        for name in labels
        for app in ("web", "db")
    ]
    return [*found, *pods]


def test_the_first_example_of_15_9_2() -> None:
    cluster = cluster_of([*map(node, NODES), *namespaces(), yaml.safe_load(GROUP1)])
    assert where(cluster, "egress-group1") == {"192.168.126.11": "node1", "192.168.126.102": "node2"}
    assert picked(cluster, "egress-group1") == ["prod/web"]


def test_the_second_example_of_15_9_2() -> None:
    """Its addresses lie in 192.168.126.0/18, too: the block reaches from 192.168.64.0 to 192.168.127.255."""
    cluster = cluster_of([*map(node, NODES), *namespaces(), yaml.safe_load(GROUP2)])
    assert where(cluster, "egress-group2") == {"192.168.127.30": "node1", "192.168.127.40": "node2"}
    everywhere = [f"{namespace}/{app}" for namespace in ("bare", "prod", "stage") for app in ("db", "web")]
    assert picked(cluster, "egress-group2") == everywhere


@pytest.mark.parametrize("value", ["", "true", "false"])
def test_the_label_of_15_9_3_counts_whatever_its_value(value: str) -> None:
    cluster = cluster_of([node("node1", value=value), egress_ip("a", "192.168.126.10")])
    assert where(cluster, "a") == {"192.168.126.10": "node1"}


def test_the_object_of_15_10_1_serves_a_namespace_from_the_moment_it_has_the_label() -> None:
    around = [*map(node, NODES), *namespaces()]
    cluster = cluster_of([*around, yaml.safe_load(PROJECT1)])
    assert where(cluster, "egress-project1") == {"192.168.127.10": "node1", "192.168.127.11": "node2"}
    assert picked(cluster, "egress-project1") == []
    cluster.apply(load([m.namespace("bare", metadata={"labels": {"env": "qa"}})]).items)
    assert picked(cluster, "egress-project1") == ["bare/db", "bare/web"]


def test_all_six_addresses_together() -> None:
    """Of 15.9.2 and 15.10.1, with nodes that 15.9.1.4 describes: each object on two nodes, and nodes alike."""
    examples = [yaml.safe_load(text) for text in (GROUP1, GROUP2, PROJECT1)]
    cluster = cluster_of([*map(node, NODES), *examples])
    held = [
        node for name in ("egress-group1", "egress-group2", "egress-project1") for node in where(cluster, name).values()
    ]
    assert len(held) == 6 and all(held.count(name) == 2 for name in NODES)
    assert all(one != other for one, other in list(pairwise(held))[::2])
