"""OutputService through a real channel: lists, watches, and who may hear of what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import output_service_pb2 as pb
from ovnk_client import Client

from tests.kit import manifest as m
from tests.kit.hybrid import LINUX, WINDOWS, hybrid, landscape, pod
from tests.kit.served import Api, Rules, Stand, apply, delete_request, failure, named, served, until

pytestmark = pytest.mark.asyncio
NETWORKS, SUBNET = "k8s.ovn.org/pod-networks", "k8s.ovn.org/hybrid-overlay-node-subnet"
ALL = ["Node /node-1", "Node /node-2", "Node /win-1", "Pod shop/db", "Pod shop/web"]


def name(output: Any) -> str:
    ref = output.reference if isinstance(output, pb.Output) else output
    return f"{ref.kind} {ref.namespace}/{ref.name}"


async def listed(api: Api, **asked: Any) -> list[pb.Output]:
    found: list[pb.Output] = []
    token = ""
    while True:
        page = await api.outputs.ListOutputs(pb.ListOutputsRequest(page_token=token, **asked))
        found += page.outputs
        token = page.next_page_token
        if not token:
            return found


async def decided(stand: Stand, api: Api) -> None:
    """The landscape, and all that is decided for it."""
    await apply(api, *landscape(9898))
    await until(lambda: len(stand.keeper.plane.told("Pod")) == 2)


async def test_outputs_are_listed_page_by_page(stand: Stand, api: Api) -> None:
    await decided(stand, api)
    found = await listed(api)
    assert list(map(name, found)) == ALL
    assert [name(each) for each in await listed(api, page_size=2)] == ALL
    assert [name(each) for each in await listed(api, kind="Pod", page_size=1)] == ALL[3:]
    assert [name(each) for each in await listed(api, namespace="shop")] == ALL[3:]
    assert await listed(api, namespace="other") == []
    linux, windows, web = found[0], found[2], found[4]
    assert (linux.geneve_port, linux.vxlan_port, linux.mtu) == (6081, 9898, 1400)
    assert (windows.HasField("geneve_port"), windows.vxlan_port) == (False, 9898)
    assert dict(windows.annotations) == {SUBNET: "10.132.0.0/23"}
    assert '"10.128.0.4/23"' in web.annotations[NETWORKS]
    assert not web.HasField("mtu")


async def test_a_caller_hears_of_what_it_may_list(stand: Stand, api: Api) -> None:
    await decided(stand, api)
    await apply(api, m.namespace("lab"), {**pod("own", LINUX), "metadata": {"name": "own", "namespace": "lab"}})
    await until(lambda: len(stand.keeper.plane.told("Pod")) == 3)
    ann = await stand.caller("ann", Rules(("list watch", "Pod", "lab")))
    assert [name(each) for each in await listed(ann)] == ["Pod lab/own"]
    refused = await failure(ann.outputs.ListOutputs(pb.ListOutputsRequest(namespace="shop")))
    assert refused.code is StatusCode.PERMISSION_DENIED
    events = ann.outputs.WatchOutputs(pb.WatchOutputsRequest())
    assert name((await events.read()).changed) == "Pod lab/own"
    assert (await events.read()).HasField("synced")
    await api.objects.Delete(delete_request(named("Pod", "web", "shop"), named("Pod", "own", "lab")))
    assert name((await events.read()).removed) == "Pod lab/own"
    events.cancel()


@pytest.mark.parametrize("method", ["ListOutputs", "WatchOutputs"])
async def test_a_kind_that_is_told_nothing(api: Api, method: str) -> None:
    refused = await failure(getattr(api.outputs, method)(getattr(pb, f"{method}Request")(kind="Namespace")))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in refused.violations] == ["kind"]


async def test_a_watch_tells_everything_then_every_change(stand: Stand, api: Api) -> None:
    await decided(stand, api)
    events = api.outputs.WatchOutputs(pb.WatchOutputsRequest())
    assert [name((await events.read()).changed) for _ in ALL] == ALL
    synced = await events.read()
    assert 0 < synced.synced.revision <= stand.keeper.revision
    await apply(api, pod("new", LINUX))
    assert name((await events.read()).changed) == "Pod shop/new"
    await apply(api, hybrid(9898, geneve=7000))
    changed = [(await events.read()).changed for _ in range(2)]
    assert [(name(each), each.geneve_port) for each in changed] == [("Node /node-1", 7000), ("Node /node-2", 7000)]
    await api.objects.Delete(delete_request(named("Node", WINDOWS)))
    assert name((await events.read()).removed) == f"Node /{WINDOWS}"
    events.cancel()


async def test_the_client_lists_and_watches() -> None:
    async with served() as stand:
        api = await stand.caller()
        await decided(stand, api)
        async with Client(f"unix:{stand._folder}/s1") as client:
            assert [name(each) async for each in client.outputs()] == ALL
            async with client.watch_outputs("Node") as events:
                kinds = [(await anext(events)).WhichOneof("event") for _ in range(4)]
                assert kinds == ["changed", "changed", "changed", "synced"]
                waiting = asyncio.ensure_future(anext(events))
                await api.objects.Delete(delete_request(named("Node", "node-2")))
                assert name((await waiting).removed) == "Node /node-2"


async def routed(stand: Stand, api: Api) -> None:
    """shop/web is an egress router by a definition of the namespace ``nets``."""
    notes = {"k8s.v1.cni.cncf.io/networks": "nets/router"}
    router = m.pod("web", metadata={"annotations": notes}, spec={"nodeName": "n1"})
    definition = m.network_attachment() | {"metadata": {"name": "router", "namespace": "nets"}}
    await apply(api, m.node("n1"), m.namespace("shop"), m.namespace("nets"), definition, router)
    await until(lambda: len(stand.keeper.plane.told("Pod")) == 1)


async def test_an_egress_router_pod_is_told_its_plan(stand: Stand, api: Api) -> None:
    await routed(stand, api)
    (output,) = await listed(api, kind="Pod")
    plan = output.egress_router
    assert (plan.network.namespace, plan.network.name, plan.node, plan.interface) == ("nets", "router", "n1", "net1")
    assert (plan.address, plan.gateway) == ("192.168.12.99/24", "192.168.12.1")
    assert f"snat to {plan.address.partition('/')[0]}" in plan.nft and plan.routes[0].startswith("default via")
    assert any("no Service selects it" in text for text in plan.warnings)


async def test_a_plan_that_changes_is_an_event(stand: Stand, api: Api) -> None:
    await routed(stand, api)
    events = api.outputs.WatchOutputs(pb.WatchOutputsRequest(kind="Pod"))
    first = (await events.read()).changed
    assert first.egress_router.address == "192.168.12.99/24"
    assert (await events.read()).HasField("synced")
    await api.objects.Delete(delete_request(named("NetworkAttachmentDefinition", "router", "nets")))
    changed = (await events.read()).changed
    assert name(changed) == "Pod shop/web"
    assert (changed.annotations, changed.HasField("egress_router")) == (first.annotations, False)
    await api.objects.Delete(delete_request(named("Pod", "web", "shop")))
    assert name((await events.read()).removed) == "Pod shop/web"
    events.cancel()


async def test_a_plan_is_for_those_who_may_read_its_definition(stand: Stand, api: Api) -> None:
    await routed(stand, api)
    ann = await stand.caller("ann", Rules(("list watch", "Pod", "*")))
    (output,) = await listed(ann, kind="Pod")
    assert output.annotations and not output.HasField("egress_router")
    events = ann.outputs.WatchOutputs(pb.WatchOutputsRequest(kind="Pod"))
    assert not (await events.read()).changed.HasField("egress_router")
    events.cancel()
    bob = await stand.caller("bob", Rules(("list watch", "Pod NetworkAttachmentDefinition", "*")))
    (output,) = await listed(bob, kind="Pod")
    assert output.egress_router.address and not output.egress_router.warnings, "a warning may speak of a node"
    events = bob.outputs.WatchOutputs(pb.WatchOutputsRequest(kind="Pod"))
    assert (output.egress_router.node, (await events.read()).changed.egress_router.node) == ("", "")
    events.cancel()
    eve = await stand.caller("eve", Rules(("list", "Pod NetworkAttachmentDefinition", "*"), ("get", "Node", "* -")))
    (output,) = await listed(eve, kind="Pod")
    assert output.egress_router.node == "n1", "nodes are named to whoever may get them"
