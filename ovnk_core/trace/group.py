"""A packet to a multicast group: how far switches and routers carry it, and who may hear it.

Membership is not known to the northbound. The question is answered for a group that everybody joined, so receivers are
all those who would get the packet if they did. Which groups are flooded, which are relayed: northd's
``ls_in_l2_lkup``, ``lr_in_ip_input`` and ``lr_in_ip_routing`` of OVN 23.03, compared with ovn-trace by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from ovnk_core.features.multicast.verdict import is_judged, judge
from ovnk_core.features.network_policy.verdict import Direction
from ovnk_core.indexes.endpoint import Endpoint
from ovnk_core.model.cluster import special_kind
from ovnk_core.model.namespace import MULTICAST
from ovnk_core.model.tables import NAMESPACE, cluster_key
from ovnk_core.terms.address import Address, cidr
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.protection import protected
from ovnk_core.trace.question import Answer, Leg, Receiver, Step
from ovnk_core.trace.scene import End, Ends, Scene

STAGE = "multicast"
LINK_GROUPS = cidr("224.0.0.0/24")
"""IPv4 groups of one link: flooded to every port but the router's."""
PERMANENT = cidr("ff00::/12")
"""IPv6 groups without flags; those that have nothing but a scope are reserved."""
_GROUP_ID_BITS = 112
UNROUTED_SCOPES = frozenset((0x0, 0x1, 0x2, 0x3, 0xF))
"""Scopes of IPv6 groups that northd makes no routes for."""

PolicyStep = Callable[[Direction, End, End], Step | None]
"""Direction, subject and peer -> what NetworkPolicy says."""


def is_followed(ends: Ends) -> bool:
    """Whether a packet goes from a pod to a multicast group."""
    target = ends.target
    return ends.source.endpoint is not None and target.kind == "group" and special_kind(target.address) == "multicast"


def stays_on_switch(group: Address) -> bool:
    """Whether a group is never relayed, whoever joined it: by its scope, or because it is reserved."""
    if group.family == 4:
        return LINK_GROUPS.contains(group)
    scope, group_id = group.value >> _GROUP_ID_BITS & 0xF, group.value & ((1 << _GROUP_ID_BITS) - 1)
    return scope in UNROUTED_SCOPES or (PERMANENT.contains(group) and not group_id)


def audience(scene: Scene, ends: Ends, snooping: Collection[str]) -> list[Endpoint]:
    """Pods that the network carries a packet to, ACLs apart, by node and name: on the sender's switch, and where the
    group is relayed on every switch that snoops. A pod without an address of the family joins nothing."""
    sender, group = ends.source.endpoint, ends.target.address
    nodes = {ends.source.node} if stays_on_switch(group) else {ends.source.node, *snooping}
    found = (
        each
        for each in scene.endpoints.values()
        if each.node in nodes and each is not sender and each.address(group.family) is not None
    )
    return sorted(found, key=lambda each: (each.node, each.key))


def answer_by_objects(scene: Scene, ends: Ends, policy_step: PolicyStep) -> Answer:
    """From the objects: by the namespace's annotation, or for permanent groups of a link by NetworkPolicy."""
    source, target = ends.source, ends.target
    assert source.endpoint is not None
    hosts = {each.node for each in scene.endpoints.values() if is_opted_in(scene, each.key.namespace)}
    near = audience(scene, ends, hosts)
    if is_judged(target.address):
        step = multicast_step(scene, source.endpoint)
        mine = source.endpoint.key.namespace
        return closed(scene, ends, [step], [each for each in near if each.key.namespace == mine])
    said = policy_step("Egress", source, target)
    steps = [said] if said is not None else []

    def hears(each: Endpoint) -> bool:
        # Nobody's port names stand for a number here: they are resolved at addresses of pods, not at groups.
        end = End(kind="pod", address=target.address, endpoint=replace(each, ports=()), node=each.node)
        found = policy_step("Ingress", end, source)
        return found is None or found.verdict == "allow"

    is_out = all(step.verdict == "allow" for step in steps)
    return closed(scene, ends, steps, [each for each in near if hears(each)] if is_out else ())


def is_opted_in(scene: Scene, namespace: str) -> bool:
    """Whether a namespace asks for multicast."""
    declared = scene.cluster.engine.rows(NAMESPACE).get(cluster_key(namespace))
    return declared is not None and declared.is_multicast


def multicast_step(scene: Scene, sender: Endpoint) -> Step:
    """What the sender's namespace says, with the place of its annotation."""
    name = sender.key.namespace
    ref = ObjectRef("Namespace", "", name)
    found = judge(name, scene.cluster.engine.rows(NAMESPACE).get(cluster_key(name)))
    refused, where = scene.cluster.refused.get(ref), scene.cluster.sources.get(ref)
    source = refused.source if refused is not None else where.at("metadata", "annotations", MULTICAST) if where else ""
    return Step(stage=STAGE, verdict="allow" if found.allowed else "drop", text=found.text, object=ref, source=source)


def closed(scene: Scene, ends: Ends, steps: list[Step], hearing: Iterable[Endpoint]) -> Answer:
    """The answer: dropped where the last step says so, else allowed, whoever is there to hear it."""
    if steps and steps[-1].verdict == "drop":
        return Answer(verdict="drop", reason=steps[-1].text, path="multicast", steps=tuple(steps))
    group, node = ends.target.address, ends.source.node
    way = f"{group} stays on the switch of {node}"
    if not stays_on_switch(group):
        way = f"{group} goes to those who joined it; off {node} only with a TTL above 1, to nodes that host multicast"
    route = Step(stage="route", verdict="allow", text=way)
    receivers = tuple(Receiver(namespace=each.key.namespace, name=each.key.name, node=each.node) for each in hearing)
    legs = tuple(
        Leg(source=node, target=each, transport="local" if each == node else "geneve")
        for each in dict.fromkeys(receiver.node for receiver in receivers)
    )
    telling = [step.text for step in steps if step.object is not None] or [way]
    return Answer(
        verdict="allow",
        reason="; ".join(telling),
        path="multicast",
        legs=protected(scene, ends, legs),
        steps=(*steps, route),
        receivers=receivers,
    )
