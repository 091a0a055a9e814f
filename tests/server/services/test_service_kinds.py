"""Services, slices and Endpoints through a real channel: what is applied comes back, with what was given out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import northbound_service_pb2 as nb
from ovnk_api.v1 import object_service_pb2 as pb

from ovnk_core.keeper.document import decision_key
from ovnk_core.northbound.memory import MemoryDatabase
from ovnk_core.store.memory import MemoryLogDatabase
from ovnk_core.terms.name import NamespacedName
from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply, delete_request, failure, listed, named, served, take

pytestmark = pytest.mark.asyncio
READ = "get list watch"
NODE_PORT = {
    "type": "NodePort",
    "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}],
}
SLICE = m.endpoint_slice([{"addresses": ["10.128.0.5"], "nodeName": "node-1"}], [{"name": "http", "port": 8080}])
ENDPOINTS = m.endpoints([{"addresses": [{"ip": "10.128.0.5"}], "ports": [{"port": 8080}]}], "db")


async def get(api: Api, kind: str, name: str) -> Any:
    found = (await api.objects.Get(pb.GetRequest(reference=named(kind, name, "shop")))).object
    return getattr(found, found.WhichOneof("object"))


async def test_what_was_given_out_is_shown_as_kubernetes_shows_it(stand: Stand, api: Api) -> None:
    done = await apply(api, m.namespace(), m.service(NODE_PORT))
    await stand.keeper.wait(done.revision, "programmed", 10)
    spec = (await get(api, "Service", "web")).spec
    assert (spec.cluster_ip, list(spec.cluster_ips)) == ("172.30.1.0", ["172.30.1.0"])
    assert [(each.name, each.node_port) for each in spec.ports] == [("http", 30086), ("dns", 30086)]
    assert await listed(api, kind="Service", field_selector="spec.clusterIP=172.30.1.0") == ["shop/web"]
    assert await listed(api, kind="Service", field_selector="spec.clusterIP!=172.30.1.0") == []


async def test_what_is_stated_stays_and_what_is_not_balanced_has_nothing(stand: Stand, api: Api) -> None:
    stated = {"clusterIP": "172.30.0.9", "ports": [{"port": 80}]}
    done = await apply(api, m.namespace(), m.service(stated), m.service({"clusterIP": "None"}, "quiet"))
    await stand.keeper.wait(done.revision, "programmed", 10)
    spec = (await get(api, "Service", "web")).spec
    assert (spec.cluster_ip, list(spec.cluster_ips)) == ("172.30.0.9", ["172.30.0.9"])
    assert (await get(api, "Service", "quiet")).spec.cluster_ip == "None"


async def test_what_is_read_can_be_given_back(stand: Stand, api: Api) -> None:
    """The Service states then what it was given; nothing that is in force changes."""
    await apply(api, m.namespace(), m.service(NODE_PORT), SLICE, ENDPOINTS)
    before = stand.keeper.plane.cluster.decisions.services
    for kind, name in (("Service", "web"), ("EndpointSlice", "web-1"), ("Endpoints", "db")):
        found = (await api.objects.Get(pb.GetRequest(reference=named(kind, name, "shop")))).object
        await api.objects.Apply(pb.ApplyRequest(items=[pb.ApplyItem(object=found)]))
    assert stand.keeper.plane.cluster.decisions.services == before
    assert stand.keeper.plane.cluster.errors == ()


async def test_slices_and_endpoints_are_objects_like_all(api: Api) -> None:
    await apply(api, m.namespace(), SLICE, ENDPOINTS)
    found = await get(api, "EndpointSlice", "web-1")
    assert (found.address_type, list(found.endpoints[0].addresses)) == ("IPv4", ["10.128.0.5"])
    assert dict(found.metadata.labels) == {"kubernetes.io/service-name": "web"}
    assert (await get(api, "Endpoints", "db")).subsets[0].ports[0].port == 8080
    await api.objects.Delete(delete_request(named("EndpointSlice", "web-1", "shop")))
    assert await listed(api, kind="EndpointSlice") == []
    assert len(await listed(api, kind="Endpoints")) == 1


async def test_every_fault_is_named_by_its_field(stand: Stand, api: Api) -> None:
    bad = m.service({"ports": [{"port": 0}], "clusterIP": "x"})
    worse = m.endpoint_slice([{"addresses": ["127.0.0.1"]}], [])
    failed = await failure(apply(api, m.namespace(), bad, worse))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in failed.violations] == [
        "items[1].object.service.spec.cluster_ip",
        "items[1].object.service.spec.ports[0].port",
        "items[2].object.endpoint_slice.endpoints[0].addresses[0]",
    ]
    assert stand.keeper.plane.cluster.count() == 0


async def test_who_waits_for_an_address_says_so_in_its_conditions(stand: Stand, api: Api) -> None:
    stated = {"clusterIP": "172.30.0.9", "ports": [{"port": 80}]}
    await apply(api, m.namespace(), m.service(stated, "a"), m.service(stated, "b"))
    cluster = stand.keeper.plane.cluster
    assert list(cluster.decisions.services) == ["shop/a"]
    answer = await api.northbound.GetConditions(nb.GetConditionsRequest(kind="Service"))
    told = [each.message for entry in answer.objects for each in entry.conditions]
    assert any("is already held by Service shop/a" in each for each in told), told
    await api.objects.Delete(delete_request(named("Service", "a", "shop")))
    assert list(cluster.decisions.services) == ["shop/b"]


async def test_what_is_held_and_what_to_do_is_told_when_accepted(stand: Stand, api: Api) -> None:
    stated = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
    done = await apply(api, m.namespace(), m.service(stated, "a"), m.service(stated, "b"))
    (told,) = [text for each in done.results for text in each.warnings]
    assert told == (
        "spec.ports[0].nodePort: is already held by Service shop/a (got 30080/TCP); "
        "choose another, or remove it to have one given out"
    )


async def test_whose_address_it_is_is_told_only_to_who_may_know(stand: Stand, api: Api) -> None:
    stated = {"clusterIP": "172.30.0.9", "ports": [{"port": 80}]}
    older = {"creationTimestamp": "2024-01-01T00:00:00Z"}
    await apply(api, m.namespace(), m.namespace("team-a"), m.service(stated, "a", "team-a", metadata=older))
    ann = await stand.caller("ann", Rules((f"{READ} apply northbound", "*", "shop")))
    await apply(ann, m.service(stated))
    answer = await ann.northbound.GetConditions(nb.GetConditionsRequest(kind="Service"))
    told = " ".join(each.message for entry in answer.objects for each in entry.conditions)
    assert "a Service that you may not read" in told and "team-a" not in told


async def test_a_watch_tells_what_is_given_out(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    stream = api.objects.Watch(pb.WatchRequest(kinds=["Service"], send_initial=False))
    await stream.initial_metadata()
    done = await apply(api, m.service())
    first, second = await asyncio.wait_for(take(stream, 2), 5)
    assert (first.WhichOneof("event"), first.revision) == ("added", done.revision)
    decided = stand.keeper.history.get(decision_key("Service", NamespacedName("shop", "web")))
    assert decided is not None
    assert (second.WhichOneof("event"), second.revision) == ("modified", decided.modified)
    assert second.modified.object.service.spec.cluster_ip == "172.30.1.0"


async def test_decisions_outlive_the_server() -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    async with served(log=log, northbound=northbound) as stand:
        api = await stand.caller()
        done = await apply(api, m.namespace(), m.service(NODE_PORT, "y"), m.service(None, "z"))
        await stand.keeper.wait(done.revision, "programmed", 10)
        await api.objects.Delete(delete_request(named("Service", "y", "shop")))
    async with served(log=log, northbound=northbound) as stand:
        done = await apply(await stand.caller(), m.service(None, "a"))
        await stand.keeper.wait(done.revision, "programmed", 10)
        found = stand.keeper.plane.cluster.decisions.services
        given = {key: str(each.cluster_ips[0]) for key, each in found.items()}
        assert given == {"shop/a": "172.30.1.0", "shop/z": "172.30.1.1"}
