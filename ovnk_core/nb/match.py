"""OVN's match language as a typed tree: print, parse, evaluate.

The northbound accepts any text as a match and northd copies garbage silently, so a match of ours exists only as
this tree: rules build it, ``str`` prints it, ``parse`` reads it (and northd's own flows) back, ``compile_match``
turns it into a predicate. Grammar and meaning: ovn-sb(5), column ``match`` of Logical_Flow. Of the language we
know what we and northd emit in the stages of ``flows``; ``parse`` refuses the rest.

A comparison implies its prerequisites (``ip4.src == X`` is false for a packet that is not IPv4), and
``x != {a, b}`` means "neither a nor b".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, assert_never

from ovnk_core.terms.address import BITS, Cidr
from ovnk_core.terms.struct import Key


class AddressSetRef(Key, frozen=True, order=True, cache_hash=True):
    """``$name``"""

    name: str


class PortGroupRef(Key, frozen=True, order=True, cache_hash=True):
    """``@name``"""

    name: str


class VariableRef(Key, frozen=True, order=True, cache_hash=True):
    """``^name``, an address that each chassis fills in (Chassis_Template_Var)"""

    name: str


class PortRef(Key, frozen=True, order=True, cache_hash=True):
    """``"name"``, a logical port"""

    name: str


class Hex(Key, frozen=True, order=True, cache_hash=True):
    """A number that is printed in hexadecimal, as those who know OVN's own flows look for it."""

    value: int


class Range(Key, frozen=True, order=True, cache_hash=True):
    """``low <= field <= high``"""

    low: int
    high: int


Term = Cidr | int | Hex | str | AddressSetRef | PortGroupRef | VariableRef | PortRef
"""Right side of a comparison. ``str`` is a MAC address."""


class Test(Key, frozen=True, cache_hash=True):
    """``field op terms``: equal to any of the terms, or (``!=``) to none of them."""

    field: str
    terms: tuple[Term, ...]
    op: Literal["==", "!="] = "=="


class Between(Key, frozen=True, cache_hash=True):
    """``low <= field <= high``"""

    field: str
    range: Range


class Is(Key, frozen=True, cache_hash=True):
    """A predicate such as ``ip4`` or ``ct.est``."""

    name: str


class Not(Key, frozen=True, cache_hash=True):
    """Negation; we only put it before predicates."""

    of: Match


class All(Key, frozen=True, cache_hash=True):
    """Conjunction of two or more; empty means always (``1``)."""

    of: tuple[Match, ...] = ()


class AnyOf(Key, frozen=True, cache_hash=True):
    """Disjunction of two or more; empty means never (``0``)."""

    of: tuple[Match, ...] = ()


Match = Test | Between | Is | Not | All | AnyOf
ALWAYS, NEVER = All(), AnyOf()


def conj(*parts: Match) -> Match:
    """Flattened conjunction."""
    flat: list[Match] = []
    for part in parts:
        flat.extend(part.of if isinstance(part, All) else (part,))
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def disj(*parts: Match) -> Match:
    """Flattened disjunction."""
    flat: list[Match] = []
    for part in parts:
        flat.extend(part.of if isinstance(part, AnyOf) else (part,))
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


def equals(field: str, *terms: Term) -> Match:
    return Test(field, terms)


def differs(field: str, *terms: Term) -> Match:
    return Test(field, terms, "!=")


# ---------------------------------------------------------------------------------------------- printing


def text(match: Match) -> str:
    """The match as OVN reads it."""
    return _text(match, "")


def _text(match: Match, parent: str) -> str:
    match match:
        case Test(field, terms, op):
            body = _term(terms[0]) if len(terms) == 1 else "{" + ", ".join(map(_term, terms)) + "}"
            return f"{field} {op} {body}"
        case Between(field, Range(low, high)):
            return f"{low} <= {field} <= {high}"
        case Is(name):
            return name
        case Not(Is(name)):
            return f"!{name}"
        case Not(inner):
            return f"!({_text(inner, '')})"
        case All(()):
            return "1"
        case AnyOf(()):
            return "0"
        case All(parts):
            return _join(" && ", parts, "&&", parent)
        case AnyOf(parts):
            return _join(" || ", parts, "||", parent)
        case _ as never:
            assert_never(never)


def _join(separator: str, parts: tuple[Match, ...], me: str, parent: str) -> str:
    body = separator.join(_text(part, me) for part in parts)
    return f"({body})" if parent else body


