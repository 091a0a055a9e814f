"""Objects back into the manifest form a user would write: for recorded decisions and for ``get -o yaml``.

``ingest`` reads what this prints; the round trip is a law test.
"""

from __future__ import annotations

import json
from typing import Any

from ovnk_core.model.decision import Decisions
from ovnk_core.model.network_policy import NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.terms.label import LabelSelector


def policy_manifest(policy: NetworkPolicy) -> dict[str, Any]:
    """NetworkPolicy -> its networking.k8s.io/v1 object, defaults written out."""
    spec: dict[str, Any] = {
        "podSelector": selector_manifest(policy.subject),
        "policyTypes": [*(["Ingress"] if policy.is_ingress else []), *(["Egress"] if policy.is_egress else [])],
    }
    if policy.ingress:
        spec["ingress"] = [_rule(rule, "from") for rule in policy.ingress]
    if policy.egress:
        spec["egress"] = [_rule(rule, "to") for rule in policy.egress]
    metadata = {"name": policy.name, "namespace": policy.namespace}
    metadata |= {"uid": policy.uid} if policy.uid else {}
    metadata |= {"creationTimestamp": policy.created} if policy.created else {}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def policy_text(policy: NetworkPolicy) -> str:
    """The manifest as compact JSON with sorted keys: equal policies give equal text."""
    return json.dumps(policy_manifest(policy), sort_keys=True, separators=(",", ":"))


def decisions_manifest(decisions: Decisions) -> dict[str, Any]:
    """Decisions as a document that can be saved, read, compared and edited by people."""
    return {
        "apiVersion": "ovnk/v1",
        "kind": "Decisions",
        "nodes": {
            name: {"subnets": [str(subnet) for subnet in node.subnets], "id": node.node_id}
            for name, node in sorted(decisions.nodes.items())
        },
        "pods": {
            key: {"addresses": [str(address) for address in pod.addresses], "mac": pod.mac, "node": pod.node}
            for key, pod in sorted(decisions.pods.items())
        },
        "policies": {key: policy_manifest(policy) for key, policy in sorted(decisions.policies.items())},
    }


def selector_manifest(selector: LabelSelector) -> dict[str, Any]:
    """Single-value In requirements as matchLabels where keys allow, everything else as matchExpressions."""
    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1 and requirement.key not in labels:
            labels[requirement.key] = requirement.values[0]
            continue
        values = {"values": list(requirement.values)} if requirement.values else {}
        expressions.append({"key": requirement.key, "operator": requirement.operator, **values})
    found: dict[str, Any] = {"matchLabels": labels} if labels else {}
    return found | ({"matchExpressions": expressions} if expressions else {})


def _rule(rule: PolicyRule, peers: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rule.peers:
        found[peers] = [_peer(peer) for peer in rule.peers]
    if rule.ports:
        found["ports"] = [_port(port) for port in rule.ports]
    return found


def _peer(peer: Peer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if peer.block is not None:
        found["ipBlock"] = {"cidr": str(peer.block.cidr)}
        if peer.block.excepts:
            found["ipBlock"]["except"] = [str(cidr) for cidr in peer.block.excepts]
    if peer.namespaces is not None:
        found["namespaceSelector"] = selector_manifest(peer.namespaces)
    if peer.pods is not None:
        found["podSelector"] = selector_manifest(peer.pods)
    return found


def _port(port: PolicyPort) -> dict[str, Any]:
    found: dict[str, Any] = {"protocol": port.protocol}
    if port.name:
        found["port"] = port.name
    elif port.ports is not None:
        found["port"] = port.ports.first
        if port.ports.last != port.ports.first:
            found["endPort"] = port.ports.last
    return found
