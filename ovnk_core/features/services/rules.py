"""Services -> load balancers, template variables of each chassis, and what lets a pod reach itself.

A Service's first load balancer also carries its accepted version and its recorded decision; a Service without any has
both in NB_Global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable
from ovnk_core.features.services.endpoints import SERVICE_BACKEND, candidates
from ovnk_core.features.services.layout import Balancer, Front, Layout, Side, protocols_of, variable
from ovnk_core.model.cluster import MASQUERADE, ClusterNetwork
from ovnk_core.model.manifest import manifest_text, service_text
from ovnk_core.model.service import Service
from ovnk_core.model.tables import CLUSTER, SERVICE, SERVICE_DECISION, cluster_key
from ovnk_core.nb import naming
from ovnk_core.nb.desired import (
    ACLS,
    GLOBAL_KEYS,
    LOAD_BALANCERS,
    MEMBER,
    ROUTER_POLICIES,
    TEMPLATE_VARS,
    object_ids,
)
from ovnk_core.nb.match import disj, equals, text
from ovnk_core.nb.row import ACCEPTED_KEY, SERVICE_KEY, ColumnId, RowId, pairs_of
from ovnk_core.nb.tables import Acl, ChassisTemplateVar, LoadBalancer, RouterPolicy
from ovnk_core.terms.address import FAMILIES, Family
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Transport
from ovnk_core.topology.answering import ANSWERING, Answering
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, SETTINGS, NodePlace

HAIRPIN_OFFSET = 5
"""Place in the masquerade range of the source a pod sees when it reaches itself through a Service."""
HAIRPIN_SOURCES = {family: MASQUERADE[family].at(HAIRPIN_OFFSET) for family in FAMILIES}
HAIRPIN_ACL = RowId("ACL", naming.CLUSTER_OWNER, "hairpin")
HAIRPIN_PRIORITY = 1001
"""Same band as policy allows: above the default deny (1000)."""
HAIRPIN_POLICY_PRIORITY = 1010
"""Above every other router policy: nothing that is routed may claim to be a hairpin."""
_OPTIONS = {
    "event": "false",
    "hairpin_snat_ip": " ".join(str(HAIRPIN_SOURCES[family]) for family in FAMILIES),
    "neighbor_responder": "none",
    "reject": "true",
}
_BY_CLIENT = ("ip_dst", "ip_src")
"""ClientIP affinity is a hash of the client, whatever its timeout: with ``affinity_timeout`` OVN 23.03 loses every
client's first connection (ADR 0012). The price: no timeout ends it, and a changed endpoint moves clients."""
_PROTOCOLS: dict[Transport, Literal["tcp", "udp", "sctp"]] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_DATAPATHS: dict[Side, Callable[[str], RowId]] = {
    "switch": naming.node_switch_row,
    "router": naming.gateway_router_row,
}

FRONT = SetTable[NamespacedName, Front]("service.front")
"""Under ``CLUSTER``: every node."""
SLOT = SetTable[Family, int]("service.slot")
"""By family: numbers of node addresses that some node has (0 .. greatest number of addresses of any node)."""
CHASSIS_NODE = SetTable[str, str]("service.chassis_node")
"""By chassis: the nodes that say it is theirs."""


