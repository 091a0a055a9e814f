"""Assignments of egress IPs on a server, in the form that files give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ovnk_api.v1.egress_ip_service_pb2 import EgressMove, UnassignedReason, UnfitReason
from ovnk_client import Client

from ovnk_cli.output import say


async def placed(client: Client) -> dict[str, Any]:
    """The document of ``ovnk egressip``."""
    return {
        "egressips": [
            {
                "name": one.name,
                "assignments": [{"egressIP": each.address, "node": each.node} for each in one.assignments],
                "unassigned": [
                    {
                        "egressIP": each.address,
                        "reason": _word(UnassignedReason.Name(each.reason), "UNASSIGNED_REASON_"),
                        "message": each.message,
                    }
                    for each in one.unassigned
                ],
            }
            async for one in client.egress_assignments()
        ],
        "nodes": [
            {
                "name": each.name,
                "assignable": each.is_assignable,
                "reason": None if each.is_assignable else _word(UnfitReason.Name(each.reason), "UNFIT_REASON_"),
                "load": each.load,
            }
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
    is_still = True
    for each in moves:
        is_still = False
        why = f" ({each.message})" if each.message else ""
        say(f"{each.egress_ip_name}: {each.address} {each.from_node} -> {each.to_node or '?'}{why}")
    if is_still:
        say("nothing moves")


def _word(name: str, prefix: str) -> str:
    """``UNASSIGNED_REASON_NO_NODE`` -> ``NoNode``."""
    return "".join(word.capitalize() for word in name.removeprefix(prefix).split("_"))
