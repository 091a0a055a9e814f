"""Where the server is, and the channel to it.

``unix:PATH`` is a socket whose directory decides who may connect. Everything else is TCP and wants certificates of both
sides; without them only a loopback address is spoken to, because whoever listens elsewhere could be anybody.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import NamedTuple

import grpc

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Below the server's own ten seconds between pings it would close the connection.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A page is bounded in objects, not in bytes, and the server is one we chose.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC would wait up to two minutes before it looks whether a server that was restarted is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


class Tls(NamedTuple):
    """PEM files: the authority that signed the server's certificate, and our own certificate with its key. ``name`` is
    what the server's certificate calls it, where that is not the host of the address."""

    ca: str
    cert: str
    key: str
    name: str = ""


def open_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to ``unix:PATH``, ``HOST:PORT`` or ``tcp:HOST:PORT``; nothing is sent yet.

    Raises ValueError for what is no address, for TLS on a socket, and for TCP without it beyond loopback; OSError for a
    file that cannot be read.
    """
    if address.startswith("unix:"):
        if tls is not None:
            raise ValueError(f"{address}: a unix socket takes no certificates")
        if not address.removeprefix("unix:"):
            raise ValueError("write unix:PATH")
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    host, _ = host_and_port(address)
    target = address.removeprefix("tcp:")
    if tls is None:
        if not _is_loopback(host):
            raise ValueError(f"{address}: TCP needs certificates: an authority, a certificate and its key")
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(*(Path(file).read_bytes() for file in (tls.ca, tls.key, tls.cert)))
    named = (("grpc.ssl_target_name_override", tls.name),) if tls.name else ()
    return grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *named))


def host_and_port(address: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``tcp:HOST:PORT`` -> its parts, an IPv6 address without brackets. Raises ValueError."""
    host, colon, port = address.removeprefix("tcp:").rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{address}: write unix:PATH or HOST:PORT, an IPv6 address in brackets")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
