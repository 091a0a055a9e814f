"""TLS towards an OVSDB server: both sides show a certificate, and ours looks at the name in the other's.

Certificates are short-lived and replaced on disk, so what is configured are the files: each connection reads them
anew, and the one after a replacement uses the new ones. OVS itself checks the authority only; we also demand that the
name or address we dialled, or the one configured, is among the certificate's subject alternative names. Certificates
that carry a common name and nothing else (``ovs-pki`` makes such) are refused; a caller who must live with them passes
an ``ssl.SSLContext`` of his own.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ovnk_core.errors import Unreachable
from ovnk_core.terms.struct import Value


class TlsFiles(Value, frozen=True, kw_only=True):
    """PEM files: authorities the server's certificate may come from, our certificate (chain), its key.

    ``server_name``: the DNS name or address the server's certificate must carry; empty: the host of the remote.
    """

    ca: str
    certificate: str
    key: str
    server_name: str = ""


Tls = TlsFiles | ssl.SSLContext | None


def context(files: TlsFiles) -> ssl.SSLContext:
    """A client's context from the files as they are now. Raises Unreachable naming the file."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.hostname_checks_common_name = False
    for path in (files.ca, files.certificate, files.key):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise Unreachable(f"TLS file {path}: {error.strerror}") from error
    try:
        made.load_verify_locations(cafile=files.ca)
    except ssl.SSLError as error:
        raise Unreachable(f"TLS file {files.ca} holds no certificate authority") from error
    try:
        made.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except ssl.SSLError as error:
        what = (
            "do not belong together"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "are not a certificate and its unencrypted key"
        )
        raise Unreachable(f"TLS files {files.certificate} and {files.key} {what}") from error
    return made


def _refuse_password() -> str:
    # Without this, OpenSSL asks on the terminal and the whole loop waits for an answer.
    return ""


def context_of(tls: Tls) -> tuple[ssl.SSLContext, str]:
    """What is configured -> the context of one connection and the server name to demand (empty: the host).

    Nothing configured: the authorities of the system, and no certificate of ours.
    """
    if isinstance(tls, TlsFiles):
        return context(tls), tls.server_name
    return tls or ssl.create_default_context(), ""


def spoken(error: OSError) -> str:
    """Why a connection failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, ConnectionResetError) and not error.args:
        return "the handshake was cut off; perhaps the server speaks no TLS, or an old one"
    return error.strerror or str(error) or type(error).__name__
