"""What a DNS name stands for: one row per thing that may be heard, and a random walk that holds the promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ovnk_core.allocate.dns import DnsState, DnsTerms, addresses_at, begun, elapsed, heard, terms_of
from ovnk_core.ingest.decisions import read_dns
from ovnk_core.model.cluster import ClusterNetwork, ClusterNetworkEntry
from ovnk_core.model.decision import DNS_CAUSES, MAX_DNS_ADDRESSES, MAX_DNS_HISTORY, DnsAnswer, DnsDecision, DnsOutcome
from ovnk_core.model.manifest import MAX_DNS_TEXT, dns_text
from ovnk_core.terms.address import Address, Family, cidr, parse_address

NAME, START, GRACE = "www.example.com", 1_700_000_000.0, 300.0
FOUR = terms_of(ClusterNetwork(), GRACE)
NETWORK_6 = ClusterNetworkEntry(cidr=cidr("fd01::/48"), host_prefix_bits=64)
DUAL = terms_of(ClusterNetwork(entries=(*ClusterNetwork().entries, NETWORK_6)), GRACE)


def addresses(text: str) -> tuple[Address, ...]:
    return tuple(sorted(parse_address(word) for word in text.split()))


def told(outcome: str, ttl: float = 60, family: Family | None = 4) -> DnsAnswer:
    """``1.1.1.1 1.1.1.2`` is an answer, a word is an outcome."""
    if outcome[:1].isdigit():
        return DnsAnswer(name=NAME, addresses=addresses(outcome), ttl_s=ttl, family=family)
    found: DnsOutcome = outcome  # type: ignore[assignment]
    return DnsAnswer(name=NAME, outcome=found, ttl_s=ttl, family=family)


def walk(*steps: tuple[float, str], terms: DnsTerms = FOUR, state: DnsState | None = None) -> DnsState:
    """Hear things so many seconds after the start; ``-`` hears nothing. ``A / B``: what A and AAAA said."""
    state = state or begun(NAME, None, START)
    for after_s, said in steps:
        if said == "-":
            state = elapsed(state, START + after_s)
            continue
        families: tuple[Family, Family] = (4, 6)
        answers = [told(part.strip(), family=family) for part, family in zip(said.split("/"), families, strict=False)]
        state = heard(state, answers, START + after_s, terms)
    return state


def shown(found: tuple[Address, ...]) -> str:
    return " ".join(str(address) for address in found)


ONE, TWO, BOTH = "9.0.0.1", "9.0.0.2", "9.0.0.1 9.0.0.2"
SIX = "2001:db8::1"
WALKS: list[tuple[str, list[tuple[float, str]], str, str]] = [
    ("an answer", [(0, ONE)], ONE, ONE),
    ("an answer that grows", [(0, ONE), (60, BOTH)], BOTH, BOTH),
    ("an address that left is kept for the grace period", [(0, ONE), (60, TWO), (359, "-")], BOTH, BOTH),
    ("and then let go", [(0, ONE), (60, TWO), (360, "-")], TWO, TWO),
    ("one that returned in time stays", [(0, ONE), (60, TWO), (120, ONE), (400, "-")], BOTH, BOTH),
    ("and the other leaves in its turn", [(0, ONE), (60, TWO), (120, ONE), (420, "-")], ONE, ONE),
    ("a timeout keeps", [(0, ONE), (60, "timeout"), (9999, "timeout")], ONE, ONE),
    ("SERVFAIL keeps", [(0, ONE), (60, "servfail"), (99999, "servfail")], ONE, ONE),
    ("REFUSED keeps", [(0, ONE), (60, "refused"), (9999, "unreachable")], ONE, ONE),
    ("nonsense keeps", [(0, ONE), (60, "malformed")], ONE, ONE),
    ("a failure still ends grace", [(0, ONE), (60, TWO), (400, "timeout")], TWO, TWO),
    ("NXDOMAIN once keeps", [(0, ONE), (60, "nxdomain"), (9999, "-")], ONE, ONE),
    ("NXDOMAIN twice empties Allow, not Deny", [(0, ONE), (60, "nxdomain"), (90, "nxdomain")], "", ONE),
    ("and a third time", [(0, ONE)] + [(60.0 * i, "nxdomain") for i in range(1, 9)], "", ONE),
    ("an answer in between starts over", [(0, ONE), (1, "nxdomain"), (2, ONE), (3, "nxdomain")], ONE, ONE),
    ("a failure in between does not", [(0, ONE), (1, "nxdomain"), (2, "timeout"), (3, "nxdomain")], "", ONE),
    ("NODATA twice is as NXDOMAIN twice", [(0, ONE), (1, "nodata"), (2, "nodata")], "", ONE),
    ("NODATA then NXDOMAIN", [(0, ONE), (1, "nodata"), (2, "nxdomain")], "", ONE),
    ("a denial drops what was in grace too", [(0, ONE), (1, TWO), (2, "nxdomain"), (3, "nxdomain")], "", TWO),
    ("a name that came back", [(0, ONE), (1, "nxdomain"), (2, "nxdomain"), (3, TWO)], TWO, TWO),
    ("a name that never was", [(0, "nxdomain"), (1, "nxdomain"), (2, "timeout")], "", ""),
    ("addresses of the cluster are not used", [(0, "10.128.0.9 172.30.0.1 9.0.0.1")], ONE, ONE),
    ("nor of OVN's own ranges", [(0, "100.64.0.3 100.88.0.3 169.254.169.2 9.0.0.1")], ONE, ONE),
    ("nor nobody's", [(0, "127.0.0.1 224.0.0.1 0.0.0.0 255.255.255.255 9.0.0.1")], ONE, ONE),
    ("private and link-local ones are", [(0, "10.0.0.1 169.254.169.254")], "10.0.0.1 169.254.169.254", "same"),
    ("rebinding empties Allow after grace", [(0, ONE), (60, "10.128.0.9"), (361, "-")], "", ONE),
    ("an empty answer keeps the last one alone", [(0, ONE), (60, TWO), (70, "10.128.0.9"), (360, "-")], TWO, TWO),
    ("for ever", [(0, ONE), (60, TWO), (70, "10.128.0.9"), (360, "-"), (370, "-")], "", TWO),
    ("rebinding from the start", [(0, "10.128.0.9")], "", ""),
]


@pytest.mark.parametrize(("steps", "live", "sticky"), [row[1:] for row in WALKS], ids=[row[0] for row in WALKS])
def test_what_a_name_stands_for(steps: list[tuple[float, str]], live: str, sticky: str) -> None:
    decision = walk(*steps).decision or DnsDecision()
    assert shown(decision.live) == live
    assert shown(decision.sticky) == (live if sticky == "same" else sticky)


DUAL_WALKS = [
    ("both", [(0, f"{ONE} / {SIX}")], f"{ONE} {SIX}", f"{ONE} {SIX}"),
    ("NODATA in one", [(0, f"{ONE} / nodata")], ONE, ONE),
    ("which had some: grace", [(0, f"{ONE} / {SIX}"), (9, f"{ONE} / nodata"), (308, "-")], f"{ONE} {SIX}", "same"),
    ("and then none", [(0, f"{ONE} / {SIX}"), (9, f"{ONE} / nodata"), (309, "-")], ONE, ONE),
    ("NODATA in both, once", [(0, f"{ONE} / {SIX}"), (9, "nodata / nodata")], f"{ONE} {SIX}", "same"),
    ("NODATA in both, twice", [(0, f"{ONE} / {SIX}"), *[(9, "nodata / nodata")] * 2], "", f"{ONE} {SIX}"),
    ("NXDOMAIN in one is about the name", [(0, f"{ONE} / {SIX}"), *[(9, "nxdomain / timeout")] * 2], "", "all"),
    ("one failed, the other moved", [(0, f"{ONE} / {SIX}"), (9, f"{TWO} / timeout")], f"{BOTH} {SIX}", "same"),
    (
        "and only its old one leaves",
        [(0, f"{ONE} / {SIX}"), (9, f"{TWO} / timeout"), (309, "-")],
        f"{TWO} {SIX}",
        "same",
    ),
    ("NODATA and a failure that has addresses", [(0, f"{ONE} / {SIX}"), (9, "nodata / timeout"), (309, "-")], SIX, SIX),
    (
        "NODATA and a failure that has none",
        [(0, f"{ONE} / nodata"), *[(9, "nodata / servfail")] * 9, (999, "-")],
        ONE,
        ONE,
    ),
    ("both failed", [(0, f"{ONE} / {SIX}"), (9, "timeout / servfail")], f"{ONE} {SIX}", "same"),
]


@pytest.mark.parametrize(("steps", "live", "sticky"), [r[1:] for r in DUAL_WALKS], ids=[r[0] for r in DUAL_WALKS])
def test_two_families(steps: list[tuple[float, str]], live: str, sticky: str) -> None:
    decision = walk(*steps, terms=DUAL).decision
    assert decision is not None
    assert shown(decision.live) == live
    assert shown(decision.sticky) == {"same": live, "all": f"{ONE} {SIX}"}.get(sticky, sticky)


@pytest.mark.parametrize(
    ("ttl", "pause_s"), [(0, 5), (4.9, 5), (5, 5), (60, 60), (1800, 1800), (1801, 1800), (2**31, 1800), (2**32, 1800)]
)
def test_a_ttl_is_clamped(ttl: float, pause_s: float) -> None:
    state = heard(begun(NAME, None, START), [told(ONE, ttl)], START, FOUR)
    assert state.due_s == state.wake_s == START + pause_s


def test_the_smaller_ttl_of_two_families_counts() -> None:
    state = heard(begun(NAME, None, START), [told(ONE, 600), told(SIX, 90, 6)], START, DUAL)
    assert state.due_s == START + 90


def test_failures_are_retried_ever_more_slowly() -> None:
    state, now_s, pauses = walk((0, ONE)), START, []
    for _ in range(10):
        state = heard(state, [told("timeout")], now_s, FOUR)
        pauses.append(state.due_s - now_s)
        now_s = state.due_s
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert (state.failures, state.failure, state.heard_s) == (10, "timeout", START)
    state = heard(state, [told(ONE)], now_s, FOUR)
    assert (state.failures, state.failure, state.failed_s, state.due_s) == (0, "", None, now_s + 60)
    for _ in range(3000):
        state = heard(state, [told("servfail")], now_s, FOUR)
    assert state.due_s == now_s + 300


def test_a_family_that_fails_alone_is_retried_too() -> None:
    state = walk((0, f"{ONE} / timeout"), terms=DUAL)
    assert (state.failures, state.due_s) == (1, START + 5)


def test_denials_are_confirmed_soon_and_then_asked_about_now_and_then() -> None:
    state = heard(walk((0, ONE)), [told("nxdomain", 9000)], START + 60, FOUR)
    assert state.due_s == START + 90
    state = heard(state, [told("nxdomain", 9000)], START + 90, FOUR)
    assert state.due_s == START + 390
    assert heard(state, [told("nxdomain", 1)], START, FOUR).due_s == START + 5


def test_what_did_not_change_is_the_same_object() -> None:
    state = walk((0, BOTH))
    for after_s, said in [(60, BOTH), (61, "timeout"), (62, "servfail"), (63, BOTH), (64, "-")]:
        after = walk((after_s, said), state=state)
        assert after.decision is state.decision, said
        state = after
    state = walk((70, TWO), (71, ONE), state=state)
    assert walk((80, ONE), (81, "timeout"), (82, ONE), state=state).decision is state.decision
    gone = walk((90, "nxdomain"), (91, "nxdomain"), state=state)
    assert walk((92, "nxdomain"), (93, "nodata"), (94, "timeout"), state=gone).decision is gone.decision


def test_a_denial_is_recorded_and_taken_back() -> None:
    states = [walk((0, ONE))]
    for after_s, said in [(1, "nxdomain"), (2, ONE), (3, "nodata"), (4, "timeout"), (5, "nxdomain"), (6, TWO)]:
        states.append(walk((after_s, said), state=states[-1]))
    decisions = [state.decision or DnsDecision() for state in states]
    assert [each.denials for each in decisions] == [0, 1, 0, 1, 1, 2, 0]
    assert [shown(each.live) for each in decisions] == [ONE, ONE, ONE, ONE, ONE, "", TWO]
    assert walk((0, "nxdomain"), (1, "nxdomain")).decision is None, "nothing was known, so nothing is decided"


def test_an_answer_that_moves_inside_grace_is_recorded_without_a_line_of_history() -> None:
    state = walk((0, ONE), (60, TWO), (120, ONE))
    assert state.decision is not None
    assert (shown(state.decision.answer), shown(state.decision.live)) == (ONE, BOTH)
    assert [change.at_s - START for change in state.decision.history] == [0, 60]


def test_history_answers_who_was_there_when() -> None:
    state = walk((0, ONE), (60, TWO), (360, "-"), (400, "nxdomain"), (430, "nxdomain"))
    decision = state.decision
    assert decision is not None
    assert [(each.at_s - START, each.cause, shown(each.addresses)) for each in decision.history] == [
        (0, "answer", ONE),
        (60, "answer", BOTH),
        (360, "expired", TWO),
        (430, "nxdomain", ""),
    ]
    assert addresses_at(decision, START - 1) is None
    for after_s, expected in [(0, ONE), (59.9, ONE), (60, BOTH), (359, BOTH), (360, TWO), (430, ""), (9e9, "")]:
        assert shown(addresses_at(decision, START + after_s) or ()) == expected


def test_history_is_bounded_and_never_runs_backwards() -> None:
    state = begun(NAME, None, START)
    for step in range(MAX_DNS_HISTORY + 20):
        state = heard(state, [told(f"9.0.0.{step + 1}")], START - 10 * step, FOUR)
    assert state.decision is not None
    history = state.decision.history
    assert len(history) == MAX_DNS_HISTORY
    assert [each.at_s for each in history] == sorted(each.at_s for each in history)


def test_times_are_whole_seconds() -> None:
    state = walk((0.9, ONE), (60.4, TWO), (360.7, "-"))
    assert state.decision is not None
    assert [(each.at_s - START, shown(each.addresses)) for each in state.decision.history] == [(0, ONE), (60, BOTH)]
    assert [end_s - START for _, end_s in state.decision.leaving] == [361], "no grace period is cut short"
    state = walk((361, "-"), state=state)
    assert state.decision is not None
    for change in state.decision.history:
        assert type(change.at_s) is int
        assert addresses_at(state.decision, change.at_s) == change.addresses


def test_too_many_addresses_are_bounded_and_said() -> None:
    many = tuple(Address(4, 0x09000000 + index) for index in range(3000))
    late = DnsAnswer(name=NAME, addresses=many[1500:], ttl_s=60, family=4)
    state = heard(begun(NAME, None, START), [late], START, FOUR)
    assert state.decision is not None and len(state.decision.live) == MAX_DNS_ADDRESSES
    assert "answered 1500 addresses, 1024 are used" in state.warnings[0]
    whole = DnsAnswer(name=NAME, addresses=many, ttl_s=60, family=4)
    after = heard(state, [whole], START + 60, FOUR)
    assert after.decision is state.decision, "those in use stay"
    early = DnsAnswer(name=NAME, addresses=many[:1500], ttl_s=60, family=4)
    after = heard(state, [early], START + 60, FOUR)
    assert after.decision is not None
    assert after.decision.live == many[:MAX_DNS_ADDRESSES], "an answer comes before what is in grace"


def test_warnings_name_what_is_not_used() -> None:
    state = walk((0, f"{ONE} 10.128.0.1 10.128.0.2 10.128.0.3 10.128.0.4"))
    (warning,) = state.warnings
    assert warning.startswith(f"{NAME}: answered 10.128.0.1, 10.128.0.2, 10.128.0.3 and 1 more of the cluster")
    assert walk((60, ONE), state=state).warnings == ()


def test_a_push_speaks_for_both_families() -> None:
    state = begun("*.example.com", None, START)
    push = DnsAnswer(name="*.example.com", addresses=addresses(f"{ONE} {SIX}"), ttl_s=60)
    state = heard(state, [push], START, DUAL)
    assert state.decision is not None
    assert [(change.cause, shown(change.addresses)) for change in state.decision.history] == [
        ("pushed", f"{ONE} {SIX}")
    ]
    denied = DnsAnswer(name="*.example.com", outcome="nxdomain")
    state = heard(heard(state, [denied], START, DUAL), [denied], START, DUAL)
    assert state.decision is not None and state.decision.live == ()
    assert heard(begun(NAME, None, START), [push], START, FOUR).decision is not None


def test_a_recorded_decision_is_where_it_was() -> None:
    before = walk((0, ONE), (60, TWO)).decision
    assert before is not None
    state = begun(NAME, before, START + 100, GRACE)
    assert (state.decision is before, state.due_s, state.wake_s) == (True, START + 100, START + 100)
    assert walk((359, "timeout"), state=state).decision is before
    for after in (walk((360, "timeout"), state=state), begun(NAME, before, START + 360, GRACE)):
        assert after.decision is not None
        assert (shown(after.decision.live), after.decision.history[-1].cause) == (TWO, "expired")
    gone = walk((0, ONE), (1, "nxdomain"), (2, "nxdomain")).decision
    again = walk((9, "nxdomain"), (10, "nxdomain"), state=begun(NAME, gone, START + 8)).decision
    assert again is gone


def test_a_record_without_ends_starts_each_grace_period_once() -> None:
    before = walk((0, ONE), (60, TWO)).decision
    assert before is not None
    first = begun(NAME, replace(before, leaving=()), START + 1000, GRACE)
    assert first.decision is not None
    assert first.decision.leaving == ((addresses(ONE)[0], START + 1300),)
    second = begun(NAME, first.decision, START + 1200, GRACE)
    assert second.decision is first.decision, "it is on record now"
    assert shown((begun(NAME, first.decision, START + 1300, GRACE).decision or DnsDecision()).live) == TWO


def test_no_grace_period_is_longer_than_it_may_be() -> None:
    """The clock was years ahead when the end was recorded."""
    before = walk((1e9, ONE), (1e9 + 60, TWO)).decision
    state = begun(NAME, before, START, GRACE)
    assert state.decision is not None and state.decision.leaving == ((addresses(ONE)[0], START + 300),)


# ------------------------------------------------------------------------------------------- promises

POOL = [
    *(Address(4, 0x09000000 + index) for index in range(6)),
    *(Address(6, (0x20010DB8 << 96) + i) for i in range(4)),
]
CLUSTER = [parse_address("10.128.0.7"), parse_address("fd01::7")]
OUTCOMES = ("answer", "answer", "answer", "nxdomain", "nodata", "servfail", "timeout", "malformed")


@st.composite
def rounds(draw: st.DrawFn) -> tuple[float, Sequence[DnsAnswer]]:
    families: tuple[Family | None, ...] = draw(st.sampled_from([(4, 6), (4, 6), (4,), (None,)]))
    answers = []
    for family in families:
        outcome = draw(st.sampled_from(OUTCOMES))
        given_ = draw(st.lists(st.sampled_from([*POOL, *CLUSTER]), max_size=4)) if outcome == "answer" else []
        own = tuple(sorted({address for address in given_ if family in (None, address.family)}))
        ttl = draw(st.sampled_from([0.0, 5.0, 60.0, 2.0**31]))
        answers.append(DnsAnswer(name=NAME, outcome=outcome, addresses=own, ttl_s=ttl, family=family))
    return draw(st.sampled_from([0.0, 1.0, 5.0, 60.0, 299.0, 301.0, -50.0])), answers


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(rounds(), max_size=25))
def test_whatever_is_heard_the_promises_hold(story: list[tuple[float, Sequence[DnsAnswer]]]) -> None:
    state, now_s, denials = begun(NAME, None, START), START, 0
    for pause_s, answers in story:
        now_s += pause_s
        before, state = state, heard(state, answers, now_s, DUAL)
        old, new = before.decision or DnsDecision(), state.decision or DnsDecision()
        assert set(new.answer) <= set(new.live) <= set(new.sticky)
        assert not set(new.sticky) & set(CLUSTER)
        for each in (new.answer, new.live, new.sticky):
            assert list(each) == sorted(set(each))
        assert (new == old) == (state.decision is before.decision)
        assert new.denials == (state.denials if new.sticky else 0) <= 2
        assert 5 <= state.due_s - now_s <= 1800
        assert state.expiry_s > now_s
        assert not set(dict(new.leaving)) & set(new.answer)
        assert set(dict(new.leaving)) | set(new.answer) == set(new.live)
        kinds = {each.outcome for each in answers}
        denials = denials + 1 if "answer" not in kinds and ("nxdomain" in kinds or kinds == {"nodata"}) else denials
        denials = 0 if "answer" in kinds else denials
        lost = set(old.live) - set(new.live)
        ended = {address for address, end_s in old.leaving if end_s <= now_s}
        assert lost <= ended or denials >= 2, "live loses nothing before its time, but for a confirmed denial"
        if set(old.sticky) and not set(new.sticky):
            raise AssertionError("a Deny that was answered is never empty")
        assert {each.cause for each in new.history} <= set(DNS_CAUSES)
        assert new == DnsDecision() or addresses_at(new, new.history[-1].at_s) == new.live
        assert read_dns(NAME, dns_text(new)) == new


PAUSES = st.sampled_from([0.0, 0.4, 1.0, 5.0, 60.0, 149.3, 299.0, 301.0, 4000.0])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(PAUSES, st.none() | rounds().map(lambda each: each[1])), max_size=25))
def test_a_process_for_every_round_decides_as_one_that_never_stops(
    story: list[tuple[float, Sequence[DnsAnswer] | None]],
) -> None:
    """None: nothing is heard, time passes."""
    state, now_s = begun(NAME, None, START, GRACE), START
    recorded: DnsDecision | None = None
    for pause_s, answers in story:
        now_s += pause_s
        again = begun(NAME, recorded, now_s, GRACE)
        state = elapsed(state, now_s)
        assert again.decision == state.decision
        if answers is not None:
            state, again = heard(state, answers, now_s, DUAL), heard(again, answers, now_s, DUAL)
        assert again.decision == state.decision
        recorded = None if again.decision is None else read_dns(NAME, dns_text(again.decision))
        assert recorded == again.decision


def rotating(families: Sequence[Family], count: int, rounds: int) -> DnsDecision:
    """A name that answers ``count`` new addresses of each family every minute."""
    state = begun(NAME, None, START)
    bases = {4: 0x09000000, 6: (0x20010DB8 << 96) + 0xDEADBEEFDEADBEEF}
    for step in range(rounds):
        answers = [
            DnsAnswer(
                name=NAME,
                addresses=tuple(
                    Address(f, bases[f] + ((step * count + index) << (f - 4) * 16)) for index in range(count)
                ),
                ttl_s=5,
                family=f,
            )
            for f in families
        ]
        state = heard(state, answers, START + step * 60, DUAL)
    assert state.decision is not None
    return state.decision


@pytest.mark.parametrize(
    ("decision", "lines"),
    [
        (rotating([4], 8, 150), range(MAX_DNS_HISTORY, MAX_DNS_HISTORY + 1)),
        (rotating([4], 100, 60), range(2, MAX_DNS_HISTORY)),
        (rotating([4, 6], 30, 60), range(2, MAX_DNS_HISTORY)),
        (rotating([6], 300, 60), range(1)),
    ],
    ids=["8 of IPv4", "100 of IPv4", "30 of both", "300 of IPv6"],
)
def test_the_text_of_a_decision_is_bounded(decision: DnsDecision, lines: range) -> None:
    """History gives way, oldest first; the addresses in use never do."""
    text = dns_text(decision)
    found = read_dns(NAME, text)
    assert found is not None
    assert replace(found, history=()) == replace(decision, history=())
    assert len(found.history) in lines
    assert found.history == decision.history[len(decision.history) - len(found.history) :]
    assert len(text) <= MAX_DNS_TEXT or not found.history
    assert dns_text(found) == text, "what is read back is written back alike"
