"""The way of a packet after an endpoint of a Service was chosen for it: from a pod's switch, or by a gateway router,
into the cluster or out again."""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.trace.balance import Meeting
from ovnk_core.trace.question import Leg
from ovnk_core.trace.scene import End, Ends, Scene
from ovnk_core.trace.way import HAIRPIN, Way, find_way, find_way_on, implausible, outbound, stated_way, why_not_routed


def way_after(scene: Scene, meeting: Meeting, ends: Ends) -> Way:
    """Where a packet goes; ``ends`` after the choice."""
    if meeting.side == "gateway":
        return entering_way(scene, meeting, ends.target)
    if ends.source.endpoint is not None and ends.source.endpoint is ends.target.endpoint:
        return HAIRPIN
    return find_way(scene, ends)


def entering_way(scene: Scene, meeting: Meeting, target: End) -> Way:
    """By the gateway that a Service is met at to one endpoint.

    The gateway hides the client behind the address of the port that it sends the packet out of, unless the Service
    keeps its source: its join address towards the cluster, its uplink's towards the outside.
    """
    source, place, keeps_source = meeting.source, meeting.place, meeting.balanced.keeps_source
    why = implausible(source.address, (*place.join, *place.external))
    if why:
        return stated_way("external", (), "drop", f"OVN's routers drop packets that come from {why} (lr_in_ip_input)")
    entry = _entry(meeting)
    if target.kind == "node" and target.node == place.name and not target.is_management:
        way = stated_way("host", (), "allow", f"the gateway of {place.name} hands it to the node itself")
        return replace(way, entry=entry)
    if target.kind in ("external", "node") and not target.is_management:
        way = outbound(scene, End(kind="external", address=source.address, node=place.name), target)
        return replace(way, entry=entry)
    family = target.address.family
    join = next((each.address for each in place.join if each.family == family), None)
    arrives = source.address if keeps_source else join
    if keeps_source and (why := why_not_routed(scene, source.address)):
        return stated_way("external", (), "drop", why)
    inside = find_way_on(place.name, target)
    if inside.step.verdict == "drop":
        return inside
    text = f"enters at the gateway of node {place.name}, which "
    text += "keeps its address" if keeps_source else f"makes it come from {arrives}"
    way = stated_way(inside.path if meeting.is_of_host else "external", inside.legs, "allow", text)
    return replace(way, entry=entry, arrives_from=None if keeps_source else arrives)


def _entry(meeting: Meeting) -> Leg | None:
    """The hop to the gateway; None for a pod's packet, whose way there is told before it meets the Service."""
    asker, node = meeting.asker, meeting.place.name
    if asker.kind == "pod":
        return None
    if asker.kind == "node":
        return Leg(source=asker.node, target=node, transport="local" if meeting.is_of_host else "underlay")
    return Leg(source=str(asker.address), target=node, transport="underlay")
