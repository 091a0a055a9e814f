"""Commands that follow objects see what the server decides of them, long after the object itself was changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from ovnk_api.v1 import dns_service_pb2
from ovnk_cli.online.convergence import parse_target, wait_objects
from ovnk_cli.online.listing import Look, show
from ovnk_cli.online.names import kind_meant, wanted
from ovnk_cli.online.read import Selection
from ovnk_client import Client

from tests.kit import manifest as m
from tests.kit.served import Api, Stand, apply, served, until

pytestmark = pytest.mark.asyncio
POD = m.pod("x", spec={"nodeName": "node-1"})
RULES = [{"type": "Allow", "to": {"dnsName": "www.example.com"}}]
FIREWALL = {
    "apiVersion": "k8s.ovn.org/v1",
    "kind": "EgressFirewall",
    "metadata": {"name": "default", "namespace": "shop"},
    "spec": {"egress": RULES},
}


async def is_followed(stand: Stand) -> None:
    """Until a watch has sent what was there when it began."""
    await until(lambda: any(watch._snapshot is None and not watch._ready for watch in stand.keeper.watches))


async def answer(api: Api, name: str, address: str) -> None:
    told = dns_service_pb2.DnsAnswer(name=name, addresses=[address], ttl=Duration(seconds=300))
    await api.dns.PushAnswers(dns_service_pb2.PushAnswersRequest(answers=[told]))


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        ("pod", "x", "jsonpath={.status.hostIP}=192.0.2.1"),
        ("pod", "x", "jsonpath={.status.podIP}=10.128.0.3"),
        ("ef", "default", "condition=DNSPending=False"),
    ],
)
async def test_a_wait_ends_when_the_status_alone_changes(kind: str, name: str, target: str) -> None:
    async with served() as stand:
        api = await stand.caller()
        await apply(api, m.namespace(), POD, FIREWALL)
        async with Client(f"unix:{stand._folder}/s1") as client:
            waiting = asyncio.create_task(
                wait_objects(
                    client, kind_meant(kind), [name], namespace="shop", target=parse_target(target), timeout_s=5.0
                )
            )
            await is_followed(stand)
            assert not waiting.done()
            await apply(api, m.node())
            await answer(api, "www.example.com", "198.51.100.7")
            assert await waiting == 0


async def test_a_wide_listing_gets_the_address_that_is_decided(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[list[str]] = []

    def lines() -> Any:
        printed.extend(line.split() for line in capsys.readouterr().out.splitlines())
        return printed

    async with served() as stand:
        api = await stand.caller()
        await apply(api, m.namespace(), m.node())
        async with Client(f"unix:{stand._folder}/s1") as client:
            selection, look = Selection(namespace="shop"), Look(output="wide", is_watched=True)
            showing = asyncio.create_task(show(client, wanted(["pods"]), selection, look))
            await is_followed(stand)
            await apply(api, POD)
            await until(lambda: bool(lines()) and "10.128.0.3" in printed[-1])
            showing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await showing
