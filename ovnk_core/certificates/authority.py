"""The authority: a self-signed certificate for 10 years, and its key.

Two authorities are alive around a rotation. They bear different names, so that a certificate's issuer says which of
them signed. Source: 15.4.3; RSA-2048 and SHA-512 as OVN-Kubernetes' operator uses them (docs/sources.md).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ovnk_core.errors import SchemaError
from ovnk_core.terms.struct import Value

YEAR = timedelta(days=365)
AUTHORITY_LIFE = 10 * YEAR
RSA_BITS = 2048
PEM = serialization.Encoding.PEM


class Authority(Value, frozen=True, kw_only=True):
    """One authority with its key. Never shown, so that no log holds the key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.certificate.serial_number:x})"

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def make_authority(now: datetime) -> Authority:
    """A new authority, valid from ``now`` (UTC) for 10 years."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    start = now.replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ovnk-ipsec-{start:%Y%m%dT%H%M%SZ}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA512())
    )
    return Authority(certificate=made, key=key)


def read_certificates(pem: bytes, source: str) -> tuple[x509.Certificate, ...]:
    """PEM text -> its certificates, at least one. Raises SchemaError."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise SchemaError("is no PEM certificate", kind="Certificate", source=source) from None


def read_authority(certificate: bytes, key: bytes, source: str) -> Authority:
    """PEM texts -> the authority. Raises SchemaError where they are no pair, or no authority."""
    found = read_certificates(certificate, source)[0]
    try:
        secret = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise SchemaError("is no unencrypted PEM key", kind="Certificate", source=source) from None
    if not isinstance(secret, rsa.RSAPrivateKey) or secret.public_key() != found.public_key():
        raise SchemaError("certificate and key are no pair", kind="Certificate", source=source)
    try:
        is_authority = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise SchemaError("is no authority's certificate", kind="Certificate", source=source)
    return Authority(certificate=found, key=secret)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    """A key as unencrypted PEM."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether ``now`` lies in the certificate's time."""
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def common_name(name: x509.Name) -> str:
    """The one common name of a subject or issuer; empty where there is none, or several."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""
