"""Cluster IPs and node ports of Services, and who is reached at which address and port.

What a Service states is claimed, the rest is kept from before or given out: the lowest free number above the band that
Kubernetes leaves to those who choose one themselves. Every front (address, protocol, port) is one Service's, over
cluster IPs, external and load-balancer addresses and node ports together. Of two that state the same one who has it
keeps it, unless the other is known to be older (creationTimestamp); of two that come together the older has it, then
the first by name. What was given out is not taken away again. The loser is served nowhere, and tried again whenever
anything changes. Sources: Kubernetes, "IP range for ClusterIP Services" and "Node port ranges".
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ovnk_core.errors import CapacityError, Mention, ObjectError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import NodePort, ServiceDecision
from ovnk_core.model.service import NODE_PORTS, Service, ServicePort
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Transport

Changes = dict[NamespacedName, ServiceDecision | None]
_INGRESS = "status.loadBalancer.ingress"


class Front(NamedTuple):
    """Where packets come in. ``address`` None: every node's own addresses, that is a node port."""

    protocol: Transport
    port: int
    address: Address | None

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.port}/{self.protocol}"
        host = f"[{self.address}]" if self.address.family == 6 else str(self.address)
        return f"{host}:{self.port}/{self.protocol}"


class _Claim(NamedTuple):
    """One thing a Service holds or wants: a front, or a whole cluster IP. ``path`` is the field that says it; empty for
    what was given out."""

    thing: Front | Address
    path: str


