"""Which endpoints a Service's port has: one answer for the rows and for the verdict.

Eligible are endpoints that are ready, or all of them with publishNotReadyAddresses; where there are none, those that
still serve while they terminate. For policy Local the node's own endpoints are looked at first and the fallback is
theirs (KEP-1669). Endpoints objects count only for a Service that no EndpointSlice names.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable
from ovnk_core.model.service import Endpoints, EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort
from ovnk_core.model.tables import ENDPOINT_SLICE, ENDPOINTS
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Key


class Backend(Key, frozen=True, order=True, cache_hash=True):
    """One endpoint on one port, as a slice states it. ``port_name`` is the name of the Service's port that it is for,
    ``node`` empty when not said."""

    protocol: Transport
    port_name: str
    address: Address
    port: int
    node: str
    is_ready: bool
    is_serving: bool
    is_terminating: bool


class Target(Key, frozen=True, order=True, cache_hash=True):
    """Where a connection ends up."""

    address: Address
    port: int

    def __str__(self) -> str:
        """As OVN writes it: IPv6 in brackets."""
        return f"{self.address}:{self.port}" if self.address.family == 4 else f"[{self.address}]:{self.port}"


SERVICE_BACKEND = SetTable[NamespacedName, Backend]("service.backend")
"""By Service: what its slices (or its Endpoints) state."""
SERVICE_SLICE = SetTable[NamespacedName, str]("service.slice")
"""By Service: names of its slices. Not empty: its Endpoints are not looked at."""


@rule(driver=ENDPOINT_SLICE, out=(SERVICE_BACKEND, SERVICE_SLICE))
def slice_endpoints(read: Reader, key: NamespacedName, item: EndpointSlice) -> Iterable[Output]:
    """A slice that names its Service -> that Service's backends."""
    if item.service:
        service = NamespacedName(key.namespace, item.service)
        yield SERVICE_SLICE.member(service, key.name)
        yield from _backends(service, item.ports, item.endpoints)


@rule(driver=ENDPOINTS, reads=(SERVICE_SLICE,), out=(SERVICE_BACKEND,))
def plain_endpoints(read: Reader, key: NamespacedName, item: Endpoints) -> Iterable[Output]:
    """Endpoints -> backends of the Service of the same name, unless that has slices."""
    if not read(SERVICE_SLICE, key):
        for subset in item.subsets:
            yield from _backends(key, subset.ports, subset.endpoints)


def _backends(
    service: NamespacedName, ports: tuple[SlicePort, ...], endpoints: tuple[SliceEndpoint, ...]
) -> Iterable[Output]:
    for port in ports:
        for each in endpoints:
            conditions = (each.is_ready, each.is_serving, each.is_terminating)
            backend = Backend(port.protocol, port.name, each.address, port.number, each.node, *conditions)
            yield SERVICE_BACKEND.member(service, backend)


def candidates(port: ServicePort, backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """The backends stated for a port: of its protocol and name. A port without a name takes any name's."""
    return tuple(
        each for each in backends if each.protocol == port.protocol and (not port.name or each.port_name == port.name)
    )


def targets(
    service: Service, port: ServicePort, backends: Iterable[Backend], *, node: str | None = None
) -> tuple[Target, ...]:
    """Where connections to a port go, sorted, each once, all families. ``node``: only endpoints of that node (policy
    Local); None: of every node. Empty: the connection is rejected."""
    found = [each for each in candidates(port, backends) if node is None or (node != "" and each.node == node)]
    chosen = [each for each in found if each.is_ready or service.publishes_not_ready]
    chosen = chosen or [each for each in found if each.is_serving and each.is_terminating]
    return tuple(sorted({Target(each.address, each.port) for each in chosen}))
