"""Files of flows: the compiled reader means what the careful one means, and answers what the firewall says."""

from __future__ import annotations

import io
import random
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from ovnk_core.analysis.firewall import flow_text
from ovnk_core.analysis.firewall.flow_file import (
    HEADER,
    WITH_PORTS,
    FlowError,
    Flows,
    is_npz,
    lines_of,
    read_csv,
    read_line,
    read_npz,
    write_csv,
    write_npz,
)
from ovnk_core.analysis.firewall.match import match_flows
from ovnk_core.features.egress_firewall.verdict import Packet, first_match, is_subject
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.port import Protocol
from ovnk_core.trace.scene import Scene
from tests.kit.egress_firewall import SHOP, World, answered, rules

GOOD = [
    "1.2.3.4,tcp,80", "0.0.0.0,udp,0", "255.255.255.255,sctp,65535", "10.0.0.1,icmp,", "1.2.3.4,6,443",
    "1.2.3.4,47,", "1.2.3.4,255,", "::,tcp,1", "::1,udp,53", "2001:db8::,icmp,", "1:2:3:4:5:6:7:8,tcp,9",
    "fe80::1:2,58,", "1::8,132,7", "::2:3:4:5:6:7:8,tcp,1", "1:2:3:4:5:6:7::,tcp,1", "ABCD::ef01,tcp,1",
    "1.2.3.4,TCP,80", " 1.2.3.4 , tcp , 80 ", "1.2.3.4,Icmp,", "1.2.3.4,1,", "1.2.3.4,0006,00080",
]  # fmt: skip
BAD = [
    ("1.2.3,tcp,80", "dst"), ("1.2.3.256,tcp,80", "dst"), ("01.2.3.4,tcp,80", "dst"), ("1.2.3.4.5,tcp,80", "dst"),
    ("1.2.3.4/32,tcp,80", "dst"), (",tcp,80", "dst"), ("1..3.4,tcp,80", "dst"), ("::ffff:1.2.3.4,tcp,80", "dst"),
    ("::ffff:102:304,tcp,80", "dst"), ("1:2:3:4:5:6:7,tcp,80", "dst"), ("1:2:3:4:5:6:7:8:9,tcp,80", "dst"),
    ("1::2::3,tcp,80", "dst"), (":1::2,tcp,80", "dst"), ("1:,tcp,80", "dst"), ("12345::,tcp,80", "dst"),
    ("::g,tcp,80", "dst"), ("fe80::1%eth0,tcp,80", "dst"), (":::,tcp,80", "dst"), ("1:2:3:4::5:6:7:8,tcp,80", "dst"),
    ("1:2:3:4:5:6:7:,tcp,80", "dst"), ("1::2:,tcp,80", "dst"), (":,tcp,80", "dst"), ("www.example.com,tcp,80", "dst"),
    ("1.2.3.4,tpc,80", "protocol"), ("1.2.3.4,256,", "protocol"), ("1.2.3.4,,80", "protocol"),
    ("1.2.3.4,-1,", "protocol"), ("1.2.3.4,tcp,65536", "port"), ("1.2.3.4,tcp,", "port"), ("1.2.3.4,udp,x", "port"),
    ("1.2.3.4,icmp,0", "port"), ("1.2.3.4,47,80", "port"), ("1.2.3.4,tcp,99999999999999999999999", "port"),
    ("1.2.3.4,tcp", ""), ("1.2.3.4", ""), ("1.2.3.4,tcp,80,9", ""), ("1.2.3.4;tcp;80", ""),
]  # fmt: skip


def csv(*lines: str) -> bytes:
    return "\n".join((HEADER, *lines, "")).encode()


def rows(flows: Flows) -> list[tuple[Address, int, int]]:
    return [(flows.address(at), int(flows.protocols[at]), int(flows.ports[at])) for at in range(len(flows))]


@pytest.mark.parametrize("line", GOOD)
def test_both_readers_take_a_good_line_alike(line: str) -> None:
    assert rows(read_csv(csv(line), "f").flows) == [read_line(line.encode(), "f", 2)]


