"""networking.k8s.io/v1 NetworkPolicy, defaulted as the API server would."""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Cidr
from ovnk_core.terms.label import EVERYTHING, LabelSelector
from ovnk_core.terms.port import PortRange, Transport
from ovnk_core.terms.struct import Key


class IpBlock(Key, frozen=True, order=True, cache_hash=True):
    """``cidr`` without the prefixes in ``excepts``."""

    cidr: Cidr
    excepts: tuple[Cidr, ...] = ()


class Peer(Key, frozen=True, cache_hash=True):
    """Either ``block`` or at least one selector. A None selector is absent, which is not the same as empty:
    no namespaceSelector means the policy's own namespace, no podSelector means every pod."""

    pods: LabelSelector | None = None
    namespaces: LabelSelector | None = None
    block: IpBlock | None = None


class PolicyPort(Key, frozen=True, cache_hash=True):
    """A protocol, and on it: every port (``ports`` and ``name`` empty), a range, or a name resolved per pod."""

    protocol: Transport = "TCP"
    ports: PortRange | None = None
    name: str = ""


class PolicyRule(Key, frozen=True, cache_hash=True):
    """Empty ``peers``: any peer. Empty ``ports``: any protocol and port. Both lists are ORed inside, ANDed together."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


class NetworkPolicy(Declared, frozen=True, kw_only=True):
    """``blocked`` is the reason when a refused object stands in for its last accepted version: it isolates its
    subjects and allows nothing (fail closed)."""

    subject: LabelSelector = EVERYTHING
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    is_ingress: bool = True
    is_egress: bool = False
    blocked: str = ""
