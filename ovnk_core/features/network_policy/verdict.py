"""What NetworkPolicy says happens to a packet. Plain and slow on purpose: this is the oracle the rows are held to.

A pod that no policy selects for a direction is open in it. Otherwise a packet passes if any rule of any selecting
policy matches both its peer and its port. Source: networking.k8s.io/v1 NetworkPolicy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ovnk_core.features.network_policy.selections import peer_selection
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.network_policy import NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.terms.address import Address
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Protocol
from ovnk_core.terms.struct import Value

Direction = Literal["Ingress", "Egress"]


class Party(Value, frozen=True, kw_only=True):
    """One end of a packet as policies see it: its address, and the pod behind it if there is one."""

    address: Address
    endpoint: Endpoint | None = None
    namespace_labels: Labels | None = ()


class Judgement(Value, frozen=True, kw_only=True):
    """``policy`` and ``rule`` name what decided: the matching rule, or (denied) the first policy that isolates.
    Both are None when no policy selects the pod."""

    allowed: bool
    policy: NamespacedName | None
    rule: int | None
    text: str


def isolating(policies: Iterable[NetworkPolicy], pod: Endpoint, direction: Direction) -> list[NetworkPolicy]:
    """Policies that select a pod for a direction, by name."""
    labels = dict(pod.labels)
    chosen = (
        policy
        for policy in policies
        if policy.namespace == pod.key.namespace
        and (policy.is_ingress if direction == "Ingress" else policy.is_egress)
        and policy.subject.matches(labels)
    )
    return sorted(chosen, key=lambda policy: policy.name)


def judge(
    selecting: Sequence[NetworkPolicy],
    direction: Direction,
    subject: Endpoint,
    peer: Party,
    protocol: Protocol,
    port: int | None,
) -> Judgement:
    """Judge one packet of ``subject`` in one direction; ``selecting`` comes from ``isolating``."""
    word = direction.lower()
    if not selecting:
        return Judgement(allowed=True, policy=None, rule=None, text=f"no policy selects {subject.key} for {word}")
    for policy in selecting:
        rules = policy.ingress if direction == "Ingress" else policy.egress
        for index, rule in enumerate(rules):
            if _matches(policy.namespace, rule, direction, subject, peer, protocol, port):
                text = f"{word} rule {index} of NetworkPolicy {policy.key} allows it"
                return Judgement(allowed=True, policy=policy.key, rule=index, text=text)
    names = ", ".join(str(policy.key) for policy in selecting)
    text = f"{subject.key} is isolated for {word} by {names} and no {word} rule matches"
    near = _near_miss(selecting, direction, peer)
    blocked = next((policy.blocked for policy in selecting if policy.blocked), "")
    if blocked:
        text += f"; a refused policy allows nothing: {blocked}"
    if near:
        text += f"; {near}"
    return Judgement(allowed=False, policy=selecting[0].key, rule=None, text=text)


def _near_miss(selecting: Sequence[NetworkPolicy], direction: Direction, peer: Party) -> str:
    """The ``except`` that took an address out of a block, if that is why."""
    for policy in selecting:
        for index, rule in enumerate(policy.ingress if direction == "Ingress" else policy.egress):
            for each in rule.peers:
                block = each.block
                if block is None or not block.cidr.contains(peer.address):
                    continue
                for cut in block.excepts:
                    if cut.contains(peer.address):
                        return (
                            f"rule {index} of {policy.key} allows {block.cidr} except {cut}, which holds {peer.address}"
                        )
    return ""


def _matches(
    namespace: str,
    rule: PolicyRule,
    direction: Direction,
    subject: Endpoint,
    peer: Party,
    protocol: Protocol,
    port: int | None,
) -> bool:
    if not rule.peers:
        resolver = subject if direction == "Ingress" else peer.endpoint
        return _port_matches(rule.ports, protocol, port, resolver)
    for each in rule.peers:
        if not _peer_matches(namespace, each, peer):
            continue
        if direction == "Ingress":
            resolver = subject
        else:
            resolver = peer.endpoint if each.block is None else None
        if _port_matches(rule.ports, protocol, port, resolver):
            return True
    return False


def _peer_matches(namespace: str, peer: Peer, party: Party) -> bool:
    if peer.block is not None:
        inside = peer.block.cidr.contains(party.address)
        return inside and not any(cut.contains(party.address) for cut in peer.block.excepts)
    endpoint = party.endpoint
    if endpoint is None:
        return False
    selection = peer_selection(namespace, peer)
    return selection.sees(endpoint.key.namespace, party.namespace_labels) and selection.pods.matches(
        dict(endpoint.labels)
    )


def _port_matches(
    ports: tuple[PolicyPort, ...], protocol: Protocol, port: int | None, resolver: Endpoint | None
) -> bool:
    """``resolver`` is the pod whose containers give port names their numbers; None resolves nothing."""
    if not ports:
        return True
    for each in ports:
        if each.protocol.lower() != protocol:
            continue
        if each.name:
            if resolver is not None and any(
                (named.name, named.protocol, named.number) == (each.name, each.protocol, port)
                for named in resolver.ports
            ):
                return True
        elif each.ports is None or port in each.ports:
            return True
    return False
