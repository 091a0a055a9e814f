"""What the status of an object shows besides its document, and so which objects a change of something else shows in.

A pod shows the address that was decided for it, and its node's; a Service, as from the Kubernetes API server, in its
spec the cluster IPs and node ports it was given; an egress firewall whether the DNS names of its rules were answered,
and why a newer version of it is refused; an EgressIP which node holds which of its addresses. Nothing else shows
anything but its own document.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress

from ovnk_core.features.egress_firewall.verdict import dns_addresses
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.keeper.document import Manifest, decision_key, decode, object_key, read_decision, ref_of
from ovnk_core.model.decision import DnsDecision
from ovnk_core.store.entry import Stored, StoreKey
from ovnk_core.store.history import Edit, History
from ovnk_core.terms.name import ObjectRef


def needs_address(pod: Manifest) -> bool:
    """Whether a pod's document leaves its addresses to us."""
    status = pod.get("status") or {}
    return not (status.get("podIPs") or status.get("podIP") or (pod.get("spec") or {}).get("hostNetwork"))


def needs_front(service: Manifest) -> bool:
    """Whether a Service's document leaves a cluster IP or a node port to us."""
    spec = service.get("spec") or {}
    is_whole = bool(spec.get("clusterIP")) and len(spec.get("clusterIPs") or ()) > 1
    return not is_whole or not all(port.get("nodePort") for port in spec.get("ports") or ())


def needs_host(pod: Manifest) -> bool:
    """Whether a pod's document leaves the addresses of its node to us."""
    return not (pod.get("status") or {}).get("hostIP")


def node_key(pod: Manifest) -> StoreKey:
    """Where the node that a pod is bound to is kept."""
    return object_key(ObjectRef("Node", "", (pod.get("spec") or {}).get("nodeName") or ""))


def host_addresses(node: Stored | None) -> tuple[str, ...]:
    """The addresses that a node's pods show as their host's."""
    found = (decode(node.value).manifest.get("status") or {}).get("addresses") or () if node else ()
    return tuple(each["address"] for each in found if each.get("type") == "InternalIP" and each.get("address"))


class Ties:
    """Kept up to date by ``note``. Costs one entry for each pod that shows its node, and for each DNS name of a
    firewall."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._shown: dict[ObjectRef, frozenset[StoreKey]] = {}
        self._showing: dict[StoreKey, set[ObjectRef]] = {}

    def note(self, ref: ObjectRef) -> None:
        """An object is other than before in the history."""
        if ref.kind not in ("Pod", "EgressFirewall"):
            return
        stored = self._history.get(object_key(ref))
        after = frozenset(_shown(ref.kind, decode(stored.value).manifest)) if stored else frozenset()
        before = self._shown.pop(ref, frozenset())
        if after:
            self._shown[ref] = after
        for key in before - after:
            self._showing[key].discard(ref)
            if not self._showing[key]:
                del self._showing[key]
        for key in after - before:
            self._showing.setdefault(key, set()).add(ref)

    def shown_in(self, edit: Edit) -> Iterable[ObjectRef]:
        """Objects other than the edited one in whose status the edit shows, as they are now."""
        key = edit.key
        match key.space, key.kind:
            case "decision", "Pod":
                pod = self._history.get(object_key(ref_of(key)))
                return (ref_of(key),) if pod and needs_address(decode(pod.value).manifest) else ()
            case "decision", "Service":
                service = self._history.get(object_key(ref_of(key)))
                return (ref_of(key),) if service and needs_front(decode(service.value).manifest) else ()
            case "decision", "EgressIP":
                return (ref_of(key),) if self._history.get(object_key(ref_of(key))) else ()
            case "refused", "EgressFirewall":
                return (ref_of(key),)
            case "decision", "DnsName":
                is_other = _answered(key, edit.before) != _answered(key, edit.after)
            case "object", "Node":
                is_other = host_addresses(edit.before) != host_addresses(edit.after)
            case _:
                return ()
        return sorted(self._showing.get(key, ())) if is_other else ()


def _shown(kind: str, manifest: Manifest) -> Iterator[StoreKey]:
    if kind == "Pod":
        if (manifest.get("spec") or {}).get("nodeName") and needs_host(manifest):
            yield node_key(manifest)
        return
    for rule in (manifest.get("spec") or {}).get("egress") or ():
        if name := (rule.get("to") or {}).get("dnsName"):
            with suppress(ValueError):  # What a release before ours accepted may be no name to us.
                yield decision_key("DnsName", dns_name(name).name)


def _answered(key: StoreKey, stored: Stored | None) -> Hashable:
    """What a firewall's status tells of a name: whether a rule that allows, and one that denies, has addresses."""
    decision = read_decision(key, stored.value) if stored else None
    assert decision is None or isinstance(decision, DnsDecision)
    has_history = decision is not None and bool(decision.history)
    return has_history, *(bool(dns_addresses(decision, allow=allow)) for allow in (True, False))
