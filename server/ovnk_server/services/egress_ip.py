"""Which node holds which egress IP; reports about nodes, and what is asked of the allocator besides objects.

Changes are decisions, so only the server whose turn it is takes them. Each may be asked for again without harm, so none
has a request id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import anyio.to_thread
from ovnk_api.v1 import egress_ip_service_pb2 as pb
from ovnk_api.v1 import egress_ip_service_pb2_grpc

from ovnk_core.allocate.settling import HEALTHY
from ovnk_core.analysis.egress_nodes import EgressNodeReport, Reason, displaced, drained, egress_nodes
from ovnk_core.errors import LimitError, NotFound, SchemaError
from ovnk_core.ingest.text import show
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.model.egress_ip import EgressIPDecision, NodeHealth, UnassignedReason
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION, NODE, NODE_HEALTH, cluster_key
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_server import access
from ovnk_server.convert import page_size
from ovnk_server.hearing import Hearing

MAX_REPORTS = 1_000
"""Nodes of one report."""
T = TypeVar("T")
_REASONS: dict[UnassignedReason, pb.UnassignedReason.ValueType] = {
    "NoNode": pb.UNASSIGNED_REASON_NO_NODE,
    "Conflict": pb.UNASSIGNED_REASON_CONFLICT,
    "Capacity": pb.UNASSIGNED_REASON_CAPACITY,
    "Subnet": pb.UNASSIGNED_REASON_SUBNET,
    "Platform": pb.UNASSIGNED_REASON_PLATFORM,
    "Moving": pb.UNASSIGNED_REASON_MOVING,
}
_UNFIT: dict[Reason | None, pb.UnfitReason.ValueType] = {
    None: pb.UNFIT_REASON_UNSPECIFIED,
    "NotLabelled": pb.UNFIT_REASON_NOT_LABELLED,
    "NotReady": pb.UNFIT_REASON_NOT_READY,
    "Unreachable": pb.UNFIT_REASON_UNREACHABLE,
    "Drained": pb.UNFIT_REASON_DRAINED,
    "NoGateway": pb.UNFIT_REASON_NO_GATEWAY,
    "NotServed": pb.UNFIT_REASON_NOT_SERVED,
    "Platform": pb.UNFIT_REASON_PLATFORM,
}
Where = dict[tuple[NamespacedName, Address], str]
Decided = Mapping[NamespacedName, EgressIPDecision]


class EgressIPService(egress_ip_service_pb2_grpc.EgressIPServiceServicer):
    """See ``egress_ip_service.proto``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def ListAssignments(self, request: pb.ListAssignmentsRequest, context: Any) -> pb.ListAssignmentsResponse:
        who, rows = access.caller(), self._keeper.plane.cluster.engine.rows
        if request.node:
            who.require("list", "Node")
        sees, hearing, decided = who.visible("list"), Hearing(who), rows(EGRESS_IP_DECISION)

        def is_wanted(key: NamespacedName) -> bool:
            is_on = not request.node or any(each.node == request.node for each in decided[key].assignments)
            return is_on and sees(ObjectRef("EgressIP", "", key.name))

        names = (key.name for key in sorted(rows(EGRESS_IP).keys() & decided.keys()) if is_wanted(key))
        page, token = _page(names, str, request.page_size, request.page_token)
        return pb.ListAssignmentsResponse(
            egress_ips=[_assignments(name, decided[cluster_key(name)], hearing) for name in page],
            next_page_token=token,
            revision=self._keeper.revision,
        )

    async def ListEgressNodes(self, request: pb.ListEgressNodesRequest, context: Any) -> pb.ListEgressNodesResponse:
        sees = access.caller().visible("list")
        nodes = (each for each in egress_nodes(self._keeper.plane.cluster) if sees(ObjectRef("Node", "", each.name)))
        page, token = _page(nodes, lambda each: each.name, request.page_size, request.page_token)
        return pb.ListEgressNodesResponse(nodes=map(_node, page), next_page_token=token, revision=self._keeper.revision)

    async def Rebalance(self, request: pb.RebalanceRequest, context: Any) -> pb.RebalanceResponse:
        access.caller().require("egress", "EgressIP")
        keeper, hearing = self._keeper, Hearing(access.caller())
        await keeper.require_turn()
        goes, before = dict(keeper.plane.cluster.imbalance), self._where()
        moving, why, revision = sorted(goes), {}, keeper.revision
        if not request.validate_only:
            revision = await keeper.rebalance_egress_ips()
            if request.wait and moving:
                after = await self._moved()
                goes, why = _placed(after), _reasons(after, hearing)
        moves = [_move(*at, before[at], goes.get(at, ""), why.get(at, "")) for at in moving]
        told, is_redacted = _told(moves, hearing)
        return pb.RebalanceResponse(moves=told, revision=revision, is_redacted=is_redacted)

    async def ReportReachability(
        self, request: pb.ReportReachabilityRequest, context: Any
    ) -> pb.ReportReachabilityResponse:
        access.caller().require("egress", "Node")
        return pb.ReportReachabilityResponse(revision=await self._keeper.report_reachability(_heard(request)))

    async def DrainNode(self, request: pb.DrainNodeRequest, context: Any) -> pb.DrainNodeResponse:
        access.caller().require("egress", "Node")
        keeper, hearing = self._keeper, Hearing(access.caller())
        await keeper.require_turn()
        self._require_node(request.node)
        leaving = [at for at, node in self._where().items() if node == request.node]
        revision = keeper.revision
        after: Decided = {}
        waiting = await self._displaced(request.node)
        if request.validate_only:
            snapshot = await keeper.snapshot()
            after = await anyio.to_thread.run_sync(lambda: drained(snapshot.cluster, request.node))
        else:
            revision = await keeper.drain_node(request.node)
        if request.wait and not request.validate_only:
            after = await self._moved()
        goes, why = _placed(after), _reasons(after, hearing)
        leaving += [at for at in waiting if at in why]
        moves = [_move(*at, request.node, goes.get(at, ""), why.get(at, "")) for at in sorted(leaving)]
        told, is_redacted = _told(moves, hearing)
        return pb.DrainNodeResponse(moves=told, revision=revision, is_redacted=is_redacted)

    async def UndrainNode(self, request: pb.UndrainNodeRequest, context: Any) -> pb.UndrainNodeResponse:
        access.caller().require("egress", "Node")
        keeper = self._keeper
        await keeper.require_turn()
        self._require_node(request.node)
        heard = self._heard_of(request.node)
        revision = await keeper.drain_node(request.node, is_drained=False)
        return pb.UndrainNodeResponse(revision=revision, was_drained=heard.is_drained)

    async def _moved(self) -> Decided:
        """What is decided when what was asked to move is in the northbound where it goes, or nowhere."""
        # Withdrawn first, then placed: two commits, of which the second is asked for before the first is told of.
        for _ in range(2):
            await self._keeper.plane.wait()
        return self._keeper.plane.cluster.engine.rows(EGRESS_IP_DECISION)

    async def _displaced(self, node: str) -> list[tuple[NamespacedName, Address]]:
        """What has nowhere to go because a node was drained before."""
        if not self._heard_of(node).is_drained:
            return []
        snapshot = await self._keeper.snapshot()
        return await anyio.to_thread.run_sync(lambda: displaced(snapshot.cluster, node))

    def _heard_of(self, node: str) -> NodeHealth:
        return self._keeper.plane.cluster.engine.rows(NODE_HEALTH).get(cluster_key(node), HEALTHY)

    def _require_node(self, name: str) -> None:
        if not name:
            raise SchemaError("missing", path="node", fix="name the node")
        if cluster_key(name) not in self._keeper.plane.cluster.engine.rows(NODE):
            raise NotFound(f"Node {show(name)} does not exist")

    def _where(self) -> Where:
        """The node that each address is on."""
        return _placed(self._keeper.plane.cluster.engine.rows(EGRESS_IP_DECISION))


