"""Laws of egress IP assignments over random histories: labels, readiness, health, objects, confirmations, restarts.

The invariants are checked here by hand from objects and decisions, without the allocator's own books; what a northbound
may still hold is followed in a book of the test's own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, EgressIP, EgressIPDecision, NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION, NODE, NODE_HEALTH
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.topology.place import Settings
from tests.kit.questions import scaled
from tests.kit.random_policy import Manifest

STEPS = 10_000
NODES = tuple(f"n{at}" for at in range(6))
WIDE, NARROW = "192.0.0", "192.0.2"
"""Every third node has a narrower subnet than the others."""
Decided = Mapping[NamespacedName, EgressIPDecision]


class History:
    """Random manifests and reports over one cluster, and which node the northbound may still show an address on."""

    def __init__(self, seed: int, *, check: bool = False, rebalances: bool = False) -> None:
        self.rng, self.check = random.Random(seed), check
        self.settings = Settings(rebalances_egress_ips=rebalances)
        self.cluster = Cluster(check=check, settings=self.settings)
        self.objects: dict[ObjectRef, Manifest] = {}
        self.shown: dict[Address, str] = {}
        self.changed: ObjectRef | None = None
        self.seen = Counter[str]()

    def node(self, name: str) -> Manifest:
        rng, number = self.rng, NODES.index(name)
        labels = {ASSIGNABLE_LABEL: ""} if rng.random() < 0.8 else {}
        ready = {"type": "Ready", "status": "True" if rng.random() < 0.85 else "False"}
        prefix = 26 if number % 3 == 2 else 24
        notes = {"k8s.ovn.org/node-primary-ifaddr": f'{{"ipv4":"192.0.2.{number + 1}/{prefix}"}}'}
        meta = {"name": name, "labels": labels, "annotations": notes}
        addresses = [{"type": "InternalIP", "address": f"192.0.2.{number + 1}"}]
        if rng.random() < 0.1:
            addresses.append({"type": "ExternalIP", "address": f"192.0.2.{rng.choice((50, 60, 110))}"})
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": meta,
            "status": {"addresses": addresses, "conditions": [ready]},
        }

    def egress_ip(self, name: str) -> Manifest:
        rng = self.rng
        pool = [f"192.0.2.{number}" for number in (*range(50, 62), *range(100, 112), 2, 200)]
        meta: Manifest = {"name": name}
        if rng.random() < 0.6:
            meta["creationTimestamp"] = f"2024-01-0{rng.randint(1, 5)}T00:00:00Z"
        spec = {"egressIPs": rng.sample(pool, rng.choice((1, 1, 1, 2, 3))), "namespaceSelector": {}}
        return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": meta, "spec": spec}

    def step(self) -> str:
        """One random event; its name."""
        rng, kind, self.changed = self.rng, self.rng.random(), None
        if kind < 0.22:
            self.apply(self.node(rng.choice(NODES)))
            return "node"
        if kind < 0.27:
            return self.drop("Node")
        if kind < 0.47:
            health = NodeHealth(is_reachable=rng.random() < 0.6, is_drained=rng.random() < 0.2)
            self.cluster.report({rng.choice(NODES): health})
            return "health"
        if kind < 0.67:
            self.apply(self.egress_ip(f"e{rng.randrange(10)}"))
            return "object"
        if kind < 0.72:
            return self.drop("EgressIP")
        if kind < 0.74:
            self.restart()
            return "restart"
        if kind < 0.76:
            self.cluster.rebalance()
            return "rebalance"
        self.program()
        return "program"

    def apply(self, manifest: Manifest) -> None:
        loaded = parse_objects([manifest])
        assert not loaded.refused
        self.changed = loaded.items[0].ref
        self.objects[self.changed] = manifest
        self.cluster.apply(loaded.items)

    def drop(self, kind: str) -> str:
        refs = sorted(ref for ref in self.objects if ref.kind == kind)
        if refs:
            ref = self.rng.choice(refs)
            del self.objects[ref]
            self.changed = ref
            self.cluster.apply((), (ref,))
        return f"drop {kind}"

    def program(self) -> None:
        """A commit: what the northbound shows is what is assigned, and withdrawals are confirmed."""
        before = dict(self.shown)
        self.commit()
        leaving = self.cluster.leaving
        self.cluster.withdrawn(leaving)
        for address, node in placed(self.decided):
            assert before.get(address, node) == node or address not in self.shown or self.shown[address] == node
        self.commit()

    def commit(self) -> None:
        """No commit may move an address: it goes in one and comes in a later one."""
        now = dict(placed(self.decided))
        for address, node in now.items():
            assert self.shown.get(address, node) == node, f"{address} is on {self.shown[address]} and {node} at once"
        self.shown = now

    def restart(self) -> None:
        """From the record alone nothing is decided anew."""
        again = Cluster(check=self.check, settings=self.settings, decisions=self.cluster.decisions)
        again.replace(parse_objects(self.objects.values()))
        assert again.decisions == self.cluster.decisions
        self.cluster = again

    @property
    def decided(self) -> Decided:
        return self.cluster.engine.rows(EGRESS_IP_DECISION)


def placed(decided: Decided) -> list[tuple[Address, str]]:
    return [(each.address, each.node) for decision in decided.values() for each in decision.assignments]


def subnet_holds(node: Node, address: Address) -> bool:
    return any(each.subnet.contains(address) for each in node.primary)


def may_hold(cluster: Cluster, name: str) -> bool:
    node = cluster.engine.rows(NODE).get(NamespacedName("", name))
    health = cluster.engine.rows(NODE_HEALTH).get(NamespacedName("", name), NodeHealth())
    is_labelled = node is not None and ASSIGNABLE_LABEL in dict(node.labels)
    return node is not None and is_labelled and node.is_ready and health.is_reachable and not health.is_drained


def assert_sound(cluster: Cluster, seen: Counter[str]) -> None:
    """Every invariant of one moment."""
    objects: Mapping[NamespacedName, EgressIP] = cluster.engine.rows(EGRESS_IP)
    nodes, decided = cluster.engine.rows(NODE), cluster.engine.rows(EGRESS_IP_DECISION)
    hosts = {each for node in nodes.values() for each in (*node.internal, *node.external)}
    everywhere = placed(decided)
    assert len({address for address, _ in everywhere}) == len(everywhere), "an address is on two nodes"
    leaving = {each.address for decision in decided.values() for each in decision.leaving}
    assert not leaving & {address for address, _ in everywhere}, "an address is placed that may still be elsewhere"
    usable = [name for name in NODES if may_hold(cluster, name)]
    assert cluster.egress_loads == {name: [node for _, node in everywhere].count(name) for name in usable}
    for key, decision in decided.items():
        item = objects.get(key)
        if item is None:
            assert decision.leaving and not decision.assignments and not decision.unassigned
            continue
        told = [*(each.address for each in decision.assignments), *(each.address for each in decision.unassigned)]
        assert sorted(told) == sorted(item.addresses), "an address is forgotten, or told twice"
        on = [each.node for each in decision.assignments]
        assert len(set(on)) == len(on), "a node holds two addresses of one object"
        for each in decision.assignments:
            assert each.node in usable, "a node holds one that may not"
            assert subnet_holds(nodes[NamespacedName("", each.node)], each.address)
            assert each.address not in hosts
        for missing in decision.unassigned:
            seen[missing.reason] += 1
            free = [
                name
                for name in usable
                if name not in on and subnet_holds(nodes[NamespacedName("", name)], missing.address)
            ]
            if missing.reason in ("NoNode", "Subnet", "Capacity"):
                assert not free, f"{missing} has room on {free}"
            if missing.reason == "Moving":
                assert missing.address in leaving
    assert decided.keys() >= objects.keys()


def spread(cluster: Cluster) -> int:
    loads = cluster.egress_loads.values()
    return max(loads, default=0) - min(loads, default=0)


@pytest.mark.parametrize("rebalances", [False, True], ids=["sticky", "automatic"])
def test_the_invariants_hold_over_a_long_history(rebalances: bool) -> None:
    history = History(7, rebalances=rebalances)
    for step in range(scaled(STEPS)):
        before = {(key, each) for key, decision in history.decided.items() for each in decision.assignments}
        objects = dict(history.cluster.engine.rows(EGRESS_IP))
        event = history.step()
        try:
            assert_sound(history.cluster, history.seen)
        except AssertionError as error:
            raise AssertionError(f"step {step} ({event}): {error}") from error
        now = {(key, each) for key, decision in history.decided.items() for each in decision.assignments}
        if not rebalances and event != "rebalance":
            for key, each in before - now:
                is_lost = not may_hold(history.cluster, each.node) or event == "node"
                has_changed = history.changed == ObjectRef("EgressIP", "", key.name)
                assert is_lost or has_changed, f"step {step} ({event}): {key} lost {each} without need"
        if event in ("health", "node", "drop Node", "program") and not rebalances:
            assert dict(history.cluster.engine.rows(EGRESS_IP)) == objects
    assert set(history.seen) == {"NoNode", "Conflict", "Capacity", "Subnet", "Moving"}


@pytest.mark.parametrize("seed", range(40, 40 + scaled(3)))
def test_the_same_in_check_mode(seed: int) -> None:
    history = History(seed, check=True)
    for step in range(150):
        history.step()
        assert_sound(history.cluster, history.seen)
        if step % 25 == 24:
            history.cluster.engine.verify()


@pytest.mark.parametrize("is_automatic", [False, True])
def test_loads_differ_by_one_at_most_after_a_first_placement_and_a_rebalance(is_automatic: bool) -> None:
    for seed in range(scaled(30)):
        rng = random.Random(seed)
        cluster = Cluster(settings=Settings(rebalances_egress_ips=is_automatic))

        def node(number: int, *, is_labelled: bool) -> Manifest:
            meta = {"name": f"n{number}", "labels": {ASSIGNABLE_LABEL: ""} if is_labelled else {}}
            addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
            return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": addresses}}

        count = rng.randint(1, 6)
        first = [node(number, is_labelled=number <= rng.randint(1, count)) for number in range(1, count + 1)]
        made = []
        free = list(range(50, 250))
        for at in range(rng.randint(1, 30)):
            spec = {
                "egressIPs": [f"192.0.2.{free.pop()}" for _ in range(rng.randint(1, 3))],
                "namespaceSelector": {},
            }
            made.append(
                {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": f"e{at}"}, "spec": spec}
            )
        cluster.apply(parse_objects([*first, *made]).items)
        assert spread(cluster) <= 1, seed
        cluster.apply(parse_objects([node(number, is_labelled=True) for number in range(1, count + 1)]).items)
        if not is_automatic:
            cluster.rebalance()
        cluster.withdrawn(cluster.leaving)
        assert spread(cluster) <= 1 and not cluster.leaving, seed
        cluster.rebalance()
        assert not cluster.leaving, f"{seed}: a second rebalance moves something"
