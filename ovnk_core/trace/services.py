"""Services as the ends of questions: which one answers at an address, and what ``svc:NS/NAME:PORT`` stands for."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from msgspec.structs import replace

from ovnk_core.cluster import Cluster
from ovnk_core.features.services.endpoints import SERVICE_BACKEND, Backend, Target
from ovnk_core.features.services.verdict import Door
from ovnk_core.model.decision import ServiceDecision
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.model.tables import SERVICE, SERVICE_DECISION
from ovnk_core.terms.address import Address, Family
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import TRANSPORTS, Protocol, Transport
from ovnk_core.trace.question import Question, QuestionError, ServiceTarget


class Doors:
    """Every address and port that is balanced, of one state of the cluster. ``hosts``: all nodes' addresses."""

    def __init__(self, cluster: Cluster, hosts: Collection[Address]) -> None:
        self._cluster, self._hosts = cluster, hosts

    @cached_property
    def _decided(self) -> dict[NamespacedName, ServiceDecision]:
        return dict(self._cluster.engine.rows(SERVICE_DECISION))

    @cached_property
    def _by_address(self) -> dict[tuple[Address, Transport, int], Door]:
        found: dict[tuple[Address, Transport, int], Door] = {}
        for key, service in self._cluster.engine.rows(SERVICE).items():
            decision = self._decided.get(key)
            if decision is None or not service.is_served:
                continue
            numbers = {(each.protocol, each.node_port) for each in decision.node_ports}
            for port in service.ports:
                for address in decision.cluster_ips:
                    vip = Target(address, port.port)
                    found[address, port.protocol, port.port] = Door(
                        service=service, port=port, kind="cluster IP", vip=vip
                    )
                for address in (*service.external_ips, *service.load_balancer_ips):
                    if address in self._hosts and (port.protocol, port.port) in numbers:
                        continue  # That node's node port, and nobody else's.
                    vip = Target(address, port.port)
                    door = Door(service=service, port=port, kind="external address", vip=vip)
                    found.setdefault((address, port.protocol, port.port), door)
        return found

    @cached_property
    def _node_ports(self) -> dict[tuple[Transport, int], tuple[Service, ServicePort]]:
        services = self._cluster.engine.rows(SERVICE)
        return {
            (each.protocol, each.node_port): (services[key], port)
            for key, decision in self._decided.items()
            if key in services and services[key].is_served
            for each in decision.node_ports
            for port in services[key].ports
            if (port.protocol, port.port) == (each.protocol, each.port)
        }

    def at(self, question: Question, address: Address, hosts: tuple[Address, ...]) -> Door | None:
        """What is balanced at an address, asked on a node that answers to ``hosts``."""
        protocol = next((each for each in TRANSPORTS if each.lower() == question.protocol), None)
        if protocol is None or question.port is None or address.family not in self._cluster.network.families:
            return None
        found = self._by_address.get((address, protocol, question.port))
        if found is not None or address not in hosts:
            return found
        served = self._node_ports.get((protocol, question.port))
        if served is None:
            return None
        service, port = served
        return Door(service=service, port=port, kind="node port", vip=Target(address, question.port))

    @cached_property
    def _owners(self) -> dict[Address, NamespacedName]:
        return {address: key for key, decision in self._decided.items() for address in decision.cluster_ips}

    def owner(self, address: Address) -> NamespacedName | None:
        """The Service that has a cluster IP."""
        return self._owners.get(address)

    def served_text(self, key: NamespacedName) -> str:
        """What a Service with a cluster IP is asked for there, as a sentence."""
        served = [f"{each.port}/{each.protocol}" for each in self._cluster.engine.rows(SERVICE)[key].ports]
        return f"Service {key} serves only port{'s' * (len(served) > 1)} {', '.join(served)}"

    def ports(self, protocol: Protocol) -> tuple[ServiceTarget, ...]:
        """Every port of a protocol that is balanced at a cluster IP, by name and number."""
        found = {
            (key, each.port)
            for key, service in self._cluster.engine.rows(SERVICE).items()
            if service.is_served and key in self._decided and self._decided[key].cluster_ips
            for each in service.ports
            if each.protocol.lower() == protocol
        }
        return tuple(ServiceTarget(key, str(port)) for key, port in sorted(found))

    def backends(self, service: Service) -> frozenset[Backend]:
        """What a Service's slices state."""
        return frozenset(self._cluster.engine.members(SERVICE_BACKEND, service.key))

    def resolved(self, question: Question, families: tuple[Family, ...]) -> Question:
        """A question to a Service by name -> the same to its cluster IP, of the first of ``families`` that it has.

        Raises QuestionError.
        """
        target = question.target
        if not isinstance(target, ServiceTarget):
            return question
        service = self._cluster.engine.rows(SERVICE).get(target.service)
        decision = self._decided.get(target.service)
        if service is None or decision is None or not service.is_served or not decision.cluster_ips:
            raise QuestionError("to", str(target), self._why_not(target.service, service))
        port = _port(question, target, service)
        address = next((each for f in families for each in decision.cluster_ips if each.family == f), None)
        if address is None:
            raise QuestionError("to", str(target), f"shares no address family with {question.source}")
        return replace(question, target=address, port=port)

    def _why_not(self, key: NamespacedName, service: Service | None) -> str:
        problems = self._cluster.problems.get(ObjectRef("Service", key.namespace, key.name), ())
        if problems:
            # Why is for whoever may read the other Service that has it: `ovnk validate` says.
            return f"the Service is not served because of its {problems[0].path}"
        if service is None:
            return "no such Service"
        if service.type == "ExternalName":
            return "an ExternalName Service is a DNS name and nothing else"
        if service.is_headless:
            return "a headless Service has no address of its own; ask for one of its pods"
        return "the Service has no cluster IP"


def _port(question: Question, target: ServiceTarget, service: Service) -> int:
    """The number of the port that is meant. Raises QuestionError."""
    mine = [each for each in service.ports if each.protocol.lower() == question.protocol]
    said = str(question.port) if question.port is not None else ""
    name = target.port or said
    found = mine if not name else [each for each in mine if name in (str(each.port), each.name)]
    if len(found) == 1:
        if said not in ("", str(found[0].port)):
            raise QuestionError("port", said, f"contradicts the port in {target}")
        return found[0].port
    has = ", ".join(
        f"{each.port}/{each.protocol.lower()}" + (f" ({each.name})" if each.name else "") for each in service.ports
    )
    wanted = f"no port {name}/{question.protocol}" if name else "several ports: say which"
    raise QuestionError("to", str(target), f"the Service has {wanted}; it has {has or 'none'}")
