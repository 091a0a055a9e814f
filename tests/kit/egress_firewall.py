"""A small world for egress firewalls: two nodes, three projects, and one line per rule.

``VERDICT TO [PORT ...]``: ``Allow 1.2.3.0/24``, ``Deny www.example.com TCP/80 443 UDP``, ``Deny nodes:zone=east``.
Whatever is asked is asked of all three engines, which must agree (``Tracer`` raises when they do not).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.model.decision import Decisions, DnsChange, DnsDecision
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Protocol
from ovnk_core.topology.place import Settings
from ovnk_core.trace.question import Answer, ConnectionState, Question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit.manifest import namespace, network, node, pod
from tests.kit.shapes import firewall

Manifest = dict[str, Any]
SHOP, LAB, ROUTER = "project1", "project2", "openshift-ingress"
WEB, API, LAB_WEB = f"{SHOP}/web", f"{SHOP}/api", f"{LAB}/web"
OWN_NODE, OWN_SECOND, OTHER_NODE = "192.0.2.11", "198.51.100.11", "192.0.2.12"
OWN_NODE_6, OTHER_NODE_6 = "2001:db8::11", "2001:db8::12"
ENTRIES = {4: {"cidr": "10.128.0.0/14", "hostPrefix": 23}, 6: {"cidr": "fd01::/48", "hostPrefix": 64}}
SERVICES = {4: "172.30.0.0/16", 6: "fd02::/112"}


def rule(line: str) -> Manifest:
    """One line as a rule of the manifest."""
    verdict, to, *ports = line.split()
    made: Manifest = {"type": verdict, "to": _to(to)}
    if ports:
        made["ports"] = [_port(text) for text in ports]
    return made


def rules(*lines: str, namespace: str = SHOP) -> Manifest:
    """An EgressFirewall of these lines."""
    return firewall([rule(line) for line in lines], namespace)


def _to(text: str) -> Manifest:
    if text.startswith("nodes:"):
        labels = dict(pair.split("=") for pair in text.removeprefix("nodes:").split(",") if pair)
        return {"nodeSelector": {"matchLabels": labels} if labels else {}}
    is_address = ":" in text or text.replace(".", "").replace("/", "").isdigit()
    return {"cidrSelector" if is_address else "dnsName": text}


def _port(text: str) -> Manifest:
    protocol, _, number = text.rpartition("/")
    if text.isdigit():
        return {"port": int(text)}
    return {"protocol": protocol, "port": int(number)} if protocol else {"protocol": number}


def answered(*addresses: str, sticky: Iterable[str] = (), at_s: float = 1_700_000_000.0) -> DnsDecision:
    """A DNS name's decision after one answer."""
    live = tuple(sorted(map(parse_address, addresses)))
    kept = tuple(sorted({*live, *map(parse_address, sticky)}))
    return DnsDecision(
        live=live, sticky=kept, answer=live, history=(DnsChange(at_s=at_s, cause="answer", addresses=live),)
    )


def landscape(*families: int) -> list[Manifest]:
    """Nodes n1 and n2 (zones east and west), three projects, a pod of each on n1, others where their name says."""
    entries = [ENTRIES[family] for family in families]
    found = [network({"clusterNetwork": entries, "serviceNetwork": [SERVICES[family] for family in families]})]
    for name, zone, addresses in (
        ("n1", "east", (OWN_NODE, OWN_NODE_6)),
        ("n2", "west", (OTHER_NODE, OTHER_NODE_6)),
    ):
        chosen = [text for text in addresses if (6 if ":" in text else 4) in families]
        status = {"addresses": [{"type": "InternalIP", "address": text} for text in chosen]}
        second = [f"{OWN_SECOND}/24"] if name == "n1" else []
        cidrs = [*(f"{text}/{64 if ':' in text else 24}" for text in chosen), *second]
        found.append(node(name, {"host-cidrs": cidrs}, None, status=status, metadata={"labels": {"zone": zone}}))
    found += [namespace(name) for name in (SHOP, LAB, ROUTER)]
    found += [
        pod("web", SHOP, spec={"nodeName": "n1", "containers": []}),
        pod("api", SHOP, spec={"nodeName": "n2", "containers": []}),
        pod("host", SHOP, spec={"nodeName": "n1", "hostNetwork": True, "containers": []}),
        pod("web", LAB, spec={"nodeName": "n1", "containers": []}),
        pod("router", ROUTER, spec={"nodeName": "n2", "containers": []}),
    ]
    return found


class World:
    """A cluster and everything asked of it. ``dns``: name -> decision."""

    def __init__(
        self,
        *manifests: Manifest,
        families: tuple[int, ...] = (4,),
        dns: Mapping[str, DnsDecision] | None = None,
        has_dns_feed: bool = False,
    ) -> None:
        settings = Settings(has_dns_feed=has_dns_feed)
        self.cluster = Cluster(settings=settings, decisions=Decisions(dns=dict(dns or {})), check=True)
        loaded = parse_objects(landscape(*families))
        assert not loaded.refused, loaded.refused
        self.cluster.replace(loaded)
        self._tracer: Tracer | None = None
        if manifests:
            self.put(*manifests)

    def put(self, *manifests: Manifest) -> Loaded:
        """What an adapter of a source of truth does: apply what is accepted, take note of what is refused."""
        loaded = parse_objects(manifests)
        self.cluster.apply(loaded.items, (), loaded.refused)
        self._tracer = None
        return loaded

    def delete(self, project: str, name: str = "default", kind: str = "EgressFirewall") -> None:
        self.cluster.apply((), (ObjectRef(kind, project, name),))
        self._tracer = None

    def learn(self, **names: DnsDecision) -> None:
        """DNS answers; underscores stand for dots."""
        self.cluster.decide_dns({name.replace("_", "."): decision for name, decision in names.items()})
        self._tracer = None

    def ask(
        self,
        target: str,
        port: int | None = 443,
        protocol: str = "tcp",
        *,
        source: str = WEB,
        state: ConnectionState = "new",
    ) -> Answer:
        """One question, answered alike by intent, fast and flows. ICMP has no port."""
        if self._tracer is None:
            self._tracer = Tracer(Scene(self.cluster), lambda: FlowTable(self.cluster.engine))
        question = Question(
            source=_end(source),
            target=_end(target),
            protocol=cast(Protocol, protocol),
            port=None if protocol == "icmp" else port,
            state=state,
        )
        return self._tracer.ask(question, "all")

    def allows(self, target: str, port: int | None = 443, protocol: str = "tcp", *, source: str = WEB) -> bool:
        return self.ask(target, port, protocol, source=source).verdict == "allow"

    def decider(self, target: str, port: int | None = 443, protocol: str = "tcp", *, source: str = WEB) -> int | None:
        """Index of the firewall's rule that decided; None where none did."""
        steps = self.ask(target, port, protocol, source=source).steps
        found = [step.rule for step in steps if step.object is not None and step.object.kind == "EgressFirewall"]
        return found[0] if found else None


def _end(text: str) -> Any:
    project, slash, name = text.partition("/")
    return NamespacedName(project, name) if slash else parse_address(text)
