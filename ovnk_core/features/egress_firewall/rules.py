"""Egress firewalls -> a port group of the namespace's pods, ACLs on it, address sets; and the own-node DNS allowance.

The ACLs are ``to-lport`` with ``inport == @group``: they see a packet after load balancing, when it is about to leave
the pod's switch, so a firewall's Allow never overrides a NetworkPolicy's denial, and a Service is judged by its
backend. Priorities: docs/priorities.md. Which rules share a row: ``compile``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.features.egress_firewall.compile import (
    ALL,
    DNS_NAME,
    FIREWALL_ROW,
    NODE_SELECTOR,
    AddressesOf,
    FirewallRow,
    FirewallRows,
    OneCidr,
    address_set_row,
    firewall_owner,
    never_filtered,
)
from ovnk_core.indexes.projection import MEMBER_BINDING, Binding, PortsOf
from ovnk_core.indexes.selection import SELECTION_WANT, PodSelection
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallPort, NodeSelector
from ovnk_core.model.manifest import dns_text
from ovnk_core.model.record import firewall_record
from ovnk_core.model.tables import CLUSTER, DNS_DECISION, EGRESS_FIREWALL, NODE
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER, PORT_GROUPS, object_ids
from ovnk_core.nb.match import AddressSetRef, Is, Match, PortGroupRef, conj, differs, disj, equals, text
from ovnk_core.nb.row import ACCEPTED_KEY, DNS_KEY, ColumnId, RowId, pairs_of
from ovnk_core.nb.tables import Acl, AddressSet, PortGroup
from ovnk_core.terms.address import FAMILIES, Family
from ovnk_core.terms.name import NamespacedName, ObjectRef, hashed_name
from ovnk_core.topology.cluster import ACL_LOG_METER
from ovnk_core.topology.logging import ACL_LOGGING
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE, NodePlace

OWN_NODE_DNS_PRIORITY = 10_001
"""Above the whole band of firewalls."""
DNS_PORT = 53
OWN_NODE_DNS = "own-node/dns"
ACL_NAME_MAX = 63
LIVE, STICKY = "live", "sticky"
RECORD = "accepted"


def group_row(namespace: str) -> RowId:
    """The port group of a namespace's pods."""
    return RowId("Port_Group", firewall_owner(namespace), "subjects")


def group_name(namespace: str) -> str:
    return hashed_name("Namespace", namespace)


def set_name(namespace: str, label: str, family: Family) -> str:
    """Address set of a row's own prefixes."""
    return hashed_name("EgressFirewall", namespace, label, f"v{family}")


def dns_set_name(name: str, kind: str, family: Family) -> str:
    """Address set of a DNS name: ``live`` for Allow rules, ``sticky`` for Deny rules."""
    return hashed_name("EgressFirewallDNS", name, kind, f"v{family}")


def node_set_name(selector: NodeSelector, family: Family) -> str:
    return hashed_name("EgressFirewallNodes", str(selector.selector), f"v{family}")


def dns_set_row(name: str, kind: str, family: Family) -> RowId:
    return RowId("Address_Set", ObjectRef("DnsName", "", name), f"{kind}/v{family}")


def node_set_row(selector: NodeSelector, family: Family) -> RowId:
    return RowId("Address_Set", ObjectRef("NodeSelector", "", str(selector.selector)), f"v{family}")


# ------------------------------------------------------------------------------------------- the firewall itself


@rule(driver=EGRESS_FIREWALL, out=(PORT_GROUPS, SELECTION_WANT, MEMBER_BINDING, ADDRESS_SETS))
def firewall(read: Reader, key: NamespacedName, item: EgressFirewall) -> Iterable[Output]:
    """A firewall -> the group of its namespace's pods, and the record of its accepted version.

    The record is kept with an address set of its own, which stays empty: northd takes changes of address sets without
    recomputing anything, and nobody else need read half a megabyte.
    """
    pods = PodSelection(key.namespace)
    yield SELECTION_WANT.member(pods, key)
    group = group_row(key.namespace)
    ids = object_ids("Namespace", key.namespace)
    yield PORT_GROUPS.row(group, PortGroup(name=group_name(key.namespace), external_ids=ids))
    yield MEMBER_BINDING.member(ColumnId(group, "ports"), Binding(pods, PortsOf()))
    if not item.blocked:
        parts = {f"{ACCEPTED_KEY}{suffix}": content for suffix, content in firewall_record(item).items()}
        name = hashed_name("EgressFirewall", key.namespace, RECORD)
        ids = pairs_of({**dict(object_ids("EgressFirewall", key.namespace, RECORD)), **parts})
        yield ADDRESS_SETS.row(
            RowId("Address_Set", firewall_owner(key.namespace), RECORD), AddressSet(name=name, external_ids=ids)
        )


