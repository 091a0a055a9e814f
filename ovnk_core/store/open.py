"""From an address to a log."""

from __future__ import annotations

from ovnk_core.errors import StoreUnavailable
from ovnk_core.store.address import EtcdTls, parse_etcd
from ovnk_core.store.memory import MemoryLog
from ovnk_core.store.port import Log
from ovnk_core.store.sqlite import SqliteLog


def open_log(address: str, *, tls: EtcdTls | None = None, timeout_s: float = 5.0, term_s: int = 10) -> Log:
    """``memory``, ``sqlite:PATH`` or ``etcd:HOST:PORT,...[/prefix]`` -> a log that is yet to be opened.

    ``tls``, ``timeout_s`` (for how long a request is tried) and ``term_s`` (after how many seconds of silence somebody
    else becomes the writer) are etcd's. Raises ValueError (not an address) or StoreUnavailable (etcd's client package
    is not installed).
    """
    scheme, _, rest = address.partition(":")
    if address == "memory":
        return MemoryLog()
    if scheme == "sqlite" and rest:
        return SqliteLog(rest)
    if scheme == "etcd" and rest:
        where = parse_etcd(rest)
        try:
            from ovnk_core.store.etcd import EtcdLog  # here, because it needs packages that only its users install
        except ImportError as error:
            raise StoreUnavailable(f"{address}: needs the package {error.name}: install ovnk[etcd]") from error
        return EtcdLog(where.endpoints, where.prefix, tls=tls, timeout_s=timeout_s, term_s=term_s)
    raise ValueError(f"store {address!r}: write memory, sqlite:PATH or etcd:HOST:PORT,...[/prefix]")
