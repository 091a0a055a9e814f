"""NetworkPolicy -> port groups, address sets and ACLs.

* one port group per policy holds its subjects; its ACLs (priority 1001, allow-related) are the policy's rules;
* two port groups per namespace with policies hold the isolated pods; their ACLs (1000) drop what is not allowed;
* one address set per peer selection and family, shared by all policies that name it;
* one address set per (policy, rule, protocol, port name, resolved number, family) for named ports;
* where peers of any namespace say what a port name means, a second port group with the same subjects holds those ACLs,
  so that rows that tell of others' pods can be kept from those who may not know them.

A pod event is a change of members and never of an ACL, unless a port name gains or loses a number.
Priorities: docs/priorities.md. Match grammar: docs/sources.md, NetworkPolicy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.features.network_policy.selections import EVERY_POD, peer_selections, subject_selection
from ovnk_core.indexes.projection import (
    MEMBER_BINDING,
    PORT_NUMBER,
    PORT_NUMBER_WANT,
    AddressesListening,
    AddressesOf,
    Binding,
    PortName,
    PortsOf,
)
from ovnk_core.indexes.selection import SELECTION_WANT, PodSelection
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.manifest import manifest_text
from ovnk_core.model.network_policy import NetworkPolicy, PolicyPort, PolicyRule
from ovnk_core.model.tables import CLUSTER, NETWORK_POLICY
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER, PORT_GROUPS, object_ids
from ovnk_core.nb.match import (
    AddressSetRef,
    Between,
    Is,
    Match,
    PortGroupRef,
    Range,
    conj,
    differs,
    disj,
    equals,
    text,
)
from ovnk_core.nb.row import ACCEPTED_KEY, EVERYWHERE, ColumnId, RowId, pairs_of
from ovnk_core.nb.tables import APPLY_AFTER_LB, Acl, AddressSet, PortGroup
from ovnk_core.nb.tables import Direction as AclDirection
from ovnk_core.terms.address import Family
from ovnk_core.terms.name import NamespacedName, ObjectRef, hashed_name
from ovnk_core.terms.port import PortRange
from ovnk_core.terms.struct import Key, Value
from ovnk_core.topology.cluster import ACL_LOG_METER
from ovnk_core.topology.logging import ACL_LOGGING
from ovnk_core.topology.place import CLUSTER_NETWORK

Direction = Literal["Ingress", "Egress"]
DIRECTIONS: tuple[Direction, Direction] = ("Ingress", "Egress")
ALLOW_PRIORITY, DENY_PRIORITY = 1001, 1000
ACL_NAME_MAX = 63

ACL_DIRECTION: dict[Direction, AclDirection] = {"Ingress": "to-lport", "Egress": "from-lport"}
PEER_SIDE: dict[Direction, str] = {"Ingress": "src", "Egress": "dst"}
SUBJECT_PORT: dict[Direction, str] = {"Ingress": "outport", "Egress": "inport"}


class RuleKey(Key, frozen=True, order=True, cache_hash=True):
    """One rule of one policy."""

    policy: NamespacedName
    direction: Direction
    index: int


class SubjectRule(Value, frozen=True, kw_only=True, gc=False):
    """A rule with the pods it protects."""

    subject: PodSelection
    rule: PolicyRule


class PeerSet(Key, frozen=True, cache_hash=True):
    """Addresses of one selection in one family."""

    selection: PodSelection
    family: Family


POLICY_RULE = Table[RuleKey, SubjectRule]("network_policy.rule")
ISOLATED_NAMESPACE = SetTable[str, str]("network_policy.namespace")
PEER_SET = SetTable[str, PeerSet]("network_policy.peer_set")
ALL = ""
"""The one key of set tables that only count their elements."""


def policy_owner(key: NamespacedName) -> ObjectRef:
    return ObjectRef("NetworkPolicy", key.namespace, key.name)


def policy_group_row(key: NamespacedName) -> RowId:
    return RowId("Port_Group", policy_owner(key), "subjects")


def policy_group_name(key: NamespacedName) -> str:
    return hashed_name("NetworkPolicy", f"{key.namespace}:{key.name}")


def wide_group_row(key: NamespacedName) -> RowId:
    """The group of the same subjects whose ACLs tell of pods in any namespace."""
    return RowId("Port_Group", policy_owner(key), f"subjects/{EVERYWHERE}")


def isolation_row(namespace: str, direction: Direction) -> RowId:
    return RowId("Port_Group", ObjectRef("Namespace", "", namespace), f"isolated/{direction}")


def isolation_name(namespace: str, direction: Direction) -> str:
    return hashed_name("NetpolNamespace", namespace, direction)


def peer_set_name(peer: PeerSet) -> str:
    return hashed_name("PodSelector", str(peer.selection), f"v{peer.family}")


# ------------------------------------------------------------------------------------------- the policy itself


@rule(
    driver=NETWORK_POLICY,
    out=(POLICY_RULE, SELECTION_WANT, PORT_NUMBER_WANT, ISOLATED_NAMESPACE, MEMBER_BINDING, PORT_GROUPS),
)
def policy(read: Reader, key: NamespacedName, item: NetworkPolicy) -> Iterable[Output]:
    """A policy -> its port group, its subjects' isolation, one row per rule, and the selections it needs."""
    subject = subject_selection(item)
    yield SELECTION_WANT.member(subject, key)
    recorded = {} if item.blocked else {ACCEPTED_KEY: manifest_text(item)}
    ids = dict(object_ids("NetworkPolicy", f"{key.namespace}:{key.name}")) | recorded
    group = policy_group_row(key)
    yield PORT_GROUPS.row(group, PortGroup(name=policy_group_name(key), external_ids=pairs_of(ids)))
    yield MEMBER_BINDING.member(ColumnId(group, "ports"), Binding(subject, PortsOf()))
    yield ISOLATED_NAMESPACE.member(ALL, key.namespace)
    isolates: dict[Direction, bool] = {"Ingress": item.is_ingress, "Egress": item.is_egress}
    rules: dict[Direction, tuple[PolicyRule, ...]] = {"Ingress": item.ingress, "Egress": item.egress}
    for direction in DIRECTIONS:
        if not isolates[direction]:
            continue
        column = ColumnId(isolation_row(key.namespace, direction), "ports")
        yield MEMBER_BINDING.member(column, Binding(subject, PortsOf()))
        for index, each in enumerate(rules[direction]):
            rule_key = RuleKey(key, direction, index)
            yield POLICY_RULE.row(rule_key, SubjectRule(subject=subject, rule=each))
            for selection in peer_selections(key.namespace, each):
                yield SELECTION_WANT.member(selection, key)
            for selection, port in _named_ports(rule_key, subject, each):
                yield SELECTION_WANT.member(selection, key)
                yield PORT_NUMBER_WANT.member(PortName(selection, port.protocol, port.name), rule_key)
    if any(_is_wide(key, subject, each) for each in (item.egress if item.is_egress else ())):
        wide, name = wide_group_row(key), f"{key.namespace}:{key.name}"
        yield PORT_GROUPS.row(
            wide,
            PortGroup(
                name=hashed_name("NetworkPolicy", name, EVERYWHERE),
                external_ids=object_ids("NetworkPolicy", name, EVERYWHERE),
            ),
        )
        yield MEMBER_BINDING.member(ColumnId(wide, "ports"), Binding(subject, PortsOf()))


