"""Incrementality as counters: how often which rule runs for one edit, and what comes out. Not a clock in sight."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.engine.transaction import Delta
from ovnk_core.indexes.selection import SELECTED
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, DESIRED, MEMBER
from ovnk_core.terms.name import ObjectRef

Work = dict[str, int]
Manifest = dict[str, Any]


def node(name: str, address: str) -> Manifest:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def namespace(name: str, **labels: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(name: str, where: str = "shop", *, port: int = 8080, **labels: str) -> Manifest:
    containers = [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]
    metadata = {"name": name, "namespace": where, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": containers},
    }


def policy(name: str, subject: Manifest, *ingress: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "shop"}
    spec = {"podSelector": subject, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def app(name: str) -> Manifest:
    return {"matchLabels": {"app": name}}


def from_pods(selector: Manifest, *ports: Manifest) -> Manifest:
    return {"from": [{"podSelector": selector}], **({"ports": list(ports)} if ports else {})}


WEB = policy("web", app("web"), from_pods(app("edge"), {"port": 80}), from_pods(app("ops"), {"port": 81}))
NAMED = policy("named", app("db"), from_pods(app("web"), {"port": "http"}))
TEAM = policy("team", app("api"), {"from": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}]})
CLUSTER = [
    node("n1", "192.0.2.1"),
    namespace("shop", team="blue"),
    namespace("other", team="red"),
    *(pod(f"{name}-{number}", app=name) for name in ("web", "edge", "ops", "db", "api") for number in range(4)),
    *(pod(f"guest-{number}", "other", app="guest") for number in range(4)),
    WEB,
    NAMED,
    TEAM,
]


class Bench:
    """A loaded cluster that tells what an edit made it do."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        loaded = parse_objects(CLUSTER)
        assert not loaded.refused
        self.cluster.apply(loaded.items)

    def put(self, *manifests: Manifest) -> tuple[Work, Delta]:
        loaded = parse_objects(manifests)
        assert not loaded.refused
        return self._count(lambda: self.cluster.apply(loaded.items).delta)

    def delete(self, *refs: ObjectRef) -> tuple[Work, Delta]:
        return self._count(lambda: self.cluster.apply((), refs).delta)

    def _count(self, edit: Any) -> tuple[Work, Delta]:
        before = self.cluster.engine.stats()
        delta = edit()
        after = self.cluster.engine.stats()
        work = {name: stat["runs"] - before[name]["runs"] for name, stat in after.items()}
        self.cluster.engine.verify()
        return {name.rsplit(".", 1)[1]: runs for name, runs in work.items() if runs}, delta


@pytest.fixture
def bench() -> Bench:
    return Bench()


RELABELLED = {"endpoint": 1, "snooping_node": 1, "pod_port": 1, "selection": 1, "members": 1, "port_numbers": 1}
"""What any label change runs: two rules once, one step each of three relations; no ACL. The pod's port is touched
because the accepted version is recorded on it."""
NAMESPACE_READ = {"acl_logging": 1, "multicast_namespace": 1, "namespace_record": 1}
RECORD = 1
"""Rows a label change rewrites: the pod's own port."""


def members(delta: Delta) -> dict[str, tuple[int, int]]:
    """Owner and column of every set that changed -> elements won and lost."""
    found: dict[str, tuple[int, int]] = {}
    for column, (appeared, vanished) in delta.sets(MEMBER).items():
        owner = column.row.owner
        name = f"{owner.kind} {owner.name}" if owner.kind != "PodSelector" else owner.kind
        won, lost = found.get(f"{name} {column.column}", (0, 0))
        found[f"{name} {column.column}"] = (won + len(appeared), lost + len(vanished))
    return found


def rows_changed(delta: Delta) -> int:
    return sum(len(delta.rows(table)) for table in DESIRED.values())


def test_the_same_again_runs_nothing(bench: Bench) -> None:
    work, delta = bench.put(*CLUSTER)
    assert not work
    assert not delta
    assert not delta.compared


def test_a_label_change_moves_exactly_the_members_it_must(bench: Bench) -> None:
    """``edge`` to ``ops``: out of one peer set, into the other; neither is a subject."""
    work, delta = bench.put(pod("edge-0", app="ops"))
    assert work == RELABELLED
    assert members(delta) == {"PodSelector addresses": (1, 1)}
    assert rows_changed(delta) == RECORD


def test_a_label_change_of_a_subject_moves_ports_too(bench: Bench) -> None:
    """``web`` to ``edge``: no longer subject of ``web``, isolated, or peer of ``named``; now a peer of ``web``."""
    work, delta = bench.put(pod("web-0", app="edge"))
    assert work == RELABELLED
    assert members(delta) == {
        "NetworkPolicy web ports": (0, 1),
        "Namespace shop ports": (0, 1),
        "PodSelector addresses": (1, 1),
    }
    assert rows_changed(delta) == RECORD


