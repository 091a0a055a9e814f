"""Which node holds which egress IP: the rules of ``allocate.egress_ip``, one by one, through a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.allocate.egress_node import ASSUMED
from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.tables import EGRESS_IP_DECISION, cluster_key
from ovnk_core.terms.name import ObjectRef

Manifest = dict[str, Any]
LOST = NodeHealth(is_reachable=False)


def node(
    number: int, *, is_labelled: bool = True, is_ready: bool = True, address: str = "", value: str = ""
) -> Manifest:
    labels = {"k8s.ovn.org/egress-assignable": value} if is_labelled else {}
    ready = {"type": "Ready", "status": "True" if is_ready else "False"}
    addresses = [{"type": "InternalIP", "address": address or f"192.168.126.{number}"}]
    meta = {"name": f"node{number}", "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta,
        "status": {"addresses": addresses, "conditions": [ready]},
    }


def without_gateway(manifest: Manifest) -> Manifest:
    manifest["metadata"]["annotations"] = {"k8s.ovn.org/l3-gateway-config": '{"default":{"mode":""}}'}
    return manifest


def egress_ip(name: str, *addresses: str, created: str = "") -> Manifest:
    meta = {"name": name} | ({"creationTimestamp": created} if created else {})
    spec = {"egressIPs": list(addresses), "namespaceSelector": {}}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": meta, "spec": spec}


def infrastructure(platform: str) -> Manifest:
    status = {"platformStatus": {"type": platform}}
    return {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Infrastructure",
        "metadata": {"name": "cluster"},
        "status": status,
    }


class World:
    """A cluster in check mode; after every step it equals a restart from its own record."""

    def __init__(self, *manifests: Manifest) -> None:
        self.cluster = Cluster(check=True)
        self.put(*manifests)

    def put(self, *manifests: Manifest) -> None:
        loaded = parse_objects(manifests)
        assert not loaded.refused, loaded.refused
        self.cluster.apply(loaded.items)

    def drop(self, kind: str, name: str) -> None:
        self.cluster.apply((), (ObjectRef(kind, "", name),))

    def report(self, number: int, health: NodeHealth) -> None:
        self.cluster.report({f"node{number}": health})

    def program(self) -> None:
        """The northbound confirms what was withdrawn."""
        self.cluster.withdrawn(self.cluster.leaving)

    def on(self, name: str = "a") -> dict[str, str]:
        """Last number of each address of an object -> last number of its node, or the reason why it has none."""
        decision = self.cluster.engine.rows(EGRESS_IP_DECISION)[cluster_key(name)]
        found = {str(each.address): each.node.removeprefix("node") for each in decision.assignments}
        found |= {str(each.address): each.reason for each in decision.unassigned}
        return {address.rpartition(".")[2]: where for address, where in found.items()}

    @property
    def loads(self) -> list[int]:
        return list(self.cluster.egress_loads.values())


def addresses(*numbers: int) -> list[str]:
    return [f"192.168.126.{number}" for number in numbers]


def test_each_placement_goes_to_a_least_loaded_node_ties_by_name() -> None:
    world = World(node(1), node(2), node(3))
    for index, wanted in enumerate("123123"):
        world.put(egress_ip(f"e{index}", *addresses(100 + index)))
        assert world.on(f"e{index}") == {str(100 + index): wanted}


def test_no_node_holds_two_addresses_of_one_object() -> None:
    world = World(node(1), node(2), egress_ip("a", *addresses(101, 102, 103)))
    assert world.on() == {"101": "1", "102": "2", "103": "Capacity"}
    world.put(node(3))
    assert world.on() == {"101": "1", "102": "2", "103": "3"}


def test_as_many_addresses_as_possible_are_placed() -> None:
    """node1 could hold both, node2 only the first: taking node1 for the first would leave the second on none."""
    both = node(1)
    both["metadata"]["annotations"] = {
        "k8s.ovn.org/l3-gateway-config": '{"default":{"mode":"shared","ip-addresses":["192.168.126.1/24","fd::1/64"]}}'
    }
    network = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Network",
        "metadata": {"name": "cluster"},
        "spec": {
            "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
            "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
            "networkType": "OVNKubernetes",
        },
    }
    world = World(network, both, node(2), egress_ip("a", "192.168.126.101", "fd::101"))
    assert world.on() == {"101": "2", "fd::101": "1"}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (node(1, is_labelled=False), "NoNode"),
        (node(1, is_ready=False), "NoNode"),
        (node(1, address="10.0.0.1"), "Subnet"),
        (node(1, value="false"), "1"),
        (without_gateway(node(1)), "NoNode"),
    ],
)
def test_who_may_hold_an_address(manifest: Manifest, reason: str) -> None:
    assert World(manifest, egress_ip("a", *addresses(101))).on() == {"101": reason}


@pytest.mark.parametrize("health", [LOST, NodeHealth(is_drained=True)])
def test_a_node_that_is_reported_lost_or_drained_holds_none(health: NodeHealth) -> None:
    world = World(node(1), egress_ip("a", *addresses(101)))
    world.report(1, health)
    assert world.on() == {"101": "Moving"}
    world.program()
    assert world.on() == {"101": "NoNode"}
    world.report(1, NodeHealth())
    assert world.on() == {"101": "1"}
    assert not world.cluster.decisions.health


@pytest.mark.parametrize(
    ("address", "reason"),
    [("192.168.126.1", "Conflict"), ("10.128.0.9", "Conflict"), ("172.30.0.9", "Conflict"), ("8.8.8.8", "Subnet")],
)
def test_addresses_that_are_somebody_elses(address: str, reason: str) -> None:
    """Also of a node that may hold none itself."""
    world = World(node(1, is_labelled=False), node(2), egress_ip("a", address))
    assert list(world.on().values()) == [reason]


@pytest.mark.parametrize(
    ("platform", "where"),
    [("BareMetal", "1"), ("None", "1"), ("VSphere", "1"), ("AWS", "Platform"), ("OpenStack", "Platform")],
)
def test_platforms(platform: str, where: str) -> None:
    assert World(infrastructure(platform), node(1), egress_ip("a", *addresses(101))).on() == {"101": where}


@pytest.mark.parametrize("lose", ["label", "ready", "reachable", "drained", "deleted", "subnet", "own"])
def test_a_lost_nodes_address_moves_in_two_steps(lose: str) -> None:
    world = World(node(1), node(2), egress_ip("a", *addresses(101)))
    if lose == "deleted":
        world.drop("Node", "node1")
    elif lose in ("reachable", "drained"):
        world.report(1, NodeHealth(is_reachable=lose != "reachable", is_drained=lose == "drained"))
    else:
        world.put(
            {
                "label": node(1, is_labelled=False),
                "ready": node(1, is_ready=False),
                "subnet": node(1, address="10.0.0.1"),
                "own": node(1, address="192.168.126.101"),
            }[lose]
        )
    assert world.on() == {"101": "Moving" if lose != "own" else "Conflict"}
    assert [each.node for gone in world.cluster.leaving.values() for each in gone] == ["node1"]
    world.put(node(3))
    assert world.on() == {"101": "Moving" if lose != "own" else "Conflict"}
    world.program()
    assert world.on() == {"101": "2" if lose != "own" else "Conflict"}
    assert not world.cluster.leaving


def test_a_label_that_goes_during_a_move() -> None:
    """Nobody was promised the address: it goes to whoever may have it once it has left, and if need be to nobody."""
    world = World(node(1), node(2), node(3), egress_ip("a", *addresses(101)))
    world.put(node(1, is_labelled=False))
    assert world.on() == {"101": "Moving"}
    world.put(node(2, is_labelled=False))
    assert world.on() == {"101": "Moving"}
    world.program()
    assert world.on() == {"101": "3"}
    world.put(node(3, is_labelled=False))
    world.program()
    assert world.on() == {"101": "NoNode"}
    world.put(node(2))
    assert world.on() == {"101": "2"}


def test_a_node_that_returns_gets_nothing_back_before_the_withdrawal_and_nothing_by_itself_after_it() -> None:
    world = World(node(1), node(2), egress_ip("a", *addresses(101)))
    world.report(1, LOST)
    world.report(1, NodeHealth())
    assert world.on() == {"101": "Moving"}
    world.program()
    assert world.on() == {"101": "1"}
    world.report(1, LOST)
    world.program()
    world.report(1, NodeHealth())
    assert world.on() == {"101": "2"}


@pytest.mark.parametrize("how", ["removed", "deleted"])
def test_an_address_that_changes_hands_waits_for_its_withdrawal(how: str) -> None:
    world = World(node(1), node(2), egress_ip("a", *addresses(101, 102)))
    if how == "deleted":
        world.drop("EgressIP", "a")
    else:
        world.put(egress_ip("a", *addresses(102)))
    world.put(egress_ip("b", *addresses(101)))
    assert world.on("b") == {"101": "Moving"}
    world.program()
    assert world.on("b") == {"101": "1"}
    assert len(world.cluster.decisions.egress_ips) == (1 if how == "deleted" else 2)


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (0, f"the network address of the subnet, {ASSUMED}, of node node5"),
        (1, "the next hop, assumed without k8s.ovn.org/l3-gateway-config, of node node5"),
        (5, "an address of node node5"),
        (255, f"the broadcast address of the subnet, {ASSUMED}, of node node5"),
    ],
)
def test_an_address_without_which_a_node_is_cut_off_is_on_none(last: int, what: str) -> None:
    """Whether that node may hold any or not."""
    world = World(node(5), egress_ip("a", *addresses(last)))
    (missing,) = world.cluster.engine.rows(EGRESS_IP_DECISION)[cluster_key("a")].unassigned
    assert (missing.reason, missing.message) == ("Conflict", f"is {what}")
    world.put(node(5, is_labelled=False), node(6))
    assert world.on() == {str(last): "Conflict"}


OLD, MIDDLE, YOUNG = (f"2024-01-0{day}T00:00:00Z" for day in (1, 2, 3))


def test_who_holds_an_address_keeps_it_from_older_objects_and_the_oldest_waits_first() -> None:
    world = World(node(1), egress_ip("b", *addresses(101), created=YOUNG))
    world.put(egress_ip("a", *addresses(101), created=MIDDLE), egress_ip("c", *addresses(101), created=OLD))
    assert [world.on(name)["101"] for name in "abc"] == ["Conflict", "1", "Conflict"]
    world.put(egress_ip("b", *addresses(101, 102), created=YOUNG))
    assert world.on("b") == {"101": "1", "102": "Capacity"}
    world.put(egress_ip("b", *addresses(102), created=YOUNG))
    assert [world.on(name) for name in "abc"] == [{"101": "Conflict"}, {"102": "1"}, {"101": "Moving"}]
    world.program()
    assert [world.on(name)["101"] for name in "ac"] == ["Conflict", "1"]


def test_of_objects_that_come_together_the_oldest_has_it() -> None:
    made = [
        egress_ip(name, *addresses(101), created=created)
        for name, created in zip("abc", (YOUNG, MIDDLE, OLD), strict=True)
    ]
    world = World(node(1), *made, egress_ip("0", *addresses(101)))
    assert [world.on(name)["101"] for name in "0abc"] == ["Conflict", "Conflict", "Conflict", "1"]


def test_an_object_keeps_its_address_while_it_moves() -> None:
    world = World(node(1), node(2), egress_ip("b", *addresses(101), created=YOUNG))
    world.put(egress_ip("a", *addresses(101), created=OLD))
    world.report(1, LOST)
    assert (world.on("a"), world.on("b")) == ({"101": "Conflict"}, {"101": "Moving"})
    world.program()
    assert (world.on("a"), world.on("b")) == ({"101": "Conflict"}, {"101": "2"})


def test_an_address_whose_holder_finds_no_node_for_it_is_the_oldest_ones() -> None:
    """b has another address on the only node that is left; a has not."""
    world = World(node(1), node(2), egress_ip("b", *addresses(101, 102), created=YOUNG))
    world.put(egress_ip("a", *addresses(101), created=OLD))
    world.report(1, LOST)
    world.program()
    assert (world.on("a"), world.on("b")) == ({"101": "2"}, {"101": "Conflict", "102": "2"})


def test_of_two_of_one_age_the_holder_keeps_it() -> None:
    world = World(node(1), egress_ip("b", *addresses(101)))
    world.put(egress_ip("a", *addresses(101)))
    assert (world.on("a"), world.on("b")) == ({"101": "Conflict"}, {"101": "1"})


def test_labels_that_come_late_are_made_good_by_rebalancing() -> None:
    world = World(node(1), *(egress_ip(f"e{at}", *addresses(100 + at)) for at in range(6)))
    world.put(node(2), node(3))
    assert world.loads == [6, 0, 0]
    world.cluster.rebalance()
    assert world.loads == [2, 0, 0]
    assert sum(map(len, world.cluster.leaving.values())) == 4
    world.program()
    assert world.loads == [2, 2, 2]
    world.cluster.rebalance()
    assert not world.cluster.leaving


def test_a_change_of_selectors_moves_nothing() -> None:
    world = World(node(1), node(2), egress_ip("a", *addresses(101)))
    changed = egress_ip("a", *addresses(101))
    changed["spec"]["namespaceSelector"] = {"matchLabels": {"env": "prod"}}
    world.put(changed)
    assert world.on() == {"101": "1"}
    assert not world.cluster.leaving


def test_what_nobody_returns_to_is_placed_together_with_the_rest() -> None:
    """``b`` may have .200 once ``a`` finds no node for it any more, and then needs node1 for that, not for .21."""

    def on_link(number: int, prefix: int) -> Manifest:
        made = node(number)
        made["metadata"]["annotations"] = {
            "k8s.ovn.org/node-primary-ifaddr": f'{{"ipv4":"192.168.126.{number}/{prefix}"}}'
        }
        return made

    narrow = on_link(20, 28)
    first, second = "192.168.126.200", "192.168.126.201"
    either = "192.168.126.21"
    world = World(
        on_link(1, 24),
        narrow,
        egress_ip("a", first, second, created="2026-01-02T00:00:00Z"),
    )
    world.put(egress_ip("b", either, first, created="2026-01-01T00:00:00Z"))
    assert world.on("a") == {"200": "1", "201": "Capacity"} and world.on("b") == {"21": "20", "200": "Conflict"}
    world.report(1, LOST)
    world.report(20, LOST)
    world.report(1, NodeHealth())
    world.report(20, NodeHealth())
    world.put(egress_ip("c", "192.168.126.22"))
    assert world.on("a")["201"] == "1" and world.on("c") == {"22": "20"}
    world.program()
    assert world.on("a") == {"200": "Conflict", "201": "1"}
    assert world.on("b") == {"21": "20", "200": "1"}