def _named_ports(key: RuleKey, subject: PodSelection, each: PolicyRule) -> Iterator[tuple[PodSelection, PolicyPort]]:
    """Whose pods resolve the rule's port names: the subjects for ingress, the peers for egress."""
    for port in each.ports:
        if port.name:
            for selection in _resolvers(key, subject, each):
                yield selection, port


def _resolvers(key: RuleKey, subject: PodSelection, each: PolicyRule) -> tuple[PodSelection, ...]:
    if key.direction == "Ingress":
        return (subject,)
    return peer_selections(key.policy.namespace, each) if each.peers else (EVERY_POD,)


def _is_wide(policy: NamespacedName, subject: PodSelection, each: PolicyRule) -> bool:
    """Whether an egress rule has port names that pods of any namespace give a meaning."""
    resolvers = _resolvers(RuleKey(policy, "Egress", 0), subject, each)
    return any(port.name for port in each.ports) and _reaches_others(policy, resolvers)


def _reaches_others(policy: NamespacedName, selections: tuple[PodSelection, ...]) -> bool:
    return any(selection.namespace != policy.namespace for selection in selections)


@rule(driver=ISOLATED_NAMESPACE, reads=(ACL_LOGGING,), out=(PORT_GROUPS, ACLS, MEMBER))
def isolation(read: Reader, key: tuple[str, str], row: None) -> Iterable[Output]:
    """A namespace with policies -> its two groups of isolated ports, each with a drop and an ARP/ND allowance."""
    namespace = key[1]
    logging = read(ACL_LOGGING, namespace)
    severity = logging.deny if logging is not None else ""
    for direction in DIRECTIONS:
        group, name = isolation_row(namespace, direction), isolation_name(namespace, direction)
        yield PORT_GROUPS.row(
            group, PortGroup(name=name, external_ids=object_ids("NetpolNamespace", namespace, direction))
        )
        port = equals(SUBJECT_PORT[direction], PortGroupRef(name))
        parts: tuple[tuple[str, int, Match, Literal["drop", "allow"], str], ...] = (
            ("deny", DENY_PRIORITY, port, "drop", severity),
            ("arp", ALLOW_PRIORITY, conj(port, disj(Is("arp"), Is("nd"))), "allow", ""),
        )
        for kind, priority, match, action, log in parts:
            row_id = RowId("ACL", ObjectRef("Namespace", "", namespace), f"isolated/{direction}/{kind}")
            yield ACLS.row(
                row_id,
                Acl(
                    direction=ACL_DIRECTION[direction],
                    priority=priority,
                    match=text(match),
                    action=action,
                    name=f"NP:{namespace}:{direction}"[:ACL_NAME_MAX],
                    log=bool(log),
                    severity=log or None,
                    meter=ACL_LOG_METER,
                    options=APPLY_AFTER_LB if direction == "Egress" else (),
                    tier=2,
                    external_ids=object_ids("NetpolNamespace", namespace, direction, kind, direction=direction),
                ),
            )
            yield MEMBER.member(ColumnId(group, "acls"), row_id)


