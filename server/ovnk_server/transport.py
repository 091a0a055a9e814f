"""Sockets and certificates: what stands between the network and the service.

The unix socket lives in a directory that only its owner, or a group, may enter: that is the whole protection, so a
directory that others may enter or that is not ours is refused. TCP is mutual TLS; certificates are looked at every
second and given to the next handshake, but only as a pair that fits: while a key or a certificate is being replaced,
the pair before it stays in use.

grpcio offers no minimum version of TLS: 1.2 can be negotiated, with the authenticated ciphers below alone.
"""

from __future__ import annotations

import grp
import os
import resource
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import grpc

from ovnk_core.errors import OvnkError
from ovnk_server.settings import TlsSettings

CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
CIPHERS += "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
"""For TLS 1.2; the ciphers of 1.3 are not configurable and all authenticated."""


class ListenError(OvnkError):
    """The server cannot listen where it is to; the message says why and what to do."""

    is_usage = True


def prepare_environment() -> None:
    """What grpcio's core reads from the environment, once, when it starts: before the first use of grpc."""
    os.environ["GRPC_SSL_CIPHER_SUITES"] = CIPHERS
    # Garbage on a port would otherwise be a line on stderr for each connection, in a format of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def raise_file_limit() -> int:
    """As many open files as the system allows us; how many. Connections need one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


# ------------------------------------------------------------------------------------------ unix socket


def prepare_socket(path: str, group: str) -> None:
    """Make or check the directory of a socket, and remove a socket that nobody answers on. Raises ListenError."""
    directory = Path(path).parent
    group_id = _group_id(group)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise ListenError(f"{directory}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ListenError(f"{directory} is no directory")
    if found.st_uid != os.geteuid():
        raise ListenError(f"{directory} belongs to user {found.st_uid}, not to us: give the socket a directory of ours")
    if group_id is not None:
        try:
            os.chown(directory, -1, group_id)
            directory.chmod(0o750)
        except OSError as error:
            raise ListenError(f"{directory}: cannot be given to the group {group}: {error.strerror}") from error
    elif found.st_mode & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise ListenError(f"{directory} has mode {mode}: others may enter it; make it 0700, or set socket.group")
    _clear(path)


def _group_id(group: str) -> int | None:
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"socket.group: there is no group {group}") from None


def _clear(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} exists and is no socket: remove it, or listen elsewhere")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise ListenError(f"{path}: {error.strerror or 'no answer'}; remove it if nobody uses it") from error
    raise ListenError(f"{path}: another server answers there: stop it, or listen elsewhere")


def protect_socket(path: str, group: str) -> None:
    """After binding: the mode of the socket itself, which a group needs to connect."""
    group_id = _group_id(group)
    if group_id is not None:
        os.chown(path, -1, group_id)
    Path(path).chmod(0o600 if group_id is None else 0o660)


# ------------------------------------------------------------------------------------------ certificates


class Certificates:
    """The server's certificate pair and the authorities of clients, reloaded when the files change.

    ``told`` hears of reloads, and of files that cannot be used (once each).
    """

    def __init__(self, files: TlsSettings, told: Callable[[str], None] = lambda text: None) -> None:
        self._files, self._told = files, told
        self._fault = ""
        self._content = self._read()
        self.configuration = _configuration(self._content)

    def credentials(self) -> grpc.ServerCredentials:
        """For one ``add_secure_port``: clients must show a certificate of ``tls.client_ca``."""
        given = self.configuration

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # grpcio asks before each handshake. Files are read by ``refresh``, never here.
            nonlocal given
            if given is self.configuration:
                return None
            given = self.configuration
            return given

        return grpc.dynamic_ssl_server_credentials(
            given,
            fetch,  # type: ignore[arg-type]  # None means no change, which the stubs do not know
            require_client_authentication=True,
        )

    def refresh(self) -> bool:
        """Look at the files; whether the next handshake uses new ones. Never raises."""
        try:
            content = self._read()
        except ListenError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                self._told(f"{error}; the certificate before it stays in use")
            return False
        self._fault = ""
        if content == self._content:
            return False
        self._content = content
        self.configuration = _configuration(content)
        self._told(f"{self._files.cert}: the next connections get the new certificate")
        return True

    def _read(self) -> tuple[bytes, ...]:
        """The files' content, checked as a whole. Raises ListenError."""
        files = self._files
        before = _contents(files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(files.cert, files.key, password=_refuse_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ListenError(
                f"{files.cert} and {files.key} are not a certificate and its unencrypted key ({reason})"
            ) from error
        try:
            context.load_verify_locations(cadata=before[2].decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise ListenError(f"{files.client_ca} holds no certificate authority") from error
        # What was checked is what was read only if nothing changed in between.
        if _contents(files) != before:
            raise ListenError(f"{files.cert}, {files.key} and {files.client_ca} are being written")
        return before


def _contents(files: TlsSettings) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for path in (files.cert, files.key, files.client_ca):
        try:
            found.append(Path(path).read_bytes())
        except OSError as error:
            raise ListenError(f"{path}: {error.strerror}") from error
    return tuple(found)


def _configuration(content: tuple[bytes, ...]) -> grpc.ServerCertificateConfiguration:
    cert, key, authorities = content
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=authorities)


def _refuse_password() -> str:
    # Without this, OpenSSL asks on the terminal and everything waits for an answer.
    return ""
