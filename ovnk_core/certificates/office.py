"""The office: authorities and certificates of nodes in a folder, and what can be asked of it.

``authority-SERIAL.pem`` holds an authority's certificate and key, ``node-NAME.crt`` the newest certificate that a node
got. Keys of nodes never come here. Several servers may share a folder (a file lock makes changes one at a time).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ovnk_core.certificates.authority import (
    PEM,
    Authority,
    common_name,
    make_authority,
    read_authority,
    read_certificates,
)
from ovnk_core.certificates.keeping import Folder, KeepingError
from ovnk_core.certificates.rotation import Plan, plan, renewal_of_authority, renewal_of_node
from ovnk_core.certificates.signing import Request, sign
from ovnk_core.errors import NotFound, SchemaError, TransitionError
from ovnk_core.terms.struct import Value

_AUTHORITY, _NODE = "authority-", "node-"
CIPHER = "AES-GCM-16-256"
ICV_BYTES, KEY_BITS, MODE = 16, 256, "Transport"
"""15.4.2."""


class Standing(Value, frozen=True, kw_only=True):
    """What is known of one certificate. ``node``: empty for an authority's; ``renew_at``: when the next is due."""

    node: str = ""
    subject: str
    serial: str
    valid_from: datetime
    valid_until: datetime
    renew_at: datetime
    fingerprint: str
    is_signing: bool = False


class Issued(Value, frozen=True, kw_only=True):
    """A node's certificate, and what nodes are to trust, in PEM."""

    certificate: bytes
    bundle: bytes
    standing: Standing


class Office:
    """``path``: the folder, made when missing. Raises KeepingError, also for a broken file."""

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)
        self._folder.open()

    def bundle(self, now: datetime) -> bytes:
        """Certificates of every authority that nodes are to trust, in PEM. Raises NotFound while there is none."""
        authorities, chosen = self._planned(now)
        if not chosen.trusted:
            raise NotFound("there is no valid authority; make one")
        return b"".join(authorities[index].certificate_pem for index in chosen.trusted)

    def rotate(self, now: datetime, *, only_if_due: bool = False) -> tuple[Standing, ...]:
        """Make the next authority; nothing with ``only_if_due`` while it is not time. All authorities after that.

        Raises TransitionError while another one waits to sign: its overlap must end first.
        """
        with self._folder.locked():
            authorities, chosen = self._planned(now)
            if chosen.needs_authority or not only_if_due:
                newest = max((each.certificate.not_valid_before_utc for each in authorities), default=None)
                signing = None if chosen.signing is None else authorities[chosen.signing].certificate
                if signing is not None and newest != signing.not_valid_before_utc:
                    raise TransitionError("an authority that was made before is not signing yet", kind="Certificate")
                made = make_authority(now)
                name = f"{_AUTHORITY}{made.certificate.serial_number:x}.pem"
                self._folder.write(name, made.certificate_pem + made.key_pem)
        return self.authorities(now)

    def sign(self, request: Request, chassis: str | None, now: datetime) -> Issued:
        """Sign what a node asks for; renews the authority when that is due. Raises as ``signing.sign``."""
        self.rotate(now, only_if_due=True)
        authorities, chosen = self._planned(now)
        assert chosen.signing is not None
        made = sign(authorities[chosen.signing], request, chassis, now)
        content = made.public_bytes(PEM)
        self._folder.write(f"{_NODE}{request.node}.crt", content, mode=0o644)
        return Issued(certificate=content, bundle=self.bundle(now), standing=_of_node(request.node, made))

    def authorities(self, now: datetime) -> tuple[Standing, ...]:
        """Every authority that is trusted, the newest last."""
        authorities, chosen = self._planned(now)
        return tuple(
            _standing(
                authorities[index].certificate,
                renew_at=renewal_of_authority(authorities[index].certificate),
                is_signing=index == chosen.signing,
            )
            for index in chosen.trusted
        )

    def nodes(self) -> Mapping[str, Standing]:
        """The newest certificate of each node that was signed for, by node."""
        found: dict[str, Standing] = {}
        for name in self._folder.names(".crt"):
            if name.startswith(_NODE):
                node = name.removeprefix(_NODE).removesuffix(".crt")
                content = self._folder.read(name, is_secret=False)
                try:
                    (made, *_) = read_certificates(content, str(self._folder.path / name))
                except SchemaError as error:
                    raise KeepingError(str(error)) from None
                found[node] = _of_node(node, made)
        return found

    def _planned(self, now: datetime) -> tuple[tuple[Authority, ...], Plan]:
        """Authorities, the oldest first, and what is to be done with them."""
        found: list[Authority] = []
        for name in self._folder.names(".pem"):
            if name.startswith(_AUTHORITY):
                content = self._folder.read(name, is_secret=True)
                try:
                    found.append(read_authority(content, content, str(self._folder.path / name)))
                except SchemaError as error:
                    raise KeepingError(str(error)) from None
        found.sort(key=lambda each: each.certificate.not_valid_before_utc)
        return tuple(found), plan([each.certificate for each in found], now)


def _of_node(node: str, certificate: x509.Certificate) -> Standing:
    return _standing(certificate, node=node, renew_at=renewal_of_node(certificate))


def _standing(
    certificate: x509.Certificate, *, renew_at: datetime, node: str = "", is_signing: bool = False
) -> Standing:
    return Standing(
        node=node,
        subject=common_name(certificate.subject),
        serial=f"{certificate.serial_number:x}",
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        renew_at=renew_at,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        is_signing=is_signing,
    )
