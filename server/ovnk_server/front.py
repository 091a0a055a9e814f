"""The gRPC server: listeners, the gate around every handler, health, reflection, and services once there is a keeper.

    front = Front(settings, telemetry)
    await front.start()          # answers health with NOT_SERVING and everything else with UNAVAILABLE
    await front.open(keeper, northbound)  # answers
    await front.close()          # within limits.stop_s

One event loop owns it all: grpcio's asynchronous objects must not cross threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from ovnk_api.v1 import (
    certificate_service_pb2_grpc,
    dns_service_pb2_grpc,
    egress_ip_service_pb2_grpc,
    event_service_pb2_grpc,
    info_service_pb2_grpc,
    northbound_service_pb2_grpc,
    object_service_pb2_grpc,
    output_service_pb2_grpc,
    sync_service_pb2_grpc,
    trace_service_pb2_grpc,
)

from ovnk_core.keeper import Keeper
from ovnk_core.northbound.port import Northbound
from ovnk_server.authorisation import Authorisation
from ovnk_server.faults import NotReady
from ovnk_server.interceptor import Gate
from ovnk_server.listening import Listener, parse_listener
from ovnk_server.log import LOGGER
from ovnk_server.services.certificate import CertificateService
from ovnk_server.services.dns import DnsService
from ovnk_server.services.egress_ip import EgressIPService
from ovnk_server.services.event import EventService
from ovnk_server.services.info import InfoService
from ovnk_server.services.northbound import NorthboundService
from ovnk_server.services.object import ObjectService
from ovnk_server.services.output import OutputService
from ovnk_server.services.sync import SyncService
from ovnk_server.services.trace import TraceService
from ovnk_server.settings import ServerSettings
from ovnk_server.telemetry import Telemetry
from ovnk_server.transport import Certificates, ListenError, prepare_socket, protect_socket

Register = Callable[[Any, Any], None]
"""``add_XServicer_to_server`` of generated code."""
REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
REFRESH_S, SPARE_STREAMS = 1.0, 256


def services(keeper: Keeper, northbound: Northbound, settings: ServerSettings) -> tuple[tuple[str, Register, Any], ...]:
    """Every service: its name, how it is registered, and what answers. A new one is a line here."""
    return (
        (
            "CertificateService",
            certificate_service_pb2_grpc.add_CertificateServiceServicer_to_server,
            CertificateService(keeper, settings.certificates.folder, is_read_only=settings.read_only),
        ),
        ("DnsService", dns_service_pb2_grpc.add_DnsServiceServicer_to_server, DnsService(keeper)),
        (
            "EgressIPService",
            egress_ip_service_pb2_grpc.add_EgressIPServiceServicer_to_server,
            EgressIPService(keeper),
        ),
        ("EventService", event_service_pb2_grpc.add_EventServiceServicer_to_server, EventService(keeper)),
        ("InfoService", info_service_pb2_grpc.add_InfoServiceServicer_to_server, InfoService(northbound, settings)),
        (
            "NorthboundService",
            northbound_service_pb2_grpc.add_NorthboundServiceServicer_to_server,
            NorthboundService(keeper),
        ),
        ("ObjectService", object_service_pb2_grpc.add_ObjectServiceServicer_to_server, ObjectService(keeper)),
        ("OutputService", output_service_pb2_grpc.add_OutputServiceServicer_to_server, OutputService(keeper)),
        ("SyncService", sync_service_pb2_grpc.add_SyncServiceServicer_to_server, SyncService(keeper)),
        ("TraceService", trace_service_pb2_grpc.add_TraceServiceServicer_to_server, TraceService(keeper)),
    )


class Switchboard(grpc.GenericRpcHandler):
    """Handlers that may come after the server has started, which grpcio's own registration does not allow. Stands in
    for a server towards generated code."""

    def __init__(self) -> None:
        self._handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The same handlers once more, for servers that look methods up by name."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        found = (each.service(handler_call_details) for each in self._handlers)
        return next((each for each in found if each is not None), None)


class Front:
    """Everything between the network and a keeper. ``addresses``: what was bound, by what was asked for."""

    def __init__(self, settings: ServerSettings, telemetry: Telemetry) -> None:
        self._settings = settings
        self.authorisation = Authorisation(settings.authorisation, settings.socket.identity, LOGGER.warning)
        self.gate = Gate(settings, self.authorisation, telemetry)
        self.addresses: dict[str, str] = {}
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        self._certificates = Certificates(settings.tls, LOGGER.warning) if settings.tls.cert else None
        self._server = grpc.aio.server(
            interceptors=(self.gate,),
            options=options(settings),
            maximum_concurrent_rpcs=settings.limits.calls,
        )
        self.switchboard = Switchboard()
        self._server.add_generic_rpc_handlers((self.switchboard,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.switchboard)

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        await self._tell(is_serving=False)
        listeners = [parse_listener(text) for text in self._settings.listen]
        for listener in listeners:
            self._bind(listener)
        await self._server.start()
        for listener in listeners:
            if not listener.is_tcp:
                protect_socket(listener.path, self._settings.socket.group)
            LOGGER.info("listening", address=self.addresses[listener.text])

    def _bind(self, listener: Listener) -> None:
        settings, certificates = self._settings, self._certificates
        try:
            if not listener.is_tcp:
                prepare_socket(listener.path, settings.socket.group)
                self._server.add_insecure_port(f"unix:{listener.path}")
                self.addresses[listener.text] = listener.text
                return
            where = f"{listener.host}:{listener.port}"
            if certificates is not None:
                port = self._server.add_secure_port(where, certificates.credentials())
            else:
                LOGGER.warning("INSECURE: everybody on this machine may call", address=listener.text)
                port = self._server.add_insecure_port(where)
            self.addresses[listener.text] = f"tcp:{listener.host}:{port}"
        except RuntimeError as error:
            raise ListenError(f"{listener.text}: cannot be listened on: {error}") from error

    async def open(self, keeper: Keeper, northbound: Northbound) -> None:
        """Answer from ``keeper``, which writes ``northbound``."""
        found = services(keeper, northbound, self._settings)
        for _, register, service in found:
            register(service, self.switchboard)
        self._names = [f"ovnk_api.v1.{name}" for name, _, _ in found]
        self._reflect()
        self.gate.closed = None
        await self._tell(is_serving=True)

    def _reflect(self) -> None:
        servicer = reflection.aio.ReflectionServicer([*self._names, health.SERVICE_NAME, *REFLECTION])
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        # v1 is v1alpha by another name, byte for byte; grpcio's package has the old one only.
        for name in REFLECTION:
            generic = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            self.switchboard.add_generic_rpc_handlers((generic,))

    async def fail(self, why: str) -> None:
        """Answer nothing any more but that something is wrong."""
        self.gate.close(NotReady(why))
        await self._tell(is_serving=False)

    async def refresh(self) -> None:
        """Look after files that may change, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if await asyncio.to_thread(self.authorisation.refresh):
                self.gate.policy_changed()
            if self._certificates is not None:
                await asyncio.to_thread(self._certificates.refresh)

    async def close(self) -> None:
        """Tell everybody, end the streams, let calls finish for most of ``limits.stop_s``, then cut them off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._health.enter_graceful_shutdown()
        self.gate.close(NotReady("the server is stopping"))
        await self._server.stop(self._settings.limits.stop_s * 0.5)

    async def _tell(self, *, is_serving: bool) -> None:
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        with suppress(TimeoutError):
            # A watcher of health that reads nothing holds up whoever tells it.
            async with asyncio.timeout(1.0):
                for name in ("", *self._names):
                    await self._health.set(name, status)


def options(settings: ServerSettings) -> list[tuple[str, int]]:
    """What grpcio is told of limits and keepalive; times in milliseconds."""
    limits, keepalive = settings.limits, settings.keepalive

    def ms(seconds: float) -> int:
        return max(1, round(seconds * 1_000))

    return [
        ("grpc.max_receive_message_length", limits.large_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        # Further ones wait in the client, without a word; so our own limit, which answers, is to be met first.
        ("grpc.max_concurrent_streams", limits.calls_per_identity + SPARE_STREAMS),
        ("grpc.server_handshake_timeout_ms", ms(limits.arrival_s)),
        ("grpc.keepalive_time_ms", ms(keepalive.time_s)),
        ("grpc.keepalive_timeout_ms", ms(keepalive.timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", ms(keepalive.min_ping_s)),
        ("grpc.max_connection_age_ms", ms(keepalive.max_age_s)),
        ("grpc.max_connection_age_grace_ms", ms(keepalive.max_age_grace_s)),
        # Two servers on one port would each get half of the connections.
        ("grpc.so_reuseport", 0),
    ]
