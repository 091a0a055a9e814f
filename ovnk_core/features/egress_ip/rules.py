"""EgressIP -> who is served by which object, router policies and translations.

A pod costs one policy for each of its families, one for each port at which it answers clients that no gateway hid, and
one translation for each address of its object. All else exists once per cluster while there is any EgressIP at all.

Packets to nodes leave by the gateway of the pod's own node. Where that holds an address of the object, too, the pod's
translation there names what it is for: a set of prefixes of everything but nodes' addresses. OVN cannot say "except
these, translated otherwise", and the pod's row outranks the one of the whole cluster network for all that it matches.
The price is one OpenFlow flow for each such pod and prefix (docs/sources.md).

Answers are told by the port they come from. OVN-Kubernetes has switches mark packets of answered connections, which OVN
23.03 cannot: of all that a switch of it may set its routers see the DSCP alone, and ovn-controller leaves ``ip.dscp``
out of the matches it installs (``ovn-trace`` does not). Priorities: docs/priorities.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.indexes.selection import BY_POD_WANT, SELECTED_BY, SELECTION_WANT, PodSelection
from ovnk_core.model.cluster import JOIN, LINK, ClusterNetwork
from ovnk_core.model.egress_ip import EgressIP, EgressIPDecision
from ovnk_core.model.node import Node
from ovnk_core.model.tables import CLUSTER, EGRESS_IP, EGRESS_IP_DECISION, NODE, cluster_key
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    ADDRESS_SETS,
    MEMBER,
    NATS,
    ROUTER_POLICIES,
    object_ids,
)
from ovnk_core.nb.match import AddressSetRef, Match, conj, equals, text
from ovnk_core.nb.row import EVERYWHERE, ColumnId, RowId, pairs_of
from ovnk_core.nb.tables import AddressSet, Nat, RouterPolicy
from ovnk_core.terms.address import Address, Cidr, Family, all_but, cidr
from ovnk_core.terms.name import NamespacedName, hashed_name
from ovnk_core.terms.struct import Key, Value
from ovnk_core.topology.answering import ANSWERING, Answering
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, NodePlace, host_addresses

REROUTE_PRIORITY, STAY_PRIORITY = 100, 102
GROUPS: dict[Family, Cidr] = {4: cidr("224.0.0.0/4"), 6: cidr("ff00::/8")}
ON = "on"


class Rank(Key, frozen=True, order=True, cache_hash=True):
    """An EgressIP among those that select a pod: the least that is placed wins. Objects without a creationTimestamp
    come last."""

    is_undated: bool
    created: str
    name: str


class Gate(Value, frozen=True, kw_only=True, gc=False):
    """One assigned address: ``node`` holds ``address``, and packets reach its gateway router at ``join``."""

    node: str
    address: Address
    join: Address


PRESENT = SetTable[str, str]("egress_ip.present")
"""``ON`` -> ``ON`` while there is any EgressIP."""
GATES = Table[str, tuple[Gate, ...]]("egress_ip.gates")
"""By EgressIP that is placed: its assigned addresses on nodes that have a gateway, sorted by address. None of them
while all are on their way: nobody else serves its pods meanwhile, who would be left again a moment later."""
NODE_IPS = SetTable[Family, Address]("egress_ip.node_ips")
"""Every node's addresses, while there is any EgressIP."""
NOT_NODES_WANT = SetTable[Family, str]("egress_ip.not_nodes.want")
"""Family -> ``ON`` while some translation names the set of all other addresses."""


def rank(item: EgressIP) -> Rank:
    return Rank(not item.created, item.created, item.name)


def selection(item: EgressIP) -> PodSelection:
    """The pods an EgressIP selects."""
    return PodSelection(namespaces=item.namespaces, pods=item.pods)


def gates(decision: EgressIPDecision, places: Iterable[NodePlace | None]) -> tuple[Gate, ...]:
    """The assignments that packets can be sent to; ``places`` in their order, None for a node that has none."""
    return tuple(
        sorted(
            (
                Gate(node=place.name, address=each.address, join=interface.address)
                for each, place in zip(decision.assignments, places, strict=True)
                if place is not None and place.has_gateway
                for interface in place.join
                if interface.family == each.address.family
            ),
            key=lambda gate: gate.address,
        )
    )


