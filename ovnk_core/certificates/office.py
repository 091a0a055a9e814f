"""The office: authorities and certificates of nodes in a folder, and what can be asked of it.

``authority-SERIAL.pem`` holds an authority's certificate and key, ``node-NAME.crt`` the newest certificate that a node
got. Keys of nodes never come here. Several servers may share a folder (a file lock makes changes one at a time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from msgspec.structs import replace

from ovnk_core.certificates.authority import (
    PEM,
    Authority,
    common_name,
    is_valid,
    make_authority,
    read_authority,
    read_certificates,
)
from ovnk_core.certificates.keeping import Folder, KeepingError
from ovnk_core.certificates.rotation import OVERLAP, Plan, plan, renewal_of_authority, renewal_of_node
from ovnk_core.certificates.signing import Request, checked, sign
from ovnk_core.errors import NotFound, SchemaError, TransitionError
from ovnk_core.terms.struct import Value

_AUTHORITY, _NODE = "authority-", "node-"
CIPHER = "AES-GCM-16-256"
ICV_BYTES, KEY_BITS, MODE = 16, 256, "Transport"
"""15.4.2."""

State = Literal["valid", "signing", "due", "expired", "not yet valid", "untrusted", "other chassis"]
"""``signing``: of the valid authorities the one that signs. ``due``: it is time for the next one, of an authority also
while it signs. ``untrusted``: no authority of the folder signed it. ``other chassis``: its node has another id now."""


class Standing(Value, frozen=True, kw_only=True):
    """What is known of one certificate. ``node``: empty for an authority's; ``renew_at``: when the next is due.
    ``state``: at the time that was asked about."""

    node: str = ""
    subject: str
    serial: str
    valid_from: datetime
    valid_until: datetime
    renew_at: datetime
    fingerprint: str
    state: State
    is_signing: bool = False


USABLE: frozenset[State] = frozenset(("valid", "signing", "due"))
"""States of a certificate that nodes accept."""


class Issued(Value, frozen=True, kw_only=True):
    """A node's certificate, and what nodes are to trust, in PEM."""

    certificate: bytes
    bundle: bytes
    standing: Standing


class Office:
    """``path``: the folder, made when missing if ``is_made``; ``told`` hears of each authority that is made. Raises
    KeepingError, also for a broken file."""

    def __init__(
        self, path: str, *, is_made: bool = True, told: Callable[[Standing], None] = lambda made: None
    ) -> None:
        self._folder, self._told = Folder(path), told
        self._folder.open(is_made=is_made)

    def bundle(self, now: datetime) -> bytes:
        """Certificates of every authority that nodes are to trust, in PEM. Raises NotFound while there is none."""
        return _bundle(*self._planned(now))

    def rotate(self, now: datetime, *, only_if_due: bool = False) -> tuple[Standing, ...]:
        """Make the next authority; with ``only_if_due`` the first, or a valid one's successor in its time. Those that
        are trusted after that.

        Raises TransitionError while another one waits to sign: its overlap must end first; with ``only_if_due`` also
        where there are authorities and none is valid, because nodes would not trust what a new one signs.
        """
        with self._folder.locked():
            authorities, chosen = self._renewed(now, only_if_due=only_if_due)
        return _standings(authorities, chosen, now)

    def sign(self, request: Request, chassis: str | None, now: datetime) -> Issued:
        """Sign what a node asks for; renews the authority in its time. Raises as ``signing.sign`` and ``rotate``."""
        # What is refused makes no authority either.
        checked(request, chassis)
        with self._folder.locked():
            authorities, chosen = self._renewed(now, only_if_due=True)
            assert chosen.signing is not None
            made = sign(authorities[chosen.signing], request, chassis, now)
            content = made.public_bytes(PEM)
            self._folder.write(f"{_NODE}{request.node}.crt", content, mode=0o644)
        bundle = _bundle(authorities, chosen)
        return Issued(certificate=content, bundle=bundle, standing=_of_node(request.node, made, now))

    def _renewed(self, now: datetime, *, only_if_due: bool) -> tuple[tuple[Authority, ...], Plan]:
        """As ``rotate``, under the folder's lock: the authorities after that, and what is to be done with them."""
        authorities, chosen = self._planned(now)
        if only_if_due and authorities and chosen.signing is None:
            raise _lapsed(authorities[-1], now)
        if only_if_due and not chosen.needs_authority:
            return authorities, chosen
        if chosen.signing is not None and chosen.signing < len(authorities) - 1:
            start = authorities[-1].certificate.not_valid_before_utc + OVERLAP
            text = "an authority that was made before is not signing yet"
            raise TransitionError(f"{text}: it does from {start:%Y-%m-%dT%H:%M:%SZ} on", kind="Certificate")
        made = make_authority(now)
        name = f"{_AUTHORITY}{made.certificate.serial_number:x}.pem"
        self._folder.write(name, made.certificate_pem + made.key_pem)
        self._told(_of_authority(made.certificate, now, is_signing=chosen.signing is None))
        authorities = _by_age((*authorities, made))
        return authorities, plan([each.certificate for each in authorities], now)

    def authorities(self, now: datetime, *, is_every: bool = False) -> tuple[Standing, ...]:
        """The authorities that are trusted ``now``, or all of the folder, the newest last."""
        return _standings(*self._planned(now), now, is_every=is_every)

    def nodes(self, now: datetime, chassis: Mapping[str, str] | None = None) -> Mapping[str, Standing]:
        """The newest certificate of each node that was signed for, by node. ``chassis``: ids of known nodes."""
        found: dict[str, Standing] = {}
        issuers = self._authorities()
        for name in self._folder.names(".crt"):
            if name.startswith(_NODE):
                node = name.removeprefix(_NODE).removesuffix(".crt")
                content = self._folder.read(name, is_secret=False)
                try:
                    (made, *_) = read_certificates(content, str(self._folder.path / name))
                except SchemaError as error:
                    raise KeepingError(str(error)) from None
                found[node] = _of_node(node, made, now)
                if not any(_is_issuer(each, made) for each in issuers):
                    found[node] = replace(found[node], state="untrusted")
                elif found[node].subject != (chassis or {}).get(node, found[node].subject):
                    found[node] = replace(found[node], state="other chassis")
        return found

    def _planned(self, now: datetime) -> tuple[tuple[Authority, ...], Plan]:
        """Authorities, the oldest first, and what is to be done with them."""
        found = self._authorities()
        return found, plan([each.certificate for each in found], now)

    def _authorities(self) -> tuple[Authority, ...]:
        found: list[Authority] = []
        for name in self._folder.names(".pem"):
            if name.startswith(_AUTHORITY):
                content = self._folder.read(name, is_secret=True)
                try:
                    found.append(read_authority(content, content, str(self._folder.path / name)))
                except SchemaError as error:
                    raise KeepingError(str(error)) from None
        return _by_age(found)


