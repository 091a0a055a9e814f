"""Objects back into the manifest form a user would write: for recorded decisions and for ``get -o yaml``.

``ingest`` reads what this prints; the round trip is a law test. Defaults are written out only where leaving them out
would mean something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, assert_never

from msgspec.structs import replace

from ovnk_core.model.attachment_manifest import attachment_body, networks_text
from ovnk_core.model.cluster import ClusterNetworkEntry, HybridOverlay, InstallDecision, Network, NetworkOperator
from ovnk_core.model.decision import (
    MAX_DNS_HISTORY,
    Decisions,
    DnsChange,
    DnsDecision,
    NodeDecision,
    PodDecision,
    ServiceDecision,
)
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall, FirewallRule, NodeSelector
from ovnk_core.model.egress_ip import EgressIP, EgressIPDecision, NodeHealth
from ovnk_core.model.egress_ip_manifest import egress_ip_body, egress_ip_decision, node_health
from ovnk_core.model.egress_router import NETWORKS, NetworkAttachmentDefinition
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.network_policy import NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.model.node import NODE_MTU_ANNOTATION, Node
from ovnk_core.model.object import Declared
from ovnk_core.model.pod import Pod
from ovnk_core.model.selector_manifest import selector_manifest
from ovnk_core.model.service import Service
from ovnk_core.model.service_manifest import service_body
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import ObjectRef

_PREFIX = "k8s.ovn.org/"
_ANY_MASK = 24
MAX_DNS_TEXT = 32_768
"""Bytes of the record of one DNS name."""
_ENTRY_SIZE = 64
_TEXT_SIZES = {4: 18, 6: 42}
"""At most so many bytes for a line of history without addresses, and for an address by family, quoted."""


def manifest(item: Declared) -> dict[str, Any]:
    """An object -> its manifest. Raises KeyError for a kind that is never recorded (``is_recorded``)."""
    version, kind, body = _BODIES[type(item)]
    metadata: dict[str, Any] = {"name": item.name}
    metadata |= {"namespace": item.namespace} if item.namespace else {}
    metadata |= {"uid": item.uid} if item.uid else {}
    metadata |= {"creationTimestamp": item.created} if item.created else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | body(item, metadata)


def manifest_text(item: Declared) -> str:
    """The manifest as compact JSON with sorted keys: equal objects give equal text."""
    return _compact(manifest(item))


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_recorded(item: Declared) -> bool:
    """Whether accepted versions of such an object are recorded.

    Infrastructure is not, nor are endpoints: they change by the minute and would make up most of the record. While we
    run, or with a store, a refused slice keeps its accepted version all the same; after a restart without a store its
    Service is served by what its other slices say, until the slice is stated anew.
    """
    return type(item) in _BODIES


# ------------------------------------------------------------------------------------------- cluster and nodes


def _network(item: Network, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"spec": _ranges(item.cluster_network, item.service_network) | {"networkType": item.network_type}}


def _network_operator(item: NetworkOperator, metadata: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {} if item.mtu_bytes is None else {"mtu": item.mtu_bytes}
    config |= {} if item.geneve_port is None else {"genevePort": item.geneve_port}
    config |= _install(InstallDecision(hybrid=item.hybrid, has_ipsec=item.has_ipsec))
    default = {"type": item.network_type, "ovnKubernetesConfig": config}
    return {"spec": _ranges(item.cluster_network, item.service_network) | {"defaultNetwork": default}}


def _hybrid(item: HybridOverlay) -> dict[str, Any]:
    port = {"hybridOverlayVXLANPort": item.vxlan_port} if item.has_custom_port else {}
    return {"hybridClusterNetwork": _entries(item.entries), **port}


def _entries(entries: tuple[ClusterNetworkEntry, ...]) -> list[dict[str, Any]]:
    return [{"cidr": str(e.cidr), "hostPrefix": e.host_prefix_bits} for e in entries]


def _ranges(entries: tuple[ClusterNetworkEntry, ...], service: tuple[Cidr, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if entries:
        found["clusterNetwork"] = _entries(entries)
    if service:
        found["serviceNetwork"] = [str(cidr) for cidr in service]
    return found


def _node(item: Node, metadata: dict[str, Any]) -> dict[str, Any]:
    _set_labels(metadata, item.labels)
    annotations = {
        "node-subnets": {"default": [str(subnet) for subnet in item.subnets]} if item.subnets else None,
        "node-id": None if item.node_id is None else str(item.node_id),
        "node-gateway-router-lrp-ifaddr": _by_family(item.join),
        "node-chassis-id": item.chassis or None,
        "node-mgmt-port-mac-address": item.management_mac or None,
        "node-primary-ifaddr": _by_family(item.primary),
        "host-cidrs": [str(interface) for interface in item.host_cidrs] or None,
        "l3-gateway-config": _gateway(item),
        "gateway-mtu-support": None if item.gateway_mtu_supported else "false",
        "hybrid-overlay-node-subnet": None if item.hybrid_subnet is None else str(item.hybrid_subnet),
    }
    said = {
        f"{_PREFIX}{key}": value if isinstance(value, str) else _compact(value)
        for key, value in annotations.items()
        if value is not None
    }
    said |= {} if item.mtu_bytes is None else {NODE_MTU_ANNOTATION: str(item.mtu_bytes)}
    metadata |= {"annotations": said} if said else {}
    addresses = [{"type": "InternalIP", "address": str(address)} for address in item.internal]
    addresses += [{"type": "ExternalIP", "address": str(address)} for address in item.external]
    ready = {"type": "Ready", "status": "True" if item.is_ready else "False"}
    info = {"nodeInfo": {"kernelVersion": item.kernel}} if item.kernel else {}
    return {"status": {"addresses": addresses, "conditions": [ready], **info}}


def _gateway(item: Node) -> dict[str, Any] | None:
    if not item.has_gateway:
        return {"default": {"mode": ""}}
    said: dict[str, Any] = {"mac-address": item.gateway_mac} if item.gateway_mac else {}
    said |= {"ip-addresses": [str(each) for each in item.gateway_addresses]} if item.gateway_addresses else {}
    said |= {"next-hops": [str(hop) for hop in item.gateway_next_hops]} if item.gateway_next_hops else {}
    said |= {"interface-id": item.gateway_interface} if item.gateway_interface else {}
    said |= {"vlan-id": str(item.gateway_vlan)} if item.gateway_vlan else {}
    return {"default": {"mode": "shared", **said}} if said else None


def _by_family(interfaces: tuple[InterfaceAddress, ...]) -> dict[str, str] | None:
    return {f"ipv{each.family}": str(each) for each in interfaces} or None


# ------------------------------------------------------------------------------------------- namespaces and pods


def _namespace(item: Namespace, metadata: dict[str, Any]) -> dict[str, Any]:
    _set_labels(metadata, item.labels)
    logging = {key: text for key, text in (("allow", item.log_allow), ("deny", item.log_deny)) if text}
    annotations = {f"{_PREFIX}acl-logging": _compact(logging)} if logging else {}
    annotations |= {f"{_PREFIX}multicast-enabled": "true"} if item.is_multicast else {}
    metadata |= {"annotations": annotations} if annotations else {}
    return {}


def _pod(item: Pod, metadata: dict[str, Any]) -> dict[str, Any]:
    _set_labels(metadata, item.labels)
    if item.addresses or item.mac:
        # The annotation wants a prefix length, which nobody reads.
        network: dict[str, Any] = {"ip_addresses": [f"{address}/{_ANY_MASK}" for address in item.addresses]}
        network |= {"mac_address": item.mac} if item.mac else {}
        metadata["annotations"] = {f"{_PREFIX}pod-networks": _compact({"default": network})}
    if item.attachments:
        metadata.setdefault("annotations", {})[NETWORKS] = networks_text(item.attachments)
    # A container each: one name may stand for several numbers only in different containers.
    ports = [{"name": p.name, "protocol": p.protocol, "containerPort": p.number} for p in item.ports]
    spec: dict[str, Any] = {"nodeName": item.node} if item.node else {}
    spec |= {"hostNetwork": True} if item.is_host_network else {}
    spec["containers"] = [{"name": f"c{index}", "ports": [port]} for index, port in enumerate(ports)]
    return {"spec": spec} | ({"status": {"phase": "Succeeded"}} if item.is_completed else {})


def _set_labels(metadata: dict[str, Any], labels: Labels) -> None:
    if labels:
        metadata["labels"] = dict(labels)


# ------------------------------------------------------------------------------------------- policies


def _policy(item: NetworkPolicy, metadata: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "podSelector": selector_manifest(item.subject),
        "policyTypes": [*(["Ingress"] if item.is_ingress else []), *(["Egress"] if item.is_egress else [])],
    }
    if item.ingress:
        spec["ingress"] = [_rule(rule, "from") for rule in item.ingress]
    if item.egress:
        spec["egress"] = [_rule(rule, "to") for rule in item.egress]
    return {"spec": spec}


def _firewall(item: EgressFirewall, metadata: dict[str, Any]) -> dict[str, Any]:
    _set_labels(metadata, item.labels)
    if item.annotations:
        metadata["annotations"] = dict(item.annotations)
    return {"spec": {"egress": [rule_manifest(rule) for rule in item.rules]}}


def rule_manifest(rule: FirewallRule) -> dict[str, Any]:
    """One egress firewall rule."""
    match rule.to:
        case Cidr():
            to: dict[str, Any] = {"cidrSelector": str(rule.to)}
        case DnsName(name):
            to = {"dnsName": name}
        case NodeSelector(selector):
            to = {"nodeSelector": selector_manifest(selector)}
        case _ as never:
            assert_never(never)
    found: dict[str, Any] = {"type": rule.verdict, "to": to}
    if rule.ports:
        found["ports"] = [
            {"protocol": each.protocol, **({"port": each.port} if each.port else {})} for each in rule.ports
        ]
    return found


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


_BODIES: dict[type[Declared], tuple[str, str, Callable[[Any, dict[str, Any]], dict[str, Any]]]] = {
    Network: ("config.openshift.io/v1", "Network", _network),
    NetworkOperator: ("operator.openshift.io/v1", "Network", _network_operator),
    Node: ("v1", "Node", _node),
    Namespace: ("v1", "Namespace", _namespace),
    Pod: ("v1", "Pod", _pod),
    NetworkPolicy: ("networking.k8s.io/v1", "NetworkPolicy", _policy),
    EgressIP: ("k8s.ovn.org/v1", "EgressIP", egress_ip_body),
    EgressFirewall: ("k8s.ovn.org/v1", "EgressFirewall", _firewall),
    Service: ("v1", "Service", service_body),
    NetworkAttachmentDefinition: ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", attachment_body),
}


# ------------------------------------------------------------------------------------------- decisions


def decisions_manifest(decisions: Decisions) -> dict[str, Any]:
    """Decisions as a document that can be saved, read, compared and edited by people."""
    return {
        "apiVersion": "ovnk/v1",
        "kind": "Decisions",
        **({} if decisions.install is None else {"install": _install(decisions.install)}),
        "nodes": {name: _node_decision(node) for name, node in sorted(decisions.nodes.items())},
        "pods": {key: _pod_decision(pod) for key, pod in sorted(decisions.pods.items())},
        "services": {key: _service_decision(each) for key, each in sorted(decisions.services.items())},
        "egressIPs": {name: egress_ip_decision(each) for name, each in sorted(decisions.egress_ips.items())},
        "health": {name: node_health(each) for name, each in sorted(decisions.health.items())},
        "dns": {name: _dns(each) for name, each in sorted(decisions.dns.items())},
        "accepted": [manifest(decisions.accepted[ref]) for ref in _sorted(decisions)],
    }


def _install(decision: InstallDecision) -> dict[str, Any]:
    found: dict[str, Any] = {} if decision.hybrid is None else {"hybridOverlayConfig": _hybrid(decision.hybrid)}
    return found | ({"ipsecConfig": {}} if decision.has_ipsec else {})


def install_text(decision: InstallDecision) -> str:
    """What the cluster was installed with, as compact JSON with sorted keys."""
    return _compact(_install(decision))


def _node_decision(node: NodeDecision) -> dict[str, Any]:
    return {"subnets": [str(subnet) for subnet in node.subnets]} | ({"id": node.node_id} if node.node_id else {})


def _pod_decision(pod: PodDecision) -> dict[str, Any]:
    return {"addresses": _texts(pod.addresses), "mac": pod.mac, "node": pod.node}


def _service_decision(service: ServiceDecision) -> dict[str, Any]:
    ports = [{"protocol": p.protocol, "port": p.port, "nodePort": p.node_port} for p in service.node_ports]
    return {"clusterIPs": _texts(service.cluster_ips)} | ({"nodePorts": ports} if ports else {})


def node_text(decision: NodeDecision) -> str:
    """A node's decision as compact JSON with sorted keys."""
    return _compact(_node_decision(decision))


