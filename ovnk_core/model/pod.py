"""A pod, as far as the network sees it."""

from __future__ import annotations

from ovnk_core.model.egress_router import Attachment
from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address
from ovnk_core.terms.label import Labels
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Value


class ContainerPort(Value, frozen=True, kw_only=True, gc=False):
    """A named container port: what a policy's port name resolves to on this pod."""

    name: str
    protocol: Transport
    number: int


class Pod(Declared, frozen=True, kw_only=True):
    """``node`` empty: not scheduled. ``addresses``/``mac`` empty: not said, allocated as a decision.
    ``is_completed``: phase Succeeded or Failed, the addresses may already belong to another pod.
    ``attachments``: secondary networks."""

    labels: Labels = ()
    node: str = ""
    addresses: tuple[Address, ...] = ()
    mac: str = ""
    ports: tuple[ContainerPort, ...] = ()
    is_host_network: bool = False
    is_completed: bool = False
    attachments: tuple[Attachment, ...] = ()
