"""Certificates of nodes for IPsec: signed for known nodes by an authority whose key stays in a folder of the server.

Several servers need one folder between them (a shared file system with locks), else each is an authority of its own.
Files are read and RSA keys are made in threads: neither is to hold up the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from ovnk_api.v1 import certificate_service_pb2 as pb
from ovnk_api.v1 import certificate_service_pb2_grpc

from ovnk_core.certificates.keeping import KeepingError
from ovnk_core.certificates.office import CIPHER, ICV_BYTES, KEY_BITS, MODE, Office, Standing, missing
from ovnk_core.certificates.signing import Request
from ovnk_core.errors import TransitionError
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.model.tables import NODE, cluster_key
from ovnk_server import access
from ovnk_server.convert import timestamp
from ovnk_server.faults import NotReady
from ovnk_server.log import LOGGER

_KIND = "Certificate"
"""What authorisation calls authorities and certificates: whoever may read nodes has nothing to do with these."""
T = TypeVar("T")


class CertificateService(certificate_service_pb2_grpc.CertificateServiceServicer):
    """See ``certificate_service.proto``. ``folder`` empty: nothing is signed here. ``is_read_only``: asking for the
    authority makes none."""

    def __init__(
        self,
        keeper: Keeper,
        folder: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_read_only: bool = False,
    ) -> None:
        self._keeper, self._folder, self._now, self._is_read_only = keeper, folder, now, is_read_only

    async def GetAuthority(self, request: pb.GetAuthorityRequest, context: Any) -> pb.GetAuthorityResponse:
        access.caller().require("get", _KIND)
        now = self._now()

        def work(office: Office) -> tuple[tuple[Standing, ...], bytes]:
            # Nodes fetch this again and again, which is what makes successors in time.
            found = office.authorities(now) if self._is_read_only else office.rotate(now, only_if_due=True)
            return found, office.bundle(now)

        found, bundle = await self._ask(work)
        return pb.GetAuthorityResponse(bundle=bundle.decode(), authorities=map(_status, found))

    async def SignCertificate(self, request: pb.SignCertificateRequest, context: Any) -> pb.SignCertificateResponse:
        access.caller().require("sign", _KIND)
        asked = Request(
            node=request.node,
            pem=request.signing_request.encode(),
            signer=request.signer_name,
            usages=tuple(request.usages),
        )
        node, now = self._keeper.plane.cluster.engine.rows(NODE).get(cluster_key(request.node)), self._now()
        chassis = node.certified if node is not None else None
        issued = await self._ask(lambda office: office.sign(asked, chassis, now))
        made = issued.standing
        LOGGER.info("certificate signed", node=made.node, chassis=made.subject, serial=made.serial)
        return pb.SignCertificateResponse(
            certificate=issued.certificate.decode(), bundle=issued.bundle.decode(), status=_status(issued.standing)
        )

    async def GetCertificateStatus(
        self, request: pb.GetCertificateStatusRequest, context: Any
    ) -> pb.GetCertificateStatusResponse:
        access.caller().require("list", _KIND)
        now = self._now()
        chassis = self._chassis()
        authorities, nodes = await self._ask(
            lambda office: (office.authorities(now, is_every=True), office.nodes(now, chassis))
        )
        return pb.GetCertificateStatusResponse(
            is_enabled=self._keeper.plane.cluster.network.has_ipsec,
            cipher=pb.CipherFacts(cipher=CIPHER, icv_bytes=ICV_BYTES, key_bits=KEY_BITS, mode=MODE),
            authorities=map(_status, authorities),
            nodes=map(_status, nodes.values()),
            missing_nodes=missing(chassis, nodes),
        )

    async def RotateAuthority(self, request: pb.RotateAuthorityRequest, context: Any) -> pb.RotateAuthorityResponse:
        access.caller().require("rotate", _KIND)
        now = self._now()
        return pb.RotateAuthorityResponse(authorities=map(_status, await self._ask(lambda office: office.rotate(now))))

    def _chassis(self) -> dict[str, str]:
        """Chassis id of every node that takes part in tunnels, by node."""
        nodes = self._keeper.plane.cluster.engine.rows(NODE).values()
        return {each.name: each.certified for each in nodes if each.certified}

    async def _ask(self, work: Callable[[Office], T]) -> T:
        if not self._folder:
            raise TransitionError("this server has no folder for certificates (certificates.folder)")
        try:
            return await asyncio.to_thread(lambda: work(Office(self._folder, told=_log_authority)))
        except KeepingError as error:
            # It names a path of ours.
            LOGGER.error("certificates cannot be used", error=str(error))
            raise NotReady("the folder of certificates cannot be used; the server's log tells why") from None


def _log_authority(made: Standing) -> None:
    """Who asked does not matter: it is due, or the audit says who wanted it."""
    LOGGER.info("certificate authority made", subject=made.subject, serial=made.serial, is_signing=made.is_signing)


def _status(each: Standing) -> pb.CertificateStatus:
    return pb.CertificateStatus(
        node=each.node,
        subject=each.subject,
        serial=each.serial,
        valid_from_time=timestamp(each.valid_from.timestamp()),
        expire_time=timestamp(each.valid_until.timestamp()),
        renew_time=timestamp(each.renew_at.timestamp()),
        fingerprint=each.fingerprint,
        is_signing=each.is_signing,
        state=each.state,
    )
