"""Addresses and prefixes as packed integers.

``Address`` and ``Cidr`` are what the rest of the house computes with; text exists only at the edges. Parsing is
strict, because a second reader of the same text (a pod, a router) must not see another address: leading zeros,
IPv4-mapped IPv6 and zone ids are refused with a ``ValueError`` whose text is the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Literal

from ovnk_core.terms.struct import Key

Family = Literal[4, 6]
FAMILIES: tuple[Family, Family] = (4, 6)
BITS: dict[int, int] = {4: 32, 6: 128}
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Address(Key, frozen=True, order=True, cache_hash=True):
    """One address: family 4 or 6 and its integer value."""

    family: Family
    value: int

    def __str__(self) -> str:
        return _text(self.family, self.value)

    def __add__(self, offset: int) -> Address:
        return Address(self.family, self.value + offset)

    @property
    def host(self) -> Cidr:
        """This address as a /32 or /128."""
        return Cidr(self.family, self.value, BITS[self.family])


class Cidr(Key, frozen=True, order=True, cache_hash=True):
    """A prefix: family, integer value of the network, length in bits. Host bits are zero (``parse_cidr``)."""

    family: Family
    value: int
    prefix: int

    def __str__(self) -> str:
        return f"{_text(self.family, self.value)}/{self.prefix}"

    @property
    def size(self) -> int:
        return 1 << (BITS[self.family] - self.prefix)

    @property
    def last(self) -> int:
        return self.value + self.size - 1

    @property
    def network(self) -> Address:
        return Address(self.family, self.value)

    def at(self, offset: int) -> Address:
        """The address ``offset`` places after the network address."""
        if not 0 <= offset < self.size:
            raise ValueError(f"offset {offset} is outside {self}")
        return Address(self.family, self.value + offset)

    def contains(self, address: Address) -> bool:
        return address.family == self.family and self.value <= address.value <= self.last

    def covers(self, other: Cidr) -> bool:
        return other.family == self.family and self.value <= other.value and other.last <= self.last

    def overlaps(self, other: Cidr) -> bool:
        return other.family == self.family and self.value <= other.last and other.value <= self.last

    def match_text(self) -> str:
        """As OVN's match language writes it: a host prefix is a bare address."""
        return _text(self.family, self.value) if self.prefix == BITS[self.family] else str(self)


class InterfaceAddress(Key, frozen=True, order=True, cache_hash=True):
    """An address with the prefix length of the link it sits on (``192.0.2.7/24``)."""

    address: Address
    prefix: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def family(self) -> Family:
        return self.address.family

    @property
    def subnet(self) -> Cidr:
        return network_of(self.address, self.prefix)


@lru_cache(maxsize=1 << 17)
def _text(family: int, value: int) -> str:
    return str(ipaddress.IPv4Address(value) if family == 4 else ipaddress.IPv6Address(value))


def network_of(address: Address, prefix: int) -> Cidr:
    """The prefix of ``prefix`` bits that holds ``address``."""
    shift = BITS[address.family] - prefix
    return Cidr(address.family, address.value >> shift << shift, prefix)


def all_but(family: Family, addresses: Iterable[Address]) -> Iterator[Cidr]:
    """The fewest prefixes that hold every address of a family except these, in order."""
    start = 0
    for end in (*sorted({each.value for each in addresses}), 1 << BITS[family]):
        while start < end:
            aligned = start & -start or 1 << BITS[family]
            size = min(aligned, 1 << (end - start).bit_length() - 1)
            yield Cidr(family, start, BITS[family] + 1 - size.bit_length())
            start += size
        start = end + 1


@lru_cache(maxsize=1 << 17)
def parse_address(text: str) -> Address:
    """Strict text -> Address. Raises ValueError with the reason."""
    if "%" in text:
        raise ValueError("zone identifiers are not allowed")
    if ":" in text:
        try:
            six = ipaddress.IPv6Address(text)
        except ValueError:
            raise ValueError("not an IPv6 address") from None
        if six in _MAPPED:
            raise ValueError("IPv4-mapped IPv6 addresses are not allowed, because readers disagree about their family")
        if "." in text:
            raise ValueError("IPv4 notation inside an IPv6 address is not allowed")
        return Address(6, int(six))
    octets = text.split(".")
    if len(octets) == 4 and any(len(octet) > 1 and octet[0] == "0" and octet.isdigit() for octet in octets):
        raise ValueError("leading zeros are not allowed, because readers disagree about octal")
    try:
        return Address(4, int(ipaddress.IPv4Address(text)))
    except ValueError:
        raise ValueError("not an IP address") from None


@lru_cache(maxsize=1 << 16)
def parse_interface(text: str) -> InterfaceAddress:
    """Strict ``ADDRESS/PREFIX`` that keeps the host bits. Raises ValueError with the reason."""
    head, slash, tail = text.partition("/")
    if not slash:
        raise ValueError("no prefix length")
    address = parse_address(head)
    if not (tail.isascii() and tail.isdigit()) or (len(tail) > 1 and tail[0] == "0"):
        raise ValueError("the prefix length is not a plain number")
    prefix = int(tail) if len(tail) < 4 else 1 << 10
    if prefix > BITS[address.family]:
        raise ValueError(f"the prefix length exceeds {BITS[address.family]}")
    return InterfaceAddress(address, prefix)


def parse_cidr(text: str) -> tuple[Cidr, bool]:
    """Strict text -> (prefix with host bits cleared, whether host bits were set). Raises ValueError."""
    interface = parse_interface(text)
    subnet = interface.subnet
    return subnet, subnet.value != interface.address.value


def cidr(text: str) -> Cidr:
    """A prefix that is known to be well formed, for constants and tests."""
    return parse_cidr(text)[0]


@lru_cache(maxsize=1 << 16)
def mac_of(address: Address) -> str:
    """The MAC that OVN-Kubernetes derives from an address: ``0a:58`` + four bytes.

    IPv4: its octets. IPv6: the first four bytes of SHA-256 over the canonical text.
    """
    raw = address.value.to_bytes(4, "big") if address.family == 4 else sha256(str(address).encode()).digest()[:4]
    return ":".join(("0a", "58", *(f"{byte:02x}" for byte in raw)))
