"""What every declared object has in common, and the list of kinds we model."""

from __future__ import annotations

from typing import Literal, get_args

from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value

Kind = Literal[
    "Network",
    "NetworkOperator",
    "Infrastructure",
    "Node",
    "Namespace",
    "Pod",
    "NetworkPolicy",
    "EgressFirewall",
    "Service",
    "EndpointSlice",
    "Endpoints",
    "EgressIP",
    "NetworkAttachmentDefinition",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Declared(Value, frozen=True, kw_only=True, gc=False):
    """Identity of a declared object. ``created`` is metadata.creationTimestamp as text (RFC 3339 sorts by time)."""

    name: str
    namespace: str = ""
    uid: str = ""
    created: str = ""

    @property
    def key(self) -> NamespacedName:
        return NamespacedName(self.namespace, self.name)


def reference(kind: str, item: Declared) -> ObjectRef:
    return ObjectRef(kind, item.namespace, item.name)
