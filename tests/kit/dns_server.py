"""A DNS server on loopback that says what a test wrote into its script, over UDP and TCP on one port.

``says(name, type, *replies)``: one reply a question, the last one for ever. A question without a script is answered
NODATA when the name has some script, else NXDOMAIN. ``asked`` holds every question as (name, type, transport).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from ovnk_core.runtime.dns_query import NameServer

Fault = Literal["", "silent", "truncated", "garbage", "wrong id", "other question", "cut off"]
UDP_MAX = 1_232


@dataclass(frozen=True)
class Reply:
    """``records``: (owner, ttl, type, data) of the answer section, ``authority`` likewise.

    Faults: ``silent`` says nothing; ``truncated`` over UDP; ``garbage``, ``wrong id`` and ``other question`` send a
    worthless datagram and then the right reply; ``cut off`` sends half of it and nothing else.
    """

    records: tuple[tuple[str, int, str, str], ...] = ()
    authority: tuple[tuple[str, int, str, str], ...] = ()
    rcode: str = "NOERROR"
    fault: Fault = ""


def a(name: str, *addresses: str, ttl: int = 60) -> Reply:
    return Reply(records=tuple((name, ttl, "AAAA" if ":" in each else "A", each) for each in addresses))


NXDOMAIN, SERVFAIL, REFUSED = Reply(rcode="NXDOMAIN"), Reply(rcode="SERVFAIL"), Reply(rcode="REFUSED")
NODATA, SILENT = Reply(), Reply(fault="silent")


@dataclass
class DnsServer:
    """``async with DnsServer() as server``: listens on a port of its own on 127.0.0.1."""

    asked: list[tuple[str, str, str]] = field(default_factory=list)
    _script: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)

    def says(self, name: str, kind: str, *replies: Reply) -> None:
        self._script[name, kind] = list(replies)

    @property
    def address(self) -> NameServer:
        return NameServer("127.0.0.1", self.port)

    def count(self, name: str) -> int:
        return sum(each == name for each, _, _ in self.asked)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=("127.0.0.1", 0))
        self.port = int(self._udp.get_extra_info("sockname")[1])
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    def close_tcp(self) -> None:
        """Refuse TCP from now on."""
        self._tcp.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def replies(self, wire: bytes, transport: str) -> list[bytes]:
        """The datagrams (or TCP messages) that answer a question."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        reply = self._next(name, kind)
        if reply.fault == "silent":
            return []
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.from_text(reply.rcode))
        response.answer = _rrsets(reply.records)
        response.authority = _rrsets(reply.authority)
        full = response.to_wire(max_size=65_535)
        if transport == "tcp":
            return [full]
        if len(full) > UDP_MAX or reply.fault == "truncated":
            response.answer = []
            response.flags |= dns.flags.TC
            return [response.to_wire()]
        return _spoiled(query, reply.fault, full)

    def _next(self, name: str, kind: str) -> Reply:
        replies = self._script.get((name, kind))
        if replies is None:
            return NODATA if any(each == name for each, _ in self._script) else NXDOMAIN
        return replies.pop(0) if len(replies) > 1 else replies[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        for reply in self.replies(await reader.readexactly(size), "tcp"):
            writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
        writer.close()


def _spoiled(query: dns.message.Message, fault: Fault, full: bytes) -> list[bytes]:
    match fault:
        case "garbage":
            return [b"\x00", b"\xff" * 40, full]
        case "wrong id":
            return [bytes([full[0] ^ 0xFF]) + full[1:], full]
        case "other question":
            other = dns.message.make_response(dns.message.make_query("other.example.net", "A", id=query.id))
            other.answer = _rrsets((("other.example.net", 60, "A", "203.0.113.66"),))
            return [other.to_wire(), full]
        case "cut off":
            return [full[: len(full) // 2]]
        case _:
            return [full]


def _rrsets(records: tuple[tuple[str, int, str, str], ...]) -> list[dns.rrset.RRset]:
    found: dict[tuple[str, str], dns.rrset.RRset] = {}
    for name, ttl, kind, data in records:
        rrset = dns.rrset.from_text(f"{name}.", ttl, "IN", kind, data)
        held = found.setdefault((name, kind), rrset)
        if held is not rrset:
            held.add(rrset[0], ttl)
    return list(found.values())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for reply in self._server.replies(data, "udp"):
            self._transport.sendto(reply, addr)
