"""Layers and shadowed entries against a separate brute force over every boundary point; compiled against plain."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.kernels import layering
from ovnk_core.kernels.layering import ANY_PORT, SHADOWED, Entry, Layering, layers, warm

BITS = {4: 32, 6: 128}
BOTH = frozenset({4, 6})
V4 = frozenset({4})
TCP, UDP, SCTP, ICMP = 6, 17, 132, 1
Point = tuple[int, int, int, int]  # family, address, protocol, port
Contents = dict[int, set[tuple[int, int]]]  # opaque entry -> (family, address) it holds


# --- brute force: nothing below this line knows of trees, tables or ranks


def span(entry: Entry) -> tuple[int, int, int]:
    assert entry.prefix is not None
    family, network, length = entry.prefix
    return family, network, network + (1 << (BITS[family] - length)) - 1


def points(entries: list[Entry], families: frozenset[int]) -> list[Point]:
    addresses = {(family, 0) for family in families} | {(family, (1 << BITS[family]) - 1) for family in families}
    for entry in entries:
        if entry.prefix is not None and entry.prefix[0] in families:
            family, first, last = span(entry)
            around = (first - 1, first, last, last + 1)
            addresses |= {(family, address) for address in around if 0 <= address < 1 << BITS[family]}
    ports = {(ICMP, 0)}
    for protocol, port in {pair for entry in entries for pair in entry.ports}:
        near = (4242, 4243) if port == ANY_PORT else (port - 1, port, port + 1)
        ports |= {(protocol, each) for each in near if 0 <= each <= 65535}
    return [(*at, *port) for at, port in product(sorted(addresses), sorted(ports))]


def has_port(entry: Entry, protocol: int, port: int) -> bool:
    return not entry.ports or (protocol, port) in entry.ports or (protocol, ANY_PORT) in entry.ports


def has_address(entry: Entry, family: int, address: int) -> bool:
    if entry.prefix is None:
        return True
    own, first, last = span(entry)
    return own == family and first <= address <= last


def overlaps(one: Entry, other: Entry) -> bool:
    if one.prefix is not None and other.prefix is not None:
        family, first, last = span(one)
        other_family, other_first, other_last = span(other)
        if family != other_family or last < other_first or other_last < first:
            return False
    if not one.ports or not other.ports:
        return True
    return any(a == b and (p == q or ANY_PORT in (p, q)) for (a, p), (b, q) in product(one.ports, other.ports))


def brute_live(entries: list[Entry], where: list[Point]) -> set[int]:
    """Entries that decide some point for some content of the opaque ones (which may be empty, or hold the point)."""
    live = set()
    for family, address, protocol, port in where:
        for i, entry in enumerate(entries):
            if has_address(entry, family, address) and has_port(entry, protocol, port):
                live.add(i)
                if entry.prefix is not None:
                    break
    return live


def brute_layers(entries: list[Entry], live: set[int]) -> list[int]:
    result: list[int] = []
    for i, entry in enumerate(entries):
        rivals = [
            result[j]
            for j in range(i)
            if j in live and entries[j].allow != entry.allow and i in live and overlaps(entry, entries[j])
        ]
        result.append(max(rivals, default=-1) + 1 if i in live else SHADOWED)
    return result


def check_verdicts(entries: list[Entry], found: list[int], where: list[Point], contents: Contents) -> None:
    for family, address, protocol, port in where:
        matching = [
            i
            for i, entry in enumerate(entries)
            if has_port(entry, protocol, port)
            and has_address(entry, family, address)
            and (entry.prefix is not None or (family, address) in contents[i])
        ]
        kept = [i for i in matching if found[i] != SHADOWED]
        lowest = min((found[i] for i in kept), default=None)
        asked_first = {entries[i].allow for i in kept if found[i] == lowest}
        assert asked_first == {entries[i].allow for i in matching[:1]}, (family, address, protocol, port)


def check(entries: list[Entry], families: frozenset[int], seed: int = 0) -> None:
    where = points(entries, families)
    found = layers(entries, families)
    assert found == brute_layers(entries, brute_live(entries, where))
    addresses = sorted({point[:2] for point in where})
    opaque = [i for i, entry in enumerate(entries) if entry.prefix is None]
    rng = random.Random(seed)
    contents: list[Contents] = [{i: set() for i in opaque}]
    if opaque:
        contents.append({i: set(addresses) for i in opaque})
        contents.append({i: set(rng.sample(addresses, len(addresses) // 2)) for i in opaque})
        contents.append({i: set(rng.sample(addresses, min(2, len(addresses)))) for i in opaque})
    for content in contents:
        check_verdicts(entries, found, where, content)


# --- lists


def prefix(family: int, bits: int, length: int) -> tuple[int, int, int]:
    """The prefix of this length whose network part has these lowest bits, so that small ``bits`` are neighbours."""
    width = BITS[family]
    return family, (bits & ((1 << length) - 1)) << (width - length), length


SHORT = st.builds(prefix, st.sampled_from([4, 6]), st.integers(0, 15), st.integers(0, 4))
DEEP = st.sampled_from([4, 6]).flatmap(
    lambda family: st.builds(prefix, st.just(family), st.integers(0, 7), st.integers(BITS[family] - 3, BITS[family]))
)
PORT = st.tuples(st.sampled_from([TCP, UDP]), st.sampled_from([ANY_PORT, 0, 80, 81, 65535]))
PORTS = st.lists(PORT, max_size=3, unique=True).map(tuple)
ENTRY = st.builds(Entry, st.booleans(), st.one_of(SHORT, DEEP, st.none()), PORTS)
ENTRIES = st.lists(ENTRY, max_size=12)
FAMILIES = st.sampled_from([frozenset(), V4, frozenset({6}), BOTH])


def random_list(rng: random.Random, size: int, opaque: float = 0.1) -> list[Entry]:
    """Prefixes of few bits at either end of the lengths: tiles, nests, repeats."""
    result = []
    for _ in range(size):
        family = rng.choice((4, 4, 6))
        length = rng.choice((rng.randrange(5), BITS[family] - rng.randrange(4)))
        where = None if rng.random() < opaque else prefix(family, rng.getrandbits(4), length)
        pairs = {(rng.choice((TCP, UDP, SCTP)), rng.choice((ANY_PORT, 0, 79, 80, 443, 65535))) for _ in range(3)}
        result.append(Entry(rng.random() < 0.5, where, tuple(sorted(pairs)[: rng.randrange(4)])))
    return result


DENY_ALL = [Entry(False, (4, 0, 0), ()), Entry(False, (6, 0, 0), ())]


def hosts(rng: random.Random, size: int, family: int) -> list[Entry]:
    width = BITS[family]
    return [Entry(rng.random() < 0.5, (family, rng.getrandbits(width), width), ()) for _ in range(size)] + DENY_ALL


def nested(rng: random.Random, size: int, family: int) -> list[Entry]:
    """Chains from a short prefix down to a host, longest first."""
    width = BITS[family]
    chains: list[tuple[int, int, int]] = []
    while len(chains) < size:
        address = rng.getrandbits(width)
        chains += [prefix(family, address >> (width - length), length) for length in range(8, width + 1)]
    rng.shuffle(chains)
    chains = sorted(chains[:size], key=lambda each: -each[2])
    return [Entry(rng.random() < 0.5, each, ()) for each in chains] + DENY_ALL


def many_ports(rng: random.Random, size: int, family: int) -> list[Entry]:
    """Four nested prefixes, five ports each rule."""
    around = [prefix(family, 10, 8), prefix(family, 160, 12), prefix(family, 2561, 16), prefix(family, 0, 0)]
    return [
        Entry(
            rng.random() < 0.5,
            around[i % 4],
            tuple({(rng.choice((TCP, TCP, UDP, SCTP)), rng.randrange(65536)) for _ in range(5)}),
        )
        for i in range(size)
    ] + DENY_ALL


def half(rng: random.Random, size: int, family: int) -> list[Entry]:
    """Half one port anywhere, half one host on any port, shuffled."""
    mixed = [Entry(rng.random() < 0.5, (family, 0, 0), ((TCP, p),)) for p in rng.sample(range(65536), size // 2)]
    mixed += hosts(rng, size // 2, family)[:-2]
    rng.shuffle(mixed)
    return mixed + DENY_ALL


def clustered(rng: random.Random, size: int, family: int) -> list[Entry]:
    """Sites of unequal weight, prefixes of several lengths below them, about half the rules with popular ports."""
    width = BITS[family]
    sites = [rng.getrandbits(width) for _ in range(max(4, size // 30))]
    lengths = [width, width, width - 4, width * 3 // 4, width * 3 // 4, width // 2, width // 2 + 4, width // 4]
    popular = [80, 443, 53, 22, 8080, 8443, 5432, 3306]
    result = []
    for _ in range(size):
        site = sites[min(int(rng.paretovariate(0.9)) - 1, len(sites) - 1)]
        address = site ^ rng.getrandbits(rng.choice((width // 4, width // 2, width * 3 // 4)))
        length = rng.choice(lengths)
        ports = {(rng.choice((TCP, TCP, UDP)), rng.choice(popular)) for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))}
        result.append(Entry(rng.random() < 0.7, prefix(family, address >> (width - length), length), tuple(ports)))
    return result + DENY_ALL


Shape = Callable[[random.Random, int, int], list[Entry]]
SHAPES: list[Shape] = [hosts, nested, many_ports, half, clustered]


# --- tests


@given(ENTRIES, FAMILIES)
def test_hypothesis_lists_equal_brute_force(entries: list[Entry], families: frozenset[int]) -> None:
    check(entries, families)


@pytest.mark.parametrize("seed", range(60))
def test_seeded_lists_equal_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    check(random_list(rng, rng.randrange(1, 45), rng.choice((0.0, 0.1, 0.4))), rng.choice((V4, BOTH)), seed)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_equal_brute_force(shape: Shape, family: int) -> None:
    entries = shape(random.Random(7), 60, family)
    found = layers(entries, BOTH)
    assert found == brute_layers(entries, brute_live(entries, points(entries, BOTH)))


def a(allow: bool, text: str | None, *ports: tuple[int, int]) -> Entry:
    """``text``: "10/8"-like, network part in binary of v4, as in "0101"; "" is everything; None opaque."""
    return Entry(allow, None if text is None else prefix(4, int(text or "0", 2), len(text)), ports)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([a(True, "1"), a(False, "")], [0, 1], id="exception"),
        pytest.param([a(True, "1"), a(True, "")], [0, 0], id="same verdict commutes"),
        pytest.param([a(True, "0"), a(False, "1")], [0, 0], id="apart"),
        pytest.param([a(True, "10"), a(False, "11"), a(True, "1")], [0, 0, -1], id="halves tile"),
        pytest.param([a(True, "10"), a(False, "110"), a(True, "1")], [0, 0, 1], id="a gap stays"),
        pytest.param([a(True, "10"), a(True, "1100"), a(True, "1101"), a(True, "111"), a(False, "1")], [0] * 4 + [-1],
                     id="unequal tiles"),
        pytest.param([a(True, "1"), a(True, "1")], [0, -1], id="twice"),
        pytest.param([a(True, ""), a(False, None)], [0, -1], id="opaque after everything"),
        pytest.param([a(True, "1"), a(False, None), a(True, "1")], [0, 1, -1], id="opaque covers nothing"),
        pytest.param([a(False, None), a(True, None), a(False, "")], [0, 1, 2], id="opaque overlaps opaque"),
        pytest.param([a(True, "", (TCP, 80)), a(False, None, (TCP, 80), (TCP, 81))], [0, 1], id="opaque by atom"),
        pytest.param([a(True, "", (TCP, 80)), a(False, None, (TCP, 80))], [0, -1], id="opaque, its port covered"),
        pytest.param([a(True, "", (TCP, ANY_PORT)), a(False, "1", (TCP, 80))], [0, -1], id="protocol covers port"),
        pytest.param([a(True, "", (TCP, 80)), a(False, "1", (UDP, 80))], [0, 0], id="other protocol"),
        pytest.param([a(True, "", (TCP, 80)), a(False, "1", (TCP, ANY_PORT))], [0, 1], id="port inside protocol"),
        pytest.param([a(True, "10"), a(True, "11", (TCP, 80)), a(False, "1", (TCP, 80))], [0, 0, -1], id="jointly"),
        pytest.param([a(True, "", (0, 0)), a(False, "", (0, ANY_PORT))], [0, 1], id="protocol 0"),
        pytest.param([a(True, ""), a(False, "1"), a(True, "11")], [0, -1, -1], id="shadowed makes no layer"),
    ],
)  # fmt: skip
def test_small_lists(entries: list[Entry], expected: list[int]) -> None:
    check(entries, V4)
    assert layers(entries, V4) == expected


def test_an_entry_of_an_absent_family_is_shadowed_and_hides_nothing() -> None:
    six = Entry(True, (6, 0, 0), ())
    entries = [six, Entry(False, None, ()), Entry(True, (4, 0, 0), ()), Entry(False, None, ())]
    assert layers(entries, V4) == [SHADOWED, 0, 1, SHADOWED]
    assert layers(entries, BOTH) == [0, 1, 2, SHADOWED]
    assert layers(entries, frozenset()) == [SHADOWED] * 4


def test_all_ports_one_by_one_do_not_cover_the_protocol() -> None:
    entries = [Entry(True, (4, 0, 0), tuple((TCP, port) for port in range(65536))), a(False, "", (TCP, ANY_PORT))]
    assert layers(entries, V4) == [0, 1]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_equals_plain(shape: Shape, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    warm()
    held = Layering(BOTH, shape(random.Random(11), 3000, family))
    compiled = held.layers()
    monkeypatch.setattr(layering, "PLAIN_LIMIT", sys.maxsize)
    assert held.layers() == compiled


@pytest.mark.parametrize("seed", range(20))
def test_compiled_equals_plain_on_small_lists(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    held = Layering(rng.choice((V4, BOTH, frozenset())), random_list(rng, seed * 4))
    plain = held.layers()
    warm()
    monkeypatch.setattr(layering, "PLAIN_LIMIT", -1)
    assert held.layers() == plain


def edits(rng: random.Random, entries: list[Entry], count: int) -> Iterator[tuple[int, int, list[Entry]]]:
    for _ in range(count):
        start = rng.randrange(len(entries) + 1)
        stop = min(len(entries), start + rng.choice((0, 0, 1, 1, 3, 20)))
        yield start, stop, random_list(rng, rng.choice((0, 1, 1, 2, 15)))


@pytest.mark.parametrize("limit", [sys.maxsize, -1], ids=["plain", "compiled"])
def test_a_spliced_list_answers_as_a_fresh_one(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    warm()
    monkeypatch.setattr(layering, "PLAIN_LIMIT", limit)
    rng = random.Random(3)
    entries = random_list(rng, 40)
    held = Layering(BOTH, entries)
    for start, stop, new in edits(rng, entries, 150):
        entries[start:stop] = new
        held.splice(start, stop, new)
        assert len(held) == len(entries)
        assert held.layers() == layers(entries, BOTH)


def test_ports_that_nobody_names_any_more_are_forgotten() -> None:
    held = Layering(V4, [a(False, "")])
    for port in range(0, 60000, 60):
        held.splice(0, 1, [a(False, "", *((TCP, port + i) for i in range(60))), a(True, "1")])
        held.splice(1, 2, [])
    assert len(held._number) < 300
    assert held.layers() == [0]


def test_a_refused_edit_changes_nothing() -> None:
    entries = random_list(random.Random(1), 30)
    held = Layering(BOTH, entries)
    before = held.layers()
    with pytest.raises(ValueError, match="port 65536"):
        held.splice(3, 9, [a(True, "1"), a(True, "1", (TCP, 80), (TCP, 65536))])
    with pytest.raises(IndexError, match=r"5\.\.31"):
        held.splice(5, 31, [])
    assert len(held) == 30 and held.layers() == before


@pytest.mark.parametrize(
    ("entry", "families", "reason"),
    [
        (Entry(True, (4, 1, 31), ()), BOTH, "outside its network part"),
        (Entry(True, (4, 1 << 32, 32), ()), BOTH, "outside its network part"),
        (Entry(True, (4, -1, 32), ()), BOTH, "outside its network part"),
        (Entry(True, (4, 0, 33), ()), BOTH, "neither"),
        (Entry(True, (6, 0, -1), ()), V4, "neither"),
        (Entry(True, (5, 0, 0), ()), BOTH, "neither"),
        (Entry(True, None, ((256, 1),)), BOTH, "protocol 256"),
        (Entry(True, None, ((TCP, -2),)), BOTH, "port -2"),
        (Entry(True, None, ()), frozenset({4, 5}), "families"),
    ],
)
def test_bad_input_is_named(entry: Entry, families: frozenset[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        layers([entry], families)


def test_numba_is_not_loaded_unasked() -> None:
    code = (
        "import sys; from ovnk_core.kernels.layering import Entry, layers;"
        "rules = [Entry(i % 2 == 0, (4, i << 8, 24), tuple((6, p) for p in range(5))) for i in range(2000)];"
        "assert layers(rules, frozenset({4})) == [0] * 2000;"
        "sys.exit(bool({'numpy', 'numba'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
