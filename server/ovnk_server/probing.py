"""Asking nodes for their health over gRPC, where somebody serves it there. A node answers when it says SERVING.

The one call of ``grpc.health.v1`` goes over a connection of our own, and h2 speaks on it. gRPC's client ends the whole
process where it finds no descriptor left, and tells failures in prose only: here they come as an errno, so an error of
our own is told from a node that is gone. Nothing is kept between questions.
Source: gRPC over HTTP/2; OVN-Kubernetes' health service of egress nodes (docs/sources.md, egress IP).
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from ovnk_core.runtime.reachability import Dial, is_of_node
from ovnk_core.terms.address import Address
from ovnk_core.terms.struct import Value

_NO_ANSWER = (TimeoutError, EOFError, ssl.SSLError, ProtocolError, DecodeError)
"""What a node's own doing ends in. Besides these there are errors of the system, which tell whose they are."""
_MOST_BYTES = 16_384
_PREFIX_BYTES = 5
"""Before a gRPC message: whether it is compressed, and its length."""


class HealthService(Value, frozen=True, kw_only=True):
    """What is asked on each node. ``service`` is the name in the question; ``ca`` a PEM file of the authorities that
    the certificate comes from (empty: no TLS), ``server_name`` the name in it (empty: the address that is asked)."""

    port: int
    service: str
    ca: str = ""
    server_name: str = ""


def health_dial(asked: HealthService) -> Dial:
    """Asks as ``asked`` says; the authorities are read anew for each question, and what cannot be read then is no news.
    Raises OSError for what cannot be read now, and for a name that no certificate carries."""
    if asked.ca:
        _checked(tls_context(asked.ca), asked.server_name)

    async def dial(address: Address, timeout_s: float) -> bool | None:
        try:
            async with asyncio.timeout(timeout_s):
                return bool(await _says(asked, str(address)) == health_pb2.HealthCheckResponse.SERVING)
        except _NO_ANSWER:
            return False
        except OSError as error:
            return False if is_of_node(error) else None

    return dial


async def _says(asked: HealthService, host: str) -> int:
    """What the service says of itself. Raises OSError, or one of ``_NO_ANSWER``."""
    tls = tls_context(asked.ca) if asked.ca else None
    name = (asked.server_name or host) if tls is not None else None
    reader, writer = await asyncio.open_connection(host, asked.port, ssl=tls, server_hostname=name)
    try:
        link = H2Connection()
        _call(link, host, asked)
        writer.write(link.data_to_send())
        message = (await _body(link, reader))[_PREFIX_BYTES:]
    finally:
        writer.transport.abort()
    return int(health_pb2.HealthCheckResponse.FromString(message).status)


def _call(link: H2Connection, host: str, asked: HealthService) -> None:
    """The whole of what is said."""
    message = health_pb2.HealthCheckRequest(service=asked.service).SerializeToString()
    fields = {
        ":method": "POST",
        ":scheme": "https" if asked.ca else "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"[{host}]" if ":" in host else host,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    link.initiate_connection()
    stream = link.get_next_available_stream_id()
    link.send_headers(stream, list(fields.items()))
    link.send_data(stream, b"\0" + len(message).to_bytes(_PREFIX_BYTES - 1, "big") + message, end_stream=True)


async def _body(link: H2Connection, reader: asyncio.StreamReader) -> bytes:
    """What is answered, until it ends. Raises EOFError where it does not, or has no end."""
    found = b""
    while len(found) <= _MOST_BYTES and (said := await reader.read(_MOST_BYTES)):
        for event in link.receive_data(said):
            if isinstance(event, DataReceived):
                found += event.data
            elif isinstance(event, StreamEnded | StreamReset):
                return found
    raise EOFError("no answer, or more than anybody answers")


def tls_context(ca: str) -> ssl.SSLContext:
    """For HTTP/2, trusting the authorities of a PEM file. Raises OSError naming the file."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.set_alpn_protocols(["h2"])
    Path(ca).read_bytes()
    try:
        made.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise OSError(f"{ca} holds no certificate authority") from error
    return made


def _checked(tls: ssl.SSLContext, server_name: str) -> None:
    try:
        tls.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=server_name or "localhost")
    except ValueError as error:
        raise OSError(f"server name {server_name!r}: {error}") from error
