"""What can be set, as one frozen struct: every key, its type, its bounds, its default and what it means.

Nothing is read here; ``configure`` reads files, the environment and flags. A key is written ``limits.connections``: a
table and a name in the file, ``--limits-connections`` as a flag, ``OVNK_LIMITS_CONNECTIONS`` in the environment.
Names end in their unit: ``_s`` seconds, ``_bytes`` bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ovnk_core.terms.struct import Value


def _says(text: str) -> Meta:
    return Meta(description=text)


Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=1 << 10, le=1 << 30)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]


class SocketSettings(Value, frozen=True, kw_only=True):
    """The unix socket."""

    identity: Annotated[Name, _says("Who calls through the unix socket, for the authorisation file and the audit.")] = (
        "local"
    )
    group: Annotated[
        str, _says("A group that may enter the socket's directory (0750); empty: its owner alone (0700).")
    ] = ""


class TlsSettings(Value, frozen=True, kw_only=True):
    """The server's side of mutual TLS. All three, for a TCP listener."""

    cert: Annotated[str, _says("PEM file: the server's certificate and what it was issued from.")] = ""
    key: Annotated[str, _says("PEM file: the certificate's key, unencrypted.")] = ""
    client_ca: Annotated[str, _says("PEM file: authorities that client certificates must come from.")] = ""


class DatabaseSettings(Value, frozen=True, kw_only=True):
    """An OVSDB server or cluster. The files are for ``ssl:`` addresses."""

    address: Annotated[str, _says("unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, several with commas.")] = ""
    ca: Annotated[str, _says("PEM file: authorities that the database's certificate must come from.")] = ""
    cert: Annotated[str, _says("PEM file: our certificate towards the database.")] = ""
    key: Annotated[str, _says("PEM file: its key, unencrypted.")] = ""
    server_name: Annotated[
        str, _says("The name the database's certificate must carry; empty: the host of its address.")
    ] = ""


class NorthboundSettings(DatabaseSettings, frozen=True, kw_only=True):
    """The northbound database, and what may be done to it."""

    address: Annotated[
        Name, _says("unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, several with commas; memory: an embedded one.")
    ] = "unix:/var/run/ovn/ovnnb_db.sock"
    allow_prune: Annotated[bool, _says("Write even where more than 20 % of our rows would go, or all of them.")] = False
    adopt: Annotated[bool, _says("Take over foreign rows that hold names we need.")] = False
    take_over: Annotated[
        bool, _says("Write although a server on another store had the last turn; that one must not run any more.")
    ] = False
    timeout_s: Annotated[Seconds, _says("Bounds connecting, and one transaction.")] = 30.0


class EtcdSettings(Value, frozen=True, kw_only=True):
    """For an ``etcd:`` store."""

    ca: Annotated[str, _says("PEM file: authorities that etcd's certificates must come from; empty: no TLS.")] = ""
    cert: Annotated[str, _says("PEM file: our certificate towards etcd.")] = ""
    key: Annotated[str, _says("PEM file: its key.")] = ""
    term_s: Annotated[
        Annotated[int, Meta(ge=2, le=600)], _says("After how much silence of the writer another server takes over.")
    ] = 10


class DnsSettings(Value, frozen=True, kw_only=True):
    """Where the addresses of DNS names in egress firewalls come from."""

    ask: Annotated[bool, _says("Ask DNS servers; false: use only what is pushed and what is on record.")] = True
    servers: Annotated[tuple[str, ...], _says("ADDRESS[:PORT] in order; empty: those of /etc/resolv.conf.")] = ()
    feed: Annotated[bool, _says("A resolver pushes what it answers (DnsService), so wildcard names can be known.")] = (
        False
    )


class CertificateSettings(Value, frozen=True, kw_only=True):
    """The authority of IPsec certificates."""

    folder: Annotated[
        str, _says("Folder of the IPsec authority's keys (0700) and what it signed; empty: nothing is signed here.")
    ] = ""


class EgressIPSettings(Value, frozen=True, kw_only=True):
    """Which nodes are fit for egress IPs, and how evenly they hold them."""

    probe_timeout_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)],
        _says("How long a node may take to answer in a round; 0: none is asked; all answer unless reported."),
    ] = 1.0
    probe_interval_s: Annotated[
        Annotated[float, Meta(ge=0.1, le=3_600)], _says("From the end of one round to the next.")
    ] = 5.0
    probe_port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)],
        _says("Port of a gRPC health service on management addresses; 0: any answer at TCP port 9."),
    ] = 0
    probe_service: Annotated[
        str, _says("Which service is asked for there; OVN-Kubernetes' nodes know this one only.")
    ] = "Service_Egress_IP"
    probe_ca: Annotated[str, _says("PEM file: authorities its certificate must come from; empty: no TLS.")] = ""
    probe_server_name: Annotated[str, _says("The name its certificate must carry; empty: the address asked.")] = ""
    rebalance: Annotated[
        Literal["manual", "automatic"],
        _says("manual: what has a place stays; automatic: loads are evened after every change, with few moves."),
    ] = "manual"


