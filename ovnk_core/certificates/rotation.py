"""When certificates are renewed: a plan from what there is and what time it is. Pure.

A node's certificate is renewed after 4 1/2 of its 5 years (15.4.3). Of the authority the manual says 10 years only;
the rest is ours. No node's certificate may outlive its authority, so the next authority is made ``LEAD`` before the
present one could not sign for 5 years any more. For ``OVERLAP`` it is trusted and does not sign, so that a node which
is late still trusts what its peers show. From then on it signs, and the old one is trusted until it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509

from ovnk_core.certificates.authority import YEAR, is_valid
from ovnk_core.certificates.signing import NODE_LIFE
from ovnk_core.terms.struct import Value

NODE_RENEWAL = YEAR * 9 / 2
OVERLAP = timedelta(days=90)
"""How long an authority is trusted before it signs: a node must fetch what it trusts at least as often."""
LEAD = timedelta(days=90)


class Plan(Value, frozen=True, kw_only=True):
    """``signing``: index of the authority that signs, None while none is valid; ``trusted``: indexes of those that
    nodes are to trust; ``needs_authority``: it is time to make the next one."""

    signing: int | None
    trusted: tuple[int, ...]
    needs_authority: bool


def plan(authorities: Sequence[x509.Certificate], now: datetime) -> Plan:
    """What is to be done ``now`` (UTC) with these authorities."""
    trusted = tuple(index for index, each in enumerate(authorities) if is_valid(each, now))
    if not trusted:
        return Plan(signing=None, trusted=(), needs_authority=True)
    by_age = sorted(trusted, key=lambda index: authorities[index].not_valid_before_utc)
    proven = [index for index in by_age if now - authorities[index].not_valid_before_utc >= OVERLAP]
    # The first authority of all, and one that follows an expired one, has nobody to wait for.
    signing = proven[-1] if proven else by_age[0]
    return Plan(signing=signing, trusted=trusted, needs_authority=now >= renewal_of_authority(authorities[by_age[-1]]))


def renewal_of_authority(authority: x509.Certificate) -> datetime:
    """When the next authority is to be made."""
    return authority.not_valid_after_utc - NODE_LIFE - OVERLAP - LEAD


def renewal_of_node(certificate: x509.Certificate) -> datetime:
    """When a node is to ask for its next certificate: after 4 1/2 years, earlier where an authority cut it short."""
    early = certificate.not_valid_after_utc - (NODE_LIFE - NODE_RENEWAL)
    return min(certificate.not_valid_before_utc + NODE_RENEWAL, early)
