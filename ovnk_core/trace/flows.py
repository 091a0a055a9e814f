"""The answer from the logical flows: carry a packet through the stages, as OVN would.

Forwarding inside a switch needs no flows of ours (it is by address of the switch's ports); routing, policies,
translation and ACLs are looked up as flows, highest priority first. Port groups narrow the search: an ACL whose match
begins by naming a group is only looked at for ports in that group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from ovnk_core.features.egress_firewall.compile import rules_in_force
from ovnk_core.features.egress_firewall.rules import OWN_NODE_DNS
from ovnk_core.features.egress_firewall.verdict import Packet as FirewallPacket
from ovnk_core.features.egress_firewall.verdict import first_match, judge
from ovnk_core.features.network_policy.verdict import Direction, Judgement
from ovnk_core.flows import flow as f
from ovnk_core.flows.flow import LogicalFlow
from ovnk_core.flows.table import FlowTable
from ovnk_core.model.cluster import special_kind
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ADDRESS_SETS, MEMBER, PORT_GROUPS, ROUTER_PORTS, ROUTERS, SWITCH_PORTS
from ovnk_core.nb.match import All, Match, PortGroupRef, Predicate, Test, compile_match
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.terms.address import BITS, Address, Cidr, parse_address, parse_cidr
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.trace.intent import firewall_step, policy_step
from ovnk_core.trace.question import Answer, Question, Step
from ovnk_core.trace.sanity import FIXED, LR_IN_IP_INPUT, own_sources
from ovnk_core.trace.scene import End, Ends, Scene
from ovnk_core.trace.way import find_way, incomplete

Compiled = tuple[int, tuple[Any, ...], LogicalFlow, Predicate]
_STATES: dict[str, dict[str, bool]] = {
    "new": {"ct.trk": True, "ct.new": True},
    "established": {"ct.trk": True, "ct.est": True},
    "reply": {"ct.trk": True, "ct.est": True, "ct.rpl": True},
}


MAX_HOPS = 8
"""Routers a packet may pass; the longest honest way has three."""


class _Stage:
    """Flows of one stage on one datapath: those any packet may meet, and those only ports of a group can."""

    def __init__(self) -> None:
        self.common: list[Compiled] = []
        self.by_group: dict[str, list[Compiled]] = {}


class FlowTracer:
    """Executes flows for many questions; made anew when the flow table has moved on."""

    def __init__(self, scene: Scene, table: FlowTable) -> None:
        self.scene, self.table, self.revision = scene, table, table.revision
        source = scene.cluster.engine
        self._sets = {
            row.name: source.members(MEMBER, ColumnId(key, "addresses"))
            for key, row in source.rows(ADDRESS_SETS).items()
        }
        self._prefixes: dict[str, Prefixes] = {}
        self._ports = {row.name: key for key, row in source.rows(SWITCH_PORTS).items()}
        self._groups: dict[str, Any] = {}
        self._groups_of: dict[RowId, list[str]] = {}
        for key, row in source.rows(PORT_GROUPS).items():
            members = self._groups[row.name] = source.members(MEMBER, ColumnId(key, "ports"))
            for port in members:
                assert isinstance(port, RowId)
                self._groups_of.setdefault(port, []).append(row.name)
        self._stages: dict[tuple[RowId, str], _Stage] = {}
        self._refusals: dict[RowId, list[tuple[Predicate, str]]] = {}
        self._compile()

    def _compile(self) -> None:
        compiled: dict[Match, Predicate] = {}
        for flow_id, flow in self.table.flows().items():
            predicate = compiled.get(flow.match)
            if predicate is None:
                predicate = compiled[flow.match] = compile_match(flow.match)
            entry = (-flow.priority, _rank(flow_id.source), flow, predicate)
            group = _group_of(flow.match)
            for datapath in self.table.datapaths(flow.where):
                stage = self._stages.setdefault((datapath, flow.stage), _Stage())
                (stage.by_group.setdefault(group, []) if group else stage.common).append(entry)
        for stage in self._stages.values():
            for flows in (stage.common, *stage.by_group.values()):
                flows.sort(key=lambda entry: entry[:2])
        engine = self.scene.cluster.engine
        rows = engine.rows(ROUTER_PORTS)
        for router in engine.rows(ROUTERS):
            members = engine.members(MEMBER, ColumnId(router, "ports"))
            own = own_sources(rows[port] for port in members if isinstance(port, RowId))
            self._refusals[router] = [(compile_match(match), text) for match, text in (*FIXED, *own)]

    # ------------------------------------------------------------------ scope of matches

    def in_address_set(self, name: str, value: int, family: int) -> bool:
        found = self._prefixes.get(name)
        if found is None:
            found = self._prefixes[name] = Prefixes(self._sets.get(name, ()))
        return found.contains(family, value)

    def in_port_group(self, name: str, port: str) -> bool:
        return self._ports.get(port) in self._groups.get(name, ())

    # ------------------------------------------------------------------ one packet

    def answer(self, question: Question) -> Answer:
        """One question. Raises QuestionError when an end cannot be placed."""
        ends = self.scene.ends(question)
        way = find_way(self.scene, ends)
        steps: list[Step] = []
        if way.passes_ovn:
            verdict = _Walk(self, question, ends, steps).run()
        else:
            verdict = way.step.verdict == "allow"
        return Answer(
            verdict="allow" if verdict else "drop",
            reason=steps[-1].text if steps else way.step.text,
            path=way.path,
            legs=way.legs,
            steps=tuple(steps),
            incomplete=incomplete(self.scene, ends, way),
        )

    def lookup(self, datapath: RowId, stage: str, packet: dict[str, Any]) -> LogicalFlow | None:
        """The flow a packet meets in a stage: highest priority, ties by owner."""
        best: Compiled | None = None
        for candidates in self._candidates(datapath, stage, packet):
            for entry in candidates:
                if best is not None and entry[:2] >= best[:2]:
                    break
                if entry[3](packet, self):
                    best = entry
                    break
        return best[2] if best else None

    def refusal(self, router: RowId, packet: dict[str, Any]) -> str:
        """Why a router drops a packet before it looks at its routes; empty if it does not."""
        return next((text for predicate, text in self._refusals.get(router, ()) if predicate(packet, self)), "")

    def _candidates(self, datapath: RowId, stage: str, packet: dict[str, Any]) -> Iterator[list[Compiled]]:
        found = self._stages.get((datapath, stage))
        if found is None:
            return
        yield found.common
        if found.by_group:
            for field in ("inport", "outport"):
                port = self._ports.get(packet.get(field, ""))
                for group in self._groups_of.get(port, ()) if port is not None else ():
                    if group in found.by_group:
                        yield found.by_group[group]


class Prefixes:
    """An address set read once: whether it holds an address costs one lookup per prefix length in it."""

    def __init__(self, members: Iterable[Any]) -> None:
        self._networks: dict[tuple[int, int], set[int]] = {}
        for text in members:
            block = _block(str(text))
            shift = BITS[block.family] - block.prefix
            self._networks.setdefault((block.family, shift), set()).add(block.value >> shift)

    def contains(self, family: int, value: int) -> bool:
        return any(value >> shift in networks for (mine, shift), networks in self._networks.items() if mine == family)


def _block(text: str) -> Cidr:
    return parse_cidr(text)[0] if "/" in text else parse_address(text).host


def _group_of(match: Match) -> str:
    """The port group a packet's port must be in for the match to hold, if it says so at its top."""
    for part in match.of if isinstance(match, All) else (match,):
        if isinstance(part, Test) and part.op == "==" and len(part.terms) == 1:
            term = part.terms[0]
            if isinstance(term, PortGroupRef):
                return term.name
    return ""


