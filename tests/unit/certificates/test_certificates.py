"""Certificates of nodes: who gets one, twelve years of renewals, crashes while writing, openssl's word."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from ovnk_core.certificates.authority import PEM, YEAR, Authority, is_valid, make_authority, read_authority
from ovnk_core.certificates.keeping import Folder, KeepingError
from ovnk_core.certificates.office import Office, missing
from ovnk_core.certificates.rotation import OVERLAP, plan, renewal_of_authority, renewal_of_node
from ovnk_core.certificates.signing import NODE_LIFE, Request, make_request, sign
from ovnk_core.errors import NotFound, SchemaError, TransitionError

START = datetime(2021, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHASSIS = "0d3e1c52-7f0e-4d0a-9a53-2b8f2f6f0001"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def asked(pem: bytes | None = None, **changes: Any) -> Request:
    return Request(**{"node": "n1", "pem": make_request(CHASSIS, KEY) if pem is None else pem} | changes)


def request(
    names: list[x509.GeneralName], key: Any = KEY, common: tuple[str, ...] = (CHASSIS,), *extra: x509.ExtensionType
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common])
    builder = x509.CertificateSigningRequestBuilder(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for each in extra:
        builder = builder.add_extension(each, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(START)


def test_lifetimes_and_contents_of_15_4_3(authority: Authority) -> None:
    root = authority.certificate
    assert root.not_valid_after_utc - root.not_valid_before_utc == 10 * YEAR
    assert root.issuer == root.subject
    made = sign(authority, asked(), CHASSIS, START + DAY)
    assert made.not_valid_after_utc - made.not_valid_before_utc == 5 * YEAR
    assert renewal_of_node(made) - made.not_valid_before_utc == 4.5 * YEAR
    assert made.issuer == root.subject
    assert isinstance(made.signature_hash_algorithm, hashes.SHA512)
    assert made.public_key() == KEY.public_key()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [CHASSIS]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


OTHER = "0d3e1c52-7f0e-4d0a-9a53-2b8f2f6f0002"
DNS = [x509.DNSName(CHASSIS)]
REFUSED = [
    ("another node's name", asked(make_request(OTHER, KEY)), CHASSIS, "its common name must be"),
    ("another alternative name", asked(request([x509.DNSName(OTHER)])), CHASSIS, "only subject alternative name"),
    ("one name more", asked(request([*DNS, x509.DNSName(OTHER)])), CHASSIS, "only subject alternative name"),
    ("a URI", asked(request([x509.UniformResourceIdentifier(CHASSIS)])), CHASSIS, "only subject alternative name"),
    ("no alternative name", asked(request([])), CHASSIS, "only subject alternative name"),
    ("two common names", asked(request(DNS, KEY, (CHASSIS, OTHER))), CHASSIS, "its common name must be"),
    (
        "wants to be an authority",
        asked(request(DNS, KEY, (CHASSIS,), x509.BasicConstraints(ca=True, path_length=None))),
        CHASSIS,
        "only subject alternative name",
    ),
    ("unknown node", asked(), None, "no such node"),
    ("Windows node", asked(), "", "is a Windows node: its tunnels have no IPsec"),
    ("wrong usage", asked(usages=("client auth",)), CHASSIS, "must be ipsec tunnel alone"),
    ("one usage more", asked(usages=("ipsec tunnel", "server auth")), CHASSIS, "must be ipsec tunnel alone"),
    ("no usage", asked(usages=()), CHASSIS, "must be ipsec tunnel alone"),
    ("another signer", asked(signer="kubernetes.io/kubelet-serving"), CHASSIS, "must be network.openshift.io/signer"),
    ("garbage", asked(b"-----BEGIN CERTIFICATE REQUEST-----\nxx\n"), CHASSIS, "is no signing request"),
    ("nothing", asked(b""), CHASSIS, "is no signing request"),
    ("huge", asked(b"x" * 20_000), CHASSIS, "is larger than"),
    (
        "short key",
        asked(request(DNS, rsa.generate_private_key(public_exponent=65537, key_size=1024))),
        CHASSIS,
        "needs RSA of 2048",
    ),
    ("other kind of key", asked(request(DNS, ed25519.Ed25519PrivateKey.generate())), CHASSIS, "needs an RSA key"),
]


@pytest.mark.parametrize(("given", "chassis", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_requests(authority: Authority, given: Request, chassis: str | None, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        sign(authority, given, chassis, START)


def test_a_request_signed_with_another_key_is_refused(authority: Authority) -> None:
    good = x509.load_pem_x509_csr(make_request(CHASSIS, KEY))
    forged = bytearray(good.public_bytes(PEM.DER))
    forged[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(forged)).public_bytes(PEM)
    with pytest.raises(SchemaError, match="not signed with its own key"):
        sign(authority, asked(pem), CHASSIS, START)


def openssl_request(folder: Path, chassis: str, *options: str) -> bytes:
    """A request as the operator's script makes it on each node."""
    key, subject = str(folder / "key.pem"), f"/C=US/O=ovnkubernetes/OU=kind/CN={chassis}"
    words = ["openssl", "req", "-new", "-text", "-addext", f"subjectAltName = DNS:{chassis}", "-subj", subject]
    words += ["-newkey", "rsa:2048", "-nodes", "-keyout", key, *options]
    return subprocess.run(words, check=True, capture_output=True, timeout=60).stdout


