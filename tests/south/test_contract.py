"""The page ``northbound/port.py``, sentence by sentence, on every driver."""

from __future__ import annotations

import asyncio
import time

import pytest

from ovnk_core.errors import Rejected, Unreachable
from ovnk_core.nb.operation import BumpConfig, Delete, Insert, Mutate, Operation, Update
from ovnk_core.northbound.port import MISSING_ROW, Northbound
from tests.south.check import content, refused
from tests.south.conftest import Connect
from tests.south.rows import acl, address_set, group, port, refs, switch, texts, uid

pytestmark = pytest.mark.asyncio


async def test_insert_and_reference_in_one_transaction(nb: Northbound) -> None:
    receipt = await nb.transact([acl("a", name="x"), group("g", refs("a"))])
    assert receipt.operations == 2
    assert receipt.nb_cfg is None
    assert nb.rows("ACL")[uid("a")] == {
        "name": "x",
        "priority": 1000,
        "direction": "to-lport",
        "match": "ip4",
        "action": "drop",
        "log": False,
        "severity": None,
        "meter": None,
        "label": 0,
        "options": {},
        "external_ids": {},
    }
    assert nb.rows("Port_Group")[uid("g")] == {
        "name": "g",
        "acls": refs("a"),
        "ports": frozenset(),
        "external_ids": {},
    }


async def test_reference_may_come_before_the_row(nb: Northbound) -> None:
    await nb.transact([group("g", refs("a")), acl("a")])
    assert uid("a") in nb.rows("ACL")


async def test_orphan_insert_vanishes_and_is_seen_as_such(nb: Northbound) -> None:
    await nb.transact([acl("orphan"), address_set("s")])
    assert not nb.rows("ACL")
    assert uid("s") in nb.rows("Address_Set")
    await nb.transact([acl("orphan"), group("g", refs("orphan"))])
    assert uid("orphan") in nb.rows("ACL")


async def test_last_reference_gone_takes_the_row_along(nb: Northbound) -> None:
    await nb.transact([port("p"), switch("s", refs("p"))])
    await nb.transact([Mutate(table="Logical_Switch", uuid=uid("s"), column="ports", delete=refs("p"))])
    assert not nb.rows("Logical_Switch_Port")


async def test_garbage_collection_cascades(nb: Northbound) -> None:
    chassis = Insert(table="Gateway_Chassis", uuid=uid("c"), columns={"name": "c", "chassis_name": "n1", "priority": 1})
    router_port = Insert(
        table="Logical_Router_Port",
        uuid=uid("lrp"),
        columns={
            "name": "lrp",
            "mac": "0a:58:00:00:00:01",
            "networks": frozenset(["10.0.0.1/24"]),
            "gateway_chassis": refs("c"),
        },
    )
    router = Insert(table="Logical_Router", uuid=uid("r"), columns={"name": "r", "ports": refs("lrp")})
    await nb.transact([chassis, router_port, router])
    assert nb.rows("Gateway_Chassis")
    await nb.transact([Delete(table="Logical_Router", uuid=uid("r"))])
    assert content(nb) == {}


async def test_shared_reference_keeps_the_row(nb: Northbound) -> None:
    await nb.transact([acl("a"), group("g", refs("a")), group("h", refs("a"))])
    await nb.transact([Delete(table="Port_Group", uuid=uid("g"))])
    assert uid("a") in nb.rows("ACL")
    await nb.transact([Delete(table="Port_Group", uuid=uid("h"))])
    assert not nb.rows("ACL")


async def test_moved_between_parents_survives(nb: Northbound) -> None:
    await nb.transact([acl("a"), group("g", refs("a")), group("h")])
    await nb.transact(
        [
            Mutate(table="Port_Group", uuid=uid("g"), column="acls", delete=refs("a")),
            Mutate(table="Port_Group", uuid=uid("h"), column="acls", insert=refs("a")),
        ]
    )
    assert uid("a") in nb.rows("ACL")
    assert nb.rows("Port_Group")[uid("h")]["acls"] == refs("a")


