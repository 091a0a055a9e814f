"""Who gets which vips: a Service's addresses of one protocol, laid out into as few load balancers as OVN allows.

There are three kinds of vip (cluster IPs, external ones, node ports) and two sides that balance (node switches, for
pods; gateway routers, for the outside). Where a kind means the same on every datapath of a side, the row goes to the
side's group, and where it does on both sides, to both. Where it does not, each node that differs has a row of its own
and all others share one, attached to each of them: one vip must not come twice to a datapath, so the shared row cannot
be in the group. Pure; ``rules`` makes rows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from ovnk_core.features.services.endpoints import Backend, Target, candidates, targets
from ovnk_core.model.cluster import MASQUERADE, ClusterNetwork
from ovnk_core.model.decision import ServiceDecision
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.nb.row import Pairs, pairs_of
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Key, Value
from ovnk_core.topology.gateway import MASQUERADE_HOST

Side = Literal["switch", "router"]
Kind = Literal["cluster", "external", "node"]
Answers = tuple[tuple[Target, ...], ...]
"""Where each port goes, in the order of the Service's ports."""
SIDES: tuple[Side, ...] = ("switch", "router")
GROUPS: dict[Side, str] = {"switch": "clusterSwitchLBGroup", "router": "clusterRouterLBGroup"}
ALL_GROUP = "clusterLBGroup"


class Front(Key, frozen=True, order=True, cache_hash=True):
    """A node as node ports see it. ``hosts``: every address it answers to, sorted."""

    node: str
    has_gateway: bool
    hosts: tuple[Address, ...]


class Surroundings(Protocol):
    """What a layout asks for beyond the Service; the nodes only where nodes matter."""

    backends: frozenset[Backend]
    network: ClusterNetwork
    has_templates: bool

    def fronts(self) -> tuple[Front, ...]: ...

    def slots(self, family: Family) -> int: ...


class Balancer(Value, frozen=True, kw_only=True):
    """One load balancer to be. ``scope`` ends its name; it goes to ``groups``, or to the datapaths of ``nodes``.
    ``keeps_source``: the client's address reaches the endpoint. ``template``: family of the variables in ``vips``."""

    scope: str
    vips: Pairs
    keeps_source: bool = False
    template: Family | None = None
    groups: tuple[str, ...] = ()
    nodes: tuple[tuple[Side, str], ...] = ()


def variable(family: Family, slot: int) -> str:
    """Template variable of a node's address number ``slot`` of a family."""
    return f"NODEIP_IPv{family}_{slot}"


