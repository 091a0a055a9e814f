"""Services and their endpoints, as far as the network sees them.

``Service`` says which addresses and ports are served, ``EndpointSlice`` and ``Endpoints`` by whom. Source: Kubernetes
API reference, Service v1, EndpointSlice discovery.k8s.io/v1, Endpoints v1.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.model.object import Declared
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.label import Labels
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Value

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]
TrafficPolicy = Literal["Cluster", "Local"]
DEFAULT_AFFINITY_TIMEOUT_S, MAX_AFFINITY_TIMEOUT_S = 10_800, 86_400
NODE_PORTS = (30_000, 32_767)
"""What is given out where a Service asks for a node port and names none (kube-apiserver's default range)."""
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""The label by which an EndpointSlice says whose it is."""


class ServicePort(Value, frozen=True, kw_only=True, gc=False):
    """``name`` may be empty for a Service's only port. ``node_port`` 0: not said. Which port endpoints listen on is
    theirs to say; ``target`` (a number or the name of a container port, empty: ``port``) is kept for reports."""

    name: str
    protocol: Transport
    port: int
    target: str = ""
    node_port: int = 0


class Service(Declared, frozen=True, kw_only=True):
    """``cluster_ips`` empty: headless (``is_headless``), or not said and given out as a decision. ``families`` is
    spec.ipFamilies, empty when not said. ``affinity_timeout_s`` 0: no session affinity. ``has_node_ports``: node ports
    are given out where none is said (NodePort, and LoadBalancer with allocateLoadBalancerNodePorts)."""

    type: ServiceType = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    is_headless: bool = False
    families: tuple[Family, ...] = ()
    is_dual_stack: bool = False
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    external_policy: TrafficPolicy = "Cluster"
    internal_policy: TrafficPolicy = "Cluster"
    affinity_timeout_s: int = 0
    has_node_ports: bool = False
    publishes_not_ready: bool = False
    selector: tuple[tuple[str, str], ...] = ()

    @property
    def is_served(self) -> bool:
        """Whether OVN balances it at all."""
        return self.type != "ExternalName" and not self.is_headless

    def picks(self, labels: Labels) -> bool:
        """Whether its selector matches a pod's labels. One without a selector picks nobody."""
        return bool(self.selector) and all(each in labels for each in self.selector)


class SlicePort(Value, frozen=True, kw_only=True, gc=False):
    """``number`` is where the endpoints listen; ``name`` that of the Service's port."""

    name: str
    protocol: Transport
    number: int


class SliceEndpoint(Value, frozen=True, kw_only=True, gc=False):
    """One address. ``node`` empty: not said. ``is_serving`` and ``is_terminating`` as in EndpointConditions."""

    address: Address
    node: str = ""
    is_ready: bool = True
    is_serving: bool = True
    is_terminating: bool = False


class EndpointSlice(Declared, frozen=True, kw_only=True):
    """``service`` is the name of its Service, in its own namespace; empty: nobody's. Slices of type FQDN hold no
    endpoints here."""

    service: str = ""
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()


class EndpointSubset(Value, frozen=True, kw_only=True):
    """Every endpoint listens on every port."""

    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()


class Endpoints(Declared, frozen=True, kw_only=True):
    """The older form, of the Service of the same name. Read only where that Service has no EndpointSlice."""

    subsets: tuple[EndpointSubset, ...] = ()
