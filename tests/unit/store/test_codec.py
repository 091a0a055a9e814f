"""Packed entries come back as they were, or not at all; values larger than a request are cut and put together."""

from __future__ import annotations

import random
import zlib

import msgspec
import pytest

from ovnk_core.errors import StoreCorrupt
from ovnk_core.store.codec import entry_checksum, pack_entries, pack_stored, unpack_entries, unpack_stored
from ovnk_core.store.entry import Entry, Stored
from ovnk_core.store.etcd_layout import PART_BYTES, Layout, cut, mark, parts_of, range_end, revision_of
from tests.kit.store import drop, entry, key, put, random_entry


def test_entries_round_trip() -> None:
    chance = random.Random(1)
    made = (*(random_entry(chance, revision) for revision in range(1, 50)), Entry(revision=50, changes=()))
    assert unpack_entries(pack_entries(made), "here") == made


def test_an_item_round_trips() -> None:
    stored = Stored(value=b"\x00" * 5000, created=3, modified=9)
    assert unpack_stored(pack_stored(stored), "here") == stored


def test_a_changed_bit_is_found() -> None:
    packed, chance = pack_entries([entry(1, put("a", "{}"), drop("b"))]), random.Random(2)
    for at in range(len(packed)):
        broken = packed[:at] + bytes([packed[at] ^ (1 << chance.randrange(8))]) + packed[at + 1 :]
        try:
            assert unpack_entries(broken, "here") == unpack_entries(packed, "here")
        except StoreCorrupt as error:
            assert str(error).startswith("here: cannot be read")


@pytest.mark.parametrize("content", [None, [], [[1, 2]], [[1, 0, "", "", [["nowhere", "k", "", "n", b""]]]], "text"])
def test_what_is_no_entry_is_refused(content: object) -> None:
    data = zlib.compress(msgspec.msgpack.encode(content))
    if content == []:
        assert unpack_entries(data, "here") == ()
        return
    with pytest.raises(StoreCorrupt, match="here"):
        unpack_entries(data, "here")
    with pytest.raises(StoreCorrupt, match="here"):
        unpack_stored(data, "here")


@pytest.mark.parametrize("other", [entry(2), entry(1, drop("p")), entry(1, id="x"), entry(1, put("q", '"1"'))])
def test_the_checksum_is_of_everything(other: Entry) -> None:
    assert entry_checksum(other) != entry_checksum(entry(1))


@pytest.mark.parametrize(("size", "count"), [(0, 0), (PART_BYTES, 0), (PART_BYTES + 1, 2), (3 * PART_BYTES, 3)])
def test_large_values_are_cut(size: int, count: int) -> None:
    data = random.Random(3).randbytes(size)
    value, parts = cut(data, "place/")
    found = parts_of(value, "here")
    assert len(parts) == count
    if found is None:
        assert value[1:] == data
    else:
        assert (b"".join(parts), found.place, found.size) == (data, "place/", size)


def test_keys_sort_by_revision_and_never_meet() -> None:
    layout = Layout("/p")
    assert sorted([layout.log(1000), layout.log(9), layout.log(10)]) == [layout.log(n) for n in (9, 10, 1000)]
    assert layout.log_parts(0) < layout.log_parts(10**15) < layout.log(0) < layout.log(10**15) < layout.log_end
    first, last = layout.part_range("log-parts/7/")
    assert first <= layout.part("log-parts/7/", 0) < layout.part("log-parts/7/", 999_999) < last
    assert layout.base <= layout.item(key("n")) < layout.base_end
    assert range_end(b"a/") == b"a0"
    assert layout.store_key(layout.item(key("a/b%", namespace=""))) == key("a/b%", namespace="")


def test_marks() -> None:
    assert revision_of(mark(7), "here") == 7
    assert revision_of(b"", "here") == 0
    for value in (b"x", b'{"revision":1,"format":2}', b'{"revision":-1}', b'{"revision":"1"}'):
        with pytest.raises(StoreCorrupt, match="here"):
            revision_of(value, "here")
