"""Rows that exist once per cluster: router, join switch, load-balancer groups, port groups, CoPP."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.cluster import JOIN, ClusterNetwork
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    COPPS,
    LB_GROUPS,
    MEMBER,
    METER_BANDS,
    METERS,
    PORT_GROUPS,
    ROUTER_PORTS,
    ROUTERS,
    SWITCH_PORTS,
    SWITCHES,
    object_ids,
)
from ovnk_core.nb.row import ColumnId, RowId, pairs, pairs_of
from ovnk_core.nb.tables import (
    Copp,
    LoadBalancerGroup,
    LogicalRouter,
    LogicalRouterPort,
    LogicalSwitch,
    LogicalSwitchPort,
    Meter,
    MeterBand,
    PortGroup,
)
from ovnk_core.terms.address import mac_of
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.multicast import ON, RELAY
from ovnk_core.topology.place import CLUSTER_NETWORK

COPP_RATE_PKTPS = 25
COPP_PROTOCOLS = (
    "arp",
    "arp-resolve",
    "bfd",
    "event-elb",
    "icmp4-error",
    "icmp6-error",
    "reject",
    "svc-monitor",
    "tcp-reset",
)
ACL_LOG_METER, ACL_LOG_RATE_PKTPS = "acl-logging", 20
COPP_ROW = RowId("Copp", naming.CLUSTER_OWNER, naming.COPP)


@rule(
    driver=CLUSTER_NETWORK,
    reads=(RELAY,),
    out=(ROUTERS, ROUTER_PORTS, SWITCHES, SWITCH_PORTS, MEMBER),
)
def cluster_router(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """``ovn_cluster_router`` and the ``join`` switch that ties it to all gateway routers."""
    router, switch = naming.CLUSTER_ROUTER_ROW, naming.JOIN_SWITCH_ROW
    multicast = {"mcast_relay": "true"} if read(RELAY, ON) else {}
    yield ROUTERS.row(
        router,
        LogicalRouter(
            name=naming.CLUSTER_ROUTER,
            options=pairs(always_learn_from_arp_request="false", **multicast),
            copp=COPP_ROW.uuid,
            external_ids=pairs_of({"k8s-cluster-router": "yes"}),
        ),
    )
    port = RowId("Logical_Router_Port", naming.CLUSTER_OWNER, naming.JOIN_ROUTER_PORT)
    addresses = [network.join_router(family) for family in network.families]
    yield ROUTER_PORTS.row(
        port,
        LogicalRouterPort(
            name=naming.JOIN_ROUTER_PORT,
            mac=mac_of(addresses[0]),
            networks=tuple(f"{address}/{JOIN[address.family].prefix}" for address in addresses),
        ),
    )
    yield MEMBER.member(ColumnId(router, "ports"), port)
    yield SWITCHES.row(switch, LogicalSwitch(name=naming.JOIN_SWITCH))
    peer = RowId("Logical_Switch_Port", naming.CLUSTER_OWNER, naming.JOIN_SWITCH_PORT)
    yield SWITCH_PORTS.row(peer, router_facing_port(naming.JOIN_SWITCH_PORT, naming.JOIN_ROUTER_PORT))
    yield MEMBER.member(ColumnId(switch, "ports"), peer)


def router_facing_port(name: str, router_port: str, **options: str) -> LogicalSwitchPort:
    """A switch port of type router: the switch's side of a router port."""
    return LogicalSwitchPort(
        name=name, type="router", addresses=("router",), options=pairs_of({"router-port": router_port, **options})
    )


@rule(driver=CLUSTER_NETWORK, out=(LB_GROUPS, PORT_GROUPS))
def cluster_groups(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """Load-balancer groups, and the port groups of management ports and of router-facing ports."""
    for name in naming.LB_GROUPS:
        yield LB_GROUPS.row(naming.lb_group_row(name), LoadBalancerGroup(name=name))
    for row, name, label in (
        (naming.CLUSTER_PORT_GROUP_ROW, naming.CLUSTER_PORT_GROUP, "clusterPortGroup"),
        (naming.CLUSTER_ROUTER_PORT_GROUP_ROW, naming.CLUSTER_ROUTER_PORT_GROUP, "clusterRtrPortGroup"),
    ):
        yield PORT_GROUPS.row(row, PortGroup(name=name, external_ids=object_ids("Cluster", label)))


@rule(driver=CLUSTER_NETWORK, out=(COPPS, METERS, METER_BANDS, MEMBER))
def control_plane_policing(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """Rate limits for packets that reach ovn-controller, and for ACL logging (CVE-2023-3153: limit svc-monitor)."""
    yield COPPS.row(
        COPP_ROW,
        Copp(
            name=naming.COPP,
            meters=pairs_of({protocol: f"{protocol}-rate-limiter" for protocol in COPP_PROTOCOLS}),
        ),
    )
    limits = [(f"{protocol}-rate-limiter", COPP_RATE_PKTPS) for protocol in COPP_PROTOCOLS]
    for name, rate in (*limits, (ACL_LOG_METER, ACL_LOG_RATE_PKTPS)):
        meter, band = RowId("Meter", naming.CLUSTER_OWNER, name), RowId("Meter_Band", naming.CLUSTER_OWNER, name)
        yield METERS.row(meter, Meter(name=name, unit="pktps", fair=True))
        yield METER_BANDS.row(band, MeterBand(action="drop", rate=rate))
        yield MEMBER.member(ColumnId(meter, "bands"), band)
