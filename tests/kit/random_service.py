"""Random Services with the slices or Endpoints that serve them: every type, policy and family, over few addresses and
ports, so that two of them really want the same.

``ServiceMaker`` draws from one ``random.Random``; what there is to draw from in the cluster comes from the caller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.kit.random_policy import POD_LABELS, PROTOCOLS, Manifest, random_labels

PORTS = (53, 80, 443, 30080)
NODE_PORTS = (30080, 30081, 30090)
TARGETS = (53, 80, 8080, 9090)
NAMES = ("http", "dns", "metrics")
STATED = {4: ("172.30.1.0", "172.30.1.1", "172.30.0.10"), 6: ("fd02::100", "fd02::101", "fd02::a")}
OUTSIDE = {4: ("203.0.113.50", "203.0.113.51"), 6: ("2001:db8:ffff::50", "2001:db8:ffff::51")}
FAMILY = {4: "IPv4", 6: "IPv6"}


class Surroundings(NamedTuple):
    """Of the cluster: its families, an address a pod may have, a node that may exist and its address of a family."""

    numbers: Callable[[], Sequence[int]]
    pod_address: Callable[[int], str]
    node: Callable[[], str]
    node_address: Callable[[str, int], str]


class ServiceMaker:
    """Makes Services and their endpoints. ``is_pinned``: a Service states its cluster IPs and node ports, which follow
    from the number in its name, so that nothing is left to be given out."""

    def __init__(self, rng: random.Random, around: Surroundings, *, is_pinned: bool) -> None:
        self.rng, self.around, self.is_pinned = rng, around, is_pinned

    def service(self, name: str, namespace: str) -> Manifest:
        rng = self.rng
        kind = rng.choices(
            ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "headless"), weights=(8, 5, 4, 1, 1)
        )[0]
        spec: Manifest = {"selector": random_labels(rng, POD_LABELS)}
        made = _object("v1", "Service", name, namespace, spec=spec)
        if self.is_pinned:
            # No two of one age: between those who has an address first keeps it.
            hour, minute, second = rng.randrange(24), rng.randrange(60), rng.random() * 60
            made["metadata"]["creationTimestamp"] = f"2024-01-01T{hour:02}:{minute:02}:{second:09.6f}Z"
        elif rng.random() < 0.5:
            made["metadata"]["creationTimestamp"] = f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"
        if kind == "ExternalName":
            return made | {"spec": {"type": kind, "externalName": "db.example.com"}}
        spec |= {"ports": self._ports(), "type": "ClusterIP" if kind == "headless" else kind}
        if kind == "headless":
            spec["clusterIP"] = "None"
        else:
            self._address(spec)
            self._outside(made, kind)
        self._behaviour(spec, kind)
        if self.is_pinned and kind != "headless":
            _pin(spec, int(name.rpartition("-")[2]), self.around.numbers())
        return made

    def _ports(self) -> list[Manifest]:
        rng, found = self.rng, {}
        for _ in range(rng.choice((1, 1, 2, 3))):
            found[rng.choice(PROTOCOLS), rng.choice(PORTS)] = None
        ports: list[Manifest] = []
        for index, (protocol, port) in enumerate(found):
            made: Manifest = {"protocol": protocol, "port": port}
            made |= {"name": NAMES[index]} if len(found) > 1 or rng.random() < 0.5 else {}
            made |= {"targetPort": rng.choice((*TARGETS, *NAMES))} if rng.random() < 0.6 else {}
            ports.append(made)
        return ports

    def _address(self, spec: Manifest) -> None:
        """Cluster IPs and families: mostly given out, sometimes stated, and sometimes of a family nobody has."""
        rng, numbers = self.rng, self.around.numbers()
        family = rng.choice(numbers) if rng.random() < 0.97 else rng.choice((4, 6))
        if rng.random() < 0.3 and not self.is_pinned:
            spec["clusterIP"] = rng.choice(STATED[family]) if rng.random() < 0.95 else "198.51.100.7"
        elif rng.random() < 0.3:
            spec["ipFamilies"] = [FAMILY[family]]
        if rng.random() < 0.4:
            spec["ipFamilyPolicy"] = rng.choice(("PreferDualStack", "RequireDualStack", "SingleStack"))

    def _outside(self, made: Manifest, kind: str) -> None:
        """External addresses, node ports that are stated, and what the load balancer gave."""
        rng, spec = self.rng, made["spec"]
        if rng.random() < 0.25:
            spec["externalIPs"] = [self._external() for _ in range(rng.choice((1, 1, 2)))]
        if kind != "ClusterIP":
            for port, number in zip(spec["ports"], rng.sample(NODE_PORTS, len(NODE_PORTS)), strict=False):
                if rng.random() < 0.25:
                    port["nodePort"] = number
        if kind == "LoadBalancer":
            entries: list[Manifest] = [{"ip": self._external()} for _ in range(rng.choice((0, 1, 1, 2)))]
            entries += [{"hostname": "lb.example.com"}] if rng.random() < 0.2 else []
            entries += [{"ip": "203.0.113.99", "ipMode": "Proxy"}] if rng.random() < 0.2 else []
            made["status"] = {"loadBalancer": {"ingress": entries}}
            if rng.random() < 0.3:
                spec["allocateLoadBalancerNodePorts"] = False
        if (kind != "ClusterIP" or "externalIPs" in spec) and rng.random() < 0.4:
            spec["externalTrafficPolicy"] = rng.choice(("Local", "Local", "Cluster"))

    def _external(self) -> str:
        rng, family = self.rng, self.rng.choice(self.around.numbers())
        if rng.random() < 0.2:
            return self.around.node_address(self.around.node(), family)
        return rng.choice(OUTSIDE[family])

    def _behaviour(self, spec: Manifest, kind: str) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            spec["internalTrafficPolicy"] = rng.choice(("Local", "Local", "Cluster"))
        if rng.random() < 0.25:
            spec["sessionAffinity"] = "ClientIP"
            if rng.random() < 0.6:
                spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": rng.choice((60, 86_400))}}
        if rng.random() < 0.15:
            spec["publishNotReadyAddresses"] = True

    # ------------------------------------------------------------------ who serves

    def backends(self, service: Manifest) -> list[Manifest]:
        """Slices of a Service, or its Endpoints, or both, or none."""
        rng = self.rng
        found = [self.endpoint_slice(service, number) for number in range(rng.choice((0, 1, 1, 2, 3)))]
        return found + ([self.endpoints(service)] if rng.random() < 0.2 else [])

    def endpoint_slice(self, service: Manifest, number: int) -> Manifest:
        rng, meta = self.rng, service["metadata"]
        kind = FAMILY[rng.choice(self.around.numbers())] if rng.random() < 0.95 else "FQDN"
        made = _object("discovery.k8s.io/v1", "EndpointSlice", f"{meta['name']}-s{number}", meta["namespace"])
        if rng.random() < 0.95:
            made["metadata"]["labels"] = {"kubernetes.io/service-name": meta["name"]}
        made |= {"addressType": kind, "ports": self._listening(service)}
        made["endpoints"] = [self._endpoint(kind) for _ in range(rng.choice((0, 1, 2, 2, 4)))]
        return made

    def endpoints(self, service: Manifest) -> Manifest:
        rng, meta = self.rng, service["metadata"]
        made = _object("v1", "Endpoints", meta["name"], meta["namespace"], subsets=[])
        for _ in range(rng.choice((0, 1, 1, 2))):
            places = [self._place(rng.choice(self.around.numbers())) for _ in range(rng.choice((1, 2, 3)))]
            entries = [{"ip": address} | ({"nodeName": node} if node else {}) for address, node in places]
            split = rng.randint(0, len(entries))
            subset: Manifest = {"ports": [port for port in self._listening(service) if "port" in port]}
            subset |= {"addresses": entries[:split]} if split else {}
            subset |= {"notReadyAddresses": entries[split:]} if split < len(entries) else {}
            made["subsets"].append(subset)
        return made

    def edit(self, service: Manifest, backend: Manifest) -> Manifest:
        """A backend whose readiness, addresses or ports changed; the manifest is a new one."""
        if backend["kind"] == "Endpoints":
            return self.endpoints(service)
        if self.rng.random() < 0.3:
            return backend | {"ports": self._listening(service)}
        count = self.rng.choice((0, 1, 2, 3))
        return backend | {"endpoints": [self._endpoint(backend["addressType"]) for _ in range(count)]}

    def _endpoint(self, kind: str) -> Manifest:
        rng = self.rng
        if kind == "FQDN":
            return {"addresses": ["db.example.com"]}
        address, node = self._place(4 if kind == "IPv4" else 6)
        made: Manifest = {"addresses": [address]} | ({"nodeName": node} if node else {})
        conditions = {
            key: rng.choice((True, False)) for key in ("ready", "serving", "terminating") if rng.random() < 0.35
        }
        return made | ({"conditions": conditions} if conditions else {})

    def _place(self, family: int) -> tuple[str, str]:
        """(address, node or nothing): of a pod, of a host, or outside."""
        rng, kind, node = self.rng, self.rng.random(), self.around.node()
        if kind < 0.75:
            return self.around.pod_address(family), node if rng.random() < 0.9 else ""
        if kind < 0.93:
            return self.around.node_address(node, family), node
        return rng.choice(OUTSIDE[family]), ""

    def _listening(self, service: Manifest) -> list[Manifest]:
        """Ports by the names of the Service's; now and then one is missing, without a number, or called otherwise."""
        rng, found = self.rng, []
        for port in service["spec"].get("ports", ()):
            kind = rng.random()
            made: Manifest = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP")}
            made["port"] = rng.choice(TARGETS)
            if kind < 0.05:
                del made["port"]
            elif kind < 0.1:
                made["name"] = "other"
            elif kind < 0.15:
                continue
            found.append(made)
        return list({port["name"]: port for port in found}.values())


def _pin(spec: Manifest, number: int, families: Sequence[int]) -> None:
    wanted = [{"IPv4": 4, "IPv6": 6}[word] for word in spec.get("ipFamilies", ())] or list(families[:1])
    if spec.get("ipFamilyPolicy") in ("PreferDualStack", "RequireDualStack"):
        wanted = list(dict.fromkeys((*wanted, *families)))
    spec["clusterIPs"] = [{4: f"172.30.2.{number}", 6: f"fd02::{0x200 + number:x}"}[family] for family in wanted]
    spec["clusterIP"] = spec["clusterIPs"][0]
    if spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and "allocateLoadBalancerNodePorts" not in spec):
        for index, port in enumerate(spec["ports"]):
            port["nodePort"] = 31_000 + 4 * number + index


def _object(version: str, kind: str, name: str, namespace: str, **fields: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}
