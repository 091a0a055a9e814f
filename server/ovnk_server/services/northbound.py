"""The northbound: rows, flows, what is pending, how far revisions have come, and conditions of objects."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import anyio
import anyio.to_thread
from msgspec import json
from ovnk_api.v1 import northbound_pb2, northbound_service_pb2_grpc
from ovnk_api.v1 import northbound_service_pb2 as pb

from ovnk_core.errors import Conflict, SchemaError, Unreachable
from ovnk_core.flows.listing import ListedFlow, list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.link import Link
from ovnk_core.keeper.stages import StageName
from ovnk_core.keeper.watching import Filter
from ovnk_core.reconcile.listing import ListedRow, list_rows
from ovnk_server import access
from ovnk_server.convert import page_size, read_kind, read_reference, seconds, timestamp
from ovnk_server.convert_northbound import NOBODY, flow, readable, reader_of, row, rules_of
from ovnk_server.convert_status import conditions_of, pending_firewalls, stage_statuses
from ovnk_server.hearing import Hearing
from ovnk_server.paging import Listings

SLICE = 200
"""Objects looked at for conditions before the loop gets a turn."""
_STAGES: dict[int, StageName] = {
    pb.STAGE_UNSPECIFIED: "programmed",
    pb.STAGE_ACCEPTED: "accepted",
    pb.STAGE_PROGRAMMED: "programmed",
    pb.STAGE_REALIZED: "realized",
    pb.STAGE_ENFORCED: "enforced",
}


class NorthboundService(northbound_service_pb2_grpc.NorthboundServiceServicer):
    """See ``northbound_service.proto``. Revisions are told to everybody who is let in; names of chassis and servers,
    and addresses, to those who may read the northbound as a whole."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._rows: Listings[ListedRow, northbound_pb2.Row] = Listings(
            keeper, lambda snapshot: list_rows(snapshot.cluster.engine, keeper.schema), row, facts=rules_of
        )
        self._flows: Listings[ListedFlow, northbound_pb2.Flow] = Listings(
            keeper,
            lambda snapshot: list_flows(snapshot.cluster.engine, FlowTable(snapshot.cluster.engine)),
            flow,
            facts=rules_of,
        )

    # ------------------------------------------------------------------ rows and flows

    async def ListRows(self, request: pb.ListRowsRequest, context: Any) -> pb.ListRowsResponse:
        who = access.caller()
        owner = read_reference(request.owner, "owner") if request.HasField("owner") else None
        if owner is not None:
            who.require("northbound", owner.kind, owner.namespace)
        sees = who.visible("northbound")

        def is_wanted(each: ListedRow) -> bool:
            if owner is not None and each.owner.owner != owner:
                return False
            return request.table in ("", each.table) and sees(reader_of(each.owner))

        page = await self._rows.page(
            is_wanted,
            limit=page_size(request.page_size),
            token=request.page_token,
            asked=_asked(who, request.table, str(owner or "")),
        )
        return pb.ListRowsResponse(rows=page.found, next_page_token=page.token, revision=page.revision)

    async def ListFlows(self, request: pb.ListFlowsRequest, context: Any) -> pb.ListFlowsResponse:
        who = access.caller()
        sees = who.visible("northbound")

        def is_wanted(each: ListedFlow) -> bool:
            is_there = not request.datapath or request.datapath in each.datapaths
            return is_there and request.stage in ("", each.stage) and sees(reader_of(each.owner))

        page = await self._flows.page(
            is_wanted,
            limit=page_size(request.page_size),
            token=request.page_token,
            asked=_asked(who, request.datapath, request.stage),
        )
        return pb.ListFlowsResponse(flows=page.found, next_page_token=page.token, revision=page.revision)

    async def GetPending(self, request: pb.GetPendingRequest, context: Any) -> pb.GetPendingResponse:
        limit, sees = page_size(request.limit), access.caller().visible("northbound")
        try:
            pending = await self._keeper.pending()
        except Conflict as error:
            return pb.GetPendingResponse(revision=self._keeper.revision, reason=str(error) if sees(NOBODY) else "")
        found = await anyio.to_thread.run_sync(lambda: readable(pending.operations, pending.owners, sees))
        return pb.GetPendingResponse(
            operations=found.messages(limit),
            total_size=len(found.found),
            revision=pending.revision,
            reason=self._keeper.stages.standing().failure if sees(NOBODY) else "",
        )

    # ------------------------------------------------------------------ how far

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        who, keeper = access.caller(), self._keeper
        standing = keeper.stages.standing()
        revision = _revision(request.revision) if request.HasField("revision") else keeper.revision
        sees_all, sees = who.may("northbound"), who.visible("list")
        writer, cluster = await keeper.writer(), keeper.plane.cluster
        refused = [ref for ref in cluster.refused if sees(ref)]
        warned = {*cluster.problems, *pending_firewalls(cluster)} - cluster.refused.keys()
        found = pb.GetStatusResponse(
            accepted_revision=standing.accepted,
            programmed_revision=max(standing.programmed, 0),
            realized_revision=max(standing.realized, 0),
            enforced_revision=max(standing.enforced, 0),
            revision=revision,
            stages=stage_statuses(keeper, standing, revision, is_told=sees_all),
            writer=pb.WriterStatus(epoch=writer.turn.number, is_self=keeper.term is not None),
            objects=keeper.inventory.count(lambda kind, namespace: who.may("list", kind, namespace)),
            refused_objects=len(refused),
            warning_objects=sum(map(sees, warned)),
            is_redacted=not sees_all,
        )
        if sees_all:
            found.lagging_chassis.extend(standing.lagging)
            found.writer.holder = writer.turn.holder
            found.northbound.CopyFrom(_link(await keeper.link()))
            found.store_failure = writer.store_failure
            if standing.chassis is not None:
                found.chassis = standing.chassis
        return found

    async def WaitRevision(self, request: pb.WaitRevisionRequest, context: Any) -> pb.WaitRevisionResponse:
        who, keeper = access.caller(), self._keeper
        sees_all, revision = who.may("northbound"), _revision(request.revision)
        stage = _STAGES.get(request.stage)
        if stage is None:
            raise SchemaError("no such stage", path="stage", value=str(request.stage))
        message = ""
        try:
            await keeper.wait(revision, stage, seconds(request, "timeout"))
        except (TimeoutError, Unreachable) as error:
            message = str(error) or f"not {stage} in time"
        standing = keeper.stages.standing()
        reached = keeper.stages.progress[stage].reached
        found = pb.WaitRevisionResponse(is_reached=reached >= revision, revision=max(reached, 0), message=message)
        if stage == "enforced" and sees_all and not found.is_reached:
            found.lagging_chassis.extend(standing.lagging)
        return found

    # ------------------------------------------------------------------ conditions

    async def GetConditions(self, request: pb.GetConditionsRequest, context: Any) -> pb.GetConditionsResponse:
        who, keeper = access.caller(), self._keeper
        kinds = (read_kind(request.kind),) if request.kind else ()
        if request.name and not request.kind:
            raise SchemaError("needs a kind", path="name", value=request.name)
        if request.namespace:
            for kind in kinds:
                who.require("list", kind, request.namespace)
        # Accepted objects first, then those of which nothing was ever accepted.
        wanted = Filter(
            kinds=kinds, namespace=request.namespace or None, name=request.name, spaces=("object", "refused")
        )
        hearing = Hearing(who)
        sees, left, token = who.visible("list"), page_size(request.page_size), request.page_token
        found: list[pb.ObjectConditions] = []
        revision = 0
        while left:
            page = keeper.page(wanted, limit=min(left, SLICE), token=token, visible=sees)
            problems = keeper.plane.cluster.problems
            made = [
                conditions_of(keeper, ref, stored, problems=problems, hearing=hearing) for ref, stored in page.objects
            ]
            found += [each for each in made if each is not None]
            left, token, revision = left - len(page.objects), page.token, page.revision
            if not token:
                break
            await anyio.sleep(0)
        return pb.GetConditionsResponse(objects=found, next_page_token=token, revision=revision)


def _asked(who: access.Caller, *words: str) -> str:
    """A question and who asks it, in a few letters that do not repeat either."""
    return sha256(json.encode((who.identity, *words))).hexdigest()[:16]


def _revision(number: int) -> int:
    """Raises SchemaError for one that no commit ever had."""
    if number <= 0:
        raise SchemaError("revisions begin at 1", path="revision", value=str(number))
    return number


def _link(link: Link) -> pb.NorthboundLink:
    return pb.NorthboundLink(
        address=link.address,
        is_connected=link.is_connected,
        stale_since=timestamp(link.stale_since_s),
        failure=link.failure,
    )
