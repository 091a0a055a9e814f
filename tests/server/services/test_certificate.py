"""CertificateService: known nodes get certificates, nobody else does, and the authority's key stays where it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from ovnk_api.v1 import certificate_service_pb2 as pb
from ovnk_api.v1 import certificate_service_pb2_grpc
from ovnk_client import Client, Refused
from ovnk_server.audit import refs_of
from ovnk_server.authorisation import Rule, RulePolicy
from ovnk_server.methods import method_of
from ovnk_server.services.certificate import CertificateService
from structlog.testing import capture_logs

from ovnk_core.certificates.office import Office
from ovnk_core.certificates.signing import SIGNER, USAGE, make_request
from ovnk_core.keeper.proposal import Put
from tests.kit import manifest as m
from tests.kit.hybrid import operator
from tests.kit.served import Stand, served

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def opened(folder: Path | None, clock: Clock | None = None) -> AsyncIterator[Stand]:
    """A server of two nodes; the first has a chassis id of its own."""
    async with served(folder=str(folder or ""), now=clock or Clock()) as stand:
        node = m.node("n1", {"node-chassis-id": "chassis-1"})
        objects = (operator({"ipsecConfig": {}}), node, m.node("n2", address="192.0.2.2"))
        await stand.keeper.commit(stand.keeper.request([Put(manifest=each) for each in objects]))
        yield stand


def asked(node: str = "n1", chassis: str = "chassis-1", **fields: Any) -> pb.SignCertificateRequest:
    given = {"signer_name": SIGNER, "usages": [USAGE], "signing_request": make_request(chassis, KEY).decode()}
    return pb.SignCertificateRequest(node=node, **(given | fields))


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), failure.value.details() or ""


@pytest.mark.asyncio
async def test_a_known_node_is_signed_for_and_shown(tmp_path: Path) -> None:
    async with opened(tmp_path / "ca") as stand:
        calls = (await stand.caller()).certificates
        signed = await calls.SignCertificate(asked())
        made = x509.load_pem_x509_certificate(signed.certificate.encode())
        made.verify_directly_issued_by(x509.load_pem_x509_certificate(signed.bundle.encode()))
        assert (signed.status.node, signed.status.subject) == ("n1", "chassis-1")
        found = await calls.GetCertificateStatus(pb.GetCertificateStatusRequest())
        assert (found.is_enabled, found.cipher.cipher, list(found.missing_nodes)) == (True, "AES-GCM-16-256", ["n2"])
        assert [each.node for each in found.nodes] == ["n1"]
        assert (await calls.GetAuthority(pb.GetAuthorityRequest())).bundle == signed.bundle
        await calls.SignCertificate(asked("n2", "n2"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (asked(chassis="n2"), "its common name must be chassis-1"),
        (asked("n3"), "no such node"),
        (asked("../n1"), "no such node"),
        (asked(usages=["client auth"]), "must be ipsec tunnel alone"),
        (asked(signer_name=""), "must be network.openshift.io/signer"),
        (asked(signing_request="garbage"), "is no signing request"),
    ],
)
async def test_refused(tmp_path: Path, request_: pb.SignCertificateRequest, reason: str) -> None:
    async with opened(tmp_path / "ca") as stand:
        code, text = await code_of((await stand.caller()).certificates.SignCertificate(request_))
        assert (code, reason in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text
        assert not list((tmp_path / "ca").glob("*.crt"))


def questions(calls: Any) -> dict[str, Callable[[], Any]]:
    """Every call of the service, by the verb that it needs."""
    return {
        "get": lambda: calls.GetAuthority(pb.GetAuthorityRequest()),
        "list": lambda: calls.GetCertificateStatus(pb.GetCertificateStatusRequest()),
        "sign": lambda: calls.SignCertificate(asked()),
        "rotate": lambda: calls.RotateAuthority(pb.RotateAuthorityRequest()),
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["get", "list", "sign", "rotate"])
async def test_each_call_has_a_verb_of_its_own(tmp_path: Path, verb: str) -> None:
    async with opened(tmp_path / "ca") as stand:
        rule = Rule(identities=("local",), verbs=(verb,), kinds=("Certificate",))
        calls = questions((await stand.caller(policy=RulePolicy((rule,)))).certificates)
        for each, call in calls.items():
            if each == verb:
                await call()
            else:
                assert (await code_of(call()))[0] == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.asyncio
async def test_whoever_may_do_all_else_may_do_nothing_here(tmp_path: Path) -> None:
    others = (
        Rule(identities=("local",), verbs=("*",), kinds=("Node", "EgressIP", "Network"), namespaces=("",)),
        Rule(identities=("local",), verbs=("admin", "egress", "apply", "northbound")),
        Rule(identities=("local",), verbs=("*",), namespaces=("project1",)),
    )
    async with opened(tmp_path / "ca") as stand:
        for call in questions((await stand.caller(policy=RulePolicy(others))).certificates).values():
            assert (await code_of(call()))[0] == grpc.StatusCode.PERMISSION_DENIED
        assert not (tmp_path / "ca").exists(), "the folder is not even looked at"


@pytest.mark.asyncio
async def test_a_read_only_server_makes_no_authority(tmp_path: Path) -> None:
    async with opened(None) as stand:
        service = CertificateService(stand.keeper, str(tmp_path / "ca"), now=Clock(), is_read_only=True)
        stand.services = (
            *stand.services[:-1],
            (certificate_service_pb2_grpc.add_CertificateServiceServicer_to_server, service),
        )
        calls = (await stand.caller()).certificates
        assert (await code_of(calls.GetAuthority(pb.GetAuthorityRequest())))[0] == grpc.StatusCode.NOT_FOUND
        (made,) = Office(str(tmp_path / "ca")).rotate(START)
        found = await calls.GetAuthority(pb.GetAuthorityRequest())
        assert [each.serial for each in found.authorities] == [made.serial]


@pytest.mark.asyncio
async def test_successors_come_in_time_and_on_request(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ca", clock) as stand:
        calls = (await stand.caller()).certificates
        await calls.GetAuthority(pb.GetAuthorityRequest())
        clock.now += timedelta(days=5 * 365)
        found = await calls.GetAuthority(pb.GetAuthorityRequest())
        assert [each.is_signing for each in found.authorities] == [True, False]
        code, text = await code_of(calls.RotateAuthority(pb.RotateAuthorityRequest()))
        assert (code, "not signing yet" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        clock.now += timedelta(days=90)
        rotated = await calls.RotateAuthority(pb.RotateAuthorityRequest())
        assert [each.is_signing for each in rotated.authorities] == [False, True, False]


@pytest.mark.asyncio
async def test_an_expired_authority_is_not_replaced_unasked(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ca", clock) as stand:
        calls = (await stand.caller()).certificates
        await calls.SignCertificate(asked())
        clock.now += timedelta(days=10 * 365)
        for call in (calls.SignCertificate(asked()), calls.GetAuthority(pb.GetAuthorityRequest())):
            code, text = await code_of(call)
            assert (code, "no authority is valid" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        found = await calls.GetCertificateStatus(pb.GetCertificateStatusRequest())
        assert [each.state for each in (*found.authorities, *found.nodes)] == ["expired", "expired"]
        assert list(found.missing_nodes) == ["n1", "n2"]
        await calls.RotateAuthority(pb.RotateAuthorityRequest())
        await calls.SignCertificate(asked())


@pytest.mark.asyncio
async def test_a_folder_that_cannot_be_used_tells_no_path(tmp_path: Path) -> None:
    async with opened(None) as stand:
        code, text = await code_of((await stand.caller()).certificates.GetAuthority(pb.GetAuthorityRequest()))
        assert (code, "certificates.folder" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    (tmp_path / "ca").mkdir(mode=0o755)
    async with opened(tmp_path / "ca") as stand:
        code, text = await code_of((await stand.caller()).certificates.GetAuthority(pb.GetAuthorityRequest()))
        assert (code, str(tmp_path) in text) == (grpc.StatusCode.UNAVAILABLE, False)


@pytest.mark.asyncio
async def test_the_log_says_what_was_made_and_holds_no_key(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with opened(tmp_path / "ca") as stand:
            calls = (await stand.caller()).certificates
            await calls.GetAuthority(pb.GetAuthorityRequest())
            signed = await calls.SignCertificate(asked())
            await code_of(calls.SignCertificate(asked("n2")))
            (tmp_path / "ca").chmod(0o755)
            await code_of(calls.SignCertificate(asked()))
    made, given, broken = [each for each in lines if "certificate" in each["event"]]
    assert made["event"] == "certificate authority made" and made["is_signing"]
    assert (given["node"], given["chassis"], given["serial"]) == ("n1", "chassis-1", signed.status.serial)
    assert broken["event"] == "certificates cannot be used" and "chmod 0700" in broken["error"]
    secret = next((tmp_path / "ca").glob("*.pem")).read_text().partition("PRIVATE KEY")[2].split()[1]
    assert secret not in str(lines) and "PRIVATE" not in str(lines)


def test_signing_and_rotating_are_changes_for_the_audit() -> None:
    for name, is_change in (("SignCertificate", True), ("RotateAuthority", True), ("GetAuthority", False)):
        found = method_of(f"/ovnk_api.v1.CertificateService/{name}", is_stream=False)
        assert (found.is_change, found.needs_rule) == (is_change, True)
    assert list(refs_of(asked())) == ["Node/n1"]


@pytest.mark.asyncio
async def test_the_client_signs_rotates_and_looks(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ca", clock) as stand:
        await stand.caller()
        async with Client(f"unix:{stand._folder}/s1") as client:
            signed = await client.sign_certificate("n1", make_request("chassis-1", KEY).decode())
            assert (await client.authority()).bundle == signed.bundle
            clock.now += timedelta(days=90)
            assert [each.is_signing for each in (await client.rotate_authority()).authorities] == [True, False]
            assert (await client.authority()).bundle.startswith(signed.bundle), "the older one is trusted still"
            found = await client.certificate_status()
            assert [each.node for each in found.nodes] == ["n1"]
            assert found.nodes[0].fingerprint == signed.status.fingerprint
            with pytest.raises(Refused, match="no such node"):
                await client.sign_certificate("n3", make_request("n3", KEY).decode())
