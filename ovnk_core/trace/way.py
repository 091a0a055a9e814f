"""The way between two ends: which path, over which legs, and whether there is one at all."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from ovnk_core.features.services.rules import HAIRPIN_SOURCES
from ovnk_core.model.cluster import JOIN, address_of_kind, special_kind
from ovnk_core.terms.address import Address, InterfaceAddress
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NodePlace
from ovnk_core.trace.egress import Selected, leave, selected, uplink, why_no_exit
from ovnk_core.trace.question import Candidate, Egress, Leg, PathKind, Question, Step
from ovnk_core.trace.scene import End, Ends, Scene, is_never_forwarded

Effect = Literal["everywhere", "leaving", "never"]
UNBUILT_EFFECT: dict[str, Effect] = {
    "AdminNetworkPolicy": "everywhere",
    "BaselineAdminNetworkPolicy": "everywhere",
    "ClusterNetworkPolicy": "everywhere",
    "UserDefinedNetwork": "everywhere",  # pods of its namespace may live on another network altogether
    "ClusterUserDefinedNetwork": "everywhere",
    "EgressService": "leaving",
    "AdminPolicyBasedExternalRoute": "leaving",
    "EgressQoS": "never",  # marks packets, decides nothing
    "EgressRouter": "never",  # its pod is a pod like any other; what it forwards starts there anew
}
"""Kinds that are known but not built -> the packets whose verdict an object of that kind could change.

``everywhere``: any; ``leaving``: those of a pod (of its namespace, if it has one) that leave the overlay. Covers every
kind ingest knows as unbuilt, which a test checks.
"""


class Way(Value, frozen=True, kw_only=True):
    """``entry``: the hop to the gateway that chose the endpoint of a Service, before ``legs``. ``passes_ovn``: whether
    OVN sees the packet at all; where it does not, ``step`` is the whole verdict.
    ``arrives_from``: the source the target sees, where a gateway translated it on the way in. ``is_hairpin``: a pod
    reaches itself through a Service. ``selected``: what an EgressIP that selects the sender says; ``egress``: how a
    pod's packet leaves for outside."""

    path: PathKind
    legs: tuple[Leg, ...]
    step: Step
    entry: Leg | None = None
    passes_ovn: bool = True
    arrives_from: Address | None = None
    is_hairpin: bool = False
    selected: Selected | None = None
    egress: Egress | None = None


def find_way(scene: Scene, ends: Ends, question: Question | None = None) -> Way:
    """Where a packet between the two ends would go. ``question`` None: the first packet of a connection."""
    taken = selected(scene, ends, question) if scene.bypass(ends) is None else None
    if (
        taken is None
        or not taken.exits
        or ends.target.kind != "external"
        or not scene.places[ends.source.node].has_gateway
    ):
        return replace(_plain_way(scene, ends), selected=taken)
    left = leave(scene, ends, taken)
    step = Step(stage="route", verdict=left.verdict, text=left.text)
    return Way(path="external", legs=left.legs, step=step, selected=taken, egress=left.egress)


def _plain_way(scene: Scene, ends: Ends) -> Way:
    """The way without any egress IP."""
    source, target = ends.source, ends.target
    if source.endpoint is not None and source.endpoint is target.endpoint:
        return stated_way("same-node", (), "allow", "the packet never leaves the pod", passes_ovn=False)
    if (router := scene.bypass(ends)) is not None:
        leg = Leg(source=source.node, target=str(target.address), transport="underlay")
        text = f"leaves by {router.interface} of the egress router pod as {router.router.address.address}, past OVN"
        path: PathKind = "host" if target.kind == "node" else "external"
        if target.node == source.node:
            text = f"{target.address} is an address of the router pod's own node, which {router.interface} cannot reach"
            return stated_way(path, (), "drop", text, passes_ovn=False)
        return stated_way(path, (leg,), "allow", text, passes_ovn=False)
    if source.kind == "node" and target.kind != "pod":
        return _of_host(source, target)
    if source.kind != "pod" and target.kind == "node":
        leg = Leg(source=str(source.address), target=target.node, transport="underlay")
        return stated_way("host", (leg,), "allow", "traffic to hosts does not pass OVN", passes_ovn=False)
    if source.kind == "windows" and target.kind == "windows":
        return _hybrid(source, target, passes_ovn=False)
    if target.kind == "group":
        kind = special_kind(target.address)
        if kind == "multicast" and source.endpoint is not None:
            return stated_way("multicast", (), "allow", f"to whoever joined {target.address}")
        return stated_way("multicast", (), "drop", f"{kind} is not built: OVN's routers drop it (lr_in_ip_input)")
    if target.kind == "nobody":
        return stated_way("external", (), "drop", _why_nobody(target))
    if "windows" in (source.kind, target.kind):
        return _hybrid(source, target)
    if source.kind not in ("pod", "node"):
        return _inbound(scene, source, target)
    if target.kind == "external" or (target.kind == "node" and not target.is_management):
        return outbound(scene, source, target)
    return _inside(source, target)