def _term(term: Term) -> str:
    match term:
        case Cidr():
            return term.match_text()
        case AddressSetRef(name):
            return f"${name}"
        case PortGroupRef(name):
            return f"@{name}"
        case VariableRef(name):
            return f"^{name}"
        case PortRef(name):
            return f'"{name}"'
        case Hex(value):
            return f"{value:#x}"
        case int() | str():
            return str(term)
        case _ as never:
            assert_never(never)


# ---------------------------------------------------------------------------------------------- evaluating


class Scope(Protocol):
    """What ``$sets``, ``@groups`` and ``^variables`` hold while a match is evaluated."""

    def in_address_set(self, name: str, value: int, family: int) -> bool: ...

    def in_port_group(self, name: str, port: str) -> bool: ...

    def variable(self, name: str) -> int | None:
        """An address on the chassis that evaluates; None where the variable is not set, and equal to nothing."""
        ...


Packet = Mapping[str, Any]
"""Field or predicate name -> value. Addresses and numbers are ints, ports and MACs text, predicates bools.
A missing field means the packet has no such header."""
Predicate = Callable[[Packet, Scope], bool]
Check = Callable[[Any, Scope], bool]
_SUBFIELD = re.compile(r"(.+)\[(\d+)(?:\.\.(\d+))?\]")


def compile_match(match: Match) -> Predicate:
    """The match as a function of packet and scope; compile once, call often."""
    match match:
        case Test(field, terms, op):
            return _compile_test(field, terms, op)
        case Between(field, Range(low, high)):
            return lambda packet, scope: low <= packet.get(field, -1) <= high
        case Is(name):
            return lambda packet, scope: bool(packet.get(name, False))
        case Not(inner):
            negated = compile_match(inner)
            return lambda packet, scope: not negated(packet, scope)
        case All(parts):
            every = tuple(map(compile_match, parts))
            return lambda packet, scope: all(part(packet, scope) for part in every)
        case AnyOf(parts):
            some = tuple(map(compile_match, parts))
            return lambda packet, scope: any(part(packet, scope) for part in some)
        case _ as never:
            assert_never(never)


def _compile_test(field: str, terms: tuple[Term, ...], op: str) -> Predicate:
    checks = tuple(_compile_term(field, term) for term in terms)
    wanted, cut = op == "==", _SUBFIELD.fullmatch(field)
    if cut is not None:
        return _compile_subfield(field, cut, checks, wanted)

    def test(packet: Packet, scope: Scope) -> bool:
        value = packet.get(field)
        return value is not None and any(check(value, scope) for check in checks) == wanted

    return test


def _compile_subfield(field: str, cut: re.Match[str], checks: tuple[Check, ...], wanted: bool) -> Predicate:
    """``field[bit]`` or ``field[low..high]``: by its own name where a packet has that (registers are kept bit by bit),
    else cut out of the whole field."""
    whole, low = cut[1], int(cut[2])
    mask = (1 << (int(cut[3] or low) - low + 1)) - 1

    def test(packet: Packet, scope: Scope) -> bool:
        value = packet.get(field)
        if value is None and whole in packet:
            value = packet[whole] >> low & mask
        return value is not None and any(check(value, scope) for check in checks) == wanted

    return test


def _compile_term(field: str, term: Term) -> Check:
    match term:
        case Cidr(family, low, prefix):
            high = low + (1 << (BITS[family] - prefix)) - 1
            return lambda value, scope: low <= value <= high
        case AddressSetRef(name):
            family = 6 if field.startswith("ip6") else 4
            return lambda value, scope: scope.in_address_set(name, value, family)
        case PortGroupRef(name):
            return lambda value, scope: scope.in_port_group(name, value)
        case VariableRef(name):
            return lambda value, scope: scope.variable(name) == value
        case PortRef(name):
            return lambda value, scope: value == name
        case Hex(number):
            return lambda value, scope: value == number
        case int() | str():
            return lambda value, scope: value == term
        case _ as never:
            assert_never(never)


# ---------------------------------------------------------------------------------------------- inspecting


def walk(match: Match) -> Iterable[Match]:
    """The match and everything inside it."""
    yield match
    match match:
        case Not(inner):
            yield from walk(inner)
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from walk(part)
        case _:
            pass


def references(match: Match) -> tuple[set[str], set[str]]:
    """Names of the address sets and of the port groups a match refers to."""
    sets: set[str] = set()
    groups: set[str] = set()
    for part in walk(match):
        if isinstance(part, Test):
            sets.update(term.name for term in part.terms if isinstance(term, AddressSetRef))
            groups.update(term.name for term in part.terms if isinstance(term, PortGroupRef))
    return sets, groups
