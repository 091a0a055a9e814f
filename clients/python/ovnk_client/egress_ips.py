"""Egress IPs: where they are, and what an adapter or an operator says of the nodes that hold them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from ovnk_api.v1.egress_ip_service_pb2 import (
    DrainNodeRequest,
    DrainNodeResponse,
    EgressIPAssignments,
    EgressNode,
    ListAssignmentsRequest,
    ListEgressNodesRequest,
    NodeReachability,
    RebalanceRequest,
    RebalanceResponse,
    ReportReachabilityRequest,
    UndrainNodeRequest,
    UndrainNodeResponse,
)
from ovnk_api.v1.egress_ip_service_pb2_grpc import EgressIPServiceStub

from ovnk_client.connection import Connection

if TYPE_CHECKING:
    # A name of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.egress_ip_service_pb2_grpc import EgressIPServiceAsyncStub


class EgressIPCalls(Connection):
    """What a client asks of EgressIPService. Changes are taken by the server that writes; others raise Refused."""

    @property
    def _egress_ips(self) -> EgressIPServiceAsyncStub:
        return EgressIPServiceStub(self.channel)

    async def egress_assignments(self, node: str = "") -> AsyncIterator[EgressIPAssignments]:
        """Where the addresses of each EgressIP are; with ``node`` only of those that have one there."""
        request = ListAssignmentsRequest(node=node)
        while True:
            page = await self.ask(self._egress_ips.ListAssignments, request)
            for each in page.egress_ips:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def egress_nodes(self) -> AsyncIterator[EgressNode]:
        """Every node: whether it may hold egress IPs, why not, and how many it holds."""
        request = ListEgressNodesRequest()
        while True:
            page = await self.ask(self._egress_ips.ListEgressNodes, request)
            for each in page.nodes:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def rebalance(self, *, wait: bool = False, validate_only: bool = False) -> RebalanceResponse:
        """Spread the addresses evenly with the fewest moves, and tell which; ``validate_only`` only tells, ``wait``:
        until they are where they go."""
        request = RebalanceRequest(wait=wait, validate_only=validate_only)
        return await self.ask(self._egress_ips.Rebalance, request, repeats=validate_only)

    async def report_reachability(self, heard: Mapping[str, bool]) -> int:
        """Whether nodes answer, by name; the revision that holds it. Raises NotFound for what is no node."""
        nodes = [NodeReachability(node=name, is_reachable=each) for name, each in heard.items()]
        answer = await self.ask(self._egress_ips.ReportReachability, ReportReachabilityRequest(nodes=nodes))
        return answer.revision

    async def drain(self, node: str, *, wait: bool = False, validate_only: bool = False) -> DrainNodeResponse:
        """Take the egress IPs off a node and give it none; ``wait``: until they are where they go. An answer that was
        lost is not asked for again, as with ``rebalance``: the second one would not know what moved."""
        request = DrainNodeRequest(node=node, wait=wait, validate_only=validate_only)
        return await self.ask(self._egress_ips.DrainNode, request, repeats=validate_only)

    async def undrain(self, node: str) -> UndrainNodeResponse:
        """Let a node hold egress IPs again. An answer that was lost is not asked for again: the second one would say
        that it was not drained."""
        return await self.ask(self._egress_ips.UndrainNode, UndrainNodeRequest(node=node), repeats=False)
