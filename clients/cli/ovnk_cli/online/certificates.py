"""Certificates on a server, as a folder's are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any, cast

from ovnk_api.v1.certificate_service_pb2 import CertificateStatus
from ovnk_client import Client

from ovnk_core.certificates.office import Standing, State
from ovnk_core.certificates.signing import Request

Standings = tuple[Standing, ...]


def authority(is_rotated: bool) -> Callable[[Client], Awaitable[tuple[str, Standings]]]:
    """What nodes are to trust, in PEM, and what is known of each; after a rotation if one is wanted."""

    async def run(client: Client) -> tuple[str, Standings]:
        if is_rotated:
            await client.rotate_authority()
        found = await client.authority()
        return found.bundle, tuple(map(_standing, found.authorities))

    return run


def signed(asked: Request) -> Callable[[Client], Awaitable[tuple[str, Standing]]]:
    """A node's certificate in PEM, and what is known of it."""

    async def run(client: Client) -> tuple[str, Standing]:
        # What is no text is no request either: the server says so.
        text = asked.pem.decode(errors="replace")
        found = await client.sign_certificate(asked.node, text, signer_name=asked.signer, usages=asked.usages)
        return found.certificate, _standing(found.status)

    return run


async def standings(client: Client) -> tuple[Standings, Standings, dict[str, Any]]:
    """Authorities, certificates of nodes, and what only a server knows: whether the cluster has IPsec, and the nodes
    without a certificate."""
    found = await client.certificate_status()
    more = {"enabled": found.is_enabled, "missing": list(found.missing_nodes)}
    return tuple(map(_standing, found.authorities)), tuple(map(_standing, found.nodes)), more


def _standing(each: CertificateStatus) -> Standing:
    return Standing(
        node=each.node,
        subject=each.subject,
        serial=each.serial,
        valid_from=each.valid_from_time.ToDatetime(tzinfo=UTC),
        valid_until=each.expire_time.ToDatetime(tzinfo=UTC),
        renew_at=each.renew_time.ToDatetime(tzinfo=UTC),
        fingerprint=each.fingerprint,
        is_signing=each.is_signing,
        state=cast(State, each.state),
    )
