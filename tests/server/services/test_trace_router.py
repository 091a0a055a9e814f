"""Egress routers through TraceService: what is answered, and what of it who may not read."""

from __future__ import annotations

import json

import pytest
from ovnk_api.v1 import verdict_pb2 as verdicts

from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply
from tests.server.services.test_trace_services import ask, load

pytestmark = pytest.mark.asyncio
TRACES = ("trace", "Pod", "shop lab")
FIREWALL = {
    "apiVersion": "k8s.ovn.org/v1",
    "kind": "EgressFirewall",
    "metadata": {"name": "default", "namespace": "shop"},
    "spec": {"egress": [{"type": "Allow", "to": {"cidrSelector": "0.0.0.0/0"}}]},
}
SECRETS = ("192.168.12.91", "192.168.12.99", "net1", "router")


async def routed(stand: Stand, api: Api) -> None:
    """shop/web is an egress router."""
    await load(stand, api, "shop/web")
    notes = {"k8s.v1.cni.cncf.io/networks": "router"}
    pod = m.pod("web", metadata={"labels": {"app": "web"}, "annotations": notes}, spec={"nodeName": "n1"})
    done = await apply(api, m.network_attachment(), pod)
    await stand.keeper.wait(done.revision, "programmed", 10)


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
async def test_the_hop_is_told(stand: Stand, api: Api, engine: verdicts.Engine.ValueType) -> None:
    await routed(stand, api)
    for target in ("shop/web:80", "svc:shop/front:80"):
        answer = await ask(api, "lab/client", target, engine=engine)
        port = 80 if target == "shop/web:80" else 8080
        hop = answer.egress_router
        assert (hop.pod.kind, hop.pod.name, hop.network.kind) == ("Pod", "web", "NetworkAttachmentDefinition")
        assert (hop.node, hop.interface) == ("n1", "net1")
        assert (hop.source_ip, hop.destination) == ("192.168.12.99", f"192.168.12.91:{port}")
        assert (answer.legs[-1].target, answer.is_redacted) == ("192.168.12.91", False)


@pytest.mark.parametrize("unread", ["NetworkAttachmentDefinition", "Pod"])
async def test_what_may_not_be_read_is_not_told(stand: Stand, api: Api, unread: str) -> None:
    await routed(stand, api)
    kinds = " ".join({"NetworkAttachmentDefinition", "Pod", "NetworkPolicy", "Node"} - {unread})
    ann = await stand.caller("ann", Rules(TRACES, ("get", kinds, "* -")))
    answer = await ask(ann, "lab/client", "shop/web:80")
    assert (answer.verdict, answer.is_redacted) == (verdicts.VERDICT_ALLOW, True)
    assert not answer.HasField("egress_router")
    assert not [word for word in SECRETS if word in str(answer).replace("egress-router", "")]


async def test_a_node_that_may_not_be_read_is_left_out(stand: Stand, api: Api) -> None:
    await routed(stand, api)
    kinds = "Pod NetworkAttachmentDefinition NetworkPolicy"
    ann = await stand.caller("ann", Rules(TRACES, ("get", kinds, "*")))
    answer = await ask(ann, "lab/client", "shop/web:80")
    assert (answer.egress_router.source_ip, answer.egress_router.node) == ("192.168.12.99", "")
    assert "n1" not in str(answer)


async def test_whether_a_firewall_is_passed_is_told_to_who_may_read_it(stand: Stand, api: Api) -> None:
    await routed(stand, api)
    kinds = "Pod NetworkAttachmentDefinition NetworkPolicy Node"
    ann = await stand.caller("ann", Rules(TRACES, ("get", kinds, "* -")))
    told: list[str] = []
    for has_firewall in (False, True):
        if has_firewall:
            await apply(api, FIREWALL)
        answer = await ask(ann, "lab/client", "shop/web:80")
        assert answer.egress_router.destination, "the rest is told"
        answer.revision = 0
        told.append(str(answer))
        everything = await ask(api, "lab/client", "shop/web:80")
        assert ("past the egress firewall of shop" in str(everything)) is has_firewall
    assert told[0] == told[1]


async def test_whether_a_definition_is_there_is_told_to_who_may_read_it(stand: Stand, api: Api) -> None:
    """Whoever may make pods could else ask about any namespace, by an annotation of their own."""
    await load(stand, api, "shop/web")
    told: list[str] = []
    for name in ("absent", "there"):
        config = {"cniVersion": "0.3.1", "name": "there", "type": "bridge"}
        other = {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "there", "namespace": "vault"},
            "spec": {"config": json.dumps(config)},
        }
        notes = {"k8s.v1.cni.cncf.io/networks": f"vault/{name}"}
        pod = m.pod("web", metadata={"labels": {"app": "web"}, "annotations": notes}, spec={"nodeName": "n1"})
        await apply(api, m.namespace("vault"), other, pod)
        ann = await stand.caller("ann", Rules(TRACES, ("get", "*", "shop lab")))
        answer = await ask(ann, "lab/client", "shop/web:80")
        answer.revision = 0
        told.append(str(answer))
        everything = await ask(api, "lab/client", "shop/web:80")
        assert ("is not declared" in str(everything)) is (name == "absent")
    assert told[0] == told[1]
