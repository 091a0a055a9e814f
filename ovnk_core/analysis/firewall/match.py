"""What a namespace's egress firewall says of many flows at once.

Only the firewall is asked: not the way, not network policies, and not the allowance of DNS to a pod's own node, which
depends on the pod (15.5.1.3). Rules on DNS names and nodes stand for what the cluster's state says they do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ovnk_core.analysis.firewall.flow_file import Flows
from ovnk_core.features.egress_firewall.classify import FirewallClassifier
from ovnk_core.kernels.classifier import NONE
from ovnk_core.terms.struct import Value
from ovnk_core.trace.scene import Scene


class Matched(Value, frozen=True, kw_only=True):
    """``allowed`` bool [n]; ``rules`` int32 [n], index of the rule that decided, -1 where none did."""

    allowed: npt.NDArray[np.bool_]
    rules: npt.NDArray[np.int32]

    def counts(self) -> Iterator[tuple[int, int]]:
        """(rule, flows it decided), ascending; rules that decided none are left out."""
        rules, counts = np.unique(self.rules, return_counts=True)
        yield from zip(rules.tolist(), counts.tolist(), strict=True)


def match_flows(scene: Scene, namespace: str, flows: Flows) -> Matched:
    """n flows of pods of ``namespace`` -> n verdicts, in order.

    Without a firewall everything is allowed. Where a refused one is stood in for, what it denies is no rule's doing.
    """
    firewall = scene.firewall(namespace)
    rules = np.full(len(flows), NONE, np.int32)
    if firewall is None:
        return Matched(allowed=np.ones(len(flows), np.bool_), rules=rules)
    classifier = FirewallClassifier(firewall, scene.network, scene)
    is_four = flows.families == 4
    if is_four.all():
        rules = classifier.find_many(4, flows.halves[:, 1].astype(np.uint32), flows.protocols, flows.ports)
    else:
        four, six = np.flatnonzero(is_four), np.flatnonzero(~is_four)
        addresses = flows.halves[four, 1].astype(np.uint32)
        rules[four] = classifier.find_many(4, addresses, flows.protocols[four], flows.ports[four])
        rules[six] = classifier.find_many(6, flows.halves[six], flows.protocols[six], flows.ports[six])
    verdicts = np.array([*(rule.allow for rule in classifier.rules), True], np.bool_)  # the last: no rule, at -1
    allowed = verdicts[rules]
    return Matched(allowed=allowed, rules=np.full_like(rules, NONE) if firewall.blocked else rules)
