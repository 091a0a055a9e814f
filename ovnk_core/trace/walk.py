"""One packet on its way through the logical flows, as OVN would carry it.

Forwarding inside a switch needs no flows of ours (it is by address of the switch's ports); balancing, routing,
policies, translation and ACLs are looked up as flows, highest priority first.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ovnk_core.features.egress_firewall.compile import rules_in_force
from ovnk_core.features.egress_firewall.rules import OWN_NODE_DNS
from ovnk_core.features.egress_firewall.verdict import Packet as FirewallPacket
from ovnk_core.features.egress_firewall.verdict import first_match, judge
from ovnk_core.features.network_policy.verdict import Direction, Judgement
from ovnk_core.features.services.endpoints import Target
from ovnk_core.features.services.rules import HAIRPIN_ACL, HAIRPIN_SOURCES
from ovnk_core.flows import flow as f
from ovnk_core.flows.flow import LogicalFlow
from ovnk_core.flows.routing import POLICY_CHOICE, POLICY_GROUP
from ovnk_core.model.cluster import special_kind
from ovnk_core.nb import naming
from ovnk_core.nb.row import RowId
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.trace.flow_index import FlowIndex
from ovnk_core.trace.intent import firewall_step, policy_step
from ovnk_core.trace.question import Candidate, Egress, Question, Step
from ovnk_core.trace.sanity import LR_IN_IP_INPUT
from ovnk_core.trace.scene import End, Ends
from ovnk_core.trace.way import HAIRPIN

_STATES: dict[str, dict[str, bool]] = {
    "new": {"ct.trk": True, "ct.new": True},
    "established": {"ct.trk": True, "ct.est": True},
    "reply": {"ct.trk": True, "ct.est": True, "ct.rpl": True},
}


MAX_HOPS = 8
"""Routers a packet may pass; the longest honest way has three."""


class Walk:
    """One packet on its way; ``steps`` receives the flows that decided something."""

    def __init__(
        self,
        index: FlowIndex,
        question: Question,
        ends: Ends,
        *,
        entry: str = "",
        pick: Target | None = None,
        draw: int = 1,
    ) -> None:
        """``entry``: the node whose gateway a packet from outside enters by, where its target does not say.
        ``pick``: the endpoint to take where a load balancer offers several; without one the walk ends there.
        ``draw``: which of several next hops a router policy gives the connection, from 1."""
        self._index, self.question, self.ends = index, question, ends
        self._entry, self._pick, self._draw = entry, pick, draw
        self.choices = 1
        self.egress = Egress()
        self._is_turned = False
        self.steps: list[Step] = []
        self.port = question.port
        self.offered: tuple[Target, ...] | None = None
        """What a load balancer offered; empty: it rejected the packet."""
        self.hops = 0
        self.has_left = False
        """Whether it came further than the sender's own switch port."""
        self.header = _header(question, ends)
        self.tracked: dict[str, Any] = {}

    def run(self) -> bool:
        """Whether the packet arrives."""
        source, target = self.ends.source, self.ends.target
        self.has_left = bool(self._entry) or source.kind not in ("pod", "node")
        if source.kind == "windows":
            return self._from_overlay(target)
        if self.has_left:
            return self._from_gateway(self._entry or target.node)
        switch = naming.node_switch_row(source.node)
        name = naming.management_port(source.node)
        inport = naming.pod_port_name(source.endpoint.key) if source.endpoint else name
        if not self._switch_ingress(switch, inport, source.endpoint is not None and source.endpoint.key):
            return False
        if self._is_turned:
            hidden = HAIRPIN_SOURCES[source.address.family]
            self.header |= {f"ip{hidden.family}.src": hidden.value}
            return self._switch_egress(switch, inport, inport)
        local = self._port_on(source.node, self.ends.target.address)
        outport = local or naming.switch_to_router(source.node)
        self.has_left = bool(local)
        if not self._switch_egress(switch, inport, outport):
            return False
        if local:
            return True
        self.has_left = True
        return self._route(naming.CLUSTER_ROUTER_ROW, naming.router_to_switch(source.node))

    def _from_gateway(self, node: str) -> bool:
        external = naming.external_switch_row(node)
        localnet = self._index.scene.places[node].localnet
        return (
            self._switch_ingress(external, localnet, False)
            and self._switch_egress(external, localnet, naming.external_to_router(node))
            and self._route(naming.gateway_router_row(node), naming.router_to_external(node))
        )

    def _from_overlay(self, target: End) -> bool:
        switch, inport = naming.node_switch_row(target.node), naming.hybrid_port(target.node)
        return self._onto_switch(switch, inport, self._port_on(target.node, target.address))

    def _port_on(self, node: str, address: Address) -> str:
        """The port of a node's switch that has an address: a pod's or the management port."""
        place = self._index.scene.places.get(node)
        if place is None:
            return ""
        if address in place.management:
            return naming.management_port(node)
        endpoint = self._index.scene.by_address.get(address)
        return naming.pod_port_name(endpoint.key) if endpoint is not None and endpoint.node == node else ""

    # ------------------------------------------------------------------ load balancers

    def _balance(self, flow: LogicalFlow) -> bool:
        """A load balancer decides: whether the packet goes on, to the endpoint that was picked."""
        self.offered = tuple(Target(*each) for each in flow.actions.backends)
        if self._pick is None:
            return False
        address = self._pick.address
        near = self._entry or self.ends.source.node
        target = self._index.scene.end_of_address(address, near)
        self.ends = Ends(source=self.ends.source, target=target, is_chosen=True)
        self.port = self._pick.port
        self.header |= {f"ip{address.family}.dst": address.value, f"{self.question.protocol}.dst": self.port}
        return True

    def _balance_at_router(self, router: RowId, packet: dict[str, Any]) -> bool:
        if _is_balancing(self._index.lookup(router, f.LR_IN_DEFRAG, packet)):
            packet |= _STATES[self.question.state]
        flow = self._index.lookup(router, f.LR_IN_DNAT, packet)
        if flow is None or not _is_balancing(flow):
            return True
        if not self._balance(flow):
            return False
        packet |= self.header
        packet["flags.force_snat_for_lb"] = int(flow.actions.force_snat)
        packet["flags.skip_snat_for_lb"] = int(flow.actions.skip_snat)
        return True

    # ------------------------------------------------------------------ switches

    def _switch_ingress(self, switch: RowId, inport: str, pod: NamespacedName | bool) -> bool:
        self.tracked = {}
        packet: dict[str, Any] = {**self.header, "inport": inport}
        return self._stages(switch, f.SWITCH_INGRESS, packet, "Egress", pod)

    def _switch_egress(self, switch: RowId, inport: str, outport: str) -> bool:
        packet: dict[str, Any] = {**self.header, **self.tracked, "inport": inport, "outport": outport}
        target = self.ends.target.endpoint
        pod = target.key if target is not None and naming.pod_port_name(target.key) == outport else False
        return self._stages(switch, f.SWITCH_EGRESS, packet, "Ingress", pod)

    def _stages(
        self,
        switch: RowId,
        stages: tuple[str, ...],
        packet: dict[str, Any],
        direction: Direction,
        pod: NamespacedName | bool,
    ) -> bool:
        for stage in stages:
            flow = self._index.lookup(switch, stage, packet)
            if flow is None:
                return False
            if "reg0[0]" in flow.actions.bits:
                # The state outlives the pipeline: a port that is not tracked on the way out sees that of the way in.
                self.tracked = {**_STATES[self.question.state], "ct_mark.blocked": 0}
                packet |= self.tracked
            packet.update(dict.fromkeys(flow.actions.bits, 1))
            packet.update(dict.fromkeys(flow.actions.clear, 0))
            if flow.source.table == "ACL" and _is_firewall(flow.source):
                self.steps.append(self._firewall_step(stage, flow))
            elif flow.source.table == "ACL" and isinstance(pod, NamespacedName):
                self.steps.append(self._acl_step(stage, flow, direction, pod))
            if flow.actions.backends or flow.actions.is_reject:
                if not self._balance(flow):
                    return False
                packet |= self.header | {"reg0[6]": int(self.ends.target.address == self.ends.source.address)}
            if flow.actions.drops:
                return False
            if stage == f.LS_IN_HAIRPIN and packet.get("reg0[6]") and flow.priority:
                self._is_turned = True
                return True
        return True

    def _firewall_step(self, stage: str, flow: LogicalFlow) -> Step:
        """The row says what happens; which rule of those that share it decided, the list of rules says."""
        scene, source, target = self._index.scene, self.ends.source, self.ends.target
        owner = flow.source.owner
        firewall = scene.firewall(source.endpoint.key.namespace) if source.endpoint is not None else None
        if owner.kind == "Node" or firewall is None:
            text = f"DNS to {target.address} on the pod's own node {owner.name} is always allowed"
            return Step(stage=stage, verdict="allow", text=text, object=owner)
        rules = rules_in_force(firewall)
        packet = FirewallPacket(target=target.address, protocol=self.question.protocol, port=self.port)
        found = judge(firewall, None, packet, scene, lambda asked: first_match(rules, asked, scene))
        return replace(firewall_step(scene, stage, firewall, found), verdict="drop" if flow.actions.drops else "allow")

    def sender_step(self, stage: str, flow: LogicalFlow) -> Step:
        """The step of an ACL that judged the packet where it was sent."""
        sender = self.ends.source.endpoint
        assert sender is not None
        return self._acl_step(stage, flow, "Egress", sender.key)

    def _acl_step(self, stage: str, flow: LogicalFlow, direction: Direction, pod: NamespacedName) -> Step:
        owner = flow.source.owner
        if owner.kind == "Node":
            text = f"traffic between {pod} and its own node {owner.name} is always allowed"
            return Step(stage=stage, verdict="allow", text=text, object=owner)
        if flow.source == HAIRPIN_ACL:
            return Step(stage=stage, verdict="allow", text=HAIRPIN.step.text)
        if owner.kind == "NetworkPolicy":
            index = int(flow.source.role.split("/")[1])
            word = direction.lower()
            key = NamespacedName(owner.namespace, owner.name)
            text = f"{word} rule {index} of NetworkPolicy {key} allows it"
            return policy_step(
                self._index.scene, stage, direction, Judgement(allowed=True, policy=key, rule=index, text=text)
            )
        endpoint = self._index.scene.endpoints[pod]
        selecting = self._index.scene.isolating(endpoint, direction)
        names = ", ".join(str(policy.key) for policy in selecting)
        text = f"{pod} is isolated for {direction.lower()} by {names} and no {direction.lower()} rule matches"
        first = selecting[0].key if selecting else None
        found = Judgement(allowed=False, policy=first, rule=None, text=text)
        return policy_step(self._index.scene, stage, direction, found)

    # ------------------------------------------------------------------ routers

    def _route(self, router: RowId, inport: str) -> bool:
        self.hops += 1
        if self.hops > MAX_HOPS:
            return self._lost(LR_IN_IP_INPUT, f"routers pass {self.ends.target.address} around in a circle")
        packet: dict[str, Any] = {**self.header, "inport": inport, "reg7": 0}
        refusal = self._index.refusal(router, packet)
        if refusal:
            return self._lost(LR_IN_IP_INPUT, f"routers drop {refusal}")
        if not self._balance_at_router(router, packet):
            return False
        flow = self._index.lookup(router, f.LR_IN_IP_ROUTING, packet)
        if flow is None or flow.actions.drops:
            return self._lost(f.LR_IN_IP_ROUTING, f"no route to {self.ends.target.address}")
        actions = flow.actions
        policy = self._index.lookup(router, f.LR_IN_POLICY, packet)
        if policy is not None and policy.actions.drops:
            return self._lost(f.LR_IN_POLICY, "a router policy drops it", policy)
        if policy is not None and policy.actions.choices:
            self.choices = policy.actions.choices
            packet |= {POLICY_GROUP: policy.actions.group, POLICY_CHOICE: self._draw}
            policy = self._index.lookup(router, f.LR_IN_POLICY_ECMP, packet)
        if policy is not None and policy.actions.outport:
            actions = policy.actions
            text = f"sent to {actions.next_hop} by a router policy"
            self.steps.append(_row_step(f.LR_IN_POLICY, "allow", text, policy))
        hop = actions.next_hop or self.ends.target.address
        packet["outport"] = actions.outport
        translation = self._index.lookup(router, f.LR_OUT_SNAT, packet)
        if translation is not None and translation.actions.source is not None:
            text = f"source becomes {translation.actions.source}"
            self.steps.append(_row_step(f.LR_OUT_SNAT, "allow", text, translation))
            source = translation.actions.source
            self.header = self.header | {f"ip{source.family}.src": source.value}
            owner = translation.source.owner
            self.egress = Egress(
                egressip=owner.name if owner.kind == "EgressIP" else None,
                candidates=(Candidate(node=router.owner.name, source_ip=str(source)),),
            )
        return self._leave(actions.outport, hop)

    def _leave(self, outport: str, hop: Address) -> bool:
        """Out of a router port: onto a node switch, over the join switch to another router, or to the world."""
        for node, place in self._index.scene.places.items():
            if outport == naming.router_to_switch(node):
                port = self._port_on(node, hop)
                if hop == place.hybrid_gateway and self.ends.target.kind == "windows":
                    port = naming.hybrid_port(node)
                if not port:
                    return self._lost("ls_in_l2_lkup", f"no port of node {node} has the address {hop}")
                return self._onto_switch(naming.node_switch_row(node), naming.switch_to_router(node), port)
            if outport == naming.router_to_external(node):
                return self._onto_switch(
                    naming.external_switch_row(node), naming.external_to_router(node), place.localnet
                )
        if outport == naming.JOIN_ROUTER_PORT:
            for node, place in self._index.scene.places.items():
                if any(interface.address == hop for interface in place.join):
                    join = naming.JOIN_SWITCH_ROW
                    if self._onto_switch(join, naming.JOIN_SWITCH_PORT, naming.join_to_router(node)):
                        return self._route(naming.gateway_router_row(node), naming.router_to_join(node))
                    return False
        elif hop == self._index.scene.network.join_router(hop.family):
            return self._route(naming.CLUSTER_ROUTER_ROW, naming.JOIN_ROUTER_PORT)
        return self._lost("lr_in_arp_resolve", f"nothing answers for {hop}")

    def _onto_switch(self, switch: RowId, inport: str, outport: str) -> bool:
        return self._switch_ingress(switch, inport, False) and self._switch_egress(switch, inport, outport)

    def _lost(self, stage: str, text: str, flow: LogicalFlow | None = None) -> bool:
        self.steps.append(_row_step(stage, "drop", text, flow))
        return False


