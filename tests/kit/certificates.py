"""Certificates for tests: an authority, what it issues, and what can be wrong with it.

Everything is made when asked for and written as PEM files; keys are P-256, so a certificate costs about a millisecond.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Issued:
    """Paths of one certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Issues certificates into ``directory``; ``file`` is its own certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory, self._key = directory, ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        now = datetime.datetime.now(datetime.UTC)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        made = (
            x509.CertificateBuilder(self._name, self._name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file = str(directory / f"{name}.pem")
        Path(self.file).write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = LOOPBACK,
        uris: Sequence[str] = (),
        ends_in: datetime.timedelta = DAY,
        password: str = "",
    ) -> Issued:
        """A certificate good for both sides of a connection, in ``NAME.crt`` and ``NAME.key``, replacing older ones.

        ``hosts``: DNS names and addresses; ``uris``: identities such as ``spiffe://domain/name``. ``ends_in`` may be
        negative: then it has expired. With neither hosts nor uris it carries its common name only.
        """
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder(self._name, _named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
        )
        if names := [*map(_host, hosts), *map(x509.UniformResourceIdentifier, uris)]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        issued = Issued(certificate=str(self._directory / f"{name}.crt"), key=str(self._directory / f"{name}.key"))
        Path(issued.key).write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        )
        made = builder.sign(self._key, hashes.SHA256())
        Path(issued.certificate).write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return issued


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
