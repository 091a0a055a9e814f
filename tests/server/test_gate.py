"""What happens around a handler: a real server on a unix socket, handlers of our own in the places of the API's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing
from google.rpc import error_details_pb2, status_pb2
from ovnk_api.v1 import (
    dns_service_pb2,
    dns_service_pb2_grpc,
    meta_pb2,
    object_pb2,
    object_service_pb2,
    object_service_pb2_grpc,
    pod_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from ovnk_server import access, interceptor
from ovnk_server.front import Front
from ovnk_server.settings import LimitSettings, ServerSettings
from ovnk_server.telemetry import Telemetry

from ovnk_core.errors import Conflict, NotFound
from tests.kit.ovn import short_directory

Answer = Callable[[Any, Any], Any]
LIMITS = LimitSettings(
    message_bytes=1_024, large_message_bytes=4_096, call_s=0.3, batch_s=0.6, arrival_s=0.5, stop_s=2.0
)
RULES = "[[rule]]\nidentities = ['local']\nverbs = ['get', 'watch', 'apply', 'sync']\nnamespaces = ['shop']\n"


class Objects(object_service_pb2_grpc.ObjectServiceServicer):
    """Every method does what ``answer`` says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def Get(self, request: Any, context: Any) -> Any:
        return await self._answer(request, context) or object_service_pb2.GetResponse(revision=1)

    async def Apply(self, request: Any, context: Any) -> Any:
        return await self._answer(request, context) or object_service_pb2.ApplyResponse(revision=7)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield object_service_pb2.WatchResponse(revision=1)
        await self._answer(request, context)
        yield object_service_pb2.WatchResponse(revision=2)


