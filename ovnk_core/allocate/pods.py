"""Pod addresses and MACs.

Addresses a pod already carries (annotation, status) are claimed when they lie in its node's subnets; recorded ones
are kept while the pod stays on its node; the rest is the lowest free host. Two live pods that claim one address:
the newer one has it (by creationTimestamp, then name), the other is refused until it is free.
"""

from __future__ import annotations

from ovnk_core.allocate.pool import Pool
from ovnk_core.errors import CapacityError, Mention, ObjectError
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import NodeDecision, PodDecision
from ovnk_core.model.pod import Pod
from ovnk_core.terms.address import Address, Cidr, mac_of
from ovnk_core.terms.name import NamespacedName

ADDRESS_PATH = 'status.podIPs or metadata.annotations["k8s.ovn.org/pod-networks"]'
"""The model keeps a pod's addresses, not which of the two said them."""
FIRST_POD_OFFSET = 3
"""Below: the network, the router (.1) and the management port (.2)."""
_TAKEN = ((0, "the network"), (1, "the router"), (2, "the management port"))
_TAKEN_HYBRID = (*_TAKEN, (3, "the hybrid overlay's gateway"))
"""In IPv4 subnets of a cluster with hybrid networking."""


class PodAllocator:
    """Holds who owns which address. One pool per node subnet, made when first used."""

    def __init__(self, network: ClusterNetwork) -> None:
        self._is_hybrid = network.hybrid is not None
        self._pools: dict[Cidr, Pool] = {}
        self._held: dict[NamespacedName, PodDecision] = {}
        self._subnet_of: dict[NamespacedName, tuple[Cidr, ...]] = {}

    def release(self, key: NamespacedName) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        for subnet in self._subnet_of.pop(key, ()):
            for address in held.addresses:
                if subnet.contains(address):
                    self._pool(subnet).release(address.value - subnet.value, key)

    def holder(self, address: Address, node: NodeDecision) -> NamespacedName | None:
        """The pod that holds an address in one of the node's subnets."""
        for subnet in node.subnets:
            if subnet.contains(address):
                found = self._pool(subnet).owner(address.value - subnet.value)
                return found if isinstance(found, NamespacedName) else None
        return None

    def settle(self, pod: Pod, node: NodeDecision, recorded: PodDecision | None) -> PodDecision:
        """The pod's decision. Raises CapacityError (subnet full) or ObjectError (address held by another pod)."""
        key = pod.key
        self.release(key)
        addresses: list[Address] = []
        kept = recorded.addresses if recorded is not None and recorded.node == pod.node else ()
        try:
            for subnet in node.subnets:
                addresses.append(self._address(pod, subnet, kept))
        finally:
            self._held[key] = PodDecision(addresses=tuple(addresses), node=pod.node)
            self._subnet_of[key] = node.subnets
            if len(addresses) < len(node.subnets):
                self.release(key)
        mac = pod.mac or (recorded.mac if recorded is not None and kept else "") or mac_of(addresses[0])
        decision = PodDecision(addresses=tuple(addresses), mac=mac, node=pod.node)
        self._held[key] = decision
        return decision

    def reserve(self, key: NamespacedName, recorded: PodDecision, node: NodeDecision) -> None:
        """Hold what is recorded for a pod that is not served now, so that nobody else is given it."""
        self.release(key)
        for subnet in node.subnets:
            for address in recorded.addresses:
                if subnet.contains(address):
                    self._pool(subnet).claim(address.value - subnet.value, key)
        self._held[key], self._subnet_of[key] = recorded, node.subnets

    def _address(self, pod: Pod, subnet: Cidr, kept: tuple[Address, ...]) -> Address:
        pool = self._pool(subnet)
        for address in pod.addresses:
            if subnet.contains(address):
                if pool.claim(address.value - subnet.value, pod.key):
                    return address
                raise address_held(pod.key, address, pool.owner(address.value - subnet.value))
        for address in kept:
            if subnet.contains(address) and pool.claim(address.value - subnet.value, pod.key):
                return address
        slot = pool.take(pod.key)
        if slot is None:
            raise CapacityError(
                f"no address is left in {subnet} of node {pod.node}",
                kind="Pod",
                name=str(pod.key),
                fix="schedule it on another node, or use a shorter hostPrefix",
            )
        return subnet.at(slot)

    def _pool(self, subnet: Cidr) -> Pool:
        pool = self._pools.get(subnet)
        if pool is None:
            last = subnet.size - (2 if subnet.family == 4 else 1)
            pool = self._pools[subnet] = Pool(FIRST_POD_OFFSET, last)
            for offset, owner in _TAKEN_HYBRID if self._is_hybrid and subnet.family == 4 else _TAKEN:
                pool.claim(offset, owner)
            if subnet.family == 4:
                pool.claim(subnet.size - 1, "broadcast")
        return pool


def address_held(key: NamespacedName, address: Address, holder: object, *, is_newer: bool = False) -> ObjectError:
    """Another pod, or the network itself, has the address that a pod carries."""
    pod = Mention("Pod", holder.namespace, holder.name) if isinstance(holder, NamespacedName) else None
    who = holder if pod is None else f"the newer {pod.text}" if is_newer else pod.text
    return ObjectError(
        f"its address is held by {who}",
        kind="Pod",
        name=str(key),
        path=ADDRESS_PATH,
        value=str(address),
        fix="delete one of the two pods" if pod else "give the pod another address, or none to have one allocated",
        mentions=(pod,) if pod else (),
    )
