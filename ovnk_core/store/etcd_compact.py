"""Moving the base of a log in etcd: many transactions, one visible step.

1. *Claim*: ``compacting`` says where to. Every later step holds only while the claim is ours, so two servers that
   compact at once cannot undo each other's writes: the later claim wins, and never goes back.
2. *Base*: items are written in batches. What a reader makes of a base that is half written, ``etcd_read`` says.
3. *Move*: one transaction sets ``compacted`` and drops the log, and the parts, up to it. Parts that were put for an
   append that never came about go along: they are named after its revision, which somebody else has by then.

Cut short anywhere, the log reads the same; the next compaction starts over.

On a log that never had an entry the same steps write a base to begin with (an import); it comes about with step 3,
which then makes the head too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ovnk_core.errors import StoreUnavailable, StoreUnknown, Superseded
from ovnk_core.failpoint import failpoint
from ovnk_core.store.codec import pack_stored
from ovnk_core.store.entry import Stored, StoreKey
from ovnk_core.store.etcd_layout import Layout, cut, mark, revision_of
from ovnk_core.store.etcd_link import EtcdLink, Outcome, delete, get, modified_is, put
from ovnk_core.store.etcd_read import Pending

BATCH_OPERATIONS = 100
"""etcd takes 128 in a transaction."""
BATCH_BYTES = 1_000_000
ATTEMPTS = 10

Items = dict[StoreKey, Stored | None]


class EtcdCompaction:
    """One move of the base to ``revision``."""

    def __init__(self, link: EtcdLink, layout: Layout, address: str, revision: int) -> None:
        self._link, self._layout, self._address, self._revision = link, layout, address, revision
        self._claim = self._head = 0
        """etcd's revisions of our claim, and of the head when we claimed."""
        self._done = 0
        """The base's revision when we claimed."""
        self._is_import = False

    async def run(self, items: Items, pending: Pending) -> None:
        """Write ``items`` and move. Nothing when the base is there already, or another server is on its way further.

        Raises Superseded when another server claimed meanwhile, or as ``EtcdLink.transact`` does.
        """
        if not await self._claimed():
            return
        if self._done < pending.target:
            items = {**pending.items, **items}
        failpoint("store.compact.before_base")
        for batch in self._batches(items):
            await self._write(batch)
        await self._drop_parts(items)
        failpoint("store.compact.after_base")
        await self._move()

    async def _claimed(self) -> bool:
        layout = self._layout
        look = [get(layout.compacted), get(layout.compacting), get(layout.head)]
        for _ in range(ATTEMPTS):
            compacted, compacting, head = (await self._link.transact([], look, is_repeatable=True)).found
            self._done = revision_of(compacted.value, f"{self._address}: compacted")
            target = revision_of(compacting.value, f"{self._address}: compacting")
            self._is_import = not revision_of(head.value, f"{self._address}: head")
            self._head = head.modified
            if not self._is_import and max(self._done + 1, target) > self._revision:
                return False
            conditions = [modified_is(layout.compacting, compacting.modified)]
            sweep: list[Any] = []
            if self._is_import:
                self._done = 0
                conditions.append(modified_is(layout.head, self._head))
                sweep = sweep_operations(layout)
            try:
                made = await self._link.transact(
                    conditions, [*sweep, put(layout.compacting, mark(self._revision))], is_repeatable=False
                )
            except StoreUnknown:
                continue
            if made.is_done:
                self._claim = made.revision
                return True
        raise StoreUnavailable(f"{self._address}: the compaction could not be claimed")

    def _batches(self, items: Items) -> Iterator[list[Any]]:
        """Operations, as many as go into one transaction each; parts come before the value that names them."""
        batch: list[Any] = []
        size = 0
        for key, item in items.items():
            for operation, weight in self._operations(key, item):
                if batch and (len(batch) == BATCH_OPERATIONS or size + weight > BATCH_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append(operation)
                size += weight
        if batch:
            yield batch

    def _operations(self, key: StoreKey, item: Stored | None) -> Iterator[tuple[Any, int]]:
        name = self._layout.item(key)
        if item is None:
            yield delete(name), len(name)
            return
        place = self._layout.item_parts(key, item.modified)
        value, parts = cut(pack_stored(item), place)
        for index, part in enumerate(parts):
            yield put(self._layout.part(place, index), part), len(part)
        yield put(name, value), len(name) + len(value)

    async def _write(self, operations: list[Any]) -> Outcome:
        """One transaction under the claim; carried out twice it does the same."""
        claim = modified_is(self._layout.compacting, self._claim)
        outcome = await self._link.transact([claim], operations, is_repeatable=True)
        if not outcome.is_done:
            raise Superseded(f"{self._address}: another server compacts")
        return outcome

    async def _drop_parts(self, items: Items) -> None:
        """Parts of items that we just replaced. Items that did not change left none behind."""
        kept = {
            self._layout.part(self._layout.item_parts(key, item.modified), 0)[:-6]
            for key, item in items.items()
            if item
        }
        changed = {self._layout.item(key)[len(self._layout.base) :] for key in items}
        places: set[bytes] = set()
        first, end = self._layout.base_parts, self._layout.base_parts_end
        while True:
            page = await self._link.page(first, end, limit=1000, is_keys_only=True)
            for record in page.records:
                place = record.key[:-6]
                if place not in kept and place[len(self._layout.base_parts) :].rsplit(b"/", 2)[0] in changed:
                    places.add(place)
            if not page.has_more:
                break
            first = page.records[-1].key + b"\x00"
        for place in sorted(places):
            await self._write([delete(place, range_end=place[:-1] + b"0")])

    async def _move(self) -> None:
        layout, revision = self._layout, self._revision
        operations = [
            put(layout.compacted, mark(revision)),
            delete(layout.log(0), range_end=layout.log(revision + 1)),
            delete(layout.log_parts(0), range_end=layout.log_parts(revision + 1)),
        ]
        if self._is_import:
            await self._begin([*operations, put(layout.head, mark(revision))])
        else:
            await self._write(operations)

    async def _begin(self, operations: list[Any]) -> None:
        """The last step of an import: holds only while nobody has appended, so a second try may find the first."""
        layout = self._layout
        conditions = [modified_is(layout.compacting, self._claim), modified_is(layout.head, self._head)]
        look = [get(layout.compacted), get(layout.compacting)]
        outcome = await self._link.transact(conditions, operations, look, is_repeatable=True)
        if not outcome.is_done:
            compacted, compacting = outcome.found
            if compacting.modified != self._claim or compacted.value != mark(self._revision):
                raise Superseded(f"{self._address}: another server was faster")


def sweep_operations(layout: Layout) -> list[Any]:
    """Remove what an import that was cut short left; for a log that has no entry only."""
    return [
        delete(layout.base, range_end=layout.base_end),
        delete(layout.base_parts, range_end=layout.base_parts_end),
        delete(layout.compacted),
    ]
