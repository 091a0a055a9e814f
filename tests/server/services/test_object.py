"""ObjectService through a real channel: get, list, apply, delete."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from ovnk_api.v1 import diff_pb2, northbound_pb2, object_pb2
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_server.convert import MAX_ITEMS

from ovnk_core.northbound.memory import MemoryDatabase
from ovnk_core.store.memory import MemoryLogDatabase
from tests.kit import manifest as m
from tests.kit.served import (
    Api,
    Rules,
    Stand,
    apply,
    apply_request,
    delete_request,
    failure,
    listed,
    message,
    named,
    names,
    served,
)

pytestmark = pytest.mark.asyncio
CREATED, CHANGED = diff_pb2.OUTCOME_CREATED, diff_pb2.OUTCOME_CHANGED
UNCHANGED, DELETED, ABSENT = diff_pb2.OUTCOME_UNCHANGED, diff_pb2.OUTCOME_DELETED, diff_pb2.OUTCOME_ABSENT


def firewall(*cidrs: str, namespace: str = "shop", kind: str = "Deny") -> dict[str, Any]:
    rules = [{"type": kind, "to": {"cidrSelector": cidr}} for cidr in cidrs]
    meta = {"name": "default", "namespace": namespace}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": rules}}


async def get(api: Api, kind: str, name: str, namespace: str = "") -> Any:
    found = await api.objects.Get(pb.GetRequest(reference=named(kind, name, namespace)))
    return getattr(found.object, found.object.WhichOneof("object"))


# ------------------------------------------------------------------------------------------- get


async def test_get_gives_back_what_was_applied_and_what_only_the_server_knows(stand: Stand, api: Api) -> None:
    done = await apply(
        api, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1"}, metadata={"labels": {"a": "b"}})
    )
    assert [each.outcome for each in done.results] == [CREATED] * 3
    await stand.keeper.wait(done.revision, "programmed", 10)
    pod = await get(api, "Pod", "web", "shop")
    assert pod.metadata.resource_version == f"r{done.revision}" == done.results[2].resource_version
    assert dict(pod.metadata.labels) == {"a": "b"}
    assert pod.metadata.uid
    assert pod.metadata.HasField("creation_timestamp")
    assert (pod.metadata.kubernetes.version, pod.metadata.kubernetes.kind) == ("v1", "Pod")
    assert pod.spec.node_name == "node-1"
    # Decided, not stated.
    assert [each.ip for each in pod.status.pod_ips] == [pod.status.pod_ip] == ["10.128.0.3"]
    assert pod.status.host_ip == "192.0.2.1"


async def test_stated_addresses_of_a_pod_stay(api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    status = {"podIPs": [{"ip": "10.128.0.77"}], "podIP": "10.128.0.77", "hostIP": "198.51.100.1"}
    await apply(api, m.pod(spec={"nodeName": "node-1"}, status=status))
    pod = await get(api, "Pod", "web", "shop")
    assert pod.status.pod_ip == "10.128.0.77"
    assert pod.status.host_ip == "198.51.100.1"


async def test_host_network_pod_has_its_nodes_addresses(api: Api) -> None:
    await apply(api, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1", "hostNetwork": True}))
    assert (await get(api, "Pod", "web", "shop")).status.pod_ip == "192.0.2.1"


async def test_kubernetes_identity_survives_the_round_trip(api: Api) -> None:
    item = message(m.namespace())
    item.namespace.metadata.kubernetes.resource_version = "88123"
    item.namespace.metadata.uid = "abc-1"
    item.namespace.metadata.creation_timestamp.CopyFrom(Timestamp(seconds=1_700_000_000))
    await api.objects.Apply(pb.ApplyRequest(items=[pb.ApplyItem(object=item)]))
    found = await get(api, "Namespace", "shop")
    assert found.metadata.kubernetes.resource_version == "88123"
    assert found.metadata.uid == "abc-1"
    assert found.metadata.creation_timestamp.seconds == 1_700_000_000


async def test_firewall_status_says_whether_it_is_applied(api: Api) -> None:
    await apply(api, m.namespace(), firewall("198.51.100.0/24"))
    found = await get(api, "EgressFirewall", "default", "shop")
    assert found.status.status == "EgressFirewall Rules applied"
    assert {each.type: each.status for each in found.status.conditions}["Ready"] == "True"


@pytest.mark.parametrize(
    ("reference", "code", "field"),
    [
        (named("Pod", "web", "shop"), StatusCode.NOT_FOUND, ""),
        (named("Gadget", "web"), StatusCode.INVALID_ARGUMENT, "reference.kind"),
        (named("Pod", "", "shop"), StatusCode.INVALID_ARGUMENT, "reference.name"),
        (named("Node", "n1", "shop"), StatusCode.INVALID_ARGUMENT, "reference.namespace"),
    ],
)
async def test_get_of_what_is_not_there(api: Api, reference: Any, code: StatusCode, field: str) -> None:
    failed = await failure(api.objects.Get(pb.GetRequest(reference=reference)))
    assert failed.code is code
    assert [each for each, _ in failed.violations] == ([field] if field else [])


# ------------------------------------------------------------------------------------------- apply


async def test_apply_is_all_or_nothing_and_tells_every_fault_by_field(api: Api) -> None:
    bad = firewall("198.51.100.0/24", "10.0.0.0/33")
    worse = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]})
    failed = await failure(apply(api, m.namespace(), bad, worse))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in failed.violations] == [
        "items[1].object.egress_firewall.spec.egress[1].to.cidr_selector",
        "items[2].object.network_policy.spec.policy_types[0]",
    ]
    assert await listed(api, kind="Namespace") == []


async def test_unchanged_objects_spend_no_revision(api: Api) -> None:
    first = await apply(api, m.namespace())
    again = await apply(api, m.namespace())
    assert [each.outcome for each in again.results] == [UNCHANGED]
    assert again.results[0].resource_version == f"r{first.revision}"
    assert again.revision == first.revision


async def test_modes(api: Api) -> None:
    def request(mode: int) -> pb.ApplyRequest:
        return pb.ApplyRequest(items=[pb.ApplyItem(object=message(m.namespace()), mode=mode)])

    assert (await failure(api.objects.Apply(request(pb.APPLY_MODE_REPLACE_ONLY)))).code is StatusCode.NOT_FOUND
    await api.objects.Apply(request(pb.APPLY_MODE_CREATE_ONLY))
    assert (await failure(api.objects.Apply(request(pb.APPLY_MODE_CREATE_ONLY)))).code is StatusCode.ALREADY_EXISTS
    await api.objects.Apply(request(pb.APPLY_MODE_REPLACE_ONLY))
    assert (await failure(api.objects.Apply(request(17)))).violations[0][0] == "items[0].mode"


async def test_a_version_is_a_precondition(api: Api) -> None:
    first = await apply(api, m.namespace())
    await apply(api, m.namespace(metadata={"labels": {"a": "1"}}))

    def request(etag: str = "", stated: str = "") -> pb.ApplyRequest:
        item = message(m.namespace(metadata={"labels": {"a": "2"}}))
        item.namespace.metadata.resource_version = stated
        return pb.ApplyRequest(items=[pb.ApplyItem(object=item, etag=etag)])

    old, new = f"r{first.revision}", (await get(api, "Namespace", "shop")).metadata.resource_version
    assert (await failure(api.objects.Apply(request(etag=old)))).code is StatusCode.ABORTED
    assert (await failure(api.objects.Apply(request(stated=old)))).reason == "VERSION_MISMATCH"
    contradiction = await failure(api.objects.Apply(request(etag=new, stated=old)))
    assert contradiction.violations[0][0] == "items[0].etag"
    foreign = await failure(api.objects.Apply(request(stated="88123")))
    assert foreign.violations[0][0] == "items[0].object.namespace.metadata.resource_version"
    done = await api.objects.Apply(request(etag=new, stated=new))
    assert done.results[0].outcome == CHANGED


async def test_fifty_writers_with_a_version_each_win_once(api: Api) -> None:
    """Nobody's edit is lost: each reads, adds its own label, and tries again when somebody else was faster."""
    await apply(api, m.namespace())

    async def edit(number: int) -> None:
        while True:
            found = await api.objects.Get(pb.GetRequest(reference=named("Namespace", "shop")))
            found.object.namespace.metadata.labels[f"w{number}"] = "x"
            try:
                await api.objects.Apply(pb.ApplyRequest(items=[pb.ApplyItem(object=found.object)]))
                return
            except Exception as error:
                assert error.code() is StatusCode.ABORTED  # type: ignore[attr-defined]

    await asyncio.gather(*map(edit, range(50)))
    assert len((await get(api, "Namespace", "shop")).metadata.labels) == 50


