"""Which legs of a way are encrypted: the ends of the packet, in the words of the IPsec room."""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.features.ipsec.verdict import Party, judge
from ovnk_core.trace.question import Leg
from ovnk_core.trace.scene import End, Ends, Scene


def protected(scene: Scene, ends: Ends, legs: tuple[Leg, ...], *, entry: Leg | None = None) -> tuple[Leg, ...]:
    """The legs of a packet between two ends, each with whether it is encrypted and why; as they are without IPsec.
    ``entry``: the hop before them, to a gateway that is asked for a Service and chooses the target."""
    hops = (*((entry,) if entry is not None else ()), *legs)
    if not scene.network.has_ipsec:
        return hops
    # A host stays one behind its gateway; a pod that asks another node's port comes there as its own node.
    is_host = ends.asker is not None and ends.asker.kind == "node"
    source, target = "host" if is_host else _party(ends.source), _party(ends.target)
    found = ((leg, judge(source, "host" if leg is entry else target, leg.transport)) for leg in hops)
    return tuple(replace(leg, is_encrypted=each.is_encrypted, protection=each.text) for leg, each in found)


def _party(end: End) -> Party:
    """Listeners of a group are pods."""
    match end.kind:
        case "pod" | "group":
            return "pod"
        case "node":
            return "host"
        case _:
            return "outside"
