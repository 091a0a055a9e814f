"""Editing firewalls: incremental equals from scratch, and no commit shows anything but the old list or the new one.

Every reconcile goes through the writer to the in-memory northbound: it is one commit or none, and after it the rows in
the database are judged on boundary points (``tests.kit.brute``).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.outcome import Item
from ovnk_core.ingest.position import SourceMap
from ovnk_core.kernels.layering import warm
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import EgressFirewall, FirewallRule
from ovnk_core.nb.operation import Mutate, Operation
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.northbound.port import Changes, Receipt
from ovnk_core.reconcile.columns import mirrored
from ovnk_core.reconcile.diff import Desired
from ovnk_core.runtime.writer import Writer
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import ObjectRef
from tests.kit.brute import ALLOW, DROP, NONE, Array, DatabaseRows, Flow, Flows
from tests.kit.corners import cluster_with, corners, every_corner, expected
from tests.kit.egress_firewall import SHOP, answered, landscape, rule, rules
from tests.kit.manifest import namespace
from tests.kit.questions import scaled
from tests.kit.random_firewall import DNS_NAMES, FirewallMaker
from tests.kit.random_policy import Manifest
from tests.kit.shapes import firewall, shaped_firewall
from tests.kit.walk import assert_same_rows

REF = ObjectRef("EgressFirewall", SHOP, "default")
LOGGED = namespace(SHOP, metadata={"annotations": {"k8s.ovn.org/acl-logging": '{"allow":"info","deny":"alert"}'}})
PLACES = ("203.0.113.9", "10.128.0.9", "192.0.2.11", "224.0.0.9", "2001:db8::9", "fd01::9", "8.8.8.8")


class _Recorded(MemoryNorthbound):
    """Keeps the operations of the transactions sent to it."""

    sent: tuple[Operation, ...] = ()

    async def transact(self, operations: Sequence[Operation], *, timeout_s: float = 30.0) -> Receipt:
        self.sent = (*self.sent, *operations)
        return await super().transact(operations, timeout_s=timeout_s)


class Enforced:
    """A cluster and the database that follows it. An edit is at most one commit, so what can be seen is what was before
    it and what is after it: the first was judged with the edit before, the second is judged now."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.database, self.commits = cluster, MemoryDatabase(), 0
        self.northbound = _Recorded(database=self.database)
        self.writer = Writer(cluster, self.northbound, adopt=False, allow_prune=True)

    @classmethod
    async def of(cls, cluster: Cluster) -> Self:
        made = cls(cluster)
        await made.northbound.connect(mirrored())
        await made.writer.flush()
        made.database.watch(made._committed)
        return made

    def _committed(self, changes: Changes) -> None:
        self.commits += 1

    def judge(self, corners: Iterable[Flow], note: str = "") -> Array:
        """What the database does with flows now, which must be what the list says."""
        flows = Flows.of(corners)
        found = DatabaseRows.of_database(self.database.tables).decide_many(SHOP, flows)
        wrong = np.flatnonzero(found != expected(self.cluster, flows))
        shown = [(*map(str, flows[at]), int(found[at])) for at in wrong[:3]]
        assert not len(wrong), f"{note}: {len(wrong)} flows are not as the list says: {shown}"
        return found

    async def follow(
        self,
        *,
        put: Sequence[Manifest] = (),
        items: Sequence[Item] = (),
        delete: Sequence[ObjectRef] = (),
        dns: Mapping[str, DnsDecision | None] | None = None,
    ) -> tuple[Operation, ...]:
        """One edit, one flush: the operations sent."""
        loaded = parse_objects(put)
        self.writer.note(self.cluster.apply((*loaded.items, *items), delete, loaded.refused).delta)
        self.writer.note(self.cluster.decide_dns(dns or {}).delta)
        self.commits, self.northbound.sent = 0, ()
        await self.writer.flush()
        assert self.commits == bool(self.northbound.sent), "an edit is one commit"
        return self.northbound.sent


def assert_fresh_start_agrees(cluster: Cluster, note: str) -> None:
    """A start on the same objects and decisions, in one go."""
    cluster.engine.verify()
    assert_same_rows(cluster, cluster.copy(), note)


# ------------------------------------------------------------------------------- a large list

MIX = {"hosts": 1_500, "nested": 350, "realistic": 150, "realistic6": 60, "ports": 30}
STEPS, EVERY, JUDGED = 2_000, 50, 5


