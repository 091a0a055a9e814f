"""A node's switch: ports towards the router and the node, pods' ports, and the own-node allowance."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.indexes.endpoint import ENDPOINT, Endpoint
from ovnk_core.model.manifest import manifest_text
from ovnk_core.model.tables import NODE, POD
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    ACLS,
    GATEWAY_CHASSIS,
    MEMBER,
    ROUTER_PORTS,
    SWITCH_PORTS,
    SWITCHES,
    object_ids,
)
from ovnk_core.nb.match import disj, equals, text
from ovnk_core.nb.row import ACCEPTED_KEY, NODE_ID_KEY, ColumnId, Pairs, RowId, pairs_of
from ovnk_core.nb.tables import (
    APPLY_AFTER_LB,
    Acl,
    Direction,
    GatewayChassis,
    LogicalRouterPort,
    LogicalSwitch,
    LogicalSwitchPort,
)
from ovnk_core.terms.address import FAMILIES, Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.cluster import router_facing_port
from ovnk_core.topology.multicast import SNOOPING_NODE, snooping_config
from ovnk_core.topology.place import NODE_PLACE, NodePlace

OWN_NODE_PRIORITY = 1001
"""Same band as policy allows: above the default deny (1000)."""


@rule(
    driver=NODE_PLACE,
    reads=(NODE, SNOOPING_NODE),
    out=(SWITCHES, SWITCH_PORTS, ROUTER_PORTS, GATEWAY_CHASSIS, MEMBER),
)
def node_switch(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node -> its switch, ``stor``/``rtos`` to the cluster router and ``k8s-`` to the node itself."""
    node, switch = place.name, naming.node_switch_row(place.name)
    declared = read(NODE, key)
    accepted = {ACCEPTED_KEY: manifest_text(declared)} if declared is not None else {}
    ids = pairs_of({NODE_ID_KEY: str(place.node_id), **accepted})
    config = _other_config(place) | (snooping_config(place) if read(SNOOPING_NODE, node) else {})
    yield SWITCHES.row(switch, LogicalSwitch(name=node, other_config=pairs_of(config), external_ids=ids))
    for group in ("clusterLBGroup", "clusterSwitchLBGroup"):
        yield MEMBER.member(ColumnId(switch, "load_balancer_group"), naming.lb_group_row(group))

    router_port = naming.router_port_row(node, "rtos")
    yield ROUTER_PORTS.row(
        router_port,
        LogicalRouterPort(
            name=naming.router_to_switch(node), mac=place.router_mac, networks=tuple(map(str, place.router))
        ),
    )
    yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "ports"), router_port)
    chassis = RowId("Gateway_Chassis", naming.node_owner(node), "rtos")
    name = f"{naming.router_to_switch(node)}-{place.chassis}"
    yield GATEWAY_CHASSIS.row(chassis, GatewayChassis(name=name, chassis_name=place.chassis, priority=1))
    yield MEMBER.member(ColumnId(router_port, "gateway_chassis"), chassis)

    router_side = naming.node_port_row(node, "stor")
    yield SWITCH_PORTS.row(
        router_side, router_facing_port(naming.switch_to_router(node), naming.router_to_switch(node))
    )
    yield MEMBER.member(ColumnId(switch, "ports"), router_side)
    yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_PORT_GROUP_ROW, "ports"), router_side)

    management = naming.node_port_row(node, "management")
    address = " ".join((place.management_mac, *map(str, place.management)))
    yield SWITCH_PORTS.row(management, LogicalSwitchPort(name=naming.management_port(node), addresses=(address,)))
    yield MEMBER.member(ColumnId(switch, "ports"), management)
    yield MEMBER.member(ColumnId(naming.CLUSTER_PORT_GROUP_ROW, "ports"), management)


def _other_config(place: NodePlace) -> dict[str, str]:
    config: dict[str, str] = {}
    for subnet, management in zip(place.subnets, place.management, strict=True):
        if subnet.family == 4:
            taken = str(management)
            if place.hybrid_gateway is not None:
                taken += f"..{place.hybrid_gateway}"
            config |= {"subnet": str(subnet), "exclude_ips": taken}
        else:
            config["ipv6_prefix"] = str(subnet.network)
    return config


@rule(driver=NODE_PLACE, out=(ACLS, MEMBER))
def own_node(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """Pods and their own node always reach each other, both ways; every node switch carries these two ACLs.

    Source: NetworkPolicy API, "traffic to and from the node where a Pod is running is always allowed". Being
    allow-related on every switch they also switch on conntrack everywhere, so replies of allowed connections pass.
    """
    inbound = _any_of("src", place.management)
    outbound = _any_of("dst", tuple(sorted({*place.management, *place.hosts})))
    ways: tuple[tuple[str, Direction, str, Pairs], ...] = (
        ("own-node/in", "to-lport", inbound, ()),
        ("own-node/out", "from-lport", outbound, APPLY_AFTER_LB),
    )
    for role, direction, expression, options in ways:
        row = RowId("ACL", naming.node_owner(place.name), role)
        yield ACLS.row(
            row,
            Acl(
                direction=direction,
                priority=OWN_NODE_PRIORITY,
                match=expression,
                action="allow-related",
                options=options,
                external_ids=object_ids("NetpolNode", place.name, direction=direction),
            ),
        )
        yield MEMBER.member(ColumnId(naming.node_switch_row(place.name), "acls"), row)


def _any_of(side: str, addresses: tuple[Address, ...]) -> str:
    parts = [
        equals(f"ip{family}.{side}", *(address.host for address in addresses if address.family == family))
        for family in FAMILIES
        if any(address.family == family for address in addresses)
    ]
    return text(disj(*parts))


@rule(driver=ENDPOINT, reads=(POD,), out=(SWITCH_PORTS, MEMBER))
def pod_port(read: Reader, key: NamespacedName, place: Endpoint) -> Iterable[Output]:
    """An endpoint -> its port on its node's switch, with port security on the recorded addresses."""
    port = naming.pod_port_row(key)
    address = " ".join((place.mac, *map(str, place.addresses)))
    options = {"requested-chassis": place.node}
    if place.uid:
        options["iface-id-ver"] = place.uid
    declared = read(POD, key)
    accepted = {ACCEPTED_KEY: manifest_text(declared)} if declared is not None else {}
    yield SWITCH_PORTS.row(
        port,
        LogicalSwitchPort(
            name=naming.pod_port_name(key),
            addresses=(address,),
            port_security=(address,),
            options=pairs_of(options),
            external_ids=pairs_of({"namespace": key.namespace, "pod": "true", **accepted}),
        ),
    )
    yield MEMBER.member(ColumnId(naming.node_switch_row(place.node), "ports"), port)
