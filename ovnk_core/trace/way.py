"""The way between two ends: which path, over which legs, and whether there is one at all."""

from __future__ import annotations

from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.trace.question import Leg, PathKind, Step
from ovnk_core.trace.scene import End, Ends, Scene

_EVERYWHERE = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy")
_OUTSIDE = ("EgressFirewall", "EgressIP", "EgressService", "EgressQoS")
_SERVICE = ("Service", "EndpointSlice", "Endpoints")


class Way(Value, frozen=True, kw_only=True):
    path: PathKind
    legs: tuple[Leg, ...]
    step: Step
    stays_inside: bool = False


def find_way(scene: Scene, ends: Ends) -> Way:
    """Where a packet between the two ends would go."""
    source, target = ends.source, ends.target
    if source.endpoint is not None and source.endpoint is target.endpoint:
        return _way("same-node", (), "allow", "the packet never leaves the pod", inside=True)
    if target.kind == "nobody":
        return _way("external", (), "drop", f"nothing in the cluster has the address {target.address}")
    if source.kind == "node" and target.kind == "node":
        local = source.node == target.node
        leg = Leg(source=source.node, target=target.node, transport="local" if local else "underlay")
        return _way("host", (leg,), "allow", "traffic between hosts does not pass OVN")
    if source.kind == "node" and target.kind == "external":
        leg = Leg(source=source.node, target=str(target.address), transport="underlay")
        return _way("host", (leg,), "allow", "traffic of a host does not pass OVN")
    if source.kind in ("external", "nobody"):
        return _inbound(scene, source, target)
    if target.kind == "external" or (target.kind == "node" and not target.is_management):
        return _outbound(scene, source, target)
    return _inside(source, target)


def _inside(source: End, target: End) -> Way:
    """Both ends on node switches."""
    is_host = "node" in (source.kind, target.kind)
    if source.node == target.node:
        leg = Leg(source=source.node, target=target.node, transport="local")
        path: PathKind = "host" if is_host else "same-node"
        return _way(path, (leg,), "allow", f"both ends are on node {source.node}")
    leg = Leg(source=source.node, target=target.node, transport="geneve")
    return _way("overlay", (leg,), "allow", f"through the Geneve tunnel from {source.node} to {target.node}")


def _inbound(scene: Scene, source: End, target: End) -> Way:
    if not scene.places[target.node].has_gateway:
        return _way("external", (), "drop", f"node {target.node} has no gateway to enter by")
    legs = (Leg(source=str(source.address), target=target.node, transport="underlay"),)
    return _way("external", legs, "allow", f"enters at the gateway of node {target.node}")


def _outbound(scene: Scene, source: End, target: End) -> Way:
    """A pod to a host address or to the world."""
    place = scene.places[source.node]
    if target.kind == "node" and target.node == source.node:
        # Router policies only see packets that have a route, and the route by source comes with the gateway.
        if not place.has_gateway:
            text = f"node {source.node} has no gateway, so nothing routes to its own address {target.address}"
            return _way("host", (), "drop", text)
        leg = Leg(source=source.node, target=source.node, transport="local")
        return _way("host", (leg,), "allow", f"reaches its node through {source.node}'s management port")
    path: PathKind = "host" if target.kind == "node" else "external"
    family = target.address.family
    uplink = next((each for each in place.external if each.family == family), None)
    if not place.has_gateway or uplink is None:
        return _way(path, (), "drop", f"node {source.node} has no IPv{family} gateway")
    on_link = uplink.subnet.contains(target.address)
    if not on_link and not any(hop.family == family for hop in place.next_hops):
        return _way(path, (), "drop", f"node {source.node} has no IPv{family} default route")
    end = target.node if target.kind == "node" else str(target.address)
    legs = (Leg(source=source.node, target=end, transport="underlay"),)
    return _way(path, legs, "allow", f"leaves through the gateway of {source.node} as {uplink.address}")


def _way(path: PathKind, legs: tuple[Leg, ...], verdict: str, text: str, *, inside: bool = False) -> Way:
    step = Step(stage="route", verdict="allow" if verdict == "allow" else "drop", text=text)
    return Way(path=path, legs=legs, step=step, stays_inside=inside)


def incomplete(scene: Scene, ends: Ends, way: Way) -> tuple[str, ...]:
    """Objects of kinds we know but have not built that could change the verdict on this packet."""
    namespace = ends.source.endpoint.key.namespace if ends.source.endpoint is not None else None
    to_service = any(cidr.contains(ends.target.address) for cidr in scene.network.service)
    leaves = way.path in ("external", "host") and namespace is not None

    def matters(ref: ObjectRef) -> bool:
        if ref.kind in _OUTSIDE:
            return leaves and ref.namespace in ("", namespace)
        return ref.kind in _EVERYWHERE or (ref.kind in _SERVICE and to_service)

    return tuple(str(ref) for ref in scene.unbuilt if matters(ref))
