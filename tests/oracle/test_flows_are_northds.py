"""Our logical flows are northd's: same datapath, stage, priority and match, for every stage we claim.

The one normalisation: both sides are read into the match tree, so spacing and redundant parentheses do not count.
"""

from __future__ import annotations

import re

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.features.services.endpoints import Target
from ovnk_core.flows.flow import LR_IN_DNAT, LS_IN_LB
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.match import Match, text
from ovnk_core.nb.match_parse import parse
from ovnk_core.topology.place import Settings
from tests.kit.balanced import BalancedServices
from tests.kit.egress_ips import EgressIPs
from tests.kit.oracle import FlowRow, Laboratory, our_flows
from tests.kit.questions import cluster_of, load, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster

pytestmark = pytest.mark.ovn
Choice = tuple[str, int, Match, str, str]
"""(stage, priority, match, backends, what else is done): what a load balancer's flow decides"""


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


@pytest.mark.parametrize("seed", range(2300, 2300 + scaled(6)))
def test_same_flows_with_services(laboratory: Laboratory, seed: int) -> None:
    """Load balancers of every layout, along a few edits."""
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 25), policies=(0, 3))
    cluster = cluster_of(made.manifests())
    services = BalancedServices(cluster.engine, seed)
    table = FlowTable(cluster.engine)
    for burst in range(3):
        laboratory.show(cluster, states=())
        differences = _differences(cluster, table, laboratory)
        assert not differences, f"seed {seed}, burst {burst}:\n" + "\n".join(differences[:20])
        assert _our_choices(table) == _their_choices(laboratory), f"seed {seed}, burst {burst}"
        for _ in range(4):
            services.edit(table.advance)


@pytest.mark.parametrize("seed", range(2400, 2400 + scaled(6)))
def test_same_flows_with_egress_ips(laboratory: Laboratory, seed: int) -> None:
    """Reroutes to one and to several gateways, translations and marks, along a few edits."""
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 25), policies=(0, 3))
    cluster = cluster_of(made.manifests())
    egress_ips = EgressIPs(cluster, made.of_kind("Node"), seed)
    table = FlowTable(cluster.engine)
    for burst, _ in enumerate(egress_ips.fail_over(table.advance)):
        laboratory.show(cluster, states=())
        differences = _differences(cluster, table, laboratory)
        assert not differences, f"seed {seed}, burst {burst}:\n" + "\n".join(differences[:20])
        cluster.engine.verify()


def test_no_match_of_ours_fails_to_parse(laboratory: Laboratory) -> None:
    """northd copies a malformed match silently; ovn-trace, which parses every flow at start, would warn.

    Of template variables ovn-trace 23.03 knows nothing: about them it warns, and about nothing else.
    """
    for family in FAMILIES:
        made = RandomCluster(2200, family, pods=(40, 60), policies=(25, 25))
        for has_variables in (True, False):
            cluster = cluster_of(made.manifests(), settings=Settings(has_template_variables=has_variables))
            BalancedServices(cluster.engine, 2200)
            EgressIPs(cluster, made.of_kind("Node"), 2200)
            laboratory.show(cluster, states=("new",))
            warnings = [each for each in laboratory.parse_warnings() if "^NODEIP_IPv" not in each or not has_variables]
            assert warnings == [], family


def _our_choices(table: FlowTable) -> set[Choice]:
    return {
        (
            flow.stage,
            flow.priority,
            flow.match,
            ",".join(str(Target(*backend)) for backend in flow.actions.backends),
            _words(reject=flow.actions.is_reject, force=flow.actions.force_snat, skip=flow.actions.skip_snat),
        )
        for flow, _ in table.listing()
        if flow.stage in (LS_IN_LB, LR_IN_DNAT)
    }


def _their_choices(laboratory: Laboratory) -> set[Choice]:
    columns = ["priority", "match", "actions", "external_ids"]
    with laboratory.central.southbound.wire() as wire:
        rows = wire.select("Logical_Flow", columns=columns)
    found: set[Choice] = set()
    for row in rows:
        stage, actions = dict(row["external_ids"][1]).get("stage-name", ""), row["actions"]
        if stage in (LS_IN_LB, LR_IN_DNAT):
            backends = re.search(r"backends=([^;)]*)", actions)
            force, skip = (f"flags.{word}_snat_for_lb = 1" in actions for word in ("force", "skip"))
            words = _words(reject="reject {" in actions, force=force, skip=skip)
            found.add((stage, row["priority"], parse(row["match"]), backends[1] if backends else "", words))
    return found


def _words(**said: bool) -> str:
    return " ".join(word for word, is_said in said.items() if is_said)


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
