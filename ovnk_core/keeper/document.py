"""What the store holds of an object, and how it becomes something the engine takes.

A *document* is a manifest as a user would write it, with every field we know; the model is made from it, never the
other way round, so labels and annotations that no rule reads come back as they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from ovnk_core.errors import SchemaError, StoreCorrupt
from ovnk_core.ingest.decisions import (
    read_dns,
    read_egress_ip,
    read_health,
    read_install,
    read_node,
    read_pod,
    read_service,
)
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Item, Refused, StandIn, fails_closed
from ovnk_core.ingest.parse import DEFAULT_NAMESPACE, KIND_RULES
from ovnk_core.model.cluster import InstallDecision
from ovnk_core.model.decision import DnsDecision, NodeDecision, PodDecision, ServiceDecision
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth
from ovnk_core.model.manifest import (
    dns_text,
    egress_ip_text,
    health_text,
    install_text,
    node_text,
    pod_text,
    service_text,
)
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.tables import (
    DNS_DECISION,
    EGRESS_IP_DECISION,
    INSTALL_DECISION,
    NODE_DECISION,
    NODE_HEALTH,
    POD_DECISION,
    SERVICE_DECISION,
    cluster_key,
)
from ovnk_core.store.entry import Stored, StoreKey
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value

Manifest = dict[str, Any]
Decision = InstallDecision | NodeDecision | PodDecision | ServiceDecision | EgressIPDecision | NodeHealth | DnsDecision
_DECIDED = {
    "Install": INSTALL_DECISION,
    "Node": NODE_DECISION,
    "Pod": POD_DECISION,
    "Service": SERVICE_DECISION,
    "EgressIP": EGRESS_IP_DECISION,
    "NodeHealth": NODE_HEALTH,
    "DnsName": DNS_DECISION,
}
_JUDGED = frozenset({"EgressFirewall", "EgressIP"})
"""Kinds whose whole status is ours to say: kept, it would be a change whenever somebody gives back what they read."""
_SERVER_FIELDS = ("resourceVersion", "managedFields", "selfLink", "generation")


class Fault(Value, frozen=True, kw_only=True):
    """Why a document is refused, as ``ObjectError`` has it."""

    reason: str
    path: str = ""
    value: str = ""
    fix: str = ""


class Kept(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One document. ``source``: which synchronised source states it, empty for objects applied by hand.
    ``kubernetes_version``: metadata.resourceVersion of the API server that it came from, for the round trip.
    ``faults``: why it is refused, of a refused one; it stays refused for these reasons until it is stated anew.
    ``is_unreadable``: its manifest is no more than a name, because nobody could read the rest."""

    manifest: Manifest
    source: str = ""
    kubernetes_version: str = ""
    faults: tuple[Fault, ...] = ()
    is_unreadable: bool = False


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Kept)


def encode(kept: Kept) -> bytes:
    """Equal documents give equal bytes."""
    return _ENCODER.encode(kept)


@lru_cache(maxsize=4_096)
def decode(value: bytes) -> Kept:
    """The inverse of ``encode``; shared, so nobody may edit it. Raises StoreCorrupt."""
    try:
        return _DECODER.decode(value)
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"not a document: {error}") from error


def object_key(ref: ObjectRef) -> StoreKey:
    return StoreKey("object", ref.kind, ref.namespace, ref.name)


def refused_key(ref: ObjectRef) -> StoreKey:
    return StoreKey("refused", ref.kind, ref.namespace, ref.name)


def ref_of(key: StoreKey) -> ObjectRef:
    return ObjectRef(key.kind, key.namespace, key.name)


def settled(manifest: Mapping[str, Any], item: Item, before: Kept | None, *, uid: str, now: str) -> Manifest:
    """A document as it is kept: with its namespace written out, the identity it had (``uid`` and ``now`` for a new
    one), and without what only a server can say. ``item`` is what it means."""
    ref, created = item.ref, item.value.created
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _SERVER_FIELDS}
    known = before.manifest["metadata"] if before else {"uid": uid, "creationTimestamp": now}
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    if metadata.get("uid", known["uid"]) == known["uid"]:
        metadata["uid"] = known["uid"]
        metadata["creationTimestamp"] = created or known["creationTimestamp"]
    else:
        # Another uid: the object was deleted and made again elsewhere, and we only saw the end of it.
        metadata["creationTimestamp"] = created or now
    kept = {**manifest, "metadata": metadata}
    if ref.kind in _JUDGED:
        kept.pop("status", None)
    return kept


