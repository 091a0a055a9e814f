"""What of EgressIPs is accepted but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.analysis.finding import Finding, found_in
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_ip.rules import selection
from ovnk_core.features.egress_ip.verdict import Precedence, precedence
from ovnk_core.indexes.selection import SELECTED
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION
from ovnk_core.terms.name import NamespacedName, ObjectRef

SHOWN = 3
"""Pods that a sentence names."""


def egress_ip_findings(cluster: Cluster) -> Iterator[Finding]:
    """By EgressIP: those that select no pod, pods that another one serves, and addresses that no node holds."""
    decided = cluster.engine.rows(EGRESS_IP_DECISION)
    ranks = {item.name: precedence(item, decided.get(key)) for key, item in cluster.engine.rows(EGRESS_IP).items()}
    items: list[EgressIP] = sorted(cluster.engine.rows(EGRESS_IP).values(), key=lambda item: ranks[item.name])
    taken: dict[NamespacedName, str] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for item in items:
        pods = sorted(cluster.engine.members(SELECTED, selection(item)))
        texts = found[item.name] = []
        if not pods:
            texts.append(("egressip-no-pods", "selects no pod"))
        by_owner: dict[str, list[NamespacedName]] = {}
        for pod in pods:
            owner = taken.setdefault(pod, item.name)
            if owner != item.name:
                by_owner.setdefault(owner, []).append(pod)
        for owner, theirs in sorted(by_owner.items()):
            shown = ", ".join(map(str, theirs[:SHOWN])) + (
                f" and {len(theirs) - SHOWN} more" if len(theirs) > SHOWN else ""
            )
            why = _why_first(ranks[owner], ranks[item.name])
            texts.append(("egressip-overlap", f"EgressIP {owner} selects {shown}, too, and counts: {why}"))
        for each in decided[item.key].unassigned if item.key in decided else ():
            if each.reason != "Moving":
                text = f"{each.address} is on no node ({each.reason}): {each.message}"
                texts.append(("egressip-unassigned", text))
    for name, texts in sorted(found.items()):
        ref = ObjectRef("EgressIP", "", name)
        yield from (found_in(cluster.sources, ref, code, text) for code, text in texts)


def _why_first(first: Precedence, second: Precedence) -> str:
    """What puts an object before another one that selects the same pods."""
    if first[0] != second[0]:
        return "no address of this one is on a node"
    if first[1] != second[1]:
        return "this one does not say when it was created"
    return "it is older" if first[2] != second[2] else "it is first by name"
