"""What callers who may not read everything find out about egress IPs, the nodes that hold them, and other tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode
from ovnk_api.v1 import certificate_service_pb2 as certificates
from ovnk_api.v1 import egress_ip_service_pb2 as pb
from ovnk_api.v1 import event_service_pb2, object_service_pb2, output_service_pb2, trace_service_pb2, verdict_pb2
from ovnk_server.audit import LOGGER
from ovnk_server.authorisation import parse
from ovnk_server.hearing import put_out

from ovnk_core.errors import Mention
from tests.kit import manifest as m
from tests.kit.served import Api, Stand, apply, failure, named, take

pytestmark = pytest.mark.asyncio

RULES = """
[[rule]]
identities = ["tenant"]
verbs = ["get", "list", "watch", "trace", "apply", "egress", "northbound"]
namespaces = ["project1"]

[[rule]]
identities = ["reader"]
verbs = ["get", "list", "watch", "northbound"]
kinds = ["EgressIP"]

[[rule]]
identities = ["reader"]
verbs = ["get", "trace"]
kinds = ["Pod", "Namespace"]
namespaces = ["project1"]

[[rule]]
identities = ["operator"]
verbs = ["egress"]
kinds = ["EgressIP", "Node"]

[[rule]]
identities = ["admin"]
verbs = ["*"]
"""
PROJECTS = ("project1", "project2")
NODES = ("hidden-1", "hidden-10", "hidden-2")
NODE_ADDRESSES = ("192.0.2.211", "192.0.2.212", "192.0.2.213")
ADDRESSES = ("192.0.2.100", "192.0.2.101", "192.0.2.102")
OF_OTHERS = ("project2", "quiet", "lone", *ADDRESSES)
"""A namespace, a pod and EgressIPs that the tenant of project1 has nothing to do with."""


def node(name: str, address: str) -> dict[str, Any]:
    return m.node(name, address=address, metadata={"labels": {"k8s.ovn.org/egress-assignable": ""}})


def egress_ip(name: str, *addresses: str) -> dict[str, Any]:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "project2" if name == "lone" else "project1"}}
    spec = {"egressIPs": list(addresses), "namespaceSelector": selector}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": name}, "spec": spec}


def pod(name: str, namespace: str) -> dict[str, Any]:
    return m.pod(name, namespace, spec={"nodeName": NODES[0]})


@pytest_asyncio.fixture
async def cluster(stand: Stand) -> AsyncIterator[Stand]:
    """Two EgressIPs; of ``quiet`` an address is a node's. One address has moved."""
    api = await stand.caller()
    labelled = [m.namespace(name, metadata={"labels": {"kubernetes.io/metadata.name": name}}) for name in PROJECTS]
    await apply(api, *map(node, NODES, NODE_ADDRESSES), *labelled, pod("web", "project1"), pod("db", "project2"))
    await apply(api, egress_ip("quiet", *ADDRESSES[:2], NODE_ADDRESSES[1]), egress_ip("lone", ADDRESSES[2]))
    await stand.keeper.plane.record_decisions()
    await api.egress_ips.DrainNode(pb.DrainNodeRequest(node=NODES[2], wait=True))
    await api.egress_ips.UndrainNode(pb.UndrainNodeRequest(node=NODES[2]))
    yield stand


async def caller(stand: Stand, identity: str) -> Api:
    return await stand.caller(identity, parse(RULES, "rules.toml"))


async def egress_of(api: Api, source: str, target: str) -> verdict_pb2.Answer:
    question = verdict_pb2.Question(source=source, target=target, engine=verdict_pb2.ENGINE_ALL)
    return (await api.trace.Trace(trace_service_pb2.TraceRequest(question=question))).answer


async def watched(api: Api) -> list[Any]:
    """Everything that a watch begins with."""
    events = api.objects.Watch(object_service_pb2.WatchRequest(kinds=["EgressIP", "Node"]))
    found: list[Any] = []
    while not found or not found[-1].HasField("synced"):
        found += await take(events, 1)
    events.cancel()
    return found


async def told(api: Api) -> dict[str, Any]:
    """What a caller hears of EgressIPs and nodes by everything that lists."""
    calls = api.egress_ips
    return {
        "assignments": await calls.ListAssignments(pb.ListAssignmentsRequest()),
        "nodes": await calls.ListEgressNodes(pb.ListEgressNodesRequest()),
        "objects": await api.objects.List(object_service_pb2.ListRequest(kind="EgressIP")),
        "watch": await watched(api),
        "events": await api.events.ListEvents(event_service_pb2.ListEventsRequest()),
        "outputs": await api.outputs.ListOutputs(output_service_pb2.ListOutputsRequest()),
    }


