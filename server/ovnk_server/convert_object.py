"""Kept documents as messages, each made once: what a hundred watches are sent is one message.

What only the server can say is filled in here: the resource version, the source, and the status that follows from what
was decided and from what is in force; of a Service its spec, where Kubernetes shows what it was given. A document that
states its addresses itself keeps them. What is derived is that of now, whatever revision is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from google.protobuf.message import Message
from ovnk_api.v1 import egress_firewall_pb2, egress_ip_pb2, meta_pb2, pod_pb2, service_pb2
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.object_service_pb2 import WatchResponse
from ovnk_wire import body_of, from_manifest

from ovnk_core.features.egress_firewall.status import FirewallStatus, firewall_status
from ovnk_core.keeper.document import Manifest, decision_key, decode, read_decision
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.ties import host_addresses, needs_address, needs_front, needs_host, node_key
from ovnk_core.keeper.watching import Happening
from ovnk_core.model.decision import PodDecision, ServiceDecision
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.egress_ip import EgressIPDecision
from ovnk_core.model.tables import DNS_DECISION, cluster_key
from ovnk_core.store.entry import Stored
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_server.convert import version
from ovnk_server.hearing import Hearing, put_out

MAX_BYTES = 64 << 20
"""Of messages that are remembered."""
MAX_STATUSES = 1_024
M = TypeVar("M", bound=Message)


class Status(NamedTuple):
    """How the status of a kind comes about: ``find`` collects what it follows from, as one value that is equal while
    the status is the same to who hears it; ``fill`` writes it into the message."""

    find: Callable[[Keeper, ObjectRef, Manifest, Hearing], Hashable]
    fill: Callable[[Any, Any], None]


class _Key(NamedTuple):
    """What a message is made of."""

    ref: ObjectRef
    modified: int
    derived: Hashable


class Objects:
    """Messages of a keeper's documents."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._made: OrderedDict[Hashable, Message] = OrderedDict()
        self._bytes = 0

    def message(self, ref: ObjectRef, stored: Stored, hearing: Hearing) -> Object:
        """An object with its status. Shared: nobody may change it."""
        return self._message(self._key(ref, stored, hearing), stored)

    def _key(self, ref: ObjectRef, stored: Stored, hearing: Hearing) -> _Key:
        status = STATUS.get(ref.kind)
        derived = None if status is None else status.find(self._keeper, ref, decode(stored.value).manifest, hearing)
        return _Key(ref, stored.modified, derived)

    def _message(self, key: _Key, stored: Stored) -> Object:
        found = self._made.get(key)
        if found is None:
            return self._keep(key, _message(key, stored))
        self._made.move_to_end(key)
        assert isinstance(found, Object)
        return found

    def response(self, happening: Happening, hearing: Hearing) -> WatchResponse:
        """One event of a watch. Shared: nobody may change it."""
        if happening.ref is None or happening.stored is None:
            return _without_object(happening)
        inner = self._key(happening.ref, happening.stored, hearing)
        key = (happening.type, happening.revision, happening.resume, inner)
        found = self._made.get(key)
        if found is None:
            response = WatchResponse(revision=happening.revision, resume_revision=happening.resume)
            getattr(response, happening.type).object.CopyFrom(self._message(inner, happening.stored))
            return self._keep(key, response)
        self._made.move_to_end(key)
        assert isinstance(found, WatchResponse)
        return found

    def _keep(self, key: Hashable, message: M) -> M:
        self._made[key] = message
        self._bytes += message.ByteSize()
        while self._bytes > MAX_BYTES:
            self._bytes -= self._made.popitem(last=False)[1].ByteSize()
        return message


def _without_object(happening: Happening) -> WatchResponse:
    response = WatchResponse(revision=happening.revision, resume_revision=happening.resume)
    if happening.type == "bookmark":
        response.bookmark.SetInParent()
    elif happening.type == "synced":
        response.synced.objects = happening.objects
    else:
        response.resync_required.reason = "the watch fell too far behind"
    return response


def _message(key: _Key, stored: Stored) -> Object:
    kept = decode(stored.value)
    item, _ = from_manifest(kept.manifest)
    body: Any = body_of(item)
    meta: meta_pb2.ObjectMeta = body.metadata
    meta.resource_version, meta.source = version(stored.modified), kept.source
    meta.kubernetes.resource_version = kept.kubernetes_version
    if key.derived is not None:
        STATUS[key.ref.kind].fill(body, key.derived)
    return item


# ------------------------------------------------------------------------------------------- pods


class _Placed(NamedTuple):
    decision: bytes
    hosts: tuple[str, ...]


def _placed(keeper: Keeper, ref: ObjectRef, manifest: Manifest, hearing: Hearing) -> _Placed | None:
    """Where a pod is, of what its document does not say."""
    hosts = host_addresses(keeper.history.get(node_key(manifest))) if needs_host(manifest) else ()
    decision = keeper.history.get(decision_key("Pod", ref.key)) if needs_address(manifest) else None
    if decision is None and not hosts:
        return None
    return _Placed(decision.value if decision else b"", hosts)


