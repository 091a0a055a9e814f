"""Egress IPs in real packets, over two chassis: whom an outsider sees, before and after a node is lost, and what is
left alone: pods, nodes, groups, and answers to connections from outside. Addresses come to nodes, and leave them, by
the allocator and its two steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.model.egress_ip import ASSIGNABLE_LABEL, NodeHealth
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.reconcile.diff import Desired, full
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import Egress, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.ovn import short_directory
from tests.kit.packets import ANSWERED_S, OUTSIDE, OUTSIDE6, Heard, Host, Plane, ask, call, heard, join
from tests.kit.questions import load

pytestmark = pytest.mark.ovn
NODES = {"n1": ("192.0.2.11", "2001:db8::11"), "n2": ("192.0.2.12", "2001:db8::12")}
PODS = {"near": "n2", "far": "n1", "other": "n1", "peer": "n2"}
"""``near`` and ``far`` are selected, ``other`` and ``peer`` are not; the address is on n2 at first."""
EGRESS = {4: "192.0.2.50", 6: "2001:db8::50"}
PORT, NODE_PORT, OUTER_PORT, GROUP_PORT = 8080, 30_080, 9000, 30_102
GROUPS = {4: "239.1.1.1", 6: "ff15::42"}
OUTSIDERS = {4: OUTSIDE, 6: OUTSIDE6}


def _node(name: str, *, is_labelled: bool = True, is_ready: bool = True) -> m.Raw:
    stated = [{"type": "InternalIP", "address": address} for address in NODES[name]]
    status = {"addresses": stated, "conditions": [{"type": "Ready", "status": str(is_ready)}]}
    made = m.node(name, {"node-chassis-id": f"chassis-{name}"}, None, status=status)
    made["metadata"]["labels"] = {ASSIGNABLE_LABEL: ""} if is_labelled else {}
    return made


def _object(*addresses: str) -> m.Raw:
    spec = {"egressIPs": list(addresses), "namespaceSelector": {}, "podSelector": {"matchLabels": {"out": "yes"}}}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": "out"}, "spec": spec}


def _second(family: int) -> str:
    """Another egress IP: a node holds only one of an object, so that with two each node has one."""
    return str(parse_address(EGRESS[family]) + 1)


def _manifests() -> Iterator[m.Raw]:
    network = {
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
        "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
    }
    yield m.network(network)
    for name in NODES:
        yield _node(name)
    yield m.namespace("shop", metadata={"annotations": {"k8s.ovn.org/multicast-enabled": "true"}})
    for name, node in PODS.items():
        labels = {"name": name, "out": "yes" if name in ("near", "far") else "no"}
        yield m.pod(name, "shop", metadata={"labels": labels}, spec={"nodeName": node, "containers": []})


def _services(cluster: Cluster) -> Iterator[m.Raw]:
    """A node port on each node, answered there by its selected pod, who sees the client."""
    ports = [{"name": each, "protocol": each.upper(), "port": PORT} for each in ("tcp", "udp")]
    for number, pod in enumerate(("near", "far")):
        stated = [{**each, "targetPort": PORT, "nodePort": NODE_PORT + number} for each in ports]
        dual = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
        yield m.service({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": stated, **dual}, pod)
        endpoint = cluster.engine.rows(ENDPOINT)[NamespacedName("shop", pod)]
        for family in (4, 6):
            ends = [{"addresses": [str(endpoint.address(family))], "nodeName": endpoint.node}]
            yield m.endpoint_slice(ends, ports, service=pod, name=f"{pod}-{family}", family=f"IPv{family}")


class Lab:
    """A running plane with servers in every pod, at every node's port and outside, and our own opinion."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.cluster, self.family = plane, Cluster(), 0
        self.cluster.replace(load(_manifests()))
        self.cluster.apply(load(_services(self.cluster)).items)
        asyncio.run(self._write())
        plane.show(self.cluster)
        self.servers: Mapping[int, dict[str, socket.socket]] = {
            family: {
                **{name: host.listen(PORT, family=family) for name, host in plane.pods.items()},
                "outside": plane.outside.listen(OUTER_PORT, family=family),
            }
            for family in (4, 6)
        }

    def put(self, *manifests: m.Raw) -> None:
        self.cluster.apply(load(manifests).items)
        self.program()

    def program(self) -> None:
        """The rows are in the northbound, and act, when this returns."""
        asyncio.run(self._write())
        self.plane.central.sync(until="hv_cfg")

    def confirm(self) -> None:
        """What was withdrawn is in no northbound any more."""
        self.cluster.withdrawn(self.cluster.leaving)
        self.program()

    def serve(self, family: int) -> None:
        """The address of a family on n2, whatever there was before; n1 could hold it, too."""
        if self.family != family or self.holder != "n2":
            self.put(_node("n1", is_labelled=False), _node("n2"), _object(EGRESS[family]))
            self.confirm()
            self.put(_node("n1"))
            self.family = family
        assert self.holder == "n2"

    @property
    def holder(self) -> str:
        (decision,) = self.cluster.decisions.egress_ips.values() or (None,)
        return decision.assignments[0].node if decision and decision.assignments else ""

    async def _write(self) -> None:
        northbound = NativeNorthbound(self.plane.central.nb)
        await northbound.connect(mirrored())
        try:
            actual = {table: northbound.rows(table) for table in TABLES}
            await northbound.transact(full(Desired(self.cluster.engine, northbound.schema), actual).operations)
        finally:
            await northbound.close()

    def said(self, pod: str, target: str, port: int) -> Egress | None:
        """How our trace says that a connection leaves; objects and flows agree."""
        tracer = Tracer(Scene(self.cluster), lambda: FlowTable(self.cluster.engine))
        return tracer.ask(parse_question(f"shop/{pod}", target, "tcp", port), "all").egress

    def tried(self, client: Host, target: str, port: int) -> Heard:
        return ask(client, target, port, servers=self.servers[6 if ":" in target else 4])

    def address(self, pod: str, family: int) -> str:
        return str(self.cluster.engine.rows(ENDPOINT)[NamespacedName("shop", pod)].address(6 if family == 6 else 4))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with short_directory() as directory, Plane(directory) as plane:
        yield Lab(plane)


