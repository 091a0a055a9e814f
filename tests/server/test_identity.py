"""Who calls, from what grpcio says of the connection."""

from __future__ import annotations

import pytest
from ovnk_server.faults import Unauthenticated
from ovnk_server.identity import identity_of

TLS = {"transport_security_type": [b"ssl"], "x509_common_name": [b"admin"], "peer_dns": [b"admin.example"]}


def test_the_one_uri_of_the_certificate() -> None:
    assert identity_of({**TLS, "peer_uri": [b"spiffe://x/ci"]}, "local") == "spiffe://x/ci"


@pytest.mark.parametrize(
    "uris", [[], [b"spiffe://x/a", b"spiffe://x/b"], [b""], [b"\xff"], [b"spiffe://x/*"], [b"a\nb"], [b"x" * 3_000]]
)
def test_none_several_or_odd_ones_are_nobody(uris: list[bytes]) -> None:
    with pytest.raises(Unauthenticated):
        identity_of({**TLS, "peer_uri": uris}, "local")


def test_without_tls_it_is_the_sockets_identity() -> None:
    assert identity_of({"transport_security_type": [b"insecure"]}, "local") == "local"
    assert identity_of({}, "local") == "local"
