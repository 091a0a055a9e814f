"""Our logical flows are northd's: same datapath, stage, priority and match, for every stage we claim.

The one normalisation: both sides are read into the match tree, so spacing and redundant parentheses do not count.
"""

from __future__ import annotations

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.match import text
from tests.kit.oracle import FlowRow, Laboratory, our_flows
from tests.kit.questions import cluster_of, load, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster

pytestmark = pytest.mark.ovn


@pytest.mark.parametrize("seed", range(2000, 2000 + scaled(12)))
def test_same_flows(laboratory: Laboratory, seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3])
    cluster = cluster_of(made.manifests())
    laboratory.show(cluster, states=())
    differences = _differences(cluster, FlowTable(cluster.engine), laboratory)
    assert not differences, f"seed {seed}, {made.families}:\n" + "\n".join(differences[:20])


@pytest.mark.parametrize("seed", range(2100, 2100 + scaled(2)))
def test_same_flows_along_a_walk(laboratory: Laboratory, seed: int) -> None:
    """The flow table follows deltas, the northbound follows reconciles; they meet after every burst of edits."""
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 25), policies=(2, 12))
    cluster = cluster_of(made.manifests())
    table = FlowTable(cluster.engine)
    for burst in range(5):
        for _ in range(6):
            edit = made.mutate()
            table.advance(cluster.apply(load(edit.put).items, edit.delete).delta)
        laboratory.show(cluster, states=())
        differences = _differences(cluster, table, laboratory)
        assert not differences, f"seed {seed}, burst {burst}:\n" + "\n".join(differences[:20])


def test_no_match_of_ours_fails_to_parse(laboratory: Laboratory) -> None:
    """northd copies a malformed match silently; ovn-trace, which parses every flow at start, would warn."""
    for family in FAMILIES:
        cluster = cluster_of(RandomCluster(2200, family, pods=(40, 60), policies=(25, 25)).manifests())
        laboratory.show(cluster, states=("new",))
        assert laboratory.parse_warnings() == [], family


def _differences(cluster: Cluster, table: FlowTable, laboratory: Laboratory) -> list[str]:
    ours, theirs = set(our_flows(table)), laboratory.southbound_flows()
    assert ours, "no flows at all"
    names = {key.uuid: row.name for key, row in cluster.engine.rows(SWITCHES).items()}
    names |= {key.uuid: row.name for key, row in cluster.engine.rows(ROUTERS).items()}

    def show(side: str, flow: FlowRow) -> str:
        datapath, stage, priority, match = flow
        return f"{side} only: {names.get(datapath, datapath)} {stage} {priority} {text(match)}"

    return [
        *sorted(show("ours", flow) for flow in ours - theirs),
        *sorted(show("theirs", flow) for flow in theirs - ours),
    ]
