"""Random clusters as plain manifests, and random edits of them: one seed, one cluster, one walk.

``RandomCluster(seed)`` holds the manifests by reference; ``mutate`` makes one random edit, applies it to its own
manifests and returns it. Pods come scheduled, unscheduled, completed, on the host network, on nodes that do not exist
and in namespaces that nobody declares; nodes with and without annotations, gateways and second addresses. One cluster
in four that has IPv4 is hybrid: the node ``WINDOWS`` is a Windows node. One in five has IPsec; nodes differ in MTU.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple

import yaml

from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.terms.name import ObjectRef
from tests.kit.random_egress_ip import EgressIPMaker
from tests.kit.random_firewall import DNS_NAMES, FirewallMaker
from tests.kit.random_policy import (
    NAMESPACE_LABELS,
    POD_LABELS,
    PORT_NAMES,
    PORT_NUMBERS,
    PROTOCOLS,
    Manifest,
    PolicyMaker,
    random_labels,
)
from tests.kit.random_router import RouterMaker
from tests.kit.random_service import ServiceMaker, Surroundings

Families = Literal["v4", "v6", "dual"]
FAMILIES: tuple[Families, ...] = ("v4", "v6", "dual")
NAMESPACES = ("alpha", "bravo", "charlie", "delta", "echo")
NODES = ("n1", "n2", "n3", "n4", "a-node.example")
ENTRIES = {4: {"cidr": "10.128.0.0/14", "hostPrefix": 23}, 6: {"cidr": "fd01::/48", "hostPrefix": 64}}
SERVICES = {4: "172.30.0.0/16", 6: "fd02::/112"}
EXTERNAL = {4: ("203.0.113.9", "8.8.8.8", "192.0.2.200", "172.30.0.10"), 6: ("2001:db8:ffff::9", "2001:db8:0:1::200")}
HYBRID = {"cidr": "10.132.0.0/14", "hostPrefix": 23}
WINDOWS = "n4"
OVN = "k8s.ovn.org/"


class Edit(NamedTuple):
    """One step of a walk: manifests to put, references to delete, DNS names whose answers changed, and what was heard
    of nodes. ``is_programmed``: after it, the northbound confirms that withdrawn egress IPs are gone."""

    put: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    dns: Mapping[str, DnsDecision | None] = {}
    health: Mapping[str, NodeHealth] = {}
    is_programmed: bool = False


def ref_of(manifest: Manifest) -> ObjectRef:
    kind, meta = manifest["kind"], manifest["metadata"]
    if kind == "Network" and manifest["apiVersion"].startswith("operator"):
        kind = "NetworkOperator"
    return ObjectRef(kind, meta.get("namespace", ""), meta["name"])


class RandomCluster:
    """``families`` None: drawn from the seed. ``has_oddities`` False leaves out nodes without a gateway and the like.

    ``has_egress_routers``: not where OVN is asked, which does not see a pod's second interface.
    ``is_pinned``: nodes and pods carry their subnets, ids and addresses, so that nothing is left to be decided.
    """

    def __init__(
        self,
        seed: int,
        families: Families | None = None,
        *,
        pods: tuple[int, int] = (5, 60),
        policies: tuple[int, int] = (0, 25),
        services: tuple[int, int] = (0, 6),
        has_egress_ips: bool = True,
        has_egress_routers: bool = False,
        has_oddities: bool = True,
        is_pinned: bool = False,
    ) -> None:
        self.seed, self.rng, self.has_oddities, self.is_pinned = seed, random.Random(seed), has_oddities, is_pinned
        drawn: Families = self.rng.choice(FAMILIES) if families is None else families
        self.families = drawn
        self.is_hybrid = seed % 4 == 1 and drawn != "v6" and not is_pinned
        self.has_ipsec = seed % 5 == 2 and not is_pinned
        self.objects: dict[ObjectRef, Manifest] = {}
        self.graveyard: list[Manifest] = []
        self._made = 0
        self.has_egress_ips = has_egress_ips
        self.egress_ip_maker = EgressIPMaker(seed, lambda: self.numbers, is_pinned=is_pinned)
        self.router_maker = RouterMaker(seed, lambda: self.numbers) if has_egress_routers else None
        self.policy_maker = PolicyMaker(self.rng, NAMESPACES, self.interesting_address)
        rng = self.rng
        self._put(self.network())
        if self.is_hybrid or self.has_ipsec:
            self._put(self.operator())
        for name in rng.sample(NODES, rng.randint(1, 4)):
            self._put(self.node(name))
        self._namespaces = NAMESPACES[: rng.randint(1, len(NAMESPACES))]
        for name in self._namespaces:
            if rng.random() < 0.85:
                self._put(self.namespace(name))
        for _ in range(rng.randint(*pods)):
            self._put(self.pod())
        for _ in range(rng.randint(*policies)):
            self._put(self.policy())
        self.firewall_maker = FirewallMaker(self.rng, lambda: self.numbers, self.interesting_address)
        for name in self._namespaces:
            if rng.random() < 0.5:
                self._put(self.firewall_maker.firewall(name))
        self.dns: dict[str, DnsDecision] = self.firewall_maker.answers()
        around = Surroundings(lambda: self.numbers, self.pod_address, self.a_node, self.node_address)
        self.service_maker = ServiceMaker(self.rng, around, is_pinned=is_pinned)
        for _ in range(rng.randint(*services)):
            for made in self._service_with_backends(self._fresh("svc")):
                self._put(made)
        for _ in range(self.egress_ip_maker.rng.randint(0, 4) if has_egress_ips else 0):
            self._put(self.egress_ip_maker.egress_ip())
        if self.router_maker is not None:
            for _ in range(3):
                self._put(self.router_maker.definition(self._namespaces))

    # ------------------------------------------------------------------ the cluster

    @property
    def numbers(self) -> tuple[int, ...]:
        return {"v4": (4,), "v6": (6,), "dual": (4, 6)}[self.families]

    def manifests(self) -> list[Manifest]:
        return [copy.deepcopy(each) for each in self.objects.values()]

    def yaml(self) -> str:
        return yaml.safe_dump_all(self.manifests(), sort_keys=False)

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for ref, manifest in self.objects.items() if ref.kind == kind]

    def _put(self, manifest: Manifest) -> Manifest:
        if self.is_pinned:
            self._pin(manifest)
        self.objects[ref_of(manifest)] = manifest
        return manifest

    def _pin(self, manifest: Manifest) -> None:
        notes, name = manifest["metadata"].setdefault("annotations", {}), manifest["metadata"]["name"]
        if manifest["kind"] == "Node":
            at = NODES.index(name)
            subnets = [{4: f"10.128.{2 * at}.0/23", 6: f"fd01:0:0:{at}::/64"}[family] for family in self.numbers]
            notes[f"{OVN}node-subnets"] = json.dumps({"default": subnets})
            notes[f"{OVN}node-id"] = str(2 + at)
        elif manifest["kind"] == "Pod" and manifest["spec"].get("nodeName"):
            at, host = NODES.index(manifest["spec"]["nodeName"]), 2 + int(name.partition("-")[2])
            texts = {4: f"10.128.{2 * at}.{host}/23", 6: f"fd01:0:0:{at}::{host:x}/64"}
            addresses = [texts[family] for family in self.numbers]
            mac = f"0a:58:00:00:{at:02x}:{host:02x}"
            notes[f"{OVN}pod-networks"] = json.dumps({"default": {"ip_addresses": addresses, "mac_address": mac}})

    def _fresh(self, word: str) -> str:
        self._made += 1
        return f"{word}-{self._made}"

    def network(self) -> Manifest:
        entries = [dict(ENTRIES[family]) for family in self.numbers]
        if self.rng.random() < 0.4 and self.numbers[0] == 4 and not self.is_pinned:
            # Two ranges of one hostPrefix, the first sometimes too small for all nodes.
            bits = self.rng.choice((26, 28))
            entries[0] = {"cidr": f"10.128.0.0/{self.rng.choice((16, bits - 1))}", "hostPrefix": bits}
            entries.append({"cidr": "10.200.0.0/16", "hostPrefix": bits})
        services = [SERVICES[family] for family in self.numbers]
        spec = {"clusterNetwork": entries, "serviceNetwork": services, "networkType": "OVNKubernetes"}
        return _manifest("config.openshift.io/v1", "Network", "cluster", spec=spec)

    def operator(self) -> Manifest:
        config: dict[str, Any] = {"hybridOverlayConfig": {"hybridClusterNetwork": [HYBRID]}} if self.is_hybrid else {}
        config |= {"ipsecConfig": {}} if self.has_ipsec else {}
        spec = {"defaultNetwork": {"ovnKubernetesConfig": config}}
        return _manifest("operator.openshift.io/v1", "Network", "cluster", spec=spec)

    def node_addresses(self, name: str) -> list[str]:
        return [self.node_address(name, family) for family in self.numbers]

    @staticmethod
    def node_address(name: str, family: int) -> str:
        number = 11 + NODES.index(name)
        return f"192.0.2.{number}" if family == 4 else f"2001:db8:0:1::{number}"

    def node(self, name: str) -> Manifest:
        rng, addresses = self.rng, self.node_addresses(name)
        notes: dict[str, Any] = {}
        if rng.random() < 0.3:
            notes["node-chassis-id"] = f"chassis-{name}"
        if rng.random() < 0.2:
            notes["host-cidrs"] = json.dumps([f"198.51.100.{11 + NODES.index(name)}/24"])
        if self.has_oddities and rng.random() < 0.3:
            notes |= self._gateway(name, addresses)
        if self.has_oddities and len(addresses) > 1 and rng.random() < 0.15:
            addresses = rng.sample(addresses, 1)
        status = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
        made = _manifest("v1", "Node", name, status=status)
        made["metadata"]["labels"] = {"zone": rng.choice(("east", "west"))}
        if self.is_hybrid and name == WINDOWS:
            made["metadata"]["labels"]["kubernetes.io/os"] = "windows"
        made["metadata"]["annotations"] = {f"{OVN}{key}": value for key, value in notes.items()}
        if mtu := (None, "9000", "1600")[(self.seed + NODES.index(name)) % 3]:
            made["metadata"]["annotations"]["ovnk.dev/node-mtu"] = mtu
        if self.has_egress_ips:
            self.egress_ip_maker.mark(made)
        return made

    def _gateway(self, name: str, addresses: list[str]) -> dict[str, Any]:
        """No gateway at all; one without a next hop; one as OVN-Kubernetes writes it."""
        kind = self.rng.choice(("none", "no next hop", "full"))
        if kind == "none":
            return {"l3-gateway-config": json.dumps({"default": {"mode": ""}})}
        links = [f"{address}/{24 if '.' in address else 64}" for address in addresses]
        config: dict[str, Any] = {
            "mode": "shared",
            "interface-id": self.rng.choice((f"br-ex_{name}", "breth0")),
            "ip-addresses": links,
        }
        config["mac-address"] = f"02:00:00:00:00:{11 + NODES.index(name):02x}"
        if kind == "full":
            config["next-hops"] = ["192.0.2.254" if "." in address else "2001:db8:0:1::ff" for address in addresses]
        return {"l3-gateway-config": json.dumps({"default": config})}

    def namespace(self, name: str) -> Manifest:
        made = _manifest("v1", "Namespace", name)
        made["metadata"]["labels"] = random_labels(self.rng, NAMESPACE_LABELS)
        notes = made["metadata"]["annotations"] = {}
        if self.rng.random() < 0.1:
            notes[f"{OVN}acl-logging"] = '{"deny":"alert","allow":"notice"}'
        if self.rng.random() < 0.4:
            notes[f"{OVN}multicast-enabled"] = self.rng.choice(("true", "true", "true", "false"))
        return made

    def set_multicast(self, name: str, *, is_on: bool) -> Edit:
        """Turn multicast on or off for a namespace, which is made if it is not there."""
        made = copy.deepcopy(self.objects.get(ObjectRef("Namespace", "", name)) or self.namespace(name))
        made["metadata"]["annotations"][f"{OVN}multicast-enabled"] = "true" if is_on else "false"
        return Edit(put=(self._put(made),))

    def pod(self, name: str = "", namespace: str = "") -> Manifest:
        rng = self.rng
        made = _manifest("v1", "Pod", name or self._fresh("pod"), namespace or rng.choice(self._namespaces))
        made["metadata"]["labels"] = random_labels(rng, POD_LABELS)
        made["spec"] = {"containers": [self._container(at) for at in range(rng.choice((1, 1, 2)))]}
        kind = rng.random()
        if kind > 0.05:
            made["spec"]["nodeName"] = self.a_node()
        if 0.05 < kind < 0.12:
            made["spec"]["hostNetwork"] = True
        made["status"] = {"phase": "Succeeded" if 0.12 < kind < 0.2 else "Running"}
        if self.is_hybrid and made["spec"].get("nodeName") == WINDOWS:
            made["status"]["podIPs"] = [{"ip": self.hybrid_address()}]
        elif rng.random() < 0.15:
            # Often not its own: of another subnet, or held (now or before) by another pod.
            made["status"]["podIPs"] = [{"ip": self.pod_address(family)} for family in self.numbers]
            made["metadata"]["creationTimestamp"] = f"2024-01-0{rng.randint(1, 4)}T00:00:00Z"
        if self.router_maker is not None and self.router_maker.chance(0.25):
            self.router_maker.attach(made)
        return made

    def _container(self, at: int) -> Manifest:
        rng = self.rng
        names = rng.sample(PORT_NAMES, rng.choice((0, 1, 1, 2)))
        ports = [
            {"name": name, "containerPort": rng.choice(PORT_NUMBERS), "protocol": rng.choice(PROTOCOLS[:2])}
            for name in names
        ]
        return {"name": f"c{at}", "image": "i", "ports": ports}

    def a_node(self) -> str:
        """Mostly a node that exists."""
        names = [ref.name for ref in self.objects if ref.kind == "Node"]
        return self.rng.choice(names) if names and self.rng.random() < 0.97 else self.rng.choice(NODES)

    def _service_with_backends(self, name: str) -> tuple[Manifest, ...]:
        service = self.service_maker.service(name, self.rng.choice(self._namespaces))
        return (service, *self.service_maker.backends(service))

    def policy(self, name: str = "", namespace: str = "") -> Manifest:
        return self.policy_maker.policy(name or self._fresh("np"), namespace or self.rng.choice(self._namespaces))

    def interesting_address(self) -> str:
        """An address a policy's author may have meant: of a pod, a management port, a node, or outside."""
        rng = self.rng
        family = rng.choice(self.numbers) if rng.random() < 0.9 else rng.choice((4, 6))
        kind = rng.random()
        if self.is_hybrid and family == 4 and kind < 0.15:
            return self.hybrid_address()
        if kind < 0.5:
            return self.pod_address(family, lowest=2)
        if kind < 0.75:
            number = 11 + rng.randrange(len(NODES))
            return f"192.0.2.{number}" if family == 4 else f"2001:db8:0:1::{number}"
        return rng.choice(EXTERNAL[family])

    def hybrid_address(self) -> str:
        """One of the first addresses of the Windows node's subnet, if it is the only one ever."""
        return f"10.132.0.{self.rng.randint(4, 12)}"

    def pod_address(self, family: int, *, lowest: int = 3) -> str:
        """One of the first addresses of one of the first node subnets; below 3 are the router and the node."""
        host, subnet = self.rng.choice((lowest, lowest, *range(3, 16))), self.rng.randint(0, 3)
        bits = self.objects[ObjectRef("Network", "", "cluster")]["spec"]["clusterNetwork"][0]["hostPrefix"]
        if family == 4:
            return str(ip_address("10.128.0.0") + (subnet << (32 - min(bits, 32))) + host)
        return f"fd01:0:0:{subnet:x}::{host:x}"

    # ------------------------------------------------------------------ walking

    def mutate(self) -> Edit:
        """One random edit, applied to ``objects`` and returned."""
        kinds: tuple[Callable[[], Edit], ...] = (
            *[self._add_pod] * 4,
            *[self._drop("Pod")] * 3,
            *[self._relabel_pod] * 4,
            *[self._change_pod] * 4,
            *[self._add_policy] * 3,
            *[self._edit_policy] * 4,
            *[self._drop("NetworkPolicy")] * 2,
            *[self._put_namespace] * 3,
            self._drop("Namespace"),
            *[self._put_node] * 2,
            self._drop("Node"),
            *[self._put_firewall] * 2,
            *[self._edit_firewall] * 4,
            self._drop("EgressFirewall"),
            *[self._put_service] * 3,
            *[self._edit_backend] * 3,
            *[self._drop("Service")] * 2,
            self._drop("EndpointSlice"),
            self._drop("Endpoints"),
            self._answer,
            *[self._back] * 3,
            self._again,
        )
        edit = self.rng.choice(kinds)()
        if self.has_egress_ips:
            edit = self._egress(edit)
        if self.router_maker is not None:
            edit = self._routers(edit, self.router_maker)
        for ref in edit.delete:
            self.graveyard.append(self.objects.pop(ref))
        for manifest in edit.put:
            self._put(manifest)
        for name, decision in edit.dns.items():
            self.dns.pop(name, None)
            if decision is not None:
                self.dns[name] = decision
        return edit

    def _egress(self, edit: Edit) -> Edit:
        """Now and then something about egress IPs instead, and most of the time the northbound keeps up."""
        maker = self.egress_ip_maker
        nodes = sorted(ref.name for ref in self.objects if ref.kind == "Node")
        if maker.chance(0.06):
            edit = Edit(put=(maker.egress_ip(),))
        elif maker.chance(0.02):
            refs = sorted(ref for ref in self.objects if ref.kind == "EgressIP")
            edit = Edit(delete=(maker.rng.choice(refs),)) if refs else edit
        elif nodes and maker.chance(0.05):
            node = copy.deepcopy(self.objects[ObjectRef("Node", "", maker.rng.choice(nodes))])
            maker.mark(node)
            edit = Edit(put=(node,))
        if nodes and maker.chance(0.08) and not self.is_pinned:
            edit = edit._replace(health={maker.rng.choice(nodes): maker.health()})
        return edit._replace(is_programmed=maker.chance(0.6) and not self.is_pinned)

    def _routers(self, edit: Edit, maker: RouterMaker) -> Edit:
        """Now and then something about egress routers instead."""
        definitions, pods = (
            sorted(ref for ref in self.objects if ref.kind == kind) for kind in ("NetworkAttachmentDefinition", "Pod")
        )
        if maker.chance(0.08):
            edit = Edit(put=(maker.definition(self._namespaces),))
        elif definitions and maker.chance(0.04):
            edit = Edit(delete=(maker.rng.choice(definitions),))
        elif pods and maker.chance(0.1):
            edit = Edit(put=(maker.attach(copy.deepcopy(self.objects[maker.rng.choice(pods)])),))
        return edit

    def reconfigure(self) -> Edit:
        """The rarest edit: other address families for the whole cluster; nodes get addresses to match."""
        self.families = self.rng.choice(("v4", "dual") if self.is_hybrid else FAMILIES)
        names = [ref.name for ref in self.objects if ref.kind == "Node"]
        made = (self._put(self.network()), *(self._put(self.node(name)) for name in names))
        return Edit(put=copy.deepcopy(made))

    def spoil(self) -> Edit:
        """A policy, firewall or Service becomes invalid, or a policy comes so: refused, its pods stay protected."""
        if self.rng.random() < 0.3:
            firewall = self._some("EgressFirewall") or self.firewall_maker.firewall(self.rng.choice(self._namespaces))
            firewall["spec"]["egress"].append({"type": "Permit", "to": {"cidrSelector": "0.0.0.0/0"}})
            return Edit(put=(self._put(firewall),))
        service = self._some("Service") if self.rng.random() < 0.2 else None
        if service is not None:
            service["spec"]["ports"] = [{"port": 0}]
            return Edit(put=(self._put(service),))
        policy = self._some("NetworkPolicy") if self.rng.random() < 0.7 else None
        policy = policy or self.policy()
        policy["spec"]["ingress"] = [{"ports": [{"port": 0}]}]
        return Edit(put=(self._put(policy),))

    def _some(self, kind: str) -> Manifest | None:
        found = self.of_kind(kind)
        return copy.deepcopy(self.rng.choice(found)) if found else None

    def _add_pod(self) -> Edit:
        return Edit(put=(self.pod(),))

    def _relabel_pod(self) -> Edit:
        pod = self._some("Pod")
        if pod is None:
            return self._add_pod()
        pod["metadata"]["labels"] = random_labels(self.rng, POD_LABELS)
        return Edit(put=(pod,))

    def _change_pod(self) -> Edit:
        """Move, complete, revive, or give it other ports; the name stays."""
        pod = self._some("Pod")
        if pod is None:
            return self._add_pod()
        fresh, kind = self.pod(pod["metadata"]["name"], pod["metadata"]["namespace"]), self.rng.random()
        if kind < 0.3:
            pod["spec"]["nodeName"] = self.a_node()
        elif kind < 0.6:
            pod["status"]["phase"] = self.rng.choice(("Running", "Succeeded", "Failed"))
        elif kind < 0.8:
            pod["spec"]["containers"] = fresh["spec"]["containers"]
        else:
            pod = fresh
        return Edit(put=(pod,))

    def _add_policy(self) -> Edit:
        return Edit(put=(self.policy(),))

    def _edit_policy(self) -> Edit:
        policy = self._some("NetworkPolicy")
        if policy is None:
            return self._add_policy()
        fresh = self.policy(policy["metadata"]["name"], policy["metadata"]["namespace"])
        for key in self.rng.sample(("podSelector", "ingress", "egress", "policyTypes"), self.rng.randint(1, 4)):
            if key in fresh["spec"]:
                policy["spec"][key] = fresh["spec"][key]
            else:
                policy["spec"].pop(key, None)
        return Edit(put=(policy,))

    def _put_namespace(self) -> Edit:
        return Edit(put=(self.namespace(self.rng.choice(NAMESPACES)),))

    def _put_firewall(self) -> Edit:
        return Edit(put=(self.firewall_maker.firewall(self.rng.choice(self._namespaces)),))

    def _edit_firewall(self) -> Edit:
        firewall = self._some("EgressFirewall")
        return self._put_firewall() if firewall is None else Edit(put=(self.firewall_maker.edit(firewall),))

    def _put_service(self) -> Edit:
        """A new one with its backends, or another spec for one that is there."""
        service = self._some("Service") if self.rng.random() < 0.6 else None
        if service is None:
            return Edit(put=self._service_with_backends(self._fresh("svc")))
        meta = service["metadata"]
        fresh = self.service_maker.service(meta["name"], meta["namespace"])
        fresh["metadata"] = meta
        return Edit(put=(fresh,))

    def _edit_backend(self) -> Edit:
        service, backend = self._some("Service"), self._some(self.rng.choice(("EndpointSlice", "Endpoints")))
        if service is None or backend is None:
            return self._put_service()
        return Edit(put=(self.service_maker.edit(service, backend),))

    def _answer(self) -> Edit:
        name = self.rng.choice(DNS_NAMES[:-1])
        return Edit(dns={name: self.firewall_maker.answer() if self.rng.random() < 0.9 else None})

    def _put_node(self) -> Edit:
        return Edit(put=(self.node(self.rng.choice(NODES)),))

    def _back(self) -> Edit:
        """Something that was deleted comes back as it was."""
        return Edit(put=(self.graveyard.pop(),)) if self.graveyard else self._add_pod()

    def _again(self) -> Edit:
        """The same object once more: no change."""
        return Edit(put=(copy.deepcopy(self.rng.choice(list(self.objects.values()))),))

    def _drop(self, kind: str) -> Callable[[], Edit]:
        def drop() -> Edit:
            refs = [ref for ref in self.objects if ref.kind == kind]
            return Edit(delete=(self.rng.choice(refs),)) if refs else self._add_pod()

        return drop


def _manifest(version: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Manifest:
    meta: Manifest = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def squash(edits: Iterable[Edit]) -> Edit:
    """Many edits as one: the last word on each object."""
    edits = tuple(edits)
    last: dict[ObjectRef, Manifest | None] = {}
    for edit in edits:
        last |= dict.fromkeys(edit.delete)
        last |= {ref_of(manifest): manifest for manifest in edit.put}
    return Edit(
        put=tuple(manifest for manifest in last.values() if manifest is not None),
        delete=tuple(ref for ref, manifest in last.items() if manifest is None),
        dns={name: decision for edit in edits for name, decision in edit.dns.items()},
    )


def split(edit: Edit) -> Sequence[Edit]:
    """One edit per object."""
    return [
        *(Edit(delete=(ref,)) for ref in edit.delete),
        *(Edit(put=(manifest,)) for manifest in edit.put),
        *(Edit(dns={name: decision}) for name, decision in edit.dns.items()),
    ]
