"""The in-memory database against a real server: random transactions give the same rows, or are refused alike.

Half of the operations are drawn to collide: few uuids, few names, references to rows that may or may not be there.
``TEST_SCALE`` multiplies the number of walks; a failing seed is in the test's id and message.

Where ovsdb-server (3.1) deletes a row in a transaction that also changes another column of a row which refers to it
weakly, it forgets to drop the reference. Ours does drop it, and our own transactions name every reference that goes, so
that is not imitated: a walk ends where it happens.
"""

from __future__ import annotations

import os
import random

import pytest

from ovnk_core.errors import Rejected, TurnLost
from ovnk_core.nb.operation import BumpConfig, Delete, Insert, Mutate, Operation, RequireTurn, TakeTurn, Update
from ovnk_core.nb.schema import Atom, Column, Datum, Row
from ovnk_core.northbound.memory import MemoryNorthbound
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.northbound.port import Northbound
from tests.kit.ovn import OvsdbServer
from tests.south.rows import MIRRORED, uid

pytestmark = [pytest.mark.asyncio, pytest.mark.ovn]
SCALE = float(os.environ.get("TEST_SCALE", "1"))
SEEDS, TRANSACTIONS = max(1, int(6 * SCALE)), 60

TABLES = tuple(table for table in MIRRORED if table != "NB_Global")
POOL = 4
"""Rows per table that the walk knows of; small, so that transactions meet."""


class Walk:
    """Draws operations; ``known`` are rows that exist, so that most operations hit something."""

    def __init__(self, seed: int, nb: Northbound) -> None:
        self.random, self.nb = random.Random(seed), nb

    def uuid(self, table: str) -> str:
        return uid(f"{table}/{self.random.randrange(POOL)}")

    def present(self, table: str) -> str:
        """Mostly a row that exists, sometimes any."""
        rows = sorted(self.nb.rows(table))
        return self.random.choice(rows) if rows and self.random.random() < 0.93 else self.uuid(table)

    def atom(self, column: Column) -> Atom:
        if column.ref_table:
            return self.present(column.ref_table)
        if column.enum:
            return self.random.choice(column.enum) if self.random.random() < 0.99 else "no-such-value"
        match column.key:
            case "integer":
                low, high = column.lowest or 0, column.highest or 1000
                return self.random.choice([low, high, 7, low - 1 if self.random.random() < 0.02 else low])
            case "boolean":
                return self.random.random() < 0.5
            case _:
                # Names come from a small pool: unique indexes must be met.
                return f"{column.name}{self.random.randrange(POOL * 6)}"

    def datum(self, column: Column) -> Datum:
        match column.shape:
            case "map":
                return {f"k{self.random.randrange(3)}": f"v{self.random.randrange(2)}" for _ in range(2)}
            case "set":
                if column.ref_table and not self.nb.rows(column.ref_table) and self.random.random() < 0.9:
                    return frozenset()
                count = self.random.randrange(column.at_least if self.random.random() < 0.98 else 0, 4)
                return frozenset(self.atom(column) for _ in range(count))
            case "optional":
                return None if self.random.random() < 0.4 else self.atom(column)
            case "one":
                return self.atom(column)

    def columns(self, table: str, *, is_complete: bool) -> Row:
        schema = self.nb.schema.tables[table].columns
        names = [name for name in MIRRORED[table] if name in schema]
        required = {name for name in names if schema[name].at_least}
        required |= {
            name for name in names if schema[name].shape == "one" and (schema[name].enum or schema[name].lowest)
        }
        chosen = [name for name in names if (is_complete and name in required) or self.random.random() < 0.4]
        return {name: self.datum(schema[name]) for name in chosen}

    def operation(self) -> list[Operation]:
        """One operation, or an insert with the reference that keeps it alive."""
        table = self.random.choice(TABLES)
        draw = self.random.random()
        if draw < 0.45 or (not self.nb.rows(table) and self.random.random() < 0.95):
            return self.insert(table)
        if draw < 0.6:
            return [Update(table=table, uuid=self.present(table), columns=self.columns(table, is_complete=False))]
        if draw < 0.85:
            return self.mutate(table)
        if draw < 0.97:
            return [Delete(table=table, uuid=self.present(table))]
        epoch, previous = self.random.randrange(3), self.random.choice([None, 0, 1, 2])
        turns: list[Operation] = [RequireTurn(epoch=epoch), TakeTurn(epoch=epoch, previous=previous), BumpConfig()]
        return [self.random.choice(turns)]

    def insert(self, table: str) -> list[Operation]:
        free = [
            uuid for uuid in (uid(f"{table}/{number}") for number in range(POOL)) if uuid not in self.nb.rows(table)
        ]
        uuid = self.random.choice(free) if free and self.random.random() < 0.9 else self.uuid(table)
        operations: list[Operation] = [
            Insert(table=table, uuid=uuid, columns=self.columns(table, is_complete=self.random.random() < 0.98))
        ]
        parents = [
            (name, column)
            for name, of in self.nb.schema.tables.items()
            for column in of.columns.values()
            if column.ref_table == table and column.is_strong and column.shape == "set" and self.nb.rows(name)
        ]
        if parents and self.random.random() < 0.8:
            parent, column = self.random.choice(parents)
            holder = self.random.choice(sorted(self.nb.rows(parent)))
            operations.append(Mutate(table=parent, uuid=holder, column=column.name, insert=frozenset([uuid])))
        return operations

    def mutate(self, table: str) -> list[Operation]:
        schema = self.nb.schema.tables[table].columns
        names = [name for name in MIRRORED[table] if schema[name].shape in ("set", "map")]
        if not names:
            return []
        uuid = self.present(table)
        column = schema[self.random.choice(names)]
        if column.shape == "map":
            keys = {f"k{self.random.randrange(3)}": f"v{self.random.randrange(3)}" for _ in range(2)}
            drop = frozenset(f"k{self.random.randrange(4)}" for _ in range(2))
            return [Mutate(table=table, uuid=uuid, column=column.name, keys=keys, drop=drop)]
        row = self.nb.rows(table).get(uuid, {})
        held = row.get(column.name, frozenset())
        assert isinstance(held, frozenset)
        gone = frozenset(atom for atom in sorted(held, key=str) if self.random.random() < 0.5)
        added = frozenset(self.atom(column) for _ in range(self.random.randrange(3)))
        return [Mutate(table=table, uuid=uuid, column=column.name, insert=added, delete=gone)]

    def transaction(self) -> list[Operation]:
        return [operation for _ in range(self.random.choice([1, 1, 1, 2, 4])) for operation in self.operation()]


