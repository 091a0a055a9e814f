"""Failed calls become errors that say what happened and what to do; what may pass is asked again, nothing else is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from ovnk_api.v1.dns_service_pb2 import PushAnswersResponse
from ovnk_api.v1.object_service_pb2 import ApplyResponse, DeleteResponse, GetResponse
from ovnk_client import (
    ClientError,
    Conflict,
    DeadlineExceeded,
    Denied,
    Exists,
    Expired,
    NotFound,
    QuotaExceeded,
    Refused,
    ServerFault,
    Unavailable,
    Unidentified,
    Unimplemented,
    Unreachable,
    reference,
)
from ovnk_client.client import Client

from tests.clients.scripted import Script, answers, fails, retry_after, scripted

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}}
CODE = grpc.StatusCode
FOUND = GetResponse(revision=7)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (CODE.PERMISSION_DENIED, Denied),
        (CODE.UNAUTHENTICATED, Unidentified),
        (CODE.NOT_FOUND, NotFound),
        (CODE.ALREADY_EXISTS, Exists),
        (CODE.ABORTED, Conflict),
        (CODE.INVALID_ARGUMENT, Refused),
        (CODE.FAILED_PRECONDITION, Refused),
        (CODE.OUT_OF_RANGE, Expired),
        (CODE.RESOURCE_EXHAUSTED, QuotaExceeded),
        (CODE.UNIMPLEMENTED, Unimplemented),
        (CODE.INTERNAL, ServerFault),
        (CODE.DATA_LOSS, ServerFault),
    ],
)
@pytest.mark.asyncio
async def test_every_status_is_an_error_of_its_own(code: CODE, expected: type[ClientError]) -> None:
    script = Script(Get=fails(code, "because", error_details_pb2.ErrorInfo(reason="R", metadata={"a": "b"})))
    async with scripted(script) as client:
        with pytest.raises(expected) as found:
            await client.get("pod", "web")
    assert type(found.value) is expected
    assert (found.value.code, found.value.reason, found.value.details) == (code, "R", {"a": "b"})
    assert str(found.value).startswith("because")
    assert len(script.requests["Get"]) == 1


@pytest.mark.asyncio
async def test_a_status_without_details_names_the_server() -> None:
    script = Script(Get=fails(CODE.INTERNAL, "boom"))
    async with scripted(script) as client:
        with pytest.raises(ServerFault, match=f"{script.address}: boom; the server's log says more"):
            await client.get("pod", "web")


@pytest.mark.asyncio
async def test_violations_name_the_object_and_the_field_of_its_manifest() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(
        field="items[2].object.egress_firewall.spec.egress[41].to.cidr_selector", description="not a CIDR"
    )
    bad.field_violations.add(field="page_size", description="must not be negative")
    async with scripted(Script(Apply=fails(CODE.INVALID_ARGUMENT, "2 faults", bad))) as client:
        with pytest.raises(Refused) as found:
            await client.apply(POD)
    one, other = found.value.violations
    assert (one.item, one.manifest_path, one.description) == (2, "spec.egress[41].to.cidrSelector", "not a CIDR")
    assert (other.item, other.field, other.manifest_path) == (None, "page_size", "")


# ------------------------------------------------------------------------------- asking again


@pytest.mark.asyncio
async def test_a_read_is_repeated_until_the_server_is_back() -> None:
    script = Script(Get=[fails(CODE.UNAVAILABLE), fails(CODE.UNAVAILABLE), answers(FOUND)])
    async with scripted(script) as client:
        await client.get("pod", "web")
    assert len(script.requests["Get"]) == 3


@pytest.mark.asyncio
async def test_a_change_is_repeated_under_one_id() -> None:
    script = Script(
        Apply=[fails(CODE.UNAVAILABLE), answers(ApplyResponse(revision=3))],
        Delete=[fails(CODE.ABORTED, "superseded", retry_after(0)), answers(DeleteResponse())],
    )
    async with scripted(script) as client:
        assert (await client.apply(POD)).revision == 3
        await client.delete(reference("pod", "web", "shop"), request_id="mine")
    ids = [[each.request_id for each in script.requests[method]] for method in ("Apply", "Delete")]
    assert len(set(ids[0])) == 1 and ids[0][0]
    assert ids[1] == ["mine", "mine"]


@pytest.mark.asyncio
async def test_two_changes_have_two_ids_and_a_dry_run_has_none() -> None:
    script = Script(Apply=answers(ApplyResponse()))
    async with scripted(script) as client:
        await client.apply(POD)
        await client.apply(POD)
        await client.apply(POD, validate_only=True)
    first, second, third = (each.request_id for each in script.requests["Apply"])
    assert first != second and third == ""


@pytest.mark.asyncio
async def test_what_has_no_id_is_not_repeated() -> None:
    script = Script(PushAnswers=[fails(CODE.UNAVAILABLE), answers(PushAnswersResponse())])
    async with scripted(script) as client:
        with pytest.raises(Unavailable):
            await client.push_dns([])
    assert len(script.requests["PushAnswers"]) == 1


@pytest.mark.asyncio
async def test_the_servers_wish_when_to_ask_again_is_honoured() -> None:
    script = Script(Get=[fails(CODE.RESOURCE_EXHAUSTED, "slower", retry_after(0.3)), answers(FOUND)])
    async with scripted(script) as client:
        started = time.monotonic()
        await client.get("pod", "web")
        assert time.monotonic() - started >= 0.3


@pytest.mark.asyncio
async def test_a_wish_beyond_the_deadline_is_told_instead() -> None:
    script = Script(Get=fails(CODE.RESOURCE_EXHAUSTED, "full", retry_after(30)))
    async with scripted(script, deadline_s=5.0) as client:
        with pytest.raises(QuotaExceeded, match="full") as found:
            await client.get("pod", "web")
    assert found.value.retry_after_s == 30


@pytest.mark.asyncio
async def test_a_deadline_holds_for_all_attempts_together() -> None:
    async def silence(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async with scripted(Script(Get=silence)) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s"):
            await client.within(0.3).get("pod", "web")
        assert time.monotonic() - started < 3


@pytest.mark.asyncio
async def test_a_deadline_that_is_over_says_why_the_attempts_before_it_failed() -> None:
    async def silence(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    why = fails(CODE.UNAVAILABLE, "the store is away", retry_after(0.01))
    async with scripted(Script(Get=[why, silence])) as client:
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s, before that: the store is away"):
            await client.within(0.5).get("pod", "web")


@pytest.mark.asyncio
async def test_what_the_server_cannot_do_now_is_told_when_patience_ends() -> None:
    """Though it says when to ask again: whoever waits wants to know what for."""
    why = fails(CODE.UNAVAILABLE, "the store is away", retry_after(0.05))
    async with scripted(Script(Get=why), deadline_s=30.0, patience_s=0.2) as client:
        with pytest.raises(Unavailable, match=r"^the store is away$") as found:
            await client.get("pod", "web")
    assert type(found.value) is Unavailable


@pytest.mark.asyncio
async def test_patience_ends_before_the_deadline() -> None:
    async with Client("unix:/nobody/is/here.sock", deadline_s=30.0, patience_s=0.2) as client:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="is the server running"):
            await client.get("pod", "web")
        assert time.monotonic() - started < 5


# ------------------------------------------------------------------------------- addresses and shapes


@pytest.mark.parametrize("address", ["unix:", "nowhere", "host:", ":1", "host:99999", "example.com:6643"])
@pytest.mark.asyncio
async def test_what_is_no_address_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ValueError, match=r"write unix:PATH|needs certificates"):
        async with Client(address):
            pass


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        ({**POD, "kind": "Sofa"}, "kind"),
        ({**POD, "metadata": {"name": 7}}, "metadata.name"),
        (
            {
                "apiVersion": "k8s.ovn.org/v1",
                "kind": "EgressFirewall",
                "metadata": {"name": "default"},
                "spec": {"egress": [{"type": "Deny", "too": {}}]},
            },
            "spec.egress[0].too",
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_no_message_can_hold_is_refused_here(manifest: dict[str, Any], path: str) -> None:
    script = Script(Apply=answers(ApplyResponse()))
    async with scripted(script) as client:
        with pytest.raises(Refused) as found:
            await client.apply([POD, manifest])
    assert [(each.item, each.manifest_path) for each in found.value.violations] == [(1, path)]
    assert script.requests == {}


@pytest.mark.asyncio
async def test_a_reason_says_more_than_a_code() -> None:
    """What was seen under other rights is no base to go on from, and an id that is taken no conflict to repeat."""
    for code, reason, expected in (
        (CODE.PERMISSION_DENIED, "POLICY_CHANGED", Expired),
        (CODE.PERMISSION_DENIED, "PERMISSION_DENIED", Denied),
        (CODE.FAILED_PRECONDITION, "REQUEST_ID_REUSED", Refused),
        (CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE", Expired),
    ):
        script = Script(Get=fails(code, "because", error_details_pb2.ErrorInfo(reason=reason)))
        async with scripted(script) as client:
            with pytest.raises(ClientError) as found:
                await client.get("pod", "web")
        assert type(found.value) is expected and found.value.reason == reason
