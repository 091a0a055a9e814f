"""Services and multicast in real packets, over two chassis: what ovn-trace 23.03 cannot show.

Node ports in the form of template variables, hairpins under an isolating policy, clients hidden or kept, rejections,
affinity, groups across nodes. Every expectation is what our own trace says: who may be reached, and as whom.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.features.services.rules import HAIRPIN_SOURCES
from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.nb import naming
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.balance import Outcome, beyond, chosen_end, meetings
from ovnk_core.trace.entering import way_after
from ovnk_core.trace.intent import outcomes
from ovnk_core.trace.question import parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.ovn import short_directory
from tests.kit.packets import ANSWERED_S, OUTSIDE, OUTSIDE6, Heard, Plane, ask, call, heard, join

pytestmark = pytest.mark.ovn
Protocol = Literal["tcp", "udp"]
NODES = {"n1": ("192.0.2.11", "2001:db8::11"), "n2": ("192.0.2.12", "2001:db8::12")}
PODS = {
    "shop": {"client": "n1", "web-1": "n1", "web-2": "n2", "web-3": "n2", "shut": "n1"},
    "loud": {"loud-1": "n1", "loud-2": "n1", "loud-3": "n2"},
    "quiet": {"quiet-1": "n1", "quiet-2": "n2"},
}
ENDPOINTS = {
    "web": ("web-1", "web-2"),
    "self": ("shut",),
    "local": ("web-1",),
    "near": ("web-2",),
    "sticky": ("web-2", "web-3"),
    "empty": (),
    "far": ("web-2", "web-3"),
    "back": ("web-1",),
}
SERVERS = ("web-1", "web-2", "web-3", "shut")
PORT, GROUP_PORT = 8080, 30102
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
SILENT_S = 0.9
"""How long silence must last to be one."""
TRIES = 40
"""Connections until two endpoints were both chosen: each is, with even odds."""
GROUPS = ("239.1.1.1", "ff15::42")


def _cluster_objects() -> list[m.Raw]:
    network = {
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
        "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
    }
    opted = {"annotations": {"k8s.ovn.org/multicast-enabled": "true"}}
    isolated = {"podSelector": {"matchLabels": {"name": "shut"}}, "policyTypes": ["Ingress"]}
    return [
        m.network(network),
        *(_node(name, addresses) for name, addresses in NODES.items()),
        m.namespace("shop"),
        m.namespace("loud", metadata=opted),
        m.namespace("quiet"),
        *(_pod(name, space, node) for space, pods in PODS.items() for name, node in pods.items()),
        m.policy(isolated),
    ]


def _node(name: str, addresses: Iterable[str]) -> m.Raw:
    stated = [{"type": "InternalIP", "address": address} for address in addresses]
    return m.node(name, {"node-chassis-id": f"chassis-{name}"}, None, status={"addresses": stated})


def _pod(name: str, namespace: str, node: str) -> m.Raw:
    return m.pod(name, namespace, metadata={"labels": {"name": name}}, spec={"nodeName": node, "containers": []})


def _service(name: str, last: int, **spec: Any) -> m.Raw:
    ports = [{"name": each, "protocol": each.upper(), "port": 80, "targetPort": PORT} for each in ("tcp", "udp")]
    if spec.get("type") == "NodePort":
        ports = [{**each, "nodePort": 30_000 + last} for each in ports]
    addresses = [f"172.30.0.{last}", f"fd02::{last:x}"]
    dual = {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilyPolicy": "RequireDualStack"}
    return m.service({**dual, "ipFamilies": ["IPv4", "IPv6"], "ports": ports, **spec}, name)


def _services() -> list[m.Raw]:
    sticky = {"sessionAffinity": "ClientIP", "type": "NodePort"}
    return [
        _service("web", 80, type="NodePort"),
        _service("self", 81),
        _service("local", 82, type="NodePort", externalTrafficPolicy="Local"),
        _service("near", 83, internalTrafficPolicy="Local"),
        _service("sticky", 84, **sticky),
        _service("empty", 86, type="NodePort"),
        _service("far", 87, type="NodePort"),
        _service("back", 88, type="NodePort"),
    ]


def _slices(cluster: Cluster) -> Iterator[m.Raw]:
    ports = [{"name": each, "protocol": each.upper(), "port": PORT} for each in ("tcp", "udp")]
    for service, pods in ENDPOINTS.items():
        for family in (4, 6):
            found = [cluster.engine.rows(ENDPOINT)[NamespacedName("shop", pod)] for pod in pods]
            ends = [{"addresses": [str(pod.address(family))], "nodeName": pod.node} for pod in found]
            yield m.endpoint_slice(ends, ports, service=service, name=f"{service}-{family}", family=f"IPv{family}")


async def _declare(northbound: str) -> Cluster:
    """The whole cluster, in the northbound."""
    async with ControlPlane(NativeNorthbound(northbound)) as plane:
        receipts = [await plane.apply([*_cluster_objects(), *_services()])]
        # Endpoints are addresses, which pods have by now.
        receipts.append(await plane.apply(_slices(plane.cluster)))
        assert all(receipt.is_accepted for receipt in receipts), receipts
        await plane.wait(timeout_s=20)
        return plane.cluster


class Lab:
    """A running plane, servers in every pod that is an endpoint, and our own opinion."""

    def __init__(self, plane: Plane, cluster: Cluster) -> None:
        self.plane, self.scene = plane, Scene(cluster)
        self.tracer = Tracer(self.scene, lambda: FlowTable(cluster.engine))
        self.pods = plane.pods
        self.servers = {
            (protocol, family): {pod: self.pods[pod].listen(PORT, protocol=protocol, family=family) for pod in SERVERS}
            for protocol in PROTOCOLS
            for family in (4, 6)
        }

    def said(self, source: str, target: str, port: int, protocol: str = "tcp") -> set[Heard]:
        """Everything that our trace says may become of a connection; objects and flows agree."""
        party = source if source in (OUTSIDE, OUTSIDE6) else next(str(key) for key in self.keys if key.name == source)
        question = parse_question(party, target, protocol, port)
        answer = self.tracer.ask(question, "all")
        ends = self.scene.ends(question)
        met = meetings(self.scene, question, ends) or beyond(self.scene, question, ends)
        found = {self._heard(each) for each in outcomes(self.scene, question, met, None)}
        assert {each.verdict for each in found} == {answer.verdict}
        return found

    @property
    def keys(self) -> Iterable[NamespacedName]:
        return self.scene.endpoints

    def _heard(self, outcome: Outcome) -> Heard:
        if outcome.target is None or outcome.answer.verdict != "allow":
            return Heard("drop" if outcome.answer.verdict == "drop" else "reject")
        ends = chosen_end(self.scene, outcome.meeting, outcome.target)
        assert ends.target.endpoint is not None
        way = way_after(self.scene, outcome.meeting, ends)
        own = HAIRPIN_SOURCES[ends.target.address.family] if way.is_hairpin else ends.source.address
        return Heard("allow", ends.target.endpoint.key.name, str(way.arrives_from or own))

    def tried(
        self, source: str, target: str, port: int, protocol: Protocol = "tcp", patience_s: float = ANSWERED_S
    ) -> Heard:
        """What became of a real connection."""
        servers = self.servers[protocol, 6 if ":" in target else 4]
        host = self.plane.outside if source in (OUTSIDE, OUTSIDE6) else self.pods[source]
        return ask(host, target, port, servers=servers, protocol=protocol, patience_s=patience_s)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with short_directory() as directory, Plane(directory) as plane:
        cluster = asyncio.run(_declare(plane.central.nb))
        plane.show(cluster)
        yield Lab(plane, cluster)


EVERY = [
    pytest.param("client", "172.30.0.80", 80, id="cluster-ip"),
    pytest.param("client", "fd02::50", 80, id="cluster-ip-6"),
    pytest.param("web-1", "172.30.0.80", 80, id="cluster-ip-of-its-own"),
    pytest.param("client", "192.0.2.11", 30_080, id="own-node-port"),
    pytest.param(OUTSIDE, "192.0.2.11", 30_087, id="node-port-from-outside"),
    pytest.param(OUTSIDE6, "2001:db8::11", 30_087, id="node-port-from-outside-6"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("source", "target", "port"), EVERY)
def test_connections_are_spread_over_every_endpoint(
    lab: Lab, source: str, target: str, port: int, protocol: Protocol
) -> None:
    said, found = lab.said(source, target, port, protocol), set[Heard]()
    assert len(said) == 2
    for _ in range(TRIES):
        found.add(lab.tried(source, target, port, protocol))
        if found == said or not found < said:
            break
    assert found == said


ONE = [
    pytest.param("shut", "172.30.0.81", 80, Heard("allow", "shut", "169.254.169.5"), id="hairpin-under-a-policy"),
    pytest.param("shut", "fd02::51", 80, Heard("allow", "shut", "fd69::5"), id="hairpin-under-a-policy-6"),
    pytest.param("client", "172.30.0.81", 80, Heard("drop"), id="policy-keeps-others-out"),
    pytest.param(OUTSIDE, "192.0.2.12", 30_088, Heard("allow", "web-1", "100.64.0.3"), id="cluster-hides-the-client"),
    pytest.param(OUTSIDE6, "2001:db8::12", 30_088, Heard("allow", "web-1", "fd98::3"), id="cluster-hides-the-client-6"),
    pytest.param("client", "192.0.2.12", 30_088, Heard("allow", "web-1", "100.64.0.3"), id="port-of-another-node"),
    pytest.param(OUTSIDE, "192.0.2.11", 30_082, Heard("allow", "web-1", OUTSIDE), id="local-keeps-the-client"),
    pytest.param(OUTSIDE6, "2001:db8::11", 30_082, Heard("allow", "web-1", OUTSIDE6), id="local-keeps-the-client-6"),
    pytest.param(OUTSIDE, "192.0.2.12", 30_082, Heard("reject"), id="external-local-without-own-endpoint"),
    pytest.param("client", "192.0.2.12", 30_082, Heard("reject"), id="external-local-of-another-node-from-a-pod"),
    pytest.param("client", "172.30.0.83", 80, Heard("reject"), id="internal-local-without-own-endpoint"),
    pytest.param("client", "172.30.0.86", 80, Heard("reject"), id="no-endpoint"),
    pytest.param("client", "fd02::56", 80, Heard("reject"), id="no-endpoint-6"),
    pytest.param(OUTSIDE, "192.0.2.11", 30_086, Heard("reject"), id="no-endpoint-from-outside"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("source", "target", "port", "expected"), ONE)
def test_what_becomes_of_a_connection(
    lab: Lab, source: str, target: str, port: int, expected: Heard, protocol: Protocol
) -> None:
    assert lab.said(source, target, port, protocol) == {expected}
    patience_s = SILENT_S if expected.verdict == "drop" else ANSWERED_S
    assert lab.tried(source, target, port, protocol, patience_s) == expected


@pytest.mark.parametrize(
    ("source", "target", "port", "server"),
    [
        ("quiet-2", "172.30.0.83", 80, "web-2"),
        ("quiet-2", "192.0.2.12", 30_082, "web-1"),
        ("client", "192.0.2.11", 30_082, "web-1"),
    ],
)
def test_policy_local_inside(lab: Lab, source: str, target: str, port: int, server: str) -> None:
    """The internal policy asks the pod's own node, the external one asks nothing of pods."""
    expected = Heard("allow", server, lab.pods[source].addresses[0].partition("/")[0])
    assert lab.said(source, target, port) == {expected}
    assert lab.tried(source, target, port) == expected


