"""Where a log is kept, as users write it: ``memory``, ``sqlite:PATH``, ``etcd:HOST:PORT,HOST:PORT[/prefix]``."""

from __future__ import annotations

from ovnk_core.terms.struct import Value

DEFAULT_PREFIX = "/ovnk"


class EtcdTls(Value, frozen=True, kw_only=True):
    """PEM files: the authority that signed the servers, and our own certificate and key where servers ask for one."""

    ca: str
    cert: str = ""
    key: str = ""


class EtcdAddress(Value, frozen=True, kw_only=True):
    """The members of an etcd cluster (``HOST:PORT``), and where in it the log is."""

    endpoints: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX


def parse_etcd(text: str) -> EtcdAddress:
    """``HOST:PORT,HOST:PORT[/prefix]`` -> its parts. Raises ValueError."""
    members, slash, prefix = text.partition("/")
    endpoints = tuple(members.split(","))
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if not host or not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"etcd member {endpoint!r}: write HOST:PORT, several separated by commas")
    prefix = prefix.strip("/")
    if slash and not prefix:
        raise ValueError(f"etcd:{text}: the prefix after / is empty")
    return EtcdAddress(endpoints=endpoints, prefix=f"/{prefix}" if prefix else DEFAULT_PREFIX)
