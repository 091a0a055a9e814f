"""What is accepted but probably not meant, or assumed because nobody said it. One sentence each, grouped."""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.analysis.egress_ip_lint import egress_ip_findings
from ovnk_core.analysis.finding import remark
from ovnk_core.analysis.router_lint import router_findings
from ovnk_core.analysis.service_lint import service_remarks
from ovnk_core.cluster import Cluster
from ovnk_core.features.network_policy.selections import EVERY_POD, peer_selections, subject_selection
from ovnk_core.indexes.projection import PORT_NUMBER, PortName
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.tables import (
    CLUSTER,
    EGRESS_FIREWALL,
    INFRASTRUCTURE,
    NAMESPACE,
    NETWORK,
    NETWORK_OPERATOR,
    NETWORK_POLICY,
    NODE,
    POD,
    POD_DECISION,
    cluster_key,
)
from ovnk_core.terms.name import ObjectRef
from ovnk_core.topology.place import POD_MTU, assumptions, not_hosts, other_subnets, uplink_mtu
from ovnk_core.topology.platform import is_known, platform_in_force

SHOWN = 3


def lint(cluster: Cluster) -> tuple[str, ...]:
    """All remarks about a cluster, cluster-wide ones first."""
    return (
        *_configuration(cluster),
        *_hybrid(cluster),
        *_mtu(cluster),
        *_nodes(cluster),
        *_pods(cluster),
        *_policies(cluster),
        *_firewalls(cluster),
        *service_remarks(cluster),
        *map(remark, (*router_findings(cluster), *egress_ip_findings(cluster))),
    )


def _configuration(cluster: Cluster) -> Iterator[str]:
    rows = cluster.engine.rows
    platform = platform_in_force(cluster.engine)
    if not platform and rows(INFRASTRUCTURE).get(CLUSTER) is None:
        yield "no Infrastructure object: the platform is taken to be bare metal (--platform)"
    if not is_known(platform):
        yield f"platform {platform} is not known: no egress IP is assigned, and egress routers may not work"
    if rows(NETWORK).get(CLUSTER) is None and rows(NETWORK_OPERATOR).get(CLUSTER) is None:
        entries = ", ".join(f"{entry.cidr} hostPrefix {entry.host_prefix_bits}" for entry in cluster.network.entries)
        services = ", ".join(map(str, cluster.network.service))
        yield f"no Network object: clusterNetwork {entries} and serviceNetwork {services} are assumed"


def _hybrid(cluster: Cluster) -> Iterator[str]:
    """What a custom VXLAN port excludes (15.15.1)."""
    hybrid, rows = cluster.network.hybrid, cluster.engine.rows
    if hybrid is None or not hybrid.has_custom_port:
        return
    if not platform_in_force(cluster.engine):
        yield f"the custom hybridOverlayVXLANPort {hybrid.vxlan_port} is for vSphere only, and no platform is stated"
    old = [key.name for key, node in sorted(rows(NODE).items()) if node.is_windows and node.is_windows_2019]
    if old:
        text = f"Windows Server 2019 does not support a custom hybridOverlayVXLANPort ({hybrid.vxlan_port})"
        yield f"{_some('node', old)}: {text}"


def _mtu(cluster: Cluster) -> Iterator[str]:
    """Nodes too small for the MTU of pods: they came after it was stated (15.2.2)."""
    rows = cluster.engine.rows
    stated = rows(POD_MTU)[CLUSTER]
    by_mtu: dict[int, list[str]] = {}
    for key, node in sorted(rows(NODE).items()):
        if stated > cluster.network.pod_mtu(uplink_mtu(node)):
            by_mtu.setdefault(uplink_mtu(node), []).append(key.name)
    for node_mtu, names in sorted(by_mtu.items()):
        most = cluster.network.pod_mtu(node_mtu)
        yield f"{_some('node', names)}: MTU {node_mtu} carries pods of {most} at most, and {stated} is stated"


def _nodes(cluster: Cluster) -> Iterator[str]:
    by_text: dict[str, list[str]] = {}
    for key, node in sorted(cluster.engine.rows(NODE).items()):
        told = () if node.is_windows else (*assumptions(node), *not_hosts(node, cluster.network))
        for text in (*told, *other_subnets(node, cluster.network)):
            by_text.setdefault(text, []).append(key.name)
    for text, names in by_text.items():
        yield f"{_some('node', names)}: {text}"


def _pods(cluster: Cluster) -> Iterator[str]:
    nodes, decisions = cluster.engine.rows(NODE), cluster.engine.rows(POD_DECISION)
    homeless: dict[str, list[str]] = {}
    moved: list[str] = []
    for key, pod in sorted(cluster.engine.rows(POD).items()):
        if pod.is_completed:
            continue
        if pod.node and cluster_key(pod.node) not in nodes:
            homeless.setdefault(pod.node, []).append(str(key))
        decision = decisions.get(key)
        if decision is not None and any(address not in decision.addresses for address in pod.addresses):
            moved.append(str(key))
    for node, pods in homeless.items():
        yield f"{_some('pod', pods)}: on node {node}, which is not known; no port until it is"
    if moved:
        yield f"{_some('pod', moved)}: its own address is outside its node's subnet; another one is allocated"


def _policies(cluster: Cluster) -> Iterator[str]:
    for key, policy in sorted(cluster.engine.rows(NETWORK_POLICY).items()):
        if policy.blocked:
            yield f"NetworkPolicy {key}: refused, so its subjects are isolated and nothing is allowed"
        for text in _port_names(cluster, policy):
            yield f"NetworkPolicy {key}: {text}"


def _firewalls(cluster: Cluster) -> Iterator[str]:
    rows = cluster.engine.rows
    housed = {key.namespace for key, pod in rows(POD).items() if not pod.is_completed}
    for key, firewall in sorted(rows(EGRESS_FIREWALL).items()):
        if firewall.blocked:
            yield f"EgressFirewall {key}: refused, and none was accepted before, so nothing leaves its namespace"
        elif ObjectRef("EgressFirewall", key.namespace, key.name) in cluster.refused:
            count = len(firewall.rules)
            yield f"EgressFirewall {key}: refused, so the last accepted version stays enforced ({count:,} rules)"
        if key.namespace not in housed and cluster_key(key.namespace) not in rows(NAMESPACE):
            yield f"EgressFirewall {key}: there is no namespace {key.namespace}, so it protects nothing"


def _port_names(cluster: Cluster, policy: NetworkPolicy) -> Iterator[str]:
    numbers = cluster.engine.sets(PORT_NUMBER)
    subject = subject_selection(policy)
    for word, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
        for index, rule in enumerate(rules):
            blocks = any(peer.block is not None for peer in rule.peers)
            for port in rule.ports:
                if not port.name:
                    continue
                if word == "egress" and blocks:
                    yield f"egress rule {index}: port name {port.name!r} matches nothing in an ipBlock"
                resolvers = (subject,) if word == "ingress" else peer_selections(policy.namespace, rule)
                if word == "egress" and not rule.peers:
                    resolvers = (EVERY_POD,)
                if not any(numbers.get(PortName(each, port.protocol, port.name)) for each in resolvers):
                    yield f"{word} rule {index}: no pod in question has a {port.protocol} port named {port.name!r}"


def _some(noun: str, names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}"
