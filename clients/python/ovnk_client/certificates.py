"""Certificates of nodes for IPsec: for an adapter on a node that asks for its own, and for whoever looks after them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ovnk_api.v1.certificate_service_pb2 import (
    GetAuthorityRequest,
    GetAuthorityResponse,
    GetCertificateStatusRequest,
    GetCertificateStatusResponse,
    RotateAuthorityRequest,
    RotateAuthorityResponse,
    SignCertificateRequest,
    SignCertificateResponse,
)
from ovnk_api.v1.certificate_service_pb2_grpc import CertificateServiceStub

from ovnk_client.connection import Connection

if TYPE_CHECKING:
    # A name of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.certificate_service_pb2_grpc import CertificateServiceAsyncStub

SIGNER, USAGE = "network.openshift.io/signer", "ipsec tunnel"


class CertificateCalls(Connection):
    """What a client asks of CertificateService."""

    @property
    def _certificates(self) -> CertificateServiceAsyncStub:
        return CertificateServiceStub(self.channel)

    async def authority(self) -> GetAuthorityResponse:
        """What nodes are to trust. Ask at least once a month: a successor is trusted 90 days before it signs."""
        return await self.ask(self._certificates.GetAuthority, GetAuthorityRequest())

    async def sign_certificate(
        self, node: str, signing_request: str, *, signer_name: str = SIGNER, usages: Iterable[str] = (USAGE,)
    ) -> SignCertificateResponse:
        """A certificate for a node's key. ``signing_request`` is PKCS#10 in PEM. Raises Refused where it is not for the
        chassis of that node."""
        request = SignCertificateRequest(
            node=node, signing_request=signing_request, signer_name=signer_name, usages=usages
        )
        return await self.ask(self._certificates.SignCertificate, request)

    async def certificate_status(self) -> GetCertificateStatusResponse:
        """How traffic is encrypted, and when certificates end."""
        return await self.ask(self._certificates.GetCertificateStatus, GetCertificateStatusRequest())

    async def rotate_authority(self) -> RotateAuthorityResponse:
        """Make the next authority."""
        return await self.ask(self._certificates.RotateAuthority, RotateAuthorityRequest(), repeats=False)
