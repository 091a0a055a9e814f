"""The prober: what a round is, what of it is news, and when nobody is reported."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import NotFound
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.runtime.reachability import ATTEMPTS, Prober, ProberSettings, dial_tcp, news
from ovnk_core.terms.address import Address, parse_address

ONE, TWO = parse_address("10.128.0.2"), parse_address("10.129.0.2")


@pytest.mark.parametrize(
    ("heard", "recorded", "expected"),
    [
        ({"a": True, "b": True}, {}, {}),
        ({"a": True, "b": False}, {}, {"b": False}),
        ({"a": True, "b": False}, {"b": False}, {}),
        ({"a": True, "b": True}, {"b": False}, {"b": True}),
        ({"a": True, "b": False}, {"a": False}, {"a": True, "b": False}),
        ({"a": False, "b": False}, {}, {}),
        ({"a": False, "b": False}, {"a": False, "b": True}, {}),
        ({}, {"a": False}, {}),
    ],
)
def test_what_is_news(heard: dict[str, bool], recorded: dict[str, bool], expected: dict[str, bool]) -> None:
    assert news(heard, recorded) == expected


class World:
    """Nodes that answer or not, and what was reported of them."""

    def __init__(self) -> None:
        self.targets = {"a": (ONE,), "b": (TWO,)}
        self.up, self.recorded = {ONE, TWO}, dict[str, bool]()
        self.reports: list[dict[str, bool]] = []
        self.dialled: list[Address] = []
        self.fails = False
        self.forbidden, self.waited = set[Address](), list[float]()
        self.prober = Prober(
            ProberSettings(timeout_s=5.0, dial=self.dial),
            targets=lambda: self.targets,
            recorded=lambda: self.recorded,
            publish=self.publish,
            sleep=self.sleep,
        )

    async def dial(self, address: Address, timeout_s: float) -> bool | None:
        self.dialled.append(address)
        assert timeout_s * ATTEMPTS <= 5.0
        return None if address in self.forbidden else address in self.up

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)

    async def publish(self, heard: Mapping[str, bool]) -> None:
        self.reports.append(dict(heard))
        if self.fails:
            raise NotFound("gone")
        self.recorded |= heard


@pytest.mark.asyncio
async def test_each_round_counts_at_once_and_nothing_is_told_twice() -> None:
    world = World()
    for up, expected in (
        ({ONE, TWO}, []),
        ({ONE}, [{"b": False}]),
        ({ONE}, []),
        ({ONE, TWO}, [{"b": True}]),
        ({TWO}, [{"a": False}]),
        (set[Address](), []),
        ({ONE}, [{"a": True, "b": False}]),
    ):
        world.up, world.reports = up, []
        await world.prober.round()
        assert world.reports == expected


@pytest.mark.asyncio
async def test_who_answers_is_asked_once_and_who_does_not_three_times() -> None:
    world = World()
    world.up = {ONE}
    await world.prober.round()
    assert (world.dialled.count(ONE), world.dialled.count(TWO)) == (1, ATTEMPTS)


@pytest.mark.asyncio
async def test_any_address_of_a_node_will_do_and_none_is_down() -> None:
    world = World()
    world.up, world.targets = {TWO}, {"a": (ONE, TWO), "b": ()}
    await world.prober.round()
    assert world.prober.heard == {"a": True, "b": False}


@pytest.mark.asyncio
async def test_a_question_that_fails_at_once_is_asked_again_when_its_share_is_over() -> None:
    world = World()
    world.up = {ONE}
    await world.prober.round()
    assert world.waited == pytest.approx([5.0 / ATTEMPTS] * ATTEMPTS, abs=0.5)


@pytest.mark.asyncio
async def test_a_node_that_cannot_be_asked_is_no_news() -> None:
    world = World()
    world.forbidden = {TWO}
    await world.prober.round()
    assert world.prober.heard == {"a": True} and not world.reports
    world.targets = {"a": (ONE,), "b": (TWO, parse_address("10.130.0.2"))}
    await world.prober.round()
    assert world.reports == [{"b": False}], "one of its addresses could be asked"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EAFNOSUPPORT, errno.ENOBUFS, errno.EPERM])
@pytest.mark.asyncio
async def test_no_socket_is_no_news_and_no_crash(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, "")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", fails)
        assert await dial_tcp(ONE, 1.0) is None


@pytest.mark.asyncio
async def test_a_report_that_fails_is_made_again_with_the_next_round() -> None:
    world = World()
    world.up, world.fails = {ONE}, True
    await world.prober.round()
    world.fails = False
    await world.prober.round()
    assert world.reports == [{"b": False}, {"b": False}]


@pytest.mark.asyncio
async def test_where_nobody_is_asked_all_answer() -> None:
    world = World()
    world.recorded = {"a": False, "b": True}
    settings = ProberSettings(timeout_s=0, dial=world.dial)
    prober = Prober(settings, targets=lambda: world.targets, recorded=lambda: world.recorded, publish=world.publish)
    await prober.run()
    assert (world.reports, world.dialled) == ([{"a": True}], [])


@pytest.mark.asyncio
async def test_rounds_follow_each_other_at_the_interval() -> None:
    world, waited = World(), list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            await anyio.sleep_forever()
        await anyio.sleep(0)

    prober = Prober(
        ProberSettings(interval_s=7.0, dial=world.dial),
        targets=lambda: {"a": (ONE,)},
        recorded=dict,
        publish=world.publish,
        sleep=sleep,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(prober.run)
        with anyio.fail_after(5):
            while len(waited) < 3:
                await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    assert waited == [7.0] * 3 and world.dialled == [ONE] * 3


def node(name: str, number: int, **labels: str) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": addresses}}


@pytest.mark.asyncio
async def test_a_control_plane_moves_what_a_silent_node_holds() -> None:
    asked, is_silent = set[str](), False

    async def dial(address: Address, timeout_s: float) -> bool:
        asked.add(str(address))
        return not (is_silent and str(address) == "10.128.0.2")

    label = {"k8s.ovn.org/egress-assignable": ""}
    spec = {"egressIPs": ["192.0.2.100"], "namespaceSelector": {}}
    objects = [
        node("n1", 1, **label),
        node("n2", 2, **label),
        node("n3", 3),
        {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": "out"}, "spec": spec},
    ]
    prober = ProberSettings(interval_s=0.01, timeout_s=0.01, dial=dial)
    async with ControlPlane(MemoryNorthbound(), prober=prober) as plane:
        await plane.apply(objects)
        with anyio.fail_after(10):
            while len(asked) < 2:
                await anyio.sleep(0)
        assert [each.node for each in plane.decisions.egress_ips["out"].assignments] == ["n1"]
        is_silent = True
        with anyio.fail_after(10):
            while [each.node for each in plane.decisions.egress_ips["out"].assignments] != ["n2"]:
                await anyio.sleep(0.005)
        assert not plane.decisions.health["n1"].is_reachable
    assert asked == {"10.128.0.2", "10.128.2.2"}
