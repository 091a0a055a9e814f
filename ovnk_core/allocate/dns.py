"""What a DNS name stands for, from everything heard about it. Pure: the caller brings the answers and the clock.

``heard`` takes what one round of questions brought (an answer for each family, or one that a feed pushed), ``elapsed``
ends grace periods; both give the next state, whose ``wake_s`` says when something is due. The state's decision is what
the rules see and what is recorded. It holds all that the next decision depends on, so a process that is started anew
for every round (``begun``) decides as one that never stopped. It is replaced only when an address came, left or
returned or the count of denials changed, so an unchanged answer costs nothing downstream.

* *live*, for Allow rules: the last answer and what left it less than ``grace_s`` ago, so that a pool that rotates its
  addresses loses no connection. Emptied when the name is denied to exist (NXDOMAIN, or NODATA in every family) twice in
  a row; failures in between neither count nor interrupt.
* *sticky*, for Deny rules: the same, but while the answer is empty it keeps the last one that was not. A Deny is not
  opened by a name that went away. (What left within the second of the last answer counts as part of it.)
* A failure (timeout, SERVFAIL, REFUSED, nonsense) keeps everything, for ever; ``failure`` and ``heard_s`` say how old
  it is. The price: an Allow outlives a resolver that never returns.
* NODATA in one family while the other has addresses empties that family, with grace.

Not used, with a warning: addresses of the cluster itself (its networks, services, hybrid overlay, join, transit and
masquerade ranges), where an answer could only be a mistake or an attack (rebinding), and what is nobody's address
(loopback, multicast and so on). Private and IPv4 link-local addresses stand: internal names have them, and a Deny of a
metadata service by name must hit. Addresses beyond ``MAX_DNS_ADDRESSES`` are left out with a warning; those in use
already stay.

Source: 15.5.1.3 of the manual (DNS rules follow the TTL); RFC 1035 3.2.1, RFC 2308 5, RFC 8020; docs/sources.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from ovnk_core.model.cluster import RESERVED, SPECIAL, ClusterNetwork
from ovnk_core.model.decision import (
    DENIALS,
    DNS_FAILURES,
    MAX_DNS_ADDRESSES,
    MAX_DNS_HISTORY,
    DnsAnswer,
    DnsChange,
    DnsDecision,
)
from ovnk_core.terms.address import Address, Cidr, Family
from ovnk_core.terms.struct import Value

GRACE_S = 300.0
MIN_TTL_S, MAX_TTL_S = 5.0, 1_800.0
MAX_DENIAL_TTL_S = 300.0
"""A name that does not exist is asked for again this often: somebody wrote a rule for it, so it is expected."""
CONFIRM_S = 30.0
"""At most this long until the first denial is confirmed or taken back."""
RETRY_S, MAX_RETRY_S = 5.0, 300.0
_SHOWN = 3


class DnsTerms(Value, frozen=True, kw_only=True, gc=False):
    """What answers are measured by: the families asked for, ranges never used, the grace period in seconds."""

    families: tuple[Family, ...]
    excluded: tuple[Cidr, ...] = ()
    grace_s: float = GRACE_S


class DnsState(Value, frozen=True, kw_only=True, gc=False):
    """All that is known of one name. Times are Unix seconds.

    ``decision`` None: nothing to decide was ever heard. ``denials`` (at most ``DENIALS``) and ``failures`` count in a
    row; ``failure`` is the latest of the current row, ``heard_s`` the time of the last word on the name. ``warnings``
    are about that word.
    """

    name: str
    due_s: float
    decision: DnsDecision | None = None
    denials: int = 0
    failures: int = 0
    failure: str = ""
    failed_s: float | None = None
    heard_s: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def expiry_s(self) -> float:
        """When the next grace period ends; infinity without one."""
        leaving = self.decision.leaving if self.decision else ()
        return min((end_s for _, end_s in leaving), default=math.inf)

    @property
    def wake_s(self) -> float:
        """When to ask again or to let an address go, whichever is first."""
        return min(self.due_s, self.expiry_s)


def terms_of(network: ClusterNetwork, grace_s: float = GRACE_S) -> DnsTerms:
    """What the cluster's networks mean for answers."""
    own = (*network.cidrs, *network.service, *(network.hybrid.cidrs if network.hybrid else ()))
    never = (block for _, block in (*RESERVED, *SPECIAL))
    return DnsTerms(families=network.families, excluded=(*own, *never), grace_s=grace_s)