@rule(driver=FIREWALL_ROW, reads=(CLUSTER_NETWORK, ACL_LOGGING), out=(ACLS, MEMBER, ADDRESS_SETS))
def firewall_acl(read: Reader, key: tuple[str, FirewallRow], row: None) -> Iterable[Output]:
    """One compiled row -> its ACL, and the address sets it owns (their members come with the compilation)."""
    namespace, each = key
    network = read(CLUSTER_NETWORK, CLUSTER)
    if network is None:
        return
    logging = read(ACL_LOGGING, namespace)
    severity = "" if logging is None else logging.allow if each.allow else logging.deny
    if isinstance(each.to, AddressesOf):
        for family in each.to.families:
            ids = object_ids("EgressFirewall", namespace, each.label, ip_family=f"v{family}")
            name = set_name(namespace, each.label, family)
            yield ADDRESS_SETS.row(
                address_set_row(namespace, each.label, family), AddressSet(name=name, external_ids=ids)
            )
    own = RowId("ACL", firewall_owner(namespace), each.label)
    subject = equals("inport", PortGroupRef(group_name(namespace)))
    shown = namespace if each.index < 0 else f"{namespace[: ACL_NAME_MAX - 8]}:{each.index}"
    index = {} if each.index < 0 else {"rule_index": str(each.index)}
    yield ACLS.row(
        own,
        Acl(
            direction="to-lport",
            priority=each.priority,
            match=text(conj(subject, _destination(namespace, each, network), *_transport(each.ports))),
            action="allow" if each.allow else "drop",
            name=f"EF:{shown}"[:ACL_NAME_MAX],
            log=bool(severity),
            severity=severity or None,
            meter=ACL_LOG_METER,
            tier=2,
            external_ids=object_ids("EgressFirewall", namespace, each.label, direction="Egress", **index),
        ),
    )
    yield MEMBER.member(ColumnId(group_row(namespace), "acls"), own)


def _destination(namespace: str, row: FirewallRow, network: ClusterNetwork) -> Match:
    """The destination, without what is never filtered wherever the two could meet."""
    match row.to:
        case OneCidr(cidr, is_wide):
            inside: list[tuple[Family, Match]] = [(cidr.family, equals(f"ip{cidr.family}.dst", cidr))]
        case AddressesOf(families, is_wide):
            inside = [(f, _in_sets(f, set_name(namespace, row.label, f))) for f in families]
        case DnsName(name):
            kind, is_wide = (LIVE if row.allow else STICKY), True
            inside = [(f, _in_sets(f, dns_set_name(name, kind, f))) for f in network.families]
        case NodeSelector():
            is_wide = False
            inside = [(f, _in_sets(f, node_set_name(row.to, f))) for f in network.families]
        case _ as never:
            assert_never(never)
    exempt = never_filtered(network) if is_wide else ()
    return disj(
        *(
            conj(
                match,
                *(differs(f"ip{f}.dst", *blocks) for blocks in [[b for b in exempt if b.family == f]] if blocks),
            )
            for f, match in inside
        )
    )


def _in_sets(family: Family, name: str) -> Match:
    return equals(f"ip{family}.dst", AddressSetRef(name))


