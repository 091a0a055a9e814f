"""Why a TLS connection does not come about. gRPC tells of one address of several, and of refused certificates nothing,
so the handshake is made once more, by Python, when a call has failed."""

from __future__ import annotations

import asyncio
import ssl

from ovnk_client.channel import Tls, host_and_port

PROBE_S = 2.0


async def tls_fault(address: str, tls: Tls | None) -> str:
    """What is wrong with the certificates of either side at ``HOST:PORT``; empty where they are not to blame. Takes at
    most ``PROBE_S`` seconds."""
    host, port = host_and_port(address)
    if tls is None:
        wants_tls = await _speaks_tls(host, port)
        return "the server wants TLS: give an authority, a certificate and its key" if wants_tls else ""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        return f"{tls.ca}, {tls.cert} and {tls.key} cannot be used: {_words(error)}"
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=tls.name or host)
            try:
                # A server speaks first. In TLS 1.3 it looks at our certificate after our part of the handshake is over.
                is_accepted = bool(await reader.read(1))
            finally:
                writer.close()
    except ssl.SSLCertVerificationError as error:
        return f"the server's certificate does not hold against {tls.ca}: {error.verify_message.rstrip('.')}"
    except ssl.SSLError as error:
        return f"the TLS handshake failed: {_words(error)}"
    except (OSError, TimeoutError):
        return ""
    return "" if is_accepted else f"the server ended the TLS handshake: it does not accept our certificate {tls.cert}"


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether the server completes a handshake; with which certificate does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