class ServiceAllocator:
    """Holds who has which address, port and front. ``decisions`` are in force, ``errors`` say who waits, and why."""

    def __init__(self, network: ClusterNetwork, recorded: Mapping[NamespacedName, ServiceDecision]) -> None:
        self._ranges = network.service
        self.decisions = dict(recorded)
        self.errors: dict[ObjectRef, ObjectError] = {}
        self._waiting: set[NamespacedName] = set()
        self._held: dict[NamespacedName, dict[Front | Address, str]] = {}
        self._created: dict[NamespacedName, str] = {}
        self._owner: dict[Address, NamespacedName] = {}
        self._at: dict[tuple[Transport, int], dict[Address | None, NamespacedName]] = {}
        self._hosts: Counter[Address] = Counter()
        self._hosts_of: dict[NamespacedName, tuple[Address, ...]] = {}
        # Nothing below is free: what makes lowest-first cheap.
        self._floor: dict[Cidr | Transport, int] = {}
        for key, decision in sorted(self.decisions.items()):
            things: list[Front | Address] = [*decision.cluster_ips]
            things += [Front(each.protocol, each.node_port, None) for each in decision.node_ports]
            self._hold(key, [_Claim(thing, "") for thing in things if not self._in_the_way(thing, key)])

    def move(self, node: NamespacedName, hosts: tuple[Address, ...]) -> bool:
        """A node has these addresses now; whether that is a change. ``settle`` must follow."""
        before = self._hosts_of.get(node, ())
        if before == hosts:
            return False
        self._hosts.subtract(before)
        self._hosts.update(hosts)
        self._hosts += Counter()  # only what is above zero stays
        self._hosts_of[node] = hosts
        self._floor.clear()
        return True

    def settle(
        self, services: Mapping[NamespacedName, Service], changed: Iterable[NamespacedName], *, has_moved: bool
    ) -> Changes:
        """Serve what changed and what waits. ``has_moved``: nodes have other addresses than before, so that fronts on
        them may meet node ports. Cost: O(changed + waiting), and every front held when nodes have moved."""
        touched = set(changed) | self._waiting
        if has_moved:
            on_hosts = {key for owners in self._at.values() for at, key in owners.items() if at in self._hosts}
            touched |= on_hosts & services.keys()
        before = {key: self.decisions.get(key) for key in touched}
        for key in touched:
            if is_wanting(services.get(key)):
                self._trim(services[key])
            else:
                self._drop(key)
        queue = sorted(self._precedence(services[key]) for key in touched if is_wanting(services.get(key)))
        passed: dict[NamespacedName, None] = {}
        while queue:
            key = heapq.heappop(queue)[-1]
            passed.pop(key, None)
            evicted = self._state(services[key])
            for other in evicted:
                before.setdefault(other, self.decisions.get(other))
                passed.pop(other, None)
                self._drop(other)
            if evicted:
                self._state(services[key])
                # What they held beside it may be what somebody waits for.
                for other in self._waiting | set(evicted):
                    heapq.heappush(queue, self._precedence(services[other]))
            if key in self._held:
                passed[key] = None
        for key in passed:
            self._give(services[key])
        return {key: self.decisions.get(key) for key, old in before.items() if self.decisions.get(key) != old}

    def _precedence(self, service: Service) -> tuple[bool, bool, str, NamespacedName]:
        """Who is served goes first; of the others the older, and last who does not say how old it is."""
        return service.key not in self.decisions, not service.created, service.created, service.key

    # ------------------------------------------------------------------ what is stated

    def _trim(self, service: Service) -> None:
        """Let go of what a Service neither states nor is to keep any more, and note which of the rest it states."""
        held = self._held.get(service.key, {})
        try:
            kept = [claim for claim in self._claims(service) if claim.thing in held]
        except ObjectError:
            kept = []
        self._release(service.key)
        if kept:
            self._hold(service.key, kept)
            self._created[service.key] = service.created

    def _state(self, service: Service) -> list[NamespacedName]:
        """Claim what a Service states, and keep what it was given; who has to go first, if anybody (nothing is held
        then). On an error it holds nothing and waits."""
        key, ref = service.key, ObjectRef("Service", service.namespace, service.name)
        self._release(key)
        try:
            claims = list(self._claims(service))
            evicted: dict[NamespacedName, None] = {}
            for claim in claims:
                for thing, holder in self._in_the_way(claim.thing, key):
                    if not claim.path or not self._yields(holder, thing, service):
                        raise _taken(service, claim, holder)
                    evicted[holder] = None
        except ObjectError as error:
            self._wait(service, error)
            return []
        if not evicted:
            self._hold(key, claims)
            self._created[key] = service.created
            self._waiting.discard(key)
            self.errors.pop(ref, None)
        return list(evicted)

    def _claims(self, service: Service) -> Iterator[_Claim]:
        """Everything stated, and of what was given before what is free still. Raises ObjectError."""
        recorded = self.decisions.get(service.key) or ServiceDecision()
        families = self._families(service)
        addresses: dict[Family, _Claim] = {}
        for index, address in enumerate(service.cluster_ips):
            path = f"spec.clusterIPs[{index}]" if index else "spec.clusterIP"
            if not any(_is_usable(each, address) for each in self._ranges):
                ranges = ", ".join(map(str, self._ranges))
                raise _fault(service, path, f"is not an address of serviceNetwork {ranges}", str(address))
            addresses[address.family] = _Claim(address, path)
        for address in recorded.cluster_ips:
            is_fit = address.family in families and any(_is_usable(each, address) for each in self._ranges)
            if is_fit and self._is_free_for(service, address):
                addresses.setdefault(address.family, _Claim(address, ""))
        yield from addresses.values()
        reached = [claim for claim in addresses.values() if isinstance(claim.thing, Address)]
        reached += [_Claim(each, f"spec.externalIPs[{at}]") for at, each in enumerate(service.external_ips)]
        given_by = enumerate(service.load_balancer_ips)
        reached += [_Claim(each, f"{_INGRESS}[{at}].ip") for at, each in given_by]
        given = {(each.protocol, each.port): each.node_port for each in recorded.node_ports}
        for index, port in enumerate(service.ports):
            for claim in reached:
                assert isinstance(claim.thing, Address)
                yield _Claim(Front(port.protocol, port.port, claim.thing), claim.path)
            if port.node_port:
                yield _Claim(Front(port.protocol, port.node_port, None), f"spec.ports[{index}].nodePort")
                continue
            kept = Front(port.protocol, given.get((port.protocol, port.port), 0), None)
            if kept.port and service.has_node_ports and not self._in_the_way(kept, service.key):
                yield _Claim(kept, "")

    def _families(self, service: Service) -> tuple[Family, ...]:
        """The families it is to have an address of, its first one first. Raises ObjectError."""
        known = dict.fromkeys(each.family for each in self._ranges)
        stated = service.families or tuple(address.family for address in service.cluster_ips)
        for family in stated:
            if family not in known:
                path = "spec.ipFamilies" if service.families else "spec.clusterIP"
                raise _fault(service, path, f"serviceNetwork has no IPv{family} range", f"IPv{family}")
        found = stated or tuple(known)[:1]
        return tuple(dict.fromkeys((*found, *known))) if service.is_dual_stack else found

    def _yields(self, holder: NamespacedName, thing: Front | Address, service: Service) -> bool:
        """Whether the holder only has it because it states it, and is known to be the younger of the two."""
        return bool(self._held[holder][thing]) and "" != service.created < self._created.get(holder, "")

    # ------------------------------------------------------------------ what is given out

    def _give(self, service: Service) -> None:
        """Complete what ``_state`` holds, and decide."""
        key, held = service.key, self._held[service.key]
        try:
            cluster_ips = tuple(self._address(service, family, held) for family in self._families(service))
            node_ports = tuple(
                NodePort(protocol=port.protocol, port=port.port, node_port=port.node_port or self._port(service, port))
                for port in service.ports
                if port.node_port or service.has_node_ports
            )
        except ObjectError as error:
            self._wait(service, error)
            return
        self.decisions[key] = ServiceDecision(cluster_ips=cluster_ips, node_ports=node_ports)

    def _address(self, service: Service, family: Family, held: Mapping[Front | Address, str]) -> Address:
        for thing in held:
            if isinstance(thing, Address) and thing.family == family:
                return thing
        for block in self._ranges:
            found = self._free_in(block, service) if block.family == family else None
            if found is not None:
                fronts = (Front(port.protocol, port.port, found) for port in service.ports)
                self._hold(service.key, [_Claim(found, ""), *(_Claim(front, "") for front in fronts)])
                return found
        raise CapacityError(
            f"no IPv{family} address is left in serviceNetwork",
            kind="Service",
            name=str(service.key),
            fix="remove Services; serviceNetwork itself cannot be changed later",
        )

    def _free_in(self, block: Cidr, service: Service) -> Address | None:
        """The lowest free address above the reserved band, else, as in Kubernetes, within it."""

        def is_free(at: int) -> bool:
            return self._is_free_for(service, block.at(at))

        band = reserved(block.size, 16, 16, 256)
        end = block.size - (1 if block.family == 4 else 0)
        number = self._lowest(block, range(band or 1, end), is_free)
        number = next(filter(is_free, range(1, band)), None) if number is None else number
        return None if number is None else block.at(number)

    def _port(self, service: Service, port: ServicePort) -> int:
        protocol, held = port.protocol, self._held[service.key]
        recorded = self.decisions.get(service.key) or ServiceDecision()
        for each in recorded.node_ports:
            front = Front(protocol, each.node_port, None)
            if (each.protocol, each.port) == (protocol, port.port) and held.get(front) == "":
                return each.node_port

        def is_free(at: int) -> bool:
            front = Front(protocol, at, None)
            return front not in held and not self._in_the_way(front, service.key)

        first, last = NODE_PORTS
        number = self._lowest(protocol, range(first + reserved(last - first + 1, 32, 16, 128), last + 1), is_free)
        if number is None:
            raise CapacityError(
                f"no {protocol} node port is left",
                kind="Service",
                name=str(service.key),
                fix=f"state one outside {first}-{last}, or set allocateLoadBalancerNodePorts to false",
            )
        self._hold(service.key, [_Claim(Front(protocol, number, None), "")])
        return number

    def _lowest(self, where: Cidr | Transport, numbers: range, is_free: Callable[[int], bool]) -> int | None:
        for number in range(max(self._floor.get(where, 0), numbers.start), numbers.stop):
            if is_free(number):
                self._floor[where] = number
                return number
        return None

    # ------------------------------------------------------------------ who has what

    def _is_free_for(self, service: Service, address: Address) -> bool:
        """Whether a Service may have a cluster IP, with all its ports."""
        things: list[Front | Address] = [address]
        things += [Front(port.protocol, port.port, address) for port in service.ports]
        return not any(self._in_the_way(thing, service.key) for thing in things)

    def _in_the_way(self, thing: Front | Address, key: NamespacedName) -> list[tuple[Front | Address, NamespacedName]]:
        """What others hold that keeps ``key`` from it, and who: on an address of a node, its node ports do as well."""
        if isinstance(thing, Address):
            owner = self._owner.get(thing)
            return [(thing, owner)] if owner not in (None, key) else []
        owners = self._at.get((thing.protocol, thing.port), {})
        places: list[Address | None] = [thing.address]
        if thing.address is None:
            places += [at for at in owners if at in self._hosts]
        elif thing.address in self._hosts:
            places.append(None)
        return [(thing._replace(address=at), owners[at]) for at in places if owners.get(at, key) != key]

    def _hold(self, key: NamespacedName, claims: Iterable[_Claim]) -> None:
        held = self._held.setdefault(key, {})
        for thing, path in claims:
            if isinstance(thing, Front):
                self._at.setdefault((thing.protocol, thing.port), {})[thing.address] = key
            else:
                self._owner[thing] = key
            held[thing] = held.get(thing) or path

    def _release(self, key: NamespacedName) -> None:
        self._created.pop(key, None)
        for thing in self._held.pop(key, {}):
            if isinstance(thing, Address):
                del self._owner[thing]
                self._sink(thing)
                continue
            owners = self._at[thing.protocol, thing.port]
            del owners[thing.address]
            if not owners:
                del self._at[thing.protocol, thing.port]
            self._floor[thing.protocol] = min(self._floor.get(thing.protocol, 0), thing.port)
            if thing.address is not None:
                self._sink(thing.address)

    def _sink(self, address: Address) -> None:
        """An address may be free again."""
        for block in self._ranges:
            if block.contains(address):
                self._floor[block] = min(self._floor.get(block, 0), address.value - block.value)

    def _drop(self, key: NamespacedName) -> None:
        self._release(key)
        self._waiting.discard(key)
        self.errors.pop(ObjectRef("Service", key.namespace, key.name), None)
        self.decisions.pop(key, None)

    def _wait(self, service: Service, error: ObjectError) -> None:
        self._drop(service.key)
        self.errors[ObjectRef("Service", service.namespace, service.name)] = error
        self._waiting.add(service.key)


