"""The answer from the objects, with egress firewalls looked up in compiled classifiers instead of rule by rule."""

from __future__ import annotations

from ovnk_core.features.egress_firewall.classify import FirewallClassifier
from ovnk_core.features.egress_firewall.verdict import Find
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.trace import intent
from ovnk_core.trace.question import Answer, Question
from ovnk_core.trace.scene import Scene


class FastTracer:
    """Answers for one state of the cluster; a firewall is compiled when the first question meets it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._classifiers: dict[str, FirewallClassifier] = {}

    def classifier(self, firewall: EgressFirewall) -> FirewallClassifier:
        """The compiled form of a firewall of this state."""
        found = self._classifiers.get(firewall.namespace)
        if found is None:
            found = FirewallClassifier(firewall, self._scene.network, self._scene)
            self._classifiers[firewall.namespace] = found
        return found

    def answer(self, question: Question) -> Answer:
        """One question. Raises QuestionError when an end cannot be placed."""
        return intent.answer(self._scene, question, self._find)

    def _find(self, firewall: EgressFirewall) -> Find:
        return self.classifier(firewall).find
