"""Which pods a policy speaks of, as selections of the shared index. Read by the rules and by the verdict alike."""

from __future__ import annotations

from ovnk_core.indexes.selection import PodSelection
from ovnk_core.model.network_policy import NetworkPolicy, Peer, PolicyRule
from ovnk_core.terms.label import EVERYTHING

EVERY_POD = PodSelection(namespaces=EVERYTHING)


def subject_selection(policy: NetworkPolicy) -> PodSelection:
    """The pods the policy applies to."""
    return PodSelection(namespace=policy.namespace, pods=policy.subject)


def peer_selection(namespace: str, peer: Peer) -> PodSelection:
    """The pods a selector peer stands for: no namespaceSelector means the policy's own namespace."""
    pods = EVERYTHING if peer.pods is None else peer.pods
    if peer.namespaces is None:
        return PodSelection(namespace=namespace, pods=pods)
    return PodSelection(namespaces=peer.namespaces, pods=pods)


def peer_selections(namespace: str, rule: PolicyRule) -> tuple[PodSelection, ...]:
    """Selections of all selector peers of a rule, without duplicates, in a stable order."""
    found = {peer_selection(namespace, peer) for peer in rule.peers if peer.block is None}
    return tuple(sorted(found, key=str))
