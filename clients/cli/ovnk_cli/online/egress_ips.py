"""Assignments of egress IPs on a server, in the form that files give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ovnk_api.v1.egress_ip_service_pb2 import EgressMove, UnassignedReason
from ovnk_client import Client

from ovnk_cli.output import say

_PREFIX = "UNASSIGNED_REASON_"


async def placed(client: Client) -> dict[str, Any]:
    """The document of ``ovnk egressip``."""
    return {
        "egressips": [
            {
                "name": one.name,
                "assignments": [{"egressIP": each.address, "node": each.node} for each in one.assignments],
                "unassigned": [
                    {"egressIP": each.address, "reason": _reason(each.reason), "message": each.message}
                    for each in one.unassigned
                ],
            }
            async for one in client.egress_assignments()
        ],
        "nodes": [
            {"name": each.name, "assignable": each.is_assignable, "load": each.load}
            async for each in client.egress_nodes()
        ],
    }


def balanced(is_dry: bool) -> Callable[[Client], Awaitable[dict[str, Any]]]:
    """The same, after telling what moves, and before it has moved."""

    async def rebalance(client: Client) -> dict[str, Any]:
        document = await placed(client)
        tell((await client.rebalance(validate_only=is_dry)).moves)
        return document

    return rebalance


def tell(moves: Iterable[EgressMove]) -> None:
    """A line for each move, on stderr; or that there is none."""
    lines = [f"{each.egress_ip_name}: {each.address} {each.from_node} -> {each.to_node or '?'}" for each in moves]
    for line in lines or ["nothing moves"]:
        say(line)


def _reason(value: int) -> str:
    """``UNASSIGNED_REASON_NO_NODE`` -> ``NoNode``."""
    words = UnassignedReason.Name(value).removeprefix(_PREFIX).split("_")  # type: ignore[arg-type]
    return "".join(word.capitalize() for word in words)
