"""The logical flows of one state, compiled so that what a packet meets in a stage is found by looking it up.

Port groups and destinations narrow the search: an ACL whose match names a group at its top is only looked at for ports
in that group, and a flow that names one destination (every vip of a load balancer does) only for packets to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ovnk_core.flows.flow import LogicalFlow
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import (
    ADDRESS_SETS,
    MEMBER,
    PORT_GROUPS,
    ROUTER_PORTS,
    ROUTERS,
    SWITCH_PORTS,
    TEMPLATE_VARS,
)
from ovnk_core.nb.match import All, Match, PortGroupRef, Predicate, Test, compile_match
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.terms.address import BITS, Cidr, parse_address
from ovnk_core.trace.prefixes import Prefixes
from ovnk_core.trace.sanity import FIXED, own_sources
from ovnk_core.trace.scene import Scene

_DESTINATIONS = ("ip4.dst", "ip6.dst")
Compiled = tuple[int, tuple[Any, ...], LogicalFlow, Predicate]


class _Stage:
    """Flows of one stage on one datapath: those any packet may meet, those only ports of a group can, and those only
    packets to one address (by field and value) can."""

    def __init__(self) -> None:
        self.common: list[Compiled] = []
        self.by_group: dict[str, list[Compiled]] = {}
        self.by_target: dict[tuple[str, int], list[Compiled]] = {}

    def add(self, entry: Compiled, group: str, target: tuple[str, int] | None) -> None:
        if group:
            self.by_group.setdefault(group, []).append(entry)
        elif target is not None:
            self.by_target.setdefault(target, []).append(entry)
        else:
            self.common.append(entry)


class FlowIndex:
    """The flows of ``table`` as they are now; ``scene`` is of the same state."""

    def __init__(self, scene: Scene, table: FlowTable) -> None:
        self.scene, self.table = scene, table
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
        chassis = {
            row.chassis: {name: parse_address(text).value for name, text in row.variables}
            for row in source.rows(TEMPLATE_VARS).values()
        }
        self._variables = {node: chassis.get(place.chassis, {}) for node, place in scene.places.items()}
        self._here: RowId | None = None
        self._compile()

    def _compile(self) -> None:
        compiled: dict[Match, Predicate] = {}
        for flow_id, flow in self.table.flows().items():
            predicate = compiled.get(flow.match)
            if predicate is None:
                predicate = compiled[flow.match] = compile_match(flow.match)
            entry = (-flow.priority, _rank(flow_id.source), flow, predicate)
            group, target = _group_of(flow.match), _target_of(flow.match)
            for datapath in self.table.datapaths(flow.where):
                self._stages.setdefault((datapath, flow.stage), _Stage()).add(entry, group, target)
        for stage in self._stages.values():
            for flows in (stage.common, *stage.by_group.values(), *stage.by_target.values()):
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

    def variable(self, name: str) -> int | None:
        """On the chassis of the node whose switch or gateway router looks a packet up."""
        node = self._here.owner.name if self._here is not None else ""
        return self._variables.get(node, {}).get(name)

    # ------------------------------------------------------------------ looking up

    def lookup(self, datapath: RowId, stage: str, packet: dict[str, Any]) -> LogicalFlow | None:
        """The flow a packet meets in a stage: highest priority, ties by owner."""
        self._here = datapath
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
        for field in _DESTINATIONS if found.by_target else ():
            yield found.by_target.get((field, packet.get(field, -1)), [])
        if found.by_group:
            for field in ("inport", "outport"):
                port = self._ports.get(packet.get(field, ""))
                for group in self._groups_of.get(port, ()) if port is not None else ():
                    if group in found.by_group:
                        yield found.by_group[group]


def _target_of(match: Match) -> tuple[str, int] | None:
    """The one address a packet must go to for the match to hold, if it says so at its top."""
    for part in match.of if isinstance(match, All) else (match,):
        if isinstance(part, Test) and part.op == "==" and part.field in _DESTINATIONS and len(part.terms) == 1:
            term = part.terms[0]
            if isinstance(term, Cidr) and term.prefix == BITS[term.family]:
                return part.field, term.value
    return None


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