# ------------------------------------------------------------------------------------------- one rule


@rule(
    driver=POLICY_RULE,
    reads=(CLUSTER_NETWORK, ACL_LOGGING, PORT_NUMBER),
    out=(ACLS, MEMBER, PEER_SET, ADDRESS_SETS, MEMBER_BINDING),
)
def rule_acls(read: Reader, key: RuleKey, row: SubjectRule) -> Iterable[Output]:
    """One rule -> one ACL per (selectors or block) and protocol, plus one per resolved number of a port name."""
    network, logging = read(CLUSTER_NETWORK, CLUSTER), read(ACL_LOGGING, key.policy.namespace)
    if network is None:
        return
    severity = logging.allow if logging is not None else ""
    for selection in peer_selections(key.policy.namespace, row.rule):
        for family in network.families:
            yield PEER_SET.member(ALL, PeerSet(selection, family))
    for block, sources in _sources(key, row.rule, network):
        for label, ports in _transport(row.rule.ports):
            yield from _acl(key, f"{label}/{block}", conj(_across(sources), *ports), severity)
        for port in row.rule.ports:
            if port.name and not (key.direction == "Egress" and block >= 0):
                yield from _named(read, key, row, port, block, sources, severity)


Sources = dict[Family, Match]
"""Per family, what the peer side of a packet must be."""


def _sources(key: RuleKey, each: PolicyRule, network: ClusterNetwork) -> Iterator[tuple[int, Sources]]:
    """(block index or -1, sources): one entry for all selector peers together, one for each ipBlock."""
    side = PEER_SIDE[key.direction]
    if not each.peers:
        yield -1, {family: Is(f"ip{family}") for family in network.families}
        return
    selections = peer_selections(key.policy.namespace, each)
    if selections:
        yield (
            -1,
            {
                family: equals(
                    f"ip{family}.{side}",
                    *sorted(AddressSetRef(peer_set_name(PeerSet(selection, family))) for selection in selections),
                )
                for family in network.families
            },
        )
    blocks = [peer.block for peer in each.peers if peer.block is not None]
    for index, block in enumerate(blocks):
        field = f"ip{block.cidr.family}.{side}"
        inside = equals(field, block.cidr)
        outside = (differs(field, *block.excepts),) if block.excepts else ()
        yield index, {block.cidr.family: conj(inside, *outside)}


def _across(sources: Sources) -> Match:
    return disj(*(sources[family] for family in sorted(sources)))


def _transport(ports: tuple[PolicyPort, ...]) -> Iterator[tuple[str, tuple[Match, ...]]]:
    """(label, conditions) per protocol: no ports at all, or the protocol's numbered ports and ranges together."""
    if not ports:
        yield "any", ()
    for protocol in sorted({port.protocol for port in ports if not port.name}):
        mine = [port.ports for port in ports if port.protocol == protocol and not port.name]
        name = protocol.lower()
        numbered = [ports for ports in mine if ports is not None]
        if len(numbered) < len(mine):
            yield name, (Is(name),)
        else:
            yield name, (Is(name), _destination(name, numbered))


