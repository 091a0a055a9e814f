"""The resolver against a real dnsmasq, and the whole way: manifests in, address sets of a real northbound out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from ovnk_core.allocate.dns import addresses_at
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import NotFound
from ovnk_core.model.decision import DnsAnswer
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.runtime.resolver import ResolverSettings
from ovnk_core.terms.address import parse_address
from tests.kit.dnsmasq import TTL_S, Dnsmasq
from tests.kit.ovn import OvsdbServer, short_directory
from tests.kit.resolver import DUAL, Bench

pytestmark = pytest.mark.asyncio
WWW, ALIAS, GONE = "www.example.com", "alias.example.com", "gone.example.com"
HOSTS = {WWW: ["192.0.2.1", "2001:db8::1"], "four.example.com": ["192.0.2.4"]}


@pytest.fixture
def dnsmasq() -> Iterator[Dnsmasq]:
    cnames = {ALIAS: WWW, "alias2.example.com": ALIAS}
    with short_directory() as directory, Dnsmasq(directory, HOSTS, cnames=cnames) as server:
        yield server


# ------------------------------------------------------------------------------------------- the resolver alone


async def test_addresses_of_both_families_and_aliases(dnsmasq: Dnsmasq) -> None:
    bench = Bench(dnsmasq.address)
    bench.network = DUAL
    async with bench.running(WWW, ALIAS, "alias2.example.com", "four.example.com"):
        for name in (WWW, ALIAS, "alias2.example.com"):
            assert bench.live(name) == ["192.0.2.1", "2001:db8::1"]
            assert bench.resolver.status()[name].due_s == bench.clock.now() + TTL_S
        assert bench.live("four.example.com") == ["192.0.2.4"]


async def test_records_that_change_are_followed(dnsmasq: Dnsmasq) -> None:
    bench = Bench(dnsmasq.address)
    async with bench.running(WWW, ALIAS):
        dnsmasq.hosts({WWW: ["192.0.2.2"]})
        await bench.after(TTL_S)
        assert bench.live(WWW) == bench.live(ALIAS) == ["192.0.2.1", "192.0.2.2"]
        for _ in range(300 // TTL_S + 1):
            await bench.after(TTL_S)
        assert bench.live(WWW) == bench.live(ALIAS) == ["192.0.2.2"]
        assert len(bench.published) <= 6, "three changes of two names, and nothing between them"


async def test_a_name_that_goes_away_and_a_server_that_does(dnsmasq: Dnsmasq) -> None:
    bench = Bench(dnsmasq.address, timeout_s=0.8)
    async with bench.running(WWW, GONE):
        assert (bench.live(WWW), bench.live(GONE)) == (["192.0.2.1"], [])
        dnsmasq.hosts({})
        await bench.after(TTL_S)
        assert bench.live(WWW) == ["192.0.2.1"]
        await bench.after(30)
        assert (bench.live(WWW), bench.sticky(WWW)) == ([], ["192.0.2.1"])
        dnsmasq.hosts({WWW: ["192.0.2.3"]})
        await bench.after(300)
        assert bench.live(WWW) == ["192.0.2.3"]
        dnsmasq.stop()
        await bench.after(TTL_S)
        status = bench.resolver.status()[WWW]
        assert (bench.live(WWW), status.failures) == (["192.0.2.3"], 1)
        assert "gave no answer" in status.failure
        dnsmasq.start()
        await bench.after(5)
        assert bench.resolver.status()[WWW].failures == 0


# ------------------------------------------------------------------------------------------- the whole way


def firewall(*rules: tuple[str, str]) -> list[dict[str, Any]]:
    """A namespace and its firewall of (type, DNS name)."""
    egress = [{"type": verdict, "to": {"dnsName": name}} for verdict, name in rules]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressFirewall",
            "metadata": {"name": "default", "namespace": "shop"},
            "spec": {"egress": egress},
        },
    ]


RULES = firewall(("Allow", WWW), ("Deny", ALIAS))


def sets(server: OvsdbServer) -> dict[str, list[str]]:
    """Addresses of the northbound's DNS sets: ``NAME live/v4`` -> sorted texts."""
    found: dict[str, list[str]] = {}
    with server.wire() as wire:
        for row in wire.select("Address_Set"):
            owner = dict(row["external_ids"][1]).get("ovnk-owner", "")
            if owner.startswith("DnsName//"):
                addresses = row["addresses"]
                texts = addresses[1] if isinstance(addresses, list) else [addresses]
                found[owner.removeprefix("DnsName//").replace("/", " ", 1)] = sorted(texts)
    return found


