"""The kinds of the API, one line each, and every way to name one.

A new kind is a message, a field of ``Object``, and a line here; reading and writing its manifests follows from the
message's fields.
"""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from ovnk_api.v1.cluster_pb2 import Infrastructure, Network, NetworkOperator
from ovnk_api.v1.egress_firewall_pb2 import EgressFirewall
from ovnk_api.v1.egress_ip_pb2 import EgressIP
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.namespace_pb2 import Namespace
from ovnk_api.v1.network_attachment_pb2 import NetworkAttachmentDefinition
from ovnk_api.v1.network_policy_pb2 import NetworkPolicy
from ovnk_api.v1.node_pb2 import Node
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.pod_pb2 import Pod
from ovnk_api.v1.service_pb2 import Endpoints, EndpointSlice, Service

from ovnk_wire.fault import WireError

VERSION = "v1"
"""The one version that is served of every kind."""


class Kind(NamedTuple):
    """One kind. ``name`` is that of its message, ``field`` that of its field in ``Object``; ``kubernetes_kind`` is what
    its manifests call it. ``is_lenient``: fields that the message lacks are left out of the API without a word, because
    manifests of the kind carry far more than the network needs; of other kinds each is a mistake of its author."""

    name: str
    field: str
    group: str
    kubernetes_kind: str
    plural: str
    short_names: tuple[str, ...]
    is_namespaced: bool
    is_lenient: bool
    message: type[Message]
    descriptor: Descriptor

    @property
    def api_version(self) -> str:
        """``networking.k8s.io/v1``."""
        return f"{self.group}/{VERSION}" if self.group else VERSION

    @property
    def resource(self) -> str:
        """The full name of the resource: ``networkpolicies.networking.k8s.io``, ``pods``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_FIELDS = {
    field.message_type.name: (field.name, field.message_type)
    for field in Object.DESCRIPTOR.fields
    if field.message_type is not None
}


def _kind(
    message: type[Message],
    resource: str,
    *short_names: str,
    is_namespaced: bool = False,
    is_lenient: bool = True,
    kubernetes_kind: str = "",
) -> Kind:
    name = message.DESCRIPTOR.name
    field, descriptor = _FIELDS[name]
    plural, _, group = resource.partition(".")
    return Kind(
        name=name,
        field=field,
        group=group,
        kubernetes_kind=kubernetes_kind or name,
        plural=plural,
        short_names=short_names,
        is_namespaced=is_namespaced,
        is_lenient=is_lenient,
        message=message,
        descriptor=descriptor,
    )


KINDS: tuple[Kind, ...] = (
    _kind(Network, "networks.config.openshift.io"),
    _kind(NetworkOperator, "networks.operator.openshift.io", kubernetes_kind="Network"),
    _kind(Infrastructure, "infrastructures.config.openshift.io"),
    _kind(Node, "nodes", "no"),
    _kind(Namespace, "namespaces", "ns"),
    _kind(Pod, "pods", "po", is_namespaced=True),
    _kind(NetworkPolicy, "networkpolicies.networking.k8s.io", "netpol", is_namespaced=True, is_lenient=False),
    _kind(EgressFirewall, "egressfirewalls.k8s.ovn.org", "ef", is_namespaced=True, is_lenient=False),
    _kind(Service, "services", "svc", is_namespaced=True),
    _kind(EndpointSlice, "endpointslices.discovery.k8s.io", is_namespaced=True),
    _kind(Endpoints, "endpoints", "ep", is_namespaced=True),
    _kind(EgressIP, "egressips.k8s.ovn.org", "eip", is_lenient=False),
    _kind(
        NetworkAttachmentDefinition,
        "network-attachment-definitions.k8s.cni.cncf.io",
        "net-attach-def",
        "nad",
        is_namespaced=True,
    ),
)
"""In the order of the fields of ``Object``. Of kinds that share a word the first has it."""

_BY_NAME = {kind.name: kind for kind in KINDS}
_BY_FIELD = {kind.field: kind for kind in KINDS}
_BY_IDENTITY = {(kind.group, kind.kubernetes_kind): kind for kind in KINDS}


def _spellings() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for kind in KINDS:
        for word in (kind.name.lower(), kind.kubernetes_kind.lower(), kind.plural, *kind.short_names):
            for suffix in ("", f".{kind.group}", f".{VERSION}.{kind.group}"):
                found.setdefault(f"{word}{suffix}", kind)
    return found


_SPELLINGS = _spellings()


def kind_named(name: str) -> Kind | None:
    """The kind of a message name (``NetworkOperator``); None for one that is not of the API."""
    return _BY_NAME.get(name)


def kind_of_manifest(group: str, kubernetes_kind: str) -> Kind | None:
    """The kind of an API group and a manifest's ``kind``; None for one that is not of the API."""
    return _BY_IDENTITY.get((group, kubernetes_kind))


def find_kind(word: str) -> Kind | None:
    """The kind that a user means, in any case of letters: ``po``, ``egressfirewall``,
    ``networks.operator.openshift.io``, ``networkpolicies.v1.networking.k8s.io``. ``network`` alone is
    config.openshift.io's."""
    return _SPELLINGS.get(word.lower().removesuffix("."))


def kind_of(item: Object) -> Kind:
    """The kind of an object. Raises WireError for an empty one, or one of a kind that is newer than this code."""
    field = item.WhichOneof("object")
    if field is None:
        raise WireError("holds no object of a known kind")
    return _BY_FIELD[field]


def body_of(item: Object) -> Message:
    """The object itself: a ``Pod``, a ``NetworkPolicy``. Raises WireError as ``kind_of``."""
    body: Message = getattr(item, kind_of(item).field)
    return body


def reference_of(item: Object) -> ObjectReference:
    """What names an object. Raises WireError as ``kind_of``."""
    kind = kind_of(item)
    meta = getattr(item, kind.field).metadata
    return ObjectReference(kind=kind.name, namespace=meta.namespace, name=meta.name)