def kept(network: ClusterNetwork, family: Family) -> tuple[Cidr, ...]:
    """What pods reach without an egress IP, besides nodes."""
    inside = (*network.cidrs, *(network.hybrid.cidrs if network.hybrid else ()))
    found = tuple(block for block in inside if block.family == family)
    return (*found, JOIN[family], GROUPS[family], *((LINK,) if family == 6 else ()))


# ------------------------------------------------------------------------------------------- one object


@rule(driver=EGRESS_IP, out=(SELECTION_WANT, BY_POD_WANT, PRESENT))
def egress_ip(read: Reader, key: NamespacedName, item: EgressIP) -> Iterable[Output]:
    """An EgressIP -> the pods it asks for, and its rank among others that select them."""
    picked = selection(item)
    yield SELECTION_WANT.member(picked, naming.egress_ip_owner(item.name))
    yield BY_POD_WANT.member(picked, rank(item))
    yield PRESENT.member(ON, ON)


@rule(driver=EGRESS_IP_DECISION, reads=(NODE_PLACE,), out=(GATES,))
def egress_gates(read: Reader, key: NamespacedName, decision: EgressIPDecision) -> Iterable[Output]:
    """Where an object's addresses are -> the gateways to send to, so that a node's other edits touch no pod."""
    if not decision.is_placed:
        return
    places = (read(NODE_PLACE, cluster_key(each.node)) for each in decision.assignments)
    yield GATES.row(key.name, gates(decision, places))


@rule(
    driver=SELECTED_BY,
    reads=(SELECTED_BY, BY_POD_WANT, ENDPOINT, GATES, ANSWERING),
    out=(ROUTER_POLICIES, NATS, MEMBER, NOT_NODES_WANT),
)
def served_pod(read: Reader, key: tuple[NamespacedName, PodSelection], row: None) -> Iterable[Output]:
    """A pod and a selection that picks it -> its rows, if the object that counts asked for this selection."""
    pod, picked = key
    first = {each: _first(read, each) for each in read(SELECTED_BY, pod)}
    winner = min((each for each in first.values() if each is not None), default=None)
    endpoint = read(ENDPOINT, pod)
    if winner is None or first[picked] != winner or endpoint is None:
        return
    found = read(GATES, winner.name) or ()
    for address in endpoint.addresses:
        mine = tuple(gate for gate in found if gate.address.family == address.family)
        if mine:
            yield from _rows(winner.name, endpoint, address, mine)
            for each in sorted(read(ANSWERING, address)):
                yield from _answer(winner.name, endpoint, address, each)


def _first(read: Reader, picked: PodSelection) -> Rank | None:
    """Of the placed objects that ask for a selection the one that counts."""
    ranks = sorted(each for each in read(BY_POD_WANT, picked) if isinstance(each, Rank))
    return next((each for each in ranks if read(GATES, each.name) is not None), None)


def _rows(name: str, pod: Endpoint, address: Address, mine: tuple[Gate, ...]) -> Iterator[Output]:
    owner, who, family = naming.egress_ip_owner(name), f"{pod.key.namespace}/{pod.key.name}", address.family
    ids = object_ids("EgressIP", f"{name}_{who}", ip_family=f"ip{family}", priority=str(REROUTE_PRIORITY))
    policy = RowId("Logical_Router_Policy", owner, f"reroute/{who}/{family}/{EVERYWHERE}")
    yield ROUTER_POLICIES.row(
        policy,
        RouterPolicy(
            priority=REROUTE_PRIORITY,
            match=text(equals(f"ip{family}.src", address.host)),
            action="reroute",
            nexthops=tuple(sorted({str(gate.join) for gate in mine})),
            external_ids=ids,
        ),
    )
    yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), policy)
    for gate in mine:
        row = RowId("NAT", owner, f"snat/{who}/{gate.address}/{EVERYWHERE}")
        is_own = gate.node == pod.node
        if is_own:
            yield NOT_NODES_WANT.member(family, ON)
        yield NATS.row(
            row,
            Nat(
                type="snat",
                external_ip=str(gate.address),
                logical_ip=str(address),
                allowed_ext_ips=_not_nodes_row(family).uuid if is_own else None,
                options=pairs_of({"stateless": "false"}),
                external_ids=object_ids("EgressIP", f"{name}_{who}", ip_family=f"ip{family}"),
            ),
        )
        yield MEMBER.member(ColumnId(naming.gateway_router_row(gate.node), "nat"), row)


