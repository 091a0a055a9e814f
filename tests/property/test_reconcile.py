"""apply(diff(actual, desired), actual) == desired, and everything that must not happen on the way.

Twice: on the smallest applier that can be written (below), and on the in-memory database, which also refuses dangling
references and duplicate names. Both hold rows of somebody else from the start.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid5

import msgspec
import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.errors import Rejected
from ovnk_core.ingest.decisions import accepted_texts
from ovnk_core.ingest.load import parse_objects
from ovnk_core.nb.desired import (
    ACLS,
    ADDRESS_SETS,
    DESIRED,
    LOAD_BALANCERS,
    PORT_GROUPS,
    ROUTER_POLICIES,
    SWITCH_PORTS,
)
from ovnk_core.nb.match import references
from ovnk_core.nb.match_parse import parse
from ovnk_core.nb.operation import Delete, Insert, Mutate, Operation, Update
from ovnk_core.nb.schema import DatabaseSchema, Row, default
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.northbound.port import Receipt
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.reconcile.diff import Desired, full, incremental, purge
from ovnk_core.reconcile.recall import recall
from ovnk_core.runtime.writer import Writer
from ovnk_core.terms.name import ObjectRef
from tests.kit.questions import cluster_of, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster, ref_of
from tests.kit.walk import Walker

Database = dict[str, dict[str, Row]]
FOREIGN = UUID("00000000-0000-4000-8000-00000000f0f0")


class Plain:
    """Rows in dicts; an operation does what its docstring says and nothing else."""

    def __init__(self, schema: DatabaseSchema) -> None:
        self.schema = schema
        self.tables: Database = {table: {} for table in TABLES}

    def commit(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            match operation:
                case Insert(table=table, uuid=uuid, columns=columns):
                    assert uuid not in self.tables[table], f"{table} {uuid} exists"
                    known = self.schema.tables[table].columns.values()
                    self.tables[table][uuid] = {column.name: default(column) for column in known} | columns
                case Update(table=table, uuid=uuid, columns=columns):
                    self.tables[table][uuid] = self.tables[table][uuid] | columns
                case Mutate(table=table, uuid=uuid, column=column):
                    have = self.tables[table][uuid][column]
                    assert isinstance(have, frozenset)
                    assert not operation.insert & have, "inserts what is there"
                    assert operation.delete <= have, "deletes what is not there"
                    changed = (have - operation.delete) | operation.insert
                    self.tables[table][uuid] = self.tables[table][uuid] | {column: changed}
                case Delete(table=table, uuid=uuid):
                    del self.tables[table][uuid]
                case _:
                    raise AssertionError(operation)


Store = Plain | MemoryDatabase
STORES = ("plain", "memory")


def make_store(kind: str) -> Store:
    memory = MemoryDatabase()
    store: Store = memory if kind == "memory" else Plain(memory.schema)
    store.commit(foreign_rows())
    return store


def foreign_rows() -> list[Operation]:
    """A switch with a port and an ACL, an address set and a port group that are not ours."""
    port, acl, switch, group, names = (str(uuid5(FOREIGN, word)) for word in ("port", "acl", "switch", "group", "set"))
    return [
        Insert(table="Logical_Switch_Port", uuid=port, columns={"name": "theirs"}),
        Insert(
            table="ACL",
            uuid=acl,
            columns={"direction": "to-lport", "priority": 5, "match": "ip4", "action": "drop"},
        ),
        Insert(
            table="Logical_Switch",
            uuid=switch,
            columns={"name": "theirs", "ports": frozenset((port,)), "acls": frozenset((acl,))},
        ),
        Insert(table="Port_Group", uuid=group, columns={"name": "theirs", "ports": frozenset((port,))}),
        Insert(table="Address_Set", uuid=names, columns={"name": "theirs", "addresses": frozenset(("192.0.2.9",))}),
    ]


def snapshot(store: Store) -> Database:
    return {table: copy.deepcopy(dict(store.tables[table])) for table in TABLES}


def wanted_rows(desired: Desired) -> Database:
    """Every desired row in full, defaults included."""
    members = desired.members()
    found: Database = {table: {} for table in TABLES}
    for row_id, row in desired.rows():
        known = desired.columns.schema.tables[row_id.table].columns.values()
        columns = {column.name: default(column) for column in known}
        columns |= desired.columns.scalars(row_id, row) | desired.columns.sets(row_id, members)
        found[row_id.table][row_id.uuid] = columns
    return found


def reconcile(store: Store, cluster: Cluster) -> tuple[Operation, ...]:
    """One transaction; afterwards nothing is left to do, ours is what is desired, and theirs is as it was."""
    desired = Desired(cluster.engine, store.schema)
    theirs = foreign(snapshot(store))
    difference = full(desired, snapshot(store))
    store.commit(difference.operations)
    after = snapshot(store)
    assert full(desired, after).operations == ()
    assert ours(after) == wanted_rows(desired)
    assert foreign(after) == theirs
    assert difference.rows_owned == sum(map(len, ours(after).values()))
    assert difference.rows_foreign == sum(map(len, theirs.values())) == 5
    return difference.operations


def foreign(database: Database) -> Database:
    uuids = {str(uuid5(FOREIGN, word)) for word in ("port", "acl", "switch", "group", "set")}
    return {table: {uuid: row for uuid, row in rows.items() if uuid in uuids} for table, rows in database.items()}


def ours(database: Database) -> Database:
    theirs = foreign(database)
    return {
        table: {uuid: row for uuid, row in rows.items() if uuid not in theirs[table]}
        for table, rows in database.items()
    }


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("seed", range(500, 500 + scaled(6)))
def test_any_cluster_can_follow_any_other(seed: int, kind: str) -> None:
    store = make_store(kind)
    for number in range(4):
        made = RandomCluster(seed + 1000 * number)
        assert reconcile(store, cluster_of(made.manifests())), f"seed {made.seed}"


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("seed", range(520, 520 + scaled(4)))
def test_incremental_difference_is_the_full_one(seed: int, kind: str) -> None:
    made = RandomCluster(seed, pods=(5, 25), policies=(1, 10))
    store, walker = make_store(kind), Walker(made.manifests(), check=False)
    desired = Desired(walker.cluster.engine, store.schema)
    reconcile(store, walker.cluster)
    for step in range(60):
        edit = made.reconfigure() if step % 25 == 24 else made.mutate()
        deltas = walker.apply(edit)
        before = snapshot(store)
        short, long = incremental(desired, deltas, before), full(desired, before).operations
        assert _as_set(short) == _as_set(long), f"seed {seed}, step {step}, {edit}"
        store.commit(short)
        assert ours(snapshot(store)) == wanted_rows(desired), f"seed {seed}, step {step}, {edit}"


@pytest.mark.parametrize("seed", range(540, 540 + scaled(3)))
def test_several_deltas_at_once(seed: int) -> None:
    """Edits that arrive while a transaction is under way are compared together later."""
    made = RandomCluster(seed, pods=(5, 25), policies=(1, 10))
    store, walker = make_store("memory"), Walker(made.manifests(), check=False)
    desired = Desired(walker.cluster.engine, store.schema)
    reconcile(store, walker.cluster)
    for burst in range(8):
        deltas = [delta for _ in range(6) for delta in walker.apply(made.mutate())]
        store.commit(incremental(desired, deltas, snapshot(store)))
        assert ours(snapshot(store)) == wanted_rows(desired), f"seed {seed}, burst {burst}"


def _as_set(operations: Iterable[Operation]) -> set[tuple[str, bytes]]:
    """Operations without the order of their sets."""
    return {(type(each).__name__, msgspec.json.encode(each, order="deterministic")) for each in operations}


@pytest.mark.parametrize("seed", range(560, 560 + scaled(12)))
def test_every_name_in_a_match_exists(seed: int) -> None:
    """ovn-controller stops at a set or group that does not exist; and what we print can be read back."""
    engine = cluster_of(RandomCluster(seed, FAMILIES[seed % 3]).manifests()).engine
    sets = {row.name for row in engine.rows(ADDRESS_SETS).values()}
    groups = {row.name for row in engine.rows(PORT_GROUPS).values()}
    for table, spec in TABLES.items():
        if spec.name_column is not None:
            names = Counter(getattr(row, spec.name_column) for row in engine.rows(DESIRED[table]).values())
            assert not [name for name, count in names.items() if count > 1], f"seed {seed}: {table}"
    matches = [acl.match for acl in engine.rows(ACLS).values()]
    matches += [policy.match for policy in engine.rows(ROUTER_POLICIES).values()]
    for match in matches:
        named_sets, named_groups = references(parse(match))
        assert named_sets <= sets, f"seed {seed}: {match}"
        assert named_groups <= groups, f"seed {seed}: {match}"


@pytest.mark.parametrize("kind", STORES)
def test_purge_removes_exactly_ours(kind: str) -> None:
    store = make_store(kind)
    theirs = foreign(snapshot(store))
    reconcile(store, cluster_of(RandomCluster(580).manifests()))
    # Theirs may refer to ours: that reference goes, their row stays.
    own_port = next(uuid for uuid in store.tables["Logical_Switch_Port"] if uuid != str(uuid5(FOREIGN, "port")))
    group = str(uuid5(FOREIGN, "group"))
    store.commit([Mutate(table="Port_Group", uuid=group, column="ports", insert=frozenset((own_port,)))])
    store.commit(purge(snapshot(store)))
    assert snapshot(store) == theirs


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("seed", range(590, 590 + scaled(4)))
def test_rows_of_a_refused_pod_stay(seed: int, kind: str) -> None:
    """A pod whose manifest turned invalid before this start: its accepted version is on record and stays in force."""
    made = RandomCluster(seed, pods=(20, 30), policies=(5, 10))
    store, cluster = make_store(kind), cluster_of(made.manifests())
    reconcile(store, cluster)
    before = snapshot(store)
    victim = next(
        manifest
        for manifest in made.of_kind("Pod")
        if any(_is_port_of(ref_of(manifest), row) for row in before["Logical_Switch_Port"].values())
    )
    manifests = made.manifests()
    for manifest in manifests:
        if ref_of(manifest) == ref_of(victim):
            manifest["spec"]["hostNetwork"] = "perhaps"
    restarted = Cluster(decisions=cluster.decisions)
    restarted.replace(parse_objects(manifests))
    assert ref_of(victim) in restarted.refused, f"seed {seed}"
    difference = full(Desired(restarted.engine, store.schema), before)
    assert difference.operations == (), f"seed {seed}: {difference.operations[:3]}"


def _is_port_of(ref: ObjectRef, row: Row) -> bool:
    return row["name"] == f"{ref.namespace}_{ref.name}"


@pytest.mark.parametrize("seed", range(610, 610 + scaled(6)))
def test_decisions_are_read_back_from_the_rows_they_shaped(seed: int) -> None:
    """A restart without any file: what the northbound says is what was decided."""
    made = RandomCluster(seed, FAMILIES[seed % 3])
    store, cluster = make_store("memory"), cluster_of(made.manifests())
    reconcile(store, cluster)
    recalled = recall(snapshot(store))
    assert recalled.nodes == cluster.decisions.nodes, f"seed {seed}"
    assert recalled.pods == cluster.decisions.pods, f"seed {seed}"
    ports = {row.name for row in cluster.engine.rows(SWITCH_PORTS).values()}
    balanced = {row_id.owner for row_id in cluster.engine.rows(LOAD_BALANCERS)}
    services = {str(ref.key): cluster.decisions.services[str(ref.key)] for ref in balanced}
    assert recalled.services == services, f"seed {seed}"
    expected = {
        ref: item
        for ref, item in cluster.decisions.accepted.items()
        if ref.kind in ("Node", "NetworkPolicy", "EgressFirewall")
        or (ref.kind == "Pod" and f"{ref.namespace}_{ref.name}" in ports)
        or ref in balanced
    }
    nowhere = {ref for ref in expected if ref.kind == "Node" and ref.name not in recalled.nodes}
    accepted = accepted_texts(recalled.accepted)
    assert accepted == {ref: item for ref, item in expected.items() if ref not in nowhere}, f"seed {seed}"


def test_one_transaction_per_reconcile() -> None:
    """Prefixes do not matter, because there are none: a refused operation leaves everything as it was."""
    store = make_store("memory")
    reconcile(store, cluster_of(RandomCluster(620).manifests()))
    before = snapshot(store)
    desired = Desired(cluster_of(RandomCluster(621).manifests()).engine, store.schema)
    operations = full(desired, before).operations
    with pytest.raises(Rejected):
        store.commit((*operations, Update(table="ACL", uuid=str(uuid5(FOREIGN, "nobody")), columns={"priority": 1})))
    assert snapshot(store) == before


@pytest.mark.asyncio
async def test_rows_of_a_refused_pod_go_when_the_pod_does() -> None:
    """Refused, then gone from a readable source: only then its rows go."""
    made = RandomCluster(630, pods=(20, 30), policies=(5, 10))
    cluster = cluster_of(made.manifests())
    database = MemoryDatabase()
    before = MemoryNorthbound(database=database)
    await before.connect(mirrored())
    await Writer(cluster, before, adopt=False, allow_prune=True).flush()
    await before.close()
    victim = ref_of(made.of_kind("Pod")[0])
    manifests = [manifest for manifest in made.manifests() if ref_of(manifest) != victim]
    broken = next(manifest for manifest in made.manifests() if ref_of(manifest) == victim)
    broken["spec"]["hostNetwork"] = "perhaps"

    restarted = Cluster(decisions=cluster.decisions)
    restarted.replace(parse_objects([*manifests, broken]))
    northbound = MemoryNorthbound(database=database)
    await northbound.connect(mirrored())
    writer = Writer(restarted, northbound, adopt=False, allow_prune=True)
    assert sum((await writer.flush()).operations.values()) == 0
    writer.note(restarted.replace(parse_objects(manifests)).delta)
    await writer.flush()
    assert ours(snapshot(database)) == wanted_rows(Desired(restarted.engine, database.schema))
    await northbound.close()


class _Interrupted(MemoryNorthbound):
    """Somebody raises a doubt while a transaction is under way."""

    writer: Writer | None = None

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        receipt = await super().transact(operations, timeout_s=timeout_s)
        port = next(uuid for uuid, row in self.database.tables["Logical_Switch_Port"].items() if row["type"] == "")
        self.database.commit([Update(table="Logical_Switch_Port", uuid=port, columns={"type": "changed"})])
        if self.writer is not None:
            self.writer.doubt()
            self.writer = None
        return receipt


@pytest.mark.asyncio
async def test_a_doubt_during_a_transaction_is_not_forgotten() -> None:
    cluster = cluster_of(RandomCluster(631).manifests())
    northbound = _Interrupted()
    await northbound.connect(mirrored())
    northbound.writer = writer = Writer(cluster, northbound, adopt=False, allow_prune=True)
    await writer.flush()
    assert (await writer.flush()).operations["update"] == 1
    await northbound.close()