def test_node_ports_are_template_variables(lab: Lab) -> None:
    """The rows that these packets met hold no node's address."""
    with lab.plane.central.northbound.wire() as wire:
        rows = wire.select("Load_Balancer", columns=["name", "vips"])
    vips = {vip for row in rows if "/far_" in row["name"] for vip, _ in row["vips"][1]}
    assert {"^NODEIP_IPv4_0:30087", "^NODEIP_IPv6_0:30087"} <= vips
    assert not any(address in vip for vip in vips for node in NODES.values() for address in node)


STICKY = [("client", "172.30.0.84", 80), ("client", "fd02::54", 80), (OUTSIDE, "192.0.2.11", 30_084)]


@pytest.mark.parametrize(("source", "target", "port"), STICKY)
def test_a_client_stays_with_its_endpoint(lab: Lab, source: str, target: str, port: int) -> None:
    said = lab.said(source, target, port)
    found = {lab.tried(source, target, port) for _ in range(5)}
    assert len(said) == 2
    assert len(found) == 1
    assert found < said


@pytest.mark.parametrize("group", [parse_address(text) for text in GROUPS], ids=str)
def test_a_group_is_heard_in_its_namespace_alone(lab: Lab, group: Address) -> None:
    names = {name: naming.pod_port_name(key) for key in lab.scene.endpoints for name in [key.name]}
    loud, quiet = PODS["loud"], PODS["quiet"]
    with contextlib.ExitStack() as stack:
        ears = {
            name: stack.enter_context(contextlib.closing(join(lab.pods[name], group, GROUP_PORT)))
            for name in (*loud, *quiet)
        }
        # OVN lets no ACL stop a report of IPv6 (MLD), only what is sent to the group afterwards.
        lab.plane.wait_for_members(group, [names[name] for name in (loud if group.family == 4 else ears)])
        for source in ("quiet-1", "loud-1"):
            call(lab.pods[source], group, GROUP_PORT, [b"1 " + source.encode(), b"2 " + source.encode()])
        for source, expected in (("quiet-1", set[str]()), ("loud-1", {"loud-2", "loud-3"})):
            question = parse_question(f"{source.partition('-')[0]}/{source}", str(group), "udp", GROUP_PORT)
            assert {each.name for each in lab.tracer.ask(question, "all").receivers} == expected
        for name in ("loud-2", "loud-3"):
            assert [heard(ears[name], ANSWERED_S) for _ in range(2)] == [b"1 loud-1", b"2 loud-1"]
        assert [heard(ears[name], 0.0) for name in ("loud-2", "loud-3", "quiet-2")] == [None] * 3


# Limits of OVN 23.03, as docs/sources.md states them: where one of these fails, a limit is gone, and so is its row.


def test_a_gateway_hides_only_the_first_packet_until_it_is_answered(lab: Lab) -> None:
    """Our trace speaks of that packet."""
    said = Heard("allow", "web-1", "100.64.0.3")
    assert lab.said(OUTSIDE, "192.0.2.12", 30_088, "udp") == {said}
    server = lab.servers["udp", 4]["web-1"]
    with contextlib.closing(lab.plane.outside.new_socket(4, "udp")) as connection:
        connection.connect(("192.0.2.12", 30_088))
        clients = []
        for _ in range(3):
            connection.send(b"unanswered")
            server.settimeout(ANSWERED_S)
            clients.append(server.recvfrom(16)[1][0])
    assert clients == [said.client, OUTSIDE, OUTSIDE]