def missing(known: Iterable[str], nodes: Mapping[str, Standing]) -> list[str]:
    """Of known nodes those without a certificate that others accept, by name."""
    return sorted(node for node in known if node not in nodes or nodes[node].state not in USABLE)


def _by_age(authorities: Iterable[Authority]) -> tuple[Authority, ...]:
    return tuple(sorted(authorities, key=lambda each: each.certificate.not_valid_before_utc))


def _bundle(authorities: tuple[Authority, ...], chosen: Plan) -> bytes:
    if not chosen.trusted:
        raise NotFound("there is no valid authority; make one")
    return b"".join(authorities[index].certificate_pem for index in chosen.trusted)


def _standings(
    authorities: tuple[Authority, ...], chosen: Plan, now: datetime, *, is_every: bool = False
) -> tuple[Standing, ...]:
    """Of the authorities that are trusted, or of all, the newest last."""
    due = max(chosen.trusted) if chosen.trusted and chosen.needs_authority else None
    told = {
        index: _of_authority(each.certificate, now, is_signing=index == chosen.signing)
        for index, each in enumerate(authorities)
        if is_every or index in chosen.trusted
    }
    return tuple(replace(each, state="due") if index == due else each for index, each in told.items())


def _lapsed(newest: Authority, now: datetime) -> TransitionError:
    start, end = newest.certificate.not_valid_before_utc, newest.certificate.not_valid_after_utc
    when = "%Y-%m-%dT%H:%M:%SZ"
    text = f"is not valid before {start:{when}}" if now < start else f"expired at {end:{when}}"
    fix = "check the clock; ovnk ipsec ca --rotate makes another one, which every node has to trust first"
    return TransitionError(f"no authority is valid: the newest one {text}", kind="Certificate", fix=fix)


def _is_issuer(authority: Authority, made: x509.Certificate) -> bool:
    try:
        made.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _of_authority(certificate: x509.Certificate, now: datetime, *, is_signing: bool) -> Standing:
    state: State = "signing" if is_signing else _in_time(certificate, now) or "valid"
    renew_at = renewal_of_authority(certificate)
    return replace(_standing(certificate, renew_at, state), is_signing=is_signing)


def _of_node(node: str, certificate: x509.Certificate, now: datetime) -> Standing:
    renew_at = renewal_of_node(certificate)
    state: State = _in_time(certificate, now) or ("due" if now >= renew_at else "valid")
    return replace(_standing(certificate, renew_at, state), node=node)


def _in_time(certificate: x509.Certificate, now: datetime) -> State | None:
    """How a certificate is out of its time; None when it is not."""
    if is_valid(certificate, now):
        return None
    return "not yet valid" if now < certificate.not_valid_before_utc else "expired"


def _standing(certificate: x509.Certificate, renew_at: datetime, state: State) -> Standing:
    return Standing(
        subject=common_name(certificate.subject),
        serial=f"{certificate.serial_number:x}",
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        renew_at=renew_at,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        state=state,
    )
