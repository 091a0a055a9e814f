"""Whether an egress IP is used for a packet, and where such a packet leaves.

A pod's packet that an EgressIP takes goes through the Geneve tunnel to a node that holds one of its addresses, and
leaves by that node's gateway. With several addresses OVN draws one for each connection: each is a candidate.
"""

from __future__ import annotations

from ovnk_core.errors import Mention
from ovnk_core.features.egress_ip.verdict import Exit, why_kept
from ovnk_core.model.cluster import MASQUERADE
from ovnk_core.terms.address import Address, Family, InterfaceAddress
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NodePlace
from ovnk_core.trace.question import Candidate, Egress, Leg, Question, Step, Verdict
from ovnk_core.trace.scene import End, Ends, Scene

STAGE = "egress-ip"


class Selected(Value, frozen=True, kw_only=True):
    """A packet of a pod that the EgressIP ``name`` selects. ``exits`` empty: it is not used, ``step`` says why."""

    name: str
    step: Step
    exits: tuple[Exit, ...] = ()


class Leaving(Value, frozen=True, kw_only=True):
    """What becomes of a packet at its exits; ``mixed`` where that depends on which one is drawn."""

    verdict: Verdict
    text: str
    legs: tuple[Leg, ...]
    egress: Egress


def selected(scene: Scene, ends: Ends, question: Question | None) -> Selected | None:
    """What EgressIPs say about a packet; None: none selects its sender."""
    pod, target = ends.source.endpoint, ends.target.address
    item = scene.egress_ip(pod) if pod is not None else None
    if item is None:
        return None
    found: tuple[Exit, ...] = ()
    who, family = f"EgressIP {item.name}", target.family
    if question is not None and question.state == "reply" and scene.answers(ends.source.address, question):
        text = f"{who} is not used for answers to connections from outside: they go back the way they came"
    elif kept := why_kept(scene.network, target, scene.every_host):
        text = f"{who} is not used for {kept}"
    elif not (found := scene.exits(item.name, family)):
        text = f"{who} selects the pod, but no IPv{family} address of it is on a node with a gateway"
    else:
        listed = ", ".join(f"{each.address} on {_at(each.node).text}" for each in found)
        draws = f"one of {len(found)} addresses, drawn per connection: " if len(found) > 1 else ""
        text = f"{who} gives it {draws}{listed}"
    ref = ObjectRef("EgressIP", "", item.name)
    where = scene.cluster.sources.get(ref)
    path: tuple[str | int, ...] = ("spec",)
    if found:
        path = ("spec", "egressIPs", *([item.addresses.index(found[0].address)] if len(found) == 1 else ()))
    source = where.at(*path) if where is not None else ""
    mentions = tuple(_at(each.node) for each in found)
    step = Step(stage=STAGE, verdict="allow", text=text, object=ref, source=source, mentions=mentions)
    return Selected(name=item.name, step=step, exits=found)


def met_outside(scene: Scene, target: End) -> Step | None:
    """That a packet out of the cluster is sent to an egress IP: its node's gateway drops what is no answer."""
    if target.kind != "external" or target.address not in scene.egress_ip_of:
        return None
    name, node = scene.egress_ip_of[target.address]
    at = _at(node)
    text = f"{target.address} is an egress IP of EgressIP {name} on {at.text}, where nothing listens"
    return Step(stage=STAGE, verdict="allow", text=text, object=ObjectRef("EgressIP", "", name), mentions=(at,))


def _at(node: str) -> Mention:
    return Mention("Node", "", node)


def uplink(place: NodePlace, family: Family) -> InterfaceAddress | None:
    """As whom what leaves by a node's gateway is seen, where no egress IP is used."""
    return next((each for each in place.external if each.family == family), None)


def host_egress(scene: Scene, ends: Ends) -> Egress | None:
    """How a packet of a node itself, or of a pod on its network, leaves for outside: OVN and egress IPs have no part in
    it. None where it is no such packet."""
    source, target = ends.source, ends.target
    if source.kind != "node" or target.kind != "external":
        return None
    own = uplink(scene.places[source.node], target.address.family)
    address = own.address if own is not None and source.is_management else source.address
    return Egress(candidates=(Candidate(node=source.node, source_ip=str(address)),))


def leave(scene: Scene, ends: Ends, taken: Selected) -> Leaving:
    """The way of a packet that an EgressIP takes, by every exit it may draw."""
    node, target = ends.source.node, ends.target.address
    legs: list[Leg] = []
    told: dict[Verdict, list[str]] = {"allow": [], "drop": []}
    passing: list[Candidate] = []
    for each in taken.exits:
        if why := why_no_exit(scene.places[each.node], target):
            told["drop"].append(why)
            continue
        told["allow"].append(f"{each.node} as {each.address}")
        passing.append(Candidate(node=each.node, source_ip=str(each.address)))
        if each.node != node:
            legs.append(Leg(source=node, target=each.node, transport="geneve"))
        legs.append(Leg(source=each.node, target=str(target), transport="underlay"))
    egress = Egress(egressip=taken.name if passing else None, candidates=tuple(passing))
    if not passing:
        return Leaving(verdict="drop", text="; ".join(dict.fromkeys(told["drop"])), legs=(), egress=egress)
    text = "leaves through the gateway of " + " or ".join(told["allow"])
    verdict: Verdict = "mixed" if told["drop"] else "allow"
    text = "; ".join((text, *dict.fromkeys(told["drop"])))
    return Leaving(verdict=verdict, text=text, legs=tuple(legs), egress=egress)


def why_no_exit(place: NodePlace, target: Address) -> str:
    """Why nothing for ``target`` leaves by a node's gateway, or an empty text."""
    family, own = target.family, uplink(place, target.family)
    if not place.has_gateway or own is None:
        return f"node {place.name} has no IPv{family} gateway"
    is_near = any(each.contains(target) for each in (own.subnet, MASQUERADE[family]))
    if not is_near and not any(hop.family == family for hop in place.next_hops):
        return f"node {place.name} has no IPv{family} default route"
    return ""
