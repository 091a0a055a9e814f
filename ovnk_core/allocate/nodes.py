"""Node subnets and node ids.

What a node's annotations say is claimed first; what is recorded is kept while it still is a node subnet of the
cluster's networks; what is missing is taken from the lowest free slot. Nodes are served in name order. A Windows node
has its one subnet in the hybrid overlay's range, and no id: nothing of it is in OVN.
"""

from __future__ import annotations

from collections.abc import Iterator

from ovnk_core.allocate.pool import Pool
from ovnk_core.errors import CapacityError, Mention, ObjectError
from ovnk_core.model.cluster import JOIN, ClusterNetwork, ClusterNetworkEntry
from ovnk_core.model.decision import NodeDecision
from ovnk_core.model.node import OS_LABEL, Node
from ovnk_core.terms.address import BITS, Cidr, Family

NODE_ID_MIN, NODE_ID_MAX = 2, 5000
"""0 and 1 are taken: the join network itself and the cluster router on it."""
HYBRID_FAMILIES: tuple[Family, ...] = (4,)


class _Range:
    """One clusterNetwork entry cut into node subnets."""

    def __init__(self, entry: ClusterNetworkEntry) -> None:
        self.cidr, self.bits = entry.cidr, entry.host_prefix_bits
        self.pool = Pool(0, (1 << (self.bits - entry.cidr.prefix)) - 1)

    def slots(self, subnet: Cidr) -> range:
        """Slots a subnet covers; a recorded subnet may be larger or smaller than ours, from before a change."""
        shift = BITS[self.cidr.family] - self.bits
        return range((subnet.value - self.cidr.value) >> shift, ((subnet.last - self.cidr.value) >> shift) + 1)

    def subnet(self, slot: int) -> Cidr:
        family = self.cidr.family
        return Cidr(family, self.cidr.value + (slot << (BITS[family] - self.bits)), self.bits)


