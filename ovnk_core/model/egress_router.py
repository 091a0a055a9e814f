"""NetworkAttachmentDefinition: a secondary network that pods ask for by annotation, and the egress router among them.

One plug-in's networks mean something here, ``egress-router``; a network of any other is known by name alone. A pod with
such a network has a second interface, with the reserved source address, and redirects what it gets on the first one.
Source: manual 15.12.1, 15.12.2; the egress router plug-in's configuration (docs/sources.md).
"""

from __future__ import annotations

import re
from typing import Literal

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, InterfaceAddress
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Value

PLUGIN = "egress-router"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
"""The annotation of a pod that lists its secondary networks."""

_INTERFACE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,14}")
InterfaceType = Literal["macvlan", "ipvlan"]


class Redirect(Value, frozen=True, kw_only=True, gc=False):
    """One destination. ``port`` 0: every port of every protocol, which then has no ``protocol``. ``target_port`` 0: the
    port that was asked for."""

    address: Address
    protocol: Transport | None = None
    port: int = 0
    target_port: int = 0


class EgressRouter(Value, frozen=True, kw_only=True):
    """Configuration of one egress router. ``address``: the reserved source address in its subnet. ``parent``: the
    node's interface below the second one; empty: that of its default route.
    ``mode``: of the interface. ``mtu_bytes`` 0: that of the interface below."""

    address: InterfaceAddress
    gateway: Address
    redirects: tuple[Redirect, ...] = ()
    interface: InterfaceType = "macvlan"
    parent: str = ""
    mode: str = ""
    mtu_bytes: int = 0


class NetworkAttachmentDefinition(Declared, frozen=True, kw_only=True):
    """``plugin``: type of the configuration; empty: it is not in the object. ``router`` is set for ``PLUGIN`` alone."""

    plugin: str = ""
    router: EgressRouter | None = None


class Attachment(Value, frozen=True, kw_only=True, gc=False):
    """One secondary network of a pod, in the order of its annotation. ``interface`` empty: ``net1``, ``net2``, ..."""

    namespace: str
    network: str
    interface: str = ""


def is_interface_name(text: str) -> bool:
    """Whether Linux takes a text as an interface's name: 15 characters at most, none of them special."""
    return _INTERFACE.fullmatch(text) is not None


def interface_names(attachments: tuple[Attachment, ...]) -> tuple[str, ...]:
    """The pod's interfaces as Multus names them, one for each attachment (15.12.2)."""
    return tuple(each.interface or f"net{place}" for place, each in enumerate(attachments, 1))
