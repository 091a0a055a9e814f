"""From settings to the parts a keeper is made of: the databases, the store, and what the keeper is told."""

from __future__ import annotations

from pathlib import Path

from ovnk_core.keeper import KeeperSettings
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.northbound.native import NativeNorthbound, TlsFiles
from ovnk_core.northbound.port import Northbound
from ovnk_core.runtime.dns_query import parse_server
from ovnk_core.runtime.reachability import ProberSettings
from ovnk_core.runtime.resolver import ResolverSettings
from ovnk_core.store.address import EtcdTls
from ovnk_core.store.open import open_log
from ovnk_core.store.port import Log
from ovnk_core.topology.place import Settings
from ovnk_server.probing import HealthService, health_dial
from ovnk_server.settings import DatabaseSettings, EgressIPSettings, ServerSettings


def northbound(settings: ServerSettings) -> Northbound:
    """The northbound driver, yet to be connected."""
    if settings.northbound.address == "memory":
        return MemoryNorthbound()
    return _database(settings.northbound, "OVN_Northbound")


def southbound(settings: ServerSettings) -> Northbound | None:
    """The southbound driver, where an address is given."""
    return _database(settings.southbound, "OVN_Southbound") if settings.southbound.address else None


def _database(settings: DatabaseSettings, name: str) -> Northbound:
    tls = None
    if settings.ca:
        tls = TlsFiles(ca=settings.ca, certificate=settings.cert, key=settings.key, server_name=settings.server_name)
    return NativeNorthbound(settings.address, database=name, tls=tls)


def log(settings: ServerSettings) -> Log:
    """The log, yet to be opened. Makes the directory of a SQLite file (0700). Raises OSError, StoreUnavailable."""
    scheme, _, path = settings.store.partition(":")
    if scheme == "sqlite":
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    etcd = settings.etcd
    tls = EtcdTls(ca=etcd.ca, cert=etcd.cert, key=etcd.key) if etcd.ca else None
    return open_log(settings.store, tls=tls, term_s=etcd.term_s)


def prober(settings: EgressIPSettings) -> ProberSettings:
    """How nodes are asked whether they answer. Raises OSError for authorities that cannot be read."""
    dial = None
    if settings.probe_port:
        asked = HealthService(
            port=settings.probe_port,
            service=settings.probe_service,
            ca=settings.probe_ca,
            server_name=settings.probe_server_name,
        )
        dial = health_dial(asked)
    return ProberSettings(interval_s=settings.probe_interval_s, timeout_s=settings.probe_timeout_s, dial=dial)


def keeper_settings(settings: ServerSettings) -> KeeperSettings:
    """What the keeper is told."""
    dns, north = settings.dns, settings.northbound
    servers = tuple(parse_server(text) for text in dns.servers)
    return KeeperSettings(
        holder=settings.holder,
        cluster=Settings(has_dns_feed=dns.feed, rebalances_egress_ips=settings.egress_ip.rebalance == "automatic"),
        adopt=north.adopt,
        take_over=north.take_over,
        allow_prune=north.allow_prune,
        timeout_s=north.timeout_s,
        resolver=ResolverSettings(servers=servers) if dns.ask else None,
        prober=prober(settings.egress_ip),
        history_changes=settings.history.changes,
        housekeeping_s=settings.history.period_s,
        history_bytes=settings.history.bytes,
    )
