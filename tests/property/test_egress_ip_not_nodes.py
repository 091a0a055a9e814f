"""The sets that keep an egress IP from packets to nodes, along walks of edits: which translations name them, and what
they hold, by brute force.
"""

from __future__ import annotations

from collections import Counter

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.model.tables import NODE
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ADDRESS_SETS, MEMBER, NATS
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.terms.address import BITS, Cidr, Family, parse_address, parse_cidr
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import host_addresses
from tests.kit.egress_ips import EgressIPs
from tests.kit.questions import cluster_of, load, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster


def _sets(cluster: Cluster) -> dict[str, RowId]:
    """Sets of everything but nodes' addresses, by uuid."""
    rows = cluster.engine.rows(ADDRESS_SETS)
    return {row.uuid: row for row in rows if row.role.startswith("not-node-ips/")}


def _blocks(cluster: Cluster, row: RowId) -> list[Cidr]:
    members = (str(each) for each in cluster.engine.members(MEMBER, ColumnId(row, "addresses")))
    return sorted(parse_cidr(each)[0] if "/" in each else parse_address(each).host for each in members)


def _check(cluster: Cluster) -> Counter[str]:
    engine, sets, named = cluster.engine, _sets(cluster), set[str]()
    seen = Counter[str]()
    for row_id, nat in engine.rows(NATS).items():
        if row_id.owner.kind != "EgressIP":
            assert nat.allowed_ext_ips is None
            continue
        _, namespace, name, *_ = row_id.role.split("/")
        own = naming.gateway_router_row(engine.rows(ENDPOINT)[NamespacedName(namespace, name)].node)
        is_own = row_id in engine.members(MEMBER, ColumnId(own, "nat"))
        assert (nat.allowed_ext_ips in sets) is is_own, row_id
        seen["own" if is_own else "other"] += 1
        named |= {nat.allowed_ext_ips} if nat.allowed_ext_ips is not None else set()
    assert named == sets.keys(), "a set that no translation names, or the other way round"
    for row in sets.values():
        family: Family = 6 if row.role.endswith("v6") else 4
        nodes = {each for node in engine.rows(NODE).values() for each in host_addresses(node, cluster.network)}
        nodes = {each for each in nodes if each.family == family}
        blocks = _blocks(cluster, row)
        assert not any(block.contains(address) for block in blocks for address in nodes)
        assert sum(block.size for block in blocks) + len(nodes) == 1 << BITS[family]
        seen["sets"] += 1
    return seen


@pytest.mark.parametrize("seed", range(2600, 2600 + scaled(9)))
def test_only_translations_on_the_own_node_name_the_set_of_all_others(seed: int) -> None:
    """Over losses of nodes, moves towards a pod's own node and away from it, and edits of everything."""
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 20), policies=(0, 2))
    cluster = cluster_of(made.manifests())
    egress_ips = EgressIPs(cluster, made.of_kind("Node"), seed)
    seen = Counter[str]()
    for _ in egress_ips.fail_over():
        seen += _check(cluster)
    for _ in range(40):
        edit = made.mutate()
        cluster.apply(load(edit.put).items, edit.delete)
        egress_ips.program()
        seen += _check(cluster)
    cluster.engine.verify()


def test_the_walks_meet_both_kinds() -> None:
    seen = Counter[str]()
    for seed in range(2600, 2606):
        made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 20), policies=(0, 2))
        cluster = cluster_of(made.manifests())
        for _ in EgressIPs(cluster, made.of_kind("Node"), seed).fail_over():
            seen += _check(cluster)
    assert min(seen["own"], seen["other"]) > 50 and seen["sets"] > 10, seen
