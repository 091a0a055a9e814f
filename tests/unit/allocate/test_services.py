"""Cluster IPs, node ports and fronts: who is given what, who keeps what, and who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.allocate.services import reserved
from ovnk_core.cluster import Cluster
from ovnk_core.errors import CapacityError, ObjectError
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import Decisions
from ovnk_core.terms.name import ObjectRef
from tests.kit.manifest import Raw, network, node, service

WIDE = {"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}
DUAL = {
    "clusterNetwork": [*WIDE["clusterNetwork"], {"cidr": "fd01::/48", "hostPrefix": 64}],
    "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
}


def svc(name: str, age: int = 0, status: Raw | None = None, **spec: Any) -> Raw:
    """``age``: the day it was made; 0: nobody knows."""
    meta = {"creationTimestamp": f"2024-01-{age:02}T00:00:00Z"} if age else {}
    return service({"ports": [{"port": 80}], **spec}, name, metadata=meta, status=status or {})


def ports(*numbers: int | None, protocol: str = "TCP") -> list[Raw]:
    """Ports 1, 2, ... with these node ports."""
    return [
        {"name": f"p{at}", "port": at, "protocol": protocol} | ({} if number is None else {"nodePort": number})
        for at, number in enumerate(numbers, start=1)
    ]


class World:
    """One cluster, told object by object."""

    def __init__(self, *objects: Raw, decisions: Decisions | None = None, spec: Raw | None = None) -> None:
        self.cluster = Cluster(check=True, decisions=decisions)
        self.put(network(spec or WIDE), *objects)

    def put(self, *objects: Raw) -> None:
        loaded = parse_objects(objects)
        assert not loaded.refused, loaded.refused
        self.cluster.apply(loaded.items)

    def drop(self, kind: str, name: str, namespace: str = "shop") -> None:
        self.cluster.apply((), (ObjectRef(kind, namespace, name),))

    @property
    def addresses(self) -> dict[str, str]:
        return {
            key.removeprefix("shop/"): ",".join(map(str, each.cluster_ips))
            for key, each in self.cluster.decisions.services.items()
        }

    def node_ports(self, name: str) -> list[int]:
        return [each.node_port for each in self.cluster.decisions.services[f"shop/{name}"].node_ports]

    @property
    def waiting(self) -> dict[str, ObjectError]:
        return {error.name.removeprefix("shop/"): error for error in self.cluster.errors}


# ------------------------------------------------------------------------------------------- cluster IPs


@pytest.mark.parametrize(
    ("size", "band"), [(16, 0), (32, 16), (256, 16), (1 << 12, 256), (1 << 16, 256), (1 << 64, 256)]
)
def test_the_band_for_stated_addresses_is_kubernetes_own(size: int, band: int) -> None:
    assert reserved(size, 16, 16, 256) == band


def test_addresses_are_given_out_above_the_band_lowest_first() -> None:
    world = World(svc("a"), svc("b", clusterIP="172.30.1.1"), svc("c"))
    assert world.addresses == {"a": "172.30.1.0", "b": "172.30.1.1", "c": "172.30.1.2"}
    world.drop("Service", "a")
    world.put(svc("d"))
    assert world.addresses["d"] == "172.30.1.0"


def test_who_is_older_is_given_the_lower_address() -> None:
    assert World(svc("a", age=2), svc("b", age=1)).addresses == {"a": "172.30.1.1", "b": "172.30.1.0"}


def test_the_band_is_used_when_nothing_else_is_left() -> None:
    """A /27 has 16 addresses above the band, of which the last one is broadcast, and 15 in it."""
    spec = WIDE | {"serviceNetwork": ["172.30.0.0/27"]}
    world = World(*(svc(f"s{at:02}") for at in range(31)), spec=spec)
    assert world.addresses["s00"] == "172.30.0.16"
    assert world.addresses["s14"] == "172.30.0.30"
    assert world.addresses["s15"] == "172.30.0.1"
    assert world.addresses["s29"] == "172.30.0.15"
    (error,) = world.waiting.values()
    assert isinstance(error, CapacityError) and "no IPv4 address is left" in error.reason and error.name == "shop/s30"
    world.drop("Service", "s07")
    assert world.addresses["s30"] == "172.30.0.23" and not world.waiting


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        ({}, "172.30.1.0"),
        ({"ipFamilies": ["IPv6"]}, "fd02::100"),
        ({"ipFamilyPolicy": "PreferDualStack"}, "172.30.1.0,fd02::100"),
        ({"ipFamilies": ["IPv6", "IPv4"]}, "fd02::100,172.30.1.0"),
        ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"}, "fd02::100,172.30.1.0"),
        ({"clusterIP": "fd02::5"}, "fd02::5"),
        ({"clusterIP": "fd02::5", "ipFamilyPolicy": "PreferDualStack"}, "fd02::5,172.30.1.0"),
        ({"clusterIP": "fd02::5", "clusterIPs": ["fd02::5", "172.30.0.5"]}, "fd02::5,172.30.0.5"),
    ],
)
def test_families(spec: Raw, addresses: str) -> None:
    assert World(svc("a", **spec), spec=DUAL).addresses == {"a": addresses}


def test_another_family_later_keeps_the_first_address() -> None:
    world = World(svc("z"), svc("a"), spec=DUAL)
    before = world.addresses["z"]
    world.drop("Service", "a")
    world.put(svc("z", ipFamilyPolicy="PreferDualStack"))
    assert world.addresses["z"] == f"{before},fd02::100"
    world.put(svc("z", ipFamilies=["IPv6"]))
    assert world.addresses["z"] == "fd02::100"


def test_who_prefers_two_families_gets_the_one_there_is() -> None:
    assert World(svc("a", ipFamilyPolicy="PreferDualStack")).addresses == {"a": "172.30.1.0"}


@pytest.mark.parametrize(
    ("spec", "path", "reason"),
    [
        ({"clusterIP": "10.0.0.1"}, "spec.clusterIP", "not an address of serviceNetwork"),
        ({"clusterIP": "172.30.0.0"}, "spec.clusterIP", "not an address of serviceNetwork"),
        ({"clusterIP": "172.30.255.255"}, "spec.clusterIP", "not an address of serviceNetwork"),
        ({"clusterIP": "fd02::1"}, "spec.clusterIP", "no IPv6 range"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies", "no IPv6 range"),
    ],
)
def test_what_the_service_network_does_not_hold(spec: Raw, path: str, reason: str) -> None:
    world = World(svc("a", **spec))
    assert world.addresses == {}
    assert world.waiting["a"].path == path and reason in world.waiting["a"].reason
    world.put(svc("a"))
    assert world.addresses == {"a": "172.30.1.0"} and not world.waiting


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName", "externalName": "a", "ports": []}])
def test_what_is_not_balanced_is_given_nothing(spec: Raw) -> None:
    world = World(svc("a"))
    world.put(svc("a", **spec))
    assert world.addresses == {} and not world.waiting


# ------------------------------------------------------------------------------------------- node ports


def test_node_ports_are_given_out_by_protocol() -> None:
    world = World(
        svc("a", type="NodePort", ports=ports(None, 30087, None)),
        svc("b", type="NodePort", ports=ports(None, protocol="UDP")),
        svc("c", type="LoadBalancer", ports=ports(None)),
        svc("d", type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=ports(None, 30002)),
        svc("e", ports=ports(None)),
    )
    assert world.node_ports("a") == [30086, 30087, 30088]
    assert world.node_ports("b") == [30086]
    assert world.node_ports("c") == [30089]
    assert world.node_ports("d") == [30002]  # stated ones are served, whatever is given out
    assert world.node_ports("e") == []


def test_a_given_node_port_stays_while_the_rest_changes() -> None:
    world = World(svc("a", type="NodePort", ports=ports(None)), svc("b", type="NodePort", ports=ports(None)))
    world.drop("Service", "a")
    world.put(svc("b", type="LoadBalancer", ports=[*ports(None), {"name": "new", "port": 99}]))
    assert world.node_ports("b") == [30087, 30086]
    world.put(svc("b", ports=ports(None)))
    assert world.node_ports("b") == []


def test_node_ports_run_out() -> None:
    many = [{"name": f"p{at}", "port": at} for at in range(1, 32_767 - 30_086 + 2)]
    world = World(svc("a", age=1, type="NodePort", ports=many), svc("b", age=2, type="NodePort"))
    assert len(world.node_ports("a")) == len(many)
    assert "no TCP node port is left" in world.waiting["b"].reason
    world.put(svc("a", age=1, type="NodePort", ports=many[1:]))
    assert world.node_ports("b") == [30086]


# ------------------------------------------------------------------------------------------- of two, one


SAME = [
    ({"clusterIP": "172.30.0.9"}, "spec.clusterIP", "172.30.0.9"),
    ({"type": "NodePort", "ports": ports(None, 30500)}, "spec.ports[1].nodePort", "30500/TCP"),
    ({"externalIPs": ["203.0.113.1"]}, "spec.externalIPs[0]", "203.0.113.1:80/TCP"),
    ({"externalIPs": ["2001:db8::1"]}, "spec.externalIPs[0]", "[2001:db8::1]:80/TCP"),
]


@pytest.mark.parametrize(("spec", "path", "value"), SAME, ids=[value for *_, value in SAME])
@pytest.mark.parametrize("first", ["old", "new"])
def test_the_older_one_has_what_both_state(spec: Raw, path: str, value: str, first: str) -> None:
    """In whichever order they come, and the other one as soon as it is free."""
    old, new = svc("z-old", age=1, **spec), svc("a-new", age=2, **spec)
    world = World(*((old,) if first == "old" else (new,)))
    world.put(new if first == "old" else old)
    assert list(world.addresses) == ["z-old"]
    error = world.waiting["a-new"]
    assert (error.path, error.value) == (path, value) and "held by Service shop/z-old" in error.reason
    world.drop("Service", "z-old")
    assert list(world.addresses) == ["a-new"] and not world.waiting


@pytest.mark.parametrize("ages", [{}, {"age": 1}], ids=["of unknown age", "of one age"])
def test_who_is_not_known_to_be_older_takes_nothing_away(ages: Raw) -> None:
    """A tenant must not get another's address by choosing a name."""
    a, b = svc("a", clusterIP="172.30.0.9", **ages), svc("b", clusterIP="172.30.0.9", **ages)
    world = World(b)
    world.put(a)
    assert list(world.addresses) == ["b"] and list(world.waiting) == ["a"]
    assert list(World(b, a).addresses) == ["a"], "of two that come together the first by name"