def with_status(manifest: Mapping[str, Any], stored: Callable[[StoreKey], Stored | None]) -> Mapping[str, Any]:
    """A manifest with the status that is kept of its object, where it states none: whoever changes a spec or a label
    does not say that the addresses are gone. An empty one says it."""
    rule = KIND_RULES.get((str(manifest.get("apiVersion", "")).rpartition("/")[0], str(manifest.get("kind"))))
    metadata = manifest.get("metadata")
    if "status" in manifest or rule is None or not isinstance(metadata, Mapping):
        return manifest
    namespace = str(metadata.get("namespace") or DEFAULT_NAMESPACE) if rule.is_namespaced else ""
    before = stored(object_key(ObjectRef(rule.kind, namespace, str(metadata.get("name")))))
    status = decode(before.value).manifest.get("status") if before else None
    return manifest if status is None else {**manifest, "status": status}


def as_kept(item: Item, manifest: Manifest) -> Item:
    """What the settled document means, given what the one it was made from means."""
    metadata = manifest["metadata"]
    return replace(item, value=replace(item.value, uid=metadata["uid"], created=metadata["creationTimestamp"]))


def read_document(value: bytes) -> Item | Refused:
    """A kept document through the same door as any manifest; one that a release before ours accepted may be refused.
    Raises StoreCorrupt."""
    kept = decode(value)
    loaded = parse_objects((kept.manifest,), source=kept.source or "object")
    found: list[Item | Refused] = [*loaded.items, *loaded.refused]
    if found:
        return found[0]
    raise StoreCorrupt(f"a document of no kind we know: {kept.manifest.get('kind')!r}")


def read_refused(ref: ObjectRef, value: bytes) -> Refused:
    """A kept document that is refused: its reasons, and what fails closed in its place. Raises StoreCorrupt."""
    kept = decode(value)
    errors = tuple(
        SchemaError(fault.reason, kind=ref.kind, name=str(ref.key), path=fault.path, value=fault.value, fix=fault.fix)
        for fault in kept.faults
    )
    if kept.is_unreadable:
        stand_in = _all_closed(ref, str(errors[0].reason))
    else:
        loaded = parse_objects((kept.manifest,), source=kept.source)
        stand_in = loaded.refused[0].stand_in if loaded.refused else fails_closed(loaded.items[0].value)
    return Refused(ref=ref, errors=errors, stand_in=stand_in, source=kept.source)


def _all_closed(ref: ObjectRef, reason: str) -> StandIn | None:
    """What stands in for an object of which only the name is known."""
    if ref.kind == "NetworkPolicy":
        return NetworkPolicy(name=ref.name, namespace=ref.namespace, is_ingress=True, is_egress=True, blocked=reason)
    if ref.kind == "EgressFirewall" and ref.name == FIREWALL_NAME:
        return EgressFirewall(name=ref.name, namespace=ref.namespace, blocked=reason)
    return None


# ------------------------------------------------------------------------------------------------ decisions


def decision_key(kind: str, key: NamespacedName | str) -> StoreKey:
    """``kind``: Install, Node, Pod, Service, EgressIP, NodeHealth or DnsName."""
    if isinstance(key, str):
        return StoreKey("decision", kind, "", key)
    return StoreKey("decision", kind, key.namespace, key.name)


def decision_value(decision: Decision) -> bytes:
    """A decision as it is kept."""
    match decision:
        case InstallDecision():
            return install_text(decision).encode()
        case NodeDecision():
            return node_text(decision).encode()
        case PodDecision():
            return pod_text(decision).encode()
        case ServiceDecision():
            return service_text(decision).encode()
        case EgressIPDecision():
            return egress_ip_text(decision).encode()
        case NodeHealth():
            return health_text(decision).encode()
        case DnsDecision():
            return dns_text(decision).encode()


def read_decision(key: StoreKey, value: bytes) -> Decision:
    """A kept decision. Raises StoreCorrupt: what is decided is not guessed anew."""
    text = value.decode(errors="replace")
    found: Decision | None
    if key.kind == "Install":
        found = read_install(text)
    elif key.kind == "Node":
        found = read_node(key.name, text)
    elif key.kind == "Pod":
        found = read_pod(f"{key.namespace}/{key.name}", text)
    elif key.kind == "Service":
        found = read_service(f"{key.namespace}/{key.name}", text)
    elif key.kind == "EgressIP":
        found = read_egress_ip(key.name, text)
    elif key.kind == "NodeHealth":
        found = read_health(key.name, text)
    else:
        found = read_dns(key.name, text)
    if found is None:
        raise StoreCorrupt(f"{key}: not a decision: {text[:80]!r}")
    return found


def decision_table(key: StoreKey) -> tuple[Any, NamespacedName | str]:
    """The table a kept decision belongs to, and its key there. Raises StoreCorrupt."""
    table = _DECIDED.get(key.kind)
    if table is None:
        raise StoreCorrupt(f"{key}: no decision is of this kind")
    if key.kind == "DnsName":
        return table, key.name
    return table, NamespacedName(key.namespace, key.name) if key.namespace else cluster_key(key.name)