def _of_host(source: End, target: End) -> Way:
    """A node to anything but a pod: the host's own routes decide."""
    if target.kind == "nobody":
        return stated_way("external", (), "drop", _why_nobody(target), passes_ovn=False)
    if target.kind == "node":
        local = source.node == target.node
        leg = Leg(source=source.node, target=target.node, transport="local" if local else "underlay")
        return stated_way("host", (leg,), "allow", "traffic between hosts does not pass OVN", passes_ovn=False)
    if target.kind == "windows":
        return _hybrid(source, target, passes_ovn=False)
    leg = Leg(source=source.node, target=str(target.address), transport="underlay")
    return stated_way("host", (leg,), "allow", "traffic of a host does not pass OVN", passes_ovn=False)


def _why_nobody(target: End) -> str:
    if is_never_forwarded(target.address):
        return f"{special_kind(target.address)} addresses such as {target.address} are never forwarded"
    return f"nothing in the cluster has the address {target.address}"


def _inside(source: End, target: End) -> Way:
    """Both ends on node switches."""
    is_host = "node" in (source.kind, target.kind)
    if source.node == target.node:
        leg = Leg(source=source.node, target=target.node, transport="local")
        path: PathKind = "host" if is_host else "same-node"
        return stated_way(path, (leg,), "allow", f"both ends are on node {source.node}")
    leg = Leg(source=source.node, target=target.node, transport="geneve")
    return stated_way("overlay", (leg,), "allow", f"through the Geneve tunnel from {source.node} to {target.node}")


def _hybrid(source: End, target: End, *, passes_ovn: bool = True) -> Way:
    """Between a Windows node and another one, or a pod or host of a Linux node."""
    transport = "local" if source.node == target.node else "vxlan"
    leg = Leg(source=source.node, target=target.node, transport=transport)
    text = f"through the VXLAN tunnel of the hybrid overlay from {source.node} to {target.node}"
    if not passes_ovn:
        text = "traffic between Windows nodes, and of hosts to them, does not pass OVN"
    return stated_way("vxlan", (leg,), "allow", text, passes_ovn=passes_ovn)


def _inbound(scene: Scene, source: End, target: End) -> Way:
    if target.kind == "external":
        return stated_way("external", (), "drop", "no node has a gateway to enter by", passes_ovn=False)
    place = scene.places[target.node]
    if not place.has_gateway:
        return stated_way("external", (), "drop", f"node {target.node} has no gateway to enter by")
    translated = _translated(scene, source.address, place)
    why = implausible(source.address, (*place.join, *place.external))
    if why:
        return stated_way("external", (), "drop", f"OVN's routers drop packets that come from {why} (lr_in_ip_input)")
    if not translated and (why := why_not_routed(scene, source.address)):
        return stated_way("external", (), "drop", why)
    legs = (Leg(source=str(source.address), target=target.node, transport="underlay"),)
    text = f"enters at the gateway of node {target.node}"
    if translated:
        text += f", which makes it come from {translated}"
    return replace(stated_way("external", legs, "allow", text), arrives_from=translated)