def test_an_age_that_is_not_stated_is_none() -> None:
    world = World(svc("b", age=2, clusterIP="172.30.0.9"))
    world.put(svc("a", clusterIP="172.30.0.9"))
    assert list(world.addresses) == ["b"]


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "172.30.1.0"}, {"type": "NodePort", "ports": ports(30086)}], ids=["address", "node port"]
)
def test_what_was_given_out_is_not_taken_away(spec: Raw) -> None:
    world = World(svc("z", age=2, type="NodePort"))
    world.put(svc("a", age=1, **spec))
    assert list(world.addresses) == ["z"] and list(world.waiting) == ["a"]


def test_one_address_serves_two_services_on_two_ports() -> None:
    outside = {"externalIPs": ["203.0.113.1"]}
    world = World(svc("a", **outside), svc("b", **outside, ports=[{"port": 81}]))
    world.put(svc("c", **outside, ports=[{"port": 80, "protocol": "UDP"}]))
    assert not world.waiting


def test_an_external_address_may_be_the_load_balancers_of_nobody_else() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    world = World(svc("a", age=1, type="LoadBalancer", status=status), svc("b", age=2, externalIPs=["203.0.113.1"]))
    assert world.waiting["b"].path == "spec.externalIPs[0]"
    assert world.waiting["b"].fix == "choose another address or port"
    world.put(svc("b", age=2))
    world.put(svc("b", age=2, type="LoadBalancer", status=status))
    assert world.waiting["b"].path == "status.loadBalancer.ingress[0].ip"
    assert world.waiting["b"].fix == "choose another port, or have the load balancer give another address"