async def test_address_sets_follow_and_outlive_the_dns(dnsmasq: Dnsmasq, own_server: OvsdbServer) -> None:
    asking = ResolverSettings(servers=(dnsmasq.address,), grace_s=0.0, timeout_s=0.8)
    async with ControlPlane(NativeNorthbound(own_server.address), resolver=asking) as plane:
        receipt = await plane.apply(RULES)
        assert receipt.is_accepted
        await plane.resolve_dns(10.0)
        await plane.wait(timeout_s=10)
        found = sets(own_server)
        assert found[f"{WWW} live/v4"] == found[f"{ALIAS} sticky/v4"] == ["192.0.2.1"]
        before = plane.dns(WWW)
        assert [change.cause for change in before.history] == ["answer"]
        dnsmasq.hosts({WWW: ["192.0.2.8", "192.0.2.9"]})
        await plane.resolve_dns(10.0)
        with anyio.fail_after(10):
            while sets(own_server)[f"{WWW} live/v4"] != ["192.0.2.8", "192.0.2.9"]:
                await anyio.sleep(0.01)
        await plane.wait(timeout_s=10)
        assert not plane.pending().operations
        after = plane.dns(WWW)
        assert after.history[0] == before.history[0]
        assert addresses_at(after, after.history[-1].at_s) == after.live
        requests, revision = plane.last_flush, plane.revision
        await plane.resolve_dns(10.0)
        assert (plane.last_flush, plane.revision) == (requests, revision), "an unchanged answer is nothing"
    dnsmasq.stop()
    async with ControlPlane(NativeNorthbound(own_server.address), resolver=asking) as plane:
        with pytest.raises(NotFound):
            plane.dns("other.example.com")
        assert plane.dns(WWW) == after
        await plane.apply(RULES)
        await plane.wait(timeout_s=10)
        assert plane.last_flush.operations == dict.fromkeys(plane.last_flush.operations, 0)
        assert sets(own_server)[f"{WWW} live/v4"] == ["192.0.2.8", "192.0.2.9"]
        await plane.resolve_dns(10.0)
        assert plane.dns_status()[WWW].failures >= 1
        assert plane.dns(WWW) == after


async def test_nothing_waits_for_dns(dnsmasq: Dnsmasq, own_server: OvsdbServer) -> None:
    dnsmasq.daemon.suspend()
    asking = ResolverSettings(servers=(dnsmasq.address,), timeout_s=30.0)
    with anyio.fail_after(10):
        async with ControlPlane(NativeNorthbound(own_server.address), resolver=asking, timeout_s=5) as plane:
            await plane.apply(RULES)
            await plane.wait(timeout_s=5)
            assert sets(own_server)[f"{WWW} live/v4"] == []
            with pytest.raises(NotFound, match="never answered"):
                plane.dns(WWW)
    dnsmasq.daemon.resume()


async def test_a_feed_reaches_the_northbound(own_server: OvsdbServer) -> None:
    async with ControlPlane(NativeNorthbound(own_server.address)) as plane:
        await plane.apply(RULES)
        answer = DnsAnswer(name=WWW, addresses=(parse_address("192.0.2.77"),), ttl_s=60)
        await plane.wait(await plane.push_dns(answer), timeout_s=10)
        assert sets(own_server)[f"{WWW} live/v4"] == ["192.0.2.77"]
        assert plane.dns(WWW).history[-1].cause == "pushed"
