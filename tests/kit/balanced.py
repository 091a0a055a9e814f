"""Random Services put straight into an engine as model values: every shape of layout, none refused.

``random_service`` draws manifests, which the door and the allocator look at; here vips are unique because they are
counted out, so every Service that may have load balancers has them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.transaction import Delta
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.model.decision import NodePort, ServiceDecision
from ovnk_core.model.service import (
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from ovnk_core.model.tables import CLUSTER, ENDPOINT_SLICE, ENDPOINTS, SERVICE, SERVICE_DECISION
from ovnk_core.terms.address import Address, Family, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.port import TRANSPORTS
from ovnk_core.topology.place import CLUSTER_NETWORK, NODE_PLACE

EXTERNAL: dict[Family, Address] = {4: parse_address("198.18.0.0"), 6: parse_address("2001:db8:ee::")}
FIRST_NODE_PORT = 30_000
OUTSIDE: dict[Family, Address] = {4: parse_address("198.51.100.77"), 6: parse_address("2001:db8:77::77")}
"""An endpoint that is neither a pod nor a node."""
Follow = Callable[[Delta], None]


def _ignore(delta: Delta) -> None:
    pass


class BalancedServices:
    """Draws Services into an engine; ``edit`` changes one of them."""

    def __init__(self, engine: Engine, seed: int, *, count: int = 8) -> None:
        self.engine, self.random = engine, random.Random(seed)
        self._given = 0
        self.keys = [NamespacedName("shop", f"svc-{index}") for index in range(count)]
        for key in self.keys:
            self.put(key)

    def put(self, key: NamespacedName, follow: Follow = _ignore) -> None:
        """A Service drawn anew, with its endpoints; ``follow`` is told of every transaction."""
        rng = self.random
        network = self.engine.rows(CLUSTER_NETWORK)[CLUSTER]
        self._given += 1
        service = Service(
            name=key.name,
            namespace=key.namespace,
            type="ExternalName" if rng.random() < 0.05 else "NodePort",
            is_headless=rng.random() < 0.05,
            ports=self._ports(),
            external_ips=self._some(0, network.families),
            load_balancer_ips=self._some(1 << 12, network.families),
            external_policy=rng.choice(("Cluster", "Local")),
            internal_policy=rng.choice(("Cluster", "Cluster", "Local")),
            affinity_timeout_s=rng.choice((0, 0, 0, 100)),
            publishes_not_ready=rng.random() < 0.2,
        )
        with self.engine.transaction() as txn:
            txn.put(SERVICE, key, service)
            txn.delete(SERVICE_DECISION, key)
            if service.is_served and rng.random() < 0.9:
                families = network.families if rng.random() < 0.7 else (rng.choice(network.families),)
                txn.put(SERVICE_DECISION, key, self._decision(service, families))
        follow(txn.delta)
        self.put_endpoints(key, follow)

    def _decision(self, service: Service, families: Sequence[Family]) -> ServiceDecision:
        ranges = {block.family: block for block in self.engine.rows(CLUSTER_NETWORK)[CLUSTER].service}
        chosen = tuple(ranges[family].at(16 + self._given) for family in families if family in ranges)
        ports = tuple(
            NodePort(protocol=port.protocol, port=port.port, node_port=FIRST_NODE_PORT + self._given * 4 + slot)
            for slot, port in enumerate(service.ports)
        )
        return ServiceDecision(cluster_ips=chosen, node_ports=ports if self.random.random() < 0.6 else ())

    def put_endpoints(self, key: NamespacedName, follow: Follow = _ignore) -> None:
        """The Service's slices, or its Endpoints, or both, drawn anew."""
        rng, service = self.random, self.engine.rows(SERVICE)[key]
        slices = [NamespacedName(key.namespace, f"{key.name}-{index}") for index in range(2)]
        ports = tuple(
            SlicePort(name=port.name, protocol=port.protocol, number=rng.choice((port.port, 8080)))
            for port in service.ports
        )
        with self.engine.transaction() as txn:
            for each in slices:
                txn.delete(ENDPOINT_SLICE, each)
            txn.delete(ENDPOINTS, key)
            if rng.random() < 0.3:
                subset = EndpointSubset(ports=ports, endpoints=self._endpoints())
                txn.put(ENDPOINTS, key, Endpoints(name=key.name, namespace=key.namespace, subsets=(subset,)))
            for each in slices[: rng.choice((0, 1, 1, 2))]:
                made = EndpointSlice(
                    name=each.name,
                    namespace=each.namespace,
                    service=key.name,
                    ports=ports if rng.random() < 0.8 else ports[:1],
                    endpoints=self._endpoints(),
                )
                txn.put(ENDPOINT_SLICE, each, made)
        follow(txn.delta)

    def edit(self, follow: Follow = _ignore) -> None:
        """Draw one Service, or one Service's endpoints, anew."""
        key, change = self.random.choice(self.keys), self.put if self.random.random() < 0.4 else self.put_endpoints
        change(key, follow)

    def remove(self, key: NamespacedName) -> None:
        """One Service without its endpoints, which stay behind."""
        with self.engine.transaction() as txn:
            txn.delete(SERVICE, key)
            txn.delete(SERVICE_DECISION, key)

    def _ports(self) -> tuple[ServicePort, ...]:
        count = self.random.choice((1, 1, 2, 3))
        return tuple(
            ServicePort(
                name=f"p{slot}" if count > 1 else self.random.choice(("", "p0")),
                protocol=self.random.choice(TRANSPORTS),
                port=80 + slot,
            )
            for slot in range(count)
        )

    def _some(self, base: int, families: Sequence[Family]) -> tuple[Address, ...]:
        if self.random.random() < 0.6:
            return ()
        return tuple(EXTERNAL[family] + (base + self._given) for family in families)

    def _endpoints(self) -> tuple[SliceEndpoint, ...]:
        rng = self.random
        places = [row for _, row in sorted(self.engine.rows(NODE_PLACE).items())]
        pods = [row for _, row in sorted(self.engine.rows(ENDPOINT).items())]
        known = [(address, pod.node) for pod in pods for address in pod.addresses]
        hosts = [(address, place.name) for place in places for address in place.hosts]
        found = rng.sample(known, min(len(known), rng.randrange(5)))
        if hosts and rng.random() < 0.2:
            found.append(rng.choice(hosts))
        if rng.random() < 0.1:
            found += [(address, "") for address in OUTSIDE.values()]
        return tuple(
            SliceEndpoint(
                address=address,
                node=node,
                is_ready=rng.random() < 0.6,
                is_serving=rng.random() < 0.7,
                is_terminating=rng.random() < 0.5,
            )
            for address, node in found
        )
