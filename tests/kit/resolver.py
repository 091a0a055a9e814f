"""A resolver on a clock that a test moves, with what it published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from ovnk_core.errors import OvnkError
from ovnk_core.model.cluster import ClusterNetwork, ClusterNetworkEntry
from ovnk_core.model.decision import DnsDecision
from ovnk_core.runtime.dns_query import NameServer
from ovnk_core.runtime.resolver import Resolver, ResolverSettings
from ovnk_core.terms.address import Address, cidr
from tests.kit.virtual_clock import VirtualClock

FOUR = ClusterNetwork()
DUAL = ClusterNetwork(entries=(*FOUR.entries, ClusterNetworkEntry(cidr=cidr("fd01::/48"), host_prefix_bits=64)))


def texts(addresses: tuple[Address, ...]) -> list[str]:
    return [str(address) for address in addresses]


class Bench:
    """A resolver, what it published and what stands after that, and the hands on its clock."""

    def __init__(
        self,
        *servers: NameServer,
        timeout_s: float = 5.0,
        recorded: Mapping[str, DnsDecision] | None = None,
        keeps_asking: bool = True,
    ) -> None:
        self.clock, self.network = VirtualClock(), FOUR
        self.published: list[dict[str, DnsDecision | None]] = []
        self.decisions = dict(recorded or {})
        self.refusal: OvnkError | None = None
        settings = (
            ResolverSettings(servers=servers, timeout_s=timeout_s, keeps_asking=keeps_asking) if servers else None
        )
        self.resolver = Resolver(
            settings, recorded or {}, network=lambda: self.network, publish=self._publish, clock=self.clock
        )

    async def _publish(self, changed: Mapping[str, DnsDecision | None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.published.append(dict(changed))
        for name, decision in changed.items():
            if decision is None:
                del self.decisions[name]
            else:
                self.decisions[name] = decision

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.resolver.run)
            self.resolver.want(names)
            await self.settled()
            yield
            tasks.cancel_scope.cancel()

    async def settled(self) -> None:
        with anyio.fail_after(20):
            while not self.resolver.is_idle:
                await anyio.sleep(0.001)

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settled()

    def live(self, name: str) -> list[str]:
        return texts(self.decisions[name].live) if name in self.decisions else []

    def sticky(self, name: str) -> list[str]:
        return texts(self.decisions[name].sticky) if name in self.decisions else []