def _rank(row: RowId) -> tuple[Any, ...]:
    """Order among equal priorities, the one the intent answer uses: own node, then policy by name and rule."""
    parts = row.role.split("/")
    index = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1
    return (row.owner.kind != "Node", row.owner.namespace, row.owner.name, parts[0], index, row.role)


class _Walk:
    """One packet on its way; ``steps`` receives the flows that decided something."""

    def __init__(self, tracer: FlowTracer, question: Question, ends: Ends, steps: list[Step]) -> None:
        self.tracer, self.question, self.ends, self.steps = tracer, question, ends, steps
        self.hops = 0
        self.header = _header(question, ends)
        self.tracked: dict[str, Any] = {}

    def run(self) -> bool:
        source, target = self.ends.source, self.ends.target
        if source.kind not in ("pod", "node"):
            return self._from_gateway(target)
        switch = naming.node_switch_row(source.node)
        name = naming.management_port(source.node)
        inport = naming.pod_port_name(source.endpoint.key) if source.endpoint else name
        local = self._port_on(source.node, target.address)
        outport = local or naming.switch_to_router(source.node)
        if not self._switch_ingress(switch, inport, source.endpoint is not None and source.endpoint.key):
            return False
        if not self._switch_egress(switch, inport, outport):
            return False
        if local:
            return True
        return self._route(naming.CLUSTER_ROUTER_ROW, naming.router_to_switch(source.node))

    def _from_gateway(self, target: End) -> bool:
        node = target.node
        external = naming.external_switch_row(node)
        localnet = self.tracer.scene.places[node].localnet
        return (
            self._switch_ingress(external, localnet, False)
            and self._switch_egress(external, localnet, naming.external_to_router(node))
            and self._route(naming.gateway_router_row(node), naming.router_to_external(node))
        )

    def _port_on(self, node: str, address: Address) -> str:
        """The port of a node's switch that has an address: a pod's or the management port."""
        place = self.tracer.scene.places.get(node)
        if place is None:
            return ""
        if address in place.management:
            return naming.management_port(node)
        endpoint = self.tracer.scene.by_address.get(address)
        return naming.pod_port_name(endpoint.key) if endpoint is not None and endpoint.node == node else ""

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
            flow = self.tracer.lookup(switch, stage, packet)
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
            if flow.actions.drops:
                return False
        return True

    def _firewall_step(self, stage: str, flow: LogicalFlow) -> Step:
        """The row says what happens; which rule of those that share it decided, the list of rules says."""
        scene, source, target = self.tracer.scene, self.ends.source, self.ends.target
        owner = flow.source.owner
        firewall = scene.firewall(source.endpoint.key.namespace) if source.endpoint is not None else None
        if owner.kind == "Node" or firewall is None:
            text = f"DNS to {target.address} on the pod's own node {owner.name} is always allowed"
            return Step(stage=stage, verdict="allow", text=text, object=owner)
        rules = rules_in_force(firewall)
        packet = FirewallPacket(target=target.address, protocol=self.question.protocol, port=self.question.port)
        found = judge(firewall, None, packet, scene, lambda asked: first_match(rules, asked, scene))
        return replace(firewall_step(scene, stage, firewall, found), verdict="drop" if flow.actions.drops else "allow")

    def _acl_step(self, stage: str, flow: LogicalFlow, direction: Direction, pod: NamespacedName) -> Step:
        owner = flow.source.owner
        if owner.kind == "Node":
            text = f"traffic between {pod} and its own node {owner.name} is always allowed"
            return Step(stage=stage, verdict="allow", text=text, object=owner)
        if owner.kind == "NetworkPolicy":
            index = int(flow.source.role.split("/")[1])
            word = direction.lower()
            key = NamespacedName(owner.namespace, owner.name)
            text = f"{word} rule {index} of NetworkPolicy {key} allows it"
            return policy_step(
                self.tracer.scene, stage, direction, Judgement(allowed=True, policy=key, rule=index, text=text)
            )
        endpoint = self.tracer.scene.endpoints[pod]
        selecting = self.tracer.scene.isolating(endpoint, direction)
        names = ", ".join(str(policy.key) for policy in selecting)
        text = f"{pod} is isolated for {direction.lower()} by {names} and no {direction.lower()} rule matches"
        first = selecting[0].key if selecting else None
        found = Judgement(allowed=False, policy=first, rule=None, text=text)
        return policy_step(self.tracer.scene, stage, direction, found)

    # ------------------------------------------------------------------ routers

    def _route(self, router: RowId, inport: str) -> bool:
        self.hops += 1
        if self.hops > MAX_HOPS:
            return self._lost(LR_IN_IP_INPUT, f"routers pass {self.ends.target.address} around in a circle")
        packet: dict[str, Any] = {**self.header, "inport": inport, "reg7": 0}
        refusal = self.tracer.refusal(router, packet)
        if refusal:
            return self._lost(LR_IN_IP_INPUT, f"routers drop {refusal}")
        flow = self.tracer.lookup(router, f.LR_IN_IP_ROUTING, packet)
        if flow is None or flow.actions.drops:
            return self._lost(f.LR_IN_IP_ROUTING, f"no route to {self.ends.target.address}")
        actions = flow.actions
        policy = self.tracer.lookup(router, f.LR_IN_POLICY, packet)
        if policy is not None and policy.actions.drops:
            return self._lost(f.LR_IN_POLICY, "a router policy drops it", policy)
        if policy is not None and policy.actions.outport:
            actions = policy.actions
            text = f"sent to {actions.next_hop} by a router policy"
            self.steps.append(_row_step(f.LR_IN_POLICY, "allow", text, policy))
        hop = actions.next_hop or self.ends.target.address
        packet["outport"] = actions.outport
        translation = self.tracer.lookup(router, f.LR_OUT_SNAT, packet)
        if translation is not None and translation.actions.source is not None:
            text = f"source becomes {translation.actions.source}"
            self.steps.append(_row_step(f.LR_OUT_SNAT, "allow", text, translation))
            source = translation.actions.source
            self.header = self.header | {f"ip{source.family}.src": source.value}
        return self._leave(actions.outport, hop)

    def _leave(self, outport: str, hop: Address) -> bool:
        """Out of a router port: onto a node switch, over the join switch to another router, or to the world."""
        for node, place in self.tracer.scene.places.items():
            if outport == naming.router_to_switch(node):
                port = self._port_on(node, hop)
                if not port:
                    return self._lost("ls_in_l2_lkup", f"no port of node {node} has the address {hop}")
                return self._onto_switch(naming.node_switch_row(node), naming.switch_to_router(node), port)
            if outport == naming.router_to_external(node):
                return self._onto_switch(
                    naming.external_switch_row(node), naming.external_to_router(node), place.localnet
                )
        if outport == naming.JOIN_ROUTER_PORT:
            for node, place in self.tracer.scene.places.items():
                if any(interface.address == hop for interface in place.join):
                    join = naming.JOIN_SWITCH_ROW
                    if self._onto_switch(join, naming.JOIN_SWITCH_PORT, naming.join_to_router(node)):
                        return self._route(naming.gateway_router_row(node), naming.router_to_join(node))
                    return False
        elif hop == self.tracer.scene.network.join_router(hop.family):
            return self._route(naming.CLUSTER_ROUTER_ROW, naming.JOIN_ROUTER_PORT)
        return self._lost("lr_in_arp_resolve", f"nothing answers for {hop}")

    def _onto_switch(self, switch: RowId, inport: str, outport: str) -> bool:
        return self._switch_ingress(switch, inport, False) and self._switch_egress(switch, inport, outport)

    def _lost(self, stage: str, text: str, flow: LogicalFlow | None = None) -> bool:
        self.steps.append(_row_step(stage, "drop", text, flow))
        return False


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
        packet |= {"eth.mcast": True, "eth.bcast": special_kind(ends.target.address) == "broadcast"}
    if question.protocol == "icmp":
        return packet | {"icmp": True, f"icmp{family}": True}
    return packet | {question.protocol: True, f"{question.protocol}.dst": question.port}
