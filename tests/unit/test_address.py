"""Everything of a family but some addresses, as prefixes: nothing else is left out, and no two could be one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ovnk_core.terms.address import BITS, FAMILIES, Address, Family, all_but, parse_address


def test_nothing_left_out_is_one_prefix() -> None:
    assert [str(each) for each in all_but(4, ())] == ["0.0.0.0/0"]
    assert [str(each) for each in all_but(6, ())] == ["::/0"]


def test_one_address_leaves_one_prefix_of_every_length() -> None:
    found = list(all_but(4, [parse_address("192.0.2.12")]))
    assert sorted(each.prefix for each in found) == list(range(1, 33))
    assert str(found[0]) == "0.0.0.0/1" and str(found[-1]) == "224.0.0.0/3"
    assert len(list(all_but(6, [parse_address("2001:db8::12")]))) == 128


def test_neighbours_cost_little() -> None:
    """A whole range of nodes is left out by fewer prefixes than one address of it."""
    first = parse_address("192.0.2.0")
    assert len(list(all_but(4, [first + offset for offset in range(256)]))) == 24
    assert len(list(all_but(4, [first + offset for offset in range(1, 251)]))) == 27


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(12))
def test_they_hold_all_others_once_and_no_two_could_be_one(family: Family, seed: int) -> None:
    rng, bits = random.Random(seed), BITS[family]
    width = rng.choice((4, 8, 16, bits))
    base = rng.getrandbits(bits) >> width << width
    left = [Address(family, base | rng.getrandbits(width)) for _ in range(rng.randint(1, 60))]
    left += [Address(family, edge) for edge in (0, (1 << bits) - 1) if rng.random() < 0.3]
    found = list(all_but(family, [*left, *left[:3]]))
    assert all(one.last < other.value for one, other in pairwise(found))
    assert sum(each.size for each in found) + len(set(left)) == 1 << bits
    assert not any(each.contains(address) for each in found for address in left)
    parents = [(each.value >> bits - each.prefix + 1, each.prefix) for each in found if each.prefix]
    assert len(set(parents)) == len(parents), "two halves of one prefix"
