"""A northbound of an OVN before 22.12 has no Chassis_Template_Var: node ports are written without it."""

from __future__ import annotations

import copy

import pytest

from ovnk_core.control_plane import ControlPlane
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.northbound.memory_schema import SCHEMA
from tests.kit import manifest as m

pytestmark = pytest.mark.asyncio
SPEC = {"type": "NodePort", "clusterIP": "172.30.0.20", "ports": [{"port": 80, "nodePort": 30080}]}
OBJECTS = [m.node("n1", address="192.0.2.1"), m.node("n2", address="192.0.2.2"), m.service(SPEC)]


def older() -> MemoryNorthbound:
    schema = copy.deepcopy(SCHEMA)
    del schema["tables"]["Chassis_Template_Var"]
    return MemoryNorthbound(parse_schema(schema))


async def vips(northbound: MemoryNorthbound) -> list[str]:
    async with ControlPlane(northbound) as plane:
        receipt = await plane.apply(OBJECTS)
        await plane.wait(receipt.revision)
        assert plane.pending().operations == ()
    found = []
    for row in northbound.database.tables["Load_Balancer"].values():
        assert isinstance(row["vips"], dict)
        found += [str(vip) for vip in row["vips"]]
    return sorted(found)


async def test_a_server_with_the_table_gets_variables() -> None:
    northbound = MemoryNorthbound()
    assert await vips(northbound) == ["172.30.0.20:80", "^NODEIP_IPv4_0:30080"]
    assert len(northbound.database.tables["Chassis_Template_Var"]) == 2


async def test_a_server_without_it_gets_every_address() -> None:
    assert await vips(older()) == ["172.30.0.20:80", "192.0.2.1:30080", "192.0.2.2:30080"]