def test_an_external_address_may_not_be_the_cluster_ip_of_another_on_that_port() -> None:
    world = World(svc("a", clusterIP="172.30.0.9"), svc("b", externalIPs=["172.30.0.9"]))
    assert list(world.waiting) == ["b"]
    world.put(svc("b", externalIPs=["172.30.0.9"], ports=[{"port": 81}]))
    assert not world.waiting


def test_the_address_that_is_given_out_is_reached_by_nobody_else_on_its_ports() -> None:
    world = World(svc("a", age=1, clusterIP="172.30.0.9", externalIPs=["172.30.1.0"]), svc("b", age=2))
    assert world.addresses["b"] == "172.30.1.1"


def test_own_addresses_are_not_in_the_way() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    both = svc(
        "a", type="LoadBalancer", externalIPs=["203.0.113.1", "172.30.0.9"], clusterIP="172.30.0.9", status=status
    )
    assert not World(both).waiting


# ------------------------------------------------------------------------------------------- addresses of nodes


def test_a_port_of_an_address_of_a_node_is_a_node_port_as_well() -> None:
    front = {"externalIPs": ["192.0.2.1"], "ports": [{"port": 30500}]}
    world = World(svc("a", age=1, type="NodePort", ports=ports(30500)), svc("b", age=2, **front))
    assert not world.waiting  # so far it is nobody's address
    world.put(node())
    assert "held by Service shop/a" in world.waiting["b"].reason
    assert world.waiting["b"].path == "spec.externalIPs[0]"
    world.put(node(address="192.0.2.9"))
    assert not world.waiting
    world.put(node())
    world.drop("Node", "node-1", "")
    assert not world.waiting


