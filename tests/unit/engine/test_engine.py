"""The engine's own promises, on a toy graph: laws that every feature inherits."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from ovnk_core.engine.engine import Engine
from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.errors import BugError, Divergence, FloorError, KeyClash, RuleFault

NUMBER = Table[str, int]("number")
FACTOR = Table[str, int]("factor")
PRODUCT = Table[str, int]("product")
PARITY = SetTable[str, str]("parity")
SIZE = Table[str, int]("size")


@rule(driver=NUMBER, reads=(FACTOR,), out=(PRODUCT, PARITY))
def multiply(read: Reader, key: str, number: int) -> Iterable[Output]:
    factor = read(FACTOR, key[0])
    if factor is not None:
        yield PRODUCT.row(key, number * factor)
        yield PARITY.member("odd" if number * factor % 2 else "even", key)


@rule(driver=FACTOR, reads=(PARITY,), out=(SIZE,))
def count_even(read: Reader, key: str, factor: int) -> Iterable[Output]:
    yield SIZE.row(key, len(read(PARITY, "even")))


GRAPH = (count_even, multiply)


def test_removal_is_not_written_by_hand() -> None:
    engine = Engine(GRAPH, check=True)
    with engine.transaction() as txn:
        txn.put(NUMBER, "a1", 3)
        txn.put(FACTOR, "a", 2)
    assert dict(engine.rows(PRODUCT)) == {"a1": 6}
    assert set(engine.members(PARITY, "even")) == {"a1"}
    with engine.transaction() as txn:
        txn.delete(FACTOR, "a")
    assert not engine.rows(PRODUCT)
    assert not engine.sets(PARITY)
    assert txn.delta.rows(PRODUCT) == {"a1": (6, None)}


def test_a_lookup_that_found_nothing_is_remembered() -> None:
    engine = Engine(GRAPH, check=True)
    with engine.transaction() as txn:
        txn.put(NUMBER, "a1", 3)
    with engine.transaction() as txn:
        txn.put(FACTOR, "a", 5)
    assert engine.rows(PRODUCT)["a1"] == 15


def test_an_equal_write_is_a_no_op_and_runs_nothing() -> None:
    engine = Engine(GRAPH)
    with engine.transaction() as txn:
        txn.put(NUMBER, "a1", 3)
        txn.put(FACTOR, "a", 2)
    runs = engine.stats()
    with engine.transaction() as txn:
        txn.put(NUMBER, "a1", 3)
        txn.delete(NUMBER, "absent")
    assert txn.noops == [("number", "a1"), ("number", "absent")]
    assert not txn.delta
    assert {name: stat["runs"] for name, stat in engine.stats().items()} == {n: s["runs"] for n, s in runs.items()}
    assert engine.revision == 1


def test_early_cut_off_stops_the_wave() -> None:
    engine = Engine(GRAPH)
    with engine.transaction() as txn:
        txn.put(FACTOR, "a", 2)
        txn.put(NUMBER, "a1", 1)
    with engine.transaction() as txn:
        txn.put(NUMBER, "a1", 2)
    assert PARITY not in txn.delta.tables()
    assert engine.stats()[count_even.name]["runs"] == 1


def test_a_fault_leaves_everything_as_it_was_and_the_engine_recovers() -> None:
    @rule(driver=NUMBER, out=(PRODUCT,))
    def explode(read: Reader, key: str, number: int) -> Iterable[Output]:
        yield PRODUCT.row(key, 10 // number)

    engine = Engine((explode,))
    with engine.transaction() as txn:
        txn.put(NUMBER, "a", 5)
    with pytest.raises(RuleFault, match=r"explode\(b\).*ZeroDivisionError"), engine.transaction() as txn:
        txn.put(NUMBER, "a", 2)
        txn.put(NUMBER, "b", 0)
    assert dict(engine.rows(NUMBER)) == {"a": 5}
    assert dict(engine.rows(PRODUCT)) == {"a": 2}
    with engine.transaction() as txn:
        txn.put(NUMBER, "a", 1)
    assert dict(engine.rows(PRODUCT)) == {"a": 10}
    engine.verify()


def test_two_drivers_of_one_key_clash_but_a_handover_does_not() -> None:
    @rule(driver=NUMBER, out=(PRODUCT,))
    def by_value(read: Reader, key: str, number: int) -> Iterable[Output]:
        yield PRODUCT.row(str(number), 1)

    engine = Engine((by_value,))
    with engine.transaction() as txn:
        txn.put(NUMBER, "a", 1)
        txn.put(NUMBER, "b", 2)
    with pytest.raises(KeyClash, match=r"product\[1\]"), engine.transaction() as txn:
        txn.put(NUMBER, "b", 1)
    with engine.transaction() as txn:
        txn.put(NUMBER, "a", 2)
        txn.put(NUMBER, "b", 1)
    engine.verify()
    assert not txn.delta.rows(PRODUCT)


def test_undeclared_reads_and_writes_are_floor_errors() -> None:
    @rule(driver=NUMBER, out=(PRODUCT,))
    def peeks(read: Reader, key: str, number: int) -> Iterable[Output]:
        yield PRODUCT.row(key, read(FACTOR, key) or 0)

    with pytest.raises(RuleFault, match="does not declare"), Engine((peeks,)).transaction() as txn:
        txn.put(NUMBER, "a", 1)


def test_a_cycle_is_refused_at_construction() -> None:
    @rule(driver=NUMBER, reads=(SIZE,), out=(PRODUCT,))
    def first(read: Reader, key: str, number: int) -> Iterable[Output]:
        return ()

    @rule(driver=PRODUCT, out=(SIZE,))
    def second(read: Reader, key: str, number: int) -> Iterable[Output]:
        return ()

    with pytest.raises(FloorError, match="cycle"):
        Engine((first, second))


def test_an_impure_rule_is_caught_in_check_mode() -> None:
    counter = iter(range(1000))

    @rule(driver=NUMBER, out=(PRODUCT,))
    def impure(read: Reader, key: str, number: int) -> Iterable[Output]:
        yield PRODUCT.row(key, next(counter))

    with pytest.raises(RuleFault, match="not pure"), Engine((impure,), check=True).transaction() as txn:
        txn.put(NUMBER, "a", 1)


def test_verify_notices_a_divergence() -> None:
    engine = Engine(GRAPH)
    with engine.transaction() as txn:
        txn.put(FACTOR, "a", 2)
        txn.put(NUMBER, "a1", 1)
    state = engine._states[PRODUCT]
    state.rows["a1"] = 99  # type: ignore[union-attr]
    with pytest.raises(Divergence, match=r"product\[a1\]"):
        engine.verify()


def test_transactions_do_not_nest() -> None:
    engine = Engine(GRAPH)
    with engine.transaction(), pytest.raises(BugError), engine.transaction():
        pass


def test_load_in_slices_gives_the_same_and_can_be_abandoned() -> None:
    edits = [(NUMBER, f"a{i}", i) for i in range(2000)] + [(FACTOR, "a", 3)]
    engine = Engine(GRAPH)
    steps = 0
    loading = engine.load(edits, yield_every_ms=0)
    try:
        while True:
            next(loading)
            steps += 1
    except StopIteration as stop:
        delta = stop.value
    assert steps > 10
    assert len(delta.rows(PRODUCT)) == 2000
    engine.verify()
    abandoned = Engine(GRAPH)
    loading = abandoned.load(edits, yield_every_ms=0)
    next(loading)
    loading.close()
    assert not abandoned.rows(NUMBER)


def test_why_names_rule_driver_and_reads() -> None:
    engine = Engine(GRAPH)
    with engine.transaction() as txn:
        txn.put(FACTOR, "a", 2)
        txn.put(NUMBER, "a1", 1)
    (origin,) = engine.why(PRODUCT, "a1")
    assert (origin.driver, origin.reads) == ("a1", (("factor", "a"),))
    (member,) = engine.why(PARITY, "even", "a1")
    assert member.driver == "a1"


@pytest.mark.parametrize("seed", range(20))
def test_incremental_equals_from_scratch_on_random_walks(seed: int) -> None:
    dice = random.Random(seed)
    engine = Engine(GRAPH, check=True, verify_every=1, seed=seed)
    for _ in range(60):
        with engine.transaction() as txn:
            for _ in range(dice.randint(0, 4)):
                numbers = [f"{letter}{digit}" for letter in "abc" for digit in range(4)]
                table, keys = dice.choice(((NUMBER, numbers), (FACTOR, list("abc"))))
                key = dice.choice(keys)
                if dice.random() < 0.3:
                    txn.delete(table, key)
                else:
                    txn.put(table, key, dice.randint(0, 3))
    assert not engine.rebuild()


def test_describe_names_every_node_and_table() -> None:
    engine = Engine(GRAPH)
    assert "floor  1  rule" in engine.describe()
    assert '"number" [shape=cylinder]' in engine.describe("dot")