class Sync(sync_service_pb2_grpc.SyncServiceServicer):
    """Answers every second statement."""

    async def Sync(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.sequence % 2 == 0:
                yield sync_service_pb2.SyncResponse(sequence=request.sequence, revision=request.sequence * 10)


class Stand:
    """A front with our handlers, a client, and what was counted."""

    def __init__(self, front: Front, telemetry: Telemetry, channel: grpc.aio.Channel) -> None:
        self.front, self.channel, self._telemetry = front, channel, telemetry
        self.objects = object_service_pb2_grpc.ObjectServiceStub(channel)
        self.sync = sync_service_pb2_grpc.SyncServiceStub(channel)
        self.dns = dns_service_pb2_grpc.DnsServiceStub(channel)

    def counted(self, method: str, code: str) -> float | None:
        labels = {"method": f"ovnk_api.v1.ObjectService/{method}", "code": code}
        return self._telemetry.registry.get_sample_value("ovnk_rpc_total", labels)


@asynccontextmanager
async def stand(answer: Answer, *, rules: str = "", is_ready: bool = True, **given: Any) -> AsyncIterator[Stand]:
    with short_directory() as root:
        if rules:
            (root / "rules.toml").write_text(rules)
            given["authorisation"] = str(root / "rules.toml")
        settings = ServerSettings(listen=(f"unix:{root}/s",), **{"limits": LIMITS, **given})
        telemetry = Telemetry()
        front = Front(settings, telemetry)
        if is_ready:
            object_service_pb2_grpc.add_ObjectServiceServicer_to_server(Objects(answer), front.switchboard)
            sync_service_pb2_grpc.add_SyncServiceServicer_to_server(Sync(), front.switchboard)
            front.gate.closed = None
        await front.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{root}/s") as channel:
                yield Stand(front, telemetry, channel)
        finally:
            await front.close()


async def fails(call: Any) -> tuple[str, str, str]:
    """Code, reason and text of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    packed = dict(caught.value.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(packed).details if isinstance(packed, bytes) else ():
        detail.Unpack(info)
    return caught.value.code().name, info.reason, caught.value.details() or ""


def get(name: str = "web") -> object_service_pb2.GetRequest:
    return object_service_pb2.GetRequest(reference=meta_pb2.ObjectReference(kind="Pod", namespace="shop", name=name))


def pod(name: str) -> object_pb2.Object:
    return object_pb2.Object(pod=pod_pb2.Pod(metadata=meta_pb2.ObjectMeta(namespace="shop", name=name)))


async def nothing(request: Any, context: Any) -> None:
    return None


async def for_ever(request: Any, context: Any) -> None:
    await asyncio.sleep(3_600)


# ------------------------------------------------------------------------------------------- answers and failures


@pytest.mark.asyncio
async def test_a_handler_knows_its_caller() -> None:
    seen: list[str] = []

    async def answer(request: Any, context: Any) -> None:
        seen.append(access.caller().identity)
        access.caller().require("delete", "Pod", "shop")

    async with stand(answer) as at:
        assert (await at.objects.Get(get())).revision == 1
        assert seen == ["local"]
        assert at.counted("Get", "OK") == 1.0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotFound("Pod shop/web does not exist"), ("NOT_FOUND", "NOT_FOUND", "Pod shop/web does not exist")),
        (Conflict("changed"), ("ABORTED", "CONFLICT", "changed")),
        (ExceptionGroup("", [NotFound("inner")]), ("NOT_FOUND", "NOT_FOUND", "inner")),
    ],
)
async def test_what_a_handler_raises_becomes_a_status(error: Exception, expected: tuple[str, str, str]) -> None:
    async def answer(request: Any, context: Any) -> None:
        raise error

    async with stand(answer) as at:
        assert await fails(at.objects.Get(get())) == expected
        assert await fails(_all(at.objects.Watch(object_service_pb2.WatchRequest()))) == expected
        assert at.counted("Get", expected[0]) == 1.0


async def _all(stream: Any) -> list[Any]:
    return [each async for each in stream]


@pytest.mark.asyncio
async def test_a_bug_is_logged_with_a_number_and_not_told() -> None:
    async def answer(request: Any, context: Any) -> None:
        raise KeyError("secret of shop/web")

    with structlog.testing.capture_logs() as said:
        async with stand(answer) as at:
            code, reason, text = await fails(at.objects.Get(get()))
    assert (code, reason) == ("INTERNAL", "INTERNAL")
    assert "secret" not in text and "Traceback" not in text
    (line,) = [each for each in said if each["event"] == "call failed"]
    assert line["request_id"] == text.split()[-1] and isinstance(line["exc_info"][1], KeyError)


@pytest.mark.asyncio
async def test_a_handlers_own_abort_is_left_alone() -> None:
    async def answer(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    async with stand(answer) as at:
        assert await fails(at.objects.Get(get())) == ("UNIMPLEMENTED", "", "not here")


@pytest.mark.asyncio
async def test_calls_are_capped_in_time_and_streams_are_not() -> None:
    async with stand(for_ever) as at:
        begun = asyncio.get_running_loop().time()
        assert (await fails(at.objects.Get(get())))[0] == "DEADLINE_EXCEEDED"
        assert (await fails(at.objects.Get(get(), timeout=60)))[0] == "DEADLINE_EXCEEDED"
        assert 0.5 < asyncio.get_running_loop().time() - begun < 5
        begun = asyncio.get_running_loop().time()
        assert (await fails(at.objects.Apply(object_service_pb2.ApplyRequest())))[0] == "DEADLINE_EXCEEDED"
        assert asyncio.get_running_loop().time() - begun > 0.55
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(watch.read()), LIMITS.batch_s + 0.3)
        watch.cancel()


@pytest.mark.asyncio
async def test_a_client_that_leaves_cancels_its_handler() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: Any, context: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            gone.set()

    async with stand(answer) as at:
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        await asyncio.wait_for(begun.wait(), 5)  # else the handler may end at its first answer, before it is asked
        watch.cancel()
        await asyncio.wait_for(gone.wait(), 5)


# ------------------------------------------------------------------------------------------- what is not let in


@pytest.mark.asyncio
async def test_until_ready_only_health_is_answered() -> None:
    async with stand(nothing, is_ready=False) as at:
        code, reason, text = await fails(at.objects.Get(get()))
        assert (code, reason, text) == ("UNAVAILABLE", "NOT_READY", "the server is starting")
        check = at.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x02"  # NOT_SERVING
        unknown = at.channel.unary_unary("/elsewhere.Service/Method")
        assert (await fails(unknown(b"")))[0] == "UNIMPLEMENTED"


@pytest.mark.asyncio
async def test_messages_are_as_large_as_their_method_takes() -> None:
    async with stand(nothing) as at:
        assert (await at.objects.Get(get("x" * 900))).revision == 1
        code, reason, text = await fails(at.objects.Get(get("x" * 1_100)))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE") and "at most 1,024" in text
        large = object_service_pb2.ApplyRequest(items=[object_service_pb2.ApplyItem(object=pod("x" * 3_000))])
        assert (await at.objects.Apply(large)).revision == 7
        larger = object_service_pb2.ApplyRequest(items=[object_service_pb2.ApplyItem(object=pod("x" * 5_000))])
        assert (await fails(at.objects.Apply(larger)))[0] == "RESOURCE_EXHAUSTED"
        sync = at.sync.Sync(iter([sync_service_pb2.SyncRequest(put=sync_service_pb2.SyncPut(object=pod("x" * 5_000)))]))
        assert (await fails(_all(sync)))[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["Get", "Apply"])
async def test_bytes_that_are_no_message(method: str) -> None:
    async with stand(nothing) as at:
        raw = at.channel.unary_unary(f"/ovnk_api.v1.ObjectService/{method}")
        code, reason, _ = await fails(raw(b"\xff\xff\xff"))
        assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED")


@pytest.mark.asyncio
async def test_a_request_that_never_comes_ends_its_call() -> None:
    async with stand(nothing) as at:
        raw = at.channel.stream_unary("/ovnk_api.v1.ObjectService/Get")
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(raw(_never()), 10)
        assert (await at.objects.Get(get())).revision == 1


async def _never() -> AsyncIterator[bytes]:
    await asyncio.sleep(3_600)
    yield b""


@pytest.mark.asyncio
async def test_a_read_only_server_changes_nothing() -> None:
    async with stand(nothing, read_only=True) as at:
        code, reason, _ = await fails(at.objects.Apply(object_service_pb2.ApplyRequest()))
        assert (code, reason) == ("FAILED_PRECONDITION", "READ_ONLY")
        assert (await fails(_all(at.sync.Sync(iter([])))))[1] == "READ_ONLY"
        assert (await at.objects.Apply(object_service_pb2.ApplyRequest(validate_only=True))).revision == 7
        assert (await at.objects.Get(get())).revision == 1


@pytest.mark.asyncio
async def test_one_identity_cannot_take_all_calls() -> None:
    async with stand(for_ever, limits=LimitSettings(calls_per_identity=3)) as at:
        watches = [at.objects.Watch(object_service_pb2.WatchRequest()) for _ in range(3)]
        for watch in watches:
            await watch.read()
        code, reason, _ = await fails(at.objects.Get(get()))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        check = at.channel.unary_unary("/grpc.health.v1.Health/Check")
        for watch in watches:
            watch.cancel()
        await _until(lambda: at.front.gate._admission._present["local"] == 0)
        assert await check(b"")


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


# ------------------------------------------------------------------------------------------- streams and policies


def _watching(verb: access.Verb = "watch") -> tuple[Answer, asyncio.Event]:
    go_on = asyncio.Event()

    async def answer(request: Any, context: Any) -> None:
        access.caller().require(verb, "Pod", "shop")
        await go_on.wait()
        access.caller().require("list", "Pod", "shop")

    return answer, go_on


@pytest.mark.asyncio
async def test_a_policy_that_takes_away_ends_the_stream_that_used_it() -> None:
    answer, _ = _watching()
    async with stand(answer, rules=RULES) as at:
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        await _until(lambda: any(call.following._allowed for call in at.front.gate._streams))
        _rewrite(at, RULES.replace("'watch', ", ""))
        assert (await fails(watch.read()))[:2] == ("PERMISSION_DENIED", "POLICY_CHANGED")


@pytest.mark.asyncio
async def test_a_policy_that_takes_away_something_else_leaves_a_stream_alone() -> None:
    answer, go_on = _watching()
    async with stand(answer, rules=RULES) as at:
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        await _until(lambda: any(call.following._allowed for call in at.front.gate._streams))
        _rewrite(at, RULES.replace("'get', ", "'list', "))
        go_on.set()
        assert (await watch.read()).revision == 2


def _rewrite(at: Stand, text: str) -> None:
    authorisation = at.front.authorisation
    assert authorisation._path is not None
    authorisation._path.write_text(text)
    assert authorisation.refresh()
    at.front.gate.policy_changed()


@pytest.mark.asyncio
async def test_a_policy_that_gives_ends_the_stream_that_was_denied_something() -> None:
    go_on = asyncio.Event()

    async def answer(request: Any, context: Any) -> None:
        assert not access.caller().may("watch", "Node")
        await go_on.wait()

    async with stand(answer, rules="[[rule]]\nidentities = ['local']\nverbs = ['watch']\nkinds = ['Pod']\n") as at:
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        await _until(lambda: any(call.following._allowed for call in at.front.gate._streams))
        _rewrite(at, "[[rule]]\nidentities = ['local']\nverbs = ['watch']\n")
        assert (await fails(watch.read()))[1] == "POLICY_CHANGED"


@pytest.mark.asyncio
async def test_who_asked_about_more_than_is_remembered_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptor, "MAX_REMEMBERED", 10)
    go_on = asyncio.Event()

    async def answer(request: Any, context: Any) -> None:
        assert not any(access.caller().may("watch", "Pod", f"made-up-{number}") for number in range(100))
        go_on.set()
        await asyncio.sleep(3_600)

    async with stand(answer, rules="[[rule]]\nidentities = ['local']\nverbs = ['get']\n") as at:
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        await go_on.wait()
        (call,) = at.front.gate._streams
        assert call.following is not None and len(call.following._allowed) == 10
        _rewrite(at, "[[rule]]\nidentities = ['local']\nverbs = ['list']\n")
        assert (await fails(watch.read()))[1] == "POLICY_CHANGED"


@pytest.mark.asyncio
async def test_nothing_is_answered_to_whom_no_rule_names() -> None:
    async with stand(nothing, rules="[[rule]]\nidentities = ['ann']\nverbs = ['*']\n") as at:
        calls = (at.objects.Get(get()), at.objects.Watch(object_service_pb2.WatchRequest()).read())
        for call in calls:
            code, reason, text = await fails(call)
            assert (code, reason, text) == ("PERMISSION_DENIED", "PERMISSION_DENIED", "local is named by no rule")


@pytest.mark.asyncio
async def test_the_files_are_looked_after_while_the_server_runs() -> None:
    answer, _ = _watching()
    async with stand(answer, rules=RULES) as at:
        refreshing = asyncio.create_task(at.front.refresh())
        watch = at.objects.Watch(object_service_pb2.WatchRequest())
        await watch.read()
        path = at.front.authorisation._path
        assert path is not None
        path.write_text("")
        assert (await fails(asyncio.wait_for(watch.read(), 10)))[1] == "POLICY_CHANGED"
        refreshing.cancel()


@pytest.mark.asyncio
async def test_stopping_tells_streams_and_lets_calls_finish() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: Any, context: Any) -> None:
        begun.set()
        await go_on.wait()

    async with stand(answer, limits=LimitSettings(stop_s=4.0)) as at:
        watch, call = at.objects.Watch(object_service_pb2.WatchRequest()), asyncio.ensure_future(at.objects.Get(get()))
        await watch.read()
        await begun.wait()
        closing = asyncio.create_task(at.front.close())
        code, reason, text = await fails(watch.read())
        assert (code, reason, text) == ("UNAVAILABLE", "NOT_READY", "the server is stopping")
        go_on.set()
        assert (await call).revision == 1
        await asyncio.wait_for(closing, 5)


# ------------------------------------------------------------------------------------------- the audit


class Lines(logging.Handler):
    """What the audit said."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Any:
    handler, logger = Lines(), logging.getLogger("ovnk.audit")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.records
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.asyncio
async def test_each_change_gets_a_line(lines: list[Any]) -> None:
    async def answer(request: Any, context: Any) -> None:
        if request.request_id == "no":
            raise Conflict("changed")

    items = [object_service_pb2.ApplyItem(object=pod(f"web-{index}")) for index in range(30)]
    large = LimitSettings()
    async with stand(answer, limits=large) as at:
        await at.objects.Apply(object_service_pb2.ApplyRequest(items=items, request_id="yes"))
        await fails(at.objects.Apply(object_service_pb2.ApplyRequest(items=items[:1], request_id="no")))
        await at.objects.Apply(object_service_pb2.ApplyRequest(items=items, validate_only=True))
    first, second = lines
    assert (first.identity, first.method, first.outcome, first.revision) == (
        "local",
        "ovnk_api.v1.ObjectService/Apply",
        "OK",
        7,
    )
    assert (first.count, len(first.objects), first.objects[0], first.request_id) == (30, 20, "Pod/shop/web-0", "yes")
    assert first.digest.startswith("sha256:") and first.digest != second.digest
    assert (second.outcome, second.revision, second.objects) == ("ABORTED", 0, ["Pod/shop/web-0"])


@pytest.mark.asyncio
async def test_a_sync_gets_a_line_for_each_answer(lines: list[Any]) -> None:
    def put(sequence: int) -> sync_service_pb2.SyncRequest:
        return sync_service_pb2.SyncRequest(
            sequence=sequence, put=sync_service_pb2.SyncPut(object=pod(f"web-{sequence}"))
        )

    begin = sync_service_pb2.SyncRequest(sequence=1, begin=sync_service_pb2.SyncBegin(source="cluster-1"))
    async with stand(nothing) as at:
        answers = await _all(at.sync.Sync(iter([begin, put(2), put(3)])))
    assert [answer.sequence for answer in answers] == [2]
    answered, left = lines
    assert (answered.revision, answered.outcome) == (20, "OK")
    assert answered.objects == ["source cluster-1", "begin", "put Pod/shop/web-2"]
    assert (left.revision, left.objects) == (0, ["source cluster-1", "put Pod/shop/web-3"])


def test_the_audit_file_is_json_and_ours_alone(tmp_path: Path) -> None:
    from ovnk_server.audit import LOGGER
    from ovnk_server.log import configure_log
    from ovnk_server.settings import LogSettings

    root, path = logging.getLogger(), tmp_path / "audit.log"
    before = root.handlers[:], root.level
    try:
        configure_log(LogSettings(audit=str(path), format="json"))
        LOGGER.info("change", extra={"identity": "ann", "revision": 3})
        found = json.loads(path.read_text())
        assert (found["identity"], found["revision"], found["event"]) == ("ann", 3, "change")
        assert path.stat().st_mode & 0o777 == 0o600
        path.rename(tmp_path / "audit.log.1")
        LOGGER.info("change", extra={"identity": "bob"})
        assert json.loads(path.read_text())["identity"] == "bob"
    finally:
        for handler in LOGGER.handlers:
            handler.close()
        LOGGER.handlers.clear()
        LOGGER.propagate = True
        root.handlers[:], level = before
        root.setLevel(level)


def test_dns_answers_are_named_in_the_audit() -> None:
    from ovnk_server.audit import refs_of

    request = dns_service_pb2.PushAnswersRequest(answers=[dns_service_pb2.DnsAnswer(name="a.example")])
    assert list(refs_of(request)) == ["DnsName/a.example"]
