"""What of EgressIPs is accepted but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.analysis.finding import Finding, found_in
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_ip.rules import rank, selection
from ovnk_core.indexes.selection import SELECTED
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.model.tables import EGRESS_IP
from ovnk_core.terms.name import NamespacedName, ObjectRef

SHOWN = 3
"""Pods that a sentence names."""


def egress_ip_findings(cluster: Cluster) -> Iterator[Finding]:
    """By EgressIP: those that select no pod, and pods that an older one has."""
    items: list[EgressIP] = sorted(cluster.engine.rows(EGRESS_IP).values(), key=rank)
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
            text = f"EgressIP {owner} is older, and selects {shown}, too: the older one counts"
            texts.append(("egressip-overlap", text))
    for name, texts in sorted(found.items()):
        ref = ObjectRef("EgressIP", "", name)
        yield from (found_in(cluster.sources, ref, code, text) for code, text in texts)