class Layout:
    """The load balancers of one Service and protocol."""

    def __init__(self, service: Service, decision: ServiceDecision, protocol: Transport, around: Surroundings) -> None:
        self.service, self.around = service, around
        self.ports = tuple(port for port in service.ports if port.protocol == protocol)
        given = {(each.protocol, each.port): each.node_port for each in decision.node_ports}
        self._node_ports = {port: given.get((protocol, port.port), 0) for port in self.ports}
        external = dict.fromkeys((*service.external_ips, *service.load_balancer_ips))
        self._addresses: dict[Kind, tuple[Address, ...]] = {
            "cluster": self._usable(decision.cluster_ips),
            "external": self._usable(each for each in external if each not in decision.cluster_ips),
        }
        self.kinds: tuple[Kind, ...] = tuple(kind for kind, found in self._addresses.items() if found)
        self.kinds += ("node",) if any(self._node_ports.values()) else ()
        numbers = {number for number in self._node_ports.values() if number}
        is_met = "external" in self.kinds and any(port.port in numbers for port in self.ports)
        self._own_fronts = {(each, number) for each in _hosts(around) for number in numbers} if is_met else frozenset()
        stated = {each for port in self.ports for each in candidates(port, around.backends)}
        self._by_node: dict[str, list[Backend]] = {}
        for each in stated:
            self._by_node.setdefault(each.node, []).append(each)
        self._all = tuple(targets(service, port, stated) for port in self.ports)
        self._has_hosts = any(is_host_network(around.network, each.address) for each in stated)

    def _usable(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        return tuple(address for address in addresses if address.family in self.around.network.families)

    def _vips(self, kind: Kind, port: ServicePort, front: Front | None) -> Iterator[tuple[Address, int]]:
        """Literal vips of one kind. An external address that is a node's own, on a port that is also a node port of the
        same Service, is that node port."""
        if kind == "node":
            number = self._node_ports[port]
            yield from ((each, number) for each in self._usable(front.hosts if front and number else ()))
        else:
            found = ((each, port.port) for each in self._addresses[kind])
            yield from (vip for vip in found if kind == "cluster" or vip not in self._own_fronts)

    # ------------------------------------------------------------------ what a node answers

    def _is_local(self, kind: Kind, side: Side) -> bool:
        """Whether only a node's own endpoints are asked there."""
        if kind == "cluster":
            return side == "switch" and self.service.internal_policy == "Local"
        return side == "router" and self.service.external_policy == "Local"

    def _varies(self, kind: Kind, side: Side) -> bool:
        """Whether nodes may differ: a property of the Service, whatever nodes there are."""
        is_literal = kind == "node" and not self.around.has_templates
        return is_literal or self._is_local(kind, side) or (side == "router" and self._has_hosts)

    def _answers(self, kind: Kind, side: Side, front: Front | None) -> Answers:
        """What connections to a kind of vip reach on one datapath; None: of a node that hosts no endpoint."""
        found = self._all
        if self._is_local(kind, side):
            own = self._by_node.get(front.node, ()) if front is not None else ()
            node = front.node if front is not None else ""
            found = tuple(targets(self.service, port, own, node=node) for port in self.ports)
        if side == "router" and front is not None and self._has_hosts:
            found = tuple(tuple(sorted(_seen_from(front, each) for each in each_port)) for each_port in found)
        return found

    # ------------------------------------------------------------------ who shares what

    def balancers(self) -> Iterator[Balancer]:
        """Every load balancer, those for all nodes first. None is without vips."""
        fixed: dict[Side, list[Kind]] = {
            side: [kind for kind in self.kinds if not self._varies(kind, side)] for side in SIDES
        }
        both = [kind for kind in self.kinds if all(kind in fixed[side] for side in SIDES)]
        answers = [(kind, self._answers(kind, "switch", None)) for kind in both]
        yield from self._shared("", answers, (ALL_GROUP,), tuple(GROUPS.values()))
        own: dict[str, list[tuple[Side, Balancer]]] = {}
        for side in SIDES:
            varying = [kind for kind in self.kinds if kind not in fixed[side]]
            differing = self._differing(side, varying) if varying else ()
            to_group = [kind for kind in self.kinds if kind not in both and (kind in fixed[side] or not differing)]
            group = (GROUPS[side],)
            answers = [(kind, self._answers(kind, side, None)) for kind in to_group]
            yield from self._shared(f"node_{side}", answers, group, group)
            if differing:
                yield from self._others(side, varying, differing)
            for front in differing:
                for each in self._own(side, varying, front):
                    own.setdefault(front.node, []).append((side, each))
        for node in sorted(own):
            yield from _both_sides(node, own[node])

    def _fronts(self, side: Side) -> list[Front]:
        return [front for front in self.around.fronts() if side == "switch" or front.has_gateway]

    def _differing(self, side: Side, kinds: list[Kind]) -> tuple[Front, ...]:
        """Nodes for which some of the kinds are not what they are for a node without endpoints."""
        if "node" in kinds and not self.around.has_templates:
            return tuple(self._fronts(side))
        usual = [self._answers(kind, side, None) for kind in kinds]
        # Without endpoints on hosts, a node that hosts none is the usual one.
        asked = (front for front in self._fronts(side) if self._has_hosts or front.node in self._by_node)
        return tuple(front for front in asked if [self._answers(kind, side, front) for kind in kinds] != usual)

    def _others(self, side: Side, kinds: list[Kind], differing: tuple[Front, ...]) -> Iterator[Balancer]:
        special = set(differing)
        nodes = tuple((side, front.node) for front in self._fronts(side) if front not in special)
        if nodes:
            answers = [(kind, self._answers(kind, side, None)) for kind in kinds]
            yield from self._shared(f"node_{side}", answers, (), (), nodes=nodes)

    def _shared(
        self,
        scope: str,
        answers: list[tuple[Kind, Answers]],
        groups: tuple[str, ...],
        node_groups: tuple[str, ...],
        *,
        nodes: tuple[tuple[Side, str], ...] = (),
    ) -> Iterator[Balancer]:
        """Rows for more than one node. An empty ``scope``: for everybody."""
        ending = "others" if nodes else "merged"
        literal = pairs_of(
            {
                _vip(address, number): _joined(found, address.family)
                for kind, each in answers
                for port, found in zip(self.ports, each, strict=True)
                for address, number in self._vips(kind, port, None)
            }
        )
        if literal:
            yield Balancer(scope=f"{scope}_{ending}" if scope else "cluster", vips=literal, groups=groups, nodes=nodes)
        found_by_port = next((each for kind, each in answers if kind == "node"), None)
        for family in self.around.network.families if found_by_port is not None and self.around.has_templates else ():
            vips = pairs_of(
                {
                    f"^{variable(family, slot)}:{number}": _joined(found, family)
                    for port, found in zip(self.ports, found_by_port or (), strict=True)
                    if (number := self._node_ports[port])
                    for slot in range(self.around.slots(family))
                }
            )
            if vips:
                name = f"{scope or 'node_switch+router'}_template_IPv{family}"
                name += "_others" if nodes else ""
                yield Balancer(scope=name, vips=vips, template=family, groups=node_groups, nodes=nodes)

    def _own(self, side: Side, kinds: list[Kind], front: Front) -> Iterator[Balancer]:
        """Rows of one node: the one that keeps clients' addresses apart from the others."""
        plain: dict[str, str] = {}
        keeping: dict[str, str] = {}
        for kind in kinds:
            for port, found in zip(self.ports, self._answers(kind, side, front), strict=True):
                for address, number in self._vips(kind, port, front):
                    backends = _joined(found, address.family)
                    is_kept = side == "router" and self._is_local(kind, side) and backends
                    (keeping if is_kept else plain)[_vip(address, number)] = backends
        nodes = ((side, front.node),)
        if plain:
            yield Balancer(scope=f"node_{side}_{front.node}", vips=pairs_of(plain), nodes=nodes)
        if keeping:
            scope = f"node_local_{side}_{front.node}"
            yield Balancer(scope=scope, vips=pairs_of(keeping), keeps_source=True, nodes=nodes)


def _hosts(around: Surroundings) -> set[Address]:
    return {address for front in around.fronts() for address in front.hosts}


def is_host_network(network: ClusterNetwork, address: Address) -> bool:
    """Whether an endpoint is a host's rather than a pod's."""
    return not (network.holds(address) or network.holds_hybrid(address))


def _seen_from(front: Front, target: Target) -> Target:
    """A node's gateway reaches the node itself by a masquerade address: its own is the router's too."""
    if target.address not in front.hosts:
        return target
    return Target(MASQUERADE[target.address.family].at(MASQUERADE_HOST), target.port)


def _both_sides(node: str, found: list[tuple[Side, Balancer]]) -> Iterator[Balancer]:
    """A node's own rows; what its switch and its router both have is one."""
    by_vips: dict[tuple[Pairs, bool], list[tuple[Side, Balancer]]] = {}
    for side, each in found:
        by_vips.setdefault((each.vips, each.keeps_source), []).append((side, each))
    for (vips, _), same in by_vips.items():
        if len(same) == 1:
            yield same[0][1]
        else:
            nodes = tuple((side, node) for side, _ in same)
            yield Balancer(scope=f"node_router+switch_{node}", vips=vips, nodes=nodes)


def _vip(address: Address, port: int) -> str:
    return str(Target(address, port))


def _joined(found: Iterable[Target], family: Family) -> str:
    return ",".join(str(target) for target in found if target.address.family == family)


def protocols_of(ports: Iterable[ServicePort]) -> tuple[Transport, ...]:
    """Protocols of some ports, in a fixed order."""
    return tuple(sorted({port.protocol for port in ports}))