def is_wanting(service: Service | None) -> bool:
    """Whether anything is decided for it."""
    return service is not None and service.is_served


def reserved(size: int, part: int, least: int, most: int) -> int:
    """How many of ``size`` numbers Kubernetes keeps for those who choose one: a ``part``-th, within bounds; none where
    there are hardly any."""
    return 0 if size <= least else min(max(least, size // part), most)


def _is_usable(block: Cidr, address: Address) -> bool:
    """Neither the network itself nor its broadcast address."""
    is_last = block.family == 4 and address.value == block.last
    return block.contains(address) and address.value != block.value and not is_last


def _fault(
    service: Service, path: str, reason: str, value: str, fix: str = "", mentions: tuple[Mention, ...] = ()
) -> ObjectError:
    name = str(service.key)
    return ObjectError(reason, kind="Service", name=name, path=path, value=value, fix=fix, mentions=mentions)


def _taken(service: Service, claim: _Claim, holder: NamespacedName) -> ObjectError:
    fix = "choose another, or remove it to have one given out"
    if claim.path.startswith(_INGRESS):
        fix = "choose another port, or have the load balancer give another address"
    elif claim.path.startswith("spec.externalIPs"):
        fix = "choose another address or port"
    other = Mention("Service", holder.namespace, holder.name)
    path, reason = claim.path or "spec.clusterIP", f"is already held by {other.text}"
    return _fault(service, path, reason, str(claim.thing), fix, (other,))