def pod_text(decision: PodDecision) -> str:
    """A pod's decision as compact JSON with sorted keys."""
    return _compact(_pod_decision(decision))


def service_text(decision: ServiceDecision) -> str:
    """A Service's decision as compact JSON with sorted keys."""
    return _compact(_service_decision(decision))


def egress_ip_text(decision: EgressIPDecision) -> str:
    """An EgressIP's decision as compact JSON with sorted keys."""
    return _compact(egress_ip_decision(decision))


def health_text(health: NodeHealth) -> str:
    """What was reported of a node as compact JSON with sorted keys."""
    return _compact(node_health(health))


def dns_text(decision: DnsDecision) -> str:
    """A DNS decision as compact JSON with sorted keys: the record that outlives the process.

    At most ``MAX_DNS_HISTORY`` changes and ``MAX_DNS_TEXT`` bytes, unless the addresses in use alone take more: the
    oldest history gives way, the addresses never.
    """
    left = MAX_DNS_TEXT - len(_compact(_dns(replace(decision, history=()))))
    history, first = decision.history[-MAX_DNS_HISTORY:], len(decision.history[-MAX_DNS_HISTORY:])
    for index in reversed(range(len(history))):
        # The oldest entry that stays is written in full; what that takes is bounded from above, not counted.
        if left < _ENTRY_SIZE + sum(_TEXT_SIZES[address.family] for address in history[index].addresses):
            break
        first = index
        before = history[index - 1].addresses if index else ()
        left -= len(_compact(_change(history[index], frozenset(before)))) + 1
    return _compact(_dns(replace(decision, history=history[first:])))