def test_the_older_one_has_it_there_too() -> None:
    front = {"externalIPs": ["192.0.2.1"], "ports": [{"port": 30500}]}
    world = World(node(), svc("a", age=2, type="NodePort", ports=ports(30500)))
    world.put(svc("b", age=1, **front))
    assert list(world.addresses) == ["b"] and world.waiting["a"].path == "spec.ports[0].nodePort"


def test_a_node_port_is_not_given_out_where_an_external_address_has_it() -> None:
    front = {"externalIPs": ["192.0.2.1", "203.0.113.1"], "ports": [{"port": 30086}]}
    world = World(node(), svc("a", age=1, **front), svc("b", age=2, type="NodePort"))
    assert world.node_ports("b") == [30087]


def test_two_nodes_may_have_one_port_for_two_services() -> None:
    world = World(node(), node("node-2", address="192.0.2.2"))
    world.put(svc("a", externalIPs=["192.0.2.1"]), svc("b", externalIPs=["192.0.2.2"]))
    assert not world.waiting


# ------------------------------------------------------------------------------------------- one after the other


def test_who_makes_room_lets_others_in_at_once() -> None:
    """a takes the address of b; what b held beside it is free for c in the same step."""
    world = World(
        svc("b", age=2, clusterIP="172.30.0.9", externalIPs=["203.0.113.1"]),
        svc("c", age=3, externalIPs=["203.0.113.1"]),
    )
    assert list(world.waiting) == ["c"]
    world.put(svc("a", age=1, clusterIP="172.30.0.9"))
    assert sorted(world.addresses) == ["a", "c"] and list(world.waiting) == ["b"]


