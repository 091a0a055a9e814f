"""The way of a change down to the chassis: rows, flows, what is pending, how far it is, and waiting for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Literal

from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.northbound_pb2 import Flow, Row
from ovnk_api.v1.northbound_service_pb2 import (
    GetConditionsRequest,
    GetPendingRequest,
    GetPendingResponse,
    GetStatusRequest,
    GetStatusResponse,
    ListFlowsRequest,
    ListRowsRequest,
    ObjectConditions,
    Stage,
    WaitRevisionRequest,
    WaitRevisionResponse,
)
from ovnk_api.v1.northbound_service_pb2_grpc import NorthboundServiceStub
from ovnk_api.v1.object_service_pb2 import ApplyResponse

from ovnk_client.errors import DeadlineExceeded
from ovnk_client.objects import ObjectCalls
from ovnk_client.shape import Given, kind_named_by

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.northbound_service_pb2_grpc import NorthboundServiceAsyncStub

StageName = Literal["accepted", "programmed", "realized", "enforced"]
STAGES: tuple[StageName, ...] = ("accepted", "programmed", "realized", "enforced")
SLACK_S = 2.0
"""How much longer a call may take than the wait that it asks for."""


class ProgressCalls(ObjectCalls):
    """What a client asks of NorthboundService."""

    @property
    def _northbound(self) -> NorthboundServiceAsyncStub:
        return NorthboundServiceStub(self.channel)

    async def rows(self, *, table: str = "", owner: ObjectReference | None = None) -> AsyncIterator[Row]:
        """Northbound rows as they are to be, all of one revision."""
        request = ListRowsRequest(table=table, owner=owner)
        while True:
            page = await self.ask(self._northbound.ListRows, request)
            for each in page.rows:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def flows(self, *, datapath: str = "", stage: str = "") -> AsyncIterator[Flow]:
        """Logical flows that follow from those rows."""
        request = ListFlowsRequest(datapath=datapath, stage=stage)
        while True:
            page = await self.ask(self._northbound.ListFlows, request)
            for each in page.flows:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def pending(self, *, limit: int = 0) -> GetPendingResponse:
        """Operations that are due and not in the northbound yet."""
        return await self.ask(self._northbound.GetPending, GetPendingRequest(limit=limit))

    async def status(self, revision: int | None = None) -> GetStatusResponse:
        """How far changes have come; of which stages a revision (the last accepted one) has reached."""
        return await self.ask(self._northbound.GetStatus, GetStatusRequest(revision=revision))

    async def conditions(
        self, kind: str = "", *, namespace: str = "", name: str = ""
    ) -> AsyncIterator[ObjectConditions]:
        """Conditions of objects: Accepted, Programmed, Realized, Enforced, Refused."""
        known = kind_named_by(kind).name if kind else ""
        request = GetConditionsRequest(kind=known, namespace=namespace, name=name)
        while True:
            page = await self.ask(self._northbound.GetConditions, request)
            for each in page.objects:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def wait(
        self, revision: int, stage: StageName = "programmed", *, timeout_s: float = 30.0
    ) -> WaitRevisionResponse:
        """Wait until a revision has reached a stage. The answer says whether it has, and who lags if not."""
        request = WaitRevisionRequest(revision=revision, stage=Stage.Value(f"STAGE_{stage.upper()}"))
        request.timeout.FromNanoseconds(int(timeout_s * 1e9))
        return await self.ask(self._northbound.WaitRevision, request, deadline_s=timeout_s + SLACK_S)

    async def apply_and_wait(
        self, objects: Given | Iterable[Given], *, stage: StageName = "programmed", timeout_s: float = 30.0
    ) -> ApplyResponse:
        """Apply, then wait. Raises DeadlineExceeded when the stage is not reached in time: the objects are accepted all
        the same, and will get there."""
        applied = await self.apply(objects)
        waited = await self.wait(applied.revision, stage, timeout_s=timeout_s)
        if not waited.is_reached:
            lagging = f" ({', '.join(waited.lagging_chassis)} lag)" if waited.lagging_chassis else ""
            why = f": {waited.message}" if waited.message else ""
            raise DeadlineExceeded(f"accepted at revision {applied.revision}, but not {stage} in time{lagging}{why}")
        return applied
