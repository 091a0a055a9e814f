"""Metrics and spans: what is told of calls, transactions and the store, for Prometheus and OpenTelemetry.

Counters are raised where something happens; what a keeper knows anyway (revisions, rows, lags) is read when Prometheus
asks. Labels are bounded: methods, codes, tables, stages and outcomes, never a name of a user's.

Spans are off unless an exporter is configured. A call is one span, in the trace its client began (W3C headers); a
change is followed from there to the northbound, northd and the chassis by ``convergence``.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector

from ovnk_server.log import LOGGER
from ovnk_server.metering import Appended, Transacted

MAX_CHANGED = 1_000
"""Spans that wait to be followed; the oldest, of revisions that changed nothing for instance, are let go."""
FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Called(Protocol):
    """What is told of a call."""

    name: str
    identity: str
    begun_s: float


class Telemetry:
    """The metrics of one server; ``tracer`` None: no spans."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        self.registry = registry = CollectorRegistry()
        for make in (ProcessCollector, PlatformCollector, GCCollector):
            make(registry=registry)
        names = ("method", "code")
        self._calls = Counter("ovnk_rpc", "Calls that are over.", names, registry=registry)
        self._call_s = Histogram(
            "ovnk_rpc_seconds",
            "How long calls took that are no streams.",
            ("method",),
            buckets=FAST_S,
            registry=registry,
        )
        self.in_flight = 0
        self._transactions = Counter(
            "ovnk_nb_transactions", "Northbound transactions.", ("outcome",), registry=registry
        )
        self._operations = Counter("ovnk_nb_operations", "Operations committed, by verb.", ("verb",), registry=registry)
        self._transaction_s = Histogram(
            "ovnk_nb_transaction_seconds", "How long transactions took.", buckets=FAST_S, registry=registry
        )
        self._appends = Counter("ovnk_store_appends", "Appends to the store.", ("outcome",), registry=registry)
        self._entries = Counter("ovnk_store_entries", "Entries appended.", registry=registry)
        self._append_s = Histogram(
            "ovnk_store_append_seconds", "How long appends took.", buckets=FAST_S, registry=registry
        )
        self.resyncs = Counter("ovnk_watch_resyncs", "Watches that fell too far behind.", registry=registry)
        self.lag_s = Histogram(
            "ovnk_event_loop_lag_seconds", "How late the event loop was.", buckets=LAG_S, registry=registry
        )
        self.convergence_s = Histogram(
            "ovnk_convergence_seconds",
            "From accepted here to the northbound (nb), northd (sb) and every chassis (hv).",
            ("stage",),
            buckets=(*FAST_S, 60.0, 120.0),
            registry=registry,
        )
        self._known: dict[tuple[str, str], Any] = {}
        self.changed: dict[int, Span] = {}
        """Spans of calls that made a revision, until ``convergence`` takes them."""

    # ------------------------------------------------------------------ calls

    def call(self, call: Called, context: Any) -> Observed:
        """Around one call."""
        span = None
        if self.tracer is not None:
            carrier = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            parent = propagate.extract(carrier)
            span = self.tracer.start_span(call.name, context=parent, kind=SpanKind.SERVER)
            service, _, method = call.name.rpartition("/")
            span.set_attributes({"rpc.system": "grpc", "rpc.service": service, "rpc.method": method})
        return Observed(self, call, span)

    def observe(self, name: str, code: str, seconds: float | None) -> None:
        """One call is over; ``seconds`` None for a stream."""
        found = self._known.get((name, code))
        if found is None:
            found = self._known[name, code] = self._calls.labels(name, code), self._call_s.labels(name)
        counter, histogram = found
        counter.inc()
        if seconds is not None:
            histogram.observe(seconds)

    def bug(self, call: Called, call_id: str, failure: BaseException) -> None:
        """Something of ours went wrong in a call."""
        trace = (type(failure), failure, failure.__traceback__)
        LOGGER.error("call failed", method=call.name, request_id=call_id, identity=call.identity, exc_info=trace)

    # ------------------------------------------------------------------ northbound and store

    def transacted(self, done: Transacted, revision: int) -> None:
        """One transaction: its counters, and its one line in the log."""
        self._transactions.labels(done.outcome).inc()
        self._transaction_s.observe(done.seconds)
        facts = {"txn": done.txn, "revision": revision, "seconds": round(done.seconds, 4), **done.operations}
        if done.outcome == "committed":
            for verb, number in done.operations.items():
                self._operations.labels(verb).inc(number)
            LOGGER.info("transaction", outcome=done.outcome, **facts)
        else:
            LOGGER.warning("transaction", outcome=done.outcome, failure=done.failure, **facts)

    def appended(self, done: Appended) -> None:
        """One append to the store."""
        self._appends.labels(done.outcome).inc()
        self._append_s.observe(done.seconds)
        if done.outcome == "appended":
            self._entries.inc(done.entries)
        else:
            LOGGER.warning("append", outcome=done.outcome, seconds=round(done.seconds, 4))


class Observed:
    """One call, from its beginning to its end."""

    __slots__ = ("_call", "_is_stream", "_span", "_telemetry")

    def __init__(self, telemetry: Telemetry, call: Called, span: Span | None) -> None:
        self._telemetry, self._call, self._span = telemetry, call, span

    def __enter__(self) -> Self:
        self._telemetry.in_flight += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._telemetry.in_flight -= 1
        if self._span is not None:
            self._span.end()

    def ended(self, code: str, response: Any, seconds: float | None) -> None:
        """What became of it; ``response``: the only one, or the last one of a stream."""
        self._telemetry.observe(self._call.name, code, seconds)
        if seconds is None and response is not None and _is_resync(response):
            self._telemetry.resyncs.inc()
        span = self._span
        if span is None:
            return
        span.set_attribute("rpc.grpc.status", code)
        if code != "OK":
            span.set_status(Status(StatusCode.ERROR, code))
        revision = getattr(response, "revision", 0)
        if revision:
            changed = self._telemetry.changed
            changed[revision] = span
            if len(changed) > MAX_CHANGED:
                del changed[next(iter(changed))]


def _is_resync(response: Any) -> bool:
    # The field is WatchResponse's; it is always the last event of its stream.
    return "resync_required" in response.DESCRIPTOR.fields_by_name and bool(response.HasField("resync_required"))