class LimitSettings(Value, frozen=True, kw_only=True):
    """What one server takes."""

    message_bytes: Annotated[Bytes, _says("Of one request message.")] = 4 << 20
    large_message_bytes: Annotated[Bytes, _says("Of one request message of Apply and Sync.")] = 16 << 20
    calls: Annotated[Count, _says("Calls served at one time, watches among them.")] = 4_096
    calls_per_identity: Annotated[Count, _says("The same for one identity, so that none takes all.")] = 2_048
    connections: Annotated[Count, _says("Connections to each listener; further ones are closed.")] = 4_096
    calls_per_second: Annotated[Count, _says("Calls that one identity may begin, twice as many at once.")] = 5_000
    call_s: Annotated[Seconds, _says("How long a call may take, whatever its own deadline says.")] = 30.0
    batch_s: Annotated[Seconds, _says("The same for Apply, Delete, Diff and WaitRevision.")] = 600.0
    arrival_s: Annotated[Seconds, _says("How long a handshake, or the request of a call, may take to arrive.")] = 10.0
    stop_s: Annotated[Annotated[float, Meta(ge=1, le=60)], _says("How long stopping may take.")] = 10.0


class KeepaliveSettings(Value, frozen=True, kw_only=True):
    """Connections that seem idle, and old ones."""

    time_s: Annotated[Seconds, _says("Silence after which a connection is probed.")] = 60.0
    timeout_s: Annotated[Seconds, _says("How long a probe may stay unanswered.")] = 20.0
    min_ping_s: Annotated[Seconds, _says("How often clients may probe; who does so more often is disconnected.")] = 10.0
    max_age_s: Annotated[
        Seconds, _says("Age at which a connection is to be made anew, so that clients spread over servers.")
    ] = 1_800.0
    max_age_grace_s: Annotated[Seconds, _says("How long calls of such a connection may go on.")] = 300.0


class LogSettings(Value, frozen=True, kw_only=True):
    """What the server says, on standard error, and the audit."""

    format: Annotated[Literal["auto", "json", "pretty"], _says("auto: pretty on a terminal, json otherwise.")] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], _says("The least that is said.")] = "info"
    audit: Annotated[str, _says("File that gets one JSON line for each change asked for; empty: into the log.")] = ""


class TelemetrySettings(Value, frozen=True, kw_only=True):
    """Metrics and traces; both off unless set."""

    metrics: Annotated[
        str, _says("ADDRESS:PORT or PORT (on loopback) where Prometheus reads /metrics; empty: off.")
    ] = ""
    otlp: Annotated[str, _says("OTLP/gRPC endpoint for OpenTelemetry spans, as http://HOST:4317; empty: off.")] = ""


class HistorySettings(Value, frozen=True, kw_only=True):
    """How far back watches may resume and pages may read."""

    changes: Annotated[Count, _says("Changes that are remembered.")] = 100_000
    bytes: Annotated[Annotated[int, Meta(ge=1 << 20)], _says("Memory that they may hold on to.")] = 256 << 20
    period_s: Annotated[Seconds, _says("How often older changes are compacted away.")] = 30.0


class ServerSettings(Value, frozen=True, kw_only=True):
    """Everything. The defaults of ``listen``, ``store`` and ``holder`` depend on who runs it, where: ``configure``."""

    listen: Annotated[
        tuple[str, ...], _says("unix:PATH and tcp:HOST:PORT; TCP needs tls.cert, tls.key and tls.client_ca.")
    ] = ()
    store: Annotated[str, _says("Where objects are kept: sqlite:PATH, etcd:HOST:PORT,...[/PREFIX], memory.")] = ""
    holder: Annotated[str, _says("This server's name among those on one store; must be unique.")] = ""
    authorisation: Annotated[
        str, _says("TOML file of who may do what; without it the socket's identity everything, others nothing.")
    ] = ""
    read_only: Annotated[bool, _says("Refuse every request that changes objects.")] = False
    reflection: Annotated[bool, _says("Answer server reflection on TCP, too; on the unix socket it always is.")] = False
    insecure_loopback: Annotated[
        bool,
        _says("For tests: TCP on a loopback address without TLS. Everybody on the machine is the socket's identity."),
    ] = False
    socket: SocketSettings = SocketSettings()
    tls: TlsSettings = TlsSettings()
    northbound: NorthboundSettings = NorthboundSettings()
    southbound: DatabaseSettings = DatabaseSettings()
    etcd: EtcdSettings = EtcdSettings()
    dns: DnsSettings = DnsSettings()
    certificates: CertificateSettings = CertificateSettings()
    egress_ip: EgressIPSettings = EgressIPSettings()
    limits: LimitSettings = LimitSettings()
    keepalive: KeepaliveSettings = KeepaliveSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    history: HistorySettings = HistorySettings()
