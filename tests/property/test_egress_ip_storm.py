"""A failover storm, replayed commit by commit: 200 objects on 20 nodes, of which one after the other is lost.

Rows are read as a gateway's translations (NAT), so what is checked is what OVN would do after each commit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from ovnk_core.cluster import Applied, Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from ovnk_core.nb.desired import DESIRED, MEMBER
from tests.kit.questions import scaled
from tests.kit.random_policy import Manifest

OBJECTS, NODES, LOSSES = 200, 20, 100
POD_ROWS, PER_MOVE = 4, 8
"""A pod's own rows, and rows and references that one address on another node costs: its translation and its way there,
taken away and made again, and what is recorded of it."""


def manifests() -> Iterator[Manifest]:
    for at in range(NODES):
        meta = {"name": f"n{at:02}", "labels": {ASSIGNABLE_LABEL: ""}}
        addresses = [{"type": "InternalIP", "address": f"10.9.0.{at + 1}"}]
        notes = {"k8s.ovn.org/node-primary-ifaddr": f'{{"ipv4":"10.9.0.{at + 1}/16"}}'}
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": meta | {"annotations": notes},
            "status": {"addresses": addresses},
        }
    for at in range(OBJECTS):
        name = f"team-{at}"
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": str(at)}}}
        spec: dict[str, Any] = {"nodeName": f"n{at % NODES:02}", "containers": [{"name": "c"}]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": name}, "spec": spec}
        chosen = {"matchLabels": {"team": str(at)}}
        yield {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressIP",
            "metadata": {"name": name},
            "spec": {"egressIPs": [f"10.9.{1 + at // 100}.{at % 100 + 1}"], "namespaceSelector": chosen},
        }


def owners(cluster: Cluster) -> dict[str, set[str]]:
    """Egress IP -> gateway routers that translate to it, as the desired northbound has it."""
    nats, found = cluster.engine.rows(DESIRED["NAT"]), dict[str, set[str]]()
    for column, elements in cluster.engine.sets(MEMBER).items():
        if column.row.table != "Logical_Router" or column.column != "nat":
            continue
        for row_id in elements:
            address = nats[row_id].external_ip
            if not address.startswith("10.9.0."):
                found.setdefault(address, set()).add(str(column.row))
    return found


def touched(applied: Applied) -> int:
    """Rows written, and elements of their sets."""
    rows = sum(len(applied.delta.rows(table)) for table in DESIRED.values())
    return rows + sum(len(came) + len(went) for came, went in applied.delta.sets(MEMBER).values())


def test_no_commit_of_a_storm_has_an_address_on_two_gateways() -> None:
    rng, cluster = random.Random(6), Cluster()
    cluster.replace(parse_objects(manifests()))
    before = owners(cluster)
    assert len(before) == OBJECTS
    lost: list[str] = []
    for loss in range(scaled(LOSSES)):
        alive = sorted(set(cluster.egress_loads))
        name = rng.choice(alive)
        moved = cluster.egress_loads[name]
        steps = [cluster.report({name: NodeHealth(is_reachable=False)})]
        lost.append(name)
        for commit in ("withdrawal", "assignment"):
            now = owners(cluster)
            assert all(len(gateways) == 1 for gateways in now.values()), f"loss {loss}, {commit}"
            assert all(now[each] == before[each] for each in now.keys() & before.keys()), f"loss {loss}, {commit}"
            assert len(now) == OBJECTS - (moved if commit == "withdrawal" else 0)
            before = now
            if commit == "withdrawal":
                steps.append(cluster.withdrawn(cluster.leaving))
        assert sum(map(touched, steps)) <= PER_MOVE * moved + POD_ROWS, (
            f"loss {loss}: {list(map(touched, steps))}, {moved} moved"
        )
        if len(lost) > NODES // 2:
            cluster.report({lost.pop(0): NodeHealth()})
