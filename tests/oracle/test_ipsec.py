"""IPsec in a real OVN: the northbound's switch, and northd's copy of it for the chassis."""

from __future__ import annotations

import pytest

from ovnk_core.cluster import Cluster
from tests.kit import manifest as m
from tests.kit.hybrid import installed, operator
from tests.kit.oracle import Laboratory

pytestmark = pytest.mark.ovn


def test_northd_hands_the_switch_to_the_chassis(laboratory: Laboratory) -> None:
    for is_on in (True, False):
        config = {"ipsecConfig": {}} if is_on else {}
        laboratory.show(installed(operator(config), m.namespace(), m.node("node-1"), base=Cluster()))
        found = []
        for server, table in (
            (laboratory.central.northbound, "NB_Global"),
            (laboratory.central.southbound, "SB_Global"),
        ):
            with server.wire() as wire:
                found += [row["ipsec"] for row in wire.select(table, columns=["ipsec"])]
        assert found == [is_on, is_on]
