"""Entries and items as bytes, and back.

Two forms: a *checksum* for rows that a database keeps column by column, and a *packed* form (MessagePack, deflated;
zlib's own checksum guards it) for a store of plain keys. Everything read back is checked for type and space, so damage
is found here and nowhere later.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from ovnk_core.errors import StoreCorrupt
from ovnk_core.store.entry import Change, Entry, Space, Stored, StoreKey

FASTEST = 1
"""zlib's level: manifests shrink fivefold already here, at a tenth of the time of the best level."""

_PackedChange = tuple[Space, str, str, str, bytes | None]
_PackedEntry = tuple[int, int, str, str, tuple[_PackedChange, ...]]
_PackedStored = tuple[int, int, bytes]
_encode = msgspec.msgpack.Encoder().encode
_entries = msgspec.msgpack.Decoder(tuple[_PackedEntry, ...])
_stored = msgspec.msgpack.Decoder(_PackedStored)


def _plain(entry: Entry) -> _PackedEntry:
    changes = tuple((*key_columns(change.key), change.value) for change in entry.changes)
    return (entry.revision, entry.at_s, entry.author, entry.id, changes)


def key_columns(key: StoreKey) -> tuple[Space, str, str, str]:
    """The four parts of a key, in order."""
    return (key.space, key.kind, key.namespace, key.name)


def entry_checksum(entry: Entry) -> int:
    """CRC-32 of everything an entry says."""
    return zlib.crc32(_encode(_plain(entry)))


def stored_checksum(key: StoreKey, stored: Stored) -> int:
    """CRC-32 of an item and its key."""
    return zlib.crc32(_encode((key_columns(key), stored.created, stored.modified, stored.value)))


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Entries -> deflated MessagePack."""
    return zlib.compress(_encode(tuple(map(_plain, entries))), FASTEST)


def unpack_entries(data: bytes, where: str) -> tuple[Entry, ...]:
    """The reverse of ``pack_entries``. Raises StoreCorrupt, which names ``where``."""
    try:
        plain = _entries.decode(zlib.decompress(data))
    except (zlib.error, msgspec.DecodeError, MemoryError) as error:
        raise StoreCorrupt(f"{where}: cannot be read: {error}") from error
    return tuple(
        Entry(
            revision=revision,
            at_s=at_s,
            author=author,
            id=id_,
            changes=tuple(
                Change(key=StoreKey(space, kind, namespace, name), value=value)
                for space, kind, namespace, name, value in changes
            ),
        )
        for revision, at_s, author, id_, changes in plain
    )


def pack_stored(stored: Stored) -> bytes:
    """An item -> deflated MessagePack."""
    return zlib.compress(_encode((stored.created, stored.modified, stored.value)), FASTEST)


def unpack_stored(data: bytes, where: str) -> Stored:
    """The reverse of ``pack_stored``. Raises StoreCorrupt, which names ``where``."""
    try:
        created, modified, value = _stored.decode(zlib.decompress(data))
    except (zlib.error, msgspec.DecodeError, MemoryError) as error:
        raise StoreCorrupt(f"{where}: cannot be read: {error}") from error
    return Stored(value=value, created=created, modified=modified)