@rule(driver=NODE_PLACE, out=(FRONT, SLOT))
def node_front(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node -> what node ports need to know of it, so that its other edits touch no Service."""
    yield FRONT.member(CLUSTER, Front(place.name, place.has_gateway, place.hosts))
    for family in FAMILIES:
        for slot in range(sum(address.family == family for address in place.hosts)):
            yield SLOT.member(family, slot)


@rule(driver=NODE_PLACE, reads=(SETTINGS,), out=(CHASSIS_NODE,))
def chassis_nodes(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node with addresses -> its chassis, where the server knows template variables."""
    settings = read(SETTINGS, CLUSTER)
    if settings is not None and settings.has_template_variables and place.hosts:
        yield CHASSIS_NODE.member(place.chassis, place.name)


@rule(driver=CHASSIS_NODE, reads=(CHASSIS_NODE, NODE_PLACE), out=(TEMPLATE_VARS,))
def chassis_variables(read: Reader, key: tuple[str, str], row: None) -> Iterable[Output]:
    """A node's chassis -> its addresses as variables. Of nodes that claim one chassis the first by name has it: two
    rows for one chassis would have the database refuse everything."""
    chassis, node = key
    place = read(NODE_PLACE, cluster_key(node))
    if place is None or min(read(CHASSIS_NODE, chassis)) != node:
        return
    variables: dict[str, str] = {}
    for family in FAMILIES:
        hosts = [address for address in place.hosts if address.family == family]
        variables |= {variable(family, slot): str(address) for slot, address in enumerate(hosts)}
    owner = RowId("Chassis_Template_Var", naming.node_owner(node), "node-addresses")
    yield TEMPLATE_VARS.row(owner, ChassisTemplateVar(chassis=chassis, variables=pairs_of(variables)))


class _Read:
    """The surroundings of one Service, looked up when they are asked for: only a Service for which nodes matter is
    looked at again when one comes."""

    def __init__(self, read: Reader, service: NamespacedName, network: ClusterNetwork) -> None:
        self._read, self.network = read, network
        self.backends = read(SERVICE_BACKEND, service)
        self._fronts: tuple[Front, ...] | None = None
        settings = read(SETTINGS, CLUSTER)
        self.has_templates = settings is not None and settings.has_template_variables

    def fronts(self) -> tuple[Front, ...]:
        if self._fronts is None:
            self._fronts = tuple(sorted(self._read(FRONT, CLUSTER)))
        return self._fronts

    def slots(self, family: Family) -> int:
        return len(self._read(SLOT, family))


@rule(
    driver=SERVICE,
    reads=(SERVICE_DECISION, SERVICE_BACKEND, CLUSTER_NETWORK, SETTINGS, FRONT, SLOT),
    out=(LOAD_BALANCERS, MEMBER, GLOBAL_KEYS),
)
def service_load_balancers(read: Reader, key: NamespacedName, service: Service) -> Iterable[Output]:
    """A Service with a decision -> its load balancers, and its record."""
    decision, network = read(SERVICE_DECISION, key), read(CLUSTER_NETWORK, CLUSTER)
    record = {ACCEPTED_KEY: manifest_text(service)}
    if decision is not None:
        record[SERVICE_KEY] = service_text(decision)
    kept = dict(record)
    if decision is not None and network is not None and service.is_served:
        around = _Read(read, key, network)
        for protocol in protocols_of(service.ports):
            for balancer in Layout(service, decision, protocol, around).balancers():
                yield from _load_balancer(service, protocol, balancer, kept)
                kept = {}
    for name, content in kept.items():
        yield GLOBAL_KEYS.row(f"{name}/Service/{key}" if name == ACCEPTED_KEY else f"{name}/{key}", content)


def _load_balancer(service: Service, protocol: Transport, each: Balancer, record: dict[str, str]) -> Iterable[Output]:
    row = RowId("Load_Balancer", ObjectRef("Service", service.namespace, service.name), f"{protocol}/{each.scope}")
    options = {**_OPTIONS, "skip_snat": str(each.keeps_source).lower()}
    if each.template is not None:
        options |= {"template": "true", "address-family": f"ipv{each.template}"}
    ids = {"k8s.ovn.org/kind": "Service", "k8s.ovn.org/owner": str(service.key)}
    yield LOAD_BALANCERS.row(
        row,
        LoadBalancer(
            name=f"Service_{service.key}_{protocol}_{each.scope}",
            protocol=_PROTOCOLS[protocol],
            vips=each.vips,
            options=pairs_of(options),
            selection_fields=_BY_CLIENT if service.affinity_timeout_s else (),
            external_ids=pairs_of({**ids, **record}),
        ),
    )
    for group in each.groups:
        yield MEMBER.member(ColumnId(naming.lb_group_row(group), "load_balancer"), row)
    for side, node in each.nodes:
        yield MEMBER.member(ColumnId(_DATAPATHS[side](node), "load_balancer"), row)


@rule(driver=SERVICE, reads=(SERVICE_BACKEND,), out=(ANSWERING,))
def answering_pods(read: Reader, key: NamespacedName, service: Service) -> Iterable[Output]:
    """A Service with externalTrafficPolicy Local -> who answers its clients, ready or not: connections outlive that."""
    if service.external_policy != "Local" or not service.is_served:
        return
    for port in service.ports:
        for each in candidates(port, read(SERVICE_BACKEND, key)):
            yield ANSWERING.member(each.address, Answering(each.protocol, each.port))


@rule(driver=CLUSTER_NETWORK, out=(ACLS, ROUTER_POLICIES, MEMBER))
def hairpin(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """Pods are reached by themselves through a Service whatever their NetworkPolicies say; nobody else can pretend.

    The ACL lets in the source that OVN gives to such packets, on every switch. They never leave their switch, so the
    cluster router drops whatever carries it: pods cannot send it (port security), the outside could. That is a policy,
    since an ACL cannot say "not from the router" (``!=`` on ports is no match in OVN).
    """
    sources = [equals(f"ip{family}.src", HAIRPIN_SOURCES[family].host) for family in network.families]
    yield ACLS.row(
        HAIRPIN_ACL,
        Acl(
            direction="to-lport",
            priority=HAIRPIN_PRIORITY,
            match=text(disj(*sources)),
            action="allow-related",
            tier=2,
            external_ids=object_ids("Cluster", "hairpin", direction="Ingress"),
        ),
    )
    yield MEMBER.member(ColumnId(naming.CLUSTER_PORT_GROUP_ROW, "acls"), HAIRPIN_ACL)
    policy = RowId("Logical_Router_Policy", naming.CLUSTER_OWNER, "hairpin")
    yield ROUTER_POLICIES.row(
        policy, RouterPolicy(priority=HAIRPIN_POLICY_PRIORITY, match=text(disj(*sources)), action="drop")
    )
    yield MEMBER.member(ColumnId(naming.CLUSTER_ROUTER_ROW, "policies"), policy)