async def outcome(nb: Northbound, operations: list[Operation]) -> tuple[str, int | None, int | None]:
    """("ok", nb_cfg, None), or the refusal and the operation it names."""
    try:
        receipt = await nb.transact(operations)
    except Rejected as error:
        return error.error, None, error.operation
    except TurnLost as error:
        return "turn", error.epoch, None
    return "ok", receipt.nb_cfg, None


def dangles(nb: Northbound) -> bool:
    """Whether a weak reference leads nowhere."""
    for table, columns in MIRRORED.items():
        for column in (nb.schema.tables[table].columns[name] for name in columns):
            if column.ref_table in MIRRORED and not column.is_strong:
                values = [row[column.name] for row in nb.rows(table).values()]
                held = {uuid for value in values for uuid in (value if isinstance(value, frozenset) else (value,))}
                if held - {None} - nb.rows(column.ref_table).keys():
                    return True
    return False


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_memory_and_server_agree(server: OvsdbServer, seed: int) -> None:
    memory, real = MemoryNorthbound(), NativeNorthbound(server.address)
    await memory.connect(MIRRORED)
    await real.connect(MIRRORED)
    walk, committed = Walk(seed, memory), 0
    try:
        for number in range(TRANSACTIONS):
            operations = walk.transaction()
            ours, theirs = await outcome(memory, operations), await outcome(real, operations)
            trail = f"seed {seed}, transaction {number}: {operations}"
            assert ours == theirs, trail
            committed += ours[0] == "ok"
            if dangles(real):
                break
            for table in TABLES:
                assert dict(memory.rows(table)) == dict(real.rows(table)), f"{table}; {trail}"
            assert [(row["nb_cfg"], row["external_ids"]) for row in memory.rows("NB_Global").values()] == [
                (row["nb_cfg"], row["external_ids"]) for row in real.rows("NB_Global").values()
            ], trail
        assert committed > number // 4, f"seed {seed}: {committed} of {number} were accepted"
        # A client that loads everything anew sees what the one that followed every update holds.
        fresh = NativeNorthbound(server.address)
        await fresh.connect(MIRRORED)
        for table in TABLES:
            assert dict(fresh.rows(table)) == dict(real.rows(table)), table
        await fresh.close()
    finally:
        await real.close()
        await memory.close()
