"""Why a rule by DNS name hits an address: what the reason says of the answer that gave it."""

from __future__ import annotations

import pytest

from ovnk_core.features.egress_firewall.verdict import answered_between, answered_since
from ovnk_core.model.decision import DnsChange, DnsDecision
from ovnk_core.terms.address import parse_address
from tests.kit.egress_firewall import World, rules

ONE, TWO = parse_address("203.0.113.1"), parse_address("203.0.113.2")
START = 1_700_000_000
CHANGES = (
    DnsChange(at_s=START, cause="answer", addresses=(ONE,)),
    DnsChange(at_s=START + 60, cause="answer", addresses=(ONE, TWO)),
    DnsChange(at_s=START + 360, cause="expired", addresses=(TWO,)),
    DnsChange(at_s=START + 420, cause="nxdomain"),
)
GONE = DnsDecision(sticky=(TWO,), denials=2, history=CHANGES)
ROTATED = DnsDecision(
    live=(ONE, TWO), sticky=(ONE, TWO), answer=(TWO,), leaving=((ONE, START + 360),), history=CHANGES[:2]
)


@pytest.mark.parametrize(
    ("rule", "decision", "address", "text"),
    [
        ("Deny", ROTATED, TWO, "has 203.0.113.2 since 2023-11-14T22:14:20Z"),
        (
            "Allow",
            ROTATED,
            ONE,
            "had 203.0.113.1 since 2023-11-14T22:13:20Z, and rules keep it until 2023-11-14T22:19:20Z",
        ),
        (
            "Deny",
            GONE,
            TWO,
            "had 203.0.113.2 since 2023-11-14T22:14:20Z until 2023-11-14T22:20:20Z, and Deny rules keep it",
        ),
        ("Deny", DnsDecision(sticky=(TWO,)), TWO, "had 203.0.113.2, and Deny rules keep it"),
        ("Deny", DnsDecision(live=(TWO,), sticky=(TWO,), answer=(TWO,)), TWO, "has 203.0.113.2"),
    ],
    ids=["has", "in grace", "gone", "gone, not on record", "not on record"],
)
def test_the_reason_says_has_only_of_what_the_name_has(
    rule: str, decision: DnsDecision, address: object, text: str
) -> None:
    world = World(rules(f"{rule} www.example.com"), dns={"www.example.com": decision})
    assert world.ask(str(address)).reason.endswith(f"; www.example.com {text}")


def test_when_a_name_last_had_an_address() -> None:
    again = DnsDecision(history=(*CHANGES, DnsChange(at_s=START + 500, cause="answer", addresses=(TWO,))))
    assert answered_between(GONE, ONE) == (START, START + 360)
    assert answered_between(GONE, TWO) == (START + 60, START + 420)
    assert answered_between(again, TWO) == (START + 500, None)
    assert answered_between(again, parse_address("::1")) == (None, None)
    assert (answered_since(again, TWO), answered_since(again, ONE)) == (START + 500, None)