def test_who_makes_room_lets_in_who_was_asked_before() -> None:
    """b, asked last, is the one that goes for a; the oldest wants what b was given."""
    world = World(svc("b", age=3, type="NodePort", ports=ports(30500)))
    world.put(svc("oldest", age=1, clusterIP="172.30.1.0"))
    assert list(world.waiting) == ["oldest"]
    world.put(svc("a", age=2, type="NodePort", ports=ports(30500)))
    assert world.addresses == {"oldest": "172.30.1.0", "a": "172.30.1.1"} and list(world.waiting) == ["b"]


def test_who_states_another_address_now_has_let_go_of_the_old_one() -> None:
    world = World(svc("b", age=2))  # was given 172.30.1.0
    world.put(svc("a", age=1, clusterIP="172.30.1.0"), svc("b", age=2, clusterIP="172.30.0.9"))
    assert world.addresses == {"a": "172.30.1.0", "b": "172.30.0.9"} and not world.waiting


def test_two_that_change_places_do_so_in_one_step() -> None:
    world = World(svc("a", age=1, clusterIP="172.30.0.8"), svc("b", age=2, clusterIP="172.30.0.9"))
    world.put(svc("a", age=1, clusterIP="172.30.0.9"), svc("b", age=2, clusterIP="172.30.0.8"))
    assert world.addresses == {"a": "172.30.0.9", "b": "172.30.0.8"} and not world.waiting


def test_who_lets_go_in_the_same_step_is_not_in_the_way() -> None:
    world = World(svc("b", age=2))  # was given 172.30.1.0
    world.put(svc("a", age=1, clusterIP="172.30.1.0"), svc("b", age=2, clusterIP="None"))
    assert world.addresses == {"a": "172.30.1.0"} and not world.waiting


# ------------------------------------------------------------------------------------------- records


def test_what_is_recorded_is_kept_after_a_restart() -> None:
    world = World(svc("z", age=2, type="NodePort"), svc("y", age=1))
    world.drop("Service", "y")
    before = world.cluster.decisions
    again = World(svc("z", age=2, type="NodePort"), svc("a", age=1), decisions=before)
    assert again.addresses == {"z": "172.30.1.1", "a": "172.30.1.0"}
    assert again.cluster.decisions.services["shop/z"] == before.services["shop/z"]


def test_a_record_does_not_make_the_younger_one_the_owner() -> None:
    young = svc("z", age=2, clusterIP="172.30.0.9")
    before = World(young).cluster.decisions
    assert list(World(young, svc("a", age=1, clusterIP="172.30.0.9"), decisions=before).addresses) == ["a"]


def test_a_refused_service_keeps_what_it_has() -> None:
    world = World(svc("z"), svc("y"))
    decided = world.cluster.decisions
    loaded = parse_objects([network(WIDE), svc("a"), svc("z", ports=[])])
    again = Cluster(decisions=decided, check=True)
    again.replace(loaded)
    assert again.decisions.services["shop/z"] == decided.services["shop/z"]
    assert "shop/y" not in again.decisions.services
    assert again.get(ObjectRef("Service", "shop", "z")) is not None


def test_an_unknown_refused_service_blocks_nobody_for_ever() -> None:
    world = World(svc("z", clusterIP="172.30.0.9"))
    record = Decisions(services=world.cluster.decisions.services)  # without the accepted version
    again = Cluster(decisions=record, check=True)
    again.apply(
        parse_objects([network(WIDE), svc("a", clusterIP="172.30.0.9")]).items,
        refused=parse_objects([svc("z", ports=[])]).refused,
    )
    assert [error.name for error in again.errors if "held by" in error.reason] == ["shop/a"]
    again.apply((), (ObjectRef("Service", "shop", "z"),))
    assert list(again.decisions.services) == ["shop/a"]


def test_a_copy_decides_alike() -> None:
    world = World(svc("a", type="NodePort"), svc("b", clusterIP="172.30.1.0"))
    assert world.cluster.copy().decisions == world.cluster.decisions
    assert [str(error) for error in world.cluster.copy().errors] == [str(error) for error in world.cluster.errors]