def _expected(lab: Lab, pods: Iterable[str], node: str, family: int) -> None:
    for pod in pods:
        found = lab.said(pod, OUTSIDERS[family], OUTER_PORT)
        assert found is not None and found.only is not None
        assert (found.egressip, found.only.node, found.only.source_ip) == ("out", node, EGRESS[family])
        heard = lab.tried(lab.plane.pods[pod], OUTSIDERS[family], OUTER_PORT)
        assert heard == Heard("allow", "outside", EGRESS[family]), pod


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("how", ["ready", "reachable", "label"])
def test_the_outside_sees_the_egress_ip_before_and_after_a_node_is_lost(lab: Lab, family: int, how: str) -> None:
    """Between the two steps of a move the pods leave as their nodes."""
    lab.serve(family)
    _expected(lab, ("near", "far"), "n2", family)
    if how == "reachable":
        lab.cluster.report({"n2": NodeHealth(is_reachable=False)})
        lab.program()
    else:
        lab.put(_node("n2", is_ready=how != "ready", is_labelled=how != "label"))
    _expected_own(lab, ("near", "far"), family)
    lab.confirm()
    _expected(lab, ("near", "far"), "n1", family)
    lab.cluster.report({"n2": NodeHealth()})
    lab.put(_node("n2"))
    _expected(lab, ("near", "far"), "n1", family)


def _expected_own(lab: Lab, pods: Iterable[str], family: int) -> None:
    for pod in pods:
        own = NODES[PODS[pod]][0 if family == 4 else 1]
        assert lab.tried(lab.plane.pods[pod], OUTSIDERS[family], OUTER_PORT) == Heard("allow", "outside", own), pod


@pytest.mark.parametrize("family", [4, 6])
def test_others_leave_as_their_node(lab: Lab, family: int) -> None:
    lab.serve(family)
    _expected_own(lab, ("other", "peer"), family)


@pytest.mark.parametrize("family", [4, 6])
def test_pods_see_each_other(lab: Lab, family: int) -> None:
    lab.serve(family)
    for pod, other in (("far", "peer"), ("near", "other"), ("other", "near"), ("peer", "far"), ("near", "far")):
        heard = lab.tried(lab.plane.pods[pod], lab.address(other, family), PORT)
        assert heard == Heard("allow", other, lab.address(pod, family))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("pod", "port"), [("near", NODE_PORT), ("far", NODE_PORT + 1)])