def holds(text: object, secrets: tuple[str, ...]) -> list[str]:
    return [each for each in secrets if each in str(text)]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "rebalance": lambda calls: calls.Rebalance(pb.RebalanceRequest()),
    "tried": lambda calls: calls.Rebalance(pb.RebalanceRequest(validate_only=True)),
    "drain": lambda calls: calls.DrainNode(pb.DrainNodeRequest(node=NODES[0])),
    "drain of none": lambda calls: calls.DrainNode(pb.DrainNodeRequest(node="absent", validate_only=True)),
    "undrain": lambda calls: calls.UndrainNode(pb.UndrainNodeRequest(node="absent")),
    "report": lambda calls: calls.ReportReachability(
        pb.ReportReachabilityRequest(nodes=[pb.NodeReachability(node=NODES[0])])
    ),
}


async def test_nobody_hears_nothing_and_changes_nothing(cluster: Stand) -> None:
    api = await caller(cluster, "nobody")
    calls, certs = api.egress_ips, api.certificates
    for call in (
        calls.ListAssignments(pb.ListAssignmentsRequest()),
        calls.ListEgressNodes(pb.ListEgressNodesRequest()),
        *(change(calls) for change in CHANGES.values()),
        certs.GetAuthority(certificates.GetAuthorityRequest()),
        certs.GetCertificateStatus(certificates.GetCertificateStatusRequest()),
        certs.SignCertificate(certificates.SignCertificateRequest(node=NODES[0])),
        certs.RotateAuthority(certificates.RotateAuthorityRequest()),
    ):
        failed = await failure(call)
        assert (failed.code, failed.text) == (StatusCode.PERMISSION_DENIED, "nobody is named by no rule")


async def test_the_tenant_of_a_namespace_hears_of_its_own_pods_only(cluster: Stand) -> None:
    api = await caller(cluster, "tenant")
    found = await told(api)
    assert not holds(found, (*NODES, *NODE_ADDRESSES, *OF_OTHERS))
    assert not found["assignments"].egress_ips and not found["nodes"].nodes
    answer = await egress_of(api, "project1/web", "203.0.113.9:443")
    assert answer.verdict == verdict_pb2.VERDICT_ALLOW and answer.is_redacted
    assert answer.egress == verdict_pb2.Egress(candidates=[verdict_pb2.EgressCandidate()])
    assert not holds(answer, (*NODES, *NODE_ADDRESSES, *OF_OTHERS))
    for call in CHANGES.values():
        failed = await failure(call(api.egress_ips))
        assert failed.code is StatusCode.PERMISSION_DENIED and "absent" not in failed.text
    # That a node holds something is not to be asked about either, whether there is such a node or not.
    denials = [
        (await failure(api.egress_ips.ListAssignments(pb.ListAssignmentsRequest(node=name)))).text
        for name in (NODES[0], "absent")
    ]
    assert denials == ["tenant may not list Node"] * 2


async def test_whoever_reads_egress_ips_hears_of_no_node(cluster: Stand) -> None:
    api = await caller(cluster, "reader")
    found = await told(api)
    assert not holds(found, NODES)
    first, second = found["assignments"].egress_ips
    assert (first.name, second.name, second.is_redacted) == ("lone", "quiet", True)
    assert [(each.address, each.node) for each in second.assignments] == [(each, "") for each in ADDRESSES[:2]]
    assert second.unassigned[0].message == "is an address of a node that you may not read"
    status = next(each.egress_ip.status for each in found["objects"].objects if each.egress_ip.metadata.name == "quiet")
    assert [(each.HasField("node"), each.egress_ip) for each in status.items] == [
        (False, each) for each in ADDRESSES[:2]
    ]
    assert "a node that you may not read" in status.conditions[0].message
    texts = [each.message for each in found["events"].events]
    assert any(each.endswith("is on a node that you may not read") for each in texts)
    assert any("leaves a node that you may not read" in each for each in texts)
    assert (await failure(api.egress_ips.ListAssignments(pb.ListAssignmentsRequest(node=NODES[0])))).code == (
        StatusCode.PERMISSION_DENIED
    )
    for call in CHANGES.values():
        assert (await failure(call(api.egress_ips))).code is StatusCode.PERMISSION_DENIED


async def test_the_same_moment_is_told_to_each_as_it_may_hear_it(cluster: Stand) -> None:
    """Messages are shared between watches: whoever comes second is not told what the first one may know."""
    get = object_service_pb2.GetRequest(reference=named("EgressIP", "lone"))
    for who, is_told in (("admin", True), ("reader", False), ("admin", True)):
        answer = await (await caller(cluster, who)).objects.Get(get)
        assert bool(holds(answer, NODES)) is is_told
        assert bool(holds(await watched(await caller(cluster, who)), NODES)) is is_told


