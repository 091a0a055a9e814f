"""Whether nodes that may hold egress IPs answer: one round of questions after the other, and what of it is news.

Each round asks every node labelled for egress IPs at its management addresses, at port 9 of TCP: a node that accepts or
refuses the connection is there, one that stays silent or that no router finds is not. Nobody need listen. What ``dial``
does in its place may ask more, such as a health service. Within the timeout a node is asked up to three times, spread
evenly over it, so one lost packet or a route that flaps is no loss of a node; beyond that a round's answer counts at
once, both ways, as in OVN-Kubernetes: nothing waits for a second round. An error of our own (no sockets left, no IPv6
here, a rule that forbids us to send) says nothing of a node: what could not be asked is no news.

When no node at all answers, nothing is reported: it is we who are cut off, and there would be nowhere to move to. What
is on record stands until a round says otherwise, after a restart too.
Source: manual 15.9.1.3; OVN-Kubernetes' port and defaults (docs/sources.md, egress IP).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio

from ovnk_core.allocate.egress_node import why_unfit
from ovnk_core.errors import OvnkError
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.model.node import Node
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import NodePlace

DISCARD_PORT = 9
ATTEMPTS = 3
AT_ONCE = 256
"""Nodes asked at one time."""
_ANSWERS = frozenset((errno.ECONNREFUSED, errno.ECONNRESET))
"""Errors that only the node itself can have caused."""
_SILENCE = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH))
"""Errors of a network that does not find the node. All others are our own."""

Dial = Callable[[Address, float], Awaitable[bool | None]]
"""Whether a node answers at an address within so many seconds; None: it could not be asked. It raises nothing."""


class ProberSettings(Value, frozen=True, kw_only=True):
    """``interval_s`` from the end of one round to the next, ``timeout_s`` for one node in a round; 0: nobody is asked.
    ``dial`` asks one address; None: ``dial_tcp``."""

    interval_s: float = 5.0
    timeout_s: float = 1.0
    dial: Dial | None = None


async def dial_tcp(address: Address, timeout_s: float) -> bool | None:
    """Whether a machine answers a TCP connection at port 9."""
    family = socket.AF_INET if address.family == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(made, (str(address), DISCARD_PORT))
    except TimeoutError:
        return False
    except OSError as error:
        return error.errno in _ANSWERS if is_of_node(error) else None
    return True


def is_of_node(error: OSError) -> bool:
    """Whether a connection failed for the node's sake, or its network's, and not for ours."""
    return error.errno in _ANSWERS | _SILENCE


def probed_nodes(
    nodes: Mapping[NamespacedName, Node], places: Mapping[NamespacedName, NodePlace]
) -> dict[str, tuple[Address, ...]]:
    """Nodes that could hold egress IPs if they are well, and where each is asked: nowhere without an address of its
    management port, so it is down. One that is not Ready is asked, too: it may be so before the next round."""
    found: dict[str, tuple[Address, ...]] = {}
    for key, node in nodes.items():
        if why_unfit(node, NodeHealth()) in (None, "NotReady"):
            place = places.get(key)
            found[key.name] = place.management if place is not None else ()
    return found


def news(heard: Mapping[str, bool], recorded: Mapping[str, bool]) -> dict[str, bool]:
    """What of a round is to be reported: what differs from the record, unless nobody answered at all."""
    if not any(heard.values()):
        return {}
    return {name: is_up for name, is_up in heard.items() if recorded.get(name, True) != is_up}


class Prober:
    """``targets``: the management addresses of every node to ask, by name; ``recorded``: what was reported of nodes.
    ``publish`` makes a report; an OvnkError it raises is tried again with the next round. ``sleep`` waits seconds."""

    def __init__(
        self,
        settings: ProberSettings,
        *,
        targets: Callable[[], Mapping[str, tuple[Address, ...]]],
        recorded: Callable[[], Mapping[str, bool]],
        publish: Callable[[Mapping[str, bool]], Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._settings, self._dial = settings, settings.dial or dial_tcp
        self._targets, self._recorded, self._publish, self._sleep = targets, recorded, publish, sleep
        self.heard: dict[str, bool] = {}
        """Of the last round; without nodes that could not be asked."""

    async def run(self) -> None:
        """Rounds until cancelled. Where nobody is asked every node is taken to answer, once: what an earlier prober
        heard would stand for ever, and whoever reports from outside reports again."""
        if not self._settings.timeout_s:
            await self._report({name: True for name, is_up in self._recorded().items() if not is_up})
            return
        while True:
            await self.round()
            await self._sleep(self._settings.interval_s)

    async def round(self) -> None:
        """Ask every node once, and report what is news."""
        limit, heard = anyio.CapacityLimiter(AT_ONCE), dict[str, bool]()

        async def ask(name: str, addresses: tuple[Address, ...]) -> None:
            async with limit:
                is_up = await self._is_up(addresses)
            if is_up is not None:
                heard[name] = is_up

        async with anyio.create_task_group() as tasks:
            for name, addresses in self._targets().items():
                tasks.start_soon(ask, name, addresses)
        self.heard = dict(sorted(heard.items()))
        await self._report(news(self.heard, self._recorded()))

    async def _report(self, changed: Mapping[str, bool]) -> None:
        if changed:
            # Nodes that are gone, a turn that is over: the next round sees what is left of it.
            with suppress(OvnkError):
                await self._publish(changed)

    async def _is_up(self, addresses: tuple[Address, ...]) -> bool | None:
        """A node without an address is down; None: not one question could be asked."""
        could_ask = not addresses
        with anyio.move_on_after(self._settings.timeout_s):
            for address in addresses * ATTEMPTS:
                share = self._settings.timeout_s / (ATTEMPTS * len(addresses))
                ends = anyio.current_time() + share
                answer = await self._dial(address, share)
                if answer:
                    return True
                could_ask |= answer is not None
                # What fails at once is asked again only when its share of the timeout is over.
                await self._sleep(max(0.0, ends - anyio.current_time()))
        return False if could_ask else None
