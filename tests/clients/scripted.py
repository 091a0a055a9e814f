"""A server that does what a test wrote down: what the client must survive rarely happens to the real one.

Every call is handled by the next entry of its method's script; one that is exhausted repeats its last one. An entry is
a handler ``async (request, context)`` for a single answer, or an asynchronous generator for a stream.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from ovnk_api.v1 import (
    dns_service_pb2_grpc,
    event_service_pb2_grpc,
    info_service_pb2_grpc,
    northbound_service_pb2_grpc,
    object_service_pb2_grpc,
    sync_service_pb2_grpc,
    trace_service_pb2_grpc,
)
from ovnk_client import Client

Handler = Callable[[Any, grpc.aio.ServicerContext], Any]
_SERVICES = {
    "Object": object_service_pb2_grpc,
    "Sync": sync_service_pb2_grpc,
    "Northbound": northbound_service_pb2_grpc,
    "Trace": trace_service_pb2_grpc,
    "Dns": dns_service_pb2_grpc,
    "Event": event_service_pb2_grpc,
    "Info": info_service_pb2_grpc,
}
_STREAMED = ("Watch", "Sync", "TraceMany", "Matrix")


class Script:
    """Entries by method, and the requests that came, by method and in order."""

    def __init__(self, **entries: Handler | list[Handler]) -> None:
        self._entries = {name: list(e) if isinstance(e, list) else [e] for name, e in entries.items()}
        self.requests: dict[str, list[Any]] = {}
        self.address = ""

    def take(self, method: str, request: Any) -> Handler:
        self.requests.setdefault(method, []).append(request)
        entries = self._entries[method]
        return entries.pop(0) if len(entries) > 1 else entries[0]


@asynccontextmanager
async def scripted(
    script: Script, *, deadline_s: float = 10.0, patience_s: float | None = None
) -> AsyncIterator[Client]:
    """A client of a server that follows ``script``."""
    folder = tempfile.mkdtemp(prefix="ovnk-")
    server = grpc.aio.server()
    for name, module in _SERVICES.items():
        service = _servicer(script, getattr(module, f"{name}ServiceServicer"))
        getattr(module, f"add_{name}ServiceServicer_to_server")(service, server)
    script.address = f"unix:{folder}/s"
    server.add_insecure_port(script.address)
    await server.start()
    try:
        async with Client(script.address, deadline_s=deadline_s, patience_s=patience_s) as client:
            yield client
    finally:
        await server.stop(None)
        shutil.rmtree(folder)


def _servicer(script: Script, servicer: type) -> object:
    def single(method: str) -> Handler:
        async def handle(self: object, request: Message, context: grpc.aio.ServicerContext) -> Message:
            answer: Message = await script.take(method, request)(request, context)
            return answer

        return handle

    def stream(method: str) -> Handler:
        async def handle(self: object, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
            async for answer in script.take(method, request)(request, context):
                yield answer

        return handle

    methods = [name for name in vars(servicer) if name[0].isupper()]
    body = {name: (stream if name in _STREAMED else single)(name) for name in methods}
    return type("Scripted", (servicer,), body)()


# ------------------------------------------------------------------------------------------- entries


def answers(message: Message) -> Handler:
    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Message:
        return message

    return handle


def fails(code: grpc.StatusCode, message: str = "so it is written", *details: Message) -> Handler:
    """A failure with google.rpc details, or a bare one without any."""

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Message:
        await abort(context, code, message, *details)
        raise AssertionError

    return handle


async def abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, message: str, *details: Message) -> None:
    if not details:
        await context.abort(code, message)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    for detail in details:
        status.details.add().Pack(detail)
    await context.abort_with_status(rpc_status.to_status(status))


def retry_after(seconds: float) -> error_details_pb2.RetryInfo:
    found = error_details_pb2.RetryInfo()
    found.retry_delay.FromMilliseconds(round(seconds * 1_000))
    return found
