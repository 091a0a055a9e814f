"""Which legs of a way are encrypted: the ends of the packet, in the words of the IPsec room."""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.features.ipsec.verdict import Party, judge
from ovnk_core.trace.question import Leg
from ovnk_core.trace.scene import End, Ends, Scene


def protected(scene: Scene, ends: Ends, legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
    """The legs of a packet between two ends, each with whether it is encrypted and why; as they are without IPsec."""
    if not scene.network.has_ipsec:
        return legs
    source, target = _party(ends.source), _party(ends.target)
    found = ((leg, judge(source, target, leg.transport)) for leg in legs)
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