def test_who_is_asked_from_outside_answers_as_who_was_asked(lab: Lab, pod: str, port: int, family: int) -> None:
    """The gateway keeps the client's address, so that nothing but its port tells the answer from a new connection."""
    lab.serve(family)
    asked = NODES[PODS[pod]][0 if family == 4 else 1]
    assert lab.tried(lab.plane.outside, asked, port) == Heard("allow", pod, OUTSIDERS[family])


@pytest.mark.parametrize("family", [4, 6])
def test_nodes_are_reached_without_it(lab: Lab, family: int) -> None:
    """From n1, which holds no egress IP, and from n2, which does, the other node's port is reached as the own node."""
    lab.serve(family)
    _expected_at_nodes(lab, family)


def _expected_at_nodes(lab: Lab, family: int) -> None:
    at = 0 if family == 4 else 1
    assert lab.tried(lab.plane.pods["far"], NODES["n2"][at], NODE_PORT) == Heard("allow", "near", NODES["n1"][at])
    assert lab.tried(lab.plane.pods["near"], NODES["n1"][at], NODE_PORT + 1) == Heard("allow", "far", NODES["n2"][at])


@pytest.mark.parametrize("family", [4, 6])
def test_nodes_are_reached_without_it_where_both_hold_one(lab: Lab, family: int) -> None:
    """What each pod sends outside is seen as one address or the other, and still nodes see the pod's own."""
    lab.serve(family)
    both = (EGRESS[family], _second(family))
    try:
        lab.put(_object(*both))
        _expected_at_nodes(lab, family)
        for pod in ("near", "far"):
            told = lab.said(pod, OUTSIDERS[family], OUTER_PORT)
            assert told is not None
            assert {each.node: each.source_ip for each in told.candidates} == {"n2": both[0], "n1": both[1]}
            for _ in range(4):
                heard = lab.tried(lab.plane.pods[pod], OUTSIDERS[family], OUTER_PORT)
                assert heard[:2] == ("allow", "outside") and heard.client in both, pod
    finally:
        lab.put(_object(EGRESS[family]))
        lab.confirm()


@pytest.mark.parametrize("family", [4, 6])
def test_connections_to_nodes_outlive_a_move(lab: Lab, family: int) -> None:
    """Towards the pod's own node and away from it: a node sees the same address before and after."""
    lab.serve(family)
    own, other = NODES["n2"][0 if family == 4 else 1], NODES["n1"][0 if family == 4 else 1]
    with contextlib.closing(lab.plane.pods["near"].new_socket(family, "tcp")) as connection:
        connection.settimeout(ANSWERED_S)
        connection.connect((other, NODE_PORT + 1))
        accepted, peer = lab.servers[family]["far"].accept()
        with accepted:
            accepted.settimeout(ANSWERED_S)
            assert peer[0] == own
            for holder in ("n2", "n1", "n2"):
                if lab.holder != holder:
                    lab.put(_node(lab.holder, is_labelled=False))
                    lab.confirm()
                    lab.put(_node("n1"), _node("n2"))
                assert lab.holder == holder
                connection.sendall(b"still")
                assert accepted.recv(16) == b"still"
                accepted.sendall(b"there")
                assert connection.recv(16) == b"there"


@pytest.mark.parametrize("family", [4, 6])
def test_groups_hear_selected_pods_on_both_nodes(lab: Lab, family: int) -> None:
    """A reroute takes whatever it matches: without the policy above it that lets groups pass, what a selected pod
    sends would go to the gateway of the node with the egress IP, and to no listener."""
    lab.serve(family)
    group = parse_address(GROUPS[family])
    with contextlib.ExitStack() as stack:
        joined = {
            name: stack.enter_context(contextlib.closing(join(lab.plane.pods[name], group, GROUP_PORT)))
            for name in PODS
        }
        lab.plane.wait_for_members(group, [f"shop_{name}" for name in PODS])
        for source in ("near", "far"):
            call(lab.plane.pods[source], group, GROUP_PORT, [source.encode()])
            assert {name for name, ear in joined.items() if _hears(ear, source.encode())} >= PODS.keys() - {source}


def _hears(ear: socket.socket, word: bytes) -> bool:
    """Whether it comes, also after others: a host hears itself."""
    return word in iter(lambda: heard(ear, 2.0), None)
