"""Multicast -> deny rows for the cluster, allow rows for routed packets and for each namespace that opted in.

The deny rows name no port: standing on the group of management ports they are on every node switch, for all its ports.
Priorities: docs/priorities.md. Match texts: docs/sources.md, Multicast.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Literal

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.indexes.projection import MEMBER_BINDING, AddressesOf, Binding, PortsOf
from ovnk_core.indexes.selection import SELECTION_WANT, PodSelection
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.tables import CLUSTER
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER, PORT_GROUPS, object_ids
from ovnk_core.nb.match import AddressSetRef, Hex, Is, Match, PortGroupRef, conj, differs, disj, equals, text
from ovnk_core.nb.row import ColumnId, Pairs, RowId
from ovnk_core.nb.tables import APPLY_AFTER_LB, Acl, AddressSet, PortGroup
from ovnk_core.nb.tables import Direction as AclDirection
from ovnk_core.terms.address import Family
from ovnk_core.terms.name import NamespacedName, ObjectRef, hashed_name
from ovnk_core.topology.multicast import MULTICAST_NAMESPACE
from ovnk_core.topology.place import CLUSTER_NETWORK

Direction = Literal["Ingress", "Egress"]
DIRECTIONS: tuple[Direction, Direction] = ("Ingress", "Egress")
ALLOW_PRIORITY, DENY_PRIORITY = 1012, 1011
ROLE = "multicast"
ACL_DIRECTION: dict[Direction, AclDirection] = {"Ingress": "to-lport", "Egress": "from-lport"}
PORT: dict[Direction, str] = {"Ingress": "outport", "Egress": "inport"}

TRANSIENT = conj(equals("ip6.dst[120..127]", Hex(0xFF)), equals("ip6.dst[116]", 1))
"""IPv6 groups with flag T: those that are not permanent."""
WIDE = conj(equals("ip6.dst[120..127]", Hex(0xFF)), differs("ip6.dst[114..115]", 0))
"""IPv6 groups of scope 4 and more, permanent or not: all that OVN's routers would relay. OVN-Kubernetes has no rows for
them, and a permanent group reaches whoever joined it in any namespace. Price: four ACLs, and two for each namespace."""
LISTENERS: tuple[Match, ...] = (Is("mldv1"), Is("mldv2"))
EVERY_GROUP = disj(Is("ip4.mcast"), *LISTENERS, TRANSIENT)
"""The same in clusters of one family."""
EVERYWHERE: tuple[tuple[str, Match], ...] = (("", EVERY_GROUP), ("Wide", WIDE))
"""Groups that the rows of the cluster are about, with a word for their names."""


def namespace_owner(namespace: str) -> ObjectRef:
    return ObjectRef("Namespace", "", namespace)


def group_row(namespace: str) -> RowId:
    """The port group of the pods of a namespace that opted in."""
    return RowId("Port_Group", namespace_owner(namespace), ROLE)


def group_name(namespace: str) -> str:
    return hashed_name("MulticastNS", namespace)


def set_row(namespace: str, family: Family) -> RowId:
    """The address set of the same pods in one family."""
    return RowId("Address_Set", namespace_owner(namespace), f"{ROLE}/v{family}")


def set_name(namespace: str, family: Family) -> str:
    return hashed_name("Namespace", namespace, f"v{family}")


# ------------------------------------------------------------------------------------------- the cluster


@rule(driver=CLUSTER_NETWORK, out=(ACLS, MEMBER))
def cluster_multicast(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """No multicast to or from any port but those that lead to the cluster router: what comes from there was allowed
    where it was sent, and is judged once more at each receiver."""
    routed = PortGroupRef(naming.CLUSTER_ROUTER_PORT_GROUP)
    for direction, (word, groups) in product(DIRECTIONS, EVERYWHERE):
        through = conj(equals(PORT[direction], routed), groups)
        rows: tuple[tuple[str, RowId, int, Match, Literal["allow", "drop"]], ...] = (
            (f"DefaultDeny{word}", naming.CLUSTER_PORT_GROUP_ROW, DENY_PRIORITY, groups, "drop"),
            (f"AllowInterNode{word}", naming.CLUSTER_ROUTER_PORT_GROUP_ROW, ALLOW_PRIORITY, through, "allow"),
        )
        for kind, group, priority, match, action in rows:
            row = RowId("ACL", naming.CLUSTER_OWNER, f"{ROLE}/{kind}/{direction}")
            ids = object_ids("MulticastCluster", kind, direction, direction=direction)
            yield ACLS.row(row, _acl(direction, priority, match, action, ids))
            yield MEMBER.member(ColumnId(group, "acls"), row)


# ------------------------------------------------------------------------------------------- one namespace


@rule(
    driver=MULTICAST_NAMESPACE,
    reads=(CLUSTER_NETWORK,),
    out=(SELECTION_WANT, MEMBER_BINDING, PORT_GROUPS, ADDRESS_SETS, ACLS, MEMBER),
)
def namespace_multicast(read: Reader, namespace: str, is_on: bool) -> Iterable[Output]:
    """A namespace that opted in -> its pods may send to any group and hear what its pods sent."""
    network = read(CLUSTER_NETWORK, CLUSTER)
    if network is None:
        return
    pods, group = PodSelection(namespace), group_row(namespace)
    yield SELECTION_WANT.member(pods, namespace_owner(namespace))
    ids = object_ids("MulticastNS", namespace)
    yield PORT_GROUPS.row(group, PortGroup(name=group_name(namespace), external_ids=ids))
    yield MEMBER_BINDING.member(ColumnId(group, "ports"), Binding(pods, PortsOf()))
    for family in network.families:
        addresses = set_row(namespace, family)
        ids = object_ids("Namespace", namespace, ip_family=f"v{family}")
        yield ADDRESS_SETS.row(addresses, AddressSet(name=set_name(namespace, family), external_ids=ids))
        yield MEMBER_BINDING.member(ColumnId(addresses, "addresses"), Binding(pods, AddressesOf(family)))
    for direction in DIRECTIONS:
        mine = equals(PORT[direction], PortGroupRef(group_name(namespace)))
        allowed = [
            ("", disj(*(each for family in network.families for each in _allowed(namespace, direction, family))))
        ]
        if 6 in network.families:
            allowed.append(("Wide", conj(*_from_pods(namespace, direction, 6), WIDE)))
        for word, match in allowed:
            row = RowId("ACL", namespace_owner(namespace), f"{ROLE}/{direction}{word}")
            ids = object_ids("MulticastNS", namespace, f"{direction}{word}", direction=direction)
            yield ACLS.row(row, _acl(direction, ALLOW_PRIORITY, conj(mine, match), "allow", ids))
            yield MEMBER.member(ColumnId(group, "acls"), row)


def _allowed(namespace: str, direction: Direction, family: Family) -> tuple[Match, ...]:
    """Alternatives of one family: to any group on the way out, from the namespace's pods on the way in; and the
    questions and reports of who listens."""
    packets = Is("ip4.mcast") if family == 4 else TRANSIENT
    listeners = (Is("igmp"),) if family == 4 else LISTENERS
    if direction == "Egress":
        return (packets,) if family == 4 else (*listeners, packets)
    return *listeners, conj(*_from_pods(namespace, direction, family), packets)


def _from_pods(namespace: str, direction: Direction, family: Family) -> tuple[Match, ...]:
    """On the way in: that the sender is a pod of the namespace. On the way out its port says so."""
    if direction == "Egress":
        return ()
    return (equals(f"ip{family}.src", AddressSetRef(set_name(namespace, family))),)


def _acl(
    direction: Direction, priority: int, match: Match, action: Literal["allow", "drop"], external_ids: Pairs
) -> Acl:
    return Acl(
        direction=ACL_DIRECTION[direction],
        priority=priority,
        match=text(match),
        action=action,
        options=APPLY_AFTER_LB if direction == "Egress" else (),
        tier=2,
        external_ids=external_ids,
    )


RULES = (cluster_multicast, namespace_multicast)