def _destination(name: str, ranges: list[PortRange]) -> Match:
    field = f"{name}.dst"
    singles = sorted({ports.first for ports in ranges if ports.first == ports.last})
    spans = sorted({ports for ports in ranges if ports.first != ports.last})
    parts: list[Match] = [equals(field, *singles)] if singles else []
    parts += [Between(field, Range(span.first, span.last)) for span in spans]
    return disj(*parts)


def _named(
    read: Reader,
    key: RuleKey,
    row: SubjectRule,
    port: PolicyPort,
    block: int,
    sources: Sources,
    severity: str,
) -> Iterator[Output]:
    """A port name -> per number it stands for: a set of the pods that mean that number, and an ACL on it."""
    resolvers = _resolvers(key, row.subject, row.rule)
    reach = f"/{EVERYWHERE}" if _reaches_others(key.policy, resolvers) else ""
    group = wide_group_row(key.policy) if reach else policy_group_row(key.policy)
    numbers = {n for s in resolvers for n in read(PORT_NUMBER, PortName(s, port.protocol, port.name))}
    for number in sorted(numbers):
        role = f"{key.direction}/{key.index}/{port.protocol}/{port.name}/{number}{reach}"
        matches: list[Match] = []
        for family, source in sorted(sources.items()):
            name = hashed_name("NetworkPolicyPort", f"{key.policy.namespace}:{key.policy.name}", role, f"v{family}")
            listening = RowId("Address_Set", policy_owner(key.policy), f"{role}/v{family}")
            ids = object_ids("NetworkPolicyPort", str(key.policy), role, ip_family=f"v{family}")
            yield ADDRESS_SETS.row(listening, AddressSet(name=name, external_ids=ids))
            for selection in resolvers:
                projection = AddressesListening(family, port.protocol, port.name, number)
                yield MEMBER_BINDING.member(ColumnId(listening, "addresses"), Binding(selection, projection))
            matches.append(conj(source, equals(f"ip{family}.dst", AddressSetRef(name))))
        transport = port.protocol.lower()
        match = conj(disj(*matches), Is(transport), equals(f"{transport}.dst", number))
        yield from _acl(key, f"{transport}/{port.name}/{number}/{block}{reach}", match, severity, group)


def _acl(key: RuleKey, variant: str, match: Match, severity: str, group: RowId | None = None) -> Iterator[Output]:
    """``group``: that the ACL is attached to, the policy's own if None."""
    subject = equals(SUBJECT_PORT[key.direction], PortGroupRef(policy_group_name(key.policy)))
    row = RowId("ACL", policy_owner(key.policy), f"{key.direction}/{key.index}/{variant}")
    namespace, name = key.policy.namespace, key.policy.name
    yield ACLS.row(
        row,
        Acl(
            direction=ACL_DIRECTION[key.direction],
            priority=ALLOW_PRIORITY,
            match=text(conj(match, subject)),
            action="allow-related",
            name=f"NP:{namespace}:{name}:{key.direction}:{key.index}"[:ACL_NAME_MAX],
            log=bool(severity),
            severity=severity or None,
            meter=ACL_LOG_METER,
            options=APPLY_AFTER_LB if key.direction == "Egress" else (),
            tier=2,
            external_ids=object_ids(
                "NetworkPolicy",
                f"{namespace}:{name}",
                key.direction,
                str(key.index),
                variant,
                direction=key.direction,
                gress_index=str(key.index),
            ),
        ),
    )
    yield MEMBER.member(ColumnId(group or policy_group_row(key.policy), "acls"), row)


@rule(driver=PEER_SET, out=(ADDRESS_SETS, MEMBER_BINDING))
def peer_address_set(read: Reader, key: tuple[str, PeerSet], row: None) -> Iterable[Output]:
    """A selection some rule names -> its address set in one family."""
    peer = key[1]
    name = peer_set_name(peer)
    row_id = RowId("Address_Set", ObjectRef("PodSelector", peer.selection.namespace, name), "")
    ids = object_ids("PodSelector", str(peer.selection), ip_family=f"v{peer.family}")
    yield ADDRESS_SETS.row(row_id, AddressSet(name=name, external_ids=ids))
    yield MEMBER_BINDING.member(ColumnId(row_id, "addresses"), Binding(peer.selection, AddressesOf(peer.family)))


RULES = (policy, isolation, rule_acls, peer_address_set)
