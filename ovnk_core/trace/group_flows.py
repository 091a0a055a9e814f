"""A packet to a multicast group, carried through the logical flows: out of the sender, then once for every receiver.

The copies differ only in where they leave, so each is one pass through the ACL stages of the receiver's switch. What is
sent to a group is never tracked (``ls_in_pre_acl``), hence a question's connection state does not matter.
"""

from __future__ import annotations

from typing import Any, Protocol

from ovnk_core.features.multicast.rules import ROLE
from ovnk_core.flows import flow as f
from ovnk_core.flows.flow import LogicalFlow
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.row import RowId
from ovnk_core.trace.group import audience, closed, multicast_step
from ovnk_core.trace.question import Answer, Step
from ovnk_core.trace.scene import Ends, Scene

Packet = dict[str, Any]


class FlowLookup(Protocol):
    """The part of the flow tracer that is needed here."""

    scene: Scene

    def lookup(self, datapath: RowId, stage: str, packet: Packet) -> LogicalFlow | None: ...


class PolicyFlowStep(Protocol):
    """The step of an ACL that a NetworkPolicy made."""

    def __call__(self, stage: str, flow: LogicalFlow) -> Step: ...


def answer_by_flows(flows: FlowLookup, ends: Ends, header: Packet, policy_step: PolicyFlowStep) -> Answer:
    """From the flows. ``header`` is the packet without its ports."""
    scene, sender = flows.scene, ends.source.endpoint
    assert sender is not None
    steps: list[Step] = []
    passed = _Passage(flows, {**header, "inport": naming.pod_port_name(sender.key)})
    allowed = passed.goes(naming.node_switch_row(sender.node), f.SWITCH_INGRESS)
    if passed.decided is not None:
        stage, flow = passed.decided
        is_ours = flow.source.role.startswith(f"{ROLE}/")
        steps.append(multicast_step(scene, sender) if is_ours else policy_step(stage, flow))
    if not allowed:
        return closed(scene, ends, steps, ())
    near = audience(scene, ends, _snooping(scene) if _is_relayed(flows, ends, header) else ())
    return closed(scene, ends, steps, [each for each in near if _hears(flows, sender, each, header)])


class _Passage:
    """One copy of the packet in one switch; ``decided`` is the last ACL that said something about it."""

    def __init__(self, flows: FlowLookup, packet: Packet) -> None:
        self._flows, self._packet = flows, packet
        self.decided: tuple[str, LogicalFlow] | None = None

    def goes(self, switch: RowId, stages: tuple[str, ...]) -> bool:
        """Whether it comes out of the stages of a switch."""
        for stage in stages:
            flow = self._flows.lookup(switch, stage, self._packet)
            if flow is None:
                return False
            self._packet.update(dict.fromkeys(flow.actions.bits, 1))
            self._packet.update(dict.fromkeys(flow.actions.clear, 0))
            if flow.source.table == "ACL":
                self.decided = stage, flow
            if flow.actions.drops:
                return False
        return True


def _leaves(flows: FlowLookup, node: str, ports: tuple[str, str], header: Packet) -> bool:
    """Whether a copy that came in by the first of two ports goes out of the second."""
    inport, outport = ports
    copy = _Passage(flows, {**header, "inport": inport, "outport": outport})
    return copy.goes(naming.node_switch_row(node), f.SWITCH_EGRESS)


def _is_relayed(flows: FlowLookup, ends: Ends, header: Packet) -> bool:
    """Whether the cluster router gets the packet and sends it on to whoever joined."""
    node, sender = ends.source.node, ends.source.endpoint
    assert sender is not None
    router = flows.scene.cluster.engine.rows(ROUTERS).get(naming.CLUSTER_ROUTER_ROW)
    if router is None or dict(router.options).get("mcast_relay") != "true":
        return False
    if not _leaves(flows, node, (naming.pod_port_name(sender.key), naming.switch_to_router(node)), header):
        return False
    inport = {"inport": naming.router_to_switch(node), "reg7": 0}
    policy = flows.lookup(naming.CLUSTER_ROUTER_ROW, f.LR_IN_POLICY, {**header, **inport})
    # A policy that reroutes sends every copy to its next hop: nobody hears it.
    return policy is None or not (policy.actions.drops or policy.actions.outport)


def _snooping(scene: Scene) -> set[str]:
    """Nodes whose switches learn who joined."""
    rows = scene.cluster.engine.rows(SWITCHES)
    return {
        node
        for node in scene.places
        if dict(rows[naming.node_switch_row(node)].other_config).get("mcast_snoop") == "true"
    }


def _hears(flows: FlowLookup, sender: Endpoint, receiver: Endpoint, header: Packet) -> bool:
    """Whether a copy gets to a pod once its switch has the packet: from the sender's port or from the router's."""
    inport, outport = naming.pod_port_name(sender.key), naming.pod_port_name(receiver.key)
    if receiver.node != sender.node:
        inport = naming.switch_to_router(receiver.node)
        entered = _Passage(flows, {**header, "inport": inport})
        if not entered.goes(naming.node_switch_row(receiver.node), f.SWITCH_INGRESS):
            return False
    return _leaves(flows, receiver.node, (inport, outport), header)
