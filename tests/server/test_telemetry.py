"""Spans: a call continues its client's trace, and a change is followed to the northbound."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ovnk_api.v1 import meta_pb2, namespace_pb2, object_pb2, object_service_pb2, object_service_pb2_grpc
from ovnk_server.convergence import Convergence
from ovnk_server.exporting import ExportError, tracer
from ovnk_server.front import Front
from ovnk_server.metering import MeteredLog, MeteredNorthbound, Transacted
from ovnk_server.settings import ServerSettings
from ovnk_server.telemetry import Telemetry

from ovnk_core.errors import Unreachable
from ovnk_core.keeper import Keeper
from ovnk_core.keeper.link import ask_northbound
from ovnk_core.nb.operation import BumpConfig, RequireTurn
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.store.memory import MemoryLog
from tests.kit.ovn import short_directory

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def _request(name: str) -> object_service_pb2.ApplyRequest:
    made = object_pb2.Object(namespace=namespace_pb2.Namespace(metadata=meta_pb2.ObjectMeta(name=name)))
    return object_service_pb2.ApplyRequest(items=[object_service_pb2.ApplyItem(object=made)])


@pytest.mark.asyncio
async def test_a_change_is_one_trace_from_its_client_to_the_northbound() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("test"))
    northbound, log = MemoryNorthbound(), MeteredLog(MemoryLog(), telemetry.appended)
    with short_directory() as root:
        front = Front(ServerSettings(listen=(f"unix:{root}/s",)), telemetry)
        await front.start()
        async with Keeper(northbound, log) as keeper:
            following = asyncio.create_task(Convergence(telemetry, keeper.stages).run())
            await front.open(keeper, northbound)
            async with grpc.aio.insecure_channel(f"unix:{root}/s") as channel:
                stub = object_service_pb2_grpc.ObjectServiceStub(channel)
                headers = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
                revision = (await stub.Apply(_request("shop"), metadata=headers)).revision
                async with asyncio.timeout(10):
                    while len(spans := _of_trace(exporter)) < 2:
                        await asyncio.sleep(0.01)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await front.close()
    call, converged = spans["ovnk_api.v1.ObjectService/Apply"], spans["converge.nb"]
    assert format(call.parent.span_id, "016x") == PARENT
    assert converged.parent.span_id == call.context.span_id
    assert converged.attributes["ovnk.revision"] == revision
    assert call.attributes["rpc.method"] == "Apply" and call.attributes["rpc.grpc.status"] == "OK"
    count = telemetry.registry.get_sample_value("ovnk_convergence_seconds_count", {"stage": "nb"})
    assert count is not None and count >= 1


def _of_trace(exporter: InMemorySpanExporter) -> dict[str, Any]:
    found = exporter.get_finished_spans()
    return {span.name: span for span in found if format(span.context.trace_id, "032x") == TRACE}


def test_spans_are_off_unless_configured() -> None:
    assert tracer("") is None
    assert Telemetry().tracer is None


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ExportError, match=r"install ovnk\[otel\]"):
        tracer("http://127.0.0.1:1")


class Refusing(MemoryNorthbound):
    """A northbound that cannot be reached."""

    async def transact(self, operations: Any, *, timeout_s: float = 30.0) -> Any:
        raise Unreachable("gone " + "x" * 10_000)


@pytest.mark.asyncio
async def test_a_transaction_is_told_in_few_words_whatever_became_of_it() -> None:
    told: list[Transacted] = []
    with pytest.raises(Unreachable):
        await MeteredNorthbound(Refusing(), told.append).transact((RequireTurn(epoch=1), BumpConfig()))
    assert (told[0].txn, told[0].outcome, told[0].operations) == (1, "Unreachable", {"bump": 1})
    assert len(told[0].failure) == 500


@pytest.mark.asyncio
async def test_a_question_whether_the_northbound_answers_is_no_transaction() -> None:
    """Whoever reads the log of a server without the turn must not take it for a second writer."""
    told: list[Transacted] = []
    northbound = MeteredNorthbound(MemoryNorthbound(), told.append)
    await northbound.connect(mirrored())
    assert (await ask_northbound(northbound)).is_connected
    assert told == []
    await northbound.transact((BumpConfig(),))
    assert [each.txn for each in told] == [1]