V3_REQ = ("-addext", "basicConstraints = CA:FALSE", "-addext", "keyUsage = digitalSignature, keyEncipherment")


@pytest.mark.parametrize("options", [("-extensions", "v3_req"), V3_REQ])
def test_of_a_longer_subject_and_usages_only_the_common_name_is_signed(
    tmp_path: Path, authority: Authority, options: tuple[str, ...]
) -> None:
    """Newer openssl asks for what its section v3_req holds."""
    made = sign(authority, asked(openssl_request(tmp_path, CHASSIS, *options)), CHASSIS, START)
    assert made.subject.rfc4514_string() == f"CN={CHASSIS}"


def test_a_broken_hash_is_named(tmp_path: Path, authority: Authority) -> None:
    pem = openssl_request(tmp_path, CHASSIS, "-sha1")
    with pytest.raises(SchemaError, match=r"is signed with a broken hash \(got 2048 bits, sha1\)"):
        sign(authority, asked(pem), CHASSIS, START)


def test_an_elliptic_curve_will_do(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert sign(authority, asked(request(DNS, key)), CHASSIS, START).public_key() == key.public_key()


@pytest.mark.parametrize("now", [START - DAY, START + 10 * YEAR, START + 11 * YEAR])
def test_an_authority_signs_in_its_own_time_only(authority: Authority, now: datetime) -> None:
    with pytest.raises(TransitionError, match="the authority is valid until 2031"):
        sign(authority, asked(), CHASSIS, now)


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    made = sign(authority, asked(), CHASSIS, START + 6 * YEAR)
    assert made.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert renewal_of_node(made) == made.not_valid_after_utc - 0.5 * YEAR


# ------------------------------------------------------------------------------------------ twelve years


def run_years(step: timedelta, late: timedelta) -> int:
    """Nodes fetch what they trust and renew up to ``late`` after they should. The number of authorities."""
    authorities, known = [make_authority(START)], ("n1", "n2", "n3")
    trusts: dict[str, list[x509.Certificate]] = {name: [authorities[0].certificate] for name in known}
    shows = {name: sign(authorities[0], asked(node=name), CHASSIS, START) for name in known}
    lag = {name: late * index / (len(known) - 1) for index, name in enumerate(known)}
    fetched = dict.fromkeys(known, START)
    verified: set[tuple[int, int]] = set()
    now = START
    while now < START + 12 * YEAR:
        now += step
        chosen = plan([each.certificate for each in authorities], now)
        if chosen.needs_authority:
            authorities.append(make_authority(now))
            chosen = plan([each.certificate for each in authorities], now)
        assert chosen.signing is not None
        for name in known:
            if now >= fetched[name] + lag[name]:
                fetched[name] = now
                trusts[name] = [authorities[index].certificate for index in chosen.trusted]
            if now >= renewal_of_node(shows[name]) + lag[name]:
                shows[name] = sign(authorities[chosen.signing], asked(node=name), CHASSIS, now)
                assert is_valid(shows[name], now + NODE_LIFE - DAY), "never cut short while all goes as planned"
        for mine in known:
            assert is_valid(shows[mine], now), f"{mine} at {now}"
            for other in known:
                issuers = [each for each in trusts[other] if each.subject == shows[mine].issuer and is_valid(each, now)]
                assert issuers, f"{other} does not trust what {mine} shows at {now}"
                pair = shows[mine].serial_number, issuers[0].serial_number
                if pair not in verified:
                    shows[mine].verify_directly_issued_by(issuers[0])
                    verified.add(pair)
    return len(authorities)


@pytest.mark.parametrize("late", [timedelta(0), DAY, OVERLAP - 2 * DAY], ids=["punctual", "a day late", "88 days late"])
def test_twelve_years_without_a_gap(late: timedelta) -> None:
    assert run_years(DAY, late) == 3


def test_the_clock_may_jump_over_an_expired_authority(authority: Authority) -> None:
    now = START + 10 * YEAR
    found = plan([authority.certificate], now)
    assert (found.signing, found.trusted, found.needs_authority) == (None, (), True)
    after = plan([authority.certificate, make_authority(now).certificate], now)
    assert (after.signing, after.trusted, after.needs_authority) == (1, (1,), False)


def test_a_successor_is_trusted_before_it_signs(authority: Authority) -> None:
    due = renewal_of_authority(authority.certificate)
    assert not plan([authority.certificate], due - timedelta(seconds=1)).needs_authority
    assert plan([authority.certificate], due).needs_authority
    both = [authority.certificate, make_authority(due).certificate]
    assert plan(both, due).signing == plan(both, due + OVERLAP - DAY).signing == 0
    assert plan(both, due).trusted == plan(both, due + OVERLAP).trusted == (0, 1)
    assert plan(both, due + OVERLAP).signing == 1
    assert due + OVERLAP + NODE_LIFE <= authority.certificate.not_valid_after_utc


# ------------------------------------------------------------------------------------------ files


def test_the_office_keeps_what_it_made(tmp_path: Path) -> None:
    office = Office(str(tmp_path / "ca"))
    with pytest.raises(NotFound):
        office.bundle(START)
    issued = office.sign(asked(), CHASSIS, START)
    again = Office(str(tmp_path / "ca"))
    assert again.bundle(START) == issued.bundle
    assert dict(again.nodes(START)) == {"n1": issued.standing}
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "ca").glob("*.pem")} == {"0o600"}
    assert oct((tmp_path / "ca").stat().st_mode & 0o777) == "0o700"
    first, second = again.rotate(START + DAY)
    assert (first.is_signing, second.is_signing) == (True, False)
    with pytest.raises(TransitionError, match="not signing yet: it does from 2021-05-31"):
        again.rotate(START + 2 * DAY)
    assert again.bundle(START + DAY).count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("now", "state"), [(START + 10 * YEAR, "expired"), (START - DAY, "not yet valid")], ids=["expired", "future"]
)
def test_without_a_valid_authority_only_a_rotation_makes_one(tmp_path: Path, now: datetime, state: str) -> None:
    """A new one signs what no node trusts: that is not to happen unasked."""
    office = Office(str(tmp_path))
    office.rotate(START)
    for call in (lambda: office.sign(asked(), CHASSIS, now), lambda: office.rotate(now, only_if_due=True)):
        with pytest.raises(TransitionError, match=r"no authority is valid.*ovnk ipsec ca --rotate"):
            call()
    assert len(list(tmp_path.glob("*.pem"))) == 1
    assert office.authorities(now) == ()
    assert [each.state for each in office.authorities(now, is_every=True)] == [state]
    (made,) = office.rotate(now)
    assert made.state == "signing"
    assert sorted(each.state for each in office.authorities(now, is_every=True)) == sorted([state, "signing"])