class LargeWalk:
    """A list of 2,000 rules and more, and random edits of it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.maker = FirewallMaker(self.rng, lambda: (4, 6), lambda: self.rng.choice(PLACES))
        entries = [
            entry
            for shape, count in MIX.items()
            for entry in shaped_firewall(shape, count, seed, SHOP)["spec"]["egress"][:-1]
        ]
        entries += [self.maker.rule() for _ in range(60)]
        self.rng.shuffle(entries)
        self.pool = list(_read(entries))
        self.rules = self.pool[:-80]

    @property
    def item(self) -> Item:
        value = EgressFirewall(name="default", namespace=SHOP, rules=tuple(self.rules))
        return Item(ref=REF, value=value, source=SourceMap(file="walk"))

    def edit(self) -> list[FirewallRule]:
        """Insert, remove, move, flip, replace, or move a stretch; the rules that were touched."""
        rng, found = self.rng, self.rules
        at, to = rng.randrange(len(found)), rng.randrange(len(found))
        kind = rng.choice(("insert", "insert", "remove", "move", "flip", "replace", "stretch"))
        touched = [found[at]]
        if kind == "insert" or len(found) < 2_000:
            touched.append(rng.choice(self.pool))
            found.insert(at, touched[-1])
        elif kind == "stretch":
            touched = found[at : at + 30]
            del found[at : at + 30]
            found[to:to] = touched
        elif kind == "move":
            found.insert(to, found.pop(at))
        elif kind == "remove":
            del found[at]
        else:
            fresh = rng.choice(self.pool)
            if kind == "flip":
                fresh = FirewallRule(not touched[0].allow, touched[0].to, touched[0].ports)
            found[at] = fresh
            touched.append(fresh)
        return touched


def _read(entries: list[Manifest]) -> tuple[FirewallRule, ...]:
    (loaded,) = parse_objects([firewall(entries, SHOP)]).items
    assert isinstance(loaded.value, EgressFirewall)
    return loaded.value.rules


@pytest.mark.asyncio
async def test_2000_edits_of_a_large_list() -> None:
    warm()
    walk = LargeWalk(11)
    cluster = cluster_with(dns=walk.maker.answers())
    cluster.apply([walk.item])
    enforced = await Enforced.of(cluster)
    for step in range(scaled(STEPS)):
        touched = walk.edit()
        dns = {walk.rng.choice(DNS_NAMES[:-1]): walk.maker.answer()} if walk.rng.random() < 0.15 else None
        await enforced.follow(items=[walk.item], dns=dns)
        if step % JUDGED == 0:
            enforced.judge(corners(cluster, walk.rng, [*touched[:4], *walk.rng.sample(walk.rules, 4)]), f"step {step}")
        if step % EVERY == EVERY - 1:
            cluster.engine.verify()
            assert len(walk.rules) >= 2_000
    enforced.judge(corners(cluster, walk.rng), "end")
    assert_fresh_start_agrees(cluster, "end")


# ------------------------------------------------------------------------------- small lists, everything


def _change(rng: random.Random, maker: FirewallMaker, current: Manifest | None) -> dict[str, Any]:
    """One random change: to the list, to answers, to nodes, to logging; refused ones and removals among them."""
    chance = rng.random()
    if chance < 0.15:
        return {"dns": {rng.choice(DNS_NAMES[:-1]): maker.answer() if rng.random() < 0.9 else None}}
    if chance < 0.22:
        return {"put": [rng.choice((LOGGED, namespace(SHOP)))]}
    if chance < 0.28:
        relabelled = next(each for each in landscape(4, 6) if each["metadata"]["name"] == "n2")
        relabelled["metadata"]["labels"] = {"zone": rng.choice(("east", "west", "north"))}
        return {"put": [relabelled]}
    if chance < 0.34:
        return {"put": [rng.choice((rules("Allow 300.0.0.0/8"), rules("Allow *.example.com")))]}
    if chance < 0.39:
        return {"delete": [REF]}
    return {"put": [maker.firewall(SHOP) if current is None or chance < 0.5 else maker.edit(current)]}


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(scaled(8)))
async def test_every_commit_of_small_lists(seed: int) -> None:
    rng = random.Random(seed)
    maker = FirewallMaker(rng, lambda: (4, 6), lambda: rng.choice(PLACES))
    enforced = await Enforced.of(cluster_with(dns=maker.answers(), check=True))
    cluster, current = enforced.cluster, None
    for step in range(60):
        change = _change(rng, maker, current)
        if change.get("put") and change["put"][0]["kind"] == "EgressFirewall":
            current = current if parse_objects(change["put"]).refused else change["put"][0]
        await enforced.follow(**change)
        note = f"seed {seed}, step {step}"
        enforced.judge(every_corner(cluster), note)
        assert_fresh_start_agrees(cluster, note)


# ------------------------------------------------------------------------------- what an edit costs


def hosts(count: int) -> list[str]:
    return [f"Allow 203.{at >> 8}.{at & 255}.1/32" for at in range(count)]


@pytest.mark.asyncio
async def test_one_rule_of_7990_is_one_address() -> None:
    """One mutate of the address set, one of the record; nothing is inserted, updated or deleted."""
    warm()
    lines = [*hosts(7_990), "Deny 0.0.0.0/0"]
    enforced = await Enforced.of(cluster_with(rules(*lines)))
    for at, text in ((0, "198.51.100.1"), (4_000, "198.51.100.2"), (7_990, "198.51.100.3")):
        lines.insert(at, f"Allow {text}/32")
        assert _members(await enforced.follow(put=[rules(*lines)])) == ({text}, set())
        enforced.judge(_around(text))
    del lines[4_000]
    assert _members(await enforced.follow(put=[rules(*lines)])) == (set(), {"198.51.100.2"})
    enforced.judge(_around("198.51.100.2"))


def _members(sent: Sequence[Operation]) -> tuple[set[object], set[object]]:
    """Addresses added and taken away by one mutate; the other is of the record: its head, two parts at most."""
    assert all(isinstance(each, Mutate) and each.table == "Address_Set" for each in sent), sent
    record, members = sorted((each for each in sent if isinstance(each, Mutate)), key=lambda each: len(each.keys))[::-1]
    assert record.column == "external_ids" and len(record.keys) <= 3 and len(record.drop) <= 2, (
        "a part or two, the head"
    )
    assert members.column == "addresses" and not members.keys and not members.drop
    return set(members.insert), set(members.delete)


def _around(text: str) -> list[Flow]:
    blocks = _read([rule(f"Deny {text}"), rule("Deny 203.0.5.1"), rule("Deny 9.9.9.9")])
    return corners(cluster_with(), random.Random(text), blocks)


BROKEN = {
    "too many": rules(*["Allow 0.0.0.0/0"] * 8_001),
    "misspelt": {**rules("Allow 0.0.0.0/0"), "spec": {"egres": []}},
    "wildcard": rules("Allow *.example.com"),
    "null rule": firewall([None], SHOP),  # type: ignore[list-item]
}


@pytest.mark.asyncio
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_refused_edit_sends_nothing(broken: Manifest) -> None:
    enforced = await Enforced.of(cluster_with(rules(*hosts(300), "Deny 0.0.0.0/0")))
    assert await enforced.follow(put=[broken]) == ()
    assert REF in enforced.cluster.refused
    assert NONE not in enforced.judge([(parse_address("203.0.0.1"), "tcp", 1), (parse_address("9.9.9.9"), "tcp", 1)])


@pytest.mark.asyncio
async def test_blocking_and_unblocking_are_one_commit_each() -> None:
    enforced, flows = await Enforced.of(cluster_with()), _around("203.0.0.1")
    outside = [flow for flow in flows if flow[0].value >> 24 == 203]
    await enforced.follow(put=[BROKEN["too many"]])
    assert set(enforced.judge(outside, "blocked").tolist()) == {DROP}
    await enforced.follow(put=[rules(*hosts(50))])
    assert {NONE, ALLOW} <= set(enforced.judge(flows, "accepted").tolist())
    await enforced.follow(delete=[REF])
    assert set(enforced.judge(flows, "removed").tolist()) == {NONE}


@pytest.mark.asyncio
async def test_a_dns_answer_is_one_mutate_per_set() -> None:
    dns = {"www.example.com": answered("203.0.113.9")}
    enforced = await Enforced.of(cluster_with(rules("Allow www.example.com", "Deny 0.0.0.0/0"), dns=dns))
    fresh = {"www.example.com": answered("203.0.113.10", sticky=("203.0.113.9",), at_s=1_700_000_060.0)}
    sent = await enforced.follow(dns=fresh)
    members = [each for each in sent if isinstance(each, Mutate) and each.column == "addresses"]
    assert sorted((sorted(map(str, each.insert)), sorted(map(str, each.delete))) for each in members) == [
        (["203.0.113.10"], []),
        (["203.0.113.10"], ["203.0.113.9"]),
    ]
    assert len(sent) == 3, "the third is the record of the answers"
    enforced.judge(_around("203.0.113.10"))


@pytest.mark.asyncio
async def test_what_a_walk_leaves_in_the_database_is_what_is_wanted() -> None:
    """The large list again, a few edits: every row and member, not only what they decide."""
    walk = LargeWalk(12)
    cluster = cluster_with(dns=walk.maker.answers())
    cluster.apply([walk.item])
    enforced = await Enforced.of(cluster)
    for _ in range(10):
        walk.edit()
        await enforced.follow(items=[walk.item])
    desired, tables = Desired(cluster.engine, enforced.database.schema), enforced.database.tables
    wanted = {row_id.uuid: (row_id, desired.row(row_id) or {}) for row_id, _ in desired.rows()}
    for uuid, (row_id, row) in wanted.items():
        assert tables[row_id.table][uuid].items() >= row.items()
    assert {uuid for name in ("ACL", "Address_Set", "Port_Group") for uuid in tables[name]} <= wanted.keys()