def begun(name: str, recorded: DnsDecision | None, now_s: float, grace_s: float = GRACE_S) -> DnsState:
    """A name at the start: due at once, and without the addresses whose grace period has ended meanwhile.

    The decision is ``recorded`` itself when nothing ended. A period whose end is not on record begins now. None is
    longer than ``grace_s`` from now, whatever the machine's clock did between two runs.
    """
    if recorded is None:
        return DnsState(name=name, due_s=now_s)
    ends, latest_s = dict(recorded.leaving), _end_of_grace(now_s, grace_s)
    left = [address for address in recorded.live if address not in recorded.answer]
    leaving = tuple((address, min(ends.get(address, latest_s), latest_s)) for address in left)
    decision = recorded if leaving == recorded.leaving else replace(recorded, leaving=leaving)
    return elapsed(DnsState(name=name, due_s=now_s, decision=decision, denials=recorded.denials), now_s)


def heard(state: DnsState, answers: Sequence[DnsAnswer], now_s: float, terms: DnsTerms) -> DnsState:
    """One round of answers -> the next state: one answer for each family asked, or a single pushed one."""
    state = elapsed(state, now_s)
    failed = [each for each in answers if each.outcome in DNS_FAILURES]
    is_pushed = any(each.family is None for each in answers)
    state = replace(
        state,
        failures=state.failures + 1 if failed else 0,
        failure="; ".join(dict.fromkeys(each.reason or each.outcome for each in failed)),
        failed_s=now_s if failed else None,
    )
    told = {family: each for each in answers for family in (terms.families if is_pushed else (each.family,)) if family}
    denial = _denial(answers)
    if denial:
        state = replace(_denied(state, denial, now_s), heard_s=now_s, warnings=())
    elif _says_something(told, state):
        state = replace(_answered(replace(state, denials=0), told, now_s, terms), heard_s=now_s)
    return replace(state, due_s=now_s + _pause(state, answers))


def elapsed(state: DnsState, now_s: float) -> DnsState:
    """Let go the addresses whose grace period has ended; the same state when there is none."""
    decision = state.decision or DnsDecision()
    kept = {address: end_s for address, end_s in decision.leaving if end_s > now_s}
    if len(kept) == len(decision.leaving):
        return state
    return _decide(state, decision.answer, kept, "expired", now_s)


def _end_of_grace(now_s: float, grace_s: float) -> int:
    return math.ceil(now_s + grace_s)


def addresses_at(decision: DnsDecision, at_s: float) -> tuple[Address, ...] | None:
    """The addresses that Allow rules by the name let through at a time (Unix seconds); None: before all on record."""
    found: tuple[Address, ...] | None = None
    for change in decision.history:
        if change.at_s > at_s:
            break
        found = change.addresses
    return found


def _denial(answers: Sequence[DnsAnswer]) -> str:
    """``nxdomain`` or ``nodata`` when the name is said not to be, else an empty text. NXDOMAIN is about the name, in
    whatever family it was asked for (RFC 8020)."""
    outcomes = {each.outcome for each in answers}
    if "answer" in outcomes:
        return ""
    if "nxdomain" in outcomes:
        return "nxdomain"
    return "nodata" if outcomes == {"nodata"} else ""


def _says_something(told: dict[Family, DnsAnswer], state: DnsState) -> bool:
    """Whether a round that denies nothing changes what is known. NODATA next to a failure does only if the family that
    failed has addresses left; otherwise nobody knows whether the name has any."""
    if any(each.outcome == "answer" for each in told.values()):
        return True
    held = {address.family for address in (state.decision.answer if state.decision else ())}
    silent = {family for family, each in told.items() if each.outcome == "nodata"}
    return bool(silent) and bool(held - silent)


def _denied(state: DnsState, cause: str, now_s: float) -> DnsState:
    state = replace(state, denials=min(state.denials + 1, DENIALS))
    if state.denials == DENIALS:
        return _decide(state, (), {}, cause, now_s)
    return replace(state, decision=state.decision and replace(state.decision, denials=state.denials))


