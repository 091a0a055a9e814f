"""Laws of what Services are given, where many of them want the same few addresses and ports.

No front is two Services' (checked by hand, front by front), whoever waits has a reason, a restart with the
record decides nothing anew, and where everything is stated the order in which it came does not matter.
"""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import ServiceDecision
from ovnk_core.model.service import Service
from ovnk_core.model.tables import NODE, SERVICE, SERVICE_DECISION
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import host_addresses
from tests.kit.questions import scaled
from tests.kit.random_cluster import Edit, RandomCluster, split, squash

Front = tuple[str, int, Address]
"""Protocol, port and address, node ports on every address of every node."""


def fronts(service: Service, decision: ServiceDecision, hosts: set[Address]) -> set[Front]:
    reached = {*decision.cluster_ips, *service.external_ips, *service.load_balancer_ips}
    found: set[Front] = {(port.protocol, port.port, address) for port in service.ports for address in reached}
    return found | {(each.protocol, each.node_port, address) for each in decision.node_ports for address in hosts}


def assert_sound(cluster: Cluster, note: str) -> int:
    """How many wait."""
    services, decided = cluster.engine.rows(SERVICE), cluster.engine.rows(SERVICE_DECISION)
    # An address nobody has, because node ports clash without any node, too.
    hosts = {Address(4, 1)}
    hosts |= {each for node in cluster.engine.rows(NODE).values() for each in host_addresses(node, cluster.network)}
    taken = {key: fronts(services[key], decision, hosts) for key, decision in decided.items()}
    for one, other in combinations(taken, 2):
        assert not taken[one] & taken[other], f"{note}: {one} and {other}"
        assert not {*decided[one].cluster_ips} & {*decided[other].cluster_ips}, f"{note}: {one} and {other}"
    for key, service in services.items():
        assert (key in decided) != (service.is_served is False or _waits(cluster, key)), f"{note}: {key}"
    for key, decision in decided.items():
        assert set(services[key].cluster_ips) <= set(decision.cluster_ips), f"{note}: {key}"
        said = {(port.protocol, port.port): port.node_port for port in services[key].ports if port.node_port}
        given = {(each.protocol, each.port): each.node_port for each in decision.node_ports}
        assert said.items() <= given.items(), f"{note}: {key}"
        if services[key].has_node_ports:
            assert len(given) == len(services[key].ports), f"{note}: {key}"
    waiting = [key for key in services if _waits(cluster, key)]
    for key in waiting:
        assert _has_reason(cluster, services[key], taken, hosts), f"{note}: {key} waits for nothing"
    return len(waiting)


def _waits(cluster: Cluster, key: NamespacedName) -> bool:
    return any(error.kind == "Service" and error.name == str(key) for error in cluster.errors)


def _has_reason(
    cluster: Cluster, service: Service, taken: dict[NamespacedName, set[Front]], hosts: set[Address]
) -> bool:
    ranges = cluster.network.service
    if any(not any(block.contains(each) for block in ranges) for each in service.cluster_ips):
        return True
    if not set(service.families) <= {block.family for block in ranges}:
        return True
    decided = cluster.engine.rows(SERVICE_DECISION)
    if {each for key in taken for each in decided[key].cluster_ips} & set(service.cluster_ips):
        return True
    reached = {*service.cluster_ips, *service.external_ips, *service.load_balancer_ips}
    wanted: set[Front] = {(port.protocol, port.port, address) for port in service.ports for address in reached}
    wanted |= {(port.protocol, port.node_port, host) for port in service.ports if port.node_port for host in hosts}
    return any(wanted & held for held in taken.values())


def crowd(seed: int, *, is_pinned: bool = False) -> RandomCluster:
    return RandomCluster(seed, pods=(0, 2), policies=(0, 0), services=(12, 25), is_pinned=is_pinned)


def carry(cluster: Cluster, edit: Edit) -> None:
    loaded = parse_objects(edit.put)
    cluster.apply(loaded.items, edit.delete, loaded.refused)


@pytest.mark.parametrize("seed", range(900, 900 + scaled(8)))
def test_no_front_is_two_services_and_nobody_waits_for_nothing(seed: int) -> None:
    made, cluster, waited = crowd(seed), Cluster(), 0
    cluster.replace(parse_objects(made.manifests()))
    for step in range(80):
        waited += assert_sound(cluster, f"seed {seed}, step {step}")
        carry(cluster, made.reconfigure() if step % 37 == 36 else made.mutate())
    assert waited, f"seed {seed}: nobody ever waited"
    again = Cluster(decisions=cluster.decisions)
    again.replace(parse_objects(made.manifests()))
    assert again.decisions == cluster.decisions, f"seed {seed}"
    assert again.problems.keys() == cluster.problems.keys(), f"seed {seed}"


@pytest.mark.parametrize("seed", range(920, 920 + scaled(8)))
def test_who_has_what_all_state_does_not_depend_on_the_order(seed: int) -> None:
    made = crowd(seed, is_pinned=True)
    edits = [Edit(put=tuple(made.manifests())), *(made.mutate() for _ in range(60))]
    together, one_by_one = Cluster(), Cluster()
    together.replace(parse_objects(squash(edits).put))
    steps = list(split(squash(edits)))
    random.Random(seed).shuffle(steps)
    for step in steps:
        carry(one_by_one, step)
        assert_sound(one_by_one, f"seed {seed}")
    assert one_by_one.decisions.services == together.decisions.services, f"seed {seed}"
    assert one_by_one.problems.keys() == together.problems.keys(), f"seed {seed}"
