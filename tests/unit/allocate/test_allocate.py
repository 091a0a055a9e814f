"""Decisions: who gets what, who keeps what, and what happens when nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.allocate.pool import Pool
from ovnk_core.cluster import Cluster
from ovnk_core.errors import CapacityError, ObjectError
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.ingest.load import parse_objects
from ovnk_core.terms.name import ObjectRef


def network(cidr: str = "10.128.0.0/14", prefix: int = 23, *more: tuple[str, int]) -> dict[str, Any]:
    entries = [{"cidr": text, "hostPrefix": bits} for text, bits in ((cidr, prefix), *more)]
    services = ["172.30.0.0/16", *(["fd02::/112"] if any(":" in text for text, _ in more) else [])]
    spec = {"clusterNetwork": entries, "serviceNetwork": services}
    return {"apiVersion": "config.openshift.io/v1", "kind": "Network", "metadata": {"name": "cluster"}, "spec": spec}


def node(name: str, last: int, **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if annotations:
        metadata["annotations"] = {f"k8s.ovn.org/{key.replace('_', '-')}": text for key, text in annotations.items()}
    status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{last}"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def pod(name: str, where: str, *addresses: str, phase: str = "Running", created: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "a"}
    if created:
        metadata["creationTimestamp"] = created
    status = {"phase": phase, "podIPs": [{"ip": address} for address in addresses]}
    spec = {"nodeName": where, "containers": []}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def cluster(*objects: dict[str, Any], base: Cluster | None = None) -> Cluster:
    found = base or Cluster(check=True)
    loaded = parse_objects(objects)
    assert not loaded.refused, loaded.refused
    found.apply(loaded.items)
    return found


def where(found: Cluster) -> dict[str, str]:
    return {key.name: ",".join(map(str, row.addresses)) for key, row in found.engine.rows(ENDPOINT).items()}


def errors(found: Cluster) -> dict[str, ObjectError]:
    return {error.name: error for error in found.errors}


def test_pool_is_lowest_first_and_reuses() -> None:
    pool = Pool(2, 5)
    assert [pool.take(name) for name in "abcd"] == [2, 3, 4, 5]
    assert pool.take("e") is None
    pool.release(3, "b")
    pool.release(4, "somebody else")
    assert pool.take("e") == 3
    assert pool.take("f") is None
    assert pool.claim(99, "g")
    assert not pool.claim(99, "h")


def test_nodes_in_name_order_and_pods_from_the_third_host() -> None:
    found = cluster(network(), node("b", 2), node("a", 1), pod("y", "b"), pod("x", "b"), pod("z", "a"))
    decided = found.decisions.nodes
    assert [str(decided[name].subnets[0]) for name in ("a", "b")] == ["10.128.0.0/23", "10.128.2.0/23"]
    assert [decided[name].node_id for name in ("a", "b")] == [2, 3]
    assert where(found) == {"x": "10.128.2.3", "y": "10.128.2.4", "z": "10.128.0.3"}


def test_dual_stack_gives_one_of_each() -> None:
    found = cluster(network("10.128.0.0/14", 23, ("fd01::/48", 64)), node("a", 1), pod("x", "a"))
    assert where(found) == {"x": "10.128.0.3,fd01::3"}
    assert found.decisions.pods["a/x"].mac == "0a:58:0a:80:00:03"


def test_what_objects_say_is_taken() -> None:
    found = cluster(
        network(),
        node("a", 1),
        node("b", 2, node_subnets='{"default":["10.128.0.0/23"]}', node_id="7"),
        pod("x", "b", "10.128.0.77"),
        pod("y", "b"),
    )
    assert str(found.decisions.nodes["b"].subnets[0]) == "10.128.0.0/23"
    assert found.decisions.nodes["b"].node_id == 7
    assert str(found.decisions.nodes["a"].subnets[0]) == "10.128.2.0/23"
    assert where(found) == {"x": "10.128.0.77", "y": "10.128.0.3"}


def test_subnets_run_out_for_one_node_and_the_rest_works() -> None:
    found = cluster(network("10.128.0.0/22", 23), *(node(name, n) for n, name in enumerate("abc", 1)), pod("x", "a"))
    assert isinstance(errors(found)["c"], CapacityError)
    assert where(found) == {"x": "10.128.0.3"}
    found.apply(delete=[ObjectRef("Node", "", "a")])
    assert not found.errors
    assert str(found.decisions.nodes["c"].subnets[0]) == "10.128.0.0/23"


def test_addresses_run_out_for_one_pod_and_come_back() -> None:
    found = cluster(network("10.128.0.0/14", 29), node("a", 1), *(pod(f"p{i}", "a") for i in range(5)))
    assert where(found) == {f"p{i}": f"10.128.0.{3 + i}" for i in range(4)}
    assert isinstance(errors(found)["a/p4"], CapacityError)
    cluster(pod("p1", "a", phase="Succeeded"), base=found)
    assert not found.errors
    assert where(found)["p4"] == "10.128.0.4"
    assert "p1" not in where(found)


def test_two_live_pods_with_one_address_the_newer_has_it() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    found = cluster(network(), node("a", 1), pod("old", "a", "10.128.0.9", created=old))
    cluster(pod("new", "a", "10.128.0.9", created=new), base=found)
    assert where(found) == {"new": "10.128.0.9"}
    assert "a/new" in errors(found)["a/old"].reason
    found.apply(delete=[ObjectRef("Pod", "a", "new")])
    assert where(found) == {"old": "10.128.0.9"}
    assert not found.errors
    together = cluster(
        network(), node("a", 1), pod("new", "a", "10.128.0.9", created=new), pod("old", "a", "10.128.0.9", created=old)
    )
    assert where(together) == {"new": "10.128.0.9"}


def test_an_address_the_network_holds_needs_another_fix() -> None:
    found = cluster(network(), node("a", 1), pod("x", "a", "10.128.0.1"))
    error = errors(found)["a/x"]
    assert "held by the router" in error.reason
    assert "give the pod another address" in error.fix
    assert error.path.startswith("status.podIPs or ")
    rivals = (pod(name, "a", "10.128.0.9", created="2026-01-01T00:00:00Z") for name in ("x", "y"))
    assert errors(cluster(network(), node("a", 1), *rivals))["a/y"].fix == "delete one of the two pods"


def test_what_took_a_node_id_is_named() -> None:
    by_join = {"node_gateway_router_lrp_ifaddr": '{"ipv4":"100.64.0.7/16"}'}
    found = cluster(network(), node("a", 1, **by_join), node("b", 2, **by_join), node("c", 3, node_id="7"))
    joined, numbered = errors(found)["b"], errors(found)["c"]
    assert joined.path == 'metadata.annotations["k8s.ovn.org/node-gateway-router-lrp-ifaddr"]'
    assert joined.value == "100.64.0.7/16"
    assert numbered.path == 'metadata.annotations["k8s.ovn.org/node-id"]'
    assert numbered.value == "7"
    assert joined.source and numbered.source


def test_a_completed_pods_address_may_be_reused_at_once() -> None:
    found = cluster(network(), node("a", 1), pod("done", "a", "10.128.0.9", phase="Succeeded"))
    cluster(pod("next", "a", "10.128.0.9"), base=found)
    assert where(found) == {"next": "10.128.0.9"}
    found.apply(delete=[ObjectRef("Pod", "a", "done")])
    assert where(found) == {"next": "10.128.0.9"}


def test_a_pod_on_an_unknown_node_waits_for_it() -> None:
    found = cluster(network(), pod("x", "later"))
    assert where(found) == {}
    cluster(node("later", 1), base=found)
    assert where(found) == {"x": "10.128.0.3"}
    found.apply(delete=[ObjectRef("Node", "", "later")])
    assert where(found) == {}
    cluster(node("later", 1), base=found)
    assert where(found) == {"x": "10.128.0.3"}


def test_a_pod_that_moves_gets_an_address_of_its_new_node() -> None:
    found = cluster(network(), node("a", 1), node("b", 2), pod("x", "a"))
    cluster(pod("x", "b"), base=found)
    assert where(found) == {"x": "10.128.2.3"}
    cluster(pod("y", "a"), base=found)
    assert where(found)["y"] == "10.128.0.3"


def test_an_address_outside_the_nodes_subnet_is_not_used() -> None:
    found = cluster(network(), node("a", 1), pod("x", "a", "10.244.0.5"))
    assert where(found) == {"x": "10.128.0.3"}


def test_recorded_decisions_come_first() -> None:
    first = cluster(network(), node("b", 2), pod("m", "b"), pod("n", "b"))
    second = Cluster(decisions=first.decisions)
    cluster(network(), node("a", 1), node("b", 2), pod("a", "b"), pod("n", "b"), base=second)
    assert second.decisions.nodes["b"] == first.decisions.nodes["b"]
    assert where(second)["n"] == where(first)["n"]
    assert where(second)["a"] != where(second)["n"]


def test_a_new_cluster_network_reassigns_what_no_longer_fits() -> None:
    found = cluster(network(), node("a", 1), pod("x", "a"))
    cluster(network("10.200.0.0/16", 24), base=found)
    assert where(found) == {"x": "10.200.0.3"}


def test_networks_that_contradict_each_other_together_are_refused() -> None:
    found = cluster(network(), node("a", 1), pod("x", "a"))
    operator = {
        "apiVersion": "operator.openshift.io/v1",
        "kind": "Network",
        "metadata": {"name": "cluster"},
        "spec": {"defaultNetwork": {"type": "OVNKubernetes", "ovnKubernetesConfig": {"mtu": 1000}}},
    }
    cluster(operator, base=found)
    six = network("10.128.0.0/14", 23, ("fd01::/48", 64))
    found.apply(parse_objects([six]).items)
    assert any("1280" in error.reason for error in found.errors)
    assert where(found) == {"x": "10.128.0.3"}


@pytest.mark.parametrize("order", [1, -1])
def test_ties_go_by_name_whatever_the_order(order: int) -> None:
    objects = [node("a", 1), node("b", 2), pod("x", "a"), pod("y", "a")][::order]
    assert where(cluster(network(), *objects)) == {"x": "10.128.0.3", "y": "10.128.0.4"}


def test_a_pod_cannot_take_the_name_of_an_uplink_port() -> None:
    rival = pod("a", "a") | {"metadata": {"name": "a", "namespace": "br-ex"}}
    found = cluster(network(), rival, pod("x", "a"))
    cluster(node("a", 1), base=found)
    assert "uplink port of node a" in errors(found)["br-ex/a"].reason
    assert where(found) == {"x": "10.128.0.3"}
    found.engine.verify()
