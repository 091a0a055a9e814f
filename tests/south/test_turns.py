"""The writer's turn, on every driver: who may write is decided by the database, in the transaction itself."""

from __future__ import annotations

import asyncio

import pytest

from ovnk_core.errors import Rejected, SouthError, TurnLost
from ovnk_core.nb.operation import WRITER_KEY, BumpConfig, Delete, Insert, Mutate, RequireTurn, TakeTurn, turn_of
from ovnk_core.northbound.port import MISSING_ROW, Northbound
from ovnk_core.reconcile.columns import own_keys
from tests.kit.ovn import OvsdbServer
from tests.south.conftest import Connect
from tests.south.rows import address_set, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
TABLE = "NB_Global"


def global_uuid(nb: Northbound) -> str:
    (uuid,) = nb.rows(TABLE)
    return uuid


def note(nb: Northbound, **keys: str) -> Mutate:
    """Keys of somebody else in NB_Global.external_ids."""
    return Mutate(table=TABLE, uuid=global_uuid(nb), column="external_ids", keys=keys)


async def lost(nb: Northbound, epoch: int, *operations: RequireTurn | TakeTurn) -> None:
    """The transaction is refused as not the turn of ``epoch``, and left nothing behind."""
    await nb.transact([])
    turn, rows = turn_of(nb.rows(TABLE)), dict(nb.rows("Address_Set"))
    with pytest.raises(TurnLost) as caught:
        await nb.transact([*operations, address_set("lost")])
    assert caught.value.epoch == epoch
    assert caught.value.retry_after_s is None
    await nb.transact([])
    assert (turn_of(nb.rows(TABLE)), dict(nb.rows("Address_Set"))) == (turn, rows)


async def test_nobody_has_the_turn_at_first(nb: Northbound) -> None:
    assert turn_of(nb.rows(TABLE)) is None
    assert turn_of({}) is None
    await lost(nb, 1, RequireTurn(epoch=1))
    await lost(nb, 2, TakeTurn(epoch=2, previous=1))


async def test_taken_turn_lets_its_writer_write(nb: Northbound) -> None:
    receipt = await nb.transact([TakeTurn(epoch=1, previous=None), address_set("s"), BumpConfig()])
    assert (receipt.operations, receipt.nb_cfg) == (3, 1)
    assert turn_of(nb.rows(TABLE)) == 1
    receipt = await nb.transact([RequireTurn(epoch=1), address_set("t"), BumpConfig()])
    assert (receipt.operations, receipt.nb_cfg) == (3, 2)
    assert set(nb.rows("Address_Set")) == {uid("s"), uid("t")}


async def test_takeover_refuses_the_old_epoch(connect: Connect, nb: Northbound) -> None:
    heir = await connect()
    await nb.transact([TakeTurn(epoch=7, previous=None)])
    await heir.transact([])
    await heir.transact([TakeTurn(epoch=9, previous=turn_of(heir.rows(TABLE)))])
    await lost(nb, 7, RequireTurn(epoch=7))
    await lost(nb, 7, TakeTurn(epoch=7, previous=None))
    await lost(nb, 8, TakeTurn(epoch=8, previous=7))
    await heir.transact([RequireTurn(epoch=9), address_set("s")])
    assert turn_of(heir.rows(TABLE)) == 9


async def test_only_one_of_two_racing_clients_takes_it(connect: Connect, nb: Northbound) -> None:
    other, epoch, previous = await connect(), 1, None
    for _ in range(5):
        racers = [
            client.transact([TakeTurn(epoch=mine, previous=previous), address_set(f"by{mine}")])
            for client, mine in ((nb, epoch), (other, epoch + 1))
        ]
        outcomes = await asyncio.gather(*racers, return_exceptions=True)
        assert sum(isinstance(outcome, TurnLost) for outcome in outcomes) == 1, outcomes
        await nb.transact([])
        previous = turn_of(nb.rows(TABLE))
        assert previous in (epoch, epoch + 1)
        assert uid(f"by{previous}") in nb.rows("Address_Set")
        epoch += 2
    assert len(nb.rows("Address_Set")) == 5


async def test_other_keys_of_the_map_do_not_matter(connect: Connect, nb: Northbound) -> None:
    other = await connect()
    await other.transact([note(other, theirs="1")])
    await nb.transact([TakeTurn(epoch=1, previous=None)])
    await other.transact([note(other, theirs="2", more="3")])
    await nb.transact([RequireTurn(epoch=1), address_set("s")])
    await other.transact([note(other, theirs="4")])
    await nb.transact([TakeTurn(epoch=2, previous=1)])
    assert nb.rows(TABLE)[global_uuid(nb)]["external_ids"] == {"theirs": "4", "more": "3", WRITER_KEY: "2"}


async def test_taking_the_first_turn_twice_is_one_turn(nb: Northbound) -> None:
    await nb.transact([TakeTurn(epoch=1, previous=None)])
    await nb.transact([TakeTurn(epoch=1, previous=None)])
    assert turn_of(nb.rows(TABLE)) == 1


async def test_numbers_are_compared_whole(nb: Northbound) -> None:
    await nb.transact([TakeTurn(epoch=12, previous=None)])
    await lost(nb, 1, RequireTurn(epoch=1))
    await lost(nb, 123, RequireTurn(epoch=123))


async def test_the_turn_is_no_row_of_reconcile(nb: Northbound) -> None:
    await nb.transact([TakeTurn(epoch=1, previous=None), note(nb, **{"ovnk-accepted/x": "y", "theirs": "1"})])
    assert own_keys(nb.rows(TABLE)[global_uuid(nb)]) == {"ovnk-accepted/x": "y"}


async def test_turn_that_is_no_number_is_a_matter_for_a_person(nb: Northbound) -> None:
    await nb.transact([note(nb, **{WRITER_KEY: "me"})])
    with pytest.raises(SouthError, match="remove the key"):
        turn_of(nb.rows(TABLE))
    with pytest.raises(TurnLost):
        await nb.transact([TakeTurn(epoch=1, previous=None)])


@pytest.mark.parametrize(
    "operation", [RequireTurn(epoch=1), TakeTurn(epoch=1, previous=None), TakeTurn(epoch=2, previous=1)]
)
async def test_without_the_global_row_there_is_no_turn(
    nb: Northbound, server: OvsdbServer, operation: RequireTurn | TakeTurn
) -> None:
    uuid = global_uuid(nb)
    await nb.transact([Delete(table=TABLE, uuid=uuid)])
    try:
        with pytest.raises(Rejected) as caught:
            await nb.transact([address_set("s"), operation])
        assert (caught.value.error, caught.value.operation) == (MISSING_ROW, 1)
    finally:
        await nb.transact([Insert(table=TABLE, uuid=uid("global"), columns={})])
