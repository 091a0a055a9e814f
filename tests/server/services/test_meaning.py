"""A request that would not mean what its author meant is refused: unknown fields, ids, revisions, selectors."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import northbound_service_pb2 as nb
from ovnk_api.v1 import object_pb2, verdict_pb2
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_api.v1 import sync_service_pb2 as sync_pb
from ovnk_api.v1 import trace_service_pb2 as trace_pb

from tests.kit import manifest as m
from tests.kit.served import Api, Stand, apply, apply_request, delete_request, failure, listed, message, named

pytestmark = pytest.mark.asyncio
UNKNOWN = b"\x4a\x02hi"
"""Field number 9, two bytes."""
SELECTIVE = m.policy({"podSelector": {"matchLabels": {"app": "db"}}})


def with_unknown(part: Any) -> None:
    part.MergeFromString(UNKNOWN)


def policy_with_unknown() -> object_pb2.Object:
    item = message(SELECTIVE)
    with_unknown(item.network_policy.spec.pod_selector)
    return item


# ------------------------------------------------------------------------------------------- unknown fields


async def test_a_restriction_that_is_not_known_does_not_make_a_policy_wider(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    before = stand.keeper.revision
    request = pb.ApplyRequest(items=[pb.ApplyItem(object=message(m.pod())), pb.ApplyItem(object=policy_with_unknown())])
    failed = await failure(api.objects.Apply(request))
    assert (failed.code, failed.reason) == (StatusCode.INVALID_ARGUMENT, "SCHEMA")
    ((field, text),) = failed.violations
    assert field == "items[1].object.network_policy.spec.pod_selector"
    assert "field number 9" in text
    assert stand.keeper.revision == before


@pytest.mark.parametrize(
    ("part", "field"),
    [(lambda r: r, ""), (lambda r: r.items[0], "items[0]"), (lambda r: r.items[0].object, "items[0].object")],
)
async def test_any_part_of_a_request_is_looked_at(api: Api, part: Any, field: str) -> None:
    request = apply_request(m.namespace())
    request.items[0].object.ClearField("namespace")
    request.items[0].object.CopyFrom(message(m.namespace()))
    part(request).MergeFromString(b"\xfa\x7f\x02hi")
    failed = await failure(api.objects.Apply(request))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]
    assert "field number 2047" in failed.text


async def test_reads_are_looked_at_as_well(api: Api) -> None:
    request = pb.ListRequest(kind="Pod")
    with_unknown(request)
    assert (await failure(api.objects.List(request))).code is StatusCode.INVALID_ARGUMENT


async def test_a_source_states_an_object_with_something_unknown(stand: Stand, api: Api) -> None:
    """It is there, and refused: its accepted version stays in force, and the rest of the source is taken in."""
    stream = api.sync.Sync()
    said = [
        sync_pb.SyncRequest(sequence=1, begin=sync_pb.SyncBegin(source="kube")),
        sync_pb.SyncRequest(sequence=2, put=sync_pb.SyncPut(object=message(m.namespace()))),
        sync_pb.SyncRequest(sequence=3, put=sync_pb.SyncPut(object=message(SELECTIVE))),
        sync_pb.SyncRequest(sequence=4, put=sync_pb.SyncPut(object=policy_with_unknown())),
        sync_pb.SyncRequest(sequence=5, put=sync_pb.SyncPut(object=message(m.pod()))),
    ]
    answers = []
    for each in said:
        await stream.write(each)
        answers.append(await stream.read())
    ((refusal,),) = [each.refusals for each in answers if each.refusals]
    assert (refusal.reference.kind, refusal.reference.name) == ("NetworkPolicy", "p")
    assert [each.manifest_path for each in refusal.violations] == ["spec.podSelector"]
    got = await api.objects.Get(pb.GetRequest(reference=named("NetworkPolicy", "p", "shop")))
    assert got.object.network_policy.spec.pod_selector.match_labels == {"app": "db"}
    assert await listed(api, kind="Pod") == ["shop/web"]
    bad = sync_pb.SyncRequest(sequence=6, remove=sync_pb.SyncRemove(reference=named("Pod", "web", "shop")))
    with_unknown(bad.remove)
    await stream.write(bad)
    failed = await failure(stream)
    assert (failed.code, failed.violations[0][0]) == (StatusCode.INVALID_ARGUMENT, "remove")
    assert await listed(api, kind="Pod") == ["shop/web"]


# ------------------------------------------------------------------------------------------- ids and revisions


@pytest.mark.parametrize("id", ["x" * 129, "a\nb", "ä", "\x7f"])
async def test_a_request_id_that_is_none(api: Api, id: str) -> None:
    await apply(api, m.namespace(), request_id="x" * 128)
    for call in (
        api.objects.Apply(apply_request(m.namespace(), request_id=id)),
        api.objects.Delete(delete_request(named("Namespace", "shop"), request_id=id)),
    ):
        failed = await failure(call)
        assert (failed.code, failed.violations[0][0]) == (StatusCode.INVALID_ARGUMENT, "request_id")


@pytest.mark.parametrize("revision", [0, -1])
async def test_a_revision_that_is_none(api: Api, revision: int) -> None:
    for call in (
        api.northbound.WaitRevision(nb.WaitRevisionRequest(revision=revision)),
        api.northbound.GetStatus(nb.GetStatusRequest(revision=revision)),
    ):
        failed = await failure(call)
        assert (failed.code, failed.violations[0][0]) == (StatusCode.INVALID_ARGUMENT, "revision")


async def test_errors_begin_with_what_is_wrong(api: Api) -> None:
    failed = await failure(api.objects.Apply(apply_request(m.namespace(), m.namespace())))
    assert failed.text.startswith("items[1]: ")
    bad = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]})
    assert (await failure(apply(api, m.namespace(), bad))).text.startswith("NetworkPolicy shop/p spec.policyTypes[0]: ")


# ------------------------------------------------------------------------------------------- selectors, questions


@pytest.mark.parametrize("path", ["spec.colour", "metadata.labels", "spec.containers", "spec", "metadata.labels.app"])
async def test_a_field_that_no_pod_has_selects_nothing_and_says_so(api: Api, path: str) -> None:
    failed = await failure(api.objects.List(pb.ListRequest(kind="Pod", field_selector=f"{path}!=x")))
    assert (failed.code, failed.violations[0][0]) == (StatusCode.INVALID_ARGUMENT, "field_selector")
    assert path in failed.text
    assert "spec.nodeName" in failed.text


async def test_fields_that_the_server_fills_in_are_asked_of_the_answer(stand: Stand, api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    await apply(api, *(m.pod(f"p{number}", spec={"nodeName": "node-1"}) for number in range(5)))
    await stand.keeper.wait(stand.keeper.revision, "programmed", 10)
    got = await api.objects.Get(pb.GetRequest(reference=named("Pod", "p3", "shop")))
    for asked in (f"status.podIP={got.object.pod.status.pod_ip}", "status.podIP!=,metadata.name=p3"):
        assert await listed(api, kind="Pod", field_selector=asked, page_size=1) == ["shop/p3"]
    version = got.object.pod.metadata.resource_version
    assert len(await listed(api, kind="Pod", field_selector=f"metadata.resourceVersion={version}")) == 5
    page = await api.objects.List(pb.ListRequest(kind="Pod", field_selector="status.podIP!=", page_size=1))
    other = pb.ListRequest(kind="Pod", field_selector="status.podIP=", page_token=page.next_page_token)
    assert (await failure(api.objects.List(other))).violations[0][0] == "page_token"


async def test_one_bad_question_of_many_is_a_fault(api: Api) -> None:
    await apply(api, m.node(), m.namespace(), m.pod(spec={"nodeName": "node-1"}))
    stream = api.trace.TraceMany()
    for engine, protocol in ((77, 0), (0, 77), (0, 0)):
        question = verdict_pb2.Question(source="shop/web", target="203.0.113.9:80", engine=engine, protocol=protocol)
        await stream.write(trace_pb.TraceManyRequest(id=str(engine), question=question))
    await stream.done_writing()
    found = [await stream.read() for _ in range(3)]
    assert [each.fault.field for each in found] == ["engine", "protocol", ""]
    assert [each.fault.value for each in found] == ["77", "77", ""]


async def test_what_waits_for_an_answer_is_counted_as_a_warning(api: Api) -> None:
    firewall = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": [{"type": "Allow", "to": {"dnsName": "www.example.com"}}]},
    }
    await apply(api, m.namespace())
    assert (await api.northbound.GetStatus(nb.GetStatusRequest())).warning_objects == 0
    await apply(api, firewall)
    assert (await api.northbound.GetStatus(nb.GetStatusRequest())).warning_objects == 1