def _placed(decided: Decided) -> Where:
    return {(key, each.address): each.node for key, one in decided.items() for each in one.assignments}


def _reasons(decided: Decided, hearing: Hearing) -> dict[tuple[NamespacedName, Address], str]:
    return {
        (key, each.address): hearing.told(each.message, each.mentions)
        for key, one in decided.items()
        for each in one.unassigned
    }


def _told(moves: Sequence[pb.EgressMove], hearing: Hearing) -> tuple[list[pb.EgressMove], bool]:
    """Moves of the EgressIPs that the caller may know of, with the nodes if it may know of these; whether anything is
    left out."""
    told = [each for each in moves if hearing.sees(ObjectRef("EgressIP", "", each.egress_ip_name))]
    if not hearing.sees_nodes:
        for each in told:
            each.from_node = each.to_node = ""
    return told, len(told) < len(moves) or (bool(told) and not hearing.sees_nodes)


def _page(found: Iterable[T], name: Callable[[T], str], size: int, after: str) -> tuple[list[T], str]:
    """A name is a place to go on at, whatever became of the others meanwhile -> one page, and where the next begins."""
    limit = page_size(size)
    rest = (each for each in found if name(each) > after)
    page = [each for each, _ in zip(rest, range(limit + 1), strict=False)]
    return page[:limit], name(page[limit - 1]) if len(page) > limit else ""


def _heard(request: pb.ReportReachabilityRequest) -> dict[str, bool]:
    """Raises LimitError, SchemaError."""
    if len(request.nodes) > MAX_REPORTS:
        raise LimitError(f"may hold at most {MAX_REPORTS:,} nodes", path="nodes", value=str(len(request.nodes)))
    heard: dict[str, bool] = {}
    for index, each in enumerate(request.nodes):
        if not each.node or each.node in heard:
            reason = "is there twice" if each.node else "missing"
            raise SchemaError(reason, path=f"nodes[{index}].node", value=show(each.node), fix="name each node once")
        heard[each.node] = each.is_reachable
    return heard


def _assignments(name: str, decision: EgressIPDecision, hearing: Hearing) -> pb.EgressIPAssignments:
    on_nodes, sees_nodes = decision.assignments, hearing.sees_nodes
    return pb.EgressIPAssignments(
        name=name,
        assignments=[
            pb.EgressAssignment(egress_ip_name=name, address=str(each.address), node=each.node if sees_nodes else "")
            for each in on_nodes
        ],
        unassigned=[
            pb.UnassignedAddress(
                address=str(each.address),
                reason=_REASONS[each.reason],
                message=hearing.told(each.message, each.mentions),
            )
            for each in decision.unassigned
        ],
        is_redacted=not sees_nodes and (bool(on_nodes) or any(each.mentions for each in decision.unassigned)),
    )


def _node(found: EgressNodeReport) -> pb.EgressNode:
    return pb.EgressNode(
        name=found.name,
        is_assignable=found.reason is None,
        reason=_UNFIT[found.reason],
        load=found.load,
        is_drained=found.is_drained,
        is_reachable=found.is_reachable,
    )


def _move(key: NamespacedName, address: Address, before: str, after: str, message: str = "") -> pb.EgressMove:
    return pb.EgressMove(
        egress_ip_name=key.name, address=str(address), from_node=before, to_node=after, message=message
    )