async def test_unique_name_is_refused_atomically(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    twin = Insert(table="Address_Set", uuid=uid("twin"), columns={"name": "s"})
    await refused(nb, [address_set("t"), twin], "constraint violation", None)


async def test_unique_name_may_change_hands(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    heir = Insert(table="Address_Set", uuid=uid("heir"), columns={"name": "s"})
    await nb.transact([heir, Delete(table="Address_Set", uuid=uid("s"))])
    assert list(nb.rows("Address_Set")) == [uid("heir")]


async def test_duplicate_uuid_is_refused(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    again = Insert(table="Address_Set", uuid=uid("s"), columns={"name": "other"})
    await refused(nb, [address_set("t"), again], "duplicate uuid", 1)
    await refused(nb, [address_set("u"), Insert(table="Address_Set", uuid=uid("u"), columns={})], "duplicate uuid", 1)


async def test_delete_and_insert_of_one_uuid_is_refused(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    await refused(nb, [Delete(table="Address_Set", uuid=uid("s")), address_set("s")], "duplicate uuid", 1)


async def test_mutate_set(nb: Northbound) -> None:
    await nb.transact([address_set("s", "10.0.0.1", "10.0.0.2")])
    change = Mutate(
        table="Address_Set",
        uuid=uid("s"),
        column="addresses",
        insert=frozenset(["10.0.0.3", "10.0.0.1"]),
        delete=frozenset(["10.0.0.2", "10.0.0.9"]),
    )
    await nb.transact([change])
    assert nb.rows("Address_Set")[uid("s")]["addresses"] == texts("10.0.0.1", "10.0.0.3")
    await nb.transact([change])
    assert nb.rows("Address_Set")[uid("s")]["addresses"] == texts("10.0.0.1", "10.0.0.3")


async def test_mutate_down_to_one_and_to_none(nb: Northbound) -> None:
    await nb.transact([address_set("s", "10.0.0.1", "10.0.0.2")])
    for gone, left in (("10.0.0.1", texts("10.0.0.2")), ("10.0.0.2", texts())):
        await nb.transact([Mutate(table="Address_Set", uuid=uid("s"), column="addresses", delete=frozenset([gone]))])
        assert nb.rows("Address_Set")[uid("s")]["addresses"] == left


async def test_inserted_wins_over_deleted(nb: Northbound) -> None:
    await nb.transact([address_set("s", "10.0.0.1")])
    both = frozenset(["10.0.0.1", "10.0.0.2"])
    await nb.transact([Mutate(table="Address_Set", uuid=uid("s"), column="addresses", insert=both, delete=both)])
    assert nb.rows("Address_Set")[uid("s")]["addresses"] == both


async def test_only_member_can_be_replaced_in_a_set_that_must_not_be_empty(nb: Northbound) -> None:
    router_port = Insert(
        table="Logical_Router_Port",
        uuid=uid("lrp"),
        columns={"name": "lrp", "mac": "0a:58:00:00:00:01", "networks": frozenset(["10.0.0.1/24"])},
    )
    router = Insert(table="Logical_Router", uuid=uid("r"), columns={"name": "r", "ports": refs("lrp")})
    await nb.transact([router_port, router])
    old, new = frozenset(["10.0.0.1/24"]), frozenset(["10.0.1.1/24"])
    row = uid("lrp")
    await nb.transact([Mutate(table="Logical_Router_Port", uuid=row, column="networks", insert=new, delete=old)])
    assert nb.rows("Logical_Router_Port")[uid("lrp")]["networks"] == new
    await refused(
        nb, [Mutate(table="Logical_Router_Port", uuid=row, column="networks", delete=new)], "constraint violation", 0
    )


async def test_mutate_map(nb: Northbound) -> None:
    row = Insert(table="Address_Set", uuid=uid("s"), columns={"name": "s", "external_ids": {"a": "1", "b": "2"}})
    await nb.transact([row])
    await nb.transact(
        [
            Mutate(
                table="Address_Set",
                uuid=uid("s"),
                column="external_ids",
                keys={"a": "9", "c": "3"},
                drop=frozenset(["b", "z"]),
            )
        ]
    )
    assert nb.rows("Address_Set")[uid("s")]["external_ids"] == {"a": "9", "c": "3"}


async def test_update_overwrites_named_columns_only(nb: Northbound) -> None:
    await nb.transact([acl("a", severity="info", meter="m"), group("g", refs("a"))])
    await nb.transact([Update(table="ACL", uuid=uid("a"), columns={"severity": None, "name": "n", "priority": 7})])
    row = nb.rows("ACL")[uid("a")]
    assert (row["severity"], row["name"], row["priority"], row["meter"]) == (None, "n", 7, "m")


async def test_rows_inserted_in_the_transaction_can_be_changed_in_it(nb: Northbound) -> None:
    await nb.transact(
        [
            address_set("s"),
            Update(table="Address_Set", uuid=uid("s"), columns={"external_ids": {"k": "v"}}),
            Mutate(table="Address_Set", uuid=uid("s"), column="addresses", insert=frozenset(["10.0.0.1"])),
        ]
    )
    row = nb.rows("Address_Set")[uid("s")]
    assert (row["external_ids"], row["addresses"]) == ({"k": "v"}, texts("10.0.0.1"))
    await nb.transact([address_set("t"), Delete(table="Address_Set", uuid=uid("t"))])
    assert uid("t") not in nb.rows("Address_Set")


@pytest.mark.parametrize(
    "missing",
    [
        Update(table="Address_Set", uuid=uid("gone"), columns={"name": "x"}),
        Mutate(table="Address_Set", uuid=uid("gone"), column="addresses", insert=frozenset(["10.0.0.1"])),
        Mutate(table="Address_Set", uuid=uid("gone"), column="addresses"),
        Delete(table="Address_Set", uuid=uid("gone")),
    ],
    ids=lambda operation: type(operation).__name__,
)
async def test_missing_row_is_refused_and_nothing_changes(nb: Northbound, missing: Operation) -> None:
    await nb.transact([address_set("s", "10.0.0.1")])
    change = Mutate(table="Address_Set", uuid=uid("s"), column="addresses", insert=frozenset(["10.0.0.7"]))
    await refused(nb, [change, address_set("t"), missing], MISSING_ROW, 2)


async def test_row_deleted_earlier_in_the_transaction_is_missing(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    gone = Delete(table="Address_Set", uuid=uid("s"))
    await refused(nb, [gone, gone], MISSING_ROW, 1)
    await refused(nb, [gone, Update(table="Address_Set", uuid=uid("s"), columns={"name": "x"})], MISSING_ROW, 1)


async def test_weak_reference_disappears_with_its_row(nb: Northbound) -> None:
    await nb.transact([port("p"), port("q"), switch("s", refs("p", "q")), group("g", ports=refs("p", "q"))])
    await nb.transact([Mutate(table="Logical_Switch", uuid=uid("s"), column="ports", delete=refs("p"))])
    assert nb.rows("Port_Group")[uid("g")]["ports"] == refs("q")
    await nb.transact([Delete(table="Logical_Switch", uuid=uid("s"))])
    assert nb.rows("Port_Group")[uid("g")]["ports"] == frozenset()


async def test_weak_reference_to_nothing_is_dropped(nb: Northbound) -> None:
    await nb.transact([group("g", ports=refs("nobody"))])
    assert nb.rows("Port_Group")[uid("g")]["ports"] == frozenset()
    await nb.transact([Mutate(table="Port_Group", uuid=uid("g"), column="ports", insert=refs("nobody"))])
    assert nb.rows("Port_Group")[uid("g")]["ports"] == frozenset()


async def test_strong_reference_to_nothing_is_refused(nb: Northbound) -> None:
    await refused(nb, [group("g", refs("nobody"))], "referential integrity violation", None)


async def test_deleting_a_referenced_row_is_refused(nb: Northbound) -> None:
    await nb.transact([acl("a"), group("g", refs("a"))])
    await refused(nb, [Delete(table="ACL", uuid=uid("a"))], "referential integrity violation", None)


async def test_bump_config_returns_the_new_value(nb: Northbound) -> None:
    first = (await nb.transact([address_set("s"), BumpConfig()])).nb_cfg
    second = (await nb.transact([BumpConfig()])).nb_cfg
    assert first is not None
    assert second == first + 1
    (row,) = nb.rows("NB_Global").values()
    assert row["nb_cfg"] == second


async def test_only_one_global_row(nb: Northbound) -> None:
    await refused(nb, [Insert(table="NB_Global", uuid=uid("second"), columns={})], "constraint violation", None)


async def test_empty_transaction_and_unmirrored_table(nb: Northbound) -> None:
    assert (await nb.transact([])).operations == 0
    assert nb.rows("Bridge") == {}


async def test_an_answer_is_heard(nb: Northbound) -> None:
    before_s = time.time()
    await nb.transact([])
    assert before_s - 0.005 <= nb.heard_s <= time.time() + 0.005


async def test_columns_and_tables_the_schema_lacks_are_left_out(connect: Connect, nb: Northbound) -> None:
    await nb.transact([acl("a"), group("g", refs("a"))])
    other = await connect()
    await other.close()
    await other.connect({"ACL": ("match", "colour"), "Colour": ("name",)})
    assert other.rows("ACL") == {uid("a"): {"match": "ip4"}}
    assert other.rows("Colour") == {}


async def test_schema_probe(nb: Northbound) -> None:
    assert nb.schema.name == "OVN_Northbound"
    assert nb.schema.has("ACL", "match")
    assert not nb.schema.has("ACL", "colour")
    assert nb.schema.tables["ACL"].columns["priority"].highest == 32767


async def test_another_client_sees_the_rows(connect: Connect, nb: Northbound) -> None:
    await nb.transact([acl("a"), group("g", refs("a"))])
    other = await connect()
    assert content(other) == content(nb)


async def test_changes_of_ours_and_of_others(connect: Connect, nb: Northbound) -> None:
    other = await connect()
    stream = nb.changes()
    await nb.transact([address_set("s", "10.0.0.1")])
    assert await asyncio.wait_for(anext(stream), 5) == {"Address_Set": {uid("s"): None}}
    before = nb.rows("Address_Set")[uid("s")]
    await other.transact([])
    await other.transact(
        [Mutate(table="Address_Set", uuid=uid("s"), column="addresses", insert=frozenset(["10.0.0.2"]))]
    )
    assert await asyncio.wait_for(anext(stream), 5) == {"Address_Set": {uid("s"): before}}
    assert before["addresses"] == texts("10.0.0.1")
    assert nb.rows("Address_Set")[uid("s")]["addresses"] == texts("10.0.0.1", "10.0.0.2")
    await other.transact([Delete(table="Address_Set", uuid=uid("s"))])
    changes = await asyncio.wait_for(anext(stream), 5)
    assert changes["Address_Set"][uid("s")] == {**before, "addresses": frozenset(["10.0.0.1", "10.0.0.2"])}
    assert not nb.rows("Address_Set")


async def test_changes_begin_when_asked_for_and_end_with_close(nb: Northbound) -> None:
    await nb.transact([address_set("s")])
    stream = nb.changes()
    await nb.transact([Delete(table="Address_Set", uuid=uid("s"))])
    await nb.close()
    items = [item async for item in stream]
    assert [list(item) for item in items] == [["Address_Set"]]
    assert items[0]["Address_Set"][uid("s")] is not None


async def test_slow_reader_of_changes_gets_the_oldest_before(nb: Northbound) -> None:
    stream = nb.changes()
    await nb.transact([address_set("s")])
    for number in range(300):
        await nb.transact([Update(table="Address_Set", uuid=uid("s"), columns={"external_ids": {"n": str(number)}})])
    await nb.close()
    items = [item async for item in stream]
    assert len(items) <= 256
    assert items[0]["Address_Set"][uid("s")] is None
    last = items[-1]["Address_Set"][uid("s")]
    assert last is not None
    assert int(last["external_ids"]["n"]) < 298  # type: ignore[index]


async def test_lock_is_exclusive_and_asserted(connect: Connect, nb: Northbound) -> None:
    other = await connect()
    assert await nb.lock("ovnk_test")
    assert await nb.lock("ovnk_test")
    assert not await other.lock("ovnk_test")
    await nb.transact([address_set("s")])
    with pytest.raises(Rejected, match="not owner"):
        await other.transact([address_set("t")])
    await nb.close()
    async with asyncio.timeout(10):
        while not await other.lock("ovnk_test"):
            await asyncio.sleep(0.01)
    await other.transact([address_set("t")])
    assert set(other.rows("Address_Set")) == {uid("s"), uid("t")}


@pytest.mark.parametrize("name", ["", "a-b", "1a", "a b"])
async def test_lock_name_must_be_an_id(nb: Northbound, name: str) -> None:
    with pytest.raises(ValueError, match="RFC 7047"):
        await nb.lock(name)


async def test_closed_client_is_unreachable_and_closes_twice(nb: Northbound) -> None:
    await nb.close()
    await nb.close()
    with pytest.raises(Unreachable):
        await nb.transact([address_set("s")])


async def test_concurrent_transactions_all_land(nb: Northbound) -> None:
    async with asyncio.TaskGroup() as group_of_tasks:
        for number in range(20):
            group_of_tasks.create_task(nb.transact([address_set(f"s{number}")]))
    assert len(nb.rows("Address_Set")) == 20