def _answered(state: DnsState, told: dict[Family, DnsAnswer], now_s: float, terms: DnsTerms) -> DnsState:
    decision = state.decision or DnsDecision()
    before = decision.answer
    given: set[Address] = set()
    for family in terms.families:
        each = told.get(family)
        source = before if each is None or each.outcome in DNS_FAILURES else each.addresses
        given.update(address for address in source if address.family == family)
    usable = {address for address in given if not any(block.contains(address) for block in terms.excluded)}
    live = set(decision.live)
    answer = _first(sorted(usable, key=lambda address: (address not in live, address)))
    leaving = dict.fromkeys(before, _end_of_grace(now_s, terms.grace_s)) | dict(decision.leaving)
    for address in answer:
        leaving.pop(address, None)
    cause = "pushed" if any(each.family is None for each in told.values()) else "answer"
    said = [f"{state.name}: {each.reason}" for each in told.values() if each.reason and each.outcome == "answer"]
    warnings = (*dict.fromkeys(said), *_warnings(state.name, given, usable, answer))
    return replace(_decide(state, answer, leaving, cause, now_s), warnings=warnings)


def _warnings(
    name: str, given: Collection[Address], usable: Collection[Address], answer: Collection[Address]
) -> Iterable[str]:
    dropped = sorted(set(given) - set(usable))
    if dropped:
        more = f" and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
        shown = ", ".join(str(address) for address in dropped[:_SHOWN])
        yield f"{name}: answered {shown}{more} of the cluster itself or of nobody; not used"
    if len(answer) < len(usable):
        yield f"{name}: answered {len(usable)} addresses, {MAX_DNS_ADDRESSES} are used"


def _first(addresses: Sequence[Address]) -> tuple[Address, ...]:
    return tuple(sorted(addresses[:MAX_DNS_ADDRESSES]))


def _decide(
    state: DnsState, answer: tuple[Address, ...], leaving: dict[Address, int], cause: str, now_s: float
) -> DnsState:
    """The state with its decision made anew; the very same object when nothing in it changed."""
    old = state.decision or DnsDecision()
    newest = sorted(leaving, key=lambda address: (-leaving[address], address))[: MAX_DNS_ADDRESSES - len(answer)]
    live = _first([*answer, *newest])
    sticky = live if answer else _first(list(dict.fromkeys([*newest, *_last_answer(old)])))
    history = old.history
    if live != old.live:
        # Times never run backwards, whatever the machine's clock did between two runs.
        at_s = max(math.floor(now_s), history[-1].at_s if history else 0)
        history = (*history, DnsChange(at_s=at_s, cause=cause, addresses=live))[-MAX_DNS_HISTORY:]
    decision = DnsDecision(
        live=live,
        sticky=sticky,
        answer=answer,
        leaving=tuple((address, leaving[address]) for address in sorted(newest)),
        # Of a name that never had an address nothing can be taken, so nothing is counted on record.
        denials=state.denials if sticky else 0,
        history=history,
    )
    return replace(state, decision=state.decision if decision == old else decision)


def _last_answer(decision: DnsDecision) -> tuple[Address, ...]:
    """The last answer that was not empty. What left before it did is in its grace period and leaves sooner."""
    if decision.answer:
        return decision.answer
    ends = dict(decision.leaving)
    last_s = max(ends.values(), default=0)
    return tuple(address for address in decision.sticky if ends.get(address, last_s) == last_s)


def _pause(state: DnsState, answers: Sequence[DnsAnswer]) -> float:
    """Seconds until the next question: the smallest TTL, or sooner when something failed or is to be confirmed."""
    pauses: list[float] = []
    for each in answers:
        if each.outcome in DNS_FAILURES:
            # The exponent is bounded so that years of failures do not overflow.
            pauses.append(min(RETRY_S * 2.0 ** min(state.failures - 1, 16), MAX_RETRY_S))
        elif each.outcome == "answer":
            pauses.append(min(max(each.ttl_s, MIN_TTL_S), MAX_TTL_S))
        else:
            bound = CONFIRM_S if 0 < state.denials < DENIALS else MAX_DENIAL_TTL_S
            pauses.append(min(max(each.ttl_s, MIN_TTL_S), bound))
    return min(pauses, default=MAX_TTL_S)
