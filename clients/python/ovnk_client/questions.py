"""Questions about packets, names and happenings, and about the server itself. Nothing here changes objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from ovnk_api.v1.dns_service_pb2 import (
    DnsAnswer,
    DnsName,
    DnsNameStatus,
    GetNameRequest,
    ListNamesRequest,
    PushAnswersRequest,
    PushAnswersResponse,
)
from ovnk_api.v1.dns_service_pb2_grpc import DnsServiceStub
from ovnk_api.v1.event_service_pb2 import ListEventsRequest, ListEventsResponse
from ovnk_api.v1.event_service_pb2_grpc import EventServiceStub
from ovnk_api.v1.info_service_pb2 import Feature, GetInfoRequest, GetInfoResponse, ListFeaturesRequest
from ovnk_api.v1.info_service_pb2_grpc import InfoServiceStub
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.trace_service_pb2 import (
    DiffRequest,
    DiffResponse,
    MatrixRequest,
    MatrixResponse,
    TraceManyRequest,
    TraceManyResponse,
    TraceRequest,
)
from ovnk_api.v1.trace_service_pb2_grpc import TraceServiceStub
from ovnk_api.v1.verdict_pb2 import Answer, Engine, Protocol, Question

from ovnk_client.connection import Connection
from ovnk_client.shape import Given, as_objects

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.dns_service_pb2_grpc import DnsServiceAsyncStub
    from ovnk_api.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from ovnk_api.v1.info_service_pb2_grpc import InfoServiceAsyncStub
    from ovnk_api.v1.trace_service_pb2_grpc import TraceServiceAsyncStub

ProtocolName = Literal["tcp", "udp", "sctp", "icmp"]
EngineName = Literal["", "intent", "fast", "flows", "both", "all"]


def question(
    source: str, target: str, *, protocol: ProtocolName = "tcp", port: int | None = None, engine: EngineName = ""
) -> Question:
    """What happens to a new connection? ``source`` is ``NAMESPACE/POD`` or an address, ``target`` these or
    ``svc:NAMESPACE/SERVICE``, and may end in ``:PORT``. An empty ``engine`` is the server's choice."""
    return Question(
        source=source,
        target=target,
        protocol=Protocol.Value(f"PROTOCOL_{protocol.upper()}"),
        port=port,
        engine=Engine.Value(f"ENGINE_{engine.upper() or 'UNSPECIFIED'}"),
    )


class QuestionCalls(Connection):
    """What a client asks of TraceService, DnsService, EventService and InfoService."""

    @property
    def _traces(self) -> TraceServiceAsyncStub:
        return TraceServiceStub(self.channel)

    @property
    def _dns(self) -> DnsServiceAsyncStub:
        return DnsServiceStub(self.channel)

    async def trace(
        self,
        source: str,
        target: str,
        *,
        protocol: ProtocolName = "tcp",
        port: int | None = None,
        engine: EngineName = "",
    ) -> Answer:
        """What happens to one connection, and which field of which object decides. Raises Refused for a question that
        makes no sense."""
        asked = TraceRequest(question=question(source, target, protocol=protocol, port=port, engine=engine))
        return (await self.ask(self._traces.Trace, asked)).answer

    async def trace_many(
        self, questions: Iterator[TraceManyRequest] | AsyncIterator[TraceManyRequest]
    ) -> AsyncIterator[TraceManyResponse]:
        """One answer or fault for each question, in their order. ``question`` makes one; ``id`` is the caller's."""
        async for each in self.stream(self._traces.TraceMany(questions)):
            yield each

    async def matrix(
        self,
        *,
        protocol: ProtocolName = "tcp",
        port: int | None = None,
        namespace: str = "",
        include_services: bool = False,
    ) -> AsyncIterator[MatrixResponse]:
        """Who may talk to whom: first the targets, then a row for each source."""
        asked = MatrixRequest(
            protocol=Protocol.Value(f"PROTOCOL_{protocol.upper()}"),
            port=port,
            namespace=namespace,
            include_services=include_services,
        )
        async for each in self.stream(self._traces.Matrix(asked)):
            yield each

    async def diff(
        self, objects: Given | Iterable[Given] = (), deletes: Iterable[ObjectReference] = ()
    ) -> DiffResponse:
        """What would change if objects were applied and others deleted."""
        return await self.ask(self._traces.Diff, DiffRequest(objects=as_objects(objects), deletes=deletes))

    # ------------------------------------------------------------------ names

    async def dns(self, name: str, *, at: datetime | None = None) -> DnsName:
        """What a name stands for, or stood for at a time with a time zone, and its history. Raises NotFound."""
        request = GetNameRequest(name=name)
        if at is not None:
            request.at.FromDatetime(at)
        return (await self.ask(self._dns.GetName, request)).name

    async def dns_names(self) -> AsyncIterator[DnsNameStatus]:
        """Every name that a firewall speaks of."""
        request = ListNamesRequest()
        while True:
            page = await self.ask(self._dns.ListNames, request)
            for each in page.names:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def push_dns(self, answers: Iterable[DnsAnswer]) -> PushAnswersResponse:
        """Hand over what a resolver heard. Not repeated by itself: a later answer may have overtaken it."""
        return await self.ask(self._dns.PushAnswers, PushAnswersRequest(answers=answers), repeats=False)

    # ------------------------------------------------------------------ happenings, and the server

    async def events(self, request: ListEventsRequest | None = None) -> ListEventsResponse:
        """What happened lately, oldest first."""
        stub: EventServiceAsyncStub = EventServiceStub(self.channel)
        return await self.ask(stub.ListEvents, request or ListEventsRequest())

    async def info(self) -> GetInfoResponse:
        """Versions and limits."""
        stub: InfoServiceAsyncStub = InfoServiceStub(self.channel)
        return await self.ask(stub.GetInfo, GetInfoRequest())

    async def features(self) -> list[Feature]:
        """The plug-in's features, and which of them are supported."""
        stub: InfoServiceAsyncStub = InfoServiceStub(self.channel)
        return list((await self.ask(stub.ListFeatures, ListFeaturesRequest())).features)