def _dns(decision: DnsDecision) -> dict[str, Any]:
    """History as a log: what came and what went, the oldest entry with everything there was. What follows from the
    rest, as it mostly does, is left out: ``sticky`` that equals ``live``, ``answer`` that is ``live`` less what leaves.
    """
    ends = dict(decision.leaving)
    staying = tuple(address for address in decision.live if address not in ends)
    found: dict[str, Any] = {"live": _texts(decision.live)}
    found |= {"sticky": _texts(decision.sticky)} if decision.sticky != decision.live else {}
    found |= {"answer": _texts(decision.answer)} if decision.answer != staying else {}
    # By time, because what leaves together ends together: half the text of a rotating pool.
    groups = [(at_s, [address for address in ends if ends[address] == at_s]) for at_s in sorted(set(ends.values()))]
    found |= {"leaving": [{"at": at_s, "addresses": _texts(own)} for at_s, own in groups]} if groups else {}
    found |= {"denials": decision.denials} if decision.denials else {}
    found["history"] = []
    before: frozenset[Address] = frozenset()
    for change in decision.history:
        found["history"].append(_change(change, before))
        before = frozenset(change.addresses)
    return found


def _change(change: DnsChange, before: frozenset[Address]) -> dict[str, Any]:
    now = frozenset(change.addresses)
    entry: dict[str, Any] = {"at": change.at_s, "cause": change.cause}
    entry |= {"add": _texts(sorted(now - before))} if now - before else {}
    return entry | ({"drop": _texts(sorted(before - now))} if before - now else {})


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [str(address) for address in addresses]


def _sorted(decisions: Decisions) -> list[ObjectRef]:
    return sorted(decisions.accepted)
