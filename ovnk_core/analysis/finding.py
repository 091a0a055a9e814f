"""What lint finds: the codes, how bad each is, and one finding.

``error``: something that must work does not. ``warning``: what is written is not what happens. ``note``: true of the
object and worth knowing. The words are SARIF's levels (OASIS SARIF 2.1.0, 3.27.10).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from ovnk_core.ingest.position import SourceMap
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Mildest first."""


class Code(Value, frozen=True, kw_only=True):
    """A kind of finding: its usual severity, what it says in one line, and what to do about it."""

    severity: Severity
    title: str
    advice: str


CODES: dict[str, Code] = {
    "shadowed": Code(
        severity="warning",
        title="An earlier rule of the other verdict decides everything the rule matches",
        advice="Move the rule above the ones that hide it, or remove it.",
    ),
    "redundant": Code(
        severity="note", title="Without the rule nothing would change", advice="Remove it, unless it is documentation."
    ),
    "unreachable": Code(
        severity="warning",
        title="The rule's destination is never filtered by an egress firewall",
        advice="Use a NetworkPolicy for traffic inside the cluster; remove the rule.",
    ),
    "deny-cuts-api": Code(
        severity="error",
        title="Pods cannot reach the API servers (15.5.1)",
        advice="Allow the API servers' addresses above the Deny.",
    ),
    "deny-cuts-dns": Code(
        severity="warning",
        title="No DNS server outside the cluster can be reached, except on the pod's own node (15.5.1.3)",
        advice="Allow the DNS servers' addresses, UDP and TCP port 53, above the Deny.",
    ),
    "deny-cuts-join": Code(
        severity="note",
        title="New connections to the join network are denied",
        advice="Allow 100.64.0.0/16 and fd98::/64 above the Deny if pods talk to gateway routers.",
    ),
    "deny-cuts-node": Code(
        severity="note",
        title="Pods cannot reach nodes' addresses, their own node's included",
        advice="Allow the nodes (nodeSelector) above the Deny if pods use host-network services.",
    ),
    "ipv6-open": Code(
        severity="warning",
        title="All of IPv4 is denied but for exceptions, and IPv6 is not",
        advice="Add a Deny of ::/0.",
    ),
    "ipv4-open": Code(
        severity="warning",
        title="All of IPv6 is denied but for exceptions, and IPv4 is not",
        advice="Add a Deny of 0.0.0.0/0.",
    ),
    "host-bits": Code(
        severity="warning", title="A prefix has host bits set", advice="Write the network address that is meant."
    ),
    "wildcard-deny": Code(
        severity="warning",
        title="A Deny by wildcard holds only for names that were heard of",
        advice="Deny everything and allow what is needed.",
    ),
    "wildcard-needs-feed": Code(
        severity="error",
        title="A wildcard name needs a resolver feed; without one the whole firewall is refused",
        advice="Name the hosts one by one, or run a control plane with a resolver feed.",
    ),
    "dns-pending": Code(
        severity="warning",
        title="A Deny by DNS name matches nothing until the name is answered",
        advice="Check the name, or deny its prefix.",
    ),
    "deny-by-dns": Code(
        severity="note",
        title="A Deny by DNS name races with the pods' own resolver (15.5.1.3)",
        advice="Deny by prefix, or deny everything and allow by name.",
    ),
    "route-bypass": Code(
        severity="note",
        title="Traffic through routers is not filtered: whoever may create a Route can bypass the firewall (15.5.1)",
        advice="Restrict who may create Routes in the cluster.",
    ),
    "system-namespace": Code(
        severity="warning",
        title="A firewall in a namespace of the platform (15.5.1.1)",
        advice="Make sure the platform's own traffic is allowed.",
    ),
    "egressip-no-pods": Code(
        severity="warning",
        title="An EgressIP selects no pod",
        advice="Check its selectors against the labels of namespaces and pods.",
    ),
    "egressip-overlap": Code(
        severity="warning",
        title="Pods are selected by another EgressIP, too, which is the one that counts",
        advice="Keep the selectors of EgressIPs apart.",
    ),
    "egressip-unassigned": Code(
        severity="warning",
        title="No node holds an address of an EgressIP",
        advice="Do what the reason says: label a node, or choose an address of a labelled node's primary subnet.",
    ),
    "router-platform": Code(
        severity="error",
        title="An egress router needs layer 2, which the platform does not have (15.11.1)",
        advice="Use an egress IP or a host outside the cluster as a gateway.",
    ),
    "router-crowded": Code(
        severity="warning",
        title="Many egress routers on one node can exceed what its interface filters in hardware (15.11.1)",
        advice="Spread the router pods over nodes.",
    ),
    "router-address": Code(
        severity="warning",
        title="The reserved address of an egress router is in use (15.11.1.4)",
        advice="Reserve an address that nobody else has, and run one replica.",
    ),
    "router-destination": Code(
        severity="warning",
        title="A destination is not reached",
        advice="Name destinations outside of the cluster and of the router's node.",
    ),
    "router-several": Code(
        severity="warning",
        title="A pod names several egress routers, and has one default route",
        advice="Name one network of an egress router in each pod.",
    ),
    "router-unserved": Code(
        severity="note",
        title="No Service selects an egress router pod",
        advice="Make a Service that selects its labels (15.12.3).",
    ),
    "router-past-firewall": Code(
        severity="note",
        title="What an egress router sends leaves past OVN, and past the egress firewall",
        advice="Restrict who may make egress routers in the namespace.",
    ),
    "router-undeclared": Code(
        severity="error",
        title="A pod names a network that is not declared, so that its containers are not created",
        advice="Create the NetworkAttachmentDefinition in the namespace that the annotation names.",
    ),
    "router-idle": Code(
        severity="warning",
        title="A pod names an egress router's network, and is none",
        advice="Take it off the host network, or give the network the family of the cluster's.",
    ),
    "router-local": Code(
        severity="error",
        title="A Service keeps the addresses of clients that its router pod cannot answer",
        advice="Set externalTrafficPolicy to Cluster: the gateway then hides the client, and the answer comes back.",
    ),
    "router-port": Code(
        severity="warning",
        title="A port of a Service is redirected by no destination of its router pod",
        advice="Add a destination for the port, or remove the port.",
    ),
    "router-service": Code(
        severity="error",
        title="A Service selects no pod, beside an egress router that no Service selects",
        advice="Give the router pod the labels that the Service selects (15.12.3).",
    ),
}