def test_an_authority_is_due_until_its_successor_is_made(tmp_path: Path) -> None:
    office = Office(str(tmp_path))
    office.rotate(START)
    due = office.authorities(START)[0].renew_at

    def states(now: datetime) -> list[tuple[str, bool]]:
        return [(each.state, each.is_signing) for each in office.authorities(now, is_every=True)]

    assert states(due - DAY) == [("signing", True)]
    assert states(due) == [("due", True)]
    office.rotate(due)
    assert states(due) == [("signing", True), ("valid", False)]


def test_signing_reads_each_key_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office, read = Office(str(tmp_path)), list[str]()
    office.rotate(START)
    monkeypatch.setattr(
        "ovnk_core.certificates.office.read_authority",
        lambda *given: (read.append(given[-1]), read_authority(*given))[1],
    )
    office.sign(asked(), CHASSIS, START)
    assert len(read) == 1


def test_states_of_certificates_of_nodes(tmp_path: Path) -> None:
    office, foreign = Office(str(tmp_path / "a")), Office(str(tmp_path / "b"))
    office.sign(asked(), CHASSIS, START)

    def state(now: datetime, **chassis: str) -> str:
        return office.nodes(now, chassis)["n1"].state

    ends = [state(START + days) for days in (-DAY, DAY, 4.5 * YEAR, 5 * YEAR)]
    assert ends == ["not yet valid", "valid", "due", "expired"]
    assert (state(START, n1=CHASSIS), state(START, n1=OTHER)) == ("valid", "other chassis")
    foreign.sign(asked(), CHASSIS, START)
    (tmp_path / "a" / "node-n1.crt").write_bytes((tmp_path / "b" / "node-n1.crt").read_bytes())
    assert state(START, n1=CHASSIS) == "untrusted"
    assert missing({"n1": CHASSIS, "n2": OTHER}, office.nodes(START)) == ["n1", "n2"]