def _place(pod: pod_pb2.Pod, found: _Placed) -> None:
    if found.decision:
        key = NamespacedName(pod.metadata.namespace, pod.metadata.name)
        decision = read_decision(decision_key("Pod", key), found.decision)
        assert isinstance(decision, PodDecision)
        _state_addresses(pod.status, tuple(map(str, decision.addresses)))
    if found.hosts:
        pod.status.host_ip = found.hosts[0]
        pod.status.host_ips.extend(pod_pb2.HostIP(ip=each) for each in found.hosts)
        if pod.spec.host_network and not (pod.status.pod_ips or pod.status.pod_ip):
            _state_addresses(pod.status, found.hosts)


def _state_addresses(status: pod_pb2.PodStatus, addresses: tuple[str, ...]) -> None:
    if addresses:
        status.pod_ip = addresses[0]
        status.pod_ips.extend(pod_pb2.PodIP(ip=each) for each in addresses)


# ------------------------------------------------------------------------------------------- Services


def _front(keeper: Keeper, ref: ObjectRef, manifest: Manifest, hearing: Hearing) -> bytes | None:
    """What a Service was given, where its document does not say all of it."""
    decision = keeper.history.get(decision_key("Service", ref.key)) if needs_front(manifest) else None
    return decision.value if decision else None


def _reach(service: service_pb2.Service, found: bytes) -> None:
    key = NamespacedName(service.metadata.namespace, service.metadata.name)
    decision = read_decision(decision_key("Service", key), found)
    assert isinstance(decision, ServiceDecision)
    spec = service.spec
    spec.cluster_ip = str(decision.cluster_ips[0])
    spec.cluster_ips[:] = [str(address) for address in decision.cluster_ips]
    node_ports: dict[tuple[str, int], int] = {(p.protocol, p.port): p.node_port for p in decision.node_ports}
    for port in spec.ports:
        if node_port := node_ports.get((port.protocol or "TCP", port.port)):
            port.node_port = node_port


# ------------------------------------------------------------------------------------------- egress firewalls


class FirewallStatuses:
    """Statuses of firewalls at one revision of the engine: a long list is looked through once for all who ask. Those of
    a keeper go with it: another one may come to stand where it stood."""

    def __init__(self) -> None:
        self.found: WeakKeyDictionary[Keeper, OrderedDict[tuple[int, ObjectRef], FirewallStatus]] = WeakKeyDictionary()

    def find(self, keeper: Keeper, ref: ObjectRef, manifest: Manifest, hearing: Hearing) -> FirewallStatus:
        cluster = keeper.plane.cluster
        known, key = self.found.setdefault(keeper, OrderedDict()), (keeper.plane.revision, ref)
        if key not in known:
            firewall, refused = cluster.get(ref), cluster.refused.get(ref)
            known[key] = firewall_status(
                firewall if isinstance(firewall, EgressFirewall) else None,
                tuple(each.at("") for each in refused.errors) if refused is not None else (),
                cluster.engine.rows(DNS_DECISION).get,
            )
            if len(known) > MAX_STATUSES:
                known.popitem(last=False)
        return known[key]


def _judge(firewall: egress_firewall_pb2.EgressFirewall, found: FirewallStatus) -> None:
    firewall.status.Clear()
    firewall.status.status = found.text
    firewall.status.messages.extend(found.messages)
    for each in found.conditions:
        firewall.status.conditions.add(type=each.type, status=each.status, reason=each.reason, message=each.message)


# ------------------------------------------------------------------------------------------- egress IPs


class _Assigned(NamedTuple):
    decision: bytes
    sees_nodes: bool


def _assigned(keeper: Keeper, ref: ObjectRef, manifest: Manifest, hearing: Hearing) -> _Assigned:
    """Which node holds which address, as it is decided."""
    decision = keeper.history.get(decision_key("EgressIP", ref.key))
    return _Assigned(decision.value, hearing.sees_nodes) if decision else _Assigned(b"", False)


def _assign(egress_ip: egress_ip_pb2.EgressIP, found: _Assigned) -> None:
    egress_ip.status.Clear()
    egress_ip.status.SetInParent()
    if not found.decision:
        return
    decision = read_decision(decision_key("EgressIP", cluster_key(egress_ip.metadata.name)), found.decision)
    assert isinstance(decision, EgressIPDecision)
    status = egress_ip.status
    for each in decision.assignments:
        status.items.add(node=each.node if found.sees_nodes else None, egress_ip=str(each.address))
    status.assignments.extend(status.items)
    nowhere = decision.unassigned
    texts = (
        put_out(f"{each.address}: {each.message}", each.mentions, lambda ref: found.sees_nodes) for each in nowhere
    )
    status.conditions.add(
        type="Assigned",
        status="False" if nowhere else "True",
        reason=nowhere[0].reason if nowhere else "Assigned",
        message="; ".join(texts),
    )


STATUS: dict[str, Status] = {
    "Pod": Status(_placed, _place),
    "Service": Status(_front, _reach),
    "EgressIP": Status(_assigned, _assign),
    "EgressFirewall": Status(FirewallStatuses().find, _judge),
}
"""Kinds whose status the server knows better than their documents."""
