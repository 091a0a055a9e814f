"""A watch tells of what shows in an object's status only: decided addresses, nodes that come later, answered names."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from ovnk_api.v1 import dns_service_pb2
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_server.access import Caller
from ovnk_server.convert_object import FirewallStatuses
from ovnk_server.hearing import Hearing

from ovnk_core.cluster import Cluster
from ovnk_core.keeper.document import decision_key
from ovnk_core.keeper.proposal import Put
from ovnk_core.terms.name import NamespacedName, ObjectRef
from tests.kit import manifest as m
from tests.kit.served import AllowAll, Api, Stand, apply, take

pytestmark = pytest.mark.asyncio


def bound(name: str = "web", **fields: Any) -> dict[str, Any]:
    return m.pod(name, spec={"nodeName": "node-1", **fields.pop("spec", {})}, **fields)


def firewall(*names: str, namespace: str = "shop", **fields: Any) -> dict[str, Any]:
    rules = [{"type": "Allow", "to": {"dnsName": name}} for name in names]
    meta = {"name": "default", "namespace": namespace}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": rules}}


async def watch(api: Api, kind: str, **asked: Any) -> Any:
    """A watch without the beginning, in place."""
    stream = api.objects.Watch(pb.WatchRequest(kinds=[kind], send_initial=False, **asked))
    await stream.initial_metadata()
    return stream


async def event(stream: Any) -> tuple[str, pb.WatchResponse, Any]:
    """(what, the response, the object's message)."""
    (found,) = await asyncio.wait_for(take(stream, 1), 5)
    kind = found.WhichOneof("event")
    item = getattr(found, kind).object
    return kind, found, getattr(item, item.WhichOneof("object"))


async def answer(api: Api, name: str, *addresses: str) -> int:
    told = dns_service_pb2.DnsAnswer(name=name, addresses=addresses, ttl=Duration(seconds=300))
    done = await api.dns.PushAnswers(dns_service_pb2.PushAnswersRequest(answers=[told]))
    return int(done.revision)


def condition(found: Any, name: str) -> str:
    return {each.type: each.status for each in found.status.conditions}[name]


async def test_the_address_that_is_decided_for_a_pod_follows_it(stand: Stand, api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    stream = await watch(api, "Pod")
    done = await apply(api, bound())
    kind, added, _ = await event(stream)
    assert (kind, added.revision) == ("added", done.revision)
    kind, told, pod = await event(stream)
    decided = stand.keeper.history.get(decision_key("Pod", NamespacedName("shop", "web")))
    assert decided is not None
    assert (kind, told.revision, told.resume_revision) == ("modified", decided.modified, decided.modified)
    assert pod.status.pod_ip == "10.128.0.3"
    # The document is as it was.
    assert pod.metadata.resource_version == f"r{done.revision}"
    again = await watch(api, "Pod", resume_revision=done.revision)
    assert (await event(again))[2].status.pod_ip == "10.128.0.3"


async def test_of_several_addresses_decided_together_only_the_last_is_where_one_may_resume(api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    stream = await watch(api, "Pod")
    done = await apply(api, *(bound(f"p{number}") for number in range(3)))
    found = [await event(stream) for _ in range(6)]
    assert [kind for kind, _, _ in found] == ["added"] * 3 + ["modified"] * 3
    assert [told.resume_revision for _, told, _ in found[2:]] == [done.revision] * 3 + [found[5][1].revision]


async def test_a_stated_address_is_told_once(api: Api) -> None:
    """What is decided for such a pod shows nowhere."""
    await apply(api, m.node(), m.namespace())
    stream = await watch(api, "Pod")
    await apply(api, bound("a", status={"podIP": "10.128.0.77"}), bound("b", spec={"hostNetwork": True}))
    await apply(api, bound("c"))
    found = [await event(stream) for _ in range(4)]
    assert [(kind, pod.metadata.name) for kind, _, pod in found] == [
        ("added", "a"),
        ("added", "b"),
        ("added", "c"),
        ("modified", "c"),
    ]


async def test_a_node_that_comes_later_shows_in_its_pods(api: Api) -> None:
    await apply(api, m.namespace(), bound("own", spec={"hostNetwork": True}), m.pod("elsewhere"))
    stream = await watch(api, "Pod")
    done = await apply(api, m.node())
    kind, told, pod = await event(stream)
    assert (kind, told.revision, pod.metadata.name) == ("modified", done.revision, "own")
    assert (pod.status.host_ip, pod.status.pod_ip) == ("192.0.2.1", "192.0.2.1")
    await apply(api, m.node(metadata={"labels": {"zone": "a"}}))  # Shows in no pod.
    moved = await apply(api, m.node(address="192.0.2.9"))
    kind, told, pod = await event(stream)
    assert (kind, told.revision, pod.status.host_ip) == ("modified", moved.revision, "192.0.2.9")


async def test_an_answered_name_shows_in_the_firewalls_that_name_it(api: Api) -> None:
    await apply(api, m.namespace("a"), m.namespace("b"), m.namespace("c"))
    await apply(api, firewall("WWW.example.com.", namespace="a"), firewall("www.example.com", namespace="b"))
    await apply(api, firewall("other.example.com", namespace="c"))
    stream = await watch(api, "EgressFirewall")
    at = await answer(api, "www.example.com", "198.51.100.7")
    found = [await event(stream) for _ in range(2)]
    assert [(kind, each.metadata.namespace) for kind, _, each in found] == [("modified", "a"), ("modified", "b")]
    assert {condition(each, "DNSPending") for _, _, each in found} == {"False"}
    assert [told.revision for _, told, _ in found] == [at, at]
    # Another address of an answered name changes no status.
    await answer(api, "www.example.com", "198.51.100.8")
    await answer(api, "other.example.com", "198.51.100.9")
    assert (await event(stream))[2].metadata.namespace == "c"


async def test_a_firewall_that_names_two_answered_names_is_told_once_a_revision(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace(), firewall("one.example.com", "two.example.com"))
    stream = await watch(api, "EgressFirewall")
    names = [
        dns_service_pb2.DnsAnswer(name=name, addresses=["198.51.100.7"], ttl=Duration(seconds=300))
        for name in ("one.example.com", "two.example.com")
    ]
    await api.dns.PushAnswers(dns_service_pb2.PushAnswersRequest(answers=names))
    found = [await event(stream)]
    while condition(found[-1][2], "DNSPending") == "True":
        found.append(await event(stream))
    revisions = [told.revision for _, told, _ in found]
    assert len(set(revisions)) == len(revisions)


async def test_a_refused_version_shows_in_the_one_in_force(stand: Stand, api: Api) -> None:
    keeper = stand.keeper
    await keeper.commit(keeper.statement("kube", [Put(manifest=m.namespace()), Put(manifest=firewall("a.example"))]))
    stream = await watch(api, "EgressFirewall")
    bad = firewall("a.example")
    bad["spec"]["egress"][0]["to"] = {"cidrSelector": "10.0.0.0/33"}
    await keeper.commit(keeper.statement("kube", [Put(manifest=bad)]))
    kind, _, found = await event(stream)
    assert (kind, condition(found, "Stale")) == ("modified", "True")


async def test_statuses_go_with_their_keeper() -> None:
    """A later keeper at the same place in memory and the same revision is not told those of the one before it."""

    class Stands:
        """What statuses ask of a keeper."""

        plane = SimpleNamespace(cluster=Cluster(), revision=1)

    statuses, keeper = FirewallStatuses(), Stands()
    who = Hearing(Caller(identity="ann", policy=AllowAll()))
    statuses.find(cast(Any, keeper), ObjectRef("EgressFirewall", "shop", "default"), {}, who)
    assert len(statuses.found) == 1
    del keeper
    gc.collect()
    assert not statuses.found
