"""Who calls, by the connection.

Over TLS it is the one URI among the subject alternative names of the client's certificate; common names are not
looked at. Anything else is the unix socket, whose users are who the settings say (grpcio does not tell the user of the
peer process: whoever may enter the socket's directory is that identity), or the loopback listener of tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnk_server.faults import Unauthenticated

MAX_LENGTH = 2_048
Properties = Mapping[str, Iterable[bytes]]
"""What grpcio says of a connection: ``ServicerContext.auth_context()``."""


def is_tls(properties: Properties) -> bool:
    """Whether the caller came with a certificate that was verified."""
    return b"ssl" in properties.get("transport_security_type", ())


def identity_of(properties: Properties, socket_identity: str) -> str:
    """The caller's identity. Raises Unauthenticated when the certificate names none, or several."""
    if not is_tls(properties):
        return socket_identity
    found = list(properties.get("peer_uri", ()))
    if len(found) != 1:
        told = "no URI" if not found else f"{len(found)} URIs"
        fix = "get one with exactly one URI, which says who you are"
        raise Unauthenticated(f"the certificate has {told} among its subject alternative names; {fix}")
    try:
        text = found[0].decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > MAX_LENGTH or not text.isprintable() or "*" in text:
        raise Unauthenticated("the URI in the certificate is empty, too long, or holds characters no URI has")
    return text