async def test_the_same_request_id_gets_the_same_answer_once(api: Api) -> None:
    request = apply_request(m.namespace(), request_id="6c1e")
    first = await api.objects.Apply(request)
    await api.objects.Delete(delete_request(named("Namespace", "shop")))
    assert await api.objects.Apply(request) == first
    assert await listed(api, kind="Namespace") == []
    other = await failure(api.objects.Apply(apply_request(m.namespace("lab"), request_id="6c1e")))
    assert (other.code, other.reason) == (StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")


async def test_request_ids_of_two_callers_have_nothing_to_do_with_each_other(stand: Stand) -> None:
    ann, bob = await stand.caller("ann"), await stand.caller("bob")
    await ann.objects.Apply(apply_request(m.namespace("a"), request_id="1"))
    done = await bob.objects.Apply(apply_request(m.namespace("b"), request_id="1"))
    assert done.results[0].outcome == CREATED


@pytest.mark.parametrize("is_twice", [True, False])
async def test_a_request_holds_objects_and_each_once(api: Api, is_twice: bool) -> None:
    found = await failure(apply(api, *[m.namespace()] * (2 if is_twice else 0)))
    assert found.code is StatusCode.INVALID_ARGUMENT
    assert found.violations[0][0] == ("items[1]" if is_twice else "items")


async def test_a_request_holds_no_more_than_so_many(api: Api) -> None:
    found = await failure(apply(api, *(m.namespace(f"n{number}") for number in range(MAX_ITEMS + 1))))
    assert found.violations[0][0] == "items"


async def test_an_empty_object_is_named(api: Api) -> None:
    request = pb.ApplyRequest(items=[pb.ApplyItem(object=message(m.namespace())), pb.ApplyItem()])
    assert (await failure(api.objects.Apply(request))).violations[0][0] == "items[1].object"


async def test_a_time_that_is_none_is_named(api: Api) -> None:
    item = message(m.namespace())
    item.namespace.metadata.creation_timestamp.CopyFrom(Timestamp(nanos=-1))
    found = await failure(api.objects.Apply(pb.ApplyRequest(items=[pb.ApplyItem(object=item)])))
    field, text = found.violations[0]
    assert field.startswith("items[0].object.namespace")
    assert "not a time" in text


async def test_validate_only_says_what_would_change_and_changes_nothing(stand: Stand, api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    revision = stand.keeper.revision
    done = await apply(api, m.pod(spec={"nodeName": "node-1"}), validate_only=True)
    assert [(each.reference.name, each.outcome) for each in done.plan.objects] == [("web", CREATED)]
    assert done.results[0].resource_version == ""
    counts = {(each.table, each.verb): each.operations for each in done.plan.counts}
    assert counts["Logical_Switch_Port", northbound_pb2.ROW_VERB_INSERT] == 1
    port = next(each for each in done.plan.operations if each.table == "Logical_Switch_Port")
    assert (port.owner.kind, port.owner.namespace, port.owner.name) == ("Pod", "shop", "web")
    assert done.plan.is_complete
    assert not done.plan.is_redacted
    assert await listed(api, kind="Pod") == []
    assert stand.keeper.revision - revision <= 1  # Only the decision about the node may have come.
    stand.keeper.plane.cluster.engine.verify()


async def test_validate_only_refuses_as_a_real_one(api: Api) -> None:
    assert (await failure(apply(api, firewall("10.0.0.0/33"), validate_only=True))).code is StatusCode.INVALID_ARGUMENT
    missing = delete_request(named("Pod", "web", "shop"), validate_only=True)
    assert (await failure(api.objects.Delete(missing))).code is StatusCode.NOT_FOUND


async def test_validate_only_of_a_delete(api: Api) -> None:
    await apply(api, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1"}))
    done = await api.objects.Delete(delete_request(named("Namespace", "shop"), validate_only=True))
    assert {each.reference.kind: each.outcome for each in done.plan.objects} == {"Namespace": DELETED, "Pod": DELETED}
    assert (await get(api, "Pod", "web", "shop")).spec.node_name == "node-1"


async def test_a_plan_hides_rows_of_owners_that_the_caller_may_not_read(stand: Stand, api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    ann = await stand.caller("ann", Rules(("apply", "Pod", "shop"), ("northbound", "Pod", "shop")))
    plan = (await apply(ann, m.pod(spec={"nodeName": "node-1"}), validate_only=True)).plan
    assert {each.owner.kind for each in plan.operations} == {"Pod"}
    assert {each.table for each in plan.counts} == {"Logical_Switch_Port"}
    assert plan.is_redacted


# ------------------------------------------------------------------------------------------- delete


async def test_delete(api: Api) -> None:
    done = await apply(api, m.namespace(), m.pod())
    stale = pb.DeleteItem(reference=named("Pod", "web", "shop"), resource_version=f"r{done.revision - 1}")
    assert (await failure(api.objects.Delete(pb.DeleteRequest(items=[stale])))).code is StatusCode.ABORTED
    gone = await api.objects.Delete(delete_request(named("Pod", "web", "shop")))
    assert gone.results[0].outcome == DELETED
    assert gone.results[0].resource_version == ""
    again = delete_request(named("Pod", "web", "shop"))
    assert (await failure(api.objects.Delete(again))).code is StatusCode.NOT_FOUND
    again.allow_missing = True
    assert (await api.objects.Delete(again)).results[0].outcome == ABSENT


async def test_a_namespace_takes_everything_in_it_along(api: Api) -> None:
    await apply(api, m.namespace(), m.pod(), m.policy(), m.namespace("lab"), m.pod(namespace="lab"))
    done = await api.objects.Delete(delete_request(named("Namespace", "shop")))
    assert names(each.reference for each in done.results) == [
        "Namespace /shop",
        "Pod shop/web",
        "NetworkPolicy shop/p",
    ]
    assert await listed(api, kind="Pod") == ["lab/web"]


# ------------------------------------------------------------------------------------------- who may


async def test_nothing_is_told_of_what_may_not_be_read(stand: Stand, api: Api) -> None:
    """Tenant A asks about B: what exists and what does not get the same words."""
    await apply(api, m.namespace("a"), m.namespace("b"), m.pod("there", "b"), m.pod("mine", "a"))
    ann = await stand.caller("ann", Rules(("*", "*", "a")))
    asked = [
        lambda name: ann.objects.Get(pb.GetRequest(reference=named("Pod", name, "b"))),
        lambda name: ann.objects.Delete(delete_request(named("Pod", name, "b"))),
        lambda name: ann.objects.Delete(delete_request(named("Pod", name, "b"), allow_missing=True)),
        lambda name: apply(ann, m.pod(name, "b")),
        lambda name: apply(ann, m.pod(name, "b"), validate_only=True),
        lambda name: apply(ann, m.pod("mine", "a"), m.pod(name, "b", spec={"nodeName": "n"})),
    ]
    for ask in asked:
        there, absent = await failure(ask("there")), await failure(ask("absent"))
        assert there.code is absent.code is StatusCode.PERMISSION_DENIED
        assert there.text == absent.text
    assert await listed(ann, kind="Pod") == ["a/mine"]
    assert (await failure(ann.objects.List(pb.ListRequest(kind="Pod", namespace="b")))).code is (
        StatusCode.PERMISSION_DENIED
    )
    assert await listed(ann, kind="Namespace") == []


async def test_a_namespace_may_only_be_deleted_by_who_may_delete_what_is_in_it(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    ann = await stand.caller("ann", Rules(("delete", "Namespace", "-"), ("delete", "Pod", "shop")))
    failed = await failure(ann.objects.Delete(delete_request(named("Namespace", "shop"))))
    assert failed.code is StatusCode.PERMISSION_DENIED
    bob = await stand.caller("bob", Rules(("delete", "Namespace", "-"), ("delete", "*", "shop")))
    await bob.objects.Delete(delete_request(named("Namespace", "shop")))


async def test_objects_and_their_versions_survive_a_restart() -> None:
    log, northbound = MemoryLogDatabase(), MemoryDatabase()
    async with served(log=log, northbound=northbound) as stand:
        api = await stand.caller()
        done = await apply(api, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1"}))
        await stand.keeper.wait(done.revision, "programmed", 10)
        before = await get(api, "Pod", "web", "shop")
    async with served(log=log, northbound=northbound) as stand:
        assert await get(await stand.caller(), "Pod", "web", "shop") == before


async def test_an_object_of_a_newer_kind_is_refused(api: Api) -> None:
    item = object_pb2.Object.FromString(b"\xfa\x01\x00")  # field 31
    found = await failure(api.objects.Apply(pb.ApplyRequest(items=[pb.ApplyItem(object=item)])))
    assert found.violations[0][0] == "items[0].object"