async def test_a_watch_ends_when_its_caller_may_hear_of_nodes_or_no_more(cluster: Stand) -> None:
    """What it was told without nodes is behind it."""
    api = await caller(cluster, "reader")
    events = api.objects.Watch(object_service_pb2.WatchRequest(kinds=["EgressIP"]))
    assert [each.WhichOneof("event") for each in await take(events, 3)] == ["added", "added", "synced"]
    api.ruled(parse(RULES.replace('kinds = ["EgressIP"]', 'kinds = ["EgressIP", "Node"]'), "rules.toml"))
    async with asyncio.timeout(10):
        assert (await failure(events)).reason == "POLICY_CHANGED"
    assert holds(await watched(api), NODES)


async def test_a_name_that_begins_another_leaves_no_rest_of_it() -> None:
    mentions = (Mention("Node", "", "n1"), Mention("Node", "", "n10"))
    text = put_out("it is on node n10, moved from node n1", mentions, lambda ref: False)
    assert text == "it is on a node that you may not read, moved from a node that you may not read"


async def test_a_trace_names_nodes_and_their_addresses_to_who_may_read_them(cluster: Stand) -> None:
    reader, admin = await caller(cluster, "reader"), await caller(cluster, "admin")
    outside, taken = ("project1/web", "203.0.113.9:443"), ("project1/web", f"{ADDRESSES[2]}:443")
    answer = await egress_of(reader, *outside)
    assert answer.egress.egressip == "quiet" and answer.is_redacted
    assert [(each.node, each.source_ip) for each in answer.egress.candidates] == [("", each) for each in ADDRESSES[:2]]
    assert not holds([answer, await egress_of(reader, *taken)], (*NODES, *NODE_ADDRESSES))
    everything = await egress_of(admin, *outside)
    assert holds(everything, NODES[:1]) and not everything.is_redacted
    await (await cluster.caller()).objects.Delete(
        object_service_pb2.DeleteRequest(items=[object_service_pb2.DeleteItem(reference=named("EgressIP", "quiet"))])
    )
    plain = await egress_of(reader, *outside)
    assert [(each.node, each.source_ip) for each in plain.egress.candidates] == [("", "")] and plain.is_redacted
    assert not holds(plain, (*NODES, *NODE_ADDRESSES))
    (way,) = (await egress_of(admin, *outside)).egress.candidates
    assert (way.node, way.source_ip) == (NODES[0], NODE_ADDRESSES[0])


async def test_whoever_may_only_move_is_not_told_what_moves(cluster: Stand) -> None:
    api = await caller(cluster, "operator")
    secrets = (*NODES, *NODE_ADDRESSES, *OF_OTHERS)
    assert not holds(await told(api), secrets)
    tried = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node=NODES[0], validate_only=True))
    done = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node=NODES[0], wait=True))
    assert tried.is_redacted and done.is_redacted and not tried.moves and not done.moves
    await api.egress_ips.UndrainNode(pb.UndrainNodeRequest(node=NODES[0]))
    balanced = await api.egress_ips.Rebalance(pb.RebalanceRequest(validate_only=True))
    assert balanced.is_redacted and not balanced.moves
    await api.egress_ips.ReportReachability(
        pb.ReportReachabilityRequest(nodes=[pb.NodeReachability(node=NODES[0], is_reachable=True)])
    )


async def test_the_administrator_hears_everything(cluster: Stand) -> None:
    api = await caller(cluster, "admin")
    found = await told(api)
    for name in ("assignments", "nodes", "objects", "watch", "events", "outputs"):
        assert holds(found[name], NODES), name
    drained = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node=NODES[0], validate_only=True))
    assert drained.moves and drained.moves[0].from_node == NODES[0] and not drained.is_redacted
    assert not any(each.is_redacted for each in found["assignments"].egress_ips)


SIGNING: dict[str, Callable[[Any], Any]] = {
    "SignCertificate": lambda calls: calls.SignCertificate(certificates.SignCertificateRequest(node=NODES[0])),
    "RotateAuthority": lambda calls: calls.RotateAuthority(certificates.RotateAuthorityRequest()),
}


async def test_every_change_is_audited_also_one_that_was_refused(
    cluster: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOGGER.name)
    api = await caller(cluster, "reader")
    for call in CHANGES.values():
        await failure(call(api.egress_ips))
    for call in SIGNING.values():
        await failure(call(api.certificates))
    await (await caller(cluster, "admin")).egress_ips.Rebalance(pb.RebalanceRequest())
    found = [
        (each["identity"], each["method"].rpartition("/")[2], each["outcome"], each["objects"])
        for each in map(vars, caplog.records)
        if each["name"] == LOGGER.name
    ]
    # What is only tried out is no change.
    expected = [
        ("Rebalance", []),
        ("DrainNode", [f"Node/{NODES[0]}"]),
        ("UndrainNode", ["Node/absent"]),
        ("ReportReachability", [f"Node/{NODES[0]}"]),
        ("SignCertificate", [f"Node/{NODES[0]}"]),
        ("RotateAuthority", []),
    ]
    denied = [("reader", method, "PERMISSION_DENIED", objects) for method, objects in expected]
    assert found == [*denied, ("admin", "Rebalance", "OK", [])]
