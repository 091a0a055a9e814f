"""The prober's questions with real sockets, in network namespaces: who is up, and who is down and how soon."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from ovnk_core.runtime.reachability import DISCARD_PORT, Prober, ProberSettings, dial_tcp
from ovnk_core.terms.address import Address, parse_address
from tests.kit.namespace import Namespace, link

pytestmark = pytest.mark.asyncio
REFUSES, SILENT, NOWHERE = (parse_address(text) for text in ("10.9.0.2", "10.9.0.9", "10.77.0.1"))
REFUSES_V6 = parse_address("fd99::2")


@pytest.fixture(scope="module")
def here() -> Iterator[tuple[Namespace, Namespace]]:
    """The prober's namespace and a node's. To ``SILENT`` frames go and nothing comes back; to ``NOWHERE`` is no way."""
    with Namespace() as one, Namespace() as other:
        link(one, "v0", other, "v1")
        one.ip("addr add 10.9.0.1/24 dev v0", "addr add fd99::1/64 dev v0 nodad")
        other.ip("addr add 10.9.0.2/24 dev v1", "addr add fd99::2/64 dev v1 nodad")
        one.ip("neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev v0", "route add unreachable 10.77.0.0/24")
        yield one, other


async def dialled(at: Namespace, address: Address, timeout_s: float = 0.3) -> bool | None:
    with at.entered():
        return await dial_tcp(address, timeout_s)


async def test_a_refused_connection_is_an_answer(here: tuple[Namespace, Namespace]) -> None:
    assert await dialled(here[0], REFUSES, 5)
    assert await dialled(here[0], REFUSES_V6, 5)


async def test_an_accepted_connection_is_an_answer(here: tuple[Namespace, Namespace]) -> None:
    with here[1].entered():
        listener = socket.create_server(("10.9.0.2", DISCARD_PORT))
    with listener:
        assert await dialled(here[0], REFUSES, 5)


async def test_silence_is_none_and_lasts_no_longer_than_the_timeout(here: tuple[Namespace, Namespace]) -> None:
    begun = time.monotonic()
    assert await dialled(here[0], SILENT) is False
    assert 0.29 < time.monotonic() - begun < 5


async def test_no_way_there_is_none_at_once(here: tuple[Namespace, Namespace]) -> None:
    async with asyncio.timeout(20):
        assert await dialled(here[0], NOWHERE, 60) is False


async def test_an_error_of_our_own_is_no_answer_of_the_node(here: tuple[Namespace, Namespace]) -> None:
    here[0].ip("route add prohibit 10.78.0.0/24")
    assert await dialled(here[0], parse_address("10.78.0.1"), 5) is None


async def test_a_round_tells_them_apart(here: tuple[Namespace, Namespace]) -> None:
    reports: list[dict[str, bool]] = []

    async def publish(heard: object) -> None:
        assert isinstance(heard, dict)
        reports.append(heard)

    targets = {"up": (REFUSES,), "either": (SILENT, REFUSES_V6), "silent": (SILENT,), "nowhere": (NOWHERE,)}
    settings = ProberSettings(timeout_s=0.6)
    prober = Prober(settings, targets=lambda: targets, recorded=lambda: {"either": False}, publish=publish)
    with here[0].entered():
        await prober.round()
    assert prober.heard == {"either": True, "nowhere": False, "silent": False, "up": True}
    assert reports == [{"either": True, "nowhere": False, "silent": False}]