def _transport(ports: tuple[FirewallPort, ...]) -> Iterator[Match]:
    """Nothing for every protocol; else one condition over the protocols' port lists."""
    if not ports:
        return
    parts: list[Match] = []
    for protocol in sorted({each.protocol for each in ports}):
        numbers = sorted(each.port for each in ports if each.protocol == protocol)
        name = protocol.lower()
        parts.append(Is(name) if numbers[0] == 0 else equals(f"{name}.dst", *numbers))
    yield disj(*parts)


# ------------------------------------------------------------------------------------------- DNS names and nodes


@rule(driver=DNS_NAME, reads=(CLUSTER_NETWORK, DNS_DECISION), out=(ADDRESS_SETS, MEMBER))
def dns_sets(read: Reader, key: tuple[str, str], row: None) -> Iterable[Output]:
    """A DNS name some firewall names -> its two sets per family, whoever names it, and the record of its answers."""
    name = key[1]
    network, decision = read(CLUSTER_NETWORK, CLUSTER), read(DNS_DECISION, name) or DnsDecision()
    if network is None:
        return
    for kind, addresses in ((LIVE, decision.live), (STICKY, decision.sticky)):
        for family in network.families:
            own = dns_set_row(name, kind, family)
            ids = dict(object_ids("EgressFirewallDNS", name, kind, ip_family=f"v{family}"))
            if kind == LIVE and family == network.families[0] and decision != DnsDecision():
                ids[DNS_KEY] = dns_text(decision)
            yield ADDRESS_SETS.row(own, AddressSet(name=dns_set_name(name, kind, family), external_ids=pairs_of(ids)))
            for address in addresses:
                if address.family == family:
                    yield MEMBER.member(ColumnId(own, "addresses"), str(address))


@rule(driver=NODE_SELECTOR, reads=(CLUSTER_NETWORK,), out=(ADDRESS_SETS,))
def node_sets(read: Reader, key: tuple[str, NodeSelector], row: None) -> Iterable[Output]:
    """A node selector some firewall uses -> its set per family."""
    network = read(CLUSTER_NETWORK, CLUSTER)
    for family in network.families if network is not None else ():
        ids = object_ids("EgressFirewallNodes", str(key[1].selector), ip_family=f"v{family}")
        yield ADDRESS_SETS.row(
            node_set_row(key[1], family), AddressSet(name=node_set_name(key[1], family), external_ids=ids)
        )


@rule(driver=NODE_PLACE, reads=(NODE, NODE_SELECTOR, CLUSTER_NETWORK), out=(MEMBER,))
def node_addresses(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """A node -> its addresses in the sets of every selector that matches it."""
    declared, network = read(NODE, key), read(CLUSTER_NETWORK, CLUSTER)
    if declared is None or network is None:
        return
    labels = dict(declared.labels)
    for selector in read(NODE_SELECTOR, ALL):
        if selector.selector.matches(labels):
            for address in place.hosts:
                if address.family in network.families:
                    column = ColumnId(node_set_row(selector, address.family), "addresses")
                    yield MEMBER.member(column, str(address))


@rule(driver=NODE_PLACE, out=(ACLS, MEMBER))
def own_node_dns(read: Reader, key: NamespacedName, place: NodePlace) -> Iterable[Output]:
    """DNS to the pods' own node always passes (15.5.1.3): one ACL on that node's switch, above every firewall."""
    parts = [
        equals(f"ip{family}.dst", *(address.host for address in place.hosts if address.family == family))
        for family in FAMILIES
        if any(address.family == family for address in place.hosts)
    ]
    if not parts:
        return
    ports = disj(equals("tcp.dst", DNS_PORT), equals("udp.dst", DNS_PORT))
    own = RowId("ACL", naming.node_owner(place.name), OWN_NODE_DNS)
    yield ACLS.row(
        own,
        Acl(
            direction="to-lport",
            priority=OWN_NODE_DNS_PRIORITY,
            match=text(conj(disj(*parts), ports)),
            action="allow-related",
            tier=2,
            external_ids=object_ids("EgressFirewallNodeDNS", place.name, direction="Egress"),
        ),
    )
    yield MEMBER.member(ColumnId(naming.node_switch_row(place.name), "acls"), own)


RULES = (FirewallRows, firewall, firewall_acl, dns_sets, node_sets, node_addresses, own_node_dns)
