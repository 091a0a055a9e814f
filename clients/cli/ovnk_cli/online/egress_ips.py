"""Assignments of egress IPs on a server, in the form that files give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ovnk_api.v1.egress_ip_service_pb2 import DrainNodeResponse, RebalanceResponse, UnassignedReason, UnfitReason
from ovnk_client import Client

from ovnk_cli.output import HIDDEN, redaction, say, say_redaction


async def placed(client: Client) -> dict[str, Any]:
    """The document of ``ovnk egressip``."""
    found = [one async for one in client.egress_assignments()]
    return {
        "egressips": [
            {
                "name": one.name,
                "assignments": [{"egressIP": each.address, "node": each.node or None} for each in one.assignments],
                "unassigned": [
                    {
                        "egressIP": each.address,
                        "reason": _word(UnassignedReason.Name(each.reason), "UNASSIGNED_REASON_"),
                        "message": each.message,
                    }
                    for each in one.unassigned
                ],
            }
            for one in found
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
        **redaction(any(one.is_redacted for one in found)),
    }


def balanced(is_dry: bool) -> Callable[[Client], Awaitable[dict[str, Any]]]:
    """The same, after everything has moved that does, and after telling what."""

    async def rebalance(client: Client) -> dict[str, Any]:
        tell(await client.rebalance(wait=not is_dry, validate_only=is_dry))
        return await placed(client)

    return rebalance


def tell(answer: RebalanceResponse | DrainNodeResponse) -> None:
    """A line for each move, on stderr; or that there is none."""
    for each in answer.moves:
        why = f" ({each.message})" if each.message else ""
        unknown = "nowhere" if why else HIDDEN if answer.is_redacted else "a node not chosen yet"
        say(f"{each.egress_ip_name}: {each.address} {each.from_node or HIDDEN} -> {each.to_node or unknown}{why}")
    say_redaction(redaction(answer.is_redacted))
    if not answer.is_redacted and not answer.moves:
        say("nothing moves")


def _word(name: str, prefix: str) -> str:
    """``UNASSIGNED_REASON_NO_NODE`` -> ``NoNode``."""
    return "".join(word.capitalize() for word in name.removeprefix(prefix).split("_"))
