"""Where the server listens, as operators write it."""

from __future__ import annotations

from ovnk_core.terms.struct import Value

LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
MAX_SOCKET_PATH = 107
"""Bytes that a unix socket's address holds on Linux, without the closing zero."""


class Listener(Value, frozen=True, kw_only=True):
    """``path`` for a unix socket; ``host`` (IPv6 in brackets) and ``port`` for TCP. Port 0: any free one."""

    text: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_tcp(self) -> bool:
        return not self.path


def parse_listener(text: str) -> Listener:
    """``unix:PATH`` or ``tcp:HOST:PORT``. Raises ValueError with the reason."""
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError("the path of a socket must be absolute")
        if len(rest.encode()) > MAX_SOCKET_PATH:
            raise ValueError(f"the path of a socket holds at most {MAX_SOCKET_PATH} bytes")
        return Listener(text=text, path=rest)
    if scheme != "tcp":
        raise ValueError("is no listener")
    host, port = parse_endpoint(rest)
    return Listener(text=text, host=host, port=port)


def parse_endpoint(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[ADDRESS]:PORT`` or ``PORT`` (on loopback) -> host and port. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host if colon else "127.0.0.1"
    if not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError("is not HOST:PORT, with an IPv6 address in brackets")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError("the port must be 0 to 65535")
    return host, int(port)