class Finding(Value, frozen=True, kw_only=True):
    """One finding about one object. ``rule``: the index it is about, None for the whole object. ``source``: where that
    is written, empty if unknown. ``hidden_by``: indexes of the rules that hide it, ascending."""

    code: str
    severity: Severity
    object: ObjectRef
    text: str
    rule: int | None = None
    source: str = ""
    hidden_by: tuple[int, ...] = ()


def found_in(
    sources: Mapping[ObjectRef, SourceMap], ref: ObjectRef, code: str, text: str, *, severity: Severity | None = None
) -> Finding:
    """A finding about an object as a whole, as severe as its code unless that is said."""
    where = sources.get(ref)
    return Finding(
        code=code,
        severity=severity or CODES[code].severity,
        object=ref,
        source=str(where) if where is not None else "",
        text=text,
    )


def remark(finding: Finding) -> str:
    """A finding as one of the sentences of ``validate``. One about a platform names it itself."""
    match finding.object:
        case ObjectRef(kind="Infrastructure"):
            return finding.text
        case ObjectRef(kind="Pod") as ref:
            return f"pod {ref.key}: {finding.text}"
        case ObjectRef(kind="Node") as ref:
            return f"node {ref.name}: {finding.text}"
        case ref:
            return f"{ref}: {finding.text}"
