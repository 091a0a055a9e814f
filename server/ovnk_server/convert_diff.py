"""What a change changes, as messages, for one caller: what is about objects that it may not read is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnk_api.v1 import diff_pb2

from ovnk_core.analysis.connections import Connection
from ovnk_core.analysis.diff import RuleChange
from ovnk_core.analysis.seen_sources import SourceChange
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.trace.scene import Scene
from ovnk_server.convert_trace import PROTOCOL_NUMBERS, Reader


class DiffReader(Reader):
    """One caller's, for one comparison."""

    def connections(
        self, found: Iterable[Connection], hosts: Mapping[Address, tuple[str, ...]]
    ) -> tuple[list[diff_pb2.ConnectionChange], bool]:
        """Those whose pods and nodes the caller may read, and whether there are others. ``hosts``: nodes by address."""
        all_of_them = list(found)
        seen = [each for each in all_of_them if all(self._sees_end(end, hosts) for end in (each.source, each.target))]
        return [self._connection(each) for each in seen], len(seen) < len(all_of_them)

    def _sees_end(self, end: NamespacedName | Address, hosts: Mapping[Address, tuple[str, ...]]) -> bool:
        if isinstance(end, NamespacedName):
            return self._sees(ObjectRef("Pod", end.namespace, end.name))
        return all(self._sees(ObjectRef("Node", "", node)) for node in hosts.get(end, ()))

    def _connection(self, each: Connection) -> diff_pb2.ConnectionChange:
        namespaces = {
            "egress": (each.source.namespace if isinstance(each.source, NamespacedName) else "",),
            "ingress": (each.target.namespace if isinstance(each.target, NamespacedName) else "",),
        }
        is_opened, is_egress = each.change == "opened", each.direction == "Egress"
        return diff_pb2.ConnectionChange(
            change=diff_pb2.CONNECTION_CHANGE_KIND_OPENED if is_opened else diff_pb2.CONNECTION_CHANGE_KIND_CLOSED,
            namespace=each.namespace,
            direction=diff_pb2.DIRECTION_EGRESS if is_egress else diff_pb2.DIRECTION_INGRESS,
            pods=each.pods,
            example=diff_pb2.Connection(
                source=str(each.source),
                target=str(each.target),
                protocol=PROTOCOL_NUMBERS[each.protocol],
                port=each.port,
            ),
            before=self.step(each.before, namespaces),
            after=self.step(each.after, namespaces),
        )

    def rules(self, found: Iterable[RuleChange]) -> tuple[list[diff_pb2.RuleChange], bool]:
        """Rules of firewalls that the caller may read, and whether there are others."""
        all_of_them = list(found)
        seen = [each for each in all_of_them if self._sees(ObjectRef("EgressFirewall", each.namespace, "default"))]
        return [_rule_change(each) for each in seen], len(seen) < len(all_of_them)

    def sources(
        self, found: Iterable[SourceChange], before: Scene, after: Scene
    ) -> tuple[list[diff_pb2.SourceChange], bool]:
        """Those of pods and by EgressIPs that the caller may read, and whether there are others."""
        all_of_them = list(found)
        seen = [each for each in all_of_them if self._sees_end(each.pod, {}) and self._sees_items(each)]
        told = [
            diff_pb2.SourceChange(
                namespace=each.namespace,
                family=each.family,
                pods=each.pods,
                example=str(each.pod),
                before=self._egress(each.before, before),
                after=self._egress(each.after, after),
            )
            for each in seen
        ]
        ways = (way for each in told for egress in (each.before, each.after) for way in egress.candidates)
        return told, len(seen) < len(all_of_them) or any(not way.node for way in ways)

    def _sees_items(self, each: SourceChange) -> bool:
        named = (egress.egressip for egress in (each.before, each.after) if egress.egressip is not None)
        return all(self._sees(ObjectRef("EgressIP", "", name)) for name in named)


_RULE_CHANGES: Mapping[str, diff_pb2.RuleChangeKind.ValueType] = {
    "removed": diff_pb2.RULE_CHANGE_KIND_REMOVED,
    "added": diff_pb2.RULE_CHANGE_KIND_ADDED,
    "moved": diff_pb2.RULE_CHANGE_KIND_MOVED,
    "dead": diff_pb2.RULE_CHANGE_KIND_DEAD,
    "alive": diff_pb2.RULE_CHANGE_KIND_ALIVE,
}


def _rule_change(each: RuleChange) -> diff_pb2.RuleChange:
    return diff_pb2.RuleChange(
        change=_RULE_CHANGES[each.change],
        namespace=each.namespace,
        before=each.before,
        after=each.after,
        text=each.text,
        hidden_by=each.hidden_by,
    )