class NodeAllocator:
    """Holds who owns which subnet and id. ``settle`` is idempotent; ``release`` frees what a node held."""

    def __init__(self, network: ClusterNetwork) -> None:
        self.network = network
        self._linux = [_Range(entry) for entry in network.entries]
        self._windows = [_Range(entry) for entry in (network.hybrid.entries if network.hybrid else ())]
        self._ranges = (*self._linux, *self._windows)
        self._ids = Pool(NODE_ID_MIN, NODE_ID_MAX)
        self._held: dict[str, NodeDecision] = {}

    def release(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        for subnet in held.subnets:
            for pool, slot in self._slots(subnet):
                pool.release(slot, name)
        if held.node_id:
            self._ids.release(held.node_id, name)

    def settle(self, node: Node, recorded: NodeDecision | None) -> NodeDecision:
        """The node's decision. Raises CapacityError (exhausted) or ObjectError (somebody else holds it)."""
        self.release(node.name)
        subnets: list[Cidr] = []
        node_id = 0
        if node.is_windows and not self._windows:
            raise _without_overlay(node)
        try:
            for family in HYBRID_FAMILIES if node.is_windows else self.network.families:
                subnets.append(self._subnet(node, recorded, family))
            if not node.is_windows:
                node_id = self._node_id(node, recorded)
        except ObjectError:
            self._held[node.name] = NodeDecision(subnets=tuple(subnets), node_id=node_id)
            self.release(node.name)
            raise
        decision = NodeDecision(subnets=tuple(subnets), node_id=node_id)
        self._held[node.name] = decision
        return decision

    def reserve(self, name: str, recorded: NodeDecision) -> None:
        """Hold what is recorded for a node that is not served now, so that nobody else is given it."""
        self.release(name)
        kept = tuple(subnet for subnet in recorded.subnets if self._claim(subnet, name))
        if recorded.node_id:
            self._ids.claim(recorded.node_id, name)
        self._held[name] = NodeDecision(subnets=kept, node_id=recorded.node_id)

    def _subnet(self, node: Node, recorded: NodeDecision | None, family: Family) -> Cidr:
        ranges = self._windows if node.is_windows else self._linux
        for subnet in _stated(node):
            if subnet.family == family and any(each.cidr.covers(subnet) for each in ranges):
                if not _has_width(subnet, ranges):
                    raise self._other_width(node, subnet)
                if self._claim(subnet, node.name):
                    return subnet
                raise _taken(node, _annotation(node), str(subnet), self._holder(subnet))
        for subnet in recorded.subnets if recorded else ():
            if subnet.family == family and _has_width(subnet, ranges) and self._claim(subnet, node.name):
                return subnet
        for each in ranges:
            if each.cidr.family == family:
                slot = each.pool.take(node.name)
                if slot is not None:
                    return each.subnet(slot)
        where = "hybridClusterNetwork" if node.is_windows else "clusterNetwork"
        raise CapacityError(
            f"no IPv{family} subnet is left in {where}",
            kind="Node",
            name=node.name,
            path=f'metadata.annotations["{_annotation(node)}"]',
            fix="remove nodes" if node.is_windows else "add a clusterNetwork entry or remove nodes",
        )

    def _node_id(self, node: Node, recorded: NodeDecision | None) -> int:
        wanted, annotation, shown = node.node_id, "k8s.ovn.org/node-id", str(node.node_id)
        for interface in node.join:
            base = JOIN[interface.family]
            if base.contains(interface.address):
                wanted, annotation = interface.address.value - base.value, "k8s.ovn.org/node-gateway-router-lrp-ifaddr"
                shown = str(interface)
                break
        if wanted is not None:
            if self._ids.claim(wanted, node.name):
                return wanted
            raise _taken(node, annotation, shown, self._ids.owner(wanted))
        if recorded is not None and recorded.node_id and self._ids.claim(recorded.node_id, node.name):
            return recorded.node_id
        slot = self._ids.take(node.name)
        if slot is None:
            raise CapacityError(f"all node ids up to {NODE_ID_MAX} are taken", kind="Node", name=node.name)
        return slot

    def _other_width(self, node: Node, subnet: Cidr) -> ObjectError:
        """Routes by source of unequal length would shadow connected routes: see clusterNetwork's own check."""
        bits = next(each.bits for each in self._ranges if each.cidr.covers(subnet))
        return ObjectError(
            f"must be a /{bits}, the hostPrefix of its clusterNetwork entry, because OVN prefers a longer route by"
            " source to the connected route of another node"
            if not node.is_windows
            else f"must be a /{bits}, the hostPrefix of its hybridClusterNetwork entry",
            kind="Node",
            name=node.name,
            path=f'metadata.annotations["{_annotation(node)}"]',
            value=str(subnet),
            fix="annotate a subnet of that length, or remove the annotation to have one allocated",
        )

    def _slots(self, subnet: Cidr) -> Iterator[tuple[Pool, int]]:
        for each in self._ranges:
            if each.cidr.covers(subnet):
                for slot in each.slots(subnet):
                    yield each.pool, slot

    def _claim(self, subnet: Cidr, name: str) -> bool:
        slots = list(self._slots(subnet))
        if not slots or any(pool.owner(slot) not in (None, name) for pool, slot in slots):
            return False
        return all(pool.claim(slot, name) for pool, slot in slots)

    def _holder(self, subnet: Cidr) -> object:
        return next((pool.owner(slot) for pool, slot in self._slots(subnet) if pool.owner(slot) is not None), None)


def _stated(node: Node) -> tuple[Cidr, ...]:
    if node.is_windows:
        return (node.hybrid_subnet,) if node.hybrid_subnet else ()
    return node.subnets


def _annotation(node: Node) -> str:
    return "k8s.ovn.org/hybrid-overlay-node-subnet" if node.is_windows else "k8s.ovn.org/node-subnets"


def _has_width(subnet: Cidr, ranges: list[_Range]) -> bool:
    return any(each.cidr.covers(subnet) and each.bits == subnet.prefix for each in ranges)


def _without_overlay(node: Node) -> ObjectError:
    return ObjectError(
        "is a Windows node, and the cluster was not installed with hybrid networking, which cannot be added later",
        kind="Node",
        name=node.name,
        path=f'metadata.labels["{OS_LABEL}"]',
        value="windows",
        fix="install a cluster with hybridOverlayConfig, or remove the node",
    )


def _taken(node: Node, annotation: str, value: str, holder: object) -> ObjectError:
    other = Mention("Node", "", str(holder))
    return ObjectError(
        f"is already held by {other.text}",
        kind="Node",
        name=node.name,
        path=f'metadata.annotations["{annotation}"]',
        value=value,
        fix="give the node another value, or remove the annotation to have one allocated",
        mentions=(other,),
    )