def test_a_refused_request_says_what_it_got(authority: Authority) -> None:
    weak = request(DNS, rsa.generate_private_key(public_exponent=65537, key_size=1024))
    for pem, got in ((weak, "got 1024 bits"), (request(DNS, KEY, ("b",)), "got CN=b")):
        with pytest.raises(SchemaError, match=got) as refused:
            sign(authority, asked(pem), CHASSIS, START)
        assert refused.value.fix
    with pytest.raises(SchemaError, match="got n1"):
        sign(authority, asked(), None, START)


def test_openssl_agrees(tmp_path: Path) -> None:
    office = Office(str(tmp_path / "ca"))
    issued = office.sign(asked(), CHASSIS, START)
    office.rotate(START + DAY)
    (tmp_path / "bundle.pem").write_bytes(office.bundle(START + DAY))
    (tmp_path / "node.pem").write_bytes(issued.certificate)

    def verify(at: datetime) -> subprocess.CompletedProcess[str]:
        when = str(int(at.timestamp()))
        command = ["openssl", "verify", "-x509_strict", "-attime", when, "-CAfile", "bundle.pem", "node.pem"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert verify(START + DAY).stdout == "node.pem: OK\n"
    assert "expired" in verify(START + 5 * YEAR + DAY).stderr
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", "node.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "sha512WithRSAEncryption" in shown
    assert f"DNS:{CHASSIS}" in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    office = Office(str(tmp_path))
    office.rotate(START)
    (path,) = tmp_path.glob("*.pem")
    path.chmod(mode)
    with pytest.raises(KeepingError, match="others may use it"):
        office.bundle(START)
    path.chmod(0o600)
    assert office.bundle(START)


def test_a_key_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    office = Office(str(tmp_path))
    office.rotate(START)
    (path,) = tmp_path.glob("*.pem")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeepingError, match="is a symbolic link, which may lead out of the folder"):
        office.bundle(START)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("")
    with pytest.raises(KeepingError, match="is no folder"):
        Office(str(tmp_path / "ca"))


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(KeepingError, match="chmod 0700"):
        Office(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"])
def test_a_broken_authority_is_told_and_not_passed_over(tmp_path: Path, content: bytes) -> None:
    office = Office(str(tmp_path))
    Folder(str(tmp_path)).write("authority-1.pem", content)
    with pytest.raises(KeepingError, match=r"authority-1\.pem"):
        office.sign(asked(), CHASSIS, START)


def test_certificate_and_key_must_be_a_pair(authority: Authority) -> None:
    with pytest.raises(SchemaError, match="no pair"):
        read_authority(authority.certificate_pem, make_authority(START).key_pem, "there")
    signed = sign(authority, asked(), CHASSIS, START).public_bytes(PEM)
    own = Authority(certificate=authority.certificate, key=KEY)
    with pytest.raises(SchemaError, match="no authority"):
        read_authority(signed, own.key_pem, "there")


class Crash(BaseException):
    pass


STEPS = ("open", "fchmod", "fsync", "replace", "fsync again")


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_keeps_a_whole_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    folder = Folder(str(tmp_path))
    folder.write("pair.pem", b"old")
    calls = {"fsync": 0}
    real = {"open": os.open, "fchmod": os.fchmod, "fsync": os.fsync, "replace": Path.replace}

    def failing(name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            if name == step or (step == "fsync again" and name == "fsync" and calls["fsync"] == 2):
                raise Crash
            return real[name](*given, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "fchmod", "fsync"):
            patch.setattr(os, name, failing(name))
        patch.setattr(Path, "replace", failing("replace"))
        with pytest.raises(Crash):
            folder.write("pair.pem", b"new")
    kept = folder.read("pair.pem", is_secret=True)
    assert kept == (b"new" if step == "fsync again" else b"old")
    assert folder.names(".pem") == ["pair.pem"]
    folder.write("other.pem", b"newer")
    assert folder.read("other.pem", is_secret=True) == b"newer"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other.pem", "pair.pem"], "nothing half-written stays"


def test_a_folder_that_is_made_is_durable_with_what_is_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose name was not synchronised is gone after a crash, and every key in it."""
    real, synced = os.fsync, set[int]()

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    Folder(str(tmp_path / "a" / "ca")).open()
    assert synced == {tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino}


def test_a_refused_request_makes_no_authority(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no such node"):
        Office(str(tmp_path)).sign(asked(), None, START)
    assert not list(tmp_path.iterdir())


def test_many_sign_for_one_node_at_once(tmp_path: Path) -> None:
    def sign_once(number: int) -> bytes:
        return Office(str(tmp_path)).sign(asked(), CHASSIS, START).certificate

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(sign_once, range(24)))
    assert (tmp_path / "node-n1.crt").read_bytes() in made
    assert len(list(tmp_path.glob("*.pem"))) == 1


def test_no_text_of_an_authority_holds_its_key(authority: Authority) -> None:
    assert "key" not in repr(authority)
