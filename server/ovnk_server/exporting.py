"""Where metrics and spans go: an HTTP listener for Prometheus, an OTLP exporter for spans. Both are off unless set."""

from __future__ import annotations

from threading import Thread
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

from opentelemetry.trace import Tracer
from prometheus_client import start_http_server

from ovnk_core.errors import OvnkError
from ovnk_server.gauges import Gauges
from ovnk_server.listening import parse_endpoint
from ovnk_server.log import LOGGER
from ovnk_server.telemetry import Telemetry

NAME = "ovnk"


class ExportError(OvnkError):
    """Metrics or spans cannot go where they are to."""

    is_usage = True


def tracer(endpoint: str) -> Tracer | None:
    """Who makes spans that go to an OTLP/gRPC endpoint; None for an empty one. Raises ExportError."""
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ExportError(f"telemetry.otlp needs the package {error.name}: install ovnk[otel]") from error
    provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
    is_insecure = not endpoint.startswith("https:")
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=is_insecure)))
    return provider.get_tracer(NAME)


class Exporter:
    """Prometheus' listener while it is entered; nothing for an empty address. Raises ExportError on entering."""

    def __init__(self, address: str, telemetry: Telemetry, gauges: Gauges) -> None:
        self._address, self._registry = address, telemetry.registry
        telemetry.registry.register(gauges)
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        if self._address:
            host, port = parse_endpoint(self._address)
            try:
                self._server, self._thread = start_http_server(port, host.strip("[]"), self._registry)
            except OSError as error:
                raise ExportError(f"telemetry.metrics {self._address}: {error.strerror}") from error
            LOGGER.info("metrics", address=f"{host}:{self._server.server_port}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(1.0)
            self._server.server_close()
