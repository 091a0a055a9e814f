"""A keeper behind a real gRPC server on a unix socket, in the test's own loop, and callers of several identities.

async with served(tmp_path) as stand:
    api = await stand.caller()                      # may do everything
    ann = await stand.caller("ann", Rules(...))     # may do what the rules say
    await api.objects.Get(...)
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from ovnk_api.v1 import (
    certificate_service_pb2_grpc,
    dns_service_pb2_grpc,
    egress_ip_service_pb2_grpc,
    event_service_pb2_grpc,
    meta_pb2,
    northbound_service_pb2_grpc,
    object_pb2,
    object_service_pb2,
    object_service_pb2_grpc,
    output_service_pb2_grpc,
    sync_service_pb2_grpc,
    trace_service_pb2_grpc,
)
from ovnk_server.access import Policy, Verb
from ovnk_server.interceptor import Gate
from ovnk_server.services.certificate import CertificateService
from ovnk_server.services.dns import DnsService
from ovnk_server.services.egress_ip import EgressIPService
from ovnk_server.services.event import EventService
from ovnk_server.services.northbound import NorthboundService
from ovnk_server.services.object import ObjectService
from ovnk_server.services.output import OutputService
from ovnk_server.services.sync import SyncService
from ovnk_server.services.trace import TraceService
from ovnk_server.settings import ServerSettings, SocketSettings
from ovnk_server.telemetry import Telemetry
from ovnk_wire import from_manifest

from ovnk_core.analysis.diff import row_operations
from ovnk_core.cluster import Cluster
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.keeper.settings import KeeperSettings
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.store.entry import StoreKey
from ovnk_core.store.memory import MemoryLog, MemoryLogDatabase

Manifest = Mapping[str, Any]
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Rules:
    """What is allowed: (verbs, kinds, namespaces), each a set of words or ``*`` for all."""

    def __init__(self, *rules: tuple[str, str, str]) -> None:
        self._rules = [tuple(frozenset(words.split()) for words in rule) for rule in rules]

    def names(self, identity: str, source: str = "") -> bool:
        return any(not source or "sync" in rule[0] or "*" in rule[0] for rule in self._rules)

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str, source: str = "") -> bool:
        asked = (verb, kind, namespace or "-")
        return any(
            all(word in words or "*" in words for word, words in zip(asked, rule, strict=True)) for rule in self._rules
        )


class AllowAll:
    """Everybody may do everything."""

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str, source: str = "") -> bool:
        return True

    def names(self, identity: str, source: str = "") -> bool:
        return True


class _Fixed:
    """An authorisation that changes by hand only."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy


class Api(NamedTuple):
    """One caller's stubs."""

    channel: grpc.aio.Channel
    objects: Any
    sync: Any
    events: Any
    northbound: Any
    trace: Any
    dns: Any
    outputs: Any
    egress_ips: Any
    certificates: Any
    gate: Gate

    def ruled(self, policy: Policy) -> None:
        """Put another policy in force."""
        self.gate._authorisation.policy = policy  # type: ignore[assignment]
        self.gate.policy_changed()


