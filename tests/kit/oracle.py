"""OVN's own opinion: a cluster in a real northbound, translated by ovn-northd, asked through ovn-trace.

``Laboratory`` keeps the daemons; ``show`` brings one cluster into them. ``microflow`` turns a question into the packet
that ovn-trace carries, ``where_it_should_end`` says which port an allowed packet must come out of.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID

from ovnk_core.cluster import Cluster
from ovnk_core.features.services.endpoints import Target
from ovnk_core.flows.flow import STAGES
from ovnk_core.flows.table import FlowTable
from ovnk_core.model.cluster import MASQUERADE, special_kind
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ROUTER_PORTS
from ovnk_core.nb.match import Match
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.row import RowId
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
from ovnk_core.reconcile.diff import Desired, Difference, full
from ovnk_core.terms.address import Address, mac_of
from ovnk_core.topology.gateway import MASQUERADE_HOST
from ovnk_core.topology.place import NODE_PLACE, NodePlace
from ovnk_core.trace.balance import Meeting, chosen_end
from ovnk_core.trace.entering import way_after
from ovnk_core.trace.question import Egress, Question
from ovnk_core.trace.scene import Ends, Scene
from ovnk_core.trace.way import find_way
from tests.kit.ovn import Central
from tests.kit.trace import ESTABLISHED, NEW, REPLY, TraceDaemon, TraceResult

CLIENT_PORT = 43210
OUTSIDE_MAC = "02:00:00:99:99:99"
FlowRow = tuple[str, str, int, Match]
"""(uuid of the switch or router, stage, priority, match)"""
CT: dict[str, str] = {"new": NEW, "established": ESTABLISHED, "reply": REPLY}


class Laboratory:
    """Central and one trace daemon per connection state; a context manager."""

    def __init__(self, directory: Path) -> None:
        self.central = Central(directory)
        self.traces = {
            state: TraceDaemon(self.central.sb, directory, ct=ct, name=f"trace-{state}") for state, ct in CT.items()
        }

    def __enter__(self) -> Self:
        self.central.start()
        return self

    def __exit__(self, *_: object) -> None:
        for trace in self.traces.values():
            trace.stop()
        self.central.stop()

    def show(self, cluster: Cluster, *, states: Sequence[str] = ("new",)) -> Difference:
        """Reconcile the northbound to the cluster, wait for northd, restart the trace daemons of ``states``."""
        difference = asyncio.run(self._reconcile(cluster))
        self.central.sync()
        self._introduce(cluster)
        for state in states:
            self.traces[state].refresh()
        return difference

    def _introduce(self, cluster: Cluster) -> None:
        """Let every gateway router know its neighbours, as the ARP or ND exchange of a first packet would.

        Gateway routers learn them (dynamic_neigh_routers); otherwise a trace ends in the request for an address: of
        the cluster router for packets from outside, of a next hop or of another node for packets that leave. The
        cluster router is told the hybrid overlay's gateways: ovn-trace does not read Static_MAC_Binding.
        """
        join = RowId("Logical_Router_Port", naming.CLUSTER_OWNER, naming.JOIN_ROUTER_PORT)
        mac = cluster.engine.rows(ROUTER_PORTS)[join].mac
        everywhere = cluster.engine.rows(NODE_PLACE).values()
        places = [place for place in everywhere if place.has_gateway]
        near = [(cluster.network.join_router(family), mac) for family in cluster.network.families]
        far = {address: OUTSIDE_MAC for place in everywhere for address in (*place.hosts, *place.next_hops)}
        with self.central.southbound.wire() as wire:
            rows = wire.select("Datapath_Binding", columns=["_uuid", "external_ids"])
            by_name = {_map(row["external_ids"])["name"]: row["_uuid"] for row in rows}
            learned = [
                {
                    "logical_port": port,
                    "ip": str(address),
                    "mac": neighbour,
                    "datapath": by_name[naming.gateway_router(place.name)],
                    "timestamp": int(time.time() * 1000),  # northd drops bindings that look old
                }
                for place in places
                for port, known in (
                    (naming.router_to_join(place.name), near),
                    (naming.router_to_external(place.name), far.items()),
                )
                for address, neighbour in known
            ]
            learned += [
                {
                    "logical_port": naming.router_to_switch(place.name),
                    "ip": str(place.hybrid_gateway),
                    "mac": mac_of(place.hybrid_gateway),
                    "datapath": by_name[naming.CLUSTER_ROUTER],
                    "timestamp": int(time.time() * 1000),
                }
                for place in everywhere
                if place.hybrid_gateway is not None
            ]
            inserts = [{"op": "insert", "table": "MAC_Binding", "row": row} for row in learned]
            wire.transact({"op": "delete", "table": "MAC_Binding", "where": []}, *inserts)

    async def _reconcile(self, cluster: Cluster) -> Difference:
        northbound = NativeNorthbound(self.central.nb)
        await northbound.connect(mirrored())
        try:
            actual = {table: northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}
            difference = full(Desired(cluster.engine, northbound.schema), actual)
            if difference.operations:
                await northbound.transact(difference.operations)
            again = full(Desired(cluster.engine, northbound.schema), actual)
            assert not again.operations, f"a second reconcile would do {again.operations[:3]}"
            return difference
        finally:
            await northbound.close()

    def ask(self, scene: Scene, question: Question) -> TraceResult:
        datapath, flow = microflow(scene, question)
        return self.traces[question.state].trace(datapath, flow)

    def parse_warnings(self) -> list[str]:
        """What the running trace daemons could not read of the southbound."""
        return [warning for trace in self.traces.values() for warning in trace.warnings()]

    def southbound_flows(self) -> set[FlowRow]:
        """northd's logical flows in the stages we claim, one per datapath. Groups of next hops get our numbers.

        Groups may name datapaths that are gone: ovsdb-server 3.1 can leave a weak reference to a deleted row behind.
        """
        wanted = {
            "Datapath_Binding": ["_uuid", "external_ids"],
            "Logical_DP_Group": ["_uuid", "datapaths"],
            "Logical_Flow": ["logical_datapath", "logical_dp_group", "priority", "match", "actions", "external_ids"],
        }
        queries = [{"op": "select", "table": table, "where": [], "columns": names} for table, names in wanted.items()]
        with self.central.southbound.wire() as wire:
            bindings, dp_groups, rows = (result["rows"] for result in wire.transact(*queries))
        datapaths = {
            row["_uuid"][1]: _either(_map(row["external_ids"]), "logical-switch", "logical-router") for row in bindings
        }
        groups = {row["_uuid"][1]: _uuids(row["datapaths"]) for row in dp_groups}
        found: set[FlowRow] = set()
        parsed: dict[str, Match] = {}
        for row in self._renumbered(rows):
            stage = _map(row["external_ids"]).get("stage-name", "")
            if stage not in STAGES:
                continue
            match = parsed.get(row["match"]) or parsed.setdefault(row["match"], parse(row["match"]))
            on = [*_uuids(row["logical_datapath"])]
            on += [each for group in _uuids(row["logical_dp_group"]) for each in groups[group]]
            found.update((datapaths[each], stage, row["priority"], match) for each in on if each in datapaths)
        return found

    def _renumbered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """northd counts groups of next hops out; ours are named after their policies, which priority and match tell."""
        with self.central.northbound.wire() as wire:
            policies = wire.select("Logical_Router_Policy", columns=["_uuid", "priority", "match"])
        ours = {(each["priority"], each["match"]): UUID(each["_uuid"][1]).int for each in policies}
        drawn = {
            found[1]: ours[row["priority"], row["match"]]
            for row in rows
            if (found := re.match(r"reg8\[0\.\.15\] = (\d+); reg8\[16\.\.31\] = select\(", row["actions"]))
        }
        group = re.compile(r"reg8\[0\.\.15\] == (\d+) && ")
        return [
            {**row, "match": group.sub(lambda found: f"reg8[0..15] == {drawn.get(found[1], 0)} && ", row["match"])}
            for row in rows
        ]


def our_flows(table: FlowTable) -> Iterator[FlowRow]:
    for flow, on in table.listing():
        for datapath in on:
            yield datapath.uuid, flow.stage, flow.priority, flow.match


def _map(raw: Any) -> dict[str, str]:
    return dict(raw[1])


def _uuids(raw: Any) -> list[str]:
    return [raw[1]] if raw[0] == "uuid" else [each[1] for each in raw[1]]


def _either(ids: dict[str, str], *keys: str) -> str:
    return next(ids[key] for key in keys if key in ids)


# ---------------------------------------------------------------------------------------------- packets


class Start(NamedTuple):
    """Where a packet enters: switch, port, and the MACs it carries."""

    datapath: str
    inport: str
    source_mac: str
    target_mac: str


def microflow(scene: Scene, question: Question) -> tuple[str, str]:
    """(datapath, ovn-trace's expression) of a question's packet."""
    ends = scene.ends(question)
    return _written(question, ends, _start(scene, ends))


def _written(question: Question, ends: Ends, start: Start) -> tuple[str, str]:
    family = ends.target.address.family
    parts = [
        f'inport == "{start.inport}"',
        f"eth.src == {start.source_mac}",
        f"eth.dst == {start.target_mac}",
        "ip.ttl == 64",
        f"ip{family}.src == {ends.source.address}",
        f"ip{family}.dst == {ends.target.address}",
    ]
    if question.protocol == "icmp":
        parts.append("icmp4.type == 8" if family == 4 else "icmp6.type == 128")
        parts.append(f"icmp{family}.code == 0")
    else:
        sides = ("dst", "src") if question.state == "reply" else ("src", "dst")
        client, server = (f"{question.protocol}.{side} == {{}}" for side in sides)
        client, server = client.format(CLIENT_PORT), server.format(question.port)
        parts += [client, server]
    return start.datapath, " && ".join(parts)


def balanced_microflow(scene: Scene, question: Question, meeting: Meeting) -> tuple[str, str]:
    """The same for a packet on its way to a Service, at the place where it is balanced."""
    ends = scene.ends(question)
    place, before = meeting.place, Ends(source=meeting.source, target=ends.target)
    if meeting.side == "switch":
        return _written(question, before, _start(scene, before)._replace(target_mac=place.router_mac))
    start = Start(naming.external_switch(place.name), place.localnet, OUTSIDE_MAC, place.external_mac)
    return _written(question, before, start)


def balanced_end(scene: Scene, meeting: Meeting, target: Target) -> set[tuple[str, str]]:
    """(port, type) that a packet may come out of after ``target`` was chosen for it."""
    if meeting.side == "switch" and (egress := way_after(scene, meeting, chosen_end(scene, meeting, target)).egress):
        return _exits(scene, egress)
    return {_balanced_end(scene, meeting, target)}


def _exits(scene: Scene, egress: Egress) -> set[tuple[str, str]]:
    return {(scene.places[each.node].localnet, "localnet") for each in egress.candidates}


def _balanced_end(scene: Scene, meeting: Meeting, target: Target) -> tuple[str, str]:
    place, end = meeting.place, scene.end_of_address(target.address, meeting.place.name)
    if end.endpoint is not None:
        return naming.pod_port_name(end.endpoint.key), ""
    if end.is_management or (end.node == place.name and meeting.side == "switch"):
        return naming.management_port(end.node), ""
    if end.kind == "windows":
        return naming.hybrid_port(place.name), ""
    return place.localnet, "localnet"


def lb_dst(meeting: Meeting, target: Target) -> str:
    """``target`` as the load balancer of a datapath names it: a gateway reaches its own node by another address."""
    if meeting.side == "gateway" and target.address in meeting.place.hosts:
        return str(Target(MASQUERADE[target.address.family].at(MASQUERADE_HOST), target.port))
    return str(target)


def _start(scene: Scene, ends: Ends) -> Start:
    source, target = ends.source, ends.target
    if source.kind == "windows":
        place, gateway = scene.places[target.node], scene.places[target.node].hybrid_gateway
        assert target.endpoint is not None and gateway is not None
        return Start(place.name, naming.hybrid_port(place.name), mac_of(gateway), target.endpoint.mac)
    if source.kind not in ("pod", "node"):
        place = scene.places[target.node]
        return Start(naming.external_switch(place.name), place.localnet, OUTSIDE_MAC, place.external_mac)
    place = scene.places[source.node]
    if source.endpoint is not None:
        inport, mac = naming.pod_port_name(source.endpoint.key), source.endpoint.mac
    else:
        inport, mac = naming.management_port(place.name), place.management_mac
    return Start(place.name, inport, mac, _next_mac(place, ends))


def _next_mac(place: NodePlace, ends: Ends) -> str:
    """The target's own MAC when it sits on the same switch, a group's for multicast, else the router's."""
    target = ends.target
    if target.kind == "group":
        return _group_mac(target.address)
    if target.endpoint is not None and target.endpoint.node == place.name:
        return target.endpoint.mac
    if target.is_management and target.node == place.name:
        return place.management_mac
    return place.router_mac


def _group_mac(address: Address) -> str:
    """RFC 1112, RFC 2464; broadcast is all ones."""
    if special_kind(address) == "broadcast":
        return "ff:ff:ff:ff:ff:ff"
    if address.family == 4:
        raw = bytes((1, 0, 0x5E)) + (address.value & 0x7FFFFF).to_bytes(3, "big")
    else:
        raw = bytes((0x33, 0x33)) + (address.value & 0xFFFFFFFF).to_bytes(4, "big")
    return ":".join(f"{byte:02x}" for byte in raw)


def enters_ovn(scene: Scene, question: Question) -> bool:
    """Whether the packet has a place to start from: outsiders need a gateway, and hosts talk past OVN."""
    ends = scene.ends(question)
    if not find_way(scene, ends).passes_ovn:
        return False
    return ends.source.kind in ("pod", "node", "windows") or scene.places[ends.target.node].has_gateway


def where_it_may_end(scene: Scene, question: Question) -> set[tuple[str, str]]:
    """The same; several where each connection draws one of several egress IPs."""
    egress = find_way(scene, scene.ends(question), question).egress
    return _exits(scene, egress) if egress is not None else {where_it_should_end(scene, question)}


def where_it_should_end(scene: Scene, question: Question) -> tuple[str, str]:
    """(port, type) that an allowed packet comes out of, egress IPs apart: a pod's, a node's, or its gateway's localnet
    port."""
    ends = scene.ends(question)
    source, target = ends.source, ends.target
    if target.endpoint is not None:
        return naming.pod_port_name(target.endpoint.key), ""
    if target.kind == "node" and (target.is_management or target.node == source.node):
        return naming.management_port(target.node), ""
    if target.kind == "windows":
        return naming.hybrid_port(source.node), ""
    return scene.places[source.node].localnet, "localnet"
