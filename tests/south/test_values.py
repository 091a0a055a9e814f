"""Values: what every driver refuses in the same words, and text that must come back as it was written."""

from __future__ import annotations

import pytest

from ovnk_core.nb.operation import Insert, Mutate, Operation
from ovnk_core.northbound.port import Northbound
from tests.south.check import refused
from tests.south.rows import acl, address_set, group, refs, texts, uid

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (acl("a", priority=32768), "constraint violation"),
        (acl("a", priority=-1), "constraint violation"),
        (acl("a", action="maybe"), "constraint violation"),
        (acl("a", name="x" * 64), "constraint violation"),
        (acl("a", priority="high"), "syntax error"),
        (acl("a", priority=True), "syntax error"),
        (acl("a", match="nul \0 byte"), "syntax error"),
        (acl("a", match="half a pair \ud800"), "syntax error"),
        (acl("a", colour="red"), "unknown column"),
        (Insert(table="Colour", uuid=uid("a"), columns={}), "unknown table"),
        (Insert(table="Address_Set", uuid=uid("a"), columns={"addresses": "10.0.0.1"}), "syntax error"),
        (Insert(table="Address_Set", uuid=uid("a"), columns={"external_ids": frozenset(["k"])}), "syntax error"),
        (Insert(table="Address_Set", uuid="not-a-uuid", columns={}), "syntax error"),
        (Insert(table="Logical_Router_Port", uuid=uid("a"), columns={"networks": frozenset()}), "syntax error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_values_the_schema_forbids_are_refused(nb: Northbound, bad: Operation, error: str) -> None:
    await refused(nb, [address_set("s"), bad], error, 1)


async def test_mutating_the_wrong_shape_is_refused(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    row, wrong = uid("s"), texts("x")
    await refused(nb, [Mutate(table="Address_Set", uuid=row, column="name", insert=wrong)], "domain error", 0)
    await refused(nb, [Mutate(table="Address_Set", uuid=row, column="addresses", keys={"a": "b"})], "domain error", 0)
    await refused(nb, [Mutate(table="Address_Set", uuid=row, column="external_ids", insert=wrong)], "domain error", 0)


async def test_text_survives_as_written(nb: Northbound) -> None:
    text = (
        'outport == @pg && ip4.dst == {10.0.0.1, 10.0.0.2} "quoted" \\ back\\\\slash \\u0000 {{{ ü 漢 \U0001f600 \t\n'
    )
    await nb.transact([acl("a", match=text), group("g", refs("a"))])
    assert nb.rows("ACL")[uid("a")]["match"] == text