def _answer(name: str, pod: Endpoint, address: Address, answering: Answering) -> Iterator[Output]:
    """What the pod sends from a port at which it answers stays with its own gateway."""
    protocol, who = answering.protocol.lower(), f"{pod.key.namespace}/{pod.key.name}"
    match = conj(equals(f"ip{address.family}.src", address.host), equals(f"{protocol}.src", answering.port))
    role = f"answer/{who}/{address.family}/{protocol}/{answering.port}/{EVERYWHERE}"
    row = RowId("Logical_Router_Policy", naming.egress_ip_owner(name), role)
    ids = object_ids("EgressIP", f"{name}_{who}", priority=str(STAY_PRIORITY))
    yield ROUTER_POLICIES.row(
        row, RouterPolicy(priority=STAY_PRIORITY, match=text(match), action="allow", external_ids=ids)
    )
    yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), row)


# ------------------------------------------------------------------------------------------- the cluster


def _nodes_row(family: Family) -> RowId:
    return RowId("Address_Set", naming.CLUSTER_OWNER, f"node-ips/v{family}")


def nodes_name(family: Family) -> str:
    """The set of every node's addresses."""
    return hashed_name("EgressIP", "node-ips", f"v{family}")


def _not_nodes_row(family: Family) -> RowId:
    return RowId("Address_Set", naming.CLUSTER_OWNER, f"not-node-ips/v{family}")


def not_nodes_name(family: Family) -> str:
    """The set of all addresses but nodes'."""
    return hashed_name("EgressIP", "not-node-ips", f"v{family}")


@rule(driver=CLUSTER_NETWORK, reads=(PRESENT,), out=(ADDRESS_SETS, ROUTER_POLICIES, MEMBER))
def kept_packets(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """What is left alone: packets to the inside and to nodes. Only selected pods' would be sent elsewhere, so
    that the policies need not say whose packets they mean: a range is named once, however many pairs it is in."""
    if not read(PRESENT, ON):
        return
    found: list[tuple[str, Match]] = []
    for family in network.families:
        ids = object_ids("EgressIP", "node-ips", ip_family=f"v{family}")
        yield ADDRESS_SETS.row(_nodes_row(family), AddressSet(name=nodes_name(family), external_ids=ids))
        field = f"ip{family}.dst"
        found.append((f"inside/{family}", equals(field, *kept(network, family))))
        found.append((f"nodes/{family}", equals(field, AddressSetRef(nodes_name(family)))))
    for role, match in found:
        row = RowId("Logical_Router_Policy", naming.CLUSTER_OWNER, f"egress-ip/{role}")
        ids = object_ids("EgressIP", f"no-reroute-{role}", priority=str(STAY_PRIORITY))
        yield ROUTER_POLICIES.row(
            row, RouterPolicy(priority=STAY_PRIORITY, match=text(match), action="allow", external_ids=ids)
        )
        yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), row)


@rule(driver=NODE, reads=(PRESENT, CLUSTER_NETWORK), out=(MEMBER, NODE_IPS))
def node_addresses(read: Reader, key: NamespacedName, node: Node) -> Iterable[Output]:
    """Every address of every node, Windows nodes and those without subnets included."""
    network = read(CLUSTER_NETWORK, CLUSTER)
    if network is None or not read(PRESENT, ON):
        return
    for address in host_addresses(node, network):
        if address.family in network.families:
            yield MEMBER.member(ColumnId(_nodes_row(address.family), "addresses"), str(address))
            yield NODE_IPS.member(address.family, address)


@rule(driver=NOT_NODES_WANT, reads=(NODE_IPS,), out=(ADDRESS_SETS, MEMBER))
def other_addresses(read: Reader, key: tuple[Family, str], row: None) -> Iterable[Output]:
    """A family whose set is named -> the set: prefixes of everything that is no node's."""
    family, _ = key
    ids = object_ids("EgressIP", "not-node-ips", ip_family=f"v{family}")
    yield ADDRESS_SETS.row(_not_nodes_row(family), AddressSet(name=not_nodes_name(family), external_ids=ids))
    for block in all_but(family, read(NODE_IPS, family)):
        yield MEMBER.member(ColumnId(_not_nodes_row(family), "addresses"), block.match_text())


RULES = (egress_ip, egress_gates, served_pod, kept_packets, node_addresses, other_addresses)