@pytest.mark.parametrize(("line", "column"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_line_is_refused_by_both_with_its_place(line: str, column: str) -> None:
    with pytest.raises(FlowError) as careful:
        read_line(line.encode(), "flows.csv", 3)
    with pytest.raises(FlowError) as compiled:
        read_csv(csv("1.2.3.4,tcp,80", line, "1.2.3.5,tcp,80"), "flows.csv")
    assert str(compiled.value) == str(careful.value)
    error = compiled.value
    assert (error.file, error.line, error.column) == ("flows.csv", 3, column)
    assert str(error).startswith("flows.csv:3: ")
    assert error.fix
    assert error.is_usage


def test_random_lines_mean_the_same_to_both_and_to_the_interpreter() -> None:
    rng = random.Random(7)
    letters = "0123456789abcdef:.,ptcux"
    lines = []
    for _ in range(2_000):
        six = str(IPv6Address(rng.getrandbits(128) & rng.getrandbits(128) & rng.getrandbits(128)))
        address = rng.choice((str(IPv4Address(rng.getrandbits(32))), six, six))
        line = f"{address},{rng.choice(('tcp', 'udp', 'sctp', '6'))},{rng.randrange(70_000)}"
        if rng.random() < 0.5:
            at = rng.randrange(len(line))
            line = line[:at] + rng.choice(letters) + line[at + rng.randint(0, 1) :]
        lines.append(line)
    for line in lines:
        text = np.frombuffer(line.encode(), np.uint8)
        start, stop, comma = np.zeros(1, np.int64), np.array([len(line)]), np.zeros(1, np.int64)
        family, protocol = np.zeros(1, np.uint8), np.zeros(1, np.uint8)
        halves, port = np.zeros((1, 2), np.uint64), np.zeros(1, np.uint16)
        flow_text.read_addresses_4(text, start, stop, family, halves, comma)
        flow_text.read_addresses_6(text, start, family, halves, comma)
        flow_text.read_transport(text, comma, stop, family, protocol, port)
        try:
            wanted = read_line(line.encode(), "f", 1)
        except FlowError:
            assert family[0] == 0, line
            continue
        if family[0]:
            value = int(halves[0, 0]) << 64 | int(halves[0, 1])
            assert (Address(6 if family[0] == 6 else 4, value), protocol[0], port[0]) == wanted, line
    plain = [line for line in lines if line.count(",") == 2]
    assert len(plain) > 1_000


def test_line_ends_empty_lines_and_headers() -> None:
    plain = rows(read_csv(csv(*GOOD[:4]), "f").flows)
    assert rows(read_csv(csv(*GOOD[:4]).replace(b"\n", b"\r\n"), "f").flows) == plain
    assert rows(read_csv(csv(*GOOD[:4])[:-1], "f").flows) == plain
    assert rows(read_csv(csv(GOOD[0], "", *GOOD[1:4], "", ""), "f").flows) == plain
    assert rows(read_csv(b"\xef\xbb\xbf" + csv(*GOOD[:4]), "f").flows) == plain
    assert len(read_csv(f"{HEADER}\n".encode(), "f").flows) == 0
    for content in (b"", b"a,b,c\n", b"1.2.3.4,tcp,80\n", b"dst,protocol,port,verdict,rule\n"):
        with pytest.raises(FlowError, match="header"):
            read_csv(content, "f")


def test_the_line_number_counts_empty_lines() -> None:
    with pytest.raises(FlowError, match=r"^f:5: dst 'x'"):
        read_csv(csv("1.2.3.4,tcp,80", "", "", "x,tcp,80"), "f")


# ------------------------------------------------------------------------------------------- answers

LISTS = [
    rules("Allow 1.2.3.0/24 TCP/80", "Deny 1.2.0.0/16", "Allow www.example.com", "Deny nodes:", "Deny ::/0 UDP"),
    rules("Deny 0.0.0.0/0 443", "Deny 2001:db8::/32", "Allow 0.0.0.0/0"),
    rules("Deny 1.2.3.4/99"),
]


def flows() -> list[str]:
    rng = random.Random(3)
    targets = ["1.2.3.4", "1.2.3.255", "1.2.4.0", "9.9.9.9", "10.128.0.9", "224.0.0.5", "192.0.2.11", "203.0.113.7"]
    targets += ["2001:db8::1", "2001:db9::", "fd01::7", "fe80::1", "ff02::1"]
    kinds = ("tcp,80", "tcp,443", "udp,53", "udp,443", "sctp,443", "icmp,", "47,")
    return [f"{rng.choice(targets)},{rng.choice(kinds)}" for _ in range(500)]


@pytest.mark.parametrize("manifest", LISTS, ids=["mixed", "ports", "refused"])
def test_the_answer_is_the_first_match_in_order(manifest: dict[str, object]) -> None:
    world = World(families=(4, 6), dns={"www.example.com": answered("203.0.113.7")})
    world.put(manifest)
    scene = Scene(world.cluster)
    firewall = scene.firewall(SHOP)
    assert firewall is not None
    asked = flows()
    lines = read_csv(csv(*asked), "f")
    found = match_flows(scene, SHOP, lines.flows)
    answer = write_csv(lines, found.allowed, found.rules).decode().splitlines()
    assert answer[0] == f"{HEADER},verdict,rule"
    for line, shown in zip(asked, answer[1:], strict=True):
        dst, word, port = line.split(",")
        target, name = parse_address(dst), word if word in ("tcp", "udp", "sctp") else "icmp"
        protocol: Protocol = next(each for each in ("tcp", "udp", "sctp", "icmp") if each == name)  # type: ignore[misc]
        packet = Packet(target=target, protocol=protocol, port=int(port) if port else None)
        rule = first_match(firewall.rules, packet, scene) if is_subject(scene.network, target) else None
        allowed = not firewall.blocked or not is_subject(scene.network, target)
        if rule is not None:
            allowed = firewall.rules[rule].allow
        assert shown == f"{line},{'allow' if allowed else 'drop'},{-1 if rule is None else rule}"


def test_without_a_firewall_everything_is_allowed() -> None:
    lines = read_csv(csv(*flows()), "f")
    found = match_flows(Scene(World().cluster), SHOP, lines.flows)
    assert found.allowed.all()
    assert (found.rules == -1).all()
    assert list(found.counts()) == [(-1, 500)]


def test_numbers_of_rules_are_written_plainly() -> None:
    lines = read_csv(csv(*["1.2.3.4,tcp,80"] * 5), "f")
    numbers = np.array([-1, 0, 9, 10, 7_999], np.int32)
    text = write_csv(lines, np.ones(5, np.bool_), numbers).decode()
    assert [line.rsplit(",", 1)[1] for line in text.splitlines()[1:]] == ["-1", "0", "9", "10", "7999"]


# ------------------------------------------------------------------------------------------- npz


def npz(**columns: object) -> bytes:
    out = io.BytesIO()
    np.savez(out, **columns)  # type: ignore[arg-type]
    return out.getvalue()


TCP_80 = {"protocol": np.array([6, 1], np.uint8), "port": np.array([80, 0], np.uint16)}


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        (np.array([0x01020304, 5], np.uint32), ["1.2.3.4", "0.0.0.5"]),
        (np.array([[1 << 63, 1], [0, 5]], np.uint64), ["8000::1", "::5"]),
        (np.array(["1.2.3.4", "::5"]), ["1.2.3.4", "::5"]),
        (np.array([b"1.2.3.4", b"1.2.3.4"]), ["1.2.3.4", "1.2.3.4"]),
    ],
    ids=["v4", "v6", "text", "bytes"],
)
def test_npz_in_every_form(dst: np.ndarray, expected: list[str]) -> None:  # type: ignore[type-arg]
    found = read_npz(npz(dst=dst, **TCP_80), "f")
    assert [str(address) for address, _, _ in rows(found)] == expected
    assert [each[1:] for each in rows(found)] == [(6, 80), (1, 0)]
    assert (found.protocols.dtype, found.ports.dtype, found.families.dtype) == (np.uint8, np.uint16, np.uint8)
    text = lines_of(found)
    assert rows(read_csv(f"{HEADER}\n".encode() + text.text.tobytes(), "f").flows)[0] == rows(found)[0]
    answer = np.load(io.BytesIO(write_npz(found, np.array([True, False]), np.array([-1, 3], np.int32))))
    assert answer["verdict"].tolist() == ["allow", "drop"]
    assert answer["rule"].tolist() == [-1, 3]
    assert rows(read_npz(npz(**{name: answer[name] for name in ("dst", "protocol", "port")}), "f")) == rows(found)


