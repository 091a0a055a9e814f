"""Which keys of etcd hold what, and how values larger than a request are cut.

Below the prefix:

* ``head``: the last revision. Every append rewrites it, under the condition that nobody else has.
* ``log/<last revision of the append>``: all entries of one append, so an append of any length is one key. Revisions
  are padded: key order is revision order.
* ``compacted``: the revision of the base. ``compacting``: where a compaction means to move it, claimed before it
  writes.
* ``base/<space>/<kind>/<namespace>/<name>``: one item of the base; each part quoted.
* ``writer``: who writes the northbound, on a lease; its create revision is the epoch.
* ``log-parts/...``, ``base-parts/...``: pieces of values that do not fit into one request.

A value is one byte of form and then the packed data, or the number of its parts and the place they are at. Parts are
put before the value that names them, so whoever sees the value finds them.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import msgspec

from ovnk_core.errors import StoreCorrupt
from ovnk_core.store.entry import SPACES, StoreKey

PART_BYTES = 1_000_000
"""Below etcd's default of 1.5 MiB for a request, with room for what surrounds it."""
WHOLE, PARTED = b"\x01", b"\x02"
DIGITS = 16


class Parts(msgspec.Struct, frozen=True, array_like=True):
    """Where the parts of a value are (below the prefix), and how many bytes they make."""

    place: str
    size: int


_parts = msgspec.msgpack.Decoder(Parts)


class Layout:
    """The keys below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.head, self.writer = self._key("head"), self._key("writer")
        self.compacted, self.compacting = self._key("compacted"), self._key("compacting")
        self.base, self.base_end = self._range("base/")
        self.base_parts, self.base_parts_end = self._range("base-parts/")
        self.log_end = self._range("log/")[1]

    def _key(self, name: str) -> bytes:
        return f"{self.prefix}/{name}".encode()

    def _range(self, name: str) -> tuple[bytes, bytes]:
        return self._key(name), range_end(self._key(name))

    def log(self, last: int) -> bytes:
        """The append whose last revision is ``last``; as the start of a range: those that hold ``last`` or more."""
        return self._key(f"log/{last:0{DIGITS}}")

    def log_parts(self, last: int) -> bytes:
        """Start of the parts of appends whose last revision is ``last`` or more."""
        return self._key(f"log-parts/{last:0{DIGITS}}")

    def item(self, key: StoreKey) -> bytes:
        """An item of the base."""
        return self._key(f"base/{_quoted(key)}")

    def store_key(self, item: bytes) -> StoreKey:
        """The reverse of ``item``. Raises StoreCorrupt."""
        parts = [unquote(part) for part in item[len(self.base) :].decode(errors="replace").split("/")]
        if len(parts) != 4 or parts[0] not in SPACES:
            raise StoreCorrupt(f"{item.decode(errors='replace')}: not the key of an item")
        return StoreKey(parts[0], *parts[1:])

    def item_parts(self, key: StoreKey, modified: int) -> str:
        """Place of an item's parts."""
        return f"base-parts/{_quoted(key)}/{modified:0{DIGITS}}/"

    def append_parts(self, last: int, entry_id: str) -> str:
        """Place of an append's parts."""
        return f"log-parts/{last:0{DIGITS}}/{quote(entry_id, safe='')}/"

    def part(self, place: str, index: int) -> bytes:
        """One part."""
        return self._key(f"{place}{index:06}")

    def part_range(self, place: str) -> tuple[bytes, bytes]:
        """All parts at a place."""
        return self._range(place)


def _quoted(key: StoreKey) -> str:
    return "/".join(quote(part, safe="") for part in (key.space, key.kind, key.namespace, key.name))


def range_end(prefix: bytes) -> bytes:
    """The first key after all that begin with ``prefix``, which ends in a character of ASCII."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def cut(data: bytes, place: str) -> tuple[bytes, list[bytes]]:
    """Packed data -> the value to store, and the parts to put at ``place`` before it (none when it fits)."""
    if len(data) <= PART_BYTES:
        return WHOLE + data, []
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    return PARTED + msgspec.msgpack.encode(Parts(place=place, size=len(data))), parts


def parts_of(value: bytes, where: str) -> Parts | None:
    """Where the rest of ``value`` is; None when it is whole. Raises StoreCorrupt."""
    if value[:1] == WHOLE:
        return None
    try:
        if value[:1] != PARTED:
            raise StoreCorrupt(f"{where}: unknown form {value[:1]!r}")
        return _parts.decode(value[1:])
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"{where}: cannot be read: {error}") from error


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The value of ``head``, ``compacted`` and ``compacting``: JSON, for people who look."""

    revision: int
    format: int = 1


_marks = msgspec.json.Decoder(Mark)


def mark(revision: int) -> bytes:
    """A revision -> the value that says it."""
    return msgspec.json.encode(Mark(revision=revision))


def revision_of(value: bytes, where: str) -> int:
    """The reverse of ``mark``; an empty value (the key does not exist) is 0. Raises StoreCorrupt."""
    if not value:
        return 0
    try:
        found = _marks.decode(value)
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"{where}: cannot be read: {error}") from error
    if found.format != Mark(revision=0).format or found.revision < 0:
        raise StoreCorrupt(f"{where}: format {found.format}, revision {found.revision}; this version reads format 1")
    return found.revision
