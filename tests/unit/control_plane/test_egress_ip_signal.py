"""A lost node is acted on when it is told of, and no timer has a part in it: both commits happen while the clock of the
event loop stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.keeper import Keeper
from ovnk_core.keeper.proposal import Put
from ovnk_core.model.egress_ip import NodeHealth
from ovnk_core.nb.operation import Operation
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.northbound.port import Receipt
from ovnk_core.runtime.programmer import GATHER_S
from ovnk_core.store.memory import MemoryLog
from tests.kit.virtual_clock import StandingLoop, settled

ADDRESS = "192.0.2.100"
LOST = NodeHealth(is_reachable=False)


def node(number: int, *, is_ready: bool = True) -> dict[str, Any]:
    meta = {"name": f"n{number}", "labels": {"k8s.ovn.org/egress-assignable": ""}}
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    status = {"addresses": addresses, "conditions": [{"type": "Ready", "status": str(is_ready)}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status}


OBJECTS: tuple[dict[str, Any], ...] = (
    node(1),
    node(2),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"nodeName": "n2"}},
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressIP",
        "metadata": {"name": "out"},
        "spec": {"egressIPs": [ADDRESS], "namespaceSelector": {}},
    },
)


class Noted(MemoryNorthbound):
    """Notes after each commit on which routers the address is."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[str]] = []

    async def transact(self, operations: tuple[Operation, ...], **options: Any) -> Receipt:
        receipt = await super().transact(operations, **options)
        nats = {uuid for uuid, row in self.rows("NAT").items() if row["external_ip"] == ADDRESS}
        routers = self.rows("Logical_Router").values()
        self.commits.append(sorted(str(row["name"]) for row in routers if nats & {str(each) for each in row["nat"]}))
        return receipt


def run(work: Callable[[StandingLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=StandingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, StandingLoop)
        runner.run(work(loop))


@pytest.mark.parametrize("loss", ["unreachable", "NotReady"])
def test_a_plane_needs_no_time(loss: str) -> None:
    async def work(loop: StandingLoop) -> None:
        northbound = Noted()
        async with ControlPlane(northbound) as plane:
            await plane.apply(OBJECTS)
            await settled()
            assert northbound.commits[-1] == ["GR_n1"]
            northbound.commits.clear()
            await (
                plane.report_health({"n1": LOST}) if loss == "unreachable" else plane.apply([node(1, is_ready=False)])
            )
            await settled()
            assert northbound.commits == [[], ["GR_n2"]]

    run(work)


@pytest.mark.parametrize("loss", ["unreachable", "NotReady"])
def test_a_keeper_needs_no_time_to_withdraw_and_gathers_once_before_it_assigns(loss: str) -> None:
    async def work(loop: StandingLoop) -> None:
        northbound = Noted()
        async with Keeper(northbound, MemoryLog()) as keeper:
            await keeper.commit(keeper.request(puts=[Put(manifest=each) for each in OBJECTS]))
            while not northbound.commits or northbound.commits[-1] != ["GR_n1"]:
                loop.advance(GATHER_S)
                await settled()
            loop.advance(GATHER_S)
            await settled()
            northbound.commits.clear()
            if loss == "unreachable":
                await keeper.report_health({"n1": LOST})
            else:
                await keeper.commit(keeper.request(puts=[Put(manifest=node(1, is_ready=False))]))
            await settled()
            assert northbound.commits == [[]]
            loop.advance(GATHER_S)
            await settled()
            assert northbound.commits == [[], ["GR_n2"]]

    run(work)
