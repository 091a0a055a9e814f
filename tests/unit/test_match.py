"""The match language: what we print we can read back, and it means what OVN says it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.nb import match as m
from ovnk_core.nb.match_parse import MatchSyntaxError, parse
from ovnk_core.terms.address import Address, Cidr, cidr, network_of, parse_address

FIELDS = st.sampled_from(
    ["ip4.src", "ip4.dst", "ip6.src", "tcp.dst", "inport", "reg0[7]", "ip6.dst[120..127]", "ct_mark.blocked"]
)
PORTS = st.integers(0, 65535)
V4 = st.builds(lambda v, p: network_of(Address(4, v), p), st.integers(0, 2**32 - 1), st.integers(0, 32))
V6 = st.builds(lambda v, p: network_of(Address(6, v), p), st.integers(0, 2**128 - 1), st.integers(0, 128))
NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True)
TERMS = st.one_of(
    V4,
    V6,
    st.integers(0, 65535),
    st.builds(m.Hex, st.integers(0, 65535)),
    st.builds(m.AddressSetRef, NAMES),
    st.builds(m.PortGroupRef, NAMES),
    st.builds(m.PortRef, NAMES),
    st.just("0a:58:0a:80:00:01"),
)
TESTS = st.builds(m.Test, FIELDS, st.lists(TERMS, min_size=1, max_size=4).map(tuple), st.sampled_from(["==", "!="]))
LEAVES = st.one_of(
    TESTS,
    st.builds(m.Is, st.sampled_from(["ip4", "ip6", "tcp", "ct.est", "eth.mcast"])),
    st.builds(lambda a, b: m.Between("tcp.dst", m.Range(min(a, b), max(a, b))), PORTS, PORTS),
    st.sampled_from([m.ALWAYS, m.NEVER]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: m.conj(*parts)),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: m.disj(*parts)),
        st.builds(m.Not, inner),
    ),
    max_leaves=12,
)


@given(TREES)
def test_parse_inverts_text(tree: m.Match) -> None:
    assert parse(m.text(tree)) == tree


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (m.conj(m.equals("ip4.src", cidr("10.0.0.0/8")), m.Is("tcp")), "ip4.src == 10.0.0.0/8 && tcp"),
        (m.equals("ip4.dst", parse_address("10.0.0.1").host), "ip4.dst == 10.0.0.1"),
        (m.differs("ip4.src", cidr("10.1.0.0/16"), cidr("10.2.0.0/16")), "ip4.src != {10.1.0.0/16, 10.2.0.0/16}"),
        (m.disj(m.Is("ip4"), m.conj(m.Is("ip6"), m.Is("tcp"))), "ip4 || (ip6 && tcp)"),
        (m.equals("inport", m.PortRef("k8s-n1")), 'inport == "k8s-n1"'),
        (m.Not(m.Is("ct.est")), "!ct.est"),
        (m.ALWAYS, "1"),
    ],
    ids=str,
)
def test_text(tree: m.Match, text: str) -> None:
    assert m.text(tree) == text


@pytest.mark.parametrize("bad", ["", "ip4.src ==", "tcp &&", "a || b && c", 'x == "', "this is not ( a match", "2"])
def test_garbage_is_refused(bad: str) -> None:
    with pytest.raises(MatchSyntaxError):
        parse(bad)


class _Scope:
    def in_address_set(self, name: str, value: int, family: int) -> bool:
        return name == "ten" and family == 4 and value >> 24 == 10

    def in_port_group(self, name: str, port: str) -> bool:
        return name == "pg" and port in {"a", "b"}

    def variable(self, name: str) -> int | None:
        return parse_address("10.0.0.5").value if name == "NODEIP_IPv4_0" else None


PACKET = {"ip4": True, "tcp": True, "ip4.src": parse_address("10.0.0.5").value, "tcp.dst": 80, "inport": "a"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ip4.src == 10.0.0.0/24", True),
        ("ip4.src == ^NODEIP_IPv4_0", True),
        ("ip4.src != ^NODEIP_IPv4_0", False),
        ("ip4.src == ^NODEIP_IPv4_1", False),
        ("ip6.src == ^NODEIP_IPv4_0", False),
        ("ip4.src != {10.0.0.5, 10.0.0.6}", False),
        ("ip4.src != {10.0.0.6, 10.0.0.7}", True),
        ("ip6.src != ::1", False),
        ("ip4.src == $ten && inport == @pg", True),
        ("inport == @other", False),
        ("80 <= tcp.dst <= 90", True),
        ("81 <= tcp.dst <= 90", False),
        ("!udp", True),
        ("udp || (tcp && tcp.dst == {80, 443})", True),
        ("1", True),
        ("0", False),
    ],
)
def test_evaluate(source: str, expected: bool) -> None:
    assert m.compile_match(parse(source))(PACKET, _Scope()) is expected


def test_references() -> None:
    assert m.references(parse('ip4.src == {$a, $b} && outport == @g && inport == "p"')) == ({"a", "b"}, {"g"})


def test_cidr_of_host_length_prints_bare() -> None:
    assert Cidr(6, 1, 128).match_text() == "::1"


@pytest.mark.parametrize(
    ("text", "group", "holds"),
    [
        ("ip6.dst[120..127] == 0xff", "ff15::1", True),
        ("ip6.dst[120..127] == 0xff", "fe15::1", False),
        ("ip6.dst[116] == 1", "ff15::1", True),
        ("ip6.dst[116] == 1", "ff05::1", False),
        ("ip6.dst[116] != 1", "ff05::1", True),
    ],
)
def test_part_of_a_field(text: str, group: str, holds: bool) -> None:
    compiled = m.compile_match(parse(text))
    assert compiled({"ip6.dst": parse_address(group).value}, _Scope()) is holds
    assert not compiled({"ip4.dst": 0}, _Scope())


def test_a_register_is_kept_bit_by_bit() -> None:
    compiled = m.compile_match(parse("reg0[7] == 1"))
    assert compiled({"reg0[7]": 1}, _Scope()) and not compiled({"reg0[8]": 1}, _Scope())
