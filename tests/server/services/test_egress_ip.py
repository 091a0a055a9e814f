"""EgressIPService through a real channel, and what the statuses of EgressIPs show."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import egress_ip_service_pb2 as pb
from ovnk_api.v1 import event_service_pb2, object_service_pb2, output_service_pb2
from ovnk_client import Client, NotFound

from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.northbound.memory import MemoryDatabase
from ovnk_core.store.memory import MemoryLogDatabase
from tests.kit.served import Api, Rules, Stand, apply, failure, named, served, until

pytestmark = pytest.mark.asyncio
ASSIGNABLE = {"k8s.ovn.org/egress-assignable": ""}


def node(name: str, number: int, *, is_labelled: bool = True, ready: str = "True") -> dict[str, Any]:
    status = {
        "addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}],
        "conditions": [{"type": "Ready", "status": ready}],
    }
    meta = {"name": name, "labels": ASSIGNABLE if is_labelled else {}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status}


def egress_ip(name: str, *addresses: str) -> dict[str, Any]:
    spec = {"egressIPs": list(addresses), "namespaceSelector": {}}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": name}, "spec": spec}


NODES = (node("n1", 1), node("n2", 2), node("n3", 3, is_labelled=False))


async def where(api: Api, **asked: Any) -> dict[str, str]:
    """Address -> node, or the reason."""
    found: dict[str, str] = {}
    token = ""
    while True:
        page = await api.egress_ips.ListAssignments(pb.ListAssignmentsRequest(page_token=token, **asked))
        for one in page.egress_ips:
            found |= {each.address: each.node for each in one.assignments}
            found |= {each.address: pb.UnassignedReason.Name(each.reason) for each in one.unassigned}
        token = page.next_page_token
        if not token:
            return found


async def settled(stand: Stand, api: Api, expected: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while await where(api) != expected:
            await asyncio.sleep(0.005)


def moves(answer: Any) -> list[tuple[str, str, str, str]]:
    return [(each.egress_ip_name, each.address, each.from_node, each.to_node) for each in answer.moves]


async def nodes(api: Api, **asked: Any) -> list[tuple[str, bool, str, int]]:
    page = await api.egress_ips.ListEgressNodes(pb.ListEgressNodesRequest(**asked))
    return [
        (each.name, each.is_assignable, pb.UnfitReason.Name(each.reason)[len("UNFIT_REASON_") :], each.load)
        for each in page.nodes
    ]


async def test_assignments_by_object_and_by_node(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100", "192.0.2.101", "192.0.2.102"), egress_ip("b", "192.0.9.1"))
    everything = {
        "192.0.2.100": "n1",
        "192.0.2.101": "n2",
        "192.0.2.102": "UNASSIGNED_REASON_CAPACITY",
        "192.0.9.1": "UNASSIGNED_REASON_SUBNET",
    }
    assert await where(api) == everything
    assert await where(api, page_size=1) == everything
    assert await where(api, node="n3") == {}
    assert "192.0.9.1" not in await where(api, node="n1")
    assert await nodes(api) == [
        ("n1", True, "UNSPECIFIED", 1),
        ("n2", True, "UNSPECIFIED", 1),
        ("n3", False, "NOT_LABELLED", 0),
    ]
    page = await api.egress_ips.ListEgressNodes(pb.ListEgressNodesRequest(page_size=2))
    assert [each.name for each in page.nodes] == ["n1", "n2"]
    assert [each[0] for each in await nodes(api, page_token=page.next_page_token)] == ["n3"]


async def test_a_node_that_is_drained_gives_its_addresses_away(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
    tried = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1", validate_only=True))
    assert moves(tried) == [("a", "192.0.2.100", "n1", "n2")]
    assert await where(api) == {"192.0.2.100": "n1"}
    done = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1", wait=True))
    assert moves(done) == [("a", "192.0.2.100", "n1", "n2")]
    assert done.revision > tried.revision
    assert await where(api) == {"192.0.2.100": "n2"}
    assert (await nodes(api))[0] == ("n1", False, "DRAINED", 0)
    again = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1", wait=True))
    assert not again.moves and again.revision == stand.keeper.revision
    would = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n2", validate_only=True))
    last = await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n2", wait=True))
    assert would.moves == last.moves
    assert moves(last) == [("a", "192.0.2.100", "n2", "")] and last.moves[0].message.startswith("no node is labelled")
    assert await where(api) == {"192.0.2.100": "UNASSIGNED_REASON_NO_NODE"}
    await api.egress_ips.UndrainNode(pb.UndrainNodeRequest(node="n1"))
    await settled(stand, api, {"192.0.2.100": "n1"})


async def test_what_is_heard_of_a_node_leaves_its_drain_alone(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
    await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1"))
    for is_reachable in (False, True):
        heard = [pb.NodeReachability(node="n1", is_reachable=is_reachable)]
        await api.egress_ips.ReportReachability(pb.ReportReachabilityRequest(nodes=heard))
        (first, *_) = (await api.egress_ips.ListEgressNodes(pb.ListEgressNodesRequest())).nodes
        assert (first.is_drained, first.is_reachable) == (True, is_reachable)
    await api.egress_ips.UndrainNode(pb.UndrainNodeRequest(node="n1"))
    asked = event_service_pb2.ListEventsRequest(kind="Node", name="n1")
    told = [each.reason for each in (await api.events.ListEvents(asked)).events]
    assert [each for each in told if each != "Created"] == ["Drained", "Unreachable", "Reachable", "Uncordoned"]
    await api.egress_ips.UndrainNode(pb.UndrainNodeRequest(node="n1"))
    assert (await nodes(api))[0][:2] == ("n1", True)


async def test_reachability_moves_what_is_there(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
    heard = [pb.NodeReachability(node="n1", is_reachable=False), pb.NodeReachability(node="n2", is_reachable=True)]
    done = await api.egress_ips.ReportReachability(pb.ReportReachabilityRequest(nodes=heard))
    assert done.revision > 0
    await settled(stand, api, {"192.0.2.100": "n2"})
    await until(lambda: stand.keeper.plane.cluster.leaving == {})
    await stand.keeper.plane.record_decisions()
    same = await api.egress_ips.ReportReachability(pb.ReportReachabilityRequest(nodes=heard))
    assert same.revision == stand.keeper.revision
    assert (await nodes(api))[0] == ("n1", False, "UNREACHABLE", 0)


async def test_rebalancing_tells_what_moves_and_moves_it(stand: Stand, api: Api) -> None:
    await apply(api, NODES[0], *(egress_ip(f"e{number}", f"192.0.2.10{number}") for number in range(4)))
    await apply(api, NODES[1])
    await stand.keeper.plane.record_decisions()
    assert set((await where(api)).values()) == {"n1"}
    tried = await api.egress_ips.Rebalance(pb.RebalanceRequest(validate_only=True))
    assert len(tried.moves) == 2 and {each.to_node for each in tried.moves} == {"n2"}
    assert tried.revision == stand.keeper.revision
    assert set((await where(api)).values()) == {"n1"}
    done = await api.egress_ips.Rebalance(pb.RebalanceRequest())
    assert moves(done) == moves(tried)
    expected = {f"192.0.2.10{number}": "n1" for number in range(4)} | {each.address: "n2" for each in tried.moves}
    await settled(stand, api, expected)
    assert not (await api.egress_ips.Rebalance(pb.RebalanceRequest())).moves


async def test_bad_requests_change_nothing(stand: Stand, api: Api) -> None:
    await apply(api, *NODES)
    await stand.keeper.plane.record_decisions()
    revision, calls = stand.keeper.revision, api.egress_ips
    twice = [pb.NodeReachability(node="n1"), pb.NodeReachability(node="n1")]
    unknown = [pb.NodeReachability(node="n1"), pb.NodeReachability(node="n9")]
    many = [pb.NodeReachability(node=f"n{number}") for number in range(1_001)]
    for call, code, field in (
        (calls.ReportReachability(pb.ReportReachabilityRequest(nodes=twice)), "INVALID_ARGUMENT", "nodes[1].node"),
        (calls.ReportReachability(pb.ReportReachabilityRequest(nodes=many)), "INVALID_ARGUMENT", "nodes"),
        (calls.ReportReachability(pb.ReportReachabilityRequest(nodes=unknown)), "NOT_FOUND", ""),
        (calls.DrainNode(pb.DrainNodeRequest()), "INVALID_ARGUMENT", "node"),
        (calls.DrainNode(pb.DrainNodeRequest(node="n9")), "NOT_FOUND", ""),
        (calls.UndrainNode(pb.UndrainNodeRequest(node="n9")), "NOT_FOUND", ""),
    ):
        failed = await failure(call)
        assert failed.code is StatusCode[code]
        assert [each for each, _ in failed.violations] == ([field] if field else [])
    assert stand.keeper.revision == revision


async def test_what_rules_allow(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
    reader = await stand.caller("ann", Rules(("list", "EgressIP", "-")))
    assert await where(reader) == {"192.0.2.100": ""}, "nodes are another matter"
    assert await where(await stand.caller("eve", Rules(("list", "EgressIP Node", "-")))) == {"192.0.2.100": "n1"}
    assert await nodes(reader) == []
    assert await where(await stand.caller("bob", Rules(("list", "Node", "-")))) == {}
    prober = await stand.caller("probe", Rules(("egress", "Node", "-")))
    heard = [pb.NodeReachability(node="n1", is_reachable=True)]
    await prober.egress_ips.ReportReachability(pb.ReportReachabilityRequest(nodes=heard))
    for call in (
        prober.egress_ips.Rebalance(pb.RebalanceRequest()),
        reader.egress_ips.DrainNode(pb.DrainNodeRequest(node="n9")),
        reader.egress_ips.UndrainNode(pb.UndrainNodeRequest(node="n1")),
        reader.egress_ips.ReportReachability(pb.ReportReachabilityRequest(nodes=heard)),
    ):
        assert (await failure(call)).code is StatusCode.PERMISSION_DENIED


async def test_a_server_without_the_turn_answers_lists_and_takes_nothing() -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    first, second = KeeperSettings(holder="one"), KeeperSettings(holder="two")
    async with served(log=log, northbound=northbound, settings=first) as stand:
        api = await stand.caller()
        await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
        await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1", wait=True))
        async with served(log=log, northbound=northbound, settings=second) as other:
            them = await other.caller()
            await settled(other, them, {"192.0.2.100": "n2"})
            assert await nodes(them) == await nodes(api)
            for call in (
                them.egress_ips.Rebalance(pb.RebalanceRequest(validate_only=True)),
                them.egress_ips.DrainNode(pb.DrainNodeRequest(node="n2")),
                them.egress_ips.UndrainNode(pb.UndrainNodeRequest(node="n1")),
                them.egress_ips.ReportReachability(pb.ReportReachabilityRequest()),
            ):
                failed = await failure(call)
                assert (failed.reason, failed.facts["writer"]) == ("NOT_WRITER", "one")


async def shown(api: Api, name: str, assigned: str) -> Any:
    """The status once what was decided is on record and its condition says so."""
    async with asyncio.timeout(10):
        while True:
            found = await api.objects.Get(object_service_pb2.GetRequest(reference=named("EgressIP", name)))
            status = found.object.egress_ip.status
            if [each.status for each in status.conditions] == [assigned]:
                return status
            await asyncio.sleep(0.005)


async def test_the_status_says_where_addresses_are_and_why_not(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100", "192.0.2.1"))
    status = await shown(api, "a", "False")
    assert [(each.node, each.egress_ip) for each in status.items] == [("n1", "192.0.2.100")]
    assert list(status.assignments) == list(status.items)
    (condition,) = status.conditions
    assert (condition.type, condition.status, condition.reason) == ("Assigned", "False", "Conflict")
    assert condition.message.startswith("192.0.2.1: ")
    asked = event_service_pb2.ListEventsRequest(kind="EgressIP", name="a")
    events = [(each.reason, each.message) for each in (await api.events.ListEvents(asked)).events]
    assert ("Assigned", "192.0.2.100 is on node n1") in events
    assert any(reason == "Conflict" and message.startswith("192.0.2.1: ") for reason, message in events)
    await apply(api, egress_ip("a", "192.0.2.100"))
    (condition,) = (await shown(api, "a", "True")).conditions
    assert (condition.reason, condition.message) == ("Assigned", "")


async def test_a_watch_tells_of_a_move(stand: Stand, api: Api) -> None:
    await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
    await shown(api, "a", "True")
    watch = api.objects.Watch(object_service_pb2.WatchRequest(kinds=["EgressIP"]))
    seen: list[str] = []
    async with asyncio.timeout(10):
        while "n2" not in seen:
            event = await watch.read()
            if event.HasField("synced"):
                await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1"))
            elif event.WhichOneof("event") in ("added", "modified"):
                status = getattr(event, event.WhichOneof("event")).object.egress_ip.status
                seen.append(",".join(each.node for each in status.items))
    watch.cancel()
    # The withdrawal is a change, too, but a status is that of the moment it is sent.
    assert seen in (["n1", "", "n2"], ["n1", "n2"], ["n1", "n2", "n2"])


async def test_the_client() -> None:
    async with served() as stand:
        api = await stand.caller()
        await apply(api, *NODES, egress_ip("a", "192.0.2.100"))
        async with Client(f"unix:{stand._folder}/s1") as client:
            assert [each.name async for each in client.egress_assignments("n1")] == ["a"]
            assert [each.name async for each in client.egress_nodes()] == ["n1", "n2", "n3"]
            assert not (await client.rebalance(validate_only=True)).moves
            assert moves(await client.drain("n1", wait=True)) == [("a", "192.0.2.100", "n1", "n2")]
            undrained = await client.undrain("n1")
            assert (undrained.revision, undrained.was_drained) == (stand.keeper.revision, True)
            assert not (await client.undrain("n1")).was_drained
            await client.report_reachability({"n2": False})
            await settled(stand, api, {"192.0.2.100": "n1"})
            with pytest.raises(NotFound):
                await client.report_reachability({"n9": False})


async def test_a_move_changes_the_outputs_of_two_nodes(stand: Stand, api: Api) -> None:
    """First that of the node that held the address, then that of the one that holds it now, and of no other."""
    await apply(api, *NODES, node("n4", 4), egress_ip("a", "192.0.2.100", "192.0.2.101"))
    await stand.keeper.plane.record_decisions()
    events = api.outputs.WatchOutputs(output_service_pb2.WatchOutputsRequest(kind="Node"))
    first = [(await events.read()).changed for _ in range(4)]
    assert [list(each.egress_ips) for each in first] == [["192.0.2.100"], ["192.0.2.101"], [], []]
    assert (await events.read()).HasField("synced")
    await api.egress_ips.DrainNode(pb.DrainNodeRequest(node="n1", wait=True))
    await apply(api, node("n5", 5))
    changed = [(await events.read()).changed for _ in range(3)]
    told = [(each.reference.name, list(each.egress_ips)) for each in changed]
    assert told == [("n1", []), ("n4", ["192.0.2.100"]), ("n5", [])]
    events.cancel()
    ann = await stand.caller("ann", Rules(("list watch", "Node", "-")))
    page = await ann.outputs.ListOutputs(output_service_pb2.ListOutputsRequest())
    assert len(page.outputs) == 5 and not any(each.egress_ips for each in page.outputs), "they are of EgressIPs"