def _is_balancing(flow: LogicalFlow | None) -> bool:
    return flow is not None and flow.source.table == "Load_Balancer"


def _is_firewall(row: RowId) -> bool:
    return row.owner.kind == "EgressFirewall" or row.role == OWN_NODE_DNS


def _row_step(stage: str, verdict: str, text: str, flow: LogicalFlow | None) -> Step:
    owner: ObjectRef | None = flow.source.owner if flow is not None else None
    return Step(stage=stage, verdict="allow" if verdict == "allow" else "drop", text=text, object=owner)


def _header(question: Question, ends: Ends) -> dict[str, Any]:
    family = ends.target.address.family
    packet: dict[str, Any] = {
        "ip": True,
        f"ip{family}": True,
        f"ip{family}.src": ends.source.address.value,
        f"ip{family}.dst": ends.target.address.value,
    }
    if ends.target.kind == "group":
        is_broadcast = special_kind(ends.target.address) == "broadcast"
        packet |= {"eth.mcast": True, "eth.bcast": is_broadcast, f"ip{family}.mcast": not is_broadcast}
    if question.protocol == "icmp":
        return packet | {"icmp": True, f"icmp{family}": True}
    packet[question.protocol] = True
    side = "src" if question.state == "reply" else "dst"
    return packet if question.port is None else packet | {f"{question.protocol}.{side}": question.port}
