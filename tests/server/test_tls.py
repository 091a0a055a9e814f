"""Mutual TLS: who gets in with which certificate, as whom, and what happens when files are replaced."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from ovnk_api.v1 import object_service_pb2, object_service_pb2_grpc
from ovnk_server import access
from ovnk_server.front import Front
from ovnk_server.settings import LimitSettings, ServerSettings, TlsSettings
from ovnk_server.telemetry import Telemetry

from tests.kit.certificates import Authority, Issued

ANN, RULES = "spiffe://x/ann", "[[rule]]\nidentities = ['spiffe://x/ann']\nverbs = ['get']\n"
HOUR = datetime.timedelta(hours=1)


class Objects(object_service_pb2_grpc.ObjectServiceServicer):
    """Get answers whoever may."""

    async def Get(self, request: object_service_pb2.GetRequest, context: object) -> object_service_pb2.GetResponse:
        access.caller().require("get", "Pod", "shop")
        return object_service_pb2.GetResponse(revision=1)


class Stand:
    """A front on TCP; ``authority`` is whom it trusts, and where its own certificate is from."""

    def __init__(self, directory: Path) -> None:
        self.authority, self.stranger = Authority(directory, "ca"), Authority(directory, "stranger")
        self.issued = self.authority.issue("server")
        rules = directory / "rules.toml"
        rules.write_text(RULES)
        tls = TlsSettings(cert=self.issued.certificate, key=self.issued.key, client_ca=self.authority.file)
        settings = ServerSettings(
            listen=("tcp:127.0.0.1:0",), tls=tls, authorisation=str(rules), limits=LimitSettings(stop_s=1.0)
        )
        self.front = Front(settings, Telemetry())
        object_service_pb2_grpc.add_ObjectServiceServicer_to_server(Objects(), self.front.switchboard)
        self.front.gate.closed = None

    async def get(self, client: Issued | None, trusted: str = "") -> str:
        """How a Get ends: ``OK`` or a code."""
        root = Path(trusted or self.authority.file).read_bytes()
        pair = [Path(client.key).read_bytes(), Path(client.certificate).read_bytes()] if client else []
        where = "localhost:" + next(iter(self.front.addresses.values())).rpartition(":")[2]
        # Without this, grpcio keeps one connection for all channels to the same place.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(where, grpc.ssl_channel_credentials(root, *pair), alone) as channel:
            try:
                stub = object_service_pb2_grpc.ObjectServiceStub(channel)
                await stub.Get(object_service_pb2.GetRequest(), timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return "OK"


@asynccontextmanager
async def stand(directory: Path) -> AsyncIterator[Stand]:
    made = Stand(directory)
    await made.front.start()
    try:
        yield made
    finally:
        await made.front.close()


@pytest.mark.asyncio
async def test_who_gets_in(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        good, bad = at.authority.issue, at.stranger.issue
        matrix = {
            "good": (good("ann", uris=[ANN]), "OK"),
            "nobody": (None, "UNAVAILABLE"),
            "wrong authority": (bad("ann-2", uris=[ANN]), "UNAVAILABLE"),
            "expired": (good("ann-3", uris=[ANN], ends_in=-HOUR), "UNAVAILABLE"),
            "no URI": (good("ann-4"), "UNAUTHENTICATED"),
            "common name only": (good("spiffe-ann", hosts=()), "UNAUTHENTICATED"),
            "two URIs": (good("ann-5", uris=[ANN, "spiffe://x/admin"]), "UNAUTHENTICATED"),
            "URI as a DNS name": (good("ann-6", hosts=["ann.example"]), "UNAUTHENTICATED"),
            "another identity": (good("bob", uris=["spiffe://x/bob"]), "PERMISSION_DENIED"),
            "a longer identity": (good("ann-7", uris=[ANN + "/more"]), "PERMISSION_DENIED"),
        }
        found = {name: await at.get(client) for name, (client, _) in matrix.items()}
        assert found == {name: expected for name, (_, expected) in matrix.items()}
        # The other way round: a client that trusts somebody else does not talk to us.
        assert await at.get(matrix["good"][0], at.stranger.file) == "UNAVAILABLE"


@pytest.mark.asyncio
async def test_replaced_certificates_are_used_by_the_next_connection(tmp_path: Path) -> None:
    async with stand(tmp_path) as at:
        ann = at.authority.issue("ann", uris=[ANN])
        assert await at.get(ann) == "OK"
        renewed = at.stranger.issue("renewed")
        shutil.copy(renewed.key, at.issued.key)
        certificates = at.front._certificates
        assert certificates is not None and not certificates.refresh()
        assert await at.get(ann) == "OK"  # a pair that does not fit is not used
        shutil.copy(renewed.certificate, at.issued.certificate)
        assert certificates.refresh()
        assert await at.get(ann) == "UNAVAILABLE"
        assert await at.get(ann, at.stranger.file) == "OK"
        # And whom we trust: from now on the stranger's clients, not ours.
        shutil.copy(at.stranger.file, at.authority.file)
        assert certificates.refresh()
        assert await at.get(ann, at.stranger.file) == "UNAVAILABLE"
        assert await at.get(at.stranger.issue("ann-2", uris=[ANN]), at.stranger.file) == "OK"


@pytest.mark.asyncio
async def test_reflection_is_off_on_tcp(tmp_path: Path) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with stand(tmp_path) as at:
        at.front._reflect()
        ann = at.authority.issue("ann", uris=[ANN])
        credentials = grpc.ssl_channel_credentials(
            Path(at.authority.file).read_bytes(), Path(ann.key).read_bytes(), Path(ann.certificate).read_bytes()
        )
        where = "localhost:" + next(iter(at.front.addresses.values())).rpartition(":")[2]
        async with grpc.aio.secure_channel(where, credentials) as channel:
            ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            stream = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(stream.read(), 10)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
