"""What a Service does to a packet, from the objects.

Packets are balanced in two places: on the switch of the node that a pod is on, and on the gateway router of the node
that they enter by. Policy Local asks one of the two only: the internal one the switch, the external one the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ovnk_core.features.services.endpoints import Backend, Target, targets
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.terms.struct import Value

Kind = Literal["cluster IP", "external address", "node port"]
Side = Literal["switch", "gateway"]
SHOWN = 5
"""Endpoints that a sentence lists."""


class Door(Value, frozen=True, kw_only=True):
    """One port of a Service at one address."""

    service: Service
    port: ServicePort
    kind: Kind
    vip: Target


class Balanced(Value, frozen=True, kw_only=True):
    """Where connections go, sorted; empty: they are rejected, for the reason in ``text``. ``keeps_source``: the
    endpoint sees the client's address, not the gateway's."""

    targets: tuple[Target, ...]
    keeps_source: bool
    text: str


def judge(door: Door, backends: Iterable[Backend], side: Side, node: str) -> Balanced:
    """What happens at a node to a connection to ``door``."""
    service, family = door.service, door.vip.address.family
    is_inside = door.kind == "cluster IP"
    policy = service.internal_policy if is_inside else service.external_policy
    is_local = policy == "Local" and side == ("switch" if is_inside else "gateway")
    every = targets(service, door.port, backends, node=node if is_local else None)
    found = tuple(each for each in every if each.address.family == family)
    who = f"Service {service.key} ({door.kind} {door.vip})"
    field = "internalTrafficPolicy" if is_inside else "externalTrafficPolicy"
    local = f" on node {node} ({field} Local)" if is_local else ""
    if not found:
        return Balanced(
            targets=(), keeps_source=False, text=f"{who} has no endpoint{local}: the connection is rejected"
        )
    listed = ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    count = "one endpoint" if len(found) == 1 else f"{len(found)} endpoints"
    text = f"{who} is balanced over {count}{local}: {listed}"
    return Balanced(targets=found, keeps_source=is_local and side == "gateway", text=text)
