"""A packet to a group in the flows: what a router policy does to its copies.

No rule of ours reroutes a pod's packets yet, so the policy is put into the lookup by hand. Measured on OVN 23.03: a
reroute takes the copies for other nodes along, and leaves those on the sender's own switch alone.
"""

from __future__ import annotations

from typing import Any

from ovnk_core.flows.flow import LR_IN_POLICY, Actions, LogicalFlow
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb import naming
from ovnk_core.nb.match import Is
from ovnk_core.nb.row import RowId
from ovnk_core.terms.address import parse_address
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.group_flows import answer_by_flows
from ovnk_core.trace.question import Answer, Question, Step
from ovnk_core.trace.scene import Scene
from tests.chapter.test_15_13_multicast import BASE, MSENDER, heard, namespace, pod
from tests.kit.questions import cluster_of

GROUP = parse_address("224.1.0.1")


class WithPolicy:
    """The flows of a cluster, and one router policy that every packet meets."""

    def __init__(self, tracer: FlowTracer, actions: Actions | None) -> None:
        self.scene, self._tracer, self._actions = tracer.scene, tracer, actions

    def lookup(self, datapath: RowId, stage: str, packet: dict[str, Any]) -> LogicalFlow | None:
        if stage != LR_IN_POLICY or self._actions is None:
            return self._tracer.index.lookup(datapath, stage, packet)
        row = naming.CLUSTER_ROUTER_ROW
        return LogicalFlow(stage=stage, priority=100, match=Is("ip4"), actions=self._actions, source=row, where=row)


def ask(actions: Actions | None) -> Answer:
    cluster = cluster_of([*BASE, pod("near", "n2"), namespace("project", "true")])
    scene = Scene(cluster)
    name = MSENDER["metadata"]["name"]
    sender = next(each for key, each in scene.endpoints.items() if key.name == name)
    ends = scene.ends(Question(source=sender.key, target=GROUP, protocol="udp", port=1))
    header = {"ip": True, "ip4": True, "ip4.src": ends.source.address.value, "ip4.dst": GROUP.value}
    header |= {"eth.mcast": True, "ip4.mcast": True, "udp": True, "udp.dst": 1}
    return answer_by_flows(WithPolicy(FlowTracer(scene, FlowTable(cluster.engine)), actions), ends, header, _no_step)


def _no_step(stage: str, flow: LogicalFlow) -> Step:
    raise AssertionError(f"{flow.source} decided")


def test_a_policy_that_lets_groups_pass_changes_nothing() -> None:
    assert heard(ask(None)) == heard(ask(Actions())) == ["project/mlistener", "project/near"]


def test_a_reroute_swallows_the_copies_for_other_nodes() -> None:
    rerouted = Actions(outport=naming.JOIN_ROUTER_PORT, next_hop=parse_address("100.64.0.3"))
    assert heard(ask(rerouted)) == ["project/near"]
    assert heard(ask(Actions(drops=True))) == ["project/near"]