class Stand:
    """One server of a store and a northbound."""

    def __init__(self, keeper: Keeper, exit: AsyncExitStack, certificates: CertificateService) -> None:
        self.keeper, self._exit = keeper, exit
        self._folder = Path(tempfile.mkdtemp(prefix="ovnk"))
        self._exit.callback(shutil.rmtree, self._folder)
        self._callers = 0
        self.services = (
            (object_service_pb2_grpc.add_ObjectServiceServicer_to_server, ObjectService(keeper)),
            (sync_service_pb2_grpc.add_SyncServiceServicer_to_server, SyncService(keeper)),
            (event_service_pb2_grpc.add_EventServiceServicer_to_server, EventService(keeper)),
            (northbound_service_pb2_grpc.add_NorthboundServiceServicer_to_server, NorthboundService(keeper)),
            (trace_service_pb2_grpc.add_TraceServiceServicer_to_server, TraceService(keeper)),
            (dns_service_pb2_grpc.add_DnsServiceServicer_to_server, DnsService(keeper)),
            (output_service_pb2_grpc.add_OutputServiceServicer_to_server, OutputService(keeper)),
            (egress_ip_service_pb2_grpc.add_EgressIPServiceServicer_to_server, EgressIPService(keeper)),
            (certificate_service_pb2_grpc.add_CertificateServiceServicer_to_server, certificates),
        )

    async def caller(self, identity: str = "local", policy: Policy | None = None) -> Api:
        """Somebody with a socket of their own; everything is allowed by default."""
        self._callers += 1
        path = self._folder / f"s{self._callers}"
        settings = ServerSettings(socket=SocketSettings(identity=identity))
        gate = Gate(settings, _Fixed(policy or AllowAll()), Telemetry())  # type: ignore[arg-type]
        gate.closed = None
        server = grpc.aio.server(interceptors=(gate,), options=UNLIMITED)
        for register, service in self.services:
            register(service, server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        self._exit.push_async_callback(server.stop, 0)
        channel = grpc.aio.insecure_channel(f"unix:{path}", options=UNLIMITED)
        self._exit.push_async_callback(channel.close)
        return Api(
            channel=channel,
            objects=object_service_pb2_grpc.ObjectServiceStub(channel),
            sync=sync_service_pb2_grpc.SyncServiceStub(channel),
            events=event_service_pb2_grpc.EventServiceStub(channel),
            northbound=northbound_service_pb2_grpc.NorthboundServiceStub(channel),
            trace=trace_service_pb2_grpc.TraceServiceStub(channel),
            dns=dns_service_pb2_grpc.DnsServiceStub(channel),
            outputs=output_service_pb2_grpc.OutputServiceStub(channel),
            egress_ips=egress_ip_service_pb2_grpc.EgressIPServiceStub(channel),
            certificates=certificate_service_pb2_grpc.CertificateServiceStub(channel),
            gate=gate,
        )


@asynccontextmanager
async def served(
    *,
    log: MemoryLogDatabase | None = None,
    northbound: MemoryDatabase | None = None,
    settings: KeeperSettings | None = None,
    southbound: Any = None,
    folder: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Stand]:
    """A server; of two on the same databases the first has the turn. ``folder``: of certificates, by the clock
    ``now``."""
    async with AsyncExitStack() as exit:
        keeper = Keeper(
            MemoryNorthbound(database=northbound or MemoryDatabase()),
            MemoryLog(log or MemoryLogDatabase()),
            settings=settings,
            southbound=southbound,
        )
        await exit.enter_async_context(keeper)
        yield Stand(keeper, exit, CertificateService(keeper, folder, now=now))


# ------------------------------------------------------------------------------------------- requests


def message(manifest: Manifest) -> object_pb2.Object:
    return from_manifest(manifest)[0]


def apply_request(*manifests: Manifest, **fields: Any) -> object_service_pb2.ApplyRequest:
    items = [object_service_pb2.ApplyItem(object=message(each)) for each in manifests]
    return object_service_pb2.ApplyRequest(items=items, **fields)


def named(kind: str, name: str, namespace: str = "") -> meta_pb2.ObjectReference:
    return meta_pb2.ObjectReference(kind=kind, namespace=namespace, name=name)


def delete_request(*refs: meta_pb2.ObjectReference, **fields: Any) -> object_service_pb2.DeleteRequest:
    items = [object_service_pb2.DeleteItem(reference=each) for each in refs]
    return object_service_pb2.DeleteRequest(items=items, **fields)


async def apply(api: Api, *manifests: Manifest, **fields: Any) -> object_service_pb2.ApplyResponse:
    return await api.objects.Apply(apply_request(*manifests, **fields))


async def listed(api: Api, **asked: Any) -> list[str]:
    """Names of all pages."""
    found, token = [], ""
    while True:
        page = await api.objects.List(object_service_pb2.ListRequest(page_token=token, **asked))
        for each in page.objects:
            meta = getattr(each, each.WhichOneof("object")).metadata
            found.append(f"{meta.namespace}/{meta.name}")
        token = page.next_page_token
        if not token:
            return found


# ------------------------------------------------------------------------------------------- failures


class Failed(NamedTuple):
    """How a call failed: its code, the reason for programs, its violations as (field, description)."""

    code: grpc.StatusCode
    reason: str
    text: str
    violations: tuple[tuple[str, str], ...]
    facts: dict[str, str]


async def failure(call: Any) -> Failed:
    """The failure of a call (an awaitable, or a stream that is read to its end); fails if there is none."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return read_failure(error)
    raise AssertionError("the call did not fail")


def read_failure(error: grpc.aio.AioRpcError) -> Failed:
    reason, violations, facts = "", (), {}
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    for detail in status_pb2.Status.FromString(packed).details if packed else ():
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Unpack(request):
            violations = tuple((each.field, each.description) for each in request.field_violations)
    return Failed(error.code(), reason, error.details() or "", violations, facts)


async def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Until something that nobody announces holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


async def take(stream: Any, count: int) -> list[Any]:
    """The next ``count`` messages of a stream."""
    return [await stream.read() for _ in range(count)]


def names(refs: Iterable[Any]) -> list[str]:
    return [f"{each.kind} {each.namespace}/{each.name}" for each in refs]


def from_scratch(keeper: Keeper) -> Cluster:
    """What the kept documents and decisions lead to when everything is computed anew."""
    meaning = Meaning()
    for space in ("object", "refused"):
        for key, stored in keeper.history.items(StoreKey(space, "", "", ""), StoreKey(space, "\x7f", "", "")):
            meaning.add(key, stored.value)
    found = Cluster(settings=keeper.settings.cluster, decisions=keeper.plane.decisions)
    found.apply(meaning.put.values())
    found.apply((), (), meaning.refused.values())
    return found


def assert_from_scratch(keeper: Keeper) -> None:
    """The rows in force are those from scratch."""
    assert row_operations(from_scratch(keeper), keeper.plane.cluster, keeper.schema) == ()
