"""What a node asks for, and whether it gets it: a certificate for the chassis of a known node, and for nothing else.

A request names its chassis twice: as common name and as its only subject alternative name (DNS). What else its subject
says does not matter: nothing of the request goes into the certificate but its key; name, usages and lifetime are ours.
Source: 15.4.3, and the request that OVN-Kubernetes' operator makes on each node (docs/sources.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ovnk_core.certificates.authority import PEM, RSA_BITS, YEAR, Authority, common_name, is_valid
from ovnk_core.errors import ObjectError, SchemaError, TransitionError
from ovnk_core.terms.struct import Value

NODE_LIFE = 5 * YEAR
SIGNER, USAGE = "network.openshift.io/signer", "ipsec tunnel"
MAX_REQUEST_BYTES = 16 << 10
MAX_RSA_BITS = 8192
EC_BITS = 256
_AGAIN = "make the request on the node that is to have the certificate"


class Request(Value, frozen=True, kw_only=True):
    """Who asks for what. ``pem``: the signing request (PKCS#10)."""

    node: str
    pem: bytes
    signer: str = SIGNER
    usages: Sequence[str] = (USAGE,)


def make_request(chassis: str, key: rsa.RSAPrivateKey) -> bytes:
    """What a node asks with, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, chassis)])
    names = x509.SubjectAlternativeName([x509.DNSName(chassis)])
    builder = x509.CertificateSigningRequestBuilder(name).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA512()).public_bytes(PEM)


def checked(request: Request, chassis: str | None) -> x509.CertificateSigningRequest:
    """The request, if it may be signed. ``chassis``: id of the node's, None for an unknown node, empty for Windows.

    Raises SchemaError for what cannot be read, or asks for what is not the node's.
    """
    if chassis == "":
        raise _refusal(request, "node", "is a Windows node: its tunnels have no IPsec", request.node)
    if chassis is None:
        raise _refusal(request, "node", "no such node: certificates are for known nodes only", request.node)
    if request.signer != SIGNER:
        raise _refusal(request, "signerName", f"must be {SIGNER}", request.signer)
    if tuple(request.usages) != (USAGE,):
        raise _refusal(request, "usages", f"must be {USAGE} alone", ", ".join(request.usages))
    if len(request.pem) > MAX_REQUEST_BYTES:
        raise _refusal(request, "request", f"is larger than {MAX_REQUEST_BYTES:,} bytes")
    try:
        found = x509.load_pem_x509_csr(request.pem)
        # A signature with a broken hash is not looked at.
        why, names = _weakness(found), _names(found)
        is_signed = bool(why) or found.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise _refusal(request, "request", "is no signing request (PKCS#10) in PEM") from None
    if why:
        raise _refusal(request, "request", why, _strength(found), fix="make a new key and a request with it")
    if not is_signed:
        raise _refusal(request, "request", "is not signed with its own key")
    if common_name(found.subject) != chassis:
        reason = f"its common name must be {chassis}, the node's chassis id"
        raise _refusal(request, "request", reason, found.subject.rfc4514_string() or "nothing", fix=_AGAIN)
    if names != [chassis]:
        reason = f"its only subject alternative name must be the DNS name {chassis}"
        raise _refusal(request, "request", reason, ", ".join(names) or "none, or more than names", fix=_AGAIN)
    return found


def sign(authority: Authority, request: Request, chassis: str | None, now: datetime) -> x509.Certificate:
    """A node's certificate for 5 years, or as long as the authority lasts if that is shorter.

    Raises SchemaError as ``checked``, and TransitionError when the authority itself is not valid ``now`` (UTC).
    """
    found, start = checked(request, chassis), now.replace(microsecond=0)
    if not is_valid(authority.certificate, start):
        reason = f"the authority is valid until {authority.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ} only"
        raise TransitionError(reason, kind="Certificate", name=request.node, fix="rotate it")
    assert chassis
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, chassis)])
    usage = x509.KeyUsage(True, False, True, False, True, False, False, False, False)
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder(authority.certificate.subject, subject, found.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(min(start + NODE_LIFE, authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([_IPSEC_TUNNEL]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(chassis)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(found.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority.key, hashes.SHA512())
    )


_IPSEC_TUNNEL = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6")
"""id-kp-ipsecTunnel (RFC 2459), which Kubernetes calls "ipsec tunnel"."""


def _names(found: x509.CertificateSigningRequest) -> list[str]:
    """Its subject alternative names; one of another kind than DNS as an empty text. None where it asks for more than
    openssl's section ``v3_req`` does (no authority, usages of the key)."""
    names: list[str] = []
    for each in found.extensions:
        match each.value:
            case x509.SubjectAlternativeName():
                names += [name.value if isinstance(name, x509.DNSName) else "" for name in each.value]
            case x509.BasicConstraints(ca=False) | x509.KeyUsage():
                continue
            case _:
                return []
    return names


def _weakness(found: x509.CertificateSigningRequest) -> str:
    """What is wrong with its key, or an empty text."""
    key, algorithm = found.public_key(), found.signature_hash_algorithm
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        return "is signed with a broken hash"
    if isinstance(key, rsa.RSAPublicKey):
        return "" if RSA_BITS <= key.key_size <= MAX_RSA_BITS else f"needs RSA of {RSA_BITS} to {MAX_RSA_BITS} bits"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= EC_BITS:
        return ""
    return f"needs an RSA key of {RSA_BITS} bits or more, or an elliptic curve of {EC_BITS}"


def _strength(found: x509.CertificateSigningRequest) -> str:
    key, algorithm = found.public_key(), found.signature_hash_algorithm
    bits = f"{key.key_size} bits" if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else "another kind"
    return f"{bits}, {algorithm.name}" if algorithm is not None else bits


def _refusal(request: Request, path: str, reason: str, value: str = "", *, fix: str = "") -> ObjectError:
    return SchemaError(reason, kind="SigningRequest", name=request.node, path=path, value=value[:80], fix=fix)
