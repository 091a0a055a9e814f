"""The resolver against a scripted server on loopback, with a clock that the test moves: no test sleeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import pytest_asyncio

from ovnk_core.errors import OvnkError
from ovnk_core.ingest.decisions import read_dns
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.model.decision import DnsAnswer, DnsDecision
from ovnk_core.model.manifest import dns_text
from ovnk_core.runtime.dns_query import NameServer, ask, parse_server, read_resolv_conf
from ovnk_core.terms.address import cidr, parse_address
from tests.kit.dns_server import NODATA, NXDOMAIN, REFUSED, SERVFAIL, SILENT, DnsServer, Reply, a
from tests.kit.resolver import DUAL, Bench, texts

pytestmark = pytest.mark.asyncio
WWW = "www.example.com"
SOON_S = 0.3
"""A real timeout: how long a silent server is waited for."""
PATIENT_S = 5.0


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as running:
        yield running


# ------------------------------------------------------------------------------------------- one question


async def answer_of(server: DnsServer, reply: Reply, kind: str = "A", *more: NameServer) -> DnsAnswer:
    server.says(WWW, kind, reply)
    return await ask(WWW, 4 if kind == "A" else 6, (server.address, *more), PATIENT_S)


CNAMES = tuple((f"{left}.example.com", ttl, "CNAME", f"{right}.example.com.") for left, ttl, right in [
    ("www", 300, "b"), ("b", 20, "c"), ("c", 900, "d"),
])  # fmt: skip


async def test_a_and_aaaa(server: DnsServer) -> None:
    found = await answer_of(server, a(WWW, "192.0.2.2", "192.0.2.1", ttl=77))
    assert (found.outcome, texts(found.addresses), found.ttl_s) == ("answer", ["192.0.2.1", "192.0.2.2"], 77)
    found = await answer_of(server, a(WWW, "2001:db8::1"), "AAAA")
    assert texts(found.addresses) == ["2001:db8::1"]


async def test_the_smallest_ttl_of_a_chain_counts(server: DnsServer) -> None:
    found = await answer_of(server, Reply(records=(*CNAMES, ("d.example.com", 50, "A", "192.0.2.9"))))
    assert (texts(found.addresses), found.ttl_s) == (["192.0.2.9"], 20)
    assert server.count(WWW) == 1


async def test_a_chain_that_the_server_left_open_is_followed(server: DnsServer) -> None:
    server.says("b.example.com", "A", Reply(records=(("b.example.com", 9, "CNAME", "c.example.com."),)))
    server.says("c.example.com", "A", a("c.example.com", "192.0.2.7", ttl=44))
    found = await answer_of(server, Reply(records=CNAMES[:1]))
    assert (texts(found.addresses), found.ttl_s) == (["192.0.2.7"], 9)
    assert [name for name, _, _ in server.asked] == [WWW, "b.example.com", "c.example.com"]


async def test_a_chain_to_nowhere_is_a_denial(server: DnsServer) -> None:
    soa = ("example.com", 900, "SOA", "ns.example.com. root.example.com. 1 2 3 4 40")
    found = await answer_of(server, Reply(records=CNAMES, authority=(soa,), rcode="NXDOMAIN"))
    assert (found.outcome, found.ttl_s) == ("nxdomain", 20)
    found = await answer_of(server, Reply(records=CNAMES, authority=(soa,)))
    assert (found.outcome, found.ttl_s) == ("nodata", 20)
    found = await answer_of(server, Reply(authority=(soa,)))
    assert (found.outcome, found.ttl_s) == ("nodata", 40)
    assert {name for name, _, _ in server.asked} == {WWW}, "the end of the chain was told, and is not asked again"


async def test_loops_end(server: DnsServer) -> None:
    inside = Reply(records=((WWW, 60, "CNAME", "b.example.com."), ("b.example.com", 60, "CNAME", f"{WWW}.")))
    found = await answer_of(server, inside)
    assert (found.outcome, found.addresses) == ("malformed", ())
    server.says("b.example.com", "A", Reply(records=(("b.example.com", 60, "CNAME", f"{WWW}."),)))
    found = await answer_of(server, Reply(records=CNAMES[:1]))
    assert found.outcome == "malformed"
    assert "more than 16 CNAMEs" in found.reason
    assert len(server.asked) == 17


async def test_a_cut_off_reply_is_fetched_over_tcp(server: DnsServer) -> None:
    many = [f"198.51.{index // 250}.{index % 250 + 1}" for index in range(500)]
    found = await answer_of(server, a(WWW, *many))
    assert len(found.addresses) == 500
    assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]
    found = await answer_of(server, Reply(records=((WWW, 60, "A", "192.0.2.1"),), fault="truncated"))
    assert texts(found.addresses) == ["192.0.2.1"]


@pytest.mark.parametrize("fault", ["garbage", "wrong id", "other question"])
async def test_a_worthless_datagram_is_passed_over(server: DnsServer, fault: Any) -> None:
    found = await answer_of(server, Reply(records=((WWW, 60, "A", "192.0.2.1"),), fault=fault))
    assert texts(found.addresses) == ["192.0.2.1"]
    assert server.count(WWW) == 1


@pytest.mark.parametrize("ttl", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
async def test_ttls_arrive_as_rfc_2181_reads_them(server: DnsServer, ttl: int) -> None:
    found = await answer_of(server, a(WWW, "192.0.2.1", ttl=ttl))
    assert found.ttl_s == (ttl if ttl < 2**31 else 0)


async def test_ipv4_inside_ipv6_is_not_used_and_said(server: DnsServer) -> None:
    found = await answer_of(server, a(WWW, "::ffff:192.0.2.1", "2001:db8::1"), "AAAA")
    assert texts(found.addresses) == ["2001:db8::1"]
    assert "::ffff:" in found.reason and "not used" in found.reason


@pytest.mark.parametrize(
    ("reply", "outcome", "text"),
    [
        (SERVFAIL, "servfail", "SERVFAIL"),
        (REFUSED, "refused", "REFUSED"),
        (Reply(rcode="NOTIMP"), "malformed", "NOTIMP"),
        (Reply(records=((WWW, 60, "A", "192.0.2.1"),), rcode="NXDOMAIN"), "malformed", "chain that does not hold"),
    ],
)
async def test_the_next_server_is_asked(server: DnsServer, reply: Reply, outcome: str, text: str) -> None:
    found = await answer_of(server, reply)
    assert (found.outcome, found.addresses) == (outcome, ())
    assert text in found.reason and str(server.address) in found.reason
    async with DnsServer() as second:
        second.says(WWW, "A", a(WWW, "192.0.2.5"))
        assert texts((await answer_of(server, reply, "A", second.address)).addresses) == ["192.0.2.5"]


@pytest.mark.parametrize("fault", ["silent", "cut off"])
async def test_the_next_server_is_asked_after_a_timeout(server: DnsServer, fault: Any) -> None:
    server.says(WWW, "A", Reply(records=((WWW, 60, "A", "192.0.2.1"),), fault=fault))
    async with DnsServer() as second:
        second.says(WWW, "A", a(WWW, "192.0.2.5"))
        found = await ask(WWW, 4, (server.address, second.address), SOON_S)
        assert texts(found.addresses) == ["192.0.2.5"]
    found = await ask(WWW, 4, (server.address,), SOON_S)
    assert (found.outcome, found.reason) == ("timeout", f"{server.address} gave no answer in 0.3 s")


async def test_denials_are_not_asked_around(server: DnsServer) -> None:
    async with DnsServer() as second:
        second.says(WWW, "A", a(WWW, "192.0.2.5"))
        assert (await answer_of(server, NXDOMAIN, "A", second.address)).outcome == "nxdomain"
        assert second.asked == []


async def test_nobody_to_ask_and_nobody_there() -> None:
    assert (await ask(WWW, 4, (), PATIENT_S)).reason == "no DNS server is configured"
    async with DnsServer() as gone:
        address = gone.address
    assert (await ask(WWW, 4, (address,), SOON_S)).outcome == "timeout"
    cut = Reply(fault="truncated")
    async with DnsServer() as gone:
        gone.says(WWW, "A", cut)
        gone.close_tcp()
        found = await ask(WWW, 4, (gone.address,), PATIENT_S)
    assert found.outcome == "unreachable"
    assert found.reason == f"{gone.address} cannot be reached (Connection refused)"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]", "2001:db8::1", 53),
        ("[2001:db8::1]:54", "2001:db8::1", 54),
        ("fe80::1%eth0", "fe80::1%eth0", 53),
    ],
)
async def test_servers_are_written_as_usual(text: str, host: str, port: int) -> None:
    assert parse_server(text) == NameServer(host, port)
    assert parse_server(str(parse_server(text))) == parse_server(text)


@pytest.mark.parametrize(
    "text", ["", "dns.example.com", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "[::1", "::1]:5"]
)
async def test_a_server_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"DNS server|port"):
        parse_server(text)


async def test_resolv_conf() -> None:
    text = (
        "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.1 \n nameserver ::1\nnameserver bad\nnameserver 192.0.2.1"
    )
    assert [str(each) for each in read_resolv_conf(text)] == ["192.0.2.1:53", "[::1]:53"]


# ------------------------------------------------------------------------------------------- following names


async def test_an_answer_is_followed_by_its_ttl(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1", ttl=60), a(WWW, "192.0.2.1", ttl=60), a(WWW, "192.0.2.2", ttl=60))
    bench = Bench(server.address)
    async with bench.running(WWW):
        assert bench.live(WWW) == ["192.0.2.1"]
        await bench.after(59)
        assert server.count(WWW) == 1
        await bench.after(1)
        assert (server.count(WWW), len(bench.published)) == (2, 1), "an unchanged answer is no news"
        await bench.after(60)
        assert bench.live(WWW) == ["192.0.2.1", "192.0.2.2"]
        await bench.after(299)
        assert bench.live(WWW) == ["192.0.2.1", "192.0.2.2"]
        await bench.after(1)
        assert (bench.live(WWW), bench.sticky(WWW)) == (["192.0.2.2"], ["192.0.2.2"])
        assert [change.cause for change in bench.decisions[WWW].history] == ["answer", "answer", "expired"]


@pytest.mark.parametrize(("ttl", "pause_s"), [(0, 5), (2**31 - 1, 1800), (2**31, 5)])
async def test_ttls_are_clamped(server: DnsServer, ttl: int, pause_s: float) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1", ttl=ttl))
    bench = Bench(server.address)
    async with bench.running(WWW):
        assert bench.resolver.status()[WWW].due_s == bench.clock.now() + pause_s
        await bench.after(pause_s - 0.01)
        assert server.count(WWW) == 1
        await bench.after(0.01)
        assert server.count(WWW) == 2


async def test_failures_keep_the_answer_and_say_so(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"), SERVFAIL, REFUSED, SILENT, SERVFAIL, a(WWW, "192.0.2.1"))
    bench = Bench(server.address, timeout_s=0.8)
    async with bench.running(WWW):
        await bench.after(60)
        for failures, (text, pause_s) in enumerate(
            [("SERVFAIL", 5), ("REFUSED", 10), ("gave no answer", 20), ("SERVFAIL", 40)], start=1
        ):
            status = bench.resolver.status()[WWW]
            assert (status.failures, status.failed_s) == (failures, bench.clock.now())
            assert text in status.failure
            assert status.due_s == bench.clock.now() + pause_s
            assert "stays in use" in status.warnings[0]
            assert bench.live(WWW) == ["192.0.2.1"]
            await bench.after(pause_s)
        status = bench.resolver.status()[WWW]
        assert (status.failures, status.failure, status.warnings) == (0, "", ())
        assert (status.heard_s, len(bench.published)) == (bench.clock.now(), 1)


async def test_nxdomain_empties_allow_the_second_time_and_deny_never(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"), NXDOMAIN, SERVFAIL, NXDOMAIN, a(WWW, "192.0.2.3"))
    bench = Bench(server.address)
    async with bench.running(WWW):
        await bench.after(60)
        assert bench.live(WWW) == ["192.0.2.1"]
        await bench.after(30)
        assert bench.live(WWW) == ["192.0.2.1"]
        await bench.after(5)
        assert (bench.live(WWW), bench.sticky(WWW)) == ([], ["192.0.2.1"])
        await bench.after(300)
        assert (bench.live(WWW), bench.sticky(WWW)) == (["192.0.2.3"], ["192.0.2.3"])


async def test_one_nxdomain_is_forgiven(server: DnsServer) -> None:
    replies = [a(WWW, "192.0.2.1"), NXDOMAIN]
    server.says(WWW, "A", *replies * 3, a(WWW, "192.0.2.1"))
    bench = Bench(server.address)
    async with bench.running(WWW):
        for _ in range(6):
            await bench.after(60)
            assert bench.live(WWW) == ["192.0.2.1"]
        assert [each[WWW].denials for each in bench.published if each[WWW]] == [0, 1, 0, 1, 0, 1, 0]


async def test_one_family_without_data(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"), NODATA)
    server.says(WWW, "AAAA", a(WWW, "2001:db8::1"))
    bench = Bench(server.address)
    bench.network = DUAL
    async with bench.running(WWW):
        assert bench.live(WWW) == ["192.0.2.1", "2001:db8::1"]
        await bench.after(60)
        assert (bench.live(WWW), texts(bench.decisions[WWW].answer)) == (["192.0.2.1", "2001:db8::1"], ["2001:db8::1"])
        await bench.after(300)
        assert (bench.live(WWW), bench.sticky(WWW)) == (["2001:db8::1"], ["2001:db8::1"])


async def test_addresses_of_the_cluster_are_dropped_with_a_warning(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "10.128.3.4", "172.30.0.1", "127.0.0.1", "100.64.0.2", "10.1.2.3", "169.254.169.254"))
    bench = Bench(server.address)
    async with bench.running(WWW):
        assert bench.live(WWW) == ["10.1.2.3", "169.254.169.254"]
        warnings = bench.resolver.status()[WWW].warnings
        assert "10.128.3.4, 100.64.0.2, 127.0.0.1 and 1 more" in warnings[0]


async def test_an_answer_that_flips_stays_whole(server: DnsServer) -> None:
    server.says(WWW, "A", *[a(WWW, f"192.0.2.{1 + index % 2}", ttl=5) for index in range(20)])
    bench = Bench(server.address)
    async with bench.running(WWW):
        await bench.after(5)
        for _ in range(15):
            await bench.after(5)
            assert bench.live(WWW) == ["192.0.2.1", "192.0.2.2"]


async def test_names_come_and_go_while_running(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1", ttl=100))
    server.says("b.example.com", "A", a("b.example.com", "192.0.2.9", ttl=1000))
    bench = Bench(server.address)
    async with bench.running(WWW):
        bench.resolver.want([WWW, "b.example.com", "*.example.com"])
        await bench.settled()
        assert bench.live("b.example.com") == ["192.0.2.9"]
        assert not any("*" in name for name, _, _ in server.asked)
        bench.resolver.want(["b.example.com"])
        await bench.after(200)
        assert (server.count(WWW), bench.live(WWW)) == (1, ["192.0.2.1"]), "kept for a grace period, not asked for"
        bench.resolver.want([WWW, "b.example.com"])
        await bench.settled()
        assert server.count(WWW) == 2, "its answer is old"
        await bench.after(200)
        assert bench.live(WWW) == ["192.0.2.1"], "wanted again, it is not forgotten"
        bench.resolver.want(["b.example.com"])
        await bench.after(300)
        assert WWW not in bench.decisions
        assert list(bench.resolver.status()) == ["b.example.com"]


async def test_a_name_removed_while_it_is_asked_for(server: DnsServer) -> None:
    server.says(WWW, "A", SILENT)
    bench = Bench(server.address, timeout_s=0.2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.resolver.run)
        bench.resolver.want([WWW])
        while not server.asked:
            await anyio.sleep(0.001)
        bench.resolver.want([])
        bench.clock.advance(1000)
        await bench.settled()
        assert bench.resolver.status() == {}
        tasks.cancel_scope.cancel()


async def test_at_most_so_many_questions_at_once(server: DnsServer) -> None:
    names = [f"n{index}.example.com" for index in range(40)]
    for name in names:
        server.says(name, "A", SILENT)
    bench = Bench(server.address, timeout_s=60.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.resolver.run)
        bench.resolver.want(names)
        with anyio.fail_after(20):
            while len(server.asked) < 16:
                await anyio.sleep(0.001)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert len(server.asked) == 16
        tasks.cancel_scope.cancel()
    for name in names:
        server.says(name, "A", a(name, "192.0.2.1"))
    bench = Bench(server.address)
    async with bench.running(*names):
        assert len(bench.decisions) == 40
        assert len(bench.published) < 40, "answers that come close together are handed over together"


async def test_recorded_answers_stand_until_somebody_knows_better(server: DnsServer) -> None:
    one = (parse_address("192.0.2.1"),)
    server.says(WWW, "A", SERVFAIL, a(WWW, "192.0.2.1"), a(WWW, "192.0.2.2"))
    bench = Bench(server.address, recorded={WWW: DnsDecision(live=one, sticky=one, answer=one)})
    async with bench.running(WWW):
        assert bench.published == []
        assert "from the record" in bench.resolver.status()[WWW].warnings[0]
        await bench.after(5)
        assert bench.published == []
        await bench.after(60)
        assert bench.live(WWW) == ["192.0.2.1", "192.0.2.2"]


async def test_a_feed_pushes(server: DnsServer) -> None:
    bench = Bench()
    star = "*.example.com"
    async with bench.running(star, WWW):
        assert bench.resolver.status()[star].due_s == float("inf")
        one, two = (parse_address("192.0.2.1"),), (parse_address("192.0.2.2"),)
        await bench.resolver.push(DnsAnswer(name=star, addresses=one, ttl_s=30))
        assert bench.live(star) == ["192.0.2.1"]
        await bench.after(100)
        await bench.resolver.push(DnsAnswer(name=star, addresses=two, ttl_s=30))
        assert bench.live(star) == ["192.0.2.1", "192.0.2.2"]
        await bench.after(300)
        assert bench.live(star) == ["192.0.2.2"]
        assert [each.cause for each in bench.decisions[star].history] == ["pushed", "pushed", "expired"]
        await bench.resolver.push(DnsAnswer(name="later.example.com", addresses=one))
        assert bench.live("later.example.com") == ["192.0.2.1"]
        await bench.after(300)
        assert "later.example.com" not in bench.decisions, "nobody came to want it"
    assert server.asked == []


async def test_networks_that_change_make_names_be_asked_again(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1", "198.51.100.1", ttl=1000))
    server.says(WWW, "AAAA", a(WWW, "2001:db8::1", ttl=1000))
    bench = Bench(server.address)
    async with bench.running(WWW):
        assert bench.live(WWW) == ["192.0.2.1", "198.51.100.1"]
        bench.network = ClusterNetwork(entries=DUAL.entries, service=(cidr("198.51.100.0/24"),))
        bench.resolver.want([WWW])
        await bench.settled()
        assert texts(bench.decisions[WWW].answer) == ["192.0.2.1", "2001:db8::1"]


async def test_what_could_not_be_handed_over_is_tried_again(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"))
    bench = Bench(server.address)
    bench.refusal = OvnkError("the core is busy")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.resolver.run)
        bench.resolver.want([WWW])
        with anyio.fail_after(20):
            while not bench.resolver.problem:
                await anyio.sleep(0.001)
        assert bench.resolver.problem == "the core is busy"
        assert "not in force yet (the core is busy)" in bench.resolver.status()[WWW].warnings[0]
        bench.refusal = None
        await bench.after(5)
        assert (bench.live(WWW), bench.resolver.problem) == (["192.0.2.1"], "")
        tasks.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------- once


async def test_resolving_once(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"))
    bench = Bench(server.address)
    found = await bench.resolver.resolve_once([WWW, "gone.example.com", "*.example.com"], 5.0)
    assert {name: texts(each.live) for name, each in found.items()} == {WWW: ["192.0.2.1"]}
    assert bench.published == [found]


async def test_resolving_once_ends_at_its_deadline(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"))
    server.says("slow.example.com", "A", SILENT)
    bench = Bench(server.address, timeout_s=60.0)
    async with anyio.create_task_group() as tasks:
        found: list[dict[str, DnsDecision]] = []

        async def once() -> None:
            found.append(await bench.resolver.resolve_once([WWW, "slow.example.com"], 7.0))

        tasks.start_soon(once)
        with anyio.fail_after(20):
            while len(server.asked) < 2 or bench.resolver.status()[WWW].heard_s is None:
                await anyio.sleep(0.001)
        bench.clock.advance(7.0)
    assert list(found[0]) == [WWW]
    status = bench.resolver.status()["slow.example.com"]
    assert (status.failure, status.is_answered) == ("no answer in 7 s", False)


async def test_runs_from_cron_end_grace_periods_and_honour_a_second_denial(server: DnsServer) -> None:
    """Every run is a process of its own: all it knows is the record."""
    server.says(WWW, "A", a(WWW, "192.0.2.1"), *[a(WWW, "192.0.2.2")] * 4, NXDOMAIN, SERVFAIL, NXDOMAIN)
    recorded: dict[str, DnsDecision] = {}
    found, written = [], []
    for index in range(8):
        bench = Bench(server.address, recorded=recorded, keeps_asking=False)
        bench.clock.advance(120.0 * index)
        await bench.resolver.resolve_once([WWW], 5.0)
        decision = bench.decisions[WWW]
        recorded = {WWW: read_dns(WWW, dns_text(decision)) or decision}
        found.append(bench.live(WWW))
        written.append(len(bench.published))
    one, two = "192.0.2.1", "192.0.2.2"
    assert found == [[one], [one, two], [one, two], [one, two], [two], [two], [two], []]
    assert written == [1, 1, 0, 0, 1, 1, 0, 1], "what did not change is not written"
    assert bench.sticky(WWW) == [two]
    assert server.count(WWW) == 8


async def test_a_run_ends_grace_periods_of_names_that_it_does_not_ask_for(server: DnsServer) -> None:
    one, two = (parse_address("192.0.2.1"),), (parse_address("192.0.2.2"),)
    star = "*.example.com"
    left = DnsDecision(live=one + two, sticky=one + two, answer=two, leaving=((one[0], 1_700_000_050),))
    bench = Bench(server.address, recorded={star: left}, keeps_asking=False)
    bench.resolver.want([star])
    await bench.resolver.resolve_once([], 5.0)
    assert bench.published == []
    bench.clock.advance(50.0)
    await bench.resolver.resolve_once([], 5.0)
    assert bench.live(star) == ["192.0.2.2"]
    late = Bench(server.address, recorded={star: left}, keeps_asking=False)
    late.clock.advance(9999.0)
    late.resolver.want([star])
    await late.resolver.resolve_once([], 5.0)
    assert late.live(star) == ["192.0.2.2"], "it had ended before the start"


async def test_a_family_that_is_late_does_not_take_the_other_with_it(server: DnsServer) -> None:
    server.says(WWW, "A", a(WWW, "192.0.2.1"))
    server.says(WWW, "AAAA", SILENT)
    bench = Bench(server.address, timeout_s=60.0, keeps_asking=False)
    bench.network = DUAL
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.resolver.resolve_once, [WWW], 7.0)
        with anyio.fail_after(20):
            while len(server.asked) < 2:
                await anyio.sleep(0.001)
            await anyio.sleep(0.05)
        bench.clock.advance(7.0)
    assert bench.live(WWW) == ["192.0.2.1"]
    assert bench.resolver.status()[WWW].failure == "no AAAA answer in 7 s"


async def test_a_name_that_was_heard_meanwhile_is_not_called_late(server: DnsServer) -> None:
    server.says(WWW, "A", SILENT)
    bench = Bench(server.address, timeout_s=60.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.resolver.resolve_once, [WWW], 7.0)
        with anyio.fail_after(20):
            while not server.asked:
                await anyio.sleep(0.001)
        bench.clock.advance(1.0)
        await bench.resolver.push(DnsAnswer(name=WWW, addresses=(parse_address("192.0.2.1"),)))
        bench.clock.advance(6.0)
    status = bench.resolver.status()[WWW]
    assert (status.failures, status.warnings) == (0, ())
    assert bench.live(WWW) == ["192.0.2.1"]


async def test_a_caller_that_gives_up_leaves_the_name_to_the_loop(server: DnsServer) -> None:
    server.says(WWW, "A", SILENT, a(WWW, "192.0.2.1"))
    bench = Bench(server.address, timeout_s=60.0)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as caller:
            caller.start_soon(bench.resolver.resolve_once, [WWW], 1000.0)
            with anyio.fail_after(20):
                while not server.asked:
                    await anyio.sleep(0.001)
            tasks.start_soon(bench.resolver.run)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            caller.cancel_scope.cancel()
        await bench.settled()
        assert bench.live(WWW) == ["192.0.2.1"]
        tasks.cancel_scope.cancel()