def test_ports_of_protocols_without_ports_do_not_count() -> None:
    found = read_npz(npz(dst=np.array([1], np.uint32), protocol=np.array([1]), port=np.array([80])), "f")
    assert found.ports.tolist() == [0]
    assert 1 not in WITH_PORTS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK nonsense", ("npz",)),
        (b"\x93NUMPY\x01\x00", ("npz",)),
        (npz(dst=np.array([1], np.uint32)), ("protocol, port", "not in the file")),
        (npz(dst=np.array([1.5, 2]), **TCP_80), ("dst", "float64")),
        (npz(dst=np.zeros((2, 3), np.uint64), **TCP_80), ("dst", "uint64 [2, 3]")),
        (npz(dst=np.array(["1.2.3.4", "1.2.3.x"]), **TCP_80), ("f:2", "1.2.3.x")),
        (npz(dst=np.array([1, 2, 3], np.uint32), **TCP_80), ("protocol", "2 items, but dst has 3")),
        (npz(dst=np.array([1, 2], np.uint32), **(TCP_80 | {"port": np.array([1, 70_000])})), ("f:2", "70000")),
        (npz(dst=np.array([1, 2], np.uint32), **(TCP_80 | {"protocol": np.array([-1, 6])})), ("f:1", "-1")),
        (npz(dst=np.array([1, 2], np.uint32), **(TCP_80 | {"port": np.array(["a", "b"])})), ("port", "integers")),
        (npz(dst=np.array([None, {}], object), **TCP_80), ("npz",)),
    ],
)
def test_bad_npz_is_refused_by_name(content: bytes, words: tuple[str, ...]) -> None:
    with pytest.raises(FlowError) as raised:
        read_npz(content, "f")
    assert all(word in str(raised.value) for word in words), raised.value
    assert "pickle" not in str(raised.value)


def test_the_name_decides_what_a_file_is_then_its_bytes() -> None:
    archive = npz(dst=np.array([1], np.uint32), **TCP_80)
    assert is_npz(archive, "stdin")
    assert is_npz(b"dst", "a.npz")
    assert not is_npz(archive, "a.csv")
    assert not is_npz(b"PK,protocol,port\n", "stdin")
    assert not is_npz(b"dst,protocol,port\n", "flows")