def test_a_label_nobody_asks_for_moves_nothing(bench: Bench) -> None:
    work, delta = bench.put(pod("web-0", app="web", colour="green"))
    assert work == RELABELLED
    assert not delta.sets(MEMBER)
    assert rows_changed(delta) == RECORD
    assert delta.compared == 3, "the pod, its endpoint and its port"


def test_a_label_change_does_not_depend_on_the_size_of_the_cluster(bench: Bench) -> None:
    _, small = bench.put(pod("edge-0", app="ops"))
    bench.put(*(pod(f"more-{number}", app=("edge", "ops", "web")[number % 3]) for number in range(150)))
    bench.put(*(policy(f"more-{number}", app(f"x-{number}"), from_pods(app(f"y-{number}"))) for number in range(50)))
    work, large = bench.put(pod("edge-1", app="ops"))
    assert work == RELABELLED
    assert large.compared == small.compared
    assert members(large) == members(small)


def test_a_port_edit_runs_one_rule_of_one_policy(bench: Bench) -> None:
    edited = policy("web", app("web"), from_pods(app("edge"), {"port": 8443}), from_pods(app("ops"), {"port": 81}))
    work, delta = bench.put(edited)
    assert work == {"policy": 1, "rule_acls": 1}
    assert [key.owner.name for key in delta.rows(ACLS)] == ["web"]
    assert not delta.sets(MEMBER)


def test_a_new_policy_with_new_selectors_touches_no_other(bench: Bench) -> None:
    work, delta = bench.put(policy("late", app("guest"), from_pods(app("late"))))
    assert work == {"policy": 1, "rule_acls": 1, "peer_address_set": 1, "selection": 1, "members": 1}
    assert {key.owner.name for key in delta.rows(ACLS)} == {"late"}


def test_a_known_selector_is_not_asked_again(bench: Bench) -> None:
    """Its pods are known: the index notes who asks, and the peer's address set is the one that is there."""
    work, delta = bench.put(policy("late", app("web"), from_pods(app("edge"))))
    assert work == {"policy": 1, "rule_acls": 1, "selection": 1, "members": 1}
    assert not delta.sets(SELECTED)
    assert not delta.rows(ADDRESS_SETS)


def test_a_namespace_label_change_runs_no_acl(bench: Bench) -> None:
    """``other`` leaves team red: its four pods leave the one set that looked for the team."""
    work, delta = bench.put(namespace("other", team="blue"))
    assert work == NAMESPACE_READ | {"selection": 1, "members": 1, "port_numbers": 1}
    assert members(delta) == {"PodSelector addresses": (0, 4)}
    assert not rows_changed(delta)


def test_logging_of_a_namespace_rewrites_its_acls_alone(bench: Bench) -> None:
    bench.put(
        {**policy("far", app("guest"), from_pods(app("guest"))), "metadata": {"name": "far", "namespace": "other"}}
    )
    logged = namespace("shop", team="blue")
    logged["metadata"]["annotations"] = {"k8s.ovn.org/acl-logging": '{"deny":"info","allow":"notice"}'}
    work, delta = bench.put(logged)
    # One step of each relation that reads namespaces, one run per rule of the namespace's policies.
    expected = NAMESPACE_READ | {"isolation": 1, "rule_acls": 4, "selection": 1, "compile": 1}
    assert work == expected
    assert {key.owner.name for key in delta.rows(ACLS)} == {"shop", "web", "named", "team"}
    assert not delta.sets(MEMBER)


def test_a_new_pod_is_one_port_and_its_memberships(bench: Bench) -> None:
    work, delta = bench.put(pod("web-9", app="web"))
    assert work == RELABELLED | {"pod_told": 1}
    assert rows_changed(delta) == 1
    assert members(delta) == {
        "Node n1 ports": (1, 0),
        "NetworkPolicy web ports": (1, 0),
        "Namespace shop ports": (1, 0),
        "PodSelector addresses": (1, 0),
    }
    work, back = bench.delete(ObjectRef("Pod", "shop", "web-9"))
    assert "rule_acls" not in work
    assert members(back) == {name: (lost, won) for name, (won, lost) in members(delta).items()}


def test_a_named_port_adds_an_acl_only_for_a_new_number(bench: Bench) -> None:
    """Another pod with a known number is a member; the first pod with a new number is a new ACL."""
    work, delta = bench.put(pod("db-8", app="db", port=8080))
    assert "rule_acls" not in work
    assert not delta.rows(ACLS)
    work, delta = bench.put(pod("db-9", app="db", port=9999))
    assert work["rule_acls"] == 1
    assert len(delta.rows(ACLS)) == 1


def test_rebuild_runs_everything_and_changes_nothing(bench: Bench) -> None:
    engine = bench.cluster.engine
    before = engine.stats()["indexes.endpoint.endpoint"]["runs"]
    assert not engine.rebuild()
    assert engine.stats()["indexes.endpoint.endpoint"]["runs"] - before == len(bench.cluster.objects("Pod"))
