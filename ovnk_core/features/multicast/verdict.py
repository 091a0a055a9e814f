"""What multicast rules say about a packet to a group. Plain on purpose: this is the oracle the rows are held to.

Asked for IPv4 groups, and for IPv6 groups that are not permanent or reach beyond a link; NetworkPolicy and egress
firewalls have no say there.
Source: 15.13, OVN-Kubernetes for the rest.
"""

from __future__ import annotations

from ovnk_core.model.namespace import MULTICAST, Namespace
from ovnk_core.terms.address import Address
from ovnk_core.terms.struct import Value

_FLAG_T, _SCOPE, _WIDE = 116, 112, 4
"""In an IPv6 group (RFC 4291 2.7): the bit that says it is not permanent, where its scope begins, and the least scope
beyond a link."""


class Judgement(Value, frozen=True, kw_only=True):
    """``text`` is the whole explanation."""

    allowed: bool
    text: str


def is_judged(group: Address) -> bool:
    """Whether the rules are about a group at all."""
    return group.family == 4 or bool(group.value >> _FLAG_T & 1) or group.value >> _SCOPE & 0xF >= _WIDE


def judge(name: str, declared: Namespace | None) -> Judgement:
    """Whether pods of a namespace may send to groups; None: nobody declares it."""
    if declared is not None and declared.is_multicast:
        return Judgement(allowed=True, text=f'namespace {name} has {MULTICAST}: "true"; its pods hear each other')
    text = f'namespace {name} has no {MULTICAST}: "true", and without it multicast is dropped'
    return Judgement(allowed=False, text=text)