def why_not_routed(scene: Scene, source: Address) -> str:
    """Why the cluster's router does not forward what comes from outside with an address, or an empty text."""
    if why := implausible(source, _cluster_router(scene)):
        return f"OVN's routers drop packets that come from {why} (lr_in_ip_input)"
    if source in HAIRPIN_SOURCES.values():
        text = f"only a pod that reaches itself through a Service comes from {source}: no router forwards it"
        return f"{text} (lr_in_policy)"
    return ""


def _translated(scene: Scene, address: Address, place: NodePlace) -> Address | None:
    """A gateway translates cluster addresses and its own join address whichever way they go."""
    if not scene.network.holds(address) and all(interface.address != address for interface in place.join):
        return None
    own = uplink(place, address.family)
    return own.address if own is not None else None


def _cluster_router(scene: Scene) -> tuple[InterfaceAddress, ...]:
    joined = InterfaceAddress(scene.network.join_router(4), JOIN[4].prefix)
    return (joined, *(interface for place in scene.places.values() for interface in place.router))


def find_way_on(node: str, target: End) -> Way:
    """From a node's gateway router to a target inside the cluster."""
    if target.kind == "nobody":
        return stated_way("external", (), "drop", _why_nobody(target))
    if target.kind == "windows":
        return _hybrid(End(kind="node", address=target.address, node=node), target)
    return _inside(End(kind="node", address=target.address, node=node), target)


def implausible(address: Address, own: tuple[InterfaceAddress, ...]) -> str:
    """What makes an IPv4 source impossible to routers with these addresses: northd has no such check for IPv6."""
    if address.family != 4:
        return ""
    if kind := special_kind(address):
        return address_of_kind(kind)
    for interface in own:
        if address == interface.address:
            return f"their own address {address}"
        if interface.family == 4 and address.value == interface.subnet.last:
            return f"the broadcast address of {interface.subnet}"
    return ""


def outbound(scene: Scene, source: End, target: End) -> Way:
    """A pod to a host address or to the world."""
    place = scene.places[source.node]
    if target.kind == "node" and target.node == source.node:
        # Router policies only see packets that have a route, and the route by source comes with the gateway.
        if not place.has_gateway:
            text = f"node {source.node} has no gateway, so nothing routes to its own address {target.address}"
            return stated_way("host", (), "drop", text)
        leg = Leg(source=source.node, target=source.node, transport="local")
        return stated_way("host", (leg,), "allow", f"reaches its node through {source.node}'s management port")
    path: PathKind = "host" if target.kind == "node" else "external"
    family = target.address.family
    if why := why_no_exit(place, target.address):
        return stated_way(path, (), "drop", why)
    own = uplink(place, family)
    assert own is not None, "there is a way out"
    end = target.node if target.kind == "node" else str(target.address)
    legs = (Leg(source=source.node, target=end, transport="underlay"),)
    way = stated_way(path, legs, "allow", f"leaves through the gateway of {source.node} as {own.address}")
    if source.endpoint is None or path == "host":
        return way
    return replace(way, egress=Egress(candidates=(Candidate(node=source.node, source_ip=str(own.address)),)))


def stated_way(path: PathKind, legs: tuple[Leg, ...], verdict: str, text: str, *, passes_ovn: bool = True) -> Way:
    step = Step(stage="route", verdict="allow" if verdict == "allow" else "drop", text=text)
    return Way(path=path, legs=legs, step=step, passes_ovn=passes_ovn)


HAIRPIN = replace(
    stated_way("same-node", (), "allow", "the pod reaches itself through the Service, which no policy forbids"),
    is_hairpin=True,
)
"""A pod that is chosen to answer itself: its packet turns round before policies on the backend are asked, and comes
back from an address that every policy lets in."""


def incomplete(scene: Scene, ends: Ends, way: Way) -> tuple[str, ...]:
    """Objects of kinds we know but have not built that could change the verdict on this packet."""
    namespace = ends.source.endpoint.key.namespace if ends.source.endpoint is not None else None
    leaves = way.path in ("external", "host") and namespace is not None

    def matters(ref: ObjectRef) -> bool:
        match UNBUILT_EFFECT[ref.kind]:
            case "everywhere":
                return True
            case "leaving":
                return leaves and ref.namespace in ("", namespace)
            case "never":
                return False

    return tuple(str(ref) for ref in scene.unbuilt if matters(ref))
