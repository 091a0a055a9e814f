"""One question to the DNS: a name and a family, the servers in their order, one answer.

UDP first, TCP when the reply was cut off. The next server is asked after a timeout, SERVFAIL, REFUSED or nonsense; the
first that knows (addresses, NXDOMAIN, or none of this family) ends the search. Whatever happens becomes a
``DnsAnswer``; nothing is raised. Names are asked as they stand: no search domains.

A reply that is not to our question (wrong id, other question, garbage) is passed over and waited on: anybody can send a
datagram. A CNAME whose target the server did not resolve is followed by asking again, ``MAX_CHAIN`` steps in all.
dnspython is imported here alone, and only when a question is asked. A TTL with the top bit set reads as 0, as RFC 2181
8 wants.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovnk_core.model.decision import DnsAnswer, DnsOutcome
from ovnk_core.terms.address import Address, Family, parse_address
from ovnk_core.terms.struct import Key

if TYPE_CHECKING:
    from dns.message import ChainingResult, QueryMessage

PORT = 53
PAYLOAD = 1_232
"""EDNS buffer size that needs no fragments on any ordinary path (DNS flag day 2020)."""
MAX_CHAIN = 16
_SERVER = re.compile(r"\[(?P<six>[^\]]+)\](:(?P<port6>[0-9]{1,5}))?|(?P<four>[^:]+)(:(?P<port4>[0-9]{1,5}))?")


class NameServer(Key, frozen=True, order=True, cache_hash=True):
    """A server's address (a zone id is allowed) and port."""

    host: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Failed(Exception):
    """A server that was of no use: outcome and what to tell people."""

    def __init__(self, outcome: DnsOutcome, text: str) -> None:
        self.outcome = outcome
        super().__init__(text)


def parse_server(text: str) -> NameServer:
    """``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1``, ``[2001:db8::1]:5353``. Raises ValueError with the reason."""
    found = None if text.count(":") > 1 and not text.startswith("[") else _SERVER.fullmatch(text)
    host = text if found is None else found["six"] or found["four"]
    port = PORT if found is None else int(found["port6"] or found["port4"] or PORT)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("not the address of a DNS server: write ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT") from None
    if not 0 < port <= 65_535:
        raise ValueError("the port must be from 1 to 65535")
    return NameServer(host, port)


def read_resolv_conf(text: str) -> tuple[NameServer, ...]:
    """The ``nameserver`` lines of resolv.conf, in order; lines that hold no address are passed over."""
    found: list[NameServer] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(NameServer(str(ipaddress.ip_address(words[1]))))
            except ValueError:
                continue
    return tuple(dict.fromkeys(found))


async def ask(name: str, family: Family, servers: Sequence[NameServer], timeout_s: float) -> DnsAnswer:
    """What the first server that knows says. ``timeout_s`` bounds each exchange with one server."""
    said: list[str] = []
    outcome: DnsOutcome = "unreachable"
    for server in servers:
        try:
            return await _ask_one(name, family, server, timeout_s)
        except _Failed as failure:
            outcome = failure.outcome
            said.append(f"{server} {failure}")
    reason = "; ".join(said) or "no DNS server is configured"
    return DnsAnswer(name=name, outcome=outcome, family=family, reason=reason)


async def _ask_one(name: str, family: Family, server: NameServer, timeout_s: float) -> DnsAnswer:
    """Follow the chain at one server. Raises _Failed."""
    asked, ttl_s = name, float("inf")
    for _ in range(MAX_CHAIN):
        reply = await _exchange(asked, family, server, timeout_s)
        chain = _chain(reply)
        ttl_s = min(ttl_s, chain.minimum_ttl)
        if chain.answer is not None:
            addresses, odd = _addresses([str(each) for each in chain.answer])
            reason = f"{server} answered {', '.join(odd)}, which is not used" if odd else ""
            return DnsAnswer(name=name, addresses=addresses, ttl_s=ttl_s, family=family, reason=reason)
        outcome: DnsOutcome = "nxdomain" if reply.rcode() == 3 else "nodata"
        if outcome == "nxdomain" or not chain.cnames or reply.authority:
            return DnsAnswer(name=name, outcome=outcome, ttl_s=ttl_s, family=family)
        asked = chain.canonical_name.to_text()
    raise _Failed("malformed", f"a chain of more than {MAX_CHAIN} CNAMEs")


async def _exchange(name: str, family: Family, server: NameServer, timeout_s: float) -> QueryMessage:
    import dns.asyncquery
    import dns.exception
    import dns.message
    import dns.rcode

    try:
        question = dns.message.make_query(name, "A" if family == 4 else "AAAA", use_edns=0, payload=PAYLOAD)
        reply, _ = await dns.asyncquery.udp_with_fallback(
            question, server.host, timeout_s, server.port, ignore_unexpected=True, ignore_errors=True
        )
    except dns.exception.Timeout:
        raise _Failed("timeout", f"gave no answer in {timeout_s:g} s") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        raise _Failed("unreachable", f"cannot be reached ({why})") from None
    except Exception as error:  # dnspython raises more than its own tree on hostile replies
        raise _Failed("malformed", f"answered nonsense ({type(error).__name__})") from None
    code = reply.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        outcomes: dict[int, DnsOutcome] = {dns.rcode.SERVFAIL: "servfail", dns.rcode.REFUSED: "refused"}
        raise _Failed(outcomes.get(code, "malformed"), f"answered {dns.rcode.to_text(code)}")
    if not isinstance(reply, dns.message.QueryMessage):
        raise _Failed("malformed", "answered nonsense (not a reply to a query)")
    return reply


def _chain(reply: QueryMessage) -> ChainingResult:
    try:
        return reply.resolve_chaining()
    except Exception as error:
        raise _Failed("malformed", f"answered a chain that does not hold ({type(error).__name__})") from None


def _addresses(texts: Sequence[str]) -> tuple[tuple[Address, ...], list[str]]:
    """Sorted addresses, and what is none that two readers would read alike (IPv4-mapped IPv6)."""
    found: set[Address] = set()
    odd: list[str] = []
    for text in texts:
        try:
            found.add(parse_address(text))
        except ValueError:
            odd.append(text)
    return tuple(sorted(found)), sorted(odd)
